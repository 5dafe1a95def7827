import Foundation
import Interchange
import Models
import Reporting
import TestSupport
import Weights
import XCTest

/// Models that are relatives of MAE's ViT, and position tables that are not its own.
final class ModelFamilyTests: XCTestCase {
    private let folder = TemporaryFolder()

    private struct Stored {
        let type: TensorType
        let shape: [Int]
        let bytes: [UInt8]
    }

    /// The encoder of timm's fixture: 17 rows of 32, three blocks.
    private func encoder() throws -> [String: Stored] {
        let file = try SafeTensorsFile(path: Fixtures.path("weights/timm/timm.safetensors"))
        var tensors: [String: Stored] = [:]
        for entry in file.entries where !entry.name.hasPrefix("head") {
            tensors[entry.name] = Stored(
                type: entry.type, shape: entry.shape, bytes: try file.withBytes(entry.name) { Array($0) })
        }
        return tensors
    }

    private func zeros(_ shape: Int..., type: TensorType = .f16) -> Stored {
        Stored(type: type, shape: shape, bytes: [UInt8](repeating: 0, count: shape.reduce(type.size, *)))
    }

    /// The first rows of the table, repeated if there are not as many.
    private func table(rows: Int) throws -> Stored {
        let table = try encoder()["pos_embed"]!
        let bytes = (0..<rows).flatMap { row in table.bytes[(row % 17 * 64)..<(row % 17 * 64 + 64)] }
        return Stored(type: table.type, shape: [1, rows, 32], bytes: bytes)
    }

    private func write(
        _ tensors: [String: Stored], config: String? = nil, metadata: [String: String] = [:]
    ) throws -> String {
        try? FileManager.default.removeItem(atPath: folder.file("model"))
        try FileManager.default.createDirectory(atPath: folder.file("model"), withIntermediateDirectories: true)
        var writer = SafeTensorsWriter(metadata: metadata)
        for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
            writer.add(
                TensorSource(name: name, type: tensor.type, shape: tensor.shape) { body in
                    try tensor.bytes.withUnsafeBytes { try body($0) }
                })
        }
        try writer.write(to: folder.file("model/model.safetensors"))
        if let config { folder.write(config.utf8, "model/config.json") }
        return folder.file("model")
    }

    /// Requires that the weights are refused before they are run, in a sentence with `words`.
    private func assertRefused(
        _ tensors: [String: Stored], _ words: [String], config: String? = nil, metadata: [String: String] = [:],
        imageSize: String? = nil, line: UInt = #line
    ) throws {
        let path = try write(tensors, config: config, metadata: metadata)
        let found = failure {
            _ = try ModelWeights(path: path).runnableEncoder(heads: 4, imageSize: imageSize.flatMap { ImageSize($0) })
        }
        XCTAssertEqual(found?.code, .badData, found?.message ?? "was accepted", line: line)
        let message = found?.message ?? ""
        for word in words + [path] {
            XCTAssertTrue(message.contains(word), "\(message) says nothing of \(word)", line: line)
        }
        for word in ["download", "image size", "square"] {
            XCTAssertFalse(message.contains(word), "\(message) speaks of \(word)", line: line)
        }
    }

    /// Tell-tale tensors name the family where there is no config.json.
    func testTelltales() throws {
        let plain = try encoder()
        func with(_ more: [String: Stored], without: (String) -> Bool = { _ in false }) -> [String: Stored] {
            plain.filter { !without($0.key) }.merging(more) { _, new in new }
        }
        let scale = [
            "blocks.0.ls1.gamma": zeros(32), "blocks.0.ls2.gamma": zeros(32), "blocks.1.ls1.gamma": zeros(32),
        ]
        try assertRefused(with(scale), ["this is DINOv2", "layer scale"])
        try assertRefused(
            with(scale).merging(["mask_token": zeros(1, 32), "register_tokens": zeros(1, 4, 32)]) { $1 }, ["DINOv2"])
        try assertRefused(
            with(scale.merging(["pos_embed": table(rows: 16)]) { $1 }), ["DeiT III", "position table", "class token"])
        try assertRefused(
            with(["reg_token": zeros(1, 4, 32), "blocks.0.gamma_1": zeros(32)]) { $0 == "pos_embed" }, ["DINOv3"])
        try assertRefused(
            with(["dist_token": zeros(1, 1, 32), "pos_embed": table(rows: 18)]), ["DeiT", "position table"])
        try assertRefused(with(["norm_pre.weight": zeros(32)]), ["CLIP"])
        try assertRefused(
            with(["patch_embed.backbone.stem.conv.weight": zeros(8, 3, 3, 3)]), ["hybrid", "convolutions"])
        try assertRefused(
            with(["blocks_token_only.0.norm1.weight": zeros(32), "blocks.0.gamma_1": zeros(32)]), ["hybrid"])
        try assertRefused(with(["detection_tokens": zeros(1, 9, 32)]), ["detection"])
        try assertRefused(with(["embeddings.token_type_embeddings.weight": zeros(2, 32)]), ["images and words"])
        try assertRefused(
            with(["cls_token": zeros(1, 8, 32), "pos_embed": table(rows: 24)]), ["8 class tokens"])
        try assertRefused(with(["patch_embed.norm.weight": zeros(32)]) { $0 == "cls_token" }, ["class token"])
        try assertRefused(
            with(["attn_pool.latent": zeros(1, 1, 32)]) { $0 == "cls_token" }, ["SigLIP", "class token"])
        try assertRefused(
            with(["blocks.0.attn.q_bias": zeros(32), "blocks.0.attn.v_bias": zeros(32)]), ["BEiT", "EVA"])
        try assertRefused(with(["blocks.0.attn.rel_pos_h": zeros(7, 8)]), ["SAM"])
        try assertRefused(with(["blocks.0.temporal_attn.qkv.weight": zeros(96, 32)]), ["video"])
        try assertRefused(with(["patch_embed.proj.weight": zeros(32, 3, 2, 8, 8)]), ["video"])
        try assertRefused(with(["patch_embed.proj.weight": zeros(32, 8, 8, 3)]), ["MLX", "JAX"])
        try assertRefused(with(["patch_embed.proj.weight": zeros(8, 8, 3, 32)]), ["TensorFlow"])
        try assertRefused(with(["blocks.0.mlp.fc1.weight": zeros(256, 32)]), ["SwiGLU"])
        try assertRefused(with([:]) { $0.hasSuffix("qkv.bias") }, ["without biases"])
        try assertRefused(with(["blocks.0.mlp.fc1.weight": zeros(128, 32, type: .i8)]), ["quantised"])
        try assertRefused(with(["blocks.0.mlp.fc1.SCB": zeros(128, type: .f32)]), ["quantised"])
        try assertRefused(with(["blocks.0.mlp.fc1.lora_A.weight": zeros(4, 32)]), ["LoRA"])
        // Without a patch projection that is known.
        for (name, words) in [
            ("_flat_param", "FSDP"), ("encoder.layers.encoder_layer_0.ln_1.weight", "torchvision"),
            ("vision_model.pre_layrnorm.weight", "CLIP"), ("visual.transformer.resblocks.0.ln_1.weight", "CLIP"),
            ("stages.0.blocks.0.conv_dw.weight", "convolutional"), ("model.embed_tokens.weight", "language"),
            ("base_model.model.encoder.layer.0.query.lora_B.weight", "LoRA"), ("rope_embed.periods", "DINOv3"),
        ] { try assertRefused([name: zeros(32)], [words]) }
        // Nothing of this is in a plain model, nor in one with MAE's mask token, which timm takes for DINOv2's.
        for tensors in [plain, with(["mask_token": zeros(1, 1, 32)])] {
            XCTAssertNoThrow(try ModelWeights(path: write(tensors)).runnableEncoder(heads: 4, imageSize: nil))
        }
    }

    /// The sentence has the type that config.json states, also of a family that nobody described.
    func testModelTypes() throws {
        let plain = try encoder()
        for family in ModelFamily.all {
            for type in family.types {
                try assertRefused(
                    plain, [family.name, "model_type \"\(type)\""], config: "{\"model_type\": \"\(type)\"}")
            }
        }
        try assertRefused(
            ["backbone.x": zeros(3)], ["model_type \"zoedepth\""], config: #"{"model_type": "zoedepth"}"#)
        for type in ["vit", "vit_mae", "vit_msn", "timm_wrapper", "a_name_of_ones_own"] {
            let path = try write(plain, config: "{\"model_type\": \"\(type)\"}")
            XCTAssertNoThrow(try ModelWeights(path: path), type)
        }
        // A config.json is that of a folder's own weights, not of any file beside it.
        let path = try write(plain, config: #"{"model_type": "dinov2"}"#)
        try FileManager.default.moveItem(
            atPath: path + "/model.safetensors", toPath: path + "/other.safetensors")
        XCTAssertNoThrow(try ModelWeights(path: path + "/other.safetensors"))
        let sentence = failure { _ = try ModelWeights(path: path) }?.message
        XCTAssertTrue(sentence?.contains("this is DINOv2") == true, sentence ?? "was accepted")
    }

    /// A table without the class token's row, or with more rows, is never used one off.
    func testPositions() throws {
        var tensors = try encoder()
        for size in [nil, "32x32", "64x64"] {
            for rows in [16, 225] {
                tensors["pos_embed"] = try table(rows: rows)
                try assertRefused(tensors, ["position table has no row for the class token"], imageSize: size)
            }
            tensors["pos_embed"] = try table(rows: 18)
            try assertRefused(tensors, ["position table has 1 row too many"], imageSize: size)
            tensors["pos_embed"] = nil
            try assertRefused(tensors, ["no position table"], imageSize: size)
            for rows in [16, 17] {
                var without = tensors
                without["pos_embed"] = try table(rows: rows)
                without["cls_token"] = nil
                try assertRefused(without, ["no class token"], imageSize: size)
            }
        }
        // 3 × 5 patches and the class token are 16 rows, too; only the image size tells.
        tensors["pos_embed"] = try table(rows: 16)
        let size = try XCTUnwrap(ImageSize("24x40"))
        let encoder = try ModelWeights(path: write(tensors)).runnableEncoder(heads: 4, imageSize: size)
        XCTAssertEqual([encoder.gridRows, encoder.gridColumns], [3, 5])
    }

    /// Hugging Face's BEiT has separate queries, keys and values, and no bias of the keys.
    func testMissingKeyBias() throws {
        let file = try WeightFiles.open(Fixtures.path("weights/huggingface/vit"))
        var tensors: [String: Stored] = [:]
        for entry in file.entries where !entry.name.hasSuffix("key.bias") && !entry.name.hasSuffix("k_proj.bias") {
            tensors[entry.name] = Stored(
                type: entry.type, shape: entry.shape, bytes: try file.withBytes(entry.name) { Array($0) })
        }
        XCTAssertLessThan(tensors.count, file.entries.count)
        try assertRefused(tensors, ["BEiT"])
    }

    /// The size that config.json states tells a missing row where the number of rows does not.
    func testPositionsOfStatedSizes() throws {
        let file = try WeightFiles.open(Fixtures.path("weights/huggingface/vit"))
        var tensors: [String: Stored] = [:]
        for entry in file.entries {
            tensors[entry.name] = Stored(
                type: entry.type, shape: entry.shape, bytes: try file.withBytes(entry.name) { Array($0) })
        }
        let name = "embeddings.position_embeddings"
        func config(_ size: String) -> String { "{\"model_type\": \"vit\", \"image_size\": \(size)}" }
        for (rows, size, words) in [
            (16, "[24, 40]", nil), (17, "32", nil), (15, "[24, 40]", "no row for the class token"),
            (17, "[24, 40]", "1 row too many"), (20, "[24, 40]", "4 rows too many"), (16, "32", "no row for the class"),
        ] as [(Int, String, String?)] {
            tensors[name] = zeros(1, rows, 32, type: tensors[name]!.type)
            if let words {
                try assertRefused(tensors, ["position table", words], config: config(size))
            } else {
                let path = try write(tensors, config: config(size))
                XCTAssertNoThrow(try ModelWeights(path: path).runnableEncoder(heads: 4, imageSize: nil), size)
            }
        }
    }
}
