import CKernels

/// What the operands of matrix products are rounded to, and what those operands are kept as between two operations.
/// Weights and their gradients, moments, the residual stream, norms, softmax and losses are float32 in any case, and so
/// are the sums inside a product.
public enum Precision: String, Codable, CaseIterable, Sendable {
    /// float32: nothing is rounded.
    case f32
    /// bfloat16, to nearest, ties to even: 8 bits of significand, float32's range, so no loss scaling is needed.
    case bf16
    /// Whole numbers of 8 bits, with a scale for each row of the weight and of what it multiplies. Only for frozen
    /// weights, which are packed once; what a model that has them keeps between its operations is one of the other two.
    case int8

    /// What an activation that only products and attention read is kept as.
    public var activations: ElementType { self == .bf16 ? .bf16 : .f32 }

    var kernels: dmae_precision {
        switch self {
        case .f32: DMAE_PRECISION_F32
        case .bf16: DMAE_PRECISION_BF16
        case .int8: DMAE_PRECISION_INT8
        }
    }

    /// Whether the instruction set in use multiplies such operands itself. Where it does not, products of the rounded
    /// operands are computed in float32, or int8's from 16-bit whole numbers: with the same rounding of operands, but
    /// not at their speed.
    public var isNative: Bool {
        switch self {
        case .f32: true
        case .bf16: InstructionSet.selected.rawValue >= InstructionSet.avx512bf16.rawValue
        case .int8: InstructionSet.selected.rawValue >= InstructionSet.avx512vnni.rawValue
        }
    }
}
