import Foundation
import Images
import TestSupport
import Weights
import XCTest

/// `dmae evaluate`.
final class EvaluateTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let weights = Fixtures.path("classifiers/timm-mean/model.safetensors")
    private let pictures = Fixtures.path("classifiers/images")
    private static let names = ["ant", "bee", "cat", "dog", "emu"]
    private static let labels: [Int32] = [0, 0, 0, 1, 2, 2, 3, 3, 4]

    private func evaluate(_ data: String, _ more: String..., weights: String? = nil) -> [String] {
        ["evaluate", "--weights", weights ?? self.weights, "--heads", "4", "--data", data] + more
    }

    private struct Report: Decodable {
        struct Class: Decodable, Equatable {
            let name: String
            let images: Int
            let top1: Double?
        }
        let top1, top5, loss, chance: Double
        let images: Int
        let classes: [Class]
    }

    private func report(_ arguments: [String]) throws -> Report {
        let output = assertRuns(arguments).output
        XCTAssertEqual(output.filter { $0 == "\n" }.count, 1, output)
        return try JSONDecoder().decode(Report.self, from: Data(output.utf8))
    }

    /// What NumPy made of the tools' logits.
    private struct Expected: Decodable {
        let top1, top2, loss: Double
        let confusion: [[Int]]
    }

    private func expected(_ name: String) throws -> Expected {
        let data = try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("classifiers/expected.json")))
        return try XCTUnwrap(JSONDecoder().decode([String: Expected].self, from: data)[name])
    }

    private func labels(_ path: String) throws -> [Int32] {
        try SafeTensorsFile(path: path).withBytes("labels") { Array($0.bindMemory(to: Int32.self)) }
    }

    /// A copy of the pictures with the class directories renamed; an empty name leaves one out.
    private func renamed(_ names: [String], in data: String = "data") throws -> String {
        try FileManager.default.createDirectory(
            atPath: folder.file(data), withIntermediateDirectories: true)
        for (name, new) in zip(Self.names, names) where !new.isEmpty {
            try FileManager.default.copyItem(atPath: "\(pictures)/\(name)", toPath: folder.file("\(data)/\(new)"))
        }
        return folder.file(data)
    }

    /// Scores, logits, labels and the list of files, of two tools' models, for any threads, workers and batch.
    func testScoresAndLogits() throws {
        let files = [
            "ant/0.jpg", "ant/1.png", "ant/2.png", "bee/0.png", "cat/0.jpg", "cat/deep/1.png", "dog/0.png",
            "dog/1.jpg", "emu/0.png",
        ]
        let logits = try SafeTensorsFile(path: Fixtures.path("classifiers/expected.safetensors"))
        var comparison = TensorComparison()
        for (name, path) in [("timm-mean", "timm-mean/model.safetensors"), ("transformers", "transformers")] {
            let expected = try expected(name)
            var bytes: Data?
            for more in [["--batch", "1", "--threads", "1"], ["--batch", "4", "--threads", "2", "--workers", "3"]] {
                let output = folder.file("x.safetensors")
                let found = try report(
                    evaluate(pictures, "--json", "--logits", output, weights: Fixtures.path("classifiers/" + path))
                        + more)
                XCTAssertEqual(found.top1, expected.top1)
                XCTAssertEqual(found.top5, 1)
                // Each of the two terms of a cross-entropy moves by no more than the logits do.
                let largest = TensorComparison.largest(try logits.floats(name + ".logits"))
                XCTAssertEqual(found.loss, expected.loss, accuracy: 2e-4 * largest)
                XCTAssertEqual(found.images, 9)
                // Three ants.
                XCTAssertEqual(found.chance, 3.0 / 9)
                XCTAssertEqual(found.classes.map(\.name), Self.names)
                for (index, (own, row)) in zip(found.classes, expected.confusion).enumerated() {
                    XCTAssertEqual(own.images, row.reduce(0, +))
                    XCTAssertEqual(own.top1, Double(row[index]) / Double(own.images))
                }
                let file = try SafeTensorsFile(path: output)
                XCTAssertEqual(file["logits"]?.shape, [9, 5])
                XCTAssertEqual(try labels(output), Self.labels)
                comparison.compare(
                    name, expected: try logits.floats(name + ".logits"), found: try file.floats("logits"),
                    relative: 1e-4)
                XCTAssertEqual(
                    String(decoding: folder.read("x.safetensors.files.txt"), as: UTF8.self),
                    files.map { "\(pictures)/\($0)\n" }.joined())
                let all = Data(folder.read("x.safetensors"))
                XCTAssertEqual(all, bytes ?? all, "\(more)")
                bytes = all
            }
        }
        XCTAssertEqual(comparison.failures, [])
        print(comparison.summary)
    }

    /// Class directories by bytes, then paths by bytes: a directory within a class has no place of its own.
    func testOrder() throws {
        let data = try renamed(Self.names)
        for name in ["data/ant/0-1.png", "data/cat/z.png", "data/cat/deep-1.png"] {
            try FileManager.default.copyItem(atPath: pictures + "/emu/0.png", toPath: folder.file(name))
        }
        let output = folder.file("x.safetensors")
        // Neither weights nor a list that is something else are replaced; logits of an earlier evaluation are.
        let weights = try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("demo/teacher.safetensors")))
        folder.write(weights, "x.safetensors")
        assertRefused(
            evaluate(data, "--logits", output), 64, "holds other tensors than logits of an earlier evaluation")
        XCTAssertEqual(folder.read("x.safetensors"), Array(weights))
        try FileManager.default.removeItem(atPath: output)
        folder.write("notes".utf8, "x.safetensors.files.txt")
        assertRefused(
            evaluate(data, "--logits", output), 64,
            "x.safetensors.files.txt\" exists without logits beside it and would be replaced")
        try FileManager.default.removeItem(atPath: output + ".files.txt")
        for _ in 0..<2 { assertRuns(evaluate(data, "--logits", output)) }
        XCTAssertEqual(
            String(decoding: folder.read("x.safetensors.files.txt"), as: UTF8.self),
            [
                "ant/0-1.png", "ant/0.jpg", "ant/1.png", "ant/2.png", "bee/0.png", "cat/0.jpg", "cat/deep-1.png",
                "cat/deep/1.png", "cat/z.png", "dog/0.png", "dog/1.jpg", "emu/0.png",
            ].map { "\(data)/\($0)\n" }.joined())
        XCTAssertEqual(try labels(output), [0, 0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 4])
    }

    /// What a person reads, and the matrix as a picture: a green diagonal, red confusions, white where there is nothing.
    func testTextAndPicture() throws {
        let picture = folder.file("matrix.png")
        let result = assertRuns(evaluate(pictures, "--confusion", picture))
        let expected = try expected("timm-mean")
        let hits = expected.confusion.indices.reduce(0) { $0 + expected.confusion[$1][$1] }
        XCTAssertTrue(
            result.output.hasPrefix(
                String(
                    format: "top-1   %.2f %%  \(hits) of 9 images\n"
                        + "chance  33.33 %%  always \"ant\", the most frequent class of these images\n",
                    100 * expected.top1)),
            result.output)
        // Of five classes each image's is among the first five.
        XCTAssertFalse(result.output.contains("top-5"), result.output)
        XCTAssertTrue(result.output.contains("\nclass  index  images"), result.output)
        XCTAssertTrue(
            result.output.contains("\nmost confused: class  predicted as  images  fraction of the class\n"),
            result.output)
        for (label, row) in expected.confusion.enumerated() {
            for (prediction, count) in row.enumerated() where count > 0 && label != prediction {
                let line = result.output.components(separatedBy: "\n").first {
                    $0.split(separator: " ").prefix(3).map(String.init)
                        == [Self.names[label], Self.names[prediction], "\(count)"]
                }
                XCTAssertNotNil(line, "\(label) taken for \(prediction): \(result.output)")
            }
        }
        XCTAssertTrue(
            result.output.hasSuffix(
                "\nconfusion  \(picture): rows are the images' classes, columns the predicted ones, numbers the "
                    + "classes' indices\n"), result.output)
        let pixels = try Pixels(contentsOf: picture, channels: 3)
        // One digit of 6 × 10 pixels in the margins.
        XCTAssertEqual(pixels.width - pixels.height, 6 - 10)
        let side = 32
        let left = pixels.width - 6 - 5 * side - 1, top = pixels.height - 6 - 5 * side - 1
        for (label, row) in expected.confusion.enumerated() {
            for (prediction, count) in row.enumerated() {
                let place = 3 * ((top + label * side + side / 2) * pixels.width + left + prediction * side + side / 2)
                let (red, green, blue) = (pixels.bytes[place], pixels.bytes[place + 1], pixels.bytes[place + 2])
                if count == 0 {
                    XCTAssertEqual([red, green, blue], [255, 255, 255])
                } else if label == prediction {
                    XCTAssertGreaterThan(green, red)
                } else {
                    XCTAssertGreaterThan(red, green)
                }
            }
        }
        let quiet = assertRuns(evaluate(pictures, "--quiet"))
        XCTAssertEqual(quiet.errors, "")
    }

    /// The figures of a fine-tuning run's last evaluation, bit for bit, for both pools and precisions.
    func testEqualsTheRunsOwnEvaluation() throws {
        struct Line: Decodable {
            let val_top1, val_top5, val_loss: Double?
        }
        for (pool, precision) in [("class", "f32"), ("mean", "bf16")] {
            let run = folder.file(pool)
            assertRuns([
                "finetune", "--train", pictures, "--val", pictures, "--heads", "4", "--pool", pool, "--output", run,
                "--weights", Fixtures.path("classifiers/timm/model.safetensors"), "--batch", "4", "--effective-batch",
                "4", "--epochs", "2", "--warmup-epochs", "0", "--precision", precision, "--quiet",
            ])
            let log = String(decoding: folder.read(pool + "/log.jsonl"), as: UTF8.self)
            let lines = try log.split(separator: "\n").map {
                try JSONDecoder().decode(Line.self, from: Data($0.utf8))
            }
            let last = try XCTUnwrap(lines.last { $0.val_loss != nil })
            let found = try report([
                "evaluate", "--weights", run + "/model.safetensors", "--data", pictures, "--precision", precision,
                "--batch", "2", "--json",
            ])
            XCTAssertEqual([found.top1, found.top5, found.loss], [last.val_top1, last.val_top5, last.val_loss])
            XCTAssertEqual(found.classes.map(\.name), Self.names)
        }
    }

    /// Weights that name their classes are held to them; an empty directory keeps its place.
    func testClassNames() throws {
        assertRefused(
            evaluate(try renamed(["ant", "bee", "cow", "dog", "emu"])), 65, "class directories (5)", "classes (5)",
            "only the data has \"cow\"", "only the weights have \"cat\"", "--class-map")
        let some = try renamed(["ant", "", "cat", "dog", "emu"], in: "some")
        assertRefused(evaluate(some), 65, "class directories (4)", "classes (5)", "only the weights have \"bee\"")
        try FileManager.default.createDirectory(atPath: some + "/bee", withIntermediateDirectories: true)
        let result = assertRuns(evaluate(some, "--json"))
        XCTAssertTrue(
            result.errors.contains("\nclass directories of \(some) without images keep their class index: bee"),
            result.errors)
        let found = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
        XCTAssertEqual(found.classes[1], Report.Class(name: "bee", images: 0, top1: nil))
        XCTAssertTrue(result.output.contains("\"top1\":null"), result.output)
        XCTAssertEqual(found.images, 8)
    }

    /// Directories given to classes by a list, and by their order.
    func testClassMaps() throws {
        let data = try renamed(["n4", "n1", "", "n3", "n2"])
        let map = folder.write("n4\tant\nn1 1\n n2 , emu\nn3,3\n".utf8, "map.txt")
        let output = folder.file("x.safetensors")
        let found = try report(evaluate(data, "--json", "--class-map", map, "--logits", output))
        XCTAssertEqual(found.classes.map(\.name), ["ant", "bee", "dog", "emu"])
        XCTAssertEqual(found.classes.map(\.images), [3, 1, 2, 1])
        XCTAssertEqual(try labels(output), [1, 4, 3, 3, 0, 0, 0])
        assertRefused(
            evaluate(data, "--class-map", folder.write("n1 1\n".utf8, "few.txt")), 65, "few.txt",
            "3 of the 4 class directories")
        assertRefused(evaluate(data, "--class-map", folder.file("gone.txt")), 74, "gone.txt")
        // A head of ten classes without names.
        let unnamed = Fixtures.path("weights/timm/timm.safetensors")
        assertRefused(evaluate(pictures, weights: unnamed), 65, "5 class directories", "10 classes", "--class-map")
        for number in 1...10 {
            let place = folder.file("numbers/\(number)")
            try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: pictures + "/bee/0.png", toPath: place + "/0.png")
        }
        let bytes = assertRuns(evaluate(folder.file("numbers"), "--logits", output, weights: unnamed))
        XCTAssertTrue(
            bytes.errors.contains("warning: the weights do not name their classes")
                && bytes.errors.contains("\"10\" is")
                && bytes.errors.contains("--class-map natural takes that one"), bytes.errors)
        XCTAssertEqual(try labels(output), Array(0..<10))
        let natural = assertRuns(
            evaluate(folder.file("numbers"), "--class-map", "natural", "--logits", output, weights: unnamed))
        XCTAssertFalse(natural.errors.contains("warning"), natural.errors)
        XCTAssertEqual(try labels(output), [0, 9, 1, 2, 3, 4, 5, 6, 7, 8])
        XCTAssertTrue(natural.output.contains("\n10         9       1"), natural.output)
    }

    /// A signal leaves nothing behind, and ends the program at once.
    func testStoppedBySignals() throws {
        for index in 0..<20_000 {
            let place = folder.file("many/" + Self.names[index % 5])
            if index < 5 { try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true) }
            XCTAssertEqual(symlink(pictures + "/emu/0.png", "\(place)/\(index).png"), 0)
        }
        let output = TemporaryFolder()
        for signal in [SIGTERM, SIGINT] {
            let command = Command(
                evaluate(
                    folder.file("many"), "--logits", output.file("x.safetensors"), "--confusion", output.file("x.png"),
                    "--batch", "1", "--json"))
            while command.isRunning, !output.names().contains(where: { $0.contains(".part-") }) { usleep(200) }
            command.send(signal)
            let result = command.wait(seconds: 5)
            XCTAssertEqual(result.end, .killed(signal: signal))
            XCTAssertEqual(result.output, "")
            XCTAssertEqual(output.names(), [])
        }
    }

    func testRefusals() throws {
        assertRefused(
            evaluate(pictures, weights: Fixtures.path("weights/mae/mae.safetensors")), 65,
            "holds no class head: fine-tune the encoder first (`dmae finetune`)")
        assertRefused(
            evaluate(pictures + "/ant"), 65, "the images of \(pictures)/ant are not in class directories")
        let model = folder.file("model.onnx")
        assertRuns(["convert", weights, model, "--to", "onnx", "--heads", "4"])
        for arguments in [
            evaluate(pictures, weights: model), ["predict", "--weights", model, pictures],
            ["knn", "--weights", model, "--train", pictures, "--val", pictures],
        ] {
            assertRefused(arguments, 65, "model.onnx\" is an ONNX model, which dmae writes but does not read")
        }
        try FileManager.default.removeItem(atPath: model)
        // The folder above the parts of a data set.
        let parts = TemporaryFolder()
        for part in ["train", "val"] {
            try FileManager.default.createSymbolicLink(
                atPath: parts.file(part), withDestinationPath: pictures)
        }
        for weights in [weights, Fixtures.path("weights/timm/timm.safetensors")] {
            assertRefused(
                evaluate(parts.path, weights: weights), 65, "--class-map; did you mean \(parts.path)/val?")
        }
        assertRefused(evaluate(folder.file("gone")), 74, "gone")
        assertRefused(evaluate(pictures, "--logits", folder.file("x.npy")), 64, "x.npy: end it in .safetensors")
        assertRefused(evaluate(pictures, "--confusion", folder.file("x.jpg")), 64, "end it in .png")
        assertRefused(evaluate(pictures, "--logits", folder.file("no/x.safetensors")), 74, "create its folder first")
        // Before the evaluation: its logits are not written either.
        assertRefused(
            evaluate(
                pictures, "--logits", folder.file("x.safetensors"), "--confusion", folder.file("no/matrix.png")), 74,
            "create its folder first")
        XCTAssertEqual(folder.names(), [])
        // No output takes the place of an input.
        let data = try renamed(Self.names)
        assertRefused(
            evaluate(data, "--confusion", data + "/emu/0.png"), 64, "emu/0.png\" would lie among the images of")
        for name in ["1", "2"] { folder.write("no picture".utf8, "data/emu/\(name).png") }
        assertRefused(
            evaluate(data, "--logits", folder.file("x.safetensors")), 65, "2 of the 11 images",
            "raise --unreadable-limit")
        let allowed = assertRuns(
            evaluate(data, "--logits", folder.file("x.safetensors"), "--unreadable-limit", "0.2"))
        XCTAssertTrue(allowed.output.contains("\nleft out  2 unreadable images\n"), allowed.output)
        XCTAssertEqual(try labels(folder.file("x.safetensors")), Self.labels)
    }
}
