import Reporting
import FoundationEssentials
import Glibc
import Images
import Models
import Tensors
import Weights

/// Writes a model under another tool's names.
public struct Conversion {
    /// The tool whose names are written.
    public enum Target: Sendable {
        /// MAE and DMAE: every part.
        case mae
        /// timm: the encoder and a class head.
        case timm
        /// Hugging Face, as a folder: ViTMAEForPreTraining if there is a decoder, else ViTForImageClassification if
        /// there is a class head, else ViTModel.
        case huggingFace
    }

    public let weights: ModelWeights
    public let target: Target
    /// The parts that were left out, a sentence each.
    public let notes: [String]
    /// The tensors in the order of the file.
    public let tensors: [TensorSource]
    private let encoder: EncoderConfiguration
    private let decoder: DecoderConfiguration?
    private let classes: Int?

    /// Checks that `weights` can be written for `target`; reads no values.
    ///
    /// - Parameters:
    ///   - type: the type to which floating-point tensors are rounded; nil keeps their types.
    ///   - encoderOnly: leaves out decoder, projection heads and class head.
    ///   - heads, decoderHeads, imageSize: sizes that `weights` does not state; nil if not given.
    /// - Throws: `Failure.badData` if tensors are missing or the target has no place for the model; `Failure.usage` if
    ///   the target needs a size that is neither stated nor given, or a given size does not fit the model.
    public init(
        _ weights: ModelWeights, to target: Target, type: TensorType? = nil, encoderOnly: Bool = false,
        heads: Int? = nil,
        decoderHeads: Int? = nil, imageSize: ImageSize? = nil
    ) throws {
        try weights.requireWhole()
        self.weights = weights
        self.target = target
        try Self.check(heads, Field.heads, width: weights.encoder.width, of: "encoder")
        if decoderHeads != nil {
            guard let decoder = weights.decoder else {
                throw Failure(.usage, "\(.decoderHeads) has no effect: \(weights.path) holds no decoder; leave it out")
            }
            try Self.check(decoderHeads, Field.decoderHeads, width: decoder.width, of: "decoder")
        }
        let encoder = try weights.completedEncoder(heads: heads, imageSize: imageSize)
        var decoder = try encoderOnly ? nil : weights.completedDecoder(heads: decoderHeads)
        let isPooled = weights.tensors["norm.weight"] == nil
        var notes: [String] = []
        var keptClasses = encoderOnly || weights.tensors["head.weight"] == nil ? nil : weights.classes
        var isWritten: (ModelPart) -> Bool = { !encoderOnly || $0.isEncoder }
        switch target {
        case .mae: break
        case .timm: decoder = nil
        case .huggingFace:
            try weights.tensors.requireOneNorm(
                "Hugging Face's form", "use \(.form, "timm") or \(.form, "mae"), which keep both")
            guard !isPooled else {
                throw Failure(
                    .badData,
                    "\(weights.path): has fc_norm instead of norm: it was fine-tuned on the mean of its patches, which no ViT of "
                        + "Hugging Face takes; use \(.form, "timm") or \(.form, "mae")")
            }
            if encoder.heads == 0 { throw Self.unknown(.heads, weights.path) }
            if decoder?.heads == 0 { throw Self.unknown(.decoderHeads, weights.path) }
            guard encoder.imageHeight > 0 else {
                throw weights.unknownImageSize(neededBy: "Hugging Face's config.json")
            }
            if decoder != nil, encoder.gridRows != encoder.gridColumns {
                throw Failure(
                    .badData,
                    "\(weights.path): its patches form a grid of \(encoder.gridRows)×\(encoder.gridColumns), but "
                        + "ViTMAEForPreTraining takes square ones; use \(.encoderOnly)")
            }
            if decoder != nil { keptClasses = nil }
            if keptClasses == nil { isWritten = { $0 != .classHead && (!encoderOnly || $0.isEncoder) } }
        }
        // The scheme drops what it has no names for: timm's the decoder, for example.
        let kept = { (name: String) in ModelPart(of: name).map(isWritten) ?? false }
        let scheme = target.scheme(prefixed: decoder != nil || keptClasses != nil)
        let sources = weights.tensors.sources(scheme, type: type, where: kept)
        let written = Set(weights.tensors.names.filter(kept)).subtracting(sources.dropped)
        let left = weights.tensors.names.filter { !written.contains($0) }
        for part in [ModelPart.decoder, .projectionHeads, .classHead] {
            let count = left.lazy.filter { ModelPart(of: $0) == part }.count
            if count > 0 { notes.append("left out: the \(part) (\(count) tensor\(count == 1 ? "" : "s"))") }
        }
        if !weights.tensors.unknown.isEmpty {
            let names = weights.tensors.unknown
            notes.append(
                "left out, as no part of the model: \(names.prefix(3).map { quoted($0) }.joined(separator: ", "))"
                    + (names.count > 3 ? ", …" : ""))
        }
        if weights.tensors.outside > 0 {
            let count = weights.tensors.outside
            notes.append(
                "left out: \(count) tensor\(count == 1 ? "" : "s") beside the model, such as an optimiser's state")
        }
        self.notes = notes
        self.encoder = encoder
        self.decoder = decoder
        classes = keptClasses
        tensors = sources.tensors
    }

    private static func check(_ heads: Int?, _ field: Field, width: Int, of part: String) throws {
        guard let heads, heads < 1 || width % heads != 0 else { return }
        throw Failure(
            .usage,
            "\(field, heads) does not divide the \(part)'s width of \(width): choose a number of heads that does")
    }

    private static func unknown(_ field: Field, _ path: String) -> Failure {
        Failure(
            .usage,
            "\(field) is needed: \(path) does not say the number of attention heads, no preset has its width, and Hugging Face's "
                + "config.json needs it")
    }

    /// A sentence for the user of the written model; nil if there is nothing unusual about it.
    public var advice: String? {
        guard target == .huggingFace, decoder == nil, classes == nil else { return nil }
        return "MAE's ViT has no pooler: load it by ViTModel.from_pretrained(…, add_pooling_layer=False)"
    }

    /// The class of transformers that loads the folder.
    var architecture: String {
        decoder != nil ? "ViTMAEForPreTraining" : classes != nil ? "ViTForImageClassification" : "ViTModel"
    }

    /// Whether a file of that name is written as a PyTorch archive, which has no place for the model's sizes.
    public static func isArchive(_ path: String) -> Bool {
        [".pth", ".pt"].contains(where: path.lowercased().hasSuffix)
    }

    /// Writes a file at `path`, or a folder for Hugging Face. A file whose name ends in .pth or .pt is a PyTorch archive
    /// of `{'model': …}`; any other is safetensors.
    ///
    /// - Throws: `Failure.inputOutput` if it cannot be written; `Failure.badData` if a number does not fit the type.
    public func write(to path: String) throws {
        switch target {
        case .huggingFace: try writeFolder(path)
        case .mae, .timm:
            if Self.isArchive(path) { return try writeArchive(to: path) }
            try writeSafeTensors(to: path, metadata: ["format": "pt", ModelWeights.architectureKey: try sizes()])
        }
    }

    private func writeArchive(to path: String) throws {
        var writer = TorchArchiveWriter(wrapper: "model")
        for tensor in tensors { writer.add(tensor.name, type: tensor.type, shape: tensor.shape, source: tensor.write) }
        try writer.write(to: path)
    }

    private func writeSafeTensors(to path: String, metadata: [String: String], beside: () throws -> Void = {}) throws {
        var writer = SafeTensorsWriter(metadata: metadata)
        for tensor in tensors { writer.add(tensor) }
        try writer.write(to: path, beside: beside)
    }

    /// The model's sizes as the file's metadata states them.
    private func sizes() throws -> String {
        let architecture = ModelWeights.Architecture(
            encoder: encoder, decoder: decoder, maskRatio: decoder == nil ? nil : weights.maskRatio,
            normalizePixels: decoder == nil ? nil : weights.normalizePixels)
        return String(decoding: try architecture.sortedJSON(), as: UTF8.self)
    }

    // MARK: Hugging Face's folder

    private func writeFolder(_ path: String) throws {
        if mkdir(path, 0o777) != 0, errno != EEXIST {
            throw Failure(
                .inputOutput,
                "cannot create folder \(quoted(path: path)): \(errorText(errno)); choose a place that can be written")
        }
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw Failure(
                .inputOutput,
                "cannot create folder \(quoted(path: path)): something else has that name; \(.form, "huggingface") writes a folder"
            )
        }
        // The weights are renamed into place last, so a folder with weights is a whole one. If writing them fails, the
        // configuration of a model that was there before is still its own.
        try writeSafeTensors(to: path + "/model.safetensors", metadata: ["format": "pt"]) {
            try AtomicFile.write(configuration.sortedJSON(indented: true) + [0x0A], to: path + "/config.json")
            try AtomicFile.write(
                preprocessor.sortedJSON(indented: true) + [0x0A], to: path + "/preprocessor_config.json")
        }
    }

    /// `config.json`: the keys of transformers' ViTConfig and ViTMAEConfig.
    private struct HuggingFace: Encodable {
        enum Size: Encodable {
            case square(Int)
            case rectangle(Int, Int)

            func encode(to encoder: any Swift.Encoder) throws {
                var container = encoder.singleValueContainer()
                switch self {
                case .square(let side): try container.encode(side)
                case .rectangle(let height, let width): try container.encode([height, width])
                }
            }
        }
        var architectures: [String]
        var attention_probs_dropout_prob = 0.0
        var decoder_hidden_size, decoder_intermediate_size, decoder_num_attention_heads, decoder_num_hidden_layers: Int?
        var dtype: String?
        var encoder_stride: Int?
        var hidden_act = "gelu"
        var hidden_dropout_prob = 0.0
        var hidden_size: Int
        var id2label: [String: String]?
        var image_size: Size
        var initializer_range = 0.02
        var intermediate_size: Int
        var label2id: [String: Int]?
        // MAE's models were trained with 1e-6; the published configurations say 1e-12.
        var layer_norm_eps = 1e-6
        var mask_ratio: Double?
        var model_type: String
        var norm_pix_loss: Bool?
        var num_attention_heads, num_channels, num_hidden_layers, patch_size: Int
        var qkv_bias = true
    }

    private var configuration: HuggingFace {
        var result = HuggingFace(
            architectures: [architecture], hidden_size: encoder.width,
            image_size: encoder.imageHeight == encoder.imageWidth
                ? .square(encoder.imageHeight) : .rectangle(encoder.imageHeight, encoder.imageWidth),
            intermediate_size: 4 * encoder.width, model_type: decoder == nil ? "vit" : "vit_mae",
            num_attention_heads: encoder.heads, num_channels: encoder.channels, num_hidden_layers: encoder.depth,
            patch_size: encoder.patchSize)
        let types = Set(tensors.map(\.type))
        if types.count == 1, let type = types.first {
            result.dtype = [.f32: "float32", .f16: "float16", .bf16: "bfloat16", .f64: "float64"][type]
        }
        if let decoder {
            result.decoder_hidden_size = decoder.width
            result.decoder_intermediate_size = 4 * decoder.width
            result.decoder_num_attention_heads = decoder.heads
            result.decoder_num_hidden_layers = decoder.depth
            result.mask_ratio = weights.maskRatio
            result.norm_pix_loss = weights.normalizePixels
        } else {
            result.encoder_stride = encoder.patchSize
        }
        if let classes {
            let labels = (0..<classes).map { ("LABEL_\($0)", $0) }
            result.id2label = Dictionary(uniqueKeysWithValues: labels.map { (String($1), $0) })
            result.label2id = Dictionary(uniqueKeysWithValues: labels)
        }
        return result
    }

    /// `preprocessor_config.json`: the keys of transformers' ViTImageProcessor.
    private struct Preprocessor: Encodable {
        var do_normalize = true, do_rescale = true, do_resize = true
        var image_mean, image_std: [Float]
        var image_processor_type = "ViTImageProcessor"
        /// Pillow's constant for bicubic.
        var resample = 3
        var rescale_factor = 1.0 / 255
        var size: [String: Int]
    }

    private var preprocessor: Preprocessor {
        let normalisation = Normalisation.imageNet(channels: encoder.channels)
        return Preprocessor(
            image_mean: normalisation.mean, image_std: normalisation.deviation,
            size: ["height": encoder.imageHeight, "width": encoder.imageWidth])
    }
}

extension Conversion.Target {
    fileprivate func scheme(prefixed: Bool) -> NamingScheme {
        switch self {
        case .mae: .mae
        case .timm: .timm
        case .huggingFace: .huggingFace(prefixed: prefixed)
        }
    }
}
