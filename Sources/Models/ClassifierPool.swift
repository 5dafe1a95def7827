/// The feature that a classifier's head reads.
public enum ClassifierPool: String, Codable, CaseIterable, Sendable {
    /// The mean of the patch tokens of the last block, then `fc_norm`.
    case mean
    /// The class token after `norm`.
    case `class`

    /// The encoder's output that is the feature.
    var output: EncoderOutput { self == .mean ? .patchMean : .classToken }
    /// The name of the final norm: "fc_norm" or "norm".
    public var norm: String { output.norm! }
}
