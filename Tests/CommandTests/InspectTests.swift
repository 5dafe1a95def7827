import Foundation
import TestSupport
import Weights
import XCTest

/// `dmae inspect`.
final class InspectTests: XCTestCase {
    private let folder = TemporaryFolder()

    func testListsEveryTensor() throws {
        let path = Fixtures.path("golden/linear.in.safetensors")
        let file = try SafeTensorsFile(path: path)
        let lines = assertRuns(["inspect", path]).output.components(separatedBy: "\n")
        XCTAssertEqual(lines[0], "\(path): recorded steps for dmae replay")
        XCTAssertEqual(lines[1], "  form: safetensors")
        XCTAssertEqual(lines[2], "  names: MAE names under student, not those under teacher")
        XCTAssertTrue(lines[3].hasPrefix("  model: ViT of width "), lines[3])
        XCTAssertTrue(lines[4].hasPrefix("  dmae.replay = {"), lines[4])
        let header = try XCTUnwrap(lines.firstIndex { $0.hasPrefix("tensor ") })
        let rows = lines[(header + 1)...].prefix(file.entries.count)
        for (row, entry) in zip(rows, file.entries) {
            let shape = "[" + entry.shape.map(String.init).joined(separator: ", ") + "]"
            XCTAssertTrue(row.hasPrefix(entry.name + " "), row)
            XCTAssertTrue(row.contains(" F32 ") && row.contains(" " + shape + " "), row)
            let bytes = row.split(separator: " ").last!.replacingOccurrences(of: ",", with: "")
            XCTAssertEqual(Int(bytes), entry.byteCount, row)
        }
        let totals = lines[header + 1 + file.entries.count].replacingOccurrences(of: ",", with: "")
        XCTAssertTrue(totals.hasPrefix("\(file.entries.count) tensors \(file.elementCount) parameters "), totals)
    }

    func testJSON() throws {
        struct Report: Decodable {
            struct Tensor: Decodable {
                let name, type: String
                let shape: [Int]
                let bytes: Int
            }
            struct Pair: Decodable {
                let key, value: String
            }
            let tensors: [Tensor]
            let metadata: [Pair]
            let tensor_count, parameters, bytes, file_bytes: Int
        }
        let path = Fixtures.path("safetensors/reference.safetensors")
        let file = try SafeTensorsFile(path: path)
        let report = try JSONDecoder().decode(
            Report.self, from: Data(assertRuns(["inspect", path, "--json"]).output.utf8))
        XCTAssertEqual(report.tensors.map(\.name), file.names)
        XCTAssertEqual(report.tensors.map(\.shape), file.entries.map(\.shape))
        XCTAssertEqual(report.tensors.map(\.type), file.entries.map(\.type.rawValue))
        XCTAssertEqual(report.tensors.map(\.bytes), file.entries.map(\.byteCount))
        XCTAssertEqual(Dictionary(uniqueKeysWithValues: report.metadata.map { ($0.key, $0.value) }), file.metadata)
        XCTAssertEqual(
            [report.tensor_count, report.parameters, report.bytes, report.file_bytes],
            [file.entries.count, file.elementCount, file.dataByteCount, file.byteCount])
    }

    /// Whose names, which sizes, and what stands beside the tensors.
    func testModels() throws {
        let checkpoint = Fixtures.path("weights/mae/checkpoint.pth")
        let lines = assertRuns(["inspect", checkpoint]).output.components(separatedBy: "\n")
        XCTAssertEqual(lines[0], "\(checkpoint): a masked autoencoder's encoder and decoder")
        XCTAssertEqual(lines[1...2], ["  form: PyTorch archive", "  names: MAE names under model"])
        XCTAssertEqual(
            lines[3],
            "  model: ViT of width 32, 3 blocks, heads unknown, patches of 8 pixels, images of 32×32, 3 channels; "
                + "decoder of width 16, 2 "
                + "blocks, heads unknown")
        for line in ["  epoch = 399", "  args.model = mae_vit_tiny_patch8", "  args.norm_pix_loss = false"] {
            XCTAssertTrue(lines.contains(line), line)
        }
        struct Report: Decodable {
            struct Model: Decodable {
                let scheme, wrapper: String
                let width, depth, patch_size, channels: Int
                let heads, image_height, image_width, decoder_width, decoder_depth, decoder_heads, classes: Int?
                let mask_ratio: Double?
                let normalize_pixels: Bool?
                let class_names: [String]?
                let pool: String?
            }
            let form, kind: String
            let model: Model?
        }
        func report(_ name: String) throws -> Report {
            let output = assertRuns(["inspect", "--json", Fixtures.path(name)]).output
            return try JSONDecoder().decode(Report.self, from: Data(output.utf8))
        }
        let hugging = try report("weights/huggingface/vitmae-sharded")
        XCTAssertEqual(hugging.form, "safetensors in 3 shards")
        let model = try XCTUnwrap(hugging.model)
        XCTAssertEqual([model.scheme, model.wrapper], ["Hugging Face", ""])
        XCTAssertEqual([model.width, model.depth, model.patch_size, model.channels], [32, 3, 8, 3])
        XCTAssertEqual(
            [
                model.heads, model.image_height, model.image_width, model.decoder_width, model.decoder_depth,
                model.decoder_heads, model.classes,
            ],
            [4, 32, 32, 16, 2, 4, nil])
        XCTAssertEqual(model.mask_ratio, 0.75)
        XCTAssertEqual(model.normalize_pixels, false)
        let timm = try XCTUnwrap(report("weights/timm/timm.safetensors").model)
        XCTAssertEqual([timm.heads, timm.decoder_width, timm.classes], [nil, nil, 10])
        XCTAssertEqual([timm.pool, timm.class_names?.first], ["class", nil])
        let classifier = try report("classifiers/timm-mean/model.safetensors")
        XCTAssertEqual(classifier.kind, "a Vision Transformer with a class head")
        XCTAssertEqual(classifier.model?.class_names, ["ant", "bee", "cat", "dog", "emu"])
        XCTAssertEqual(classifier.model?.pool, "mean")
        let shown = assertRuns(["inspect", Fixtures.path("classifiers/transformers")]).output
        XCTAssertTrue(shown.contains("; a head of 5 classes (ant, bee, cat, …)\n"), shown)
        XCTAssertNil(try report("safetensors/reference.safetensors").model)
        let unknown = assertRuns(["inspect", Fixtures.path("safetensors/reference.safetensors")]).output
        XCTAssertTrue(unknown.contains("\n  model: none that is recognised ("), unknown)
    }

    /// What is infinite is said: inf in text, null in JSON.
    func testComparisonOfWhatIsNotFinite() throws {
        func write(_ name: String, _ values: [[Float]]) throws -> String {
            try withBuffers(values) { buffers in
                var writer = SafeTensorsWriter()
                for (index, buffer) in buffers.enumerated() {
                    writer.add("tensor.\(index)", shape: [2], floats: buffer)
                }
                try writer.write(to: folder.file(name))
            }
            return folder.file(name)
        }
        let first = try write("first.safetensors", [[0, 0], [1, .nan], [4, 2]])
        let second = try write("second.safetensors", [[0, 0.5], [1, 1], [4, 1]])
        let arguments = ["inspect", first, "--compare", second]
        let lines = assertRuns(arguments).output.split(separator: "\n")
        XCTAssertTrue(lines[0].hasSuffix("  largest difference  over the first's largest magnitude"), "\(lines[0])")
        XCTAssertEqual(
            lines[1...3].map { $0.split(separator: " ") },
            [["tensor.0", "1", "0.5", "inf"], ["tensor.1", "1", "inf", "inf"], ["tensor.2", "1", "1.0", "0.25"]])
        let json = assertRuns(arguments + ["--json"]).output
        let object = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
        let differences = try XCTUnwrap(object["differences"] as? [[String: Any]])
        for difference in differences {
            XCTAssertEqual(Set(difference.keys), ["name", "elements", "maximum", "relative"])
        }
        XCTAssertEqual(differences.map { $0["maximum"] as? Double }, [0.5, nil, 1])
        XCTAssertEqual(differences.map { $0["relative"] as? Double }, [nil, nil, 0.25])
    }

    /// Hugging Face has several spellings of one scheme: the same model in two of them, one rounded to f16, has the
    /// same tensors.
    func testComparisonOfTwoSpellings() {
        let paths = ["vitmae", "vitmae-published"].map { Fixtures.path("weights/huggingface/" + $0) }
        let output = assertRuns(["inspect", paths[0], "--compare", paths[1]]).output
        XCTAssertTrue(output.hasPrefix("compared under MAE's names\n"), output)
        XCTAssertTrue(output.hasSuffix(", 0 of another shape, 0 in one file only\n"), output)
    }

    /// Names and metadata come from strangers: what would move the cursor or colour the terminal is written out.
    func testControlCharacters() throws {
        let path = folder.file("odd.safetensors")
        var writer = SafeTensorsWriter(metadata: [
            "a\u{1B}[31m": "line\nline", "long": String(repeating: "x", count: 500), "csi": "\u{9B}31m\u{202E}cod",
        ])
        try withBuffers([[1, 2]]) { buffers in
            writer.add("red\u{1B}[31m", shape: [2], floats: buffers[0])
            try writer.write(to: path)
        }
        let output = assertRuns(["inspect", path]).output
        XCTAssertFalse(output.contains("\u{1B}"), output)
        for words in ["line\\nline", "\\u{009B}31m\\u{202E}cod"] { XCTAssertTrue(output.contains(words), output) }
        XCTAssertTrue(output.contains("… (500 characters)"), output)
        XCTAssertTrue(output.contains("1 tensor, 2 parameters, 8 bytes"), output)
        let json = assertRuns(["inspect", path, "--json"]).output
        for scalar in ["\u{1B}", "\u{9B}", "\u{202E}"] as [Unicode.Scalar] {
            XCTAssertFalse(output.unicodeScalars.contains(scalar), output)
            XCTAssertFalse(json.unicodeScalars.contains(scalar), json)
        }
        XCTAssertTrue(json.contains(#""\u009b31m\u202ecod""#), json)
    }

    /// A reader that leaves early, as `head` does, ends it quietly.
    func testClosedPipe() {
        let path = Fixtures.path("golden/linear.in.safetensors")
        let result = Command.run(["-c", "'\(Command.binary)' inspect '\(path)' | head -n 1"], executable: "/bin/sh")
        XCTAssertEqual(result.end, .exited(0))
        XCTAssertEqual(result.errors, "")
        XCTAssertEqual(result.output, "\(path): recorded steps for dmae replay\n")
    }

    func testErrors() throws {
        assertRefused(["inspect", folder.file("missing")], 74, "missing", "No such file")
        folder.write("PK\u{3}\u{4} and more of a zip archive".utf8, "weights.pth")
        assertRefused(
            ["inspect", folder.file("weights.pth")], 65, "weights.pth",
            "zip archive has no list of members at its end: it was cut off")
        folder.write("just text, no tensors".utf8, "text.safetensors")
        assertRefused(
            ["inspect", folder.file("text.safetensors")], 65, "text.safetensors",
            "is neither a safetensors file nor a PyTorch archive: download it again")
    }
}
