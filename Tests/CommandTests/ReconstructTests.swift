import Reporting
import Foundation
import Images
import Tensors
import TestSupport
import Weights
import XCTest

/// `dmae reconstruct`.
final class ReconstructTests: XCTestCase {
    private static let folder = TemporaryFolder()
    private var folder: TemporaryFolder { Self.folder }
    /// Weights of a pre-training on raw pixels, and of one on normalised pixels.
    private static let raw = weights("raw", "--no-normalize-pixels"),
        normalised = weights("normalised", "--normalize-pixels")
    private let pictures = ["food-lemon.jpg", "tools-bucket-michael-moore.png"].map {
        Fixtures.path("demo/held-out/" + $0)
    }
    private let side = 32, patch = 8

    private static func weights(_ name: String, _ flag: String) -> String {
        assertRuns(TinyRun.pretrain(folder.file(name), epochs: 40, ["--quiet", flag]))
        return folder.file(name) + "/model.safetensors"
    }

    /// The grid's tiles: [picture][original, masked, reconstruction]. Small pictures are shown six times as large, pixel
    /// for pixel. Below the titles, each row has a caption of 14 pixels.
    private func tiles(_ path: String, rows: Int, columns: Int = 1) throws -> [[Pixels]] {
        let grid = try Pixels(contentsOf: path)
        let shown = 6 * side, cell = (width: 3 * shown + 4, height: shown + 4 + 14)
        let size = [16 + columns * cell.width + (columns - 1) * 16, 26 + rows * cell.height + (rows - 1) * 10 + 8]
        guard [grid.width, grid.height] == size else {
            throw Failure(.failure, "\(path) is \(grid.width)×\(grid.height), not \(size)")
        }
        return (0..<rows * columns).map { number in
            let (row, column) = number.quotientAndRemainder(dividingBy: columns)
            return (0..<3).map { place in
                let tile = grid.cropped(
                    to: Rectangle(
                        left: 8 + column * (cell.width + 16) + place * (shown + 2),
                        top: 26 + row * (cell.height + 10), width: shown, height: shown))
                let bytes = (0..<side * side).flatMap { pixel -> ArraySlice<UInt8> in
                    let place = 3 * (pixel / side * 6 * shown + pixel % side * 6)
                    return tile.bytes[place..<place + 3]
                }
                let picture = Pixels(width: side, height: side, channels: 3, bytes: bytes)
                XCTAssertTrue(picture.enlarged(by: 6) == tile, "pixels of one colour each")
                return picture
            }
        }
    }

    private func patchBytes(_ picture: Pixels, _ number: Int) -> [UInt8] {
        let (row, column) = number.quotientAndRemainder(dividingBy: side / patch)
        return picture.cropped(to: Rectangle(left: column * patch, top: row * patch, width: patch, height: patch)).bytes
    }

    /// Which patches are grey in the masked picture; all others are the original's, in the reconstruction too.
    private func removed(_ row: [Pixels]) -> [Bool] {
        (0..<16).map { number in
            let grey = Set(patchBytes(row[1], number)).isSubset(of: [127, 128])
            if !grey {
                XCTAssertTrue(
                    patchBytes(row[1], number) == patchBytes(row[0], number), "patch \(number) of the masked picture")
                XCTAssertTrue(
                    patchBytes(row[2], number) == patchBytes(row[0], number), "patch \(number) of the reconstruction")
            }
            return grey
        }
    }

    /// One object on one line, with the numbers of the table.
    func testJSON() throws {
        func run(_ more: [String]) -> String {
            assertRuns(
                ["reconstruct", "--weights", Self.raw, "--output", folder.file("json.png"), "--input"] + pictures + more
            ).output
        }
        let output = run(["--json"]), text = run([])
        XCTAssertEqual(output.filter { $0 == "\n" }.count, 1, output)
        let report = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
        XCTAssertEqual(report["grid"] as? String, folder.file("json.png"))
        XCTAssertEqual(report["patches"] as? Int, 16)
        XCTAssertEqual(report["removed_patches"] as? [Int], [12])
        let grid = try Pixels(contentsOf: folder.file("json.png"))
        XCTAssertEqual([report["width"] as? Int, report["height"] as? Int], [grid.width, grid.height])
        let losses = try XCTUnwrap(report["pictures"] as? [[String: Any]])
        XCTAssertEqual(losses.map { $0["path"] as? String }, pictures)
        for picture in losses {
            let loss = try XCTUnwrap(picture["mean_squared_error"] as? Double)
            XCTAssertTrue(text.contains(" \(Format.fixed(loss, 5))\n"), "\(loss) in \(text)")
        }
    }

    func testGrid() throws {
        let output = folder.file("grid.png")
        let result = assertRuns(["reconstruct", "--weights", Self.raw, "--input"] + pictures + ["--output", output])
        XCTAssertEqual(
            result.errors,
            "\(Self.raw): safetensors, MAE names; ViT of width 16, 2 blocks, 2 heads, patches of 8 pixels, images of "
                + "32×32, 3 channels; decoder of width 16, 1 block, 2 heads\n"
                + "pixels: mean 0.485 0.456 0.406, std 0.229 0.224 0.225, bicubic, crop 0.875 (1 for models above 224 pixels) "
                + "(as in the training of the weights)\n")
        XCTAssertTrue(result.output.contains("grid  \(output)  596×464"), result.output)
        XCTAssertTrue(result.output.contains("12 of 16 patches removed"), result.output)
        let rows = try tiles(output, rows: 2)
        for (row, path) in zip(rows, pictures) {
            let augmentation = Augmentation(width: side, height: side, framing: .centre)
            XCTAssertTrue(
                row[0] == augmentation.apply(to: try Pixels(contentsOf: path), seed: 0, epoch: 0, index: 0), path)
            let removed = removed(row)
            XCTAssertEqual(removed.filter { $0 }.count, 12)
            // The error that is printed is that of the pictures, but for their rounding to bytes and cutting off at
            // black and white.
            let line = try XCTUnwrap(result.output.split(separator: "\n").first { $0.hasPrefix(path) })
            let printed = try XCTUnwrap(Double(line.split(separator: " ").last!))
            let deviation = Normalisation.imageNet(channels: 3).deviation
            var sum = 0.0
            var count = 0
            for number in removed.indices where removed[number] {
                let pairs = zip(patchBytes(row[0], number), patchBytes(row[2], number))
                for (index, (original, own)) in pairs.enumerated() {
                    let difference = (Double(original) - Double(own)) / 255 / Double(deviation[index % 3])
                    sum += difference * difference
                    count += 1
                }
            }
            XCTAssertEqual(sum / Double(count), printed, accuracy: 0.05 * printed + 1e-3, path)
        }
        // Another seed removes other patches, the same seed the same ones.
        let again = folder.file("again.png"), other = folder.file("other.png")
        assertRuns(["reconstruct", "--weights", Self.raw, "--output", again, "--input"] + pictures)
        XCTAssertEqual(try TinyRun.bytes(again), try TinyRun.bytes(output))
        assertRuns(["reconstruct", "--weights", Self.raw, "--output", other, "--seed", "1", "--input"] + pictures)
        XCTAssertNotEqual(removed(try tiles(other, rows: 2)[0]), removed(rows[0]))
    }

    /// The pictures of a folder, an archive and a list, in columns; what cannot be read of them is left out.
    func testFoldersArchivesAndLists() throws {
        let data = folder.file("pictures")
        try FileManager.default.createDirectory(atPath: data + "/a", withIntermediateDirectories: true)
        for (name, path) in [("a/lemon.jpg", pictures[0]), ("z.png", pictures[1]), ("b.jpg", pictures[0])] {
            try FileManager.default.copyItem(atPath: path, toPath: "\(data)/\(name)")
        }
        folder.write("no picture".utf8, "pictures/broken.jpg")
        let output = folder.file("folder.png"), base = ["reconstruct", "--weights", Self.raw, "-o", output, "--input"]
        let result = assertRuns(base + [data, "--columns", "2", "--same-mask"])
        XCTAssertTrue(result.errors.contains("\nwarning: \(data)/broken.jpg"), result.errors)
        let inputs = result.output.components(separatedBy: "\n").dropFirst().prefix(3)
        XCTAssertEqual(
            inputs.map { $0.components(separatedBy: "  ")[0] },
            ["a/lemon.jpg", "b.jpg", "z.png"].map { "\(data)/\($0)" })
        let drawn = try tiles(output, rows: 2, columns: 2)
        let augmentation = Augmentation(width: side, height: side, framing: .centre)
        for (place, path) in [pictures[0], pictures[0], pictures[1]].enumerated() {
            XCTAssertTrue(
                drawn[place][0] == augmentation.apply(to: try Pixels(contentsOf: path), seed: 0, epoch: 0, index: 0),
                path)
            XCTAssertEqual(removed(drawn[place]), removed(drawn[0]))
        }
        // Each picture has a mask of its own by default, the first one that of --same-mask.
        assertRuns(base + [data, "--columns", "2"])
        let own = try tiles(output, rows: 2, columns: 2)
        XCTAssertEqual(removed(own[0]), removed(drawn[0]))
        for place in 1...2 {
            XCTAssertNotEqual(removed(own[place]), removed(own[place - 1]))
            XCTAssertEqual(removed(own[place]).filter { $0 }.count, 12)
        }
        // An archive and a list of the same pictures; those that are named keep their order.
        let names = ["a/lemon.jpg", "b.jpg", "z.png"]
        folder.write(
            TarBuilder.archive(
                names.map { ($0, [UInt8](FileManager.default.contents(atPath: "\(data)/\($0)")!)) }), "pictures.tar")
        folder.write(names.map { "pictures/\($0)\n" }.joined().utf8, "list.txt")
        for input in [folder.file("pictures.tar"), folder.file("list.txt")] {
            assertRuns(base + [input, "--columns", "2"])
            // The third picture of the folder is the unreadable one.
            for (one, other) in zip(try tiles(output, rows: 2, columns: 2), own.prefix(2)) {
                XCTAssertTrue(one == other)
            }
        }
        let reversed = assertRuns(base + [pictures[1], pictures[0]]).output.components(separatedBy: "\n")
        XCTAssertTrue(reversed[1].hasPrefix(pictures[1]) && reversed[2].hasPrefix(pictures[0]), reversed[1])
        // A part of many, evenly spread.
        let some = assertRuns(base + [Fixtures.path("demo/held-out"), "--count", "2"])
        XCTAssertTrue(some.errors.contains("\n2 of 16 pictures, evenly spread: --count draws more\n"), some.errors)
        _ = try tiles(output, rows: 2)
        let broken = folder.file("pictures/broken.jpg")
        assertRefused(base + [broken], 65, "broken.jpg")
        // Of pictures that are named the others are drawn, too; more than one that cannot be read are an error at the end.
        let one = assertRuns(base + [pictures[1], broken, pictures[0]])
        XCTAssertTrue(one.errors.contains("\nwarning: \(broken) is a text"), one.errors)
        XCTAssertTrue(one.errors.contains("; it is left out\n"), one.errors)
        _ = try tiles(output, rows: 2)
        folder.write("no picture".utf8, "other.jpg")
        try FileManager.default.removeItem(atPath: output)
        let two = Command.run(base + [pictures[1], broken, pictures[0], folder.file("other.jpg")])
        XCTAssertEqual(two.end, .exited(65))
        XCTAssertTrue(two.output.contains("grid  \(output)  "), two.output)
        XCTAssertTrue(
            two.errors.hasSuffix(
                "error: 2 of the 4 pictures cannot be read, more than a fraction of 0.01; the grid has the others; repair or "
                    + "remove them\n"), two.errors)
        _ = try tiles(output, rows: 2)
        for name in names { try FileManager.default.removeItem(atPath: "\(data)/\(name)") }
        assertRefused(base + [data, data], 65, "none of the 2 pictures can be read")
        for (flag, value) in [("--count", "0"), ("--columns", "0")] {
            assertRefused(base + [data, flag, value], 64, "\(flag) must be 1 to")
        }
    }

    /// A mask for each picture, of different numbers of patches.
    func testAMaskForEachPicture() throws {
        let wanted = [3, 12].map { kept in (0..<16).map { $0 * 7 % 16 >= kept } }
        let masks = try wanted.enumerated().map { number, removed in
            folder.write(
                try PNGWriter.encode(Pixels(width: 4, height: 4, channels: 1, bytes: removed.map { $0 ? 255 : 0 })),
                "mask-\(number).png")
        }
        let output = folder.file("masks.png")
        let base = ["reconstruct", "--weights", Self.raw, "--output", output, "--input"] + pictures
        let result = assertRuns(base + ["--mask"] + masks)
        XCTAssertTrue(result.output.contains("\n4, 13 of 16 patches removed"), result.output)
        XCTAssertEqual(try tiles(output, rows: 2).map(removed), wanted)
        assertRuns(base + ["--mask", masks[0]])
        XCTAssertEqual(try tiles(output, rows: 2).map(removed), [wanted[0], wanted[0]])
        assertRefused(
            base + ["--mask"] + masks + [masks[0]], 64, "--mask was given 3 pictures, and there are 2 pictures to draw",
            "one for all, or one for each")
        assertRefused(base + ["--mask", masks[0], "--same-mask"], 64, "--same-mask has no effect")
    }

    func testMaskRatio() throws {
        for (ratio, count) in [("0.5", 8), ("0.1", 2), ("0.93", 15)] {
            let output = folder.file("ratio.png")
            assertRuns([
                "reconstruct", "--weights", Self.raw, "--input", pictures[0], "--output", output, "--mask-ratio", ratio,
            ])
            XCTAssertEqual(removed(try tiles(output, rows: 1)[0]).filter { $0 }.count, count, ratio)
        }
    }

    /// White is removed, whatever number of patches that leaves: from one removed to one kept.
    func testMaskPicture() throws {
        for kept in [1, 5, 8, 15] {
            // Patches in an order that is no plain run of rows.
            let wanted = (0..<16).map { $0 * 7 % 16 >= kept }
            // Four pixels to a patch's side; nearly white and nearly black count as white and black.
            let bytes = (0..<16 * 16).map { pixel -> UInt8 in wanted[pixel / 16 / 4 * 4 + pixel % 16 / 4] ? 250 : 5 }
            let output = folder.file("masked.png")
            let mask = folder.write(
                try PNGWriter.encode(Pixels(width: 16, height: 16, channels: 1, bytes: bytes)), "mask.png")
            let result = assertRuns([
                "reconstruct", "--weights", Self.raw, "--input", pictures[0], "--output", output, "--mask", mask,
            ])
            XCTAssertEqual(removed(try tiles(output, rows: 1)[0]), wanted, "\(kept) kept")
            XCTAssertTrue(result.output.contains("\(16 - kept) of 16 patches removed"), result.output)
        }
    }

    /// Normalised targets: a warning, and the patches of the picture with their own mean.
    func testNormalisedPixels() throws {
        let output = folder.file("normalised.png")
        let result = assertRuns([
            "reconstruct", "--weights", Self.normalised, "--input", pictures[0], "--output", output,
        ])
        let lines = result.errors.split(separator: "\n")
        XCTAssertEqual(lines.count, 3, result.errors)
        XCTAssertTrue(
            lines.dropFirst().first?.hasPrefix("warning: these weights were trained on normalised pixels") == true,
            result.errors)
        XCTAssertTrue(lines.last?.hasPrefix("pixels: mean 0.485 ") == true, result.errors)
        let row = try tiles(output, rows: 1)[0]
        XCTAssertEqual(removed(row).filter { $0 }.count, 12)
    }

    /// A checkpoint does as well as the final weights, and --stretch shows the whole picture.
    func testCheckpointAndStretch() throws {
        let run = URL(fileURLWithPath: Self.raw).deletingLastPathComponent().path
        let checkpoint = run + "/" + (try XCTUnwrap(TinyRun.checkpoints(run).last))
        let one = folder.file("one.png"), two = folder.file("two.png"), whole = folder.file("stretched.png")
        assertRuns(["reconstruct", "--weights", Self.raw, "--input", pictures[0], "--output", one])
        assertRuns(["reconstruct", "--weights", checkpoint, "--input", pictures[0], "--output", two])
        XCTAssertEqual(try TinyRun.bytes(one), try TinyRun.bytes(two))
        assertRuns(["reconstruct", "--weights", Self.raw, "--input", pictures[0], "--output", whole, "--stretch"])
        XCTAssertTrue(
            try tiles(whole, rows: 1)[0][0] == Pixels(contentsOf: pictures[0]).resized(width: side, height: side))
    }

    /// The grid is written as every output is: through a link into its target, and never over what is no file.
    func testOutputsThatAreNoFiles() throws {
        func reconstruct(_ output: String) -> [String] {
            ["reconstruct", "--weights", Self.raw, "--input", pictures[0], "--output", output]
        }
        let target = folder.write([], "target.png"),
            link = folder.file("link.png"),
            pipe = folder.file("pipe.png")
        XCTAssertEqual(symlink(target, link), 0)
        assertRuns(reconstruct(link))
        XCTAssertEqual(try FileManager.default.destinationOfSymbolicLink(atPath: link), target)
        _ = try tiles(target, rows: 1)
        XCTAssertEqual(mkfifo(pipe, 0o600), 0)
        assertRefused(reconstruct(pipe), 74, "pipe.png", "it is not a regular file")
        var status = stat()
        XCTAssertEqual(lstat(pipe, &status), 0)
        XCTAssertEqual(status.st_mode & S_IFMT, S_IFIFO)
    }

    /// Errors beyond what fits into 64 bits with five decimals are printed all the same.
    func testHugeErrors() throws {
        let file = try SafeTensorsFile(path: Self.raw)
        var values = try file.names.map { try file.floats($0) }
        let bias = try XCTUnwrap(file.names.firstIndex(of: "decoder_pred.bias"))
        values[bias] = values[bias].map { _ in 1e9 }
        try withBuffers(values) { buffers in
            var writer = SafeTensorsWriter()
            for (entry, buffer) in zip(file.entries, buffers) {
                writer.add(entry.name, shape: entry.shape, floats: buffer)
            }
            try writer.write(to: folder.file("huge.safetensors"))
        }
        let result = assertRuns([
            "reconstruct", "--weights", folder.file("huge.safetensors"), "--heads", "2", "--decoder-heads", "2",
            "--input", pictures[0], "--output", folder.file("huge.png"),
        ])
        let line = try XCTUnwrap(result.output.split(separator: "\n").first { $0.hasPrefix(pictures[0]) })
        let printed = try XCTUnwrap(line.split(separator: " ").last.flatMap { Double($0) })
        XCTAssertEqual(printed, 1e18, accuracy: 1e15)
    }

    /// Weights that say nothing of themselves, with sizes from flags.
    func testForeignWeights() throws {
        let file = try SafeTensorsFile(path: Self.raw)
        func write(_ name: String, _ keep: (String) -> Bool) throws -> String {
            let names = file.names.filter(keep)
            try withBuffers(names.map { try file.floats($0) }) { buffers in
                var writer = SafeTensorsWriter()
                for (name, buffer) in zip(names, buffers) {
                    writer.add(name, shape: try file.entry(name).shape, floats: buffer)
                }
                try writer.write(to: folder.file(name))
            }
            return folder.file(name)
        }
        let foreign = try write("foreign.safetensors") { _ in true }
        // No preset is so small, so the heads have to be said; everything else the shapes show.
        let heads = ["--heads", "2", "--decoder-heads", "2"]
        let one = folder.file("own.png"), two = folder.file("foreign.png")
        assertRuns(["reconstruct", "--weights", Self.raw, "--input", pictures[0], "--output", one])
        assertRuns(["reconstruct", "--weights", foreign, "--input", pictures[0], "--output", two] + heads)
        XCTAssertEqual(try TinyRun.bytes(one), try TinyRun.bytes(two))
        assertRuns(
            ["reconstruct", "--weights", foreign, "--input", pictures[0], "--output", two, "--image-size", "32x32"]
                + heads)
        XCTAssertEqual(try TinyRun.bytes(one), try TinyRun.bytes(two))
        let output = folder.file("none.png")
        let base = ["reconstruct", "--weights", foreign, "--input", pictures[0], "--output", output]
        assertRefused(base, 64, "--heads is needed", "foreign.safetensors")
        assertRefused(base + ["--heads", "2"], 64, "--decoder-heads is needed", "foreign.safetensors")
        let unplaced = try write("unplaced.safetensors") { $0 != "pos_embed" && $0 != "decoder_pos_embed" }
        assertRefused(
            ["reconstruct", "--weights", unplaced, "--input", pictures[0], "--output", output] + heads, 64,
            "--image-size is needed")
        // The position tables are fixed, so they can be computed.
        assertRuns(
            ["reconstruct", "--weights", unplaced, "--input", pictures[0], "--output", two, "--image-size", "32"]
                + heads)
        // Another size than the file's is no contradiction: the tables are resampled.
        let larger = assertRuns(
            ["reconstruct", "--weights", Self.raw, "--input", pictures[0], "--output", two, "--image-size", "64"])
        XCTAssertTrue(larger.errors.contains("position tables resampled from 4×4 to 8×8 patches"), larger.errors)
        XCTAssertTrue(larger.output.contains("48 of 64 patches removed"), larger.output)
        let raw = ["reconstruct", "--weights", Self.raw, "--input", pictures[0], "--output", output]
        assertRefused(
            raw + ["--image-size", "100"], 64, "patches of 8 pixels do not tile an image of 100×100", "--image-size")
        // What the file says, no flag changes: another model would be drawn, as with blocks left out.
        for flag in ["--heads", "--decoder-heads"] {
            assertRefused(
                raw + [flag, "4"], 64, "\(flag) 4 contradicts \(Self.raw), which says that it has 2 heads: leave it out"
            )
        }
        for option in [
            ["--student", "vit-miniature"], ["--decoder", "dec-miniature"], ["--depth", "1"], ["--patch-size", "4"],
            ["--channels", "1"],
        ] {
            assertRefused(raw + option, 64, "Unknown option '\(option[0])'")
        }
        let absurd = folder.file("absurd.safetensors")
        try withBuffers([[0]]) { buffers in
            var writer = SafeTensorsWriter(
                metadata: file.metadata.mapValues {
                    $0.replacingOccurrences(of: "\"patchSize\":8", with: "\"patchSize\":0")
                })
            writer.add("decoder_pred.weight", shape: [1, 1], floats: buffers[0])
            try writer.write(to: absurd)
        }
        assertRefused(
            ["reconstruct", "--weights", absurd, "--input", pictures[0], "--output", output], 65,
            "absurd.safetensors\" holds no Vision Transformer", "it holds \"decoder_pred.weight\"")
        let encoder = try write("encoder.safetensors") { !$0.hasPrefix("decoder_") && $0 != "mask_token" }
        assertRefused(
            ["reconstruct", "--weights", encoder, "--input", pictures[0], "--output", output], 65,
            "encoder.safetensors: holds no decoder")
        XCTAssertFalse(folder.names().contains("none.png"))
    }

    /// Images that are not square, of weights that do not say it: the size has to be said, and to have as many patches
    /// as the file.
    func testUntoldImageSize() throws {
        assertRuns(
            TinyRun.pretrain(
                folder.file("wide"), epochs: 1, ["--quiet", "--no-normalize-pixels", "--image-size", "32x16"]))
        let told = folder.file("wide/model.safetensors"), untold = folder.file("untold.pth")
        assertRuns(["convert", told, untold, "--to", "mae"])
        func reconstruct(_ weights: String, _ output: String) -> [String] {
            ["reconstruct", "--weights", weights, "--input", pictures[0], "--output", folder.file(output)]
        }
        let flags = ["--heads", "2", "--decoder-heads", "2", "--image-size"]
        assertRuns(reconstruct(told, "told.png"))
        assertRuns(reconstruct(untold, "untold.png") + flags + ["32x16"])
        XCTAssertEqual(folder.read("untold.png"), folder.read("told.png"))
        assertRefused(reconstruct(untold, "wide.png") + flags.dropLast(), 64, "--image-size is needed", "untold.pth")
        assertRefused(
            reconstruct(untold, "wide.png") + flags + ["32"], 64, "--image-size 32x32 makes 16 patches of 8 pixels",
            "untold.pth has positions for 8")
        XCTAssertFalse(folder.names().contains("wide.png"))
    }

    /// The same weights as MAE's, Hugging Face's and PyTorch's files give the same pictures.
    func testOtherTools() throws {
        let mae = Fixtures.path("weights/mae/mae.safetensors"), heads = ["--heads", "4", "--decoder-heads", "4"]
        let one = folder.file("mae.png"), other = folder.file("other.png")
        let first = assertRuns(["reconstruct", "--weights", mae, "--input", pictures[0], "--output", one] + heads)
        XCTAssertTrue(
            first.errors.contains("nothing says whether it was trained on raw or on normalised pixels"), first.errors)
        assertRuns(["convert", mae, folder.file("hugging"), "--to", "huggingface"] + heads)
        let checkpoint = Fixtures.path("weights/mae/checkpoint.pth")
        for (weights, more) in [(folder.file("hugging"), []), (checkpoint, heads)] {
            let result = assertRuns(
                ["reconstruct", "--weights", weights, "--input", pictures[0], "--output", other] + more)
            XCTAssertEqual(try TinyRun.bytes(other), try TinyRun.bytes(one), weights)
            // The checkpoint's arguments say that the pixels were raw.
            XCTAssertEqual(result.errors.contains("nothing says"), weights != checkpoint, result.errors)
        }
    }

    func testErrors() throws {
        let output = folder.file("error.png")
        func refused(_ code: Int32, _ words: String, _ arguments: [String], line: UInt = #line) {
            assertRefused(["reconstruct"] + arguments, code, words, line: line)
        }
        let base = ["--weights", Self.raw, "--output", output, "--input"]
        refused(74, "missing.jpg", base + ["missing.jpg"])
        refused(65, "not a JPEG, PNG, WebP, GIF, BMP or PNM file", base + [Fixtures.path("images/bad/text.jpg")])
        refused(65, "truncated.png is a damaged PNG file", base + [Fixtures.path("images/bad/truncated.png")])
        refused(
            64, "--mask and --mask-ratio exclude each other",
            base + [pictures[0], "--mask", "m.png", "--mask-ratio", "0.5"])
        refused(64, "--seed has no effect: --mask says", base + [pictures[0], "--mask", "m.png", "--seed", "1"])
        let file = try SafeTensorsFile(path: Self.raw), headless = folder.file("headless.safetensors")
        try withBuffers(file.names.map { try file.floats($0) }) { buffers in
            var writer = SafeTensorsWriter()
            for (entry, buffer) in zip(file.entries, buffers) where !entry.name.hasPrefix("decoder_blocks.") {
                writer.add(entry.name, shape: entry.shape, floats: buffer)
            }
            try writer.write(to: headless)
        }
        refused(
            65, "headless.safetensors: decoder: the depth must be at least 1, not 0",
            [
                "--weights", headless, "--heads", "2", "--decoder-heads", "2", "--output", folder.file("x.png"),
                "--input", pictures[0],
            ])
        refused(
            74, "nowhere", ["--weights", Self.raw, "--output", folder.file("nowhere/grid.png"), "--input", pictures[0]])
        refused(64, "leaves none of the 16 patches visible", base + [pictures[0], "--mask-ratio", "0.99"])
        for (name, shade) in [("white", UInt8(255)), ("black", 0)] {
            let picture = Pixels(width: 4, height: 4, channels: 1, bytes: Array(repeating: shade, count: 16))
            let mask = folder.write(try PNGWriter.encode(picture), name + ".png")
            refused(64, "it must leave at least one and remove at least one", base + [pictures[0], "--mask", mask])
        }
        XCTAssertFalse(folder.names().contains("error.png"))
    }
}

extension Pixels {
    fileprivate func cropped(to rectangle: Rectangle) -> Pixels {
        resized(croppingTo: rectangle, width: rectangle.width, height: rectangle.height)
    }
}
