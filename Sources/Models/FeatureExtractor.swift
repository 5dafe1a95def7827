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
    private let place: FeaturePlace
    private let pool: FeaturePool
    private let plan: MemoryPlan
    private let pooling: Phase

    /// Plans the memory; the caller commits the plan and loads the weights.
    ///
    /// - Throws: `Failure.usage` where the configuration does not fit together, the block does not exist, or the place
    ///   is `.meanNorm` and the pool is not `.mean`.
    public convenience init(
        _ configuration: EncoderConfiguration, at place: FeaturePlace, pool: FeaturePool, batch: Int, plan: MemoryPlan,
        precision: Precision = .f32
    ) throws {
        try configuration.validate(role: "encoder")
        try configuration.requireCountable(batch: batch)
        if case .block(let block) = place {
            guard (0..<configuration.depth).contains(block) else {
                throw Failure(
                    .usage,
                    "block \(block) does not exist: the encoder's blocks are 0 to \(configuration.depth - 1); choose "
                        + "one of them"
                )
            }
        }
        guard place != .meanNorm || pool == .mean else {
            throw Failure(
                .usage,
                "these weights have a norm for the mean of the patch tokens alone: use \(.pool, "mean"), or "
                    + "\(.block, configuration.depth - 1) for tokens before any norm")
        }
        let images = plan.reserve(
            "images", batch, configuration.channels * configuration.imageHeight * configuration.imageWidth, .batch)
        let masking = Masking(batch: batch, patches: configuration.patches, kept: configuration.patches, plan: plan)
        self.init(
            configuration, place, pool, images: images, masking: { _ in masking }, owner: "encoder", plan: plan,
            parameters: { Parameters(frozenIn: plan, owner: "encoder", .weights, precision: precision) },
            features: { plan.reserve("features", batch, configuration.width, .activations) })
    }

    /// Plans passes of `batch` images, fewer than those of `other`, with its weights. `images` are the first of its
    /// images; a pass of either overwrites the features of both.
    public convenience init(sharing other: FeatureExtractor, batch: Int) {
        precondition(batch < other.batch)
        let patches = other.configuration.patches
        let parameters = Parameters(sharing: other.parameters, owner: "encoder of \(batch)")
        self.init(
            other.configuration, other.place, other.pool, images: other.images.rows(0..<batch),
            masking: { Masking(batch: batch, patches: patches, kept: patches, in: $0) }, owner: "encoder of \(batch)",
            plan: other.plan, parameters: { parameters }, features: { other.features.rows(0..<batch) })
    }

    private init(
        _ configuration: EncoderConfiguration, _ place: FeaturePlace, _ pool: FeaturePool, images: Tensor,
        masking: (Parameters) -> Masking, owner: String, plan: MemoryPlan, parameters: () -> Parameters,
        features: () -> Tensor
    ) {
        self.configuration = configuration
        self.place = place
        self.plan = plan
        self.images = images
        self.pool = pool
        batch = images.rows
        var blocks = configuration.depth
        if case .block(let block) = place { blocks = block + 1 }
        let forward = EncoderForward(owner, blocks: blocks, in: plan)
        pooling = plan.phase("pooling", part: owner)
        self.parameters = parameters()
        self.masking = masking(self.parameters)
        encoder = Encoder(
            configuration, batch: batch, masking: self.masking, forward: forward,
            output: place == .meanNorm ? .patchMean : place == .norm ? .tokens : .blocks, until: pooling,
            in: self.parameters)
        let output = encoder.latent ?? encoder.feature(afterBlock: blocks - 1)
        if place == .meanNorm || pool == .tokens {
            (self.features, tokens) = (output, nil)
        } else {
            (self.features, tokens) = (features(), output)
        }
    }

    /// Encodes `images` and writes `features`.
    public func forward() {
        masking.keepAll()
        encoder.forward(images)
        plan.begin(pooling)
        if let tokens { take(pool, from: tokens, into: features) }
    }

    /// Writes the feature of `pool`, class or mean, of the images that `forward` encoded last to `target` [B, D]. For an
    /// extractor of all tokens; nothing else may have run since.
    public func take(_ pool: FeaturePool, into target: Tensor) {
        precondition(self.pool == .tokens && place != .meanNorm)
        take(pool, from: features, into: target)
    }

    private func take(_ pool: FeaturePool, from tokens: Tensor, into target: Tensor) {
        switch pool {
        case .tokens: preconditionFailure("all tokens are the features as they are")
        case .class:
            let width = configuration.width
            for image in 0..<batch {
                (target.pointer + image * width).update(
                    from: tokens.pointer + image * (1 + configuration.patches) * width, count: width)
            }
        case .mean:
            PatchMeans(tokens: tokens, patches: configuration.patches, means: target).runAll(batch)
        }
    }
}
