import Foundation
import TestSupport
import XCTest

/// Images that cannot be decoded are known before the first step.
final class ImageCheckCommandTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// The nine pictures of `TinyRun` and one that is none.
    private func makeImages() throws -> String {
        try FileManager.default.copyItem(atPath: TinyRun.data, toPath: folder.file("images"))
        folder.write("<!DOCTYPE html><html>".utf8, "images/broken.png")
        return folder.file("images")
    }

    func testTooManyEndTheRunBeforeItsFirstStep() throws {
        let images = try makeImages(), output = folder.file("run")
        let refused = Command.run(TinyRun.pretrain(output, epochs: 2, data: images))
        assertRefused(
            refused, 65, ["1 of the 10 images in \(images) cannot be decoded, more than the allowed fraction"])
        XCTAssertTrue(refused.errors.contains("warning: \(images)/broken.png is a page of HTML"), refused.errors)
        XCTAssertFalse(FileManager.default.fileExists(atPath: output))
        // The remedy of the sentence.
        let allowed = assertRuns(
            TinyRun.pretrain(output, epochs: 2, data: images, ["--unreadable-limit", "0.1"]))
        XCTAssertTrue(allowed.errors.contains("checked in \(images): JPEG 9"), allowed.errors)
        XCTAssertTrue(FileManager.default.fileExists(atPath: output + "/images.json"))
    }

    /// With --no-check the image is met when it is decoded.
    func testWithoutTheCheck() throws {
        let images = try makeImages(), output = folder.file("run")
        let run = assertRuns(
            TinyRun.pretrain(output, epochs: 2, data: images, ["--unreadable-limit", "0.1", "--no-check"]))
        XCTAssertTrue(run.errors.contains("the next image takes its place"), run.errors)
        XCTAssertFalse(run.errors.contains("checked"), run.errors)
        XCTAssertFalse(FileManager.default.fileExists(atPath: output + "/images.json"))
    }
}
