import Foundation
import Tensors
import TestSupport
import Interchange
import Models
import Weights
import XCTest

final class NamingSchemeTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// Files that PyTorch, timm and transformers wrote of one model (Fixtures/weights): path, type, recognised names,
    /// and the parts they hold beside the encoder.
    private static let files: [(path: String, type: TensorType, names: String, parts: [String])] = [
        ("mae/mae.safetensors", .f32, "MAE names", ["decoder"]),
        ("mae/encoder.pth", .f16, "MAE names under model", []),
        ("mae/checkpoint.pth", .f32, "MAE names under model", ["decoder"]),
        ("dmae/distilled.pth", .bf16, "MAE names under state_dict.module.student", ["decoder", "projection"]),
        ("timm/timm.safetensors", .f16, "timm names", ["head"]),
        ("huggingface/vitmae", .f16, "Hugging Face names", ["decoder"]),
        ("huggingface/vitmae-sharded", .f16, "Hugging Face names", ["decoder"]),
        ("huggingface/vitmae-published", .bf16, "Hugging Face names", ["decoder"]),
        ("huggingface/vit", .bf16, "Hugging Face names", []),
        ("huggingface/vit-classifier", .f16, "Hugging Face names", ["head"]),
        ("mmpretrain/mmpretrain.pth", .f16, "mmpretrain names under state_dict", ["decoder"]),
    ]

    /// Writes a file of small tensors with these names and shapes.
    private func write(_ tensors: [(String, [Int])], _ name: String = "x.safetensors", metadata: [String: String] = [:])
        throws -> String
    {
        let values = [Float](repeating: 1, count: 4096)
        try values.withUnsafeBufferPointer { buffer in
            var writer = SafeTensorsWriter(metadata: metadata)
            for (name, shape) in tensors {
                writer.add(name, shape: shape, floats: UnsafeBufferPointer(rebasing: buffer[..<shape.reduce(1, *)]))
            }
            try writer.write(to: folder.file(name))
        }
        return folder.file(name)
    }

    private func tensors(_ names: [String], role: NamingScheme.Role = .student) throws -> CanonicalWeightFile {
        try CanonicalWeightFile(WeightFiles.open(write(names.map { ($0, [1]) })), role: role)
    }

    /// Every file has the same tensors under MAE's names: the values of the f32 file, rounded to its type.
    func testFilesOfEveryTool() throws {
        let whole = try SafeTensorsFile(path: Fixtures.path("weights/mae/mae.safetensors"))
        for (path, type, names, parts) in Self.files {
            let found = try CanonicalWeightFile(WeightFiles.open(Fixtures.path("weights/" + path)))
            XCTAssertEqual(found.detection.description, names, path)
            XCTAssertEqual(found.unknown, [], path)
            XCTAssertEqual(found.outside > 0, path.hasSuffix("checkpoint.pth"), path)
            var expected = Set(whole.names)
            if !parts.contains("decoder") {
                expected = expected.filter { !$0.hasPrefix("decoder_") && $0 != "mask_token" }
            }
            if parts.contains("head") { expected.formUnion(["head.weight", "head.bias"]) }
            if parts.contains("projection") {
                expected.formUnion(["weight", "bias"].map { "aligned_feature_projection_heads.0.\($0)" })
            }
            XCTAssertEqual(Set(found.names), expected, path)
            // Half a unit in the last place: relative for normal numbers, absolute for subnormal ones.
            let (relative, absolute): (Float, Float) = [.f32: (0, 0), .f16: (0x1p-11, 0x1p-25), .bf16: (0x1p-8, 0)][
                type]!
            for entry in whole.entries where expected.contains(entry.name) {
                XCTAssertEqual(found[entry.name]?.shape, entry.shape, "\(path): \(entry.name)")
                XCTAssertEqual(found[entry.name]?.type, type, "\(path): \(entry.name)")
                let (own, their) = (try whole.floats(entry.name), try found.floats(entry.name))
                for (a, b) in zip(own, their) where (a - b).magnitude > max(relative * a.magnitude, absolute) {
                    XCTFail("\(path): \(entry.name) holds \(b) for \(a)")
                    break
                }
            }
        }
    }

    /// The bytes of a joined tensor are those of its row-thirds in order.
    func testJoinedBytes() throws {
        let file = try CanonicalWeightFile(WeightFiles.open(Fixtures.path("weights/huggingface/vitmae")))
        let name = "blocks.1.attn.qkv.weight"
        let parts = file.sourceNames(name)
        XCTAssertEqual(parts.map { $0.split(separator: ".").dropLast().last! }, ["query", "key", "value"])
        let expected = try parts.flatMap { part in try file.file.withBytes(part) { Array($0) } }
        XCTAssertEqual(try file.withBytes(name) { Array($0) }, expected)
        XCTAssertEqual(expected.count, 3 * 32 * 32 * 2)
    }

    /// A scheme reads every name that it writes, as the same row-third of the same tensor.
    func testTablesInBothDirections() {
        let sizes = EncoderConfiguration(
            width: 8, depth: 32, heads: 1, patchSize: 2, imageHeight: 4, imageWidth: 4)
        let pairs = (0..<3).map { AlignedPair(studentBlock: $0, teacherBlock: $0) }
        let parts: [ModelLayout] =
            [
                .encoder(sizes, norms: ["norm", "fc_norm"]), .classHead(width: 8, classes: 2),
                .linearProbe(width: 8, classes: 2),
                .decoder(DecoderConfiguration(width: 8, depth: 8, heads: 1), of: sizes),
            ]
            + [Projection.linear, .mlp].map {
                .projectionHeads(
                    AlignmentConfiguration(pairs: pairs, projection: $0), studentWidth: 8, teacherWidth: 8)
            }
        let names = parts.flatMap { $0.entries.map(\.name) }
        for name in names { XCTAssertEqual(NamingScheme.mae.names(name), [name]) }
        for scheme in NamingScheme.all {
            var own: [String] = []
            for name in names {
                let written = scheme.names(name)
                for (index, text) in written.enumerated() {
                    XCTAssertEqual(scheme.canonical(text)?.name, name, scheme.name)
                    XCTAssertEqual(scheme.canonical(text)?.third, written.count == 3 ? index : nil, text)
                }
                own += written
            }
            XCTAssertEqual(Set(own).count, own.count, "\(scheme.name) gives a name twice")
            XCTAssertGreaterThanOrEqual(own.count, ModelLayout.encoder(sizes).entries.count, scheme.name)
        }
        XCTAssertEqual(NamingScheme.mae.names("blocks.3.attn.qkv.bias"), ["blocks.3.attn.qkv.bias"])
        XCTAssertEqual(
            NamingScheme.huggingFace(prefixed: true).names("blocks.3.attn.qkv.bias"),
            ["query", "key", "value"].map { "vit.encoder.layer.3.attention.attention.\($0).bias" })
        XCTAssertEqual(
            NamingScheme.mmpretrain.names("blocks.3.mlp.fc1.weight"), ["backbone.layers.3.ffn.layers.0.0.weight"])
        for name in [
            "blocks.x.norm1.weight", "blocks.01.norm1.weight", "blocks.0.norm1", "blocks.0.norm1.weight.x",
            "norm.scale", "",
        ] {
            XCTAssertNil(NamingScheme.mae.canonical(name), name)
        }
    }

    /// A trained model is preferred to its average, a teacher of its student's size to the student; of other sizes the
    /// role decides.
    func testWrappers() throws {
        func wrapper(
            _ names: [String], _ role: NamingScheme.Role = .student, prefix: String? = nil, further: [String] = []
        ) throws -> String {
            let path = try write((names.map { $0 + "patch_embed.proj.weight" } + further).map { ($0, [1]) })
            return try CanonicalWeightFile(WeightFiles.open(path), role: role, prefix: prefix).detection.wrapper
        }
        XCTAssertEqual(try wrapper(["model.", "model_ema."]), "model.")
        XCTAssertEqual(try wrapper(["student.", "teacher."]), "teacher.")
        XCTAssertEqual(try wrapper(["student.", "teacher."], further: ["student.decoder_pred.weight"]), "student.")
        XCTAssertEqual(
            try wrapper(["student.", "teacher."], .teacher, further: ["student.decoder_pred.weight"]), "teacher.")
        XCTAssertEqual(try wrapper(["student.", "teacher."], further: ["teacher.blocks.0.norm1.bias"]), "teacher.")
        XCTAssertEqual(
            try wrapper(
                ["student.", "teacher."],
                further: ["teacher.blocks.0.norm1.bias", "student.blocks.0.norm1.bias", "teacher.blocks.1.norm1.bias"]),
            "student.")
        XCTAssertEqual(try wrapper(["teacher."]), "teacher.")
        XCTAssertEqual(try wrapper(["model_ema.module."]), "model_ema.module.")
        XCTAssertEqual(try wrapper(["", "ema."]), "")
        for (names, expected) in [
            (["backbone.", "momentum_backbone."], "backbone."),
            (["module.base_encoder.", "module.momentum_encoder."], "module.base_encoder."),
            (["encoder.module.", "target_encoder.module."], "encoder.module."),
            (["encoder_k.", "encoder_q."], "encoder_q."), (["target_network.", "online_network."], "online_network."),
            (["state_dict_ema.", "state_dict."], "state_dict."),
            (["backbone_momentum.", "backbone."], "backbone."),
            (["student_backbone.", "teacher_backbone."], "teacher_backbone."),
            (["swa_model.module.", "model."], "model."), (["wild.words."], "wild.words."),
            (["wild.words.", "net."], "net."),
            // Words of wrappers stay where they tell two models apart.
            (["module.model.", "model."], "model."),
            // An optimiser's state is no model.
            (["optimizer.exp_avg.", "schema.semantic."], "schema.semantic."),
        ] {
            XCTAssertEqual(try wrapper(names), expected)
            XCTAssertEqual(try wrapper(names.reversed()), expected)
            for name in names where !name.hasPrefix("optimizer") {
                XCTAssertEqual(try wrapper(names, prefix: name), name)
                XCTAssertEqual(try wrapper(names, prefix: String(name.dropLast())), name)
            }
        }
        // The first words of a prefix are enough, and those of wrappers need not be there.
        let dino = ["student.module.backbone.", "teacher.backbone."]
        for prefix in ["student", "student.", "student.module", "student.backbone"] {
            XCTAssertEqual(try wrapper(dino, prefix: prefix), dino[0])
        }
        XCTAssertEqual(try wrapper(dino), dino[1])
        // mmcv's average has underscores for points.
        let flat = ["ema_backbone_patch_embed_projection_weight", "backbone.patch_embed.projection.weight"]
        XCTAssertEqual(try wrapper([], further: flat), "")
        for prefix in ["ema", "ema_", "ema_backbone", "ema_backbone_"] {
            XCTAssertEqual(try wrapper([], prefix: prefix, further: flat), "ema.")
        }
        let several = try tensors(["student.module.", "teacher."].map { $0 + "patch_embed.proj.weight" })
        XCTAssertEqual(several.detection.description, "MAE names under teacher, not those under student.module")
        XCTAssertEqual(several.outside, 1)
        // An encoder alone is MAE's with a wrapper and timm's without one.
        XCTAssertEqual(try tensors(["model.patch_embed.proj.weight"]).detection.scheme, .mae)
        XCTAssertEqual(try tensors(["patch_embed.proj.weight", "norm.weight"]).detection.scheme, .timm)
        XCTAssertEqual(try tensors(["patch_embed.proj.weight", "mask_token"]).detection.scheme, .mae)
    }

    /// Words that wrappers of modules leave at any place of a name are no part of it.
    func testWrapperWordsWithinNames() throws {
        let file = try SafeTensorsFile(path: Fixtures.path("weights/mae/mae.safetensors"))
        let plain = try CanonicalWeightFile(file)
        func insert(_ words: String, _ place: Int, _ name: String) -> String {
            var parts = name.components(separatedBy: ".")
            parts.insert(words, at: min(place, parts.count - 1))
            return parts.joined(separator: ".")
        }
        for (place, words) in [
            (0, "_fsdp_wrapped_module"), (2, "_checkpoint_wrapped_module"), (1, "_orig_mod"), (3, "module"),
            (2, "_fsdp_wrapped_module._checkpoint_wrapped_module"),
        ] {
            var writer = SafeTensorsWriter()
            for entry in file.entries {
                writer.add(
                    TensorSource(name: insert(words, place, entry.name), type: entry.type, shape: entry.shape) {
                        try file.withBytes(entry.name, $0)
                    })
            }
            try writer.write(to: folder.file("wrapped.safetensors"))
            let found = try CanonicalWeightFile(WeightFiles.open(folder.file("wrapped.safetensors")))
            XCTAssertEqual(Set(found.names), Set(plain.names), words)
            XCTAssertEqual(found.unknown, [], words)
            XCTAssertEqual(found.detection.scheme, .mae)
            for name in plain.names {
                XCTAssertEqual(try found.floats(name), try plain.floats(name), "\(words) \(name)")
            }
        }
    }

    /// A backbone that mmselfsup's tool extracted, and the projection heads of DINO and MoCo v3.
    func testBackbonesAndProjectionHeads() throws {
        let stripped = try tensors([
            "patch_embed.projection.weight", "layers.0.ln1.weight", "layers.0.attn.qkv.bias",
            "layers.0.ffn.layers.0.0.weight", "layers.0.ffn.layers.1.bias", "ln1.weight",
        ])
        XCTAssertEqual(stripped.detection.description, "mmpretrain names")
        XCTAssertEqual(
            Set(stripped.names),
            [
                "patch_embed.proj.weight", "blocks.0.norm1.weight", "blocks.0.attn.qkv.bias", "blocks.0.mlp.fc1.weight",
                "blocks.0.mlp.fc2.bias", "norm.weight",
            ])
        let heads = [
            ["head.mlp.0.weight", "head.last_layer.weight_v"],
            ["head.0.weight", "head.1.weight", "head.1.bias", "head.1.running_mean", "head.3.weight"],
        ]
        for head in heads {
            let found = try tensors((["patch_embed.proj.weight"] + head).map { "base_encoder." + $0 })
            XCTAssertTrue(found.hasProjection)
            XCTAssertEqual(found.names, ["patch_embed.proj.weight"])
            XCTAssertEqual(found.unknown, head.map { "base_encoder." + $0 })
            XCTAssertEqual(found.foreign, [])
        }
        let probe = try tensors([
            "patch_embed.proj.weight", "head.0.running_mean", "head.0.running_var", "head.1.weight", "head.1.bias",
        ])
        XCTAssertFalse(probe.hasProjection)
        XCTAssertEqual(probe.names.count, 5)
    }

    /// Tensors outside the model, unknown names and parts of another architecture are told apart.
    func testWhatDoesNotBelong() throws {
        let found = try tensors([
            "patch_embed.proj.weight", "optimizer.first_moment.norm.weight", "blocks.0.ls1.gamma", "reg_token",
            "rope_cache.x", "head.scale",
        ])
        XCTAssertEqual(found.outside, 1)
        XCTAssertEqual(found.unknown, ["blocks.0.ls1.gamma", "reg_token", "rope_cache.x", "head.scale"])
        XCTAssertEqual(found.foreign, ["blocks.0.ls1.gamma", "reg_token"])
    }

    func testRefusals() throws {
        func refused(_ names: [(String, [Int])], _ words: String..., line: UInt = #line) throws {
            let path = try write(names)
            let found = failure { _ = try CanonicalWeightFile(WeightFiles.open(path)) }
            XCTAssertEqual(found?.code, .badData, line: line)
            for word in words + [path] {
                XCTAssertTrue(
                    found?.message.contains(word) == true, "\(found?.message ?? "accepted") says nothing of \(word)",
                    line: line)
            }
        }
        try refused(
            [("conv1.weight", [1]), ("fc.weight", [1])], "no Vision Transformer", "patch_embed.proj.weight",
            "vit.embeddings.", "\"conv1.weight\"")
        let anchor = ("embeddings.patch_embeddings.projection.weight", [1])
        let query = "encoder.layer.0.attention.attention.query.bias",
            key = "encoder.layer.0.attention.attention.key.bias"
        let value = "encoder.layer.0.attention.attention.value.bias"
        try refused([anchor, (query, [2]), (value, [2])], "but not all of query, key and value", query)
        try refused([anchor, (query, [2]), (key, [3]), (value, [2])], "different shapes")
        try refused([anchor, (query, []), (key, []), (value, [])], "different shapes")
        try refused([anchor, (key, [2]), ("layers.0.attention.k_proj.bias", [2])], "blocks.0.attn.qkv.bias twice")
    }
}
