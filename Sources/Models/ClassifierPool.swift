/// The feature that a classifier's head reads.
public enum ClassifierPool: String, Codable, CaseIterable, Sendable {
    /// The class token after `norm`.
    case `class`
    /// The mean of the patch tokens of the last block, then `fc_norm`.
    case mean

    /// The same among the features of a `FeatureExtractor`.
    public var feature: FeaturePool { self == .class ? .class : .mean }
    /// The encoder's output that is the feature.
    var output: EncoderOutput { self == .mean ? .patchMean : .classToken }
    /// The name of the final norm: "fc_norm" or "norm".
    public var norm: String { output.norm! }
}
