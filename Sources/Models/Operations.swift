/// Floating-point operations of a training step in GFLOP per image, counted from the executed matmuls (a multiply-add
/// is two).
public struct Operations: Sendable {
    /// The teacher's forward pass.
    public let teacher: Double
    /// The part of `teacher` in the linear layers of its blocks, which may be int8.
    public let teacherLinear: Double
    /// The student's forward and backward pass; a classifier's, with its head.
    public let student: Double
    /// The decoder's forward and backward pass.
    public let decoder: Double
    /// The projection heads' forward and backward pass.
    public let alignment: Double
    /// The sum of all parts.
    public var total: Double { teacher + student + decoder + alignment }

    /// No operations.
    public init() { (teacher, teacherLinear, student, decoder, alignment) = (0, 0, 0, 0, 0) }

    /// Matmuls and attention of one image's forward and backward pass; norms, GELU and the optimiser are left
    /// out.
    ///
    /// - Parameters:
    ///   - keptPatches: kept patches per image; nil: computed from the mask ratio.
    ///   - decoderFirstRows: rows per image for which the decoder's first block computes queries, keys and values; nil:
    ///     one per token.
    public init(_ configuration: ModelConfiguration, keptPatches: Int? = nil, decoderFirstRows: Double? = nil) {
        let (gemm, block) = (Self.gemm, Self.block)
        let kept = keptPatches ?? configuration.keptPatches
        let student = configuration.student
        let decoder = configuration.decoder
        let studentBlock = block(1 + kept, student.width, nil)
        self.student =
            Double(configuration.studentBlocks) * Self.trained(studentBlock)
            + 2 * gemm(kept, student.width, student.patchElements)
        // The decoder's last block and the prediction run for predicted patches, or for all tokens if no patch is
        // removed.
        let predictedPatches = configuration.predictedPatches(kept: kept), decoded = 1 + kept + predictedPatches
        let predicted = predictedPatches > 0 ? predictedPatches : decoded
        let tokens = Double(decoded)
        let decoderBlock = block(decoded, decoder.width, nil)
        let lastBlock = block(decoded, decoder.width, predicted)
        self.decoder =
            !configuration.hasDecoder
            ? 0
            : Double(decoder.depth - 1) * Self.trained(decoderBlock) + Self.trained(lastBlock)
                + 3 * gemm(1 + kept, decoder.width, student.width)
                - 3 * (tokens - (decoderFirstRows ?? tokens)) * gemm(1, 3 * decoder.width, decoder.width)
                + 3 * gemm(predicted, student.patchElements, decoder.width)
        guard let teacher = configuration.teacher, let last = configuration.lastTeacherBlock else {
            self.teacher = 0
            teacherLinear = 0
            alignment = 0
            return
        }
        let teacherKept = max(kept, configuration.teacherKeptPatches)
        let teacherBlock = block(1 + teacherKept, teacher.width, nil)
        teacherLinear = Double(last + 1) * teacherBlock.linear
        self.teacher =
            teacherLinear + Double(last + 1) * teacherBlock.attention
            + gemm(teacherKept, teacher.width, teacher.patchElements)
        let pairs = Double(configuration.alignment.pairs.count)
        switch configuration.alignment.projection {
        case .none: alignment = 0
        case .linear: alignment = pairs * 3 * gemm(1 + kept, teacher.width, student.width)
        case .mlp:
            alignment =
                pairs * 3
                * (gemm(1 + kept, teacher.width, student.width) + gemm(1 + kept, teacher.width, teacher.width))
        }
    }

    /// A step of fine-tuning: forward and backward pass of the classifier, and the forward pass of a teacher.
    public init(_ configuration: ClassifierConfiguration) {
        let encoder = configuration.encoder
        student =
            Self.trained(Self.blocks(encoder, configuration.pool, isTrained: true)) + 2 * Self.patches(encoder)
            + 3 * Self.gemm(1, configuration.classes, encoder.width)
        (decoder, alignment) = (0, 0)
        guard let teacher = configuration.teacher else {
            (self.teacher, teacherLinear) = (0, 0)
            return
        }
        let teacherBlocks = Self.blocks(teacher.encoder, teacher.pool, isTrained: false)
        teacherLinear = teacherBlocks.linear
        self.teacher =
            teacherLinear + teacherBlocks.attention + Self.patches(teacher.encoder)
            + Self.gemm(1, configuration.classes, teacher.encoder.width)
    }

    /// A step of a linear probe: forward pass of the frozen encoder, which counts as a teacher, unless features are
    /// given; forward pass and weight gradient of the head.
    public init(probing configuration: ClassifierConfiguration, encodes: Bool) {
        let encoder = configuration.encoder
        student = 2 * Self.gemm(1, configuration.classes, encoder.width)
        (decoder, alignment) = (0, 0)
        guard encodes else {
            (teacher, teacherLinear) = (0, 0)
            return
        }
        let blocks = Self.blocks(encoder, configuration.pool, isTrained: false)
        teacherLinear = blocks.linear
        teacher = blocks.linear + blocks.attention + Self.patches(encoder)
    }

    // MARK: Parts

    /// GFLOP of the linear layers and of the attention matmuls of a forward pass.
    private typealias Block = (linear: Double, attention: Double)

    private static func gemm(_ m: Int, _ n: Int, _ k: Int) -> Double {
        2 * Double(m) * Double(n) * Double(k) * 1e-9
    }

    /// A block's forward pass: four linear layers and two attention matmuls. Keys and values are for all tokens,
    /// everything else for `queries` tokens, nil being all.
    private static func block(_ tokens: Int, _ width: Int, _ queries: Int?) -> Block {
        let queries = queries ?? tokens
        return (gemm(tokens, 2 * width, width) + gemm(queries, 10 * width, width), 2 * gemm(queries, tokens, width))
    }

    /// The forward passes of a classifier's blocks: their linear layers and their attention.
    private static func blocks(_ encoder: EncoderConfiguration, _ pool: ClassifierPool, isTrained: Bool) -> Block {
        let tokens = 1 + encoder.patches, whole = block(tokens, encoder.width, nil)
        // Of the last block of a class token all but keys and values is for one token. Frozen weights compute all
        // queries.
        var last = pool == .class ? block(tokens, encoder.width, 1) : whole
        if pool == .class, !isTrained { last.linear += gemm(tokens - 1, encoder.width, encoder.width) }
        let others = Double(encoder.depth - 1)
        return (others * whole.linear + last.linear, others * whole.attention + last.attention)
    }

    /// The patch projection's forward pass.
    private static func patches(_ encoder: EncoderConfiguration) -> Double {
        gemm(encoder.patches, encoder.width, encoder.patchElements)
    }

    /// Forward and backward pass. The backward pass of a linear layer is two matmuls, that of attention five (the
    /// recomputed scores, dV, dP, dQ, dK).
    private static func trained(_ forward: Block) -> Double { 3 * forward.linear + 3.5 * forward.attention }
}
