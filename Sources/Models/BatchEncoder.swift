import Tensors

// Letters: B batch, C·H·W pixels, D width.

/// A frozen encoder over all patches, and the features of a batch of images: what a classifier's head reads.
///
/// It takes a few images at a time, so that the memory of its activations does not grow with the batch. An image's
/// feature does not depend on the batch it is in, nor on the number of threads.
public final class BatchEncoder {
    public let configuration: EncoderConfiguration
    /// Maximum number of images B.
    public let batch: Int
    /// Normalised pixels [B, C·H·W]; written by the caller before `encode`.
    public let images: Tensor
    /// [B, D]: the class token after `norm`, or the mean of the patch tokens after `fc_norm`.
    public let features: Tensor
    /// The frozen weights, to be set by `fill`.
    public let parameters: Parameters

    private let plan: MemoryPlan
    private let masking: Masking
    private let encoder: Encoder
    /// Images of one pass.
    private let passImages: Int
    private let copying: Phase

    /// Maximum number of images of a pass.
    private static let maximumPass = 32

    /// Plans the memory; the caller commits the plan and loads the weights.
    ///
    /// - Throws: `Failure.usage` where the configuration does not fit together.
    public init(
        _ configuration: EncoderConfiguration, pool: ClassifierPool, batch: Int, plan: MemoryPlan,
        precision: Precision = .f32
    ) throws {
        try configuration.validate(role: "encoder")
        try configuration.requireCountable(batch: batch)
        self.configuration = configuration
        self.batch = batch
        self.plan = plan
        images = plan.reserve(
            "images", batch, configuration.channels * configuration.imageHeight * configuration.imageWidth, .batch)
        features = plan.reserve("features", batch, configuration.width, .activations)
        // Passes of about the same size.
        let passes = (batch + Self.maximumPass - 1) / Self.maximumPass
        passImages = (batch + passes - 1) / passes
        masking = Masking(batch: passImages, patches: configuration.patches, kept: configuration.patches, plan: plan)
        let forward = EncoderForward("encoder", blocks: configuration.depth, in: plan)
        copying = plan.phase("features", part: "encoder")
        parameters = Parameters(frozenIn: plan, owner: "encoder", .weights, precision: precision)
        encoder = Encoder(
            configuration, batch: passImages, masking: masking, forward: forward, output: pool.output, until: copying,
            in: parameters)
    }

    /// Writes the features of the first `count` images.
    public func encode(_ count: Int) {
        precondition(count <= batch)
        masking.keepAll()
        var first = 0
        while first < count {
            // Every pass takes as many images; the last one may take some of the one before again.
            let rows = min(first, batch - passImages)..<min(first, batch - passImages) + passImages
            encoder.forward(images.rows(rows))
            plan.begin(copying)
            features.rows(rows).copy(from: encoder.latent!)
            first = rows.upperBound
        }
    }
}
