/// The feature that a classifier's head reads.
public enum ClassifierPool: String, Codable, CaseIterable, Sendable {
    /// The mean of the patch tokens of the last block, then `fc_norm`.
    case mean
    /// The class token after `norm`.
    case `class`
}
