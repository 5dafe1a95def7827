import Reporting
import Tensors

// Letters: B batch, L patches, T = 1 + L tokens, D width.

/// How an image's feature is taken from the tokens of an encoder.
public enum FeaturePool: String, Codable, CaseIterable, Sendable {
    /// The class token: [D].
    case `class`
    /// The mean of the patch tokens: [D].
    case mean
    /// All tokens, the class token first, then the patches row by row: [T, D].
    case tokens
}

/// Where in an encoder features are taken.
public enum FeaturePlace: Equatable, Sendable {
    /// The output of a block, counted from 0, before any norm.
    case block(Int)
    /// After the final LayerNorm, `norm`.
    case norm
    /// After `fc_norm`, the LayerNorm of the mean of the patch tokens, which fine-tuned weights have in place of
    /// `norm`.
    case meanNorm
}

/// An encoder that processes every patch, and its features.
///
/// An image's feature does not depend on the batch it is in, nor on the number of threads.
public final class FeatureExtractor {
    public let configuration: EncoderConfiguration
    /// Images of one forward pass.
    public let batch: Int
    /// Normalised pixels [B, C·H·W]; written by the caller before `forward`.
    public let images: Tensor
    /// The weights up to where the features are taken; frozen, to be set by `fill`.
    public let parameters: Parameters
    /// The output of `forward`: [B, D], or [B·T, D] for all tokens.
    public let features: Tensor

    private let masking: Masking
    private let encoder: Encoder
    /// The tokens [B·T, D] that are pooled; nil if the encoder's output is the feature.
    private let tokens: Tensor?
    private let pool: FeaturePool
    private let plan: MemoryPlan
    private let pooling: Phase

    /// Plans the memory; the caller commits the plan and loads the weights.
    ///
    /// - Throws: `Failure.usage` where the configuration does not fit together, the block does not exist, or the place
    ///   is `.meanNorm` and the pool is not `.mean`.
    public init(
        _ configuration: EncoderConfiguration, at place: FeaturePlace, pool: FeaturePool, batch: Int, plan: MemoryPlan,
        precision: Precision = .f32
    ) throws {
        try configuration.validate(role: "encoder")
        try configuration.requireCountable(batch: batch)
        var blocks = configuration.depth
        if case .block(let block) = place {
            guard (0..<configuration.depth).contains(block) else {
                throw Failure(
                    .usage,
                    "block \(block) does not exist: the encoder's blocks are 0 to \(configuration.depth - 1); choose "
                        + "one of them"
                )
            }
            blocks = block + 1
        }
        guard place != .meanNorm || pool == .mean else {
            throw Failure(
                .usage,
                "these weights have a norm for the mean of the patch tokens alone: use \(.pool, "mean"), or "
                    + "\(.block, configuration.depth - 1) for tokens before any norm")
        }
        self.configuration = configuration
        self.plan = plan
        self.batch = batch
        self.pool = pool
        images = plan.reserve(
            "images", batch, configuration.channels * configuration.imageHeight * configuration.imageWidth, .batch)
        masking = Masking(batch: batch, patches: configuration.patches, kept: configuration.patches, plan: plan)
        let forward = EncoderForward("encoder", blocks: blocks, in: plan)
        pooling = plan.phase("pooling", part: "encoder")
        parameters = Parameters(frozenIn: plan, owner: "encoder", .weights, precision: precision)
        encoder = Encoder(
            configuration, batch: batch, masking: masking, forward: forward,
            output: place == .meanNorm ? .patchMean : place == .norm ? .tokens : .blocks, until: pooling,
            in: parameters)
        let output = encoder.latent ?? encoder.feature(afterBlock: blocks - 1)
        if place == .meanNorm || pool == .tokens {
            (features, tokens) = (output, nil)
        } else {
            (features, tokens) = (plan.reserve("features", batch, configuration.width, .activations), output)
        }
    }

    /// Encodes `images` and writes `features`.
    public func forward() {
        masking.keepAll()
        encoder.forward(images)
        plan.begin(pooling)
        guard let tokens else { return }
        switch pool {
        case .tokens: break
        case .class:
            let width = configuration.width
            for image in 0..<batch {
                (features.pointer + image * width).update(
                    from: tokens.pointer + image * (1 + configuration.patches) * width, count: width)
            }
        case .mean:
            PatchMeans(tokens: tokens, patches: configuration.patches, means: features).runAll(batch)
        }
    }
}
