import Foundation
import TestSupport
import Weights
import XCTest

/// `dmae predict`.
final class PredictTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let weights = Fixtures.path("classifiers/timm-mean/model.safetensors")
    private let pictures = Fixtures.path("classifiers/images")
    private static let names = ["ant", "bee", "cat", "dog", "emu"]
    private static let files = [
        "ant/0.jpg", "ant/1.png", "ant/2.png", "bee/0.png", "cat/0.jpg", "cat/deep/1.png", "dog/0.png", "dog/1.jpg",
        "emu/0.png",
    ]

    private func predict(_ images: [String], _ more: String...) -> [String] {
        ["predict"] + images + ["--weights", weights, "--heads", "4"] + more
    }

    /// The probabilities of timm's logits, by class, of each picture.
    private func expected() throws -> [[Double]] {
        let logits = try SafeTensorsFile(path: Fixtures.path("classifiers/expected.safetensors"))
            .floats("timm-mean.logits").map(Double.init)
        return stride(from: 0, to: logits.count, by: 5).map { start in
            let powers = logits[start..<start + 5].map(exp)
            return powers.map { $0 / powers.reduce(0, +) }
        }
    }

    private struct Line: Decodable {
        struct Class: Decodable {
            let `class`: String
            let index: Int
            let probability: Double
        }
        let path: String
        let predictions: [Class]
        let error: String?
    }

    private func lines(_ output: String) throws -> [Line] {
        try output.split(separator: "\n").map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
    }

    func testJSON() throws {
        let probabilities = try expected()
        for batch in ["1", "4", "32"] {
            let found = try lines(assertRuns(predict([pictures], "--json", "--batch", batch)).output)
            XCTAssertEqual(found.map(\.path), Self.files.map { "\(pictures)/\($0)" })
            for (line, wanted) in zip(found, probabilities) {
                XCTAssertEqual(line.predictions.map(\.index), wanted.indices.sorted { wanted[$0] > wanted[$1] })
                for prediction in line.predictions {
                    XCTAssertEqual(prediction.class, Self.names[prediction.index])
                    XCTAssertEqual(prediction.probability, wanted[prediction.index], accuracy: 1e-5)
                }
            }
        }
    }

    /// A line a picture for people and for tables; the model is described beside.
    func testTextAndCSV() throws {
        let text = assertRuns(predict([pictures + "/emu/0.png"]))
        XCTAssertNotNil(
            text.output.range(
                of: #"^/[^ ]*/emu/0\.png(  [a-z]{3} \d+\.\d\d %){5}\n$"#, options: .regularExpression), text.output)
        XCTAssertTrue(text.errors.hasPrefix("\(weights): safetensors, "), text.errors)
        folder.write([UInt8](try Data(contentsOf: URL(fileURLWithPath: pictures + "/emu/0.png"))), "a, \"b\".png")
        let csv = assertRuns(predict([folder.path], "--csv", "--quiet"))
        XCTAssertEqual(csv.errors, "")
        let rows = csv.output.components(separatedBy: "\n")
        XCTAssertTrue(rows[0].hasPrefix("path,class_1,index_1,probability_1,class_2,"), rows[0])
        XCTAssertEqual(rows[0].components(separatedBy: ",").count, 16)
        XCTAssertTrue(rows[1].hasPrefix("\"\(folder.path)/a, \"\"b\"\".png\","), rows[1])
        XCTAssertEqual(rows[2...], [""])
        // Weights that do not name their classes.
        let unnamed = Fixtures.path("weights/timm/timm.safetensors")
        let line = try lines(
            assertRuns(["predict", pictures + "/emu/0.png", "--weights", unnamed, "--heads", "4", "--json"]).output)[0]
        XCTAssertEqual(line.predictions.map(\.class), line.predictions.map { "\($0.index)" })
    }

    /// Another normalisation than ImageNet's, as timm's first ViTs have it, is that of the weights.
    func testNormalisation() throws {
        let folder = TemporaryFolder()
        var content = try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("classifiers/timm-mean/config.json")))
        let text = String(decoding: content, as: UTF8.self)
        for value in ["0.485", "0.456", "0.406"] { XCTAssertTrue(text.contains(value), text) }
        content = Data(
            text.replacingOccurrences(of: "0.485", with: "0.5").replacingOccurrences(of: "0.456", with: "0.5")
                .replacingOccurrences(of: "0.406", with: "0.5").utf8)
        let weights = try Data(
            contentsOf: URL(fileURLWithPath: Fixtures.path("classifiers/timm-mean/model.safetensors")))
        folder.write(content, "config.json")
        folder.write(weights, "model.safetensors")
        // Beside a file of another name the configuration says nothing of pictures.
        folder.write(weights, "other.safetensors")
        func predicted(_ name: String, _ more: [String]) -> (output: String, errors: String) {
            let result = assertRuns(
                ["predict", pictures + "/emu/0.png", "--weights", folder.file(name), "--heads", "4"] + more)
            return (result.output, result.errors)
        }
        let own = predicted("model.safetensors", [])
        XCTAssertTrue(
            own.errors.contains("\npixels: mean 0.5, std 0.229 0.224 0.225, bicubic, crop 0.875 (config.json)\n"),
            own.errors)
        let flags = predicted("other.safetensors", ["--mean", "0.5", "--crop-fraction", "0.875", "--quiet"])
        XCTAssertEqual(own.output, flags.output)
        XCTAssertEqual(flags.errors, "")
        let other = predicted("other.safetensors", [])
        XCTAssertNotEqual(other.output, own.output)
        XCTAssertTrue(
            other.errors.contains(
                "pixels: mean 0.485 0.456 0.406, std 0.229 0.224 0.225, bicubic, crop 0.875 (1 for models above 224 pixels) "
                    + "(assumed: the weights say nothing of it; --mean, --std, --interpolation, --crop-fraction)\n"),
            other.errors)
    }

    /// A picture that cannot be read is a warning; the others are predicted, whatever the exit code.
    func testUnreadableImages() throws {
        let broken = folder.write("no picture".utf8, "broken.png"), second = folder.write([], "second.png")
        let result = Command.run(predict([broken, pictures, second], "--json", "--batch", "2"))
        XCTAssertEqual(result.end, .exited(65), result.description)
        // Sorted by path: the broken ones are in a folder before or after the others.
        let paths = (Self.files.map { "\(pictures)/\($0)" } + [broken, second]).sorted {
            $0.utf8.lexicographicallyPrecedes($1.utf8)
        }
        XCTAssertEqual(try lines(result.output).map(\.path), paths)
        for line in try lines(result.output) {
            let isBroken = line.path == broken || line.path == second
            XCTAssertEqual(line.predictions.isEmpty, isBroken)
            XCTAssertEqual(line.error?.hasPrefix(line.path), isBroken ? true : nil, line.error ?? "")
        }
        XCTAssertTrue(result.errors.contains("\nwarning: \(broken)"), result.errors)
        XCTAssertTrue(
            result.errors.hasSuffix(
                "error: 2 of the 11 images cannot be read, more than the allowed fraction of 0.01; the lines of the others "
                    + "are complete; repair or remove them, or raise --unreadable-limit, for example to 0.4\n"),
            result.errors)
        // One is always allowed, unless none is.
        let allowed = assertRuns(predict([broken, pictures]))
        XCTAssertEqual(allowed.output.split(separator: "\n").count, 10)
        XCTAssertTrue(allowed.output.contains("\(broken)  cannot be read\n"), allowed.output)
        let table = assertRuns(predict([broken, pictures], "--csv")).output.split(separator: "\n")
        XCTAssertEqual(table.count, 11)
        XCTAssertTrue(table.contains(broken + Substring(String(repeating: ",", count: 15))), "\(table)")
        XCTAssertEqual(Command.run(predict([broken, pictures], "--unreadable-limit", "0")).end, .exited(65))
        assertRefused(predict([broken]), 65, "none of the 1 images can be read")
    }

    /// Lines come while later pictures are still to be read, and a signal ends the program within a second.
    func testStreaming() throws {
        for index in 0..<20_000 {
            XCTAssertEqual(symlink(pictures + "/emu/0.png", folder.file("\(index).png")), 0)
        }
        let output = TemporaryFolder()
        let command = Command(predict([folder.path], "--json", "--batch", "1"), output: output.file("lines"))
        func text() -> String {
            String(decoding: FileManager.default.contents(atPath: output.file("lines")) ?? Data(), as: UTF8.self)
        }
        while command.isRunning, !text().hasSuffix("\n") { usleep(1000) }
        XCTAssertTrue(command.isRunning)
        command.send(SIGTERM)
        XCTAssertEqual(command.wait(seconds: 5).end, .killed(signal: SIGTERM))
        let found = try lines(text())
        XCTAssertFalse(found.isEmpty)
        XCTAssertLessThan(found.count, 20_000)
    }

    func testRefusals() {
        let some = pictures + "/emu/0.png"
        assertRefused(
            ["predict", some, "--weights", Fixtures.path("weights/mae/mae.safetensors"), "--heads", "4"], 65,
            "holds no class head: fine-tune the encoder first (`dmae finetune`)")
        assertRefused(predict([folder.file("gone.png")]), 74, "gone.png")
        assertRefused(predict([some], "--json", "--csv"), 64, "--json and --csv exclude each other")
        assertRefused(predict([some], "--pool", "class"), 64, "--pool class does not fit", "fc_norm")
        assertRefused(predict([some], "--pool", "tokens"), 64, "tokens")
        assertRefused(predict([some], "--prefix", "student"), 65, "holds no Vision Transformer behind \"student\"")
        assertRefused(["predict", "--weights", weights], 64, "Missing expected argument")
        assertRefused(
            ["predict", some, "--weights", Fixtures.path("weights/timm/timm.safetensors")], 64, "--heads is needed")
        assertRefused(predict([some], "--image-size", "30"), 64, "30")
        assertRefused(Command.run(predict([some]), output: "/dev/full"), 74, ["cannot write to standard output"])
    }
}
