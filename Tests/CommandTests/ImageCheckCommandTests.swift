import Foundation
import TestSupport
import XCTest

/// Images that cannot be decoded are known before the first step.
final class ImageCheckCommandTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// The nine pictures of `TinyRun` and two that are none.
    private func makeImages() throws -> String {
        try FileManager.default.copyItem(atPath: TinyRun.data, toPath: folder.file("images"))
        for name in ["broken", "empty"] { folder.write("<!DOCTYPE html><html>".utf8, "images/\(name).png") }
        return folder.file("images")
    }

    func testTooManyEndTheRunBeforeItsFirstStep() throws {
        let images = try makeImages(), output = folder.file("run")
        let refused = Command.run(TinyRun.pretrain(output, epochs: 2, data: images))
        assertRefused(
            refused, 65, ["2 of the 11 images in \(images) cannot be decoded, more than the allowed fraction"])
        XCTAssertTrue(refused.errors.contains("warning: \(images)/broken.png is a page of HTML"), refused.errors)
        XCTAssertFalse(FileManager.default.fileExists(atPath: output))
        // The remedy of the sentence.
        let allowed = assertRuns(
            TinyRun.pretrain(output, epochs: 2, data: images, ["--unreadable-limit", "0.2"]))
        XCTAssertTrue(allowed.errors.contains("checked in \(images): JPEG 9"), allowed.errors)
        XCTAssertTrue(FileManager.default.fileExists(atPath: output + "/images.json"))
    }

    /// A single broken picture among few is named and left out, whatever its fraction; what the headers say of the others
    /// is said once, of the whole folder.
    func testOneIsAllowed() throws {
        let images = try makeImages(), output = folder.file("run")
        try FileManager.default.removeItem(atPath: images + "/empty.png")
        for name in ["rgba8", "palette8"] {
            try FileManager.default.copyItem(
                atPath: Fixtures.path("pictures/transparent/\(name).png"), toPath: "\(images)/\(name).png")
        }
        let run = assertRuns(TinyRun.pretrain(output, epochs: 2, data: images))
        XCTAssertTrue(run.errors.contains("warning: \(images)/broken.png is a page of HTML"), run.errors)
        XCTAssertTrue(
            run.errors.contains(
                "checked in \(images): JPEG 9, PNG 2; 2 of them have an alpha channel: transparent pixels are composited over "
                    + "white (--background)\n"), run.errors)
        XCTAssertEqual(run.errors.components(separatedBy: "composited").count, 2, run.errors)
        // Without the check only the images that a run meets are known.
        let unchecked = assertRuns(TinyRun.pretrain(folder.file("other"), epochs: 2, data: images, ["--no-check"]))
        XCTAssertTrue(unchecked.errors.contains("have transparent pixels, which are composited"), unchecked.errors)
        assertRefused(
            TinyRun.pretrain(folder.file("none"), epochs: 2, data: images, ["--unreadable-limit", "0"]), 65,
            "1 of the 12 images")
    }

    /// With --no-check the image is met when it is decoded.
    func testWithoutTheCheck() throws {
        let images = try makeImages(), output = folder.file("run")
        let run = assertRuns(
            TinyRun.pretrain(output, epochs: 2, data: images, ["--unreadable-limit", "0.2", "--no-check"]))
        XCTAssertTrue(run.errors.contains("the next image takes its place"), run.errors)
        XCTAssertFalse(run.errors.contains("checked"), run.errors)
        XCTAssertFalse(FileManager.default.fileExists(atPath: output + "/images.json"))
    }
}
