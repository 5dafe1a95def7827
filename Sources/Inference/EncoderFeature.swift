import Interchange
import Models
import Reporting
import Weights

/// What is taken of an encoder: where in it, and of which tokens. Whoever computes features or logits of weights asks here,
/// so that all take the same.
public struct EncoderFeature: Equatable, Sendable {
    public let place: FeaturePlace
    public let pool: FeaturePool

    /// The features of an encoder.
    ///
    /// - Parameters:
    ///   - file: an encoder under MAE's names.
    ///   - block: the block whose output is taken, before any norm; nil for the end of the encoder.
    ///   - pool: nil for the default: the class token, or the mean of the patch tokens if no block is given and the
    ///     weights hold `fc_norm` instead of `norm`.
    ///   - user: who takes them, as a message names it.
    /// - Throws: `Failure.badData` if the weights hold both norms and no block is given.
    public init(of file: any WeightFile, block: Int?, pool: FeaturePool?, for user: String) throws {
        // A block's output is taken before either norm.
        if block == nil { try file.requireOneNorm(user, "take the output of a block with \(.block)") }
        place = block.map(FeaturePlace.block) ?? Self.end(of: file)
        self.pool = pool ?? (place == .meanNorm ? .mean : .class)
    }

    /// The feature that the class head of weights reads: the class token after `norm`; the mean of the patch tokens after
    /// `fc_norm`; or, as in timm's models with an average but no `fc_norm`, the mean of the patch tokens after `norm`.
    ///
    /// - Parameter pool: class or mean; nil for what the weights say.
    /// - Throws: `Failure.badData` if the weights hold no whole head, or contradict themselves; `.usage` if the pool does
    ///   not fit.
    public init(ofHeadIn weights: ModelWeights, pool: FeaturePool? = nil) throws {
        try weights.requireHead()
        let own = try weights.headPool()!
        guard pool != .tokens else {
            throw Failure(
                .usage, "\(.pool, "tokens") does not fit a class head, which reads one feature: use class or mean")
        }
        place = Self.end(of: weights.tensors)
        if place == .meanNorm, let pool, pool != .mean {
            throw Failure(
                .usage,
                "\(.pool, pool.rawValue) does not fit \(weights.path), whose fc_norm is for the mean of the patch "
                    + "tokens: leave it out")
        }
        self.pool = pool ?? own
    }

    /// Where an encoder with these tensors ends.
    private static func end(of file: any WeightFile) -> FeaturePlace {
        file.holdsLayer("fc_norm") && !file.holdsLayer("norm") ? .meanNorm : .norm
    }
}
