import Interchange
import Reporting
import Foundation
import Models
import Tensors
import TestSupport
import Weights
import XCTest

/// Sizes recognised in files, and weights adapted to other images.
final class ModelWeightsTests: XCTestCase {
    private let folder = TemporaryFolder()
    private static let encoder = EncoderConfiguration(
        width: 32, depth: 3, heads: 0, patchSize: 8, imageHeight: 32, imageWidth: 32)

    private func fixture(_ name: String) throws -> ModelWeights {
        try ModelWeights(path: Fixtures.path("weights/" + name))
    }

    /// Writes the parameters of a model, or some of them, with metadata.
    private func write(
        _ model: RandomModel, _ name: String = "weights.safetensors", metadata: [String: String] = [:],
        keeping: (String) -> Bool = { _ in true }
    ) throws -> String {
        var writer = SafeTensorsWriter(metadata: metadata)
        for parameter in model.parameters.all where keeping(parameter.name) {
            writer.add(parameter.name, shape: parameter.shape, floats: UnsafeBufferPointer(parameter.weight.elements))
        }
        try withExtendedLifetime(model) { try writer.write(to: folder.file(name)) }
        return folder.file(name)
    }

    /// One model written by every tool has the same sizes; its heads are known if a config.json states them.
    func testSizesOfEveryFile() throws {
        let decoder = DecoderConfiguration(width: 16, depth: 2, heads: 0)
        for (path, heads, hasDecoder) in [
            ("mae/mae.safetensors", 0, true), ("mae/encoder.pth", 0, false), ("mae/checkpoint.pth", 0, true),
            ("dmae/distilled.pth", 0, true), ("timm/timm.safetensors", 0, false), ("huggingface/vitmae", 4, true),
            ("huggingface/vitmae-sharded", 4, true), ("huggingface/vitmae-published", 4, true),
            ("huggingface/vit", 4, false),
            ("huggingface/vit-classifier", 4, false), ("mmpretrain/mmpretrain.pth", 0, true),
        ] {
            let weights = try fixture(path)
            var expected = Self.encoder
            expected.heads = heads
            XCTAssertEqual(weights.encoder, expected, path)
            XCTAssertEqual(weights.imageSizeIsTold, heads > 0, path)
            var wanted = decoder
            wanted.heads = heads
            XCTAssertEqual(weights.decoder, hasDecoder ? wanted : nil, path)
            XCTAssertEqual(weights.classes, path.hasPrefix("timm") || path.hasSuffix("classifier") ? 10 : nil, path)
            XCTAssertEqual(weights.projectionHeads, path.hasPrefix("dmae") ? 1 : 0, path)
            XCTAssertNoThrow(try weights.requireWhole(), path)
            XCTAssertEqual(failure { try weights.requireDecoder() } == nil, hasDecoder, path)
            // Stated by the training checkpoint's arguments and by Hugging Face's config.json.
            let tells = path == "mae/checkpoint.pth" || heads > 0 && hasDecoder
            XCTAssertEqual(weights.maskRatio, tells ? 0.75 : nil, path)
            XCTAssertEqual(weights.normalizePixels, tells ? false : nil, path)
        }
        XCTAssertEqual(
            try fixture("dmae/distilled.pth").architecture,
            "ViT of width 32, 3 blocks, heads unknown, patches of 8 pixels, images of 32×32, 3 channels; decoder of "
                + "width 16, 2 blocks, "
                + "heads unknown; 1 projection head")
        let tuned = try fixture("mae/finetuned.pth")
        XCTAssertEqual(tuned.encoder.depth, 1)
        XCTAssertEqual(tuned.classes, 10)
        XCTAssertNoThrow(try tuned.requireWhole())
        let message = failure { try fixture("mae/encoder.pth").requireDecoder() }?.message
        XCTAssertTrue(
            message?.contains("an encoder alone is enough for `dmae distill teacher`") == true, message ?? "")
    }

    /// Published sizes have the heads and the name of their preset.
    func testHeadsOfPresets() throws {
        for (width, heads) in [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16), (100, 0)] {
            let path = folder.file("width.safetensors")
            let values = [Float](repeating: 0, count: 3 * 16 * 16 * 1280)
            try values.withUnsafeBufferPointer { buffer in
                var writer = SafeTensorsWriter()
                for (name, shape) in [
                    ("patch_embed.proj.weight", [width, 3, 16, 16]), ("blocks.0.norm1.weight", [width]),
                    ("pos_embed", [1, 5, width]),
                    ("decoder_embed.weight", [512, width]), ("decoder_pred.weight", [768, 512]),
                ] {
                    writer.add(name, shape: shape, floats: UnsafeBufferPointer(rebasing: buffer[..<shape.reduce(1, *)]))
                }
                try writer.write(to: path)
            }
            let weights = try ModelWeights(path: path)
            XCTAssertEqual(weights.encoder.heads, heads, "width \(width)")
            XCTAssertEqual(weights.decoder?.heads, 16)
            XCTAssertEqual(weights.encoder.imageHeight, 32)
        }
    }

    /// Stated sizes take precedence over guessed ones, and the name of one of MAE's files is only a hint.
    func testMetadataAndHints() throws {
        let configuration = ModelConfiguration.small(
            teacherWidth: nil, pairs: [], maskRatio: 0.4, normalizePixels: true)
        let model = try RandomModel(configuration, batch: 1, seed: 5)
        let json = String(decoding: try configuration.sortedJSON(), as: UTF8.self)
        let told = try ModelWeights(path: write(model, metadata: ["dmae.configuration": json]))
        XCTAssertEqual(told.encoder, configuration.student)
        XCTAssertEqual(told.decoder, configuration.decoder)
        XCTAssertEqual(told.maskRatio, 0.4)
        XCTAssertEqual(told.normalizePixels, true)
        XCTAssertTrue(told.imageSizeIsTold)
        // 3 × 4 patches are not a square grid.
        let untold = try ModelWeights(path: write(model, "mae_pretrain_vit_base_full.safetensors"))
        XCTAssertEqual(untold.encoder.imageHeight, 0)
        XCTAssertEqual(untold.encoder.heads, 0)
        XCTAssertTrue(untold.hint?.description.contains("normalize pixels fits it") == true)
        XCTAssertTrue(
            try ModelWeights(path: write(model, "mae_visualize_vit_large.safetensors")).hint?.description.contains(
                "raw pixels")
                == true)
        XCTAssertNil(told.hint)
        let alone = try ModelWeights(
            path: write(model, "mae_pretrain_vit_huge_full.safetensors") { !$0.hasPrefix("decoder_") })
        XCTAssertNil(alone.hint)
        // A config.json that is not a configuration.
        try FileManager.default.createDirectory(atPath: folder.file("vit"), withIntermediateDirectories: true)
        for name in ["config.json", "model.safetensors"] {
            try FileManager.default.copyItem(
                atPath: Fixtures.path("weights/huggingface/vit/" + name), toPath: folder.file("vit/" + name))
        }
        for (text, words) in [
            ("{", "is not the configuration"), (#"{"image_size": [1, 2, 3]}"#, "is not the configuration"),
            (#"{"hidden_act": "relu"}"#, "asks for the activation \"relu\""),
        ] {
            folder.write(text.utf8, "vit/config.json")
            let found = failure { _ = try ModelWeights(path: folder.file("vit")) }
            XCTAssertEqual(found?.code, .badData, text)
            XCTAssertTrue(found?.message.contains(words) == true, found?.message ?? "accepted")
        }
        try FileManager.default.removeItem(atPath: folder.file("vit/config.json"))
        XCTAssertEqual(try ModelWeights(path: folder.file("vit")).encoder, Self.encoder)
    }

    /// Flags complete a file's sizes and never override them.
    func testWhatFlagsSay() throws {
        // 3 × 4 patches of 4 pixels, 3 heads, a decoder of 2 heads: no preset has these sizes.
        let configuration = ModelConfiguration.small(teacherWidth: nil, pairs: [])
        let model = try RandomModel(configuration, batch: 1, seed: 10)
        let json = String(decoding: try configuration.sortedJSON(), as: UTF8.self)
        let told = try ModelWeights(path: write(model, "told.safetensors", metadata: ["dmae.configuration": json]))
        let untold = try ModelWeights(path: write(model, "untold.safetensors"))
        func size(_ height: Int, _ width: Int) -> ImageSize { ImageSize(height: height, width: width) }
        XCTAssertEqual(try told.runnableEncoder(heads: nil, imageSize: nil), configuration.student)
        for weights in [told, untold] {
            XCTAssertEqual(try weights.runnableEncoder(heads: 3, imageSize: size(12, 16)), configuration.student)
            XCTAssertEqual(try weights.runnableDecoder(heads: 2), configuration.decoder)
        }
        func refused(_ words: String, line: UInt = #line, _ body: () throws -> Void) {
            let found = failure(body)
            XCTAssertEqual(found?.code, .usage, words, line: line)
            XCTAssertTrue(found?.message.contains(words) == true, found?.message ?? "accepted: \(words)", line: line)
        }
        refused("heads is needed") { _ = try untold.runnableEncoder(heads: nil, imageSize: size(12, 16)) }
        refused("decoder heads is needed") { _ = try untold.runnableDecoder(heads: nil) }
        refused("does not say the image size, and its patches form no square") {
            _ = try untold.runnableEncoder(heads: 3, imageSize: nil)
        }
        let bare = try ModelWeights(path: write(model, "bare.safetensors") { $0 != "pos_embed" })
        refused("does not say the image size, and it has no position table") {
            _ = try bare.runnableEncoder(heads: 3, imageSize: nil)
        }
        refused("teacher width 16 contradicts \(bare.path), whose width is 12") {
            try bare.requireWidth(16, by: "\(.teacherWidth, 16)")
        }
        refused("which holds 3 blocks: leave it out, or lower it") {
            try bare.requireBlocks(4, by: "\(.teacherDepth, 4)")
        }
        XCTAssertNoThrow(try bare.requireWidth(12, by: "\(.teacherWidth, 12)"))
        XCTAssertNoThrow(try bare.requireBlocks(2, by: "\(.teacherDepth, 2)"))
        refused("heads 4 contradicts") { _ = try told.runnableEncoder(heads: 4, imageSize: nil) }
        refused("decoder heads 4 contradicts") { _ = try told.runnableDecoder(heads: 4) }
        refused("5 heads do not divide the width 12") {
            _ = try untold.runnableEncoder(heads: 5, imageSize: size(12, 16))
        }
        // Another grid of as many patches is accepted only if the file does not state its own.
        refused("image size 16x12 contradicts") { _ = try told.runnableEncoder(heads: nil, imageSize: size(16, 12)) }
        XCTAssertEqual(try untold.runnableEncoder(heads: 3, imageSize: size(16, 12)).gridRows, 4)
        for resampling in [false, true] {
            refused("image size 16x16 makes 16 patches of 4 pixels") {
                _ = try untold.runnableEncoder(heads: 3, imageSize: size(16, 16), resampling: resampling)
            }
            for sides in [size(10, 16), size(12, 0), size(1 << 62, 12)] {
                refused("multiples of its patches' 4 pixels") {
                    _ = try untold.runnableEncoder(heads: 3, imageSize: sides, resampling: resampling)
                }
            }
        }
        var larger = configuration.student
        (larger.imageHeight, larger.imageWidth) = (24, 16)
        XCTAssertEqual(try told.runnableEncoder(heads: nil, imageSize: size(24, 16), resampling: true), larger)
        refused("do not tile an image of 10×16") {
            _ = try told.runnableEncoder(heads: nil, imageSize: size(10, 16), resampling: true)
        }
        // A square grid is only guessed; another grid of as many patches is accepted.
        let square = try RandomModel(
            .small(imageHeight: 16, imageWidth: 16, teacherWidth: nil, pairs: []), batch: 1, seed: 11)
        let guessed = try ModelWeights(path: write(square, "square.safetensors"))
        XCTAssertEqual(try guessed.runnableEncoder(heads: 3, imageSize: nil).imageWidth, 16)
        XCTAssertEqual(try guessed.runnableEncoder(heads: 3, imageSize: size(8, 32)).imageWidth, 32)
        refused("image size 32x32 makes 64 patches") {
            _ = try guessed.runnableEncoder(heads: 3, imageSize: size(32, 32))
        }
        // No flag replaces a missing decoder.
        let encoder = try ModelWeights(path: write(square, "encoder.safetensors") { !$0.hasPrefix("decoder_") })
        XCTAssertEqual(failure { _ = try encoder.runnableDecoder(heads: 2) }?.code, .badData)
    }

    /// A model with another grid of as many patches: a stated grid is resampled, a guessed one is not.
    func testGrids() throws {
        let wide = ModelConfiguration.small(imageHeight: 8, imageWidth: 32, teacherWidth: nil, pairs: [])
        let source = try RandomModel(wide, batch: 1, seed: 6)
        let square = ModelConfiguration.small(imageHeight: 16, imageWidth: 16, teacherWidth: nil, pairs: [])
        let target = try RandomModel(square, batch: 1, seed: 7)
        let plain = try target.parameters.load(from: ModelWeights(path: write(source)), for: wide.student)
        XCTAssertEqual(plain.adaptations, [])
        let json = String(decoding: try wide.sortedJSON(), as: UTF8.self)
        let told = try ModelWeights(path: write(source, metadata: ["dmae.configuration": json]))
        XCTAssertEqual(told.encoder, wide.student)
        let table = try XCTUnwrap(source.parameters.all.first { $0.name == "pos_embed" })
        let adapted = try target.parameters.load(from: told, for: square.student)
        XCTAssertEqual(adapted.adaptations, ["position tables resampled from 2×8 to 4×4 patches"])
        var expected = [Float](repeating: 0, count: table.weight.count)
        expected.withUnsafeMutableBufferPointer {
            PositionTable.resample(
                UnsafeBufferPointer(table.weight.elements), rows: 2, columns: 8, into: $0, rows: 4, columns: 4,
                width: 12)
        }
        XCTAssertEqual(target.parameters.all.first { $0.name == "pos_embed" }?.weight.values, expected)
    }

    /// Another image size and other channels at once: tables and projection are adapted, all else is copied.
    func testAdaptedLoading() throws {
        let weights = try fixture("huggingface/vit")
        let plan = MemoryPlan()
        var sizes = weights.encoder
        (sizes.imageHeight, sizes.imageWidth, sizes.channels) = (48, 64, 1)
        let student = EncoderConfiguration(
            width: 8, depth: 1, heads: 2, patchSize: 8, imageHeight: 48, imageWidth: 64, channels: 1)
        let observed = try ObservedModel(
            ModelConfiguration(
                student: student, decoder: DecoderConfiguration(width: 8, depth: 1, heads: 2), teacher: sizes,
                alignment: AlignmentConfiguration(pairs: [AlignedPair(studentBlock: 0, teacherBlock: 1)])), batch: 1,
            plan: plan)
        try plan.commit()
        let teacher = try XCTUnwrap(observed.teacherParameters)
        let loading = try teacher.load(from: weights, for: sizes)
        XCTAssertEqual(
            Set(loading.adaptations),
            ["position tables resampled from 4×4 to 6×8 patches", "input channels summed, from 3 to 1"])
        XCTAssertTrue(loading.matching.unexpected.contains("blocks.2.norm1.weight"))
        let projection = try weights.tensors.floats("patch_embed.proj.weight")
        // A frozen model keeps its matrices packed only, so the class token is compared.
        XCTAssertEqual(
            teacher.all.first { $0.name == "cls_token" }?.weight.values, try weights.tensors.floats("cls_token"))
        XCTAssertEqual(projection.count, 32 * 3 * 64)
        // The original model on grey images as three equal channels gives the features of the adapted model.
        var colour = weights.encoder
        (colour.imageHeight, colour.imageWidth) = (48, 64)
        func features(_ encoder: EncoderConfiguration, _ image: [Float]) throws -> [Float] {
            let plan = MemoryPlan()
            let extractor = try FeatureExtractor(encoder, at: .norm, pool: .class, batch: 1, plan: plan)
            try plan.commit()
            _ = try extractor.parameters.load(from: weights, for: encoder)
            for (index, value) in image.enumerated() { extractor.images.pointer[index] = value }
            extractor.forward()
            return extractor.features.values
        }
        var random = CounterRandom(seed: testSeed(8), purpose: .test)
        let grey = (0..<48 * 64).map { _ in Float(random.normal()) }
        let (one, three) = (try features(sizes, grey), try features(colour, grey + grey + grey))
        // Three blocks with sums of up to 192 terms: a hundred roundings of values of a few units.
        for (a, b) in zip(one, three) { XCTAssertEqual(a, b, accuracy: 100 * Float(4).ulp) }
    }

    func testRefusals() throws {
        let model = try RandomModel(.small(teacherWidth: nil, pairs: []), batch: 1, seed: 9)
        func refused(
            _ path: String, _ words: String, line: UInt = #line, _ check: (ModelWeights) throws -> Void = { _ in }
        ) {
            let found = failure { try check(ModelWeights(path: path)) }
            XCTAssertEqual(found?.code, .badData, line: line)
            XCTAssertTrue(found?.message.contains(words) == true, found?.message ?? "accepted", line: line)
            XCTAssertTrue(found?.message.contains(path) == true, found?.message ?? "accepted", line: line)
        }
        refused(try write(model) { !$0.hasPrefix("blocks.0.") }, "blocks are missing")
        refused(try write(model) { !$0.hasPrefix("blocks.") }, "no transformer block")
        refused(try write(model) { $0 != "decoder_embed.weight" }, "the tensor decoder_embed.weight is missing")
        refused(try write(model) { $0 != "cls_token" }, "holds no class token (cls_token)") { try $0.requireWhole() }
        for name in ["norm.bias", "blocks.1.attn.qkv.bias", "mask_token", "decoder_norm.weight"] {
            refused(try write(model) { $0 != name }, "the tensor \(name) is missing") { try $0.requireWhole() }
        }
        // Parts of another architecture, and inconsistent shapes.
        func written(_ change: (inout [(String, [Int])]) -> Void) throws -> String {
            var list = model.parameters.all.map { ($0.name, $0.shape) }
            change(&list)
            let values = [Float](repeating: 0, count: list.map { $0.1.reduce(1, *) }.max()!)
            try values.withUnsafeBufferPointer { buffer in
                var writer = SafeTensorsWriter()
                for (name, shape) in list {
                    writer.add(name, shape: shape, floats: UnsafeBufferPointer(rebasing: buffer[..<shape.reduce(1, *)]))
                }
                try writer.write(to: folder.file("changed.safetensors"))
            }
            return folder.file("changed.safetensors")
        }
        func reshape(_ name: String, _ shape: [Int]) throws -> String {
            try written { $0[$0.firstIndex { $0.0 == name }!].1 = shape }
        }
        refused(try written { $0.append(("blocks.0.ls1.gamma", [12])) }, "this is DINOv2")
        refused(try written { $0.append(("blocks.0.wild.gamma", [12])) }, "\"blocks.0.wild.gamma\"") {
            try $0.requireWhole()
        }
        refused(try reshape("patch_embed.proj.weight", [12, 3, 4, 2]), "square ones")
        refused(try reshape("patch_embed.proj.weight", [12, 48]), "has 2 dimensions instead of 4")
        refused(try reshape("pos_embed", [13, 12]), "its position table has shape [13, 12]")
        refused(
            try reshape("blocks.0.mlp.fc1.weight", [24, 12]),
            "the hidden layer of its MLPs is 24 wide. dmae runs Vision Transformers whose MLPs are four times as wide as "
                + "the model, here 48")
        // Empty tensors, whose other dimensions can have any value.
        refused(try reshape("patch_embed.proj.weight", [0, 1 << 40, 4, 4]), "patch_embed.proj.weight is empty")
        refused(try reshape("decoder_embed.weight", [1 << 59, 0]), "decoder_embed.weight is empty")
        let heads = EncoderConfiguration(width: 12, depth: 3, heads: 5, patchSize: 4, imageHeight: 12, imageWidth: 16)
        let json = String(
            decoding: try ModelConfiguration(
                student: heads, decoder: DecoderConfiguration(width: 16, depth: 1, heads: 2)
            ).sortedJSON(),
            as: UTF8.self)
        refused(
            try write(model, metadata: ["dmae.configuration": json]),
            "5 attention heads, which do not divide its width of 12")
        // An image size whose sides cannot be multiplied without overflow.
        let absurd = json.replacing("\"heads\":5", with: "\"heads\":3").replacing(
            "\"imageHeight\":12", with: "\"imageHeight\":\(1 << 62)")
        let path = try write(model, metadata: ["dmae.configuration": absurd]) { !$0.hasSuffix("pos_embed") }
        XCTAssertEqual(try ModelWeights(path: path).encoder.imageHeight, 0)
        refused(try reshape("blocks.1.attn.proj.weight", [12, 13]), "has shape [12, 13]") { try $0.requireWhole() }
        // Both norms: allowed if the names are kept, refused if one of them has to be the last.
        func bothNorms(_ shape: [Int], _ ends: [String] = ["weight", "bias"]) throws -> String {
            try written { list in for end in ends { list.append(("fc_norm.\(end)", shape)) } }
        }
        refused(try bothNorms([13]), "fc_norm.weight has shape [13]") { try $0.requireWhole() }
        refused(try bothNorms([12], ["bias"]), "the tensor fc_norm.weight is missing") { try $0.requireWhole() }
        refused(try bothNorms([12]), "holds both norm and fc_norm, and Hugging Face's form cannot say") {
            _ = try Conversion($0, to: .huggingFace, heads: 3, decoderHeads: 2)
        }
        let both = try ModelWeights(path: bothNorms([12]))
        for target in [Conversion.Target.mae, .timm] {
            let names = Set(try Conversion(both, to: target).tensors.map(\.name))
            XCTAssertTrue(
                names.isSuperset(of: ["norm.weight", "norm.bias", "fc_norm.weight", "fc_norm.bias"]), "\(names)")
        }
    }
}
