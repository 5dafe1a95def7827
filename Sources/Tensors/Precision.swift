import CKernels

/// The type that operands of matmuls are rounded to, and the type of activations that only matmuls read.
///
/// Weights and their gradients, moments, the residual stream, norms, softmax, losses and accumulators are always
/// float32.
public enum Precision: String, Codable, CaseIterable, Sendable {
    /// float32: nothing is rounded.
    case f32
    /// bfloat16, to nearest, ties to even: 8 bits of significand, float32's range, so no loss scaling is needed.
    case bf16
    /// 8-bit integers with a scale for each row of the weight and each row of the activations. Only for frozen weights,
    /// which are packed once; the activations of such a model are stored in one of the other two precisions.
    case int8

    /// The type of an activation that only matmuls and attention read.
    public var activations: ElementType { self == .bf16 ? .bf16 : .f32 }

    var kernels: dmae_precision {
        switch self {
        case .f32: DMAE_PRECISION_F32
        case .bf16: DMAE_PRECISION_BF16
        case .int8: DMAE_PRECISION_INT8
        }
    }

    /// Whether the GEMM kernel in use multiplies such operands themselves. Otherwise it multiplies the same rounded
    /// operands in a wider type, bf16 as float32 and int8 as 16-bit integers: same rounding, but not the speed.
    public var isNative: Bool { dmae_gemm_is_native(kernels) }
}
