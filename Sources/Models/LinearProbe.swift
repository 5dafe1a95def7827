import Images
import Reporting
import Tensors

// Letters: B batch, D width, K classes.

/// MAE's linear probe: a linear classifier on the features of a frozen encoder, as a measure of the features.
///
/// A feature passes a BatchNorm without affine part and a linear layer; the loss is the cross-entropy with the label.
/// Only the linear layer is trained, so nothing is differentiated but it.
public final class LinearProbe: ClassifyingObjective {
    /// Encoder, classes and pool; its other values are of fine-tuning.
    public let configuration: ClassifierConfiguration
    /// Images of a micro-batch, over which BatchNorm computes its statistics.
    public let batch: Int
    /// Normalised pixels [B, C·H·W]; without an encoder the features themselves.
    public let images: Tensor
    /// [B, D]: of the last pass, or written by the caller before `classify`.
    public let features: Tensor
    /// `head.0.running_mean` and `head.0.running_var`, which are stored but not trained, and `head.1`.
    public let parameters: Parameters
    /// Of the last pass: [B, K].
    public let logits: Tensor
    public var classes: Int { configuration.classes }
    /// The frozen encoder; nil if the probe receives features.
    public let encoder: BatchEncoder?
    public let lossTerms = [
        LossTerm(key: "loss", name: "loss", meaning: "cross-entropy with the labels, the mean over the images")
    ]
    public var frozenParameters: Parameters? { encoder?.parameters }
    public var frozenOutputsAreFinite: Bool { features.elements.allSatisfy(\.isFinite) }

    private let plan: MemoryPlan
    private let norm: BatchNorm
    private let linear: Linear
    private let loss: ClassificationLoss
    /// BatchNorm's output: [B, D].
    private let normalized: Tensor
    private let forward, gradient, complete: Phase
    private var losses = Losses(values: [0])

    /// The kind of samples that a probe receives.
    public enum Input: Equatable, Sendable {
        /// Images, which a frozen encoder encodes in this precision.
        case images(Precision)
        /// Features that were computed before.
        case features
    }

    /// Plans all memory; the caller commits the plan and sets the weights.
    ///
    /// - Parameter keepsGradients: whether several micro-batches can add to the gradients.
    /// - Throws: `Failure.usage` where the configuration does not fit together, or the batch is a single image.
    public init(
        _ configuration: ClassifierConfiguration, batch: Int, plan: MemoryPlan, _ input: Input = .images(.f32),
        keepsGradients: Bool = true
    ) throws {
        try configuration.validate()
        guard batch >= 2 else {
            throw Failure(.usage, "\(.batch) must be at least 2: BatchNorm needs the variance of a batch")
        }
        self.configuration = configuration
        self.batch = batch
        self.plan = plan
        let (width, classes) = (configuration.encoder.width, configuration.classes)
        switch input {
        case .images(let precision):
            let encoder = try BatchEncoder(
                configuration.encoder, pool: configuration.pool, batch: batch, plan: plan, precision: precision)
            (images, features, self.encoder) = (encoder.images, encoder.features, encoder)
        case .features:
            features = plan.reserve("features", batch, width, .batch)
            (images, encoder) = (features, nil)
        }
        forward = plan.phase("probe head", part: "head")
        let lossPhase = plan.phase("probe loss", part: "head")
        gradient = plan.phase("probe head backward", part: "head")
        complete = plan.phase("probe head is complete")
        let parameters = Parameters(trainedIn: plan, owner: "probe", keepsGradients: keepsGradients)
        self.parameters = parameters
        norm = BatchNorm("head.0", width: width, in: parameters)
        linear = Linear(
            "head.1", inputs: width, outputs: classes, rows: batch,
            at: LayerPhases(forward: forward, backward: gradient, gradient: gradient...complete), in: parameters,
            initial: .normal(0.01))
        normalized = parameters.buffer(
            "normalised features", batch, width, .activations, alive: .during(forward...gradient))
        logits = parameters.buffer("logits", batch, classes, .activations, alive: .always)
        loss = ClassificationLoss(
            batch: batch, classes: classes, smoothing: 0, distillation: nil, at: lossPhase, until: gradient, plan: plan)
    }

    public var operations: Operations { Operations(probing: configuration, encodes: encoder != nil) }

    // MARK: Passes

    public func step(_ batch: Batch, scale: Float, sink: some GradientSink) -> Losses {
        encoder?.encode(batch.count)
        plan.begin(forward)
        norm.normalizeAndTrack(features, normalized)
        linear.forward(normalized, logits)
        losses.values[0] =
            loss.lossAndGradient(logits, teacherLogits: nil, .labels, batch, scale: scale).total
        guard losses.total.isFinite else { return losses }
        plan.begin(gradient)
        if !sink.accumulates { parameters.clearVectorGradients(parameters.all.indices) }
        linear.weightGradient(loss.dLogits, normalized, accumulate: sink.accumulates)
        plan.begin(complete)
        sink.complete(parameters.all.indices)
        return losses
    }

    /// With the running statistics.
    ///
    /// - Parameter batch: at most as many samples as `images` has rows.
    public func evaluate(_ batch: Batch) -> Losses {
        guard let labels = batch.labels, batch.count > 0 else {
            preconditionFailure("every image that a probe evaluates has a label")
        }
        encoder?.encode(batch.count)
        classify(batch.count)
        var sum = 0.0
        for (row, label) in labels.enumerated() {
            sum -= Softmax(logits.pointer + row * logits.columns, logits.columns).logProbability(label)
        }
        losses.values[0] = Float(sum / Double(batch.count))
        return losses
    }

    /// Writes the first `count` rows of `logits` from those of `features`, with the running statistics.
    public func classify(_ count: Int) {
        plan.begin(forward)
        norm.normalize(features.rows(0..<count), normalized.rows(0..<count))
        linear.forward(normalized.rows(0..<count), logits.rows(0..<count))
    }
}

extension ModelLayout {
    /// The tensors of a probed classifier: the encoder's, and the probe's.
    public init(probing configuration: ClassifierConfiguration) {
        let encoder = configuration.encoder
        self =
            Self.encoder(encoder, norms: [configuration.pool.norm])
            + Self.linearProbe(width: encoder.width, classes: configuration.classes)
    }
}
