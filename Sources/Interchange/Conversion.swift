import Images
import Models
import Reporting
import Weights

/// Writes a model under another tool's names.
public struct Conversion {
    /// The tool whose names are written.
    public enum Target: Sendable {
        /// MAE and DMAE: every part.
        case mae
        /// timm: the encoder and a class head; a file, or a folder for its `local-dir:`.
        case timm
        /// Hugging Face, as a folder: ViTMAEForPreTraining if there is a decoder, else ViTForImageClassification if
        /// there is a class head, else ViTModel.
        case huggingFace
    }

    /// The model that is converted.
    public let weights: ModelWeights
    /// The tool whose names are written.
    public let target: Target
    /// The parts that were left out, a sentence each.
    public let notes: [String]
    /// The tensors in the order of the file.
    public let tensors: [TensorSource]
    /// The sizes written; `heads` is 0 and the image size 0 × 0 if unknown.
    let encoder: EncoderConfiguration
    /// Nil if no decoder is written.
    let decoder: DecoderConfiguration?
    /// Outputs of the class head; nil if none is written.
    let classes: Int?
    /// The names of the classes; nil if no head is written, or they are unknown.
    let classNames: [String]?
    /// How pictures are prepared for the model; nil if nothing states it.
    let stated: Preprocessing?
    /// The same, or MAE's where nothing states it.
    var preprocessing: Preprocessing { stated ?? .imageNet(channels: encoder.channels) }

    /// Checks that `weights` can be written for `target`; reads no values.
    ///
    /// - Parameters:
    ///   - type: the type to which floating-point tensors are rounded; nil keeps their types.
    ///   - encoderOnly: leaves out decoder, projection heads and class head.
    ///   - preprocessing: how pictures are prepared for it; nil if nothing states it.
    ///   - heads, decoderHeads, imageSize: sizes that `weights` does not state; nil if not given.
    /// - Throws: `Failure.badData` if tensors are missing or the target has no place for the model; `Failure.usage` if
    ///   the target needs a size that is neither stated nor given, or a given size does not fit the model.
    public init(
        _ weights: ModelWeights, to target: Target, type: TensorType? = nil, encoderOnly: Bool = false,
        preprocessing: Preprocessing? = nil, heads: Int? = nil,
        decoderHeads: Int? = nil, imageSize: ImageSize? = nil
    ) throws {
        try weights.requireWhole()
        self.weights = weights
        self.target = target
        stated = preprocessing
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
        // MAE's names keep a probe's BatchNorm; other tools have one linear layer.
        let foldsProbe = weights.isLinearProbe && !encoderOnly && target != .mae && (decoder == nil || target == .timm)
        var keptClasses =
            encoderOnly || (weights.tensors["head.weight"] == nil && !foldsProbe) ? nil : weights.classes
        var isWritten: (ModelPart) -> Bool = { !encoderOnly || $0.isEncoder }
        switch target {
        case .mae: break
        case .timm: decoder = nil
        case .huggingFace:
            try weights.tensors.requireOneNorm(
                "Hugging Face's form", "use \(.form, "timm") or \(.form, "mae"), which keep both")
            guard !isPooled else {
                let remedy: Message =
                    keptClasses == nil
                    ? "use \(.form, "timm") or \(.form, "mae")"
                    : "fine-tune with \(.pool, "class"), or use \(.form, "timm") or \(.form, "onnx")"
                throw Failure(
                    .badData,
                    "\(weights.path): has fc_norm instead of norm: it was fine-tuned on the mean of its patches, which "
                        + "no ViT of Hugging Face takes; \(remedy)")
            }
            let huggingFace = "Hugging Face's config.json"
            if encoder.heads == 0 { throw Self.unknown(.heads, encoder.width, weights.path, neededBy: huggingFace) }
            if let decoder, decoder.heads == 0 {
                throw Self.unknown(.decoderHeads, decoder.width, weights.path, neededBy: huggingFace)
            }
            guard encoder.imageHeight > 0 else {
                throw weights.unknownImageSize(neededBy: huggingFace)
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
        let kept = { (name: String) in
            ModelPart(of: name).map { isWritten($0) && !(foldsProbe && $0 == .classHead) } ?? false
        }
        let scheme = target.scheme(prefixed: decoder != nil || keptClasses != nil)
        let sources = weights.tensors.sources(scheme, type: type, where: kept)
        let written = Set(weights.tensors.names.filter(kept)).subtracting(sources.dropped)
        let left = weights.tensors.names.filter { !written.contains($0) }
        if foldsProbe {
            notes.append(
                "the probe's head is written as one linear layer, with its BatchNorm in the weights: the logits are the "
                    + "same")
        }
        for part in [ModelPart.decoder, .projectionHeads, .classHead] where !(foldsProbe && part == .classHead) {
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
        let hasHead = foldsProbe || written.contains { ModelPart(of: $0) == .classHead }
        classNames = hasHead ? weights.classNames : nil
        let head = try foldsProbe ? weights.foldedHead(type: type) : []
        tensors =
            sources.tensors
            + head.map { TensorSource(name: scheme.names($0.name)[0], type: $0.type, shape: $0.shape, write: $0.write) }
    }

    private static func check(_ heads: Int?, _ field: Field, width: Int, of part: String) throws {
        guard let heads, heads < 1 || width % heads != 0 else { return }
        throw Failure(
            .usage,
            "\(field, heads) does not divide the \(part)'s width of \(width): choose a number of heads that does")
    }

    static func unknown(_ field: Field, _ width: Int, _ path: String, neededBy file: String) -> Failure {
        Failure(
            .usage,
            "\(field) is needed: \(path) does not say the number of attention heads, no preset has its width, and "
                + "\(file) needs it\(ModelWeights.usualHeads(field, ofWidth: width))")
    }

    /// Sentences for the user of the model that is written at `path`: what loads it, and what is unusual about it.
    public func advice(at path: String) -> [Message] {
        if target == .timm { return [timmAdvice(isFolder: Self.isFolder(path))] }
        guard target == .huggingFace else { return [] }
        var advice: [Message] = []
        if decoder != nil {
            advice.append(
                "transformers loads it by ViTMAEForPreTraining.from_pretrained(…), encoder and decoder; AutoModel makes a "
                    + "ViTMAEModel of it, which removes random patches: for features convert with \(.encoderOnly)")
        } else if classes != nil {
            advice.append(
                "transformers loads it by AutoModelForImageClassification.from_pretrained(…), which gives logits")
        } else {
            advice.append(
                "transformers loads it by AutoModel.from_pretrained(…, add_pooling_layer=False), a ViTModel, whose "
                    + "last_hidden_state is that of `dmae embed` with this folder: MAE's ViT has no pooler")
        }
        if decoder == nil, cropsElsewhere {
            advice.append(
                "where the margin of a crop is odd, transformers begins it at the lower row or column, and so does dmae with "
                    + "this folder; with \(weights.path) it may lie one further, and "
                    + "\(classes == nil ? "features" : "logits") differ a little")
        }
        if encoder.imageHeight != encoder.imageWidth, !preprocessing.crop.squashes {
            let result = classes == nil ? "features of `dmae embed`" : "logits of `dmae predict`"
            advice.append(
                "pictures of another shape than \(encoder.imageHeight)×\(encoder.imageWidth) are stretched by the "
                    + "processor of preprocessor_config.json; dmae crops the centre (resize of the short side, then "
                    + "crop): for the \(result) prepare them so")
        }
        return advice
    }

    /// Whether transformers' crop can lie one row or column beside that of dmae with the weights as they were.
    private var cropsElsewhere: Bool {
        guard !preprocessing.crop.roundsDown else { return false }
        let (height, width) = (encoder.imageHeight, encoder.imageWidth)
        // Without squashing the long side, and with it its margin, is that of the picture.
        guard preprocessing.crop.squashes else { return height == width }
        let fraction = preprocessing.crop.fraction(width: width, height: height)
        // Half of an odd margin is rounded to the even number: up for 3, 7, …
        return [height, width].contains { (Int(Double($0) / fraction) - $0) % 4 == 3 }
    }

    /// Whether timm's form is written as a folder at `path`: unless it names a file of weights.
    public static func isFolder(_ path: String) -> Bool {
        !isArchive(path) && !path.lowercased().hasSuffix(".safetensors")
    }

    /// Whether a file of that name is written as a PyTorch archive, which has no place for the model's sizes.
    public static func isArchive(_ path: String) -> Bool {
        [".pth", ".pt"].contains(where: path.lowercased().hasSuffix)
    }

    /// Writes a file at `path`, or a folder for Hugging Face and for timm, unless its name ends as a file's does. A file
    /// whose name ends in .pth or .pt is a PyTorch archive of `{'model': …}`, with the names of the classes and what is
    /// known of the pictures beside it; any other is safetensors.
    ///
    /// - Throws: `Failure.inputOutput` if it cannot be written; `Failure.badData` if a number does not fit the type, or an
    ///   input was written meanwhile.
    public func write(to path: String) throws {
        switch target {
        case .huggingFace: try writeFolder(path)
        case .timm where Self.isFolder(path): try writeTimmFolder(path)
        case .mae, .timm:
            if Self.isArchive(path) { return try writeArchive(to: path) }
            let metadata = ["format": "pt", ModelWeights.architectureKey: try sizes()]
            let writer = writer(
                metadata: metadata.merging(ModelWeights.metadata(classNames: classNames)) { $1 }
                    .merging(weights.metadata(preprocessing: stated)) { $1 })
            try AtomicFile.write(to: path) { file in
                try writer.write(into: file)
                try InputFiles.requireUnchanged()
            }
        }
    }

    private func writeArchive(to path: String) throws {
        var writer = TorchArchiveWriter(wrapper: "model")
        if let classNames { writer.add(ModelWeights.classesKey, texts: classNames) }
        for (key, text) in weights.metadata(preprocessing: stated) { writer.add(key, texts: [text]) }
        for tensor in tensors { writer.add(tensor.name, type: tensor.type, shape: tensor.shape, source: tensor.write) }
        try writer.write(to: path, check: InputFiles.requireUnchanged)
    }

    private func writer(metadata: [String: String]) -> SafeTensorsWriter {
        var writer = SafeTensorsWriter(metadata: metadata)
        for tensor in tensors { writer.add(tensor) }
        return writer
    }

    /// The names of the files in the folder that `target` writes at `path`, the weights last; nil if it writes a file.
    public static func folderFiles(of target: Target, at path: String) -> [String]? {
        switch target {
        case .huggingFace: ["config.json", "preprocessor_config.json", weightsName]
        case .timm where isFolder(path): ["config.json", weightsName]
        case .mae, .timm: nil
        }
    }
    private static let weightsName = "model.safetensors"

    /// Writes a folder of the weights and of what describes them. The weights come last: a folder with weights is whole.
    ///
    /// - Parameter texts: the contents of the other files, in the order of `folderFiles`.
    func writeFolder(_ path: String, form: String, _ texts: [[UInt8]]) throws {
        let names = Self.folderFiles(of: target, at: path)!
        precondition(texts.count == names.count - 1)
        try FileGroup.write(folder: path, names: names, form: form) { files in
            for (text, file) in zip(texts, files) { try text.withUnsafeBytes { try file.append($0) } }
            try writer(metadata: ["format": "pt"]).write(into: files.last!)
            try InputFiles.requireUnchanged()
        }
    }

    /// The model's sizes as the file's metadata states them.
    private func sizes() throws -> String {
        let architecture = ModelWeights.Architecture(
            encoder: encoder, decoder: decoder, maskRatio: decoder == nil ? nil : weights.maskRatio,
            normalizePixels: decoder == nil ? nil : weights.normalizePixels)
        return String(decoding: try architecture.sortedJSON(), as: UTF8.self)
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
