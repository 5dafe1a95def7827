/// Floating-point operations of a training step in GFLOP per image, counted from the executed matmuls (a multiply-add
/// is two).
public struct Operations: Sendable {
    /// The teacher's forward pass.
    public let teacher: Double
    /// The part of `teacher` in the linear layers of its blocks, which may be int8.
    public let teacherLinear: Double
    /// The student's forward and backward pass.
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
        func gemm(_ m: Int, _ n: Int, _ k: Int) -> Double { 2 * Double(m) * Double(n) * Double(k) * 1e-9 }
        /// A block's forward pass: four linear layers and two attention matmuls. Keys and values are for all tokens,
        /// everything else for `queries` tokens.
        func block(_ tokens: Int, _ width: Int, queries: Int? = nil) -> (linear: Double, attention: Double) {
            let queries = queries ?? tokens
            return (gemm(tokens, 2 * width, width) + gemm(queries, 10 * width, width), 2 * gemm(queries, tokens, width))
        }
        let kept = keptPatches ?? configuration.keptPatches
        let student = configuration.student
        let decoder = configuration.decoder
        // The backward pass of a linear layer is two matmuls, that of attention five (the recomputed scores, dV, dP,
        // dQ, dK).
        let studentBlock = block(1 + kept, student.width)
        self.student =
            Double(student.depth) * (3 * studentBlock.linear + 3.5 * studentBlock.attention)
            + 2 * gemm(kept, student.width, student.patchElements)
        // The decoder's last block and the prediction run for removed patches, or for all tokens if no patch is
        // removed.
        let removed = student.patches - kept, predicted = removed > 0 ? removed : 1 + student.patches
        let tokens = Double(1 + student.patches)
        let decoderBlock = block(1 + student.patches, decoder.width)
        let lastBlock = block(1 + student.patches, decoder.width, queries: predicted)
        self.decoder =
            Double(decoder.depth - 1) * (3 * decoderBlock.linear + 3.5 * decoderBlock.attention)
            + 3 * lastBlock.linear + 3.5 * lastBlock.attention
            + 3 * gemm(1 + kept, decoder.width, student.width)
            - 3 * (tokens - (decoderFirstRows ?? tokens)) * gemm(1, 3 * decoder.width, decoder.width)
            + 3 * gemm(predicted, student.patchElements, decoder.width)
        guard let teacher = configuration.teacher, let last = configuration.lastTeacherBlock else {
            self.teacher = 0
            teacherLinear = 0
            alignment = 0
            return
        }
        let teacherBlock = block(1 + kept, teacher.width)
        teacherLinear = Double(last + 1) * teacherBlock.linear
        self.teacher =
            teacherLinear + Double(last + 1) * teacherBlock.attention
            + gemm(kept, teacher.width, teacher.patchElements)
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
}
