import Interchange
import Models
import Tensors
import TestSupport
import Weights
import XCTest

final class WeightLoadingTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// Writes the parameters of a model; some may be left out, added or reshaped.
    private func write(
        _ model: RandomModel, prefix: String = "", without: Set<String> = [], adding: [String] = [],
        flattening: String? = nil
    ) throws -> SafeTensorsFile {
        var writer = SafeTensorsWriter()
        for parameter in model.parameters.all where !without.contains(parameter.name) {
            writer.add(
                prefix + parameter.name,
                shape: parameter.name == flattening ? [parameter.weight.count] : parameter.shape,
                floats: UnsafeBufferPointer(parameter.weight.elements))
        }
        let extra = model.parameters.all[0].weight
        for name in adding { writer.add(name, shape: [extra.count], floats: UnsafeBufferPointer(extra.elements)) }
        let path = folder.file("weights.safetensors")
        try withExtendedLifetime(model) { try writer.write(to: path) }
        return try SafeTensorsFile(path: path)
    }

    private func values(_ model: RandomModel) -> [String: [UInt32]] {
        Dictionary(uniqueKeysWithValues: model.parameters.all.map { ($0.name, $0.weight.values.bits) })
    }

    /// Every weight is copied bit for bit, with or without a prefix; additional tensors under the prefix are listed.
    func testLoadsEveryWeight() throws {
        for prefix in ["", "student."] {
            let source = try RandomModel(.small(), batch: 1, seed: 71)
            let target = try RandomModel(.small(), batch: 1, seed: 72)
            let file = try write(source, prefix: prefix, adding: [prefix + "head.weight", "teacher.norm.weight"])
            let matching = try target.parameters.load(from: file, prefix: prefix)
            XCTAssertEqual(values(target), values(source))
            XCTAssertEqual(matching.missing, [])
            XCTAssertTrue(matching.unexpected.contains(prefix + "head.weight"))
            XCTAssertEqual(matching.unexpected.contains("teacher.norm.weight"), prefix.isEmpty)
        }
    }

    /// Position tables may be missing; they keep their computed values.
    func testPositionTablesMayBeMissing() throws {
        let source = try RandomModel(.small(), batch: 1, seed: 71)
        let target = try RandomModel(.small(), batch: 1, seed: 72)
        let before = values(target)
        let matching = try target.parameters.load(from: try write(source, without: ["pos_embed", "decoder_pos_embed"]))
        XCTAssertEqual(Set(matching.missing), ["pos_embed", "decoder_pos_embed"])
        XCTAssertEqual(values(target)["pos_embed"], before["pos_embed"])
        XCTAssertEqual(values(target)["norm.weight"], values(source)["norm.weight"])
    }

    /// A tensor that is missing or has another shape is named together with the file, and nothing is copied.
    func testRefusesWhatDoesNotFit() throws {
        let source = try RandomModel(.small(), batch: 1, seed: 71)
        let target = try RandomModel(.small(), batch: 1, seed: 72)
        let before = values(target)
        let missing = failure {
            try target.parameters.load(from: try write(source, without: ["blocks.1.attn.qkv.bias", "mask_token"]))
        }
        XCTAssertEqual(missing?.code, .badData)
        for words in [
            "weights.safetensors", "lacks 2 of the \(target.parameters.all.count) tensors", "blocks.1.attn.qkv.bias",
        ] {
            XCTAssertTrue(
                missing?.message.contains(words) == true, "\(missing?.message ?? "accepted") says nothing of: \(words)")
        }
        let shape = failure {
            try target.parameters.load(from: try write(source, flattening: "patch_embed.proj.weight"))
        }
        XCTAssertEqual(shape?.code, .badData)
        for words in ["weights.safetensors", "patch_embed.proj.weight has shape [576]", "needs [12, 3, 4, 4]"] {
            XCTAssertTrue(
                shape?.message.contains(words) == true, "\(shape?.message ?? "accepted") says nothing of: \(words)")
        }
        let wider = try RandomModel(.small(studentWidth: 24), batch: 1, seed: 73)
        XCTAssertEqual(failure { try target.parameters.load(from: try write(wider)) }?.code, .badData)
        XCTAssertEqual(values(target), before)
    }

    /// The position table of an unknown grid cannot be resampled; the remedy is the command that records the image
    /// size.
    func testRefusesPositionsOfAnUnknownGrid() throws {
        let source = try RandomModel(.small(), batch: 1, seed: 71)
        let configuration = ModelConfiguration.small(imageHeight: 16)
        let target = try RandomModel(configuration, batch: 1, seed: 72)
        let before = values(target)
        let weights = try ModelWeights(path: try write(source).path)
        let found = failure { _ = try target.parameters.load(from: weights, for: configuration.student) }
        XCTAssertEqual(found?.code, .badData)
        for words in ["pos_embed has shape [1, 13, 12]", "needs [1, 17, 12]: run `dmae convert`", "image size"] {
            XCTAssertTrue(
                found?.message.contains(words) == true, "\(found?.message ?? "accepted") says nothing of: \(words)")
        }
        XCTAssertEqual(values(target), before)
    }
}
