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

    /// Pictures with a whole header that cannot be decoded: the check of headers does not know of them.
    private func writeDamaged(_ names: [String]) throws {
        let whole = Array(try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("pictures/transparent/rgba8.png"))))
        for name in names { folder.write(whole.prefix(whole.count / 2), name) }
    }

    /// A run that has a checkpoint goes on with the same list of images only: nobody is told to remove some. What the
    /// sentence names works.
    func testTooManyInARun() throws {
        let images = folder.file("images"), output = folder.file("run of \"it's\"")
        try FileManager.default.copyItem(atPath: TinyRun.data, toPath: images)
        try writeDamaged(["images/x.png", "images/y.png"])
        let result = Command.run(TinyRun.pretrain(output, epochs: 2, data: TinyRun.data, ["--val", images]))
        let resume = "dmae resume 'run of \"it'\\''s\"'".replacingOccurrences(of: "'run", with: "'\(folder.path)/run")
        assertRefused(
            result, 65,
            [
                "2 of the 11 images in \(images) cannot be read",
                "under the same names, and `\(resume)` goes on; so does "
                    + "`\(resume) --unreadable-limit 0.4` with the images as they are; remove none",
            ])
        XCTAssertFalse(result.errors.contains("or remove them"), result.errors)
        XCTAssertTrue(
            String(decoding: folder.read("run of \"it's\"/status.json"), as: UTF8.self).contains("remove none"))
        assertRuns(["resume", output, "--unreadable-limit", "0.4", "--quiet"])
        // Without a checkpoint another start may have other images.
        let first = Command.run(
            TinyRun.pretrain(folder.file("other"), epochs: 20, data: images, ["--checkpoint-every", "99"]))
        assertRefused(first, 65, ["repair or remove them, or raise --unreadable-limit, for example to 0.4"])
    }

    /// A plan decodes some images, and says what it met; `dmae inspect` says that a run would stop.
    func testDamagedImagesOfAPlan() throws {
        let images = folder.file("images")
        try FileManager.default.copyItem(atPath: TinyRun.data, toPath: images)
        try writeDamaged(["images/x.png", "images/y.png"])
        let plan = assertRuns(TinyRun.pretrain("", epochs: 100, data: images, ["--dry-run"]))
        XCTAssertTrue(plan.errors.contains("warning: \(images)/x.png"), plan.errors)
        XCTAssertTrue(
            plan.errors.contains(
                "warning: 2 of the 11 images that were decoded for the timing cannot be read: a run would stop, as more than "
                    + "the fraction 0.01 that it allows (--unreadable-limit); `dmae inspect \(images)` decodes all images"
            ),
            plan.errors)
        let census = assertRuns(["inspect", images]).output
        XCTAssertTrue(
            census.contains("unreadable   2, more than the 0.01 of all that a run allows (--unreadable-limit)\n"),
            census)
        try FileManager.default.removeItem(atPath: images + "/x.png")
        let allowed = assertRuns(["inspect", images]).output
        XCTAssertTrue(allowed.contains("unreadable   1\n"), allowed)
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
