import CKernels

/// One call of a C kernel as a step makes it: what a benchmark needs to repeat the call.
///
/// Pointers in the arguments are those of the step's memory plan. They say which operands there are, which of them are
/// the same memory, and how operands lie beside each other. The memory itself may be gone.
public struct KernelCall {
    /// The part of the model that called: "teacher", "student", "decoder", … or empty.
    public let part: String
    /// The linear layer of a GEMM, by MAE's name of its weight: "blocks.0.attn.qkv".
    public let layer: String
    /// Floating-point operations.
    public let flop: Double
    /// Bytes of operands and results, each counted once.
    public let bytes: Int
    public let arguments: Arguments

    public enum Arguments {
        case gemm(dmae_gemm_arguments)
        case attention(dmae_attention_arguments)
        case attentionGradient(dmae_attention_arguments)
        /// `isRecomputed`: from the statistics that the forward pass kept.
        case layerNorm(rows: Int, width: Int, output: ElementType, keepsStatistics: Bool, isRecomputed: Bool)
        case layerNormGradient(rows: Int, width: Int, accumulate: Bool)
        case columnSum(rows: Int, width: Int, type: ElementType, stride: Int)
        case sumOfSquares(count: Int)
        case adamW(count: Int)
    }
}

extension Profile {
    /// Runs `body` without computing anything: each kernel call is noted and skipped, and so are the row loops of Swift.
    /// Memory that is mapped but never written takes no room.
    ///
    /// - Returns: the calls, in their order.
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
