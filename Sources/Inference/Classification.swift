import Glibc
import Images
import Interchange
import Models
import Ranks
import Reporting
import Tensors
import Weights

// Letters: B batch, D width, C classes.

/// Computes the logits of images with frozen weights that hold a class head.
///
/// The head reads one feature of an image, see `EncoderFeature`. A linear probe normalises it by its BatchNorm first.
/// An image's logits do not depend on the batch it is in, nor on the number of
/// threads.
public final class Classification {
    /// The encoder's sizes.
    public let configuration: EncoderConfiguration
    /// The feature that the head reads.
    public let pool: FeaturePool
    /// Outputs of the head.
    public let classes: Int
    /// How weights were adapted to the images, a phrase each.
    public let adaptations: [String]
    /// Images of one pass.
    public var batch: Int { extractor.batch }

    private let extractor: FeatureExtractor
    /// XXH64 of the weights.
    public var checksum: String {
        var hash = XXHash64()
        for parameter in extractor.parameters.all { hash.update(UnsafeRawBufferPointer(parameter.weight.elements)) }
        for layer in [weight, bias] { hash.update(UnsafeRawBufferPointer(layer.elements)) }
        return hash.text
    }

    private let plan = MemoryPlan()
    /// [C, D] and [1, C].
    private let weight, bias: Tensor
    private let logits: Tensor
    private let workspace: Workspace
    private let precision: Precision
    /// Of a linear probe.
    private let batchNorm: ProbeBatchNorm?

    /// Plans the memory and loads the weights.
    ///
    /// - Parameters:
    ///   - configuration: the encoder's sizes; of another image size than the weights', position tables are resampled.
    ///   - pool: class or mean; nil for what the weights say.
    ///   - batch: images of one pass.
    ///   - precision: of the matmuls, as in training: with it a run's validation is repeated bit for bit.
    /// - Throws: `Failure.badData` if the weights hold no whole classifier; `.usage` if a size or the pool does not fit.
    public init(
        weights: ModelWeights, configuration: EncoderConfiguration, pool: FeaturePool? = nil, batch: Int,
        precision: Precision = .f32
    ) throws {
        classes = try weights.requireHead()
        try weights.requireKnownParts()
        guard configuration.channels == 1 || configuration.channels == 3 else {
            throw Failure(
                .badData,
                "\(weights.path): takes \(configuration.channels) channels, but image files give 1 or 3: use weights "
                    + "for one of them")
        }
        let feature = try EncoderFeature(ofHeadIn: weights, pool: pool)
        self.pool = feature.pool
        self.configuration = configuration
        self.precision = precision
        extractor = try FeatureExtractor(
            configuration, at: feature.place, pool: feature.pool, batch: batch, plan: plan,
            precision: precision)
        batchNorm = weights.isLinearProbe ? try ProbeBatchNorm(weights.tensors) : nil
        let width = configuration.width
        weight = plan.reserve("head weight", classes, width, .weights)
        bias = plan.reserve("head bias", 1, classes, .weights)
        logits = plan.reserve("logits", batch, classes, .activations)
        workspace = plan.workspace(
            "head workspace",
            bytes: Kernels.linearWorkspaceBytes(
                rows: batch, inputs: width, outputs: classes, precision: precision, activations: .f32),
            alive: .always)
        try plan.commit()
        extractor.parameters.initializePositions()
        adaptations = try extractor.parameters.load(from: weights, for: configuration).adaptations
        try loadHead(weights)
    }

    private func loadHead(_ weights: ModelWeights) throws {
        let layer = weights.headLayer!
        try weights.tensors.copyFloats(layer + ".weight", into: weight.elements)
        try weights.tensors.copyFloats(layer + ".bias", into: bias.elements)
    }

    private func forward() {
        extractor.forward()
        batchNorm?.apply(to: extractor.features)
        Kernels.linear(
            extractor.features, weight: weight, bias: bias, output: logits, precision: precision, workspace: workspace)
    }

    /// The logits [n, C] of normalised images [n, C, H, W], n at most the batch.
    public func logits(of images: [Float]) -> [Float] {
        let sample = extractor.images.columns
        precondition(images.count % sample == 0 && images.count / sample <= batch)
        for (index, value) in images.enumerated() { extractor.images.pointer[index] = value }
        forward()
        return Array(logits.elements[..<(images.count / sample * classes)])
    }

    /// Computes the logits of every readable image of `source`, in its order. Several processes all call it, see
    /// `SharedBatches`, and `body` is called in process 0.
    ///
    /// - Parameters:
    ///   - preprocessing: how pictures become the input; nil for `Preprocessing.imageNet`.
    ///   - unreadableLimit: the fraction of images that may be unreadable.
    ///   - unreadable: called with each unreadable image and the reason, before `body` sees an image after it.
    ///   - report: called for each unreadable image with a sentence that names it.
    ///   - body: called after every pass with its samples and their logits [batch.count, classes].
    /// - Returns: the number of unreadable images.
    /// - Throws: `Failure.failure` if a logit is not finite, `.badData` for too many unreadable images, or what `body`
    ///   throws.
    @discardableResult
    public func run(
        over source: any ImageSource, reading: PictureReading = PictureReading(), preprocessing: Preprocessing? = nil,
        workers: Int = 1,
        unreadableLimit: Double = UnreadableLimit.standard,
        unreadable: ((Int, Message) -> Void)? = nil, report: @escaping (Message) -> Void = { _ in },
        _ body: (Batch, UnsafeBufferPointer<Float>) throws -> Void
    ) throws -> Int {
        let batches = SharedBatches(
            once: source,
            augmentation: Augmentation(
                width: configuration.imageWidth, height: configuration.imageHeight, channels: configuration.channels,
                framing: .centre, preprocessing: preprocessing, reading: reading),
            batchSize: batch, workers: workers, unreadableLimit: unreadableLimit, unreadable: unreadable,
            report: report)
        defer { batches.stop() }
        func results(_ count: Int) -> UnsafeMutableBufferPointer<Float> {
            UnsafeMutableBufferPointer(rebasing: logits.elements[..<(count * classes)])
        }
        while let images = try batches.next(
            into: extractor.images, results: results,
            { images in
                forward()
                guard results(images.count).allSatisfy(\.isFinite) else {
                    throw Failure(
                        .failure, "logits are not finite, from \(source.path(images.images[0])) on: check the weights")
                }
            })
        {
            try body(images, UnsafeBufferPointer(results(images.count)))
        }
        return batches.unreadableCount
    }
}
