import CKernels

/// A call of a C kernel in a step, with all that a benchmark needs to repeat it.
///
/// Pointers in the arguments are those of the step's memory plan. They show which operands exist, which of them share
/// memory, and their distances in memory. The memory itself may no longer be mapped.
public struct KernelCall {
    /// The part of the model that called: "teacher", "student", "decoder", … or empty.
    public let part: String
    /// The linear layer of a GEMM, by MAE's name: "blocks.0.attn.qkv".
    public let layer: String
    /// Floating-point operations.
    public let flop: Double
    /// Bytes of operands and results, each counted once.
    public let bytes: Int
    /// The arguments of the C function, or the sizes that determine them.
    public let arguments: Arguments

    /// The kernel and its arguments.
    public enum Arguments {
        case gemm(dmae_gemm_arguments)
        case attention(dmae_attention_arguments)
        case attentionGradient(dmae_attention_arguments)
        /// `isRecomputed`: recomputed from the statistics that the forward pass kept.
        case layerNorm(rows: Int, width: Int, output: ElementType, keepsStatistics: Bool, isRecomputed: Bool)
        case layerNormGradient(rows: Int, width: Int, accumulate: Bool)
        case columnSum(rows: Int, width: Int, type: ElementType, stride: Int)
        case sumOfSquares(count: Int)
        case adamW(count: Int)
    }
}

extension Profile {
    /// Runs `body` without computing anything: each kernel call is recorded and skipped, and loops of `ParallelRows`
    /// are skipped. Mapped memory that is never written takes no physical memory.
    ///
    /// - Returns: the calls, in order.
    public static func recordCalls(_ body: () throws -> Void) rethrows -> [KernelCall] {
        precondition(!isRecording, "a recording within a recording")
        isRecording = true
        defer {
            isRecording = false
            calls = []
        }
        try body()
        return calls
    }
}
