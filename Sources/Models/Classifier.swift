import Images
import Reporting
import Tensors

// Letters: B batch, C channels, H × W pixels, D width, K classes.

/// Fine-tuning: a Vision Transformer over all patches with a linear head, and the cross-entropy of its logits.
///
/// A fine-tuned teacher may run on the same images; its logits are then distilled. All memory is planned in `init` and
/// mapped by the caller's `plan.commit()`.
public final class Classifier: ClassifyingObjective {
    public let configuration: ClassifierConfiguration
    /// Images of a micro-batch.
    public let batch: Int
    /// Normalised pixels [B, C·H·W]; written by the caller before a pass.
    public let images: Tensor
    /// Of the last pass: [B, K].
    public var logits: Tensor { network.logits }
    public var classes: Int { configuration.classes }
    /// Of the teacher in the last step, or as the caller has written them (`Computation.givenTeacherLogits`): [B, K].
    public let teacherLogits: Tensor?
    public let parameters: Parameters
    /// The teacher's weights; nil without a teacher.
    public let frozenParameters: Parameters?
    /// The rule for the targets of the next steps.
    public var targets = TargetSelection.labels
    /// The rule by which the next steps drop branches. Has no effect where the configuration's drop path is 0.
    public var dropPathSelection: DropPathSelection

    private let plan: MemoryPlan
    private let network: ClassifierNetwork
    private let teacher: ClassifierNetwork?
    private let dropPath: DropPath?
    private let training: Training?
    private var losses: Losses

    /// What only a trained classifier has.
    private struct Training {
        let loss: ClassificationLoss
        let headBackward: Phase
        let headComplete: Phase
        let backward: EncoderBackward
        /// With respect to the head's input: [B, D].
        let dLatent: Tensor
    }

    /// Options of the computation that are not part of the configuration.
    public struct Computation: Sendable {
        /// Precision of the operands of matmuls and attention, of student and teacher.
        public var precision: Precision
        /// Whether gradients are computed. If not, weights are frozen and kept only in packed form.
        public var isTrained: Bool
        /// Whether all gradients exist at the same time, so that several passes can add to them, or clip them.
        public var keepsGradients: Bool
        /// Distils logits that the caller writes to `teacherLogits` before each step. Only without a teacher.
        public var givenTeacherLogits: LogitDistillation?

        public init(
            precision: Precision = .f32, isTrained: Bool = true, keepsGradients: Bool = true,
            givenTeacherLogits: LogitDistillation? = nil
        ) {
            self.precision = precision
            self.isTrained = isTrained
            self.keepsGradients = keepsGradients
            self.givenTeacherLogits = givenTeacherLogits
        }
    }

    /// Plans all memory; the caller commits the plan and sets the weights.
    ///
    /// - Parameter seed: seed of drop path.
    /// - Throws: `Failure.usage` where the configuration does not fit together.
    public init(
        _ configuration: ClassifierConfiguration, batch: Int, seed: UInt64, plan: MemoryPlan,
        _ computation: Computation = .init()
    ) throws {
        try configuration.validate()
        let size = configuration.encoder
        try size.requireCountable(batch: batch)
        let teacherConfiguration = computation.isTrained ? configuration.teacher : nil
        try teacherConfiguration?.encoder.requireCountable(batch: batch)
        precondition(
            computation.givenTeacherLogits == nil || teacherConfiguration == nil,
            "logits are given, or a teacher's")
        self.configuration = configuration
        self.plan = plan
        self.batch = batch
        dropPathSelection = .random(seed: seed)
        images = plan.reserve("images", batch, size.channels * size.imageHeight * size.imageWidth, .batch)
        let precision = computation.precision

        // The phases are declared in the order in which they happen.
        let teacherForward = teacherConfiguration.map {
            ClassifierForward("teacher", blocks: $0.encoder.depth, in: plan)
        }
        let forward = ClassifierForward("classifier", blocks: size.depth, in: plan)
        dropPath =
            computation.isTrained && configuration.dropPath > 0
            ? DropPath(configuration.dropPath, blocks: size.depth, batch: batch, plan: plan) : nil
        guard computation.isTrained else {
            parameters = Parameters(frozenIn: plan, owner: "classifier", .weights, precision: precision)
            network = ClassifierNetwork(
                size, pool: configuration.pool, classes: configuration.classes, batch: batch, forward: forward,
                in: parameters)
            (teacher, frozenParameters, teacherLogits, training) = (nil, nil, nil, nil)
            losses = Losses(values: [0])
            return
        }
        let lossPhase = plan.phase("classification loss", part: "classifier")
        let headBackward = plan.phase("classifier head backward", part: "classifier")
        let headComplete = plan.phase("classifier head is complete")
        let backward = EncoderBackward("classifier", blocks: size.depth, in: plan)
        parameters = Parameters(
            trainedIn: plan, owner: "classifier", keepsGradients: computation.keepsGradients, precision: precision,
            updates: configuration.update)
        network = ClassifierNetwork(
            size, pool: configuration.pool, classes: configuration.classes, batch: batch, forward: forward,
            backward: .init(encoder: backward, head: headBackward, complete: headComplete), dropPath: dropPath,
            in: parameters)
        if let teacherConfiguration, let teacherForward {
            let frozen = Parameters(frozenIn: plan, owner: "teacher", .teacherWeights, precision: precision)
            let network = ClassifierNetwork(
                teacherConfiguration.encoder, pool: teacherConfiguration.pool, classes: configuration.classes,
                batch: batch, forward: teacherForward, in: frozen)
            (teacher, frozenParameters, teacherLogits) = (network, frozen, network.logits)
        } else {
            (teacher, frozenParameters) = (nil, nil)
            teacherLogits = computation.givenTeacherLogits.map { _ in
                plan.reserve("teacher logits", batch, configuration.classes, .batch)
            }
        }
        let distillation = teacherConfiguration?.distillation ?? computation.givenTeacherLogits
        training = Training(
            loss: ClassificationLoss(
                batch: batch, classes: configuration.classes, smoothing: configuration.smoothing,
                distillation: distillation, at: lossPhase, until: headBackward, plan: plan),
            headBackward: headBackward, headComplete: headComplete, backward: backward,
            dLatent: plan.reserve(
                "classifier latent gradient", batch, size.width, .scratch, alive: .during(headBackward...backward.norm))
        )
        losses = Losses(values: Array(repeating: 0, count: distillation == nil ? 1 : 3))
    }

    private static let total = LossTerm(key: "loss", name: "loss", meaning: "the total that is minimised")
    /// The terms beside the total where there is a teacher.
    static let distillationTerms = [
        LossTerm(
            key: "loss_classification", name: "classification",
            meaning: "cross-entropy with the targets, unweighted"),
        LossTerm(
            key: "loss_distillation", name: "distillation",
            meaning: "distance of the logits to the teacher's, unweighted"),
    ]
    public var lossTerms: [LossTerm] {
        losses.values.count > 1 ? [Self.total] + Self.distillationTerms : [Self.total]
    }

    public var operations: Operations { Operations(configuration) }

    public var frozenOutputsAreFinite: Bool { teacherLogits?.elements.allSatisfy(\.isFinite) ?? true }

    // MARK: Passes

    /// Computes the logits of all images, without drop path.
    public func forward() {
        dropPath?.isActive = false
        network.forward(images)
    }

    /// - Parameter batch: at most as many samples as `images` has rows, with their labels.
    /// - Returns: the mean cross-entropy with the labels, without smoothing and teacher; all other values are 0.
    public func evaluate(_ batch: Batch) -> Losses {
        forward()
        guard let labels = batch.labels, batch.count > 0, batch.count <= logits.rows else {
            preconditionFailure("every image that a classifier evaluates has a label")
        }
        var sum = 0.0
        for (row, label) in labels.enumerated() {
            sum -= Softmax(logits.pointer + row * logits.columns, logits.columns).logProbability(label)
        }
        for index in losses.values.indices { losses.values[index] = 0 }
        losses.values[0] = Float(sum / Double(batch.count))
        return losses
    }

    public func step(_ batch: Batch, scale: Float, sink: some GradientSink) -> Losses {
        guard let training else { preconditionFailure("a frozen classifier takes no step") }
        let accumulate = sink.accumulates
        if let teacher {
            precondition(frozenParameters!.isFilled, "the teacher has no weights yet")
            teacher.forward(images)
        }
        if let dropPath {
            dropPath.select(dropPathSelection) { batch.samples[$0] }
            dropPath.isActive = true
        }
        network.forward(images)
        let values = training.loss.lossAndGradient(
            logits, teacherLogits: teacherLogits, targets, batch, scale: scale)
        losses.values[0] = values.total
        if losses.values.count > 1 {
            (losses.values[1], losses.values[2]) = (values.classification, values.distillation)
        }
        guard losses.total.isFinite else { return losses }

        let blocks = network.encoder.blockParameters
        let embedding = 0..<blocks.first!.lowerBound, head = network.headParameters
        let norm = blocks.last!.upperBound..<head.lowerBound
        plan.begin(training.headBackward)
        if !accumulate { parameters.clearVectorGradients(head) }
        network.backwardHead(training.loss.dLogits, dLatent: training.dLatent, accumulate: accumulate)
        plan.begin(training.headComplete)
        sink.complete(head)
        plan.begin(training.backward.norm)
        if !accumulate {
            parameters.clearVectorGradients(embedding)
            parameters.clearVectorGradients(norm)
        }
        network.encoder.backward(
            dLatent: training.dLatent, accumulate: accumulate,
            beforeBlock: { block, _ in if !accumulate { parameters.clearVectorGradients(blocks[block]) } },
            afterBlock: { sink.complete(blocks[$0]) })
        plan.begin(training.backward.complete)
        sink.complete(embedding)
        sink.complete(norm)
        return losses
    }
}

/// The phases of a classifier's forward pass.
struct ClassifierForward {
    let encoder: EncoderForward
    let head: Phase

    init(_ part: String, blocks: Int, in plan: MemoryPlan) {
        encoder = EncoderForward(part, blocks: blocks, in: plan)
        head = plan.phase("\(part) head", part: part)
    }
}

/// An encoder over all patches and a linear head. Its logits are those of the last pass.
final class ClassifierNetwork {
    struct Backward {
        let encoder: EncoderBackward
        /// The head runs backward.
        let head: Phase
        /// The head's gradients are passed to the sink.
        let complete: Phase
    }

    let encoder: Encoder
    /// [B, K].
    let logits: Tensor
    /// The head's range in `Parameters.all`.
    let headParameters: Range<Int>
    private let head: Linear
    private let plan: MemoryPlan
    private let headForward: Phase
    private let masking: Masking

    /// Adds the parameters of the encoder, its norm, and `head`.
    init(
        _ configuration: EncoderConfiguration, pool: ClassifierPool, classes: Int, batch: Int,
        forward: ClassifierForward, backward: Backward? = nil, dropPath: DropPath? = nil, in parameters: Parameters
    ) {
        plan = parameters.plan
        headForward = forward.head
        masking = Masking(
            batch: batch, patches: configuration.patches, kept: configuration.patches, in: parameters)
        encoder = Encoder(
            configuration, batch: batch, masking: masking, forward: forward.encoder, backward: backward?.encoder,
            output: pool.output, trainsPositions: true, dropPath: dropPath, until: backward?.head ?? forward.head,
            in: parameters)
        (head, headParameters) = parameters.range {
            Linear(
                "head", inputs: configuration.width, outputs: classes, rows: batch,
                at: LayerPhases(
                    forward: forward.head, backward: backward?.head, gradient: backward.map { $0.head...$0.complete }),
                in: parameters, initial: .normal(2e-5))
        }
        logits = parameters.buffer("logits", batch, classes, .activations, alive: .always)
    }

    /// Computes `logits` from images[B, C·H·W], normalised.
    func forward(_ images: Tensor) {
        masking.keepAll()
        encoder.forward(images)
        plan.begin(headForward)
        head.forward(encoder.latent!, logits)
    }

    /// Backward pass of the head: dLatent[B, D] from dLogits[B, K]. The weight's gradient is overwritten unless
    /// `accumulate`; the bias's always accumulates.
    func backwardHead(_ dLogits: Tensor, dLatent: Tensor, accumulate: Bool) {
        head.weightGradient(dLogits, encoder.latent!, accumulate: accumulate)
        head.inputGradient(dLogits, dLatent)
    }
}
