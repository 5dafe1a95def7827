import Foundation
import Images
import TestSupport
import XCTest

/// How commands read image files: orientation, transparency, 16-bit grey.
final class PictureOptionsTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let weights = Fixtures.path("weights/mae/mae.safetensors")
    private let pictures = Fixtures.path("pictures")

    /// The features of a picture, and what was said about it.
    private func features(_ path: String, _ more: [String] = []) throws -> (values: [UInt8], errors: String) {
        let output = folder.file("x.npy")
        let result = assertRuns(
            ["embed", "--weights", weights, "--heads", "4", "--data", path, "--output", output, "--quiet", "--force"]
                + more)
        return (folder.read("x.npy"), result.errors)
    }

    /// Writes the picture at `path`, read as `reading`, to a file without anything to decide.
    private func plain(_ path: String, _ reading: PictureReading) throws -> String {
        folder.write(try PNGWriter.encode(Pixels(contentsOf: path, as: reading)), "plain.png")
    }

    func testOrientation() throws {
        for name in ["xmp-6.jpg", "exif-joined.jpg", "profile-compressed.png"] {
            let path = "\(pictures)/oriented/\(name)"
            let turned = try features(path)
            XCTAssertEqual(turned.errors, "")
            XCTAssertEqual(turned.values, try features(plain(path, PictureReading())).values, name)
            let stored = try features(path, ["--stored-orientation"])
            XCTAssertEqual(stored.values, try features(plain(path, .torchvision)).values, name)
            XCTAssertNotEqual(stored.values, turned.values, name)
        }
    }

    func testBackground() throws {
        let path = "\(pictures)/transparent/rgba8.png"
        var all: Set<[UInt8]> = []
        for name in ["white", "black", "#336699", "none"] {
            let more = name == "white" ? [] : ["--background", name]
            let found = try features(path, more)
            let reading = PictureReading(background: try XCTUnwrap(Background(name)))
            XCTAssertEqual(found.values, try features(plain(path, reading)).values, name)
            XCTAssertEqual(
                found.errors,
                name == "none"
                    ? ""
                    : "warning: 1 of 1 image has transparent pixels, which are composited over \(name): --background "
                        + "sets the colour\n")
            all.insert(found.values)
        }
        XCTAssertEqual(all.count, 4)
        assertRefused(
            ["embed", "--weights", weights, "--data", path, "--output", folder.file("y.npy"), "--background", "red"],
            64, "'red' is invalid for '--background <colour>'")
    }

    func testGreyOf16Bits() throws {
        let path = "\(pictures)/grey16/bright.png"
        let clipped = try features(path), scaled = try features(path, ["--grey16", "scale"])
        XCTAssertTrue(clipped.errors.hasPrefix("warning: \(path) is 16-bit grey, and 99."), clipped.errors)
        XCTAssertTrue(clipped.errors.hasSuffix("makes them white: --grey16 scale keeps their differences\n"))
        XCTAssertEqual(scaled.errors, "")
        XCTAssertEqual(scaled.values, try features(plain(path, PictureReading(grey16: .scale))).values)
        XCTAssertNotEqual(scaled.values, clipped.values)
    }

    /// Images with a wrong checksum are read, and the first ones named.
    func testWrongChecksums() throws {
        let good = try Data(contentsOf: URL(fileURLWithPath: "\(pictures)/checksums/rgb-IDAT0.png"))
        try FileManager.default.createDirectory(atPath: folder.file("many"), withIntermediateDirectories: true)
        for i in 0..<5 { folder.write(good, "many/\(i).png") }
        let result = try features(folder.file("many"))
        let lines = result.errors.split(separator: "\n")
        XCTAssertEqual(lines.count, 4, result.errors)
        XCTAssertEqual(
            lines.first,
            "warning: \(folder.file("many"))/0.png is damaged: its pixels have a wrong checksum; they are used as they are, as Pillow does"
        )
        XCTAssertEqual(
            lines.last,
            "warning: 5 of 5 images are damaged: their pixels have a wrong checksum, and are used as they are")
    }

    /// Every command that reads images has the three options, and says so of the former one.
    func testEveryCommand() {
        var found: [String] = []
        for command in Command.subcommands() {
            let help = Command.run([command, "--help"]).output
            guard help.contains("--stored-orientation") else { continue }
            found.append(command)
            XCTAssertTrue(help.contains("--background <colour>") && help.contains("--grey16 <clip|scale>"), command)
            XCTAssertFalse(help.contains("--apply-orientation"), command)
        }
        XCTAssertEqual(
            found.sorted(),
            [
                "distill", "embed", "evaluate", "finetune", "inspect", "knn", "predict", "pretrain", "preview", "probe",
                "reconstruct",
            ])
        for arguments in [
            ["embed", "--weights", weights, "--data", "x", "--output", "x.npy"],
            TinyRun.pretrain(folder.file("run")), ["preview", "--data", "x", "--recipe", "demo", "--output", "x.png"],
            ["reconstruct", "--weights", weights, "--input", "x", "--output", "x.png"],
            ["predict", "--weights", weights, "x"],
        ] {
            assertRefused(
                arguments + ["--apply-orientation"], 64,
                "'--apply-orientation': images are turned upright unless --stored-orientation is given: leave it out")
        }
    }

    func testReconstructedPicturesAreUpright() throws {
        let path = "\(pictures)/oriented/xmp-6.jpg", upright = try plain(path, PictureReading())
        func grid(_ picture: String, _ more: [String] = []) throws -> [UInt8] {
            // Its name is drawn, too.
            let place = folder.file("picture")
            try? FileManager.default.removeItem(atPath: place)
            try FileManager.default.copyItem(atPath: picture, toPath: place)
            assertRuns(
                ["reconstruct", "--weights", weights, "--heads", "4", "--decoder-heads", "4", "--input", place]
                    + ["--output", folder.file("grid.png")] + more)
            return folder.read("grid.png")
        }
        XCTAssertEqual(try grid(path), try grid(upright))
        XCTAssertNotEqual(try grid(path, ["--stored-orientation"]), try grid(upright))
    }

    /// A resumed run reads its images as it did before, whatever the flags that are left out.
    func testAResumedRunReadsAsBefore() throws {
        let data = folder.file("images"), run = folder.file("run")
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: true)
        for (index, name) in ["rgba8", "rgba16", "palette8", "grey-alpha8"].enumerated() {
            let file = "\(pictures)/transparent/\(name).png"
            try FileManager.default.copyItem(atPath: file, toPath: "\(data)/\(index).png")
            try FileManager.default.copyItem(
                atPath: "\(pictures)/oriented/xmp-\(index == 0 ? 6 : 8).jpg", toPath: "\(data)/\(index).jpg")
        }
        let reading = ["--stored-orientation", "--background", "#102030"]
        let first = assertRuns(TinyRun.pretrain(run, epochs: 4, data: data, reading + ["--checkpoint-every", "1"]))
        XCTAssertTrue(
            first.errors.contains(
                "checked in \(data): JPEG 4, PNG 4; 4 of them have an alpha channel: transparent pixels are composited over "
                    + "#102030 (--background)"), first.errors)
        let whole = try TinyRun.bytes(run + "/model.safetensors")
        let checkpoints = try TinyRun.checkpoints(run)
        XCTAssertGreaterThan(checkpoints.count, 1)
        try FileManager.default.removeItem(atPath: run + "/model.safetensors")
        let earlier = run + "/" + checkpoints[0]
        assertRuns(TinyRun.pretrain(run, epochs: 4, data: data, ["--checkpoint-every", "1", "--resume", earlier]))
        XCTAssertEqual(try TinyRun.bytes(run + "/model.safetensors"), whole)
        try FileManager.default.removeItem(atPath: run + "/model.safetensors")
        assertRuns(TinyRun.pretrain(run, epochs: 4, data: data, ["--checkpoint-every", "1", "--resume", "auto"]))
        XCTAssertEqual(try TinyRun.bytes(run + "/model.safetensors"), whole)
        assertRefused(
            TinyRun.pretrain(run, epochs: 4, data: data, ["--resume", "auto", "--quiet", "--background", "white"]), 64,
            "was taken with --background #102030, not --background white")
        // So do commands that use its weights; the ones of `features` do not say how they were trained.
        let picture = "\(data)/0.png"
        func embed(_ more: [String]) -> (values: [UInt8], errors: String) {
            let result = assertRuns(
                [
                    "embed", "--weights", run + "/model.safetensors", "--data", picture, "--output",
                    folder.file("y.npy"), "--force",
                ]
                    + more)
            return (folder.read("y.npy"), result.errors)
        }
        let trained = "--stored-orientation --background #102030 --grey16 clip", own = embed([])
        XCTAssertTrue(
            own.errors.contains("pictures are read as in the training of the weights, with \(trained)\n"), own.errors)
        XCTAssertEqual(embed(["--quiet"] + reading).values, own.values)
        let white = embed(["--background", "white", "--quiet"])
        XCTAssertNotEqual(white.values, own.values)
        XCTAssertTrue(
            white.errors.contains(
                "warning: \(run)/model.safetensors was trained on pictures read with \(trained), not "
                    + "--stored-orientation --background white --grey16 clip\n"), white.errors)
        // Another background is another run.
        let other = folder.file("other")
        assertRuns(TinyRun.pretrain(other, epochs: 4, data: data, ["--checkpoint-every", "1", "--stored-orientation"]))
        func tensors(_ run: String) throws -> [UInt8] {
            let bytes = [UInt8](try TinyRun.bytes(run + "/model.safetensors"))
            return Array(bytes[(8 + Int(bytes[0]) + (Int(bytes[1]) << 8))...])
        }
        XCTAssertEqual(try tensors(run).count, try tensors(other).count)
        XCTAssertNotEqual(try tensors(run), try tensors(other))
    }
}
