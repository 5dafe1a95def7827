/// Floating-point operations of a training step, counted from the matmuls it really executes (a multiply-add is two).
public struct Operations: Sendable {
    /// GFLOP per image, by part.
    public let teacher: Double
    /// Of the teacher's, those of the linear layers in its blocks, which may be int8.
    public let teacherLinear: Double
    public let student: Double
    public let decoder: Double
    public let alignment: Double
    public var total: Double { teacher + student + decoder + alignment }

    /// None at all.
    public init() { (teacher, teacherLinear, student, decoder, alignment) = (0, 0, 0, 0, 0) }

    /// Matmuls and attention of one image's forward and backward pass; norms, GELU and the optimiser are left
    /// out.
    ///
    /// - Parameters:
    ///   - keptPatches: nil: as the mask ratio has it.
    ///   - decoderFirstRows: rows for each image of the decoder's first queries, keys and values; nil: one for each token.
    public init(_ configuration: ModelConfiguration, keptPatches: Int? = nil, decoderFirstRows: Double? = nil) {
        func gemm(_ m: Int, _ n: Int, _ k: Int) -> Double { 2 * Double(m) * Double(n) * Double(k) * 1e-9 }
        /// One block, forward: four linear layers, and two matmuls per head; the output, and the queries, for
        /// `queries` tokens alone.
        func block(_ tokens: Int, _ width: Int, queries: Int? = nil) -> (linear: Double, attention: Double) {
            let queries = queries ?? tokens
            return (gemm(tokens, 2 * width, width) + gemm(queries, 10 * width, width), 2 * gemm(queries, tokens, width))
        }
        let kept = keptPatches ?? configuration.keptPatches
        let student = configuration.student
        let decoder = configuration.decoder
        // Backward, a linear layer is two matmuls; attention is five (the scores, recomputed, then dV, dP, dQ, dK).
        let studentBlock = block(1 + kept, student.width)
        self.student =
            Double(student.depth) * (3 * studentBlock.linear + 3.5 * studentBlock.attention)
            + 2 * gemm(kept, student.width, student.patchElements)
        // The last block of the decoder, and the prediction, are for removed patches; where none is, for all.
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
