import Tensors

// Letters: B batch, L patches, D width.

/// Features of an encoder while it is trained: the class token after the final norm, of images of which every patch is
/// visible. The features of `FeatureExtractor`, in float32, for the weights as they are at the moment.
///
/// Weights are read where they are trained. Images, activations and features are alive only in phases after those of a
/// step and share its memory.
public final class TrainedFeatures {
    /// Images of one forward pass.
    public let batch: Int
    /// Normalised pixels [B, C·H·W]; written by the caller between `beginImages` and `forward`.
    public let images: Tensor
    /// The output of `forward`: [B, D], valid until `beginImages`.
    public let features: Tensor
    /// The last phase, in which features are read.
    public let reading: Phase

    private let plan: MemoryPlan
    private let receiving: Phase
    private let pooling: Phase
    private let masking: Masking
    private let encoder: Encoder

    /// Plans the memory.
    ///
    /// - Parameters:
    ///   - parameters: weights that hold the encoder's.
    ///   - name: prefix of the names of phases and buffers.
    /// - Throws: `Failure.usage` where the configuration does not fit together.
    public init(
        _ configuration: EncoderConfiguration, of parameters: Parameters, name: String, batch: Int
    ) throws {
        try configuration.validate(role: "encoder")
        try configuration.requireCountable(batch: batch)
        let plan = parameters.plan
        self.plan = plan
        self.batch = batch
        let weights = Parameters(reading: parameters, owner: name)
        receiving = plan.phase("\(name) images", part: name)
        let forward = EncoderForward(name, blocks: configuration.depth, in: plan)
        pooling = plan.phase("\(name) pooling", part: name)
        reading = plan.phase("\(name) features", part: name)
        images = weights.buffer(
            "images", batch, configuration.channels * configuration.imageHeight * configuration.imageWidth, .batch,
            alive: .during(receiving...forward.embedding))
        masking = Masking(batch: batch, patches: configuration.patches, kept: configuration.patches, in: weights)
        encoder = Encoder(
            configuration, batch: batch, masking: masking, forward: forward, output: .tokens, until: pooling,
            in: weights)
        features = weights.buffer(
            "features", batch, configuration.width, .activations, alive: .during(pooling...reading))
    }

    /// Announces that the caller writes `images`.
    public func beginImages() { plan.begin(receiving) }

    /// Encodes `images` and writes `features`.
    public func forward() {
        masking.keepAll()
        encoder.forward(images)
        plan.begin(pooling)
        let tokens = encoder.latent!
        for image in 0..<batch { features.copyRow(image, from: tokens, image * (1 + masking.patches)) }
        plan.begin(reading)
    }
}
