// Letters: D encoder width, E decoder width, L patches, C channels, p patch side.

/// A part of a masked autoencoder. The name of a tensor tells which part it belongs to.
public enum ModelPart: String, CaseIterable, CustomStringConvertible, Sendable {
    /// Patch projection, class token and position table.
    case embedding
    /// The encoder's blocks.
    case blocks
    /// The encoder's final norm: `norm`, or `fc_norm` in weights that were fine-tuned on the mean of the patch tokens.
    case norm
    /// The classifier of fine-tuned or linearly probed weights.
    case classHead = "class head"
    /// MAE's decoder, its mask token included.
    case decoder
    /// DMAE's projections of student features to the teacher's width.
    case projectionHeads = "projection heads"

    /// The part of the tensor called `name`; nil if no part has such a tensor.
    public init?(of name: String) {
        guard let part = Self.allCases.first(where: { $0.prefixes.contains(where: name.hasPrefix) }) else { return nil }
        self = part
    }

    /// In words: "projection heads".
    public var description: String { rawValue }

    /// Whether it is a part of the encoder, which every model has.
    public var isEncoder: Bool {
        switch self {
        case .embedding, .blocks, .norm: true
        case .classHead, .decoder, .projectionHeads: false
        }
    }

    /// Prefixes of the names of its tensors.
    private var prefixes: [String] {
        switch self {
        case .embedding: ["cls_token", "pos_embed", "patch_embed."]
        case .blocks: ["blocks."]
        case .norm: ["norm.", "fc_norm."]
        case .classHead: ["head."]
        case .decoder: ["mask_token", "decoder_"]
        case .projectionHeads: [ModelLayout.projectionHeads + "."]
        }
    }
}

/// The tensors of a masked autoencoder, or of parts of one: names, shapes in files, and parts.
///
/// Names and shapes are MAE's, those of the projection heads DMAE's. ModelLayoutTests check that the layers allocate
/// exactly these tensors.
public struct ModelLayout: Equatable, Sendable {
    /// One tensor.
    public struct Entry: Equatable, Sendable {
        public let name: String
        /// Outermost dimension first.
        public let shape: [Int]
        public let part: ModelPart
        /// Number of elements.
        public var count: Int { shape.reduce(1, *) }
    }

    /// In the order in which MAE's files hold them.
    public let entries: [Entry]
    private let indices: [String: Int]

    private init(entries: [Entry]) {
        self.entries = entries
        indices = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.name, $0) })
    }

    /// Student, decoder and projection heads: the tensors that a run of `configuration` trains and writes. Without a
    /// decoder, the student's tensors after the last aligned block keep their initial values.
    public init(_ configuration: ModelConfiguration) {
        var layout = Self.encoder(configuration.student)
        if configuration.hasDecoder { layout += Self.decoder(configuration.decoder, of: configuration.student) }
        if let teacher = configuration.teacher {
            layout += Self.projectionHeads(
                configuration.alignment, studentWidth: configuration.student.width, teacherWidth: teacher.width)
        }
        self = layout
    }

    /// The tensor called `name`; nil where there is none.
    public subscript(name: String) -> Entry? { indices[name].map { entries[$0] } }

    /// The number of elements of all tensors whose part satisfies `isCounted`.
    public func count(where isCounted: (ModelPart) -> Bool = { _ in true }) -> Int {
        entries.filter { isCounted($0.part) }.reduce(0) { $0 + $1.count }
    }

    /// The tensors of both, which must have no name in common.
    public static func + (first: ModelLayout, second: ModelLayout) -> ModelLayout {
        ModelLayout(entries: first.entries + second.entries)
    }

    public static func += (layout: inout ModelLayout, other: ModelLayout) { layout = layout + other }

    /// Whether `name` is that of a position table: the encoder's or the decoder's. Position tables begin as sin-cos
    /// tables, which can be computed; only fine-tuning trains the encoder's.
    public static func isPositionTable(_ name: String) -> Bool { name == "pos_embed" || name == "decoder_pos_embed" }

    // MARK: Parts

    /// The linear layers and norms of a transformer block, in the order of a forward pass.
    public static let blockLayers = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]

    /// The name of the projection heads without their number: the first is `aligned_feature_projection_heads.0`.
    public static let projectionHeads = "aligned_feature_projection_heads"

    /// The tensors of an encoder.
    ///
    /// - Parameters:
    ///   - blockCount: number of blocks, from the first; nil for all.
    ///   - patches: rows of the position table without the class token's; nil for the patches of the configuration's
    ///     images.
    ///   - norms: names of the final norms: `norm`, `fc_norm`, both or none.
    public static func encoder(
        _ configuration: EncoderConfiguration, blockCount: Int? = nil, patches: Int? = nil, norms: [String] = ["norm"]
    ) -> ModelLayout {
        let (width, side) = (configuration.width, configuration.patchSize)
        var tensors: [(String, [Int])] = [
            ("cls_token", [1, 1, width]), ("pos_embed", [1, 1 + (patches ?? configuration.patches), width]),
        ]
        tensors += layer("patch_embed.proj", inputs: [configuration.channels, side, side], outputs: width)
        tensors += blocks("blocks", blockCount ?? configuration.depth, width: width)
        for norm in norms { tensors += layer(norm, outputs: width) }
        return ModelLayout(tensors: tensors)
    }

    /// The tensors of a decoder after `encoder`.
    ///
    /// - Parameter patches: see `encoder(_:blockCount:patches:norms:)`.
    public static func decoder(
        _ configuration: DecoderConfiguration, of encoder: EncoderConfiguration, patches: Int? = nil
    ) -> ModelLayout {
        let width = configuration.width
        var tensors = layer("decoder_embed", inputs: [encoder.width], outputs: width)
        tensors += [
            ("mask_token", [1, 1, width]), ("decoder_pos_embed", [1, 1 + (patches ?? encoder.patches), width]),
        ]
        tensors += blocks("decoder_blocks", configuration.depth, width: width)
        tensors += layer("decoder_norm", outputs: width)
        tensors += layer("decoder_pred", inputs: [width], outputs: encoder.patchElements)
        return ModelLayout(tensors: tensors)
    }

    /// The tensors of an alignment's projection heads, one head per pair; none if raw features are compared.
    public static func projectionHeads(
        _ configuration: AlignmentConfiguration, studentWidth: Int, teacherWidth: Int
    ) -> ModelLayout {
        ModelLayout(
            tensors: configuration.pairs.indices.flatMap { index -> [(String, [Int])] in
                let name = "\(projectionHeads).\(index)"
                switch configuration.projection {
                case .none: return []
                case .linear: return layer(name, inputs: [studentWidth], outputs: teacherWidth)
                case .mlp:
                    return layer("\(name).fc1", inputs: [studentWidth], outputs: teacherWidth)
                        + layer("\(name).fc2", inputs: [teacherWidth], outputs: teacherWidth)
                }
            })
    }

    /// The tensors of a classifier, `head` in fine-tuned weights.
    public static func classHead(width: Int, classes: Int) -> ModelLayout {
        ModelLayout(tensors: layer("head", inputs: [width], outputs: classes))
    }

    /// The tensors of a linear probe: `head.0`, a BatchNorm without affine part, and `head.1`, the linear layer.
    public static func linearProbe(width: Int, classes: Int) -> ModelLayout {
        let statistics: [(String, [Int])] = [("head.0.running_mean", [width]), ("head.0.running_var", [width])]
        return ModelLayout(tensors: statistics + layer("head.1", inputs: [width], outputs: classes))
    }

    // MARK: Layers

    private init(tensors: [(name: String, shape: [Int])]) {
        self.init(
            entries: tensors.map { name, shape in
                guard let part = ModelPart(of: name) else { preconditionFailure("\(name) belongs to no part") }
                return Entry(name: name, shape: shape, part: part)
            })
    }

    /// Weight [outputs] + inputs and bias [outputs]: a linear layer, or a LayerNorm if `inputs` is empty.
    private static func layer(_ name: String, inputs: [Int] = [], outputs: Int) -> [(String, [Int])] {
        [("\(name).weight", [outputs] + inputs), ("\(name).bias", [outputs])]
    }

    private static func blocks(_ name: String, _ count: Int, width: Int) -> [(String, [Int])] {
        let sizes: [String: (inputs: [Int], outputs: Int)] = [
            "attn.qkv": ([width], 3 * width), "attn.proj": ([width], width), "mlp.fc1": ([width], 4 * width),
            "mlp.fc2": ([4 * width], width),
        ]
        return (0..<count).flatMap { block in
            blockLayers.flatMap { part in
                let (inputs, outputs) = sizes[part] ?? ([], width)
                return layer("\(name).\(block).\(part)", inputs: inputs, outputs: outputs)
            }
        }
    }
}
