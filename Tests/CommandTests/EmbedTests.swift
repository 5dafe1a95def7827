import Foundation
import Tensors
import TestSupport
import Weights
import XCTest

/// `dmae embed`.
final class EmbedTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let weights = Fixtures.path("weights/mae/mae.safetensors"), pictures = Fixtures.path("weights/images")

    private func embed(_ output: String, _ more: [String] = []) -> [String] {
        ["embed", "--weights", weights, "--heads", "4", "--data", pictures, "--output", folder.file(output)] + more
    }

    /// A whole picture that memory does not suffice for is no damaged one that is left out: a progressive JPEG needs
    /// its coefficients beside its pixels, two bytes for each sample.
    func testMemoryThatRunsOutIsNoDamage() throws {
        let file = FileManager.default.contents(atPath: Fixtures.path("images/files/progressive-444.jpg"))
        var jpeg = [UInt8](try XCTUnwrap(file))
        let frame = try XCTUnwrap((0..<jpeg.count - 1).first { jpeg[$0] == 0xFF && jpeg[$0 + 1] == 0xC2 })
        // Of 9000 rows and columns: 243 MB of pixels, and 486 MB of coefficients.
        for place in [5, 7] { (jpeg[frame + place], jpeg[frame + place + 1]) = (0x23, 0x28) }
        let large = folder.write(jpeg, "large.jpg")
        let arguments =
            "embed --weights '\(weights)' --heads 4 --threads 1 --data '\(pictures)' '\(large)' --unreadable-limit 1 "
            + "--output x.npy"
        let limited = "ulimit -v 550000; cd '\(folder.path)'; exec '\(Command.binary)' \(arguments)"
        assertRefused(
            Command.run(["-c", limited], executable: "/bin/sh"), 1,
            ["cannot decode \(large): memory ran out; raise the address space limit (ulimit -v)"])
        XCTAssertEqual(folder.names(), ["large.jpg"])
    }

    /// What is printed and what is written, for both forms of file.
    func testFeaturesAndList() throws {
        for (output, more, shape, words) in [
            ("a.safetensors", [], [2, 32], "class token after the final norm"),
            (
                "b.npy", ["--pool", "mean", "--batch", "1", "--threads", "1", "--workers", "2"], [2, 32],
                "mean of the patch tokens after the final norm"
            ),
            (
                "c.safetensors", ["--pool", "tokens", "--block", "1", "--quiet"], [2, 17, 32],
                "all tokens after block 1"
            ),
        ] {
            let result = assertRuns(embed(output, more))
            let sizes = shape.map(String.init).joined(separator: ", ")
            XCTAssertEqual(
                result.output,
                "features  \(folder.file(output))  [\(sizes)], \(words)\nimages    \(folder.file(output)).files.txt\n")
            XCTAssertEqual(
                result.errors.hasPrefix("\(weights): safetensors, MAE names; "), !more.contains("--quiet"),
                result.errors)
            XCTAssertEqual(
                try String(contentsOfFile: folder.file(output + ".files.txt"), encoding: .utf8),
                "\(pictures)/0.png\n\(pictures)/1.png\n")
            guard output.hasSuffix("safetensors") else { continue }
            let file = try SafeTensorsFile(path: folder.file(output))
            XCTAssertEqual(file["features"]?.shape, shape)
            XCTAssertEqual(file.metadata["dmae.weights"], weights)
            XCTAssertEqual(file.metadata["dmae.pool"], shape.count == 3 ? "tokens" : "class")
            XCTAssertEqual(file.metadata["dmae.block"], shape.count == 3 ? "1" : nil)
        }
    }

    /// One object on one line, with the paths of the files.
    func testJSON() throws {
        let output = assertRuns(embed("a.npy", ["--json", "--pool", "tokens", "--block", "1"])).output
        XCTAssertEqual(output.filter { $0 == "\n" }.count, 1, output)
        let report = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(output.utf8)) as? NSDictionary)
        let expected: NSDictionary = [
            "features": folder.file("a.npy"), "files": folder.file("a.npy.files.txt"), "images": 2, "unreadable": 0,
            "shape": [2, 17, 32], "pool": "tokens", "block": 1,
        ]
        XCTAssertEqual(report, expected)
    }

    /// The classes of a folder, of a list and of an archive stand beside the features, a name on each line; a table has
    /// them in a column. The file that comes last has the checksums of all others.
    func testLabels() throws {
        let data = folder.file("data")
        var expected: [(path: String, label: String)] = []
        for (label, name) in [("cat", "b.png"), ("cat, small", "a.png"), ("dog", "a.png")] {
            try FileManager.default.createDirectory(
                atPath: "\(data)/\(label)/deep", withIntermediateDirectories: true)
            let path = "\(data)/\(label)/deep/\(name)"
            try FileManager.default.copyItem(atPath: "\(pictures)/\(name == "a.png" ? 0 : 1).png", toPath: path)
            expected.append((path, label))
        }
        // The order of paths is not that of the classes: a comma is before a slash.
        expected.sort { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
        XCTAssertEqual(expected.map(\.label), ["cat, small", "cat", "dog"])
        func run(_ data: [String], _ output: String) throws -> (labels: [String]?, said: String) {
            let result = assertRuns(
                ["embed", "--weights", weights, "--heads", "4", "--quiet", "--data"] + data
                    + ["--output", folder.file(output)])
            let labels = FileManager.default.contents(atPath: folder.file(output + ".labels.txt"))
            return (
                labels.map { String(decoding: $0, as: UTF8.self).components(separatedBy: "\n").dropLast() },
                result.output
            )
        }
        func lines(_ name: String) -> [String] {
            String(decoding: folder.read(name), as: UTF8.self).components(separatedBy: "\n").dropLast()
        }
        for output in ["a.npy", "b.safetensors"] {
            let (labels, said) = try run([data], output)
            XCTAssertEqual(labels, expected.map(\.label))
            XCTAssertEqual(lines(output + ".files.txt"), expected.map(\.path))
            XCTAssertTrue(said.contains("\nlabels    \(folder.file(output)).labels.txt  3 classes\n"), said)
        }
        // A list with labels, an archive, and what has no classes: pictures, a flat folder, the parts of a data set.
        let rows = expected.map { "\"\($0.path)\",\"\($0.label)\"\n" }.joined()
        folder.write(("path,label\n" + rows).utf8, "list.csv")
        XCTAssertEqual(try run([folder.file("list.csv")], "list.npy").labels, expected.map(\.label))
        var tar = TarBuilder()
        for name in ["dog/1.png", "cat/2.png"] {
            tar.add(name, [UInt8](FileManager.default.contents(atPath: "\(pictures)/0.png")!))
        }
        folder.write(tar.finished(), "x.tar")
        XCTAssertEqual(try run([folder.file("x.tar")], "tar.npy").labels, ["cat", "dog"])
        XCTAssertEqual(lines("tar.npy.files.txt").map { $0.suffix(9) }, ["cat/2.png", "dog/1.png"])
        XCTAssertNil(try run([pictures], "flat.npy").labels)
        XCTAssertNil(try run(expected.map(\.path), "named.npy").labels)
        try FileManager.default.moveItem(atPath: "\(data)/cat", toPath: "\(data)/train")
        for name in ["cat, small", "dog"] { try FileManager.default.removeItem(atPath: "\(data)/\(name)") }
        XCTAssertEqual(try run([data], "parts.npy").labels, ["deep"], "the classes are in the parts of a data set")
        try FileManager.default.moveItem(atPath: "\(data)/train/deep/b.png", toPath: "\(data)/train/b.png")
        XCTAssertNil(try run([data], "images.npy").labels)
        let said = assertRuns([
            "embed", "--weights", weights, "--heads", "4", "--data", data, "--output", folder.file("said.npy"),
        ]).errors
        XCTAssertTrue(said.contains("no labels are written: the folders of \(data) are called train, "), said)

        struct Summary: Decodable {
            struct File: Decodable {
                let name, xxh64: String
                let bytes: Int
            }
            let files: [File]
            let shape: [Int]
            let unreadable: Int
            let metadata: [String: String]
        }
        for (output, names) in [
            ("a.npy", ["a.npy.files.txt", "a.npy.labels.txt", "a.npy"]),
            ("flat.npy", ["flat.npy.files.txt", "flat.npy"]),
        ] {
            let summary = try JSONDecoder().decode(Summary.self, from: Data(folder.read(output + ".json")))
            XCTAssertEqual(summary.files.map(\.name), names)
            XCTAssertEqual(summary.shape, [output == "a.npy" ? 3 : 2, 32])
            XCTAssertEqual(summary.unreadable, 0)
            XCTAssertEqual(summary.metadata, ["dmae.pool": "class", "dmae.weights": weights])
            for file in summary.files {
                let bytes = folder.read(file.name)
                var hash = XXHash64()
                bytes.withUnsafeBytes { hash.update($0) }
                XCTAssertEqual(file.bytes, bytes.count)
                XCTAssertEqual(UInt64(file.xxh64, radix: 16), hash.finish(), file.name)
                XCTAssertEqual(file.xxh64.count, 16)
            }
        }
    }

    /// A table has the bits of the array.
    func testTable() throws {
        let data = folder.file("data")
        for label in ["a \"b\"", "c"] {
            try FileManager.default.createDirectory(atPath: "\(data)/\(label)", withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: "\(pictures)/0.png", toPath: "\(data)/\(label)/1,2.png")
        }
        for (more, width) in [([], 32), (["--block", "1", "--pool", "mean"], 32)] {
            let result = assertRuns(
                [
                    "embed", "--weights", weights, "--heads", "4", "--data", data, "--output", folder.file("x.csv"),
                    "--force",
                ]
                    + more)
            XCTAssertTrue(result.output.hasSuffix("\nlabels    2 classes\n"), result.output)
            assertRuns(
                [
                    "embed", "--weights", weights, "--heads", "4", "--data", data, "--output", folder.file("x.npy"),
                    "--force",
                ]
                    + more)
            let lines = String(decoding: folder.read("x.csv"), as: UTF8.self).components(separatedBy: "\n")
            XCTAssertEqual(
                lines[0], (["path", "label"] + (0..<width).map { "feature_\($0)" }).joined(separator: ","))
            XCTAssertEqual(lines.count, 4)
            XCTAssertTrue(lines[1].hasPrefix("\"\(data)/a \"\"b\"\"/1,2.png\",\"a \"\"b\"\"\","), lines[1])
            XCTAssertTrue(lines[2].hasPrefix("\"\(data)/c/1,2.png\",c,"), lines[2])
            let features = folder.read("x.npy").suffix(4 * 2 * width)
            let expected = Array(features).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            let found = lines[1...2].flatMap { $0.split(separator: ",").suffix(width).map { Float($0)! } }
            XCTAssertEqual(found.map(\.bitPattern), expected.map(\.bitPattern))
        }
        XCTAssertFalse(folder.names().contains { $0.hasPrefix("x.csv.") })
        // Without classes the column is empty; a table has no place for all tokens.
        assertRuns(embed("flat.csv", ["--quiet"]))
        XCTAssertTrue(
            String(decoding: folder.read("flat.csv"), as: UTF8.self).contains("\n\(pictures)/0.png,,"), "flat.csv")
        assertRefused(
            embed("tokens.csv", ["--pool", "tokens"]), 64, "tokens.csv: a table has one row of features per image",
            "end it in .npy or .safetensors, or choose another --pool")
        XCTAssertFalse(folder.names().contains("tokens.csv"))
    }

    /// A signal that ends the program leaves no part of a file behind.
    func testStoppedBySignals() throws {
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            let command = Command([
                "embed", "--weights", Fixtures.path("demo/teacher.safetensors"), "--data", Fixtures.path("demo/images"),
                "--output",
                folder.file("x.npy"), "--pool", "tokens", "--batch", "1", "--threads", "1", "--quiet",
            ])
            while command.isRunning, !folder.names().contains(where: { $0.contains(".part-") }) { usleep(200) }
            command.send(signal)
            XCTAssertEqual(command.wait().end, .killed(signal: signal))
            XCTAssertEqual(folder.names(), [])
        }
    }

    /// A limit on the size of files ends no command without a word.
    func testLimitedFileSize() {
        // Of 512 or 1,024 bytes.
        let result = Command.run(
            ["-c", "ulimit -f 1; exec \"$0\" \"$@\"", Command.binary]
                + embed("x.npy", ["--quiet", "--pool", "tokens"]), executable: "/bin/sh")
        assertRefused(result, 74, ["x.npy", "File too large", "ulimit -f"])
        XCTAssertEqual(folder.names(), [])
    }

    /// With standard error closed the next file would have its number: what is said must not end up in it.
    func testClosedStreams() throws {
        let data = folder.file("pictures")
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: true)
        for name in ["0.png", "1.png"] {
            try FileManager.default.copyItem(atPath: "\(pictures)/\(name)", toPath: "\(data)/\(name)")
        }
        folder.write("no picture".utf8, "pictures/2.png")
        func embed(_ output: String, _ closing: String) -> Command.Result {
            Command.run(
                [
                    "-c", "exec \"$0\" \"$@\" \(closing)", Command.binary, "embed", "--weights", weights, "--heads",
                    "4", "--data", data,
                    "--output", folder.file(output), "--unreadable-limit", "0.5",
                ], executable: "/bin/sh")
        }
        let open = embed("open.npy", "")
        XCTAssertEqual(open.end, .exited(0), open.description)
        XCTAssertTrue(open.errors.contains("warning: \(data)/2.png"), open.errors)
        XCTAssertEqual(embed("closed.npy", "2>&-").end, .exited(0))
        XCTAssertEqual(folder.read("closed.npy"), folder.read("open.npy"))
        // What cannot be printed is an error; the file is whole.
        XCTAssertEqual(embed("both.npy", ">&- 2>&-").end, .exited(74))
        XCTAssertEqual(folder.read("both.npy"), folder.read("open.npy"))
    }

    /// A file's name cannot clear the screen.
    func testNamesThatATerminalWouldObey() throws {
        let data = folder.file("pictures")
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: "\(pictures)/0.png", toPath: "\(data)/0.png")
        folder.write("no picture".utf8, "pictures/\u{1B}[2J.png")
        let errors = assertRuns(
            [
                "embed", "--weights", weights, "--heads", "4", "--data", data, "--output", folder.file("x.npy"),
                "--unreadable-limit", "0.5",
            ]
        ).errors
        XCTAssertTrue(errors.contains("warning: \(data)/\\u{1B}[2J.png"), errors)
        XCTAssertFalse(errors.contains("\u{1B}"), errors)
    }

    /// The features that the demo's weights give do not depend on how they are computed.
    func testSameBytes() throws {
        let weights = Fixtures.path("demo/teacher.safetensors")
        var expected: Data?
        for more in [
            ["--threads", "1", "--batch", "1"], ["--threads", "2", "--batch", "32", "--workers", "3"],
            ["--threads", "3", "--batch", "7"],
        ] {
            assertRuns(
                [
                    "embed", "--weights", weights, "--data", Fixtures.path("demo/held-out"), "--output",
                    folder.file("x.npy"), "--quiet", "--force",
                ] + more)
            let bytes = try Data(contentsOf: URL(fileURLWithPath: folder.file("x.npy")))
            XCTAssertEqual(bytes, expected ?? bytes, "\(more)")
            expected = bytes
        }
    }

    /// Images that are not square: an archive does not say their size, so --image-size has to; nothing that a file says
    /// gives way to it.
    func testImageSize() throws {
        assertRuns(TinyRun.pretrain(folder.file("run"), epochs: 1, ["--quiet", "--image-size", "32x16"]))
        let told = folder.file("run/model.safetensors"), untold = folder.file("untold.pth")
        assertRuns(["convert", told, untold, "--to", "mae"])
        func embed(_ weights: String, _ output: String, _ more: String...) -> [String] {
            ["embed", "--weights", weights, "--data", pictures, "--output", folder.file(output), "--heads", "2"] + more
        }
        assertRuns(embed(told, "told.npy"))
        for (weights, output) in [(told, "same.npy"), (untold, "untold.npy")] {
            assertRuns(embed(weights, output, "--image-size", "32x16"))
            XCTAssertEqual(folder.read(output), folder.read("told.npy"), output)
        }
        // Another form of as many patches, which nothing contradicts.
        assertRuns(embed(untold, "other.npy", "--image-size", "16x32"))
        XCTAssertNotEqual(folder.read("other.npy"), folder.read("told.npy"))
        let names = folder.names()
        for (weights, size, words) in [
            (told, "16x32", "--image-size 16x32 contradicts \(told), whose images are of 32×16 pixels: leave it out"),
            (untold, "32", "--image-size 32x32 makes 16 patches of 8 pixels, but \(untold) has positions for 8"),
            (untold, "32x20", "choose multiples of its patches' 8 pixels"),
            // Whose product runs over 64 bits.
            (untold, "\(1 << 62)x\(1 << 10)", "choose multiples of its patches' 8 pixels"),
            (self.weights, "16", "--image-size 16x16 makes 4 patches"),
        ] {
            assertRefused(embed(weights, "x.npy", "--image-size", size), 64, words)
        }
        assertRefused(embed(untold, "x.npy"), 64, "--image-size is needed: \(untold) does not say the image size")
        assertRefused(
            embed(told, "x.npy", "--heads", "4"), 64,
            "--heads 4 contradicts \(told), which says that it has 2 heads: leave it out")
        XCTAssertEqual(folder.names(), names)
    }

    func testUnreadableImages() throws {
        folder.write("no picture".utf8, "broken.png")
        let some = ["--data", pictures, folder.file("broken.png"), "--output", folder.file("x.npy")]
        let run = ["embed", "--weights", weights, "--heads", "4"] + some
        assertRefused(
            run + ["--unreadable-limit", "0"], 65, "1 of the 3 images cannot be read (\(folder.file("broken.png")))")
        XCTAssertEqual(folder.names(), ["broken.png"])
        let result = assertRuns(run)
        XCTAssertTrue(result.errors.contains("\nwarning: \(folder.file("broken.png"))"), result.errors)
        XCTAssertTrue(result.output.hasSuffix("left out  1 unreadable image\n"), result.output)
    }

    func testRefusals() {
        assertRefused(embed("x.txt"), 64, "end it in .npy, .safetensors or .csv")
        assertRefused(embed("x.npy", ["--block", "3"]), 64, "the encoder's blocks are 0 to 2")
        assertRefused(embed("x.npy", ["--batch", "0"]), 64, "--batch must be at least 1")
        assertRefused(embed("x.npy", ["--pool", "max"]), 64, "max")
        assertRefused(embed("nowhere/x.npy"), 74, "create its folder first")
        assertRefused(
            ["embed", "--weights", weights, "--data", pictures, "--output", folder.file("x.npy")], 64,
            "--heads is needed")
        assertRefused(
            [
                "embed", "--weights", weights, "--heads", "4", "--data", folder.file("gone"), "--output",
                folder.file("x.npy"),
            ], 74,
            folder.file("gone"))
        XCTAssertEqual(folder.names(), [])
    }

    /// Two processes that write one output at a time: one has it, the other is refused, and the files are those of one.
    func testTwoAtOnce() throws {
        let folder = TemporaryFolder(), output = folder.file("x.npy")
        let arguments = [
            "embed", "--weights", weights, "--heads", "4", "--output", output, "--data",
        ]
        let both = ["a", "b"].map { name in
            let pictures = folder.file(name)
            try? FileManager.default.createDirectory(atPath: pictures, withIntermediateDirectories: true)
            try? FileManager.default.copyItem(
                atPath: Fixtures.path("images/files/grey-alpha16-interlaced.png"), toPath: "\(pictures)/\(name).png")
            return Command(arguments + [pictures])
        }
        let results = both.map { $0.wait() }
        for code in [0, 64] as [Int32] {
            XCTAssertEqual(results.filter { $0.end == .exited(code) }.count, 1, "\(results.map(\.description))")
        }
        let winner = results[0].end == .exited(0) ? "a" : "b"
        XCTAssertEqual(
            try String(contentsOfFile: output + ".files.txt", encoding: .utf8),
            "\(folder.file(winner))/\(winner).png\n")
        XCTAssertEqual(
            folder.names().filter { $0.hasPrefix("x") }, ["x.npy", "x.npy.files.txt", "x.npy.json"], "no part is left")
    }
}
