import Images
import Tensors

// Letters: B batch, L patches, K kept patches, C channels, H × W pixels, D width, E decoder width.

/// MAE's pre-training: encode the visible patches, reconstruct the removed ones.
///
/// It is the objective of pre-training, and the student in `Distillation`. All memory is planned in `init` and mapped
/// by the caller's `plan.commit()`.
public final class MaskedAutoencoder: Objective {
    public let configuration: ModelConfiguration
    /// Images of a micro-batch.
    public let batch: Int
    /// Normalised pixels [B, C·H·W]; written by the caller before a pass.
    public let images: Tensor
    /// The patches that the last pass kept.
    public let masking: Masking
    /// The rule by which the next passes choose the kept patches.
    public var selection: PatchSelection
    /// Encoder and decoder, followed by the projection heads of a student.
    public let parameters: Parameters
    /// The trained encoder; a student's in `Distillation`.
    public let encoder: Encoder
    /// The decoder, which processes the batch in parts.
    public let decoder: Decoder

    private let plan: MemoryPlan
    private let reconstruction: ReconstructionLoss
    private let decoderPhases: DecoderPhases
    private let backwardPhases: EncoderBackward?
    /// The decoder's range in `parameters.all`.
    private let decoderParameters: Range<Int>
    private let dLatent: Tensor?
    private var losses = Losses(values: [0, 0])

    /// The terms of MAE's loss.
    public static let lossTerms = [
        LossTerm(key: "loss", name: "loss", meaning: "the total that is minimised"),
        LossTerm(
            key: "loss_reconstruction", name: "reconstruction",
            meaning: "mean squared error over the values of the removed patches"),
    ]
    /// MAE's terms and an empty list of alignment losses, so that a log has the same keys with and without a teacher.
    public var lossTerms: [LossTerm] { Self.lossTerms + [Distillation.alignmentTerm(pairs: 0)] }

    /// Options of the computation that are not part of the model's configuration.
    public struct Computation: Sendable {
        /// Precision of the operands of matmuls and attention, of student and teacher.
        public var precision: Precision
        /// Precision of the operands of the linear layers in the teacher's blocks.
        public var teacherPrecision: TeacherPrecision
        /// Whether gradients are computed.
        public var isTrained: Bool
        /// Whether all gradients exist at the same time, so that several passes can add to them.
        public var keepsGradients: Bool
        /// Whether the decoder also predicts the kept patches. The loss reads removed patches only, so losses and
        /// gradients are the same up to rounding.
        public var predictsEveryPatch: Bool
        /// Minimum tokens of a part of the batch in the decoder. A part is the smallest number of images that divides
        /// the batch and has at least this many tokens. It is the whole batch if every patch is predicted or nothing is
        /// trained. A larger part keeps more activations; a smaller one packs the weights more often. Nil: 1536, or
        /// 3072 in bf16, the same number of bytes. Losses and the encoder's gradients do not depend on it.
        public var minimumDecoderRows: Int?
        /// Number of kept patches per image; nil: computed from the mask ratio.
        public var keptPatches: Int?

        public init(
            precision: Precision = .f32, teacherPrecision: TeacherPrecision = .same, isTrained: Bool = true,
            keepsGradients: Bool = true, predictsEveryPatch: Bool = false, minimumDecoderRows: Int? = nil,
            keptPatches: Int? = nil
        ) {
            self.precision = precision
            self.teacherPrecision = teacherPrecision
            self.isTrained = isTrained
            self.keepsGradients = keepsGradients
            self.predictsEveryPatch = predictsEveryPatch
            self.minimumDecoderRows = minimumDecoderRows
            self.keptPatches = keptPatches
        }
    }

    /// Makes the objective of MAE's pre-training. Plans all memory; the caller commits the plan and sets the weights.
    ///
    /// - Parameter seed: seed of the random masks.
    /// - Throws: `Failure.usage` where the configuration does not fit together.
    public convenience init(
        _ configuration: ModelConfiguration, batch: Int, seed: UInt64, plan: MemoryPlan,
        _ computation: Computation = .init()
    ) throws {
        try configuration.validate()
        try configuration.student.requireCountable(batch: batch, decoder: configuration.decoder)
        let kept = computation.keptPatches ?? configuration.keptPatches
        let masking = Masking(batch: batch, patches: configuration.student.patches, kept: kept, plan: plan)
        self.init(configuration, masking: masking, seed: seed, plan: plan, computation)
    }

    /// - Parameters:
    ///   - masking: shared with the teacher, if there is one.
    ///   - alignedBlocks: the student's block of each aligned pair.
    ///   - alignment: called between encoder and decoder to declare the phases in which pairs are compared.
    init(
        _ configuration: ModelConfiguration, masking: Masking, seed: UInt64, plan: MemoryPlan,
        _ computation: Computation,
        alignedBlocks: [Int] = [], alignment: () -> Void = {}
    ) {
        self.configuration = configuration
        self.masking = masking
        self.plan = plan
        batch = masking.batch
        selection = .random(seed: seed)
        let size = configuration.student, batch = masking.batch
        images = plan.reserve("images", batch, size.channels * size.imageHeight * size.imageWidth, .batch)

        let forward = EncoderForward("student", blocks: size.depth, in: plan)
        alignment()
        decoderPhases = DecoderPhases(
            blocks: configuration.decoder.depth, isTrained: computation.isTrained, in: plan)
        let backward =
            computation.isTrained
            ? EncoderBackward("student", blocks: size.depth, alignedBlocks: alignedBlocks, in: plan) : nil
        backwardPhases = backward
        let end = backward?.complete ?? decoderPhases.loss

        let parameters =
            computation.isTrained
            ? Parameters(
                trainedIn: plan, owner: "student", keepsGradients: computation.keepsGradients,
                precision: computation.precision)
            : Parameters(
                frozenIn: plan, owner: "student", .weights, packs: false, precision: computation.precision)
        self.parameters = parameters
        encoder = Encoder(
            size, batch: batch, masking: masking, forward: forward, backward: backward, output: .tokens,
            keepsFeatures: Set(alignedBlocks), until: end, in: parameters)
        let predictsRemovedOnly = computation.isTrained && !computation.predictsEveryPatch && masking.removedCount > 0
        let minimumRows = computation.minimumDecoderRows ?? (computation.precision == .f32 ? 1536 : 3072)
        let decoderImages =
            predictsRemovedOnly
            ? (1...batch).first { batch % $0 == 0 && $0 * (1 + size.patches) >= minimumRows } ?? batch : batch
        let phases = decoderPhases
        (decoder, decoderParameters) = parameters.range {
            Decoder(
                configuration.decoder, encoder: size, images: decoderImages, masking: masking,
                predictsRemovedOnly: predictsRemovedOnly, at: phases, until: end, in: parameters)
        }
        reconstruction = ReconstructionLoss(
            size, masking: masking, images: decoderImages, normalizesPixels: configuration.normalizePixels,
            predictsRemovedOnly: predictsRemovedOnly, at: phases, plan: plan)
        dLatent = backward.map {
            plan.reserve(
                "student latent gradient", batch * (1 + masking.keptCount), size.width, .activations,
                alive: .during(phases.backward!.embedding...$0.norm))
        }
    }

    /// The lifetime of the gradients of tensors added after encoder and decoder, such as projection heads.
    var outsideGradient: ClosedRange<Phase>? { backwardPhases?.gradient }
    /// The phases of the aligned pairs' backward passes.
    var alignmentsBackward: [Phase] { backwardPhases?.alignments ?? [] }

    public var operations: Operations {
        Operations(configuration, keptPatches: masking.keptCount, decoderFirstRows: decoder.firstRows)
    }

    // MARK: Passes

    public func step(_ batch: Batch, scale: Float, sink: some GradientSink) -> Losses {
        encode(batch)
        return decodeAndDifferentiate(scale: scale, sink: sink)
    }

    public func evaluate(_ batch: Batch) -> Losses {
        encode(batch)
        return decode(images: batch.count)
    }

    /// Selects patches and runs the encoder on them.
    private func encode(_ batch: Batch) {
        select(batch)
        encode()
    }

    /// Selects the kept patches. Rows behind a batch that is not full are computed, too; they get the mask of its last
    /// sample.
    func select(_ batch: Batch) { masking.select(selection) { batch.samples[min($0, batch.count - 1)] } }

    /// Runs the encoder on the selected patches of `images`.
    func encode() { encoder.forward(images) }

    /// Runs the decoder and computes the losses of the first `count` images; for `addedLoss` see
    /// `decodeAndDifferentiate`.
    func decode(images count: Int, addedLoss: Float = 0) -> Losses {
        plan.begin(decoderPhases.start)
        forEachPart { part, rows in
            decoder.forward(encoder.latent!.rows(rows), firstImage: part.lowerBound)
            reconstruction.lossAndGradient(images, part: part, prediction: decoder.prediction, scale: 1)
        }
        setLosses(addedLoss, images: count)
        return losses
    }

    private func setLosses(_ addedLoss: Float, images count: Int) {
        losses.values[1] = reconstruction.loss(images: count)
        losses.values[0] = losses.values[1] + addedLoss
    }

    /// All of a step after the encoder's forward pass: the decoder forward and backward, part by part, then the encoder
    /// backward.
    ///
    /// - Parameters:
    ///   - addedLoss: a loss of the encoder's features, added to the total.
    ///   - beforeBlock: adds that loss's gradient with respect to the output of a block of the encoder.
    func decodeAndDifferentiate(
        scale: Float, sink: some GradientSink, addedLoss: Float = 0, beforeBlock: (Int, Tensor) -> Void = { _, _ in }
    ) -> Losses {
        let accumulate = sink.accumulates
        plan.begin(decoderPhases.start)
        if !accumulate { parameters.clearVectorGradients(decoderParameters) }
        forEachPart { part, rows in
            let first = part.lowerBound, latent = encoder.latent!.rows(rows)
            decoder.forward(latent, firstImage: first)
            reconstruction.lossAndGradient(images, part: part, prediction: decoder.prediction, scale: scale)
            decoder.backward(
                dPrediction: reconstruction.dPrediction, latent: latent, dLatent: dLatent!.rows(rows),
                firstImage: first, accumulate: accumulate || first > 0)
        }
        setLosses(addedLoss, images: batch)
        guard losses.total.isFinite else { return losses }
        plan.begin(decoderPhases.backward!.complete)
        sink.complete(decoderParameters)
        differentiateEncoder(sink, beforeBlock: beforeBlock)
        return losses
    }

    /// Computes the encoder's gradients: block by block from the last one, then those of all tensors outside the
    /// blocks.
    private func differentiateEncoder(_ sink: some GradientSink, beforeBlock: (Int, Tensor) -> Void) {
        let backward = backwardPhases!, accumulate = sink.accumulates
        let blocks = encoder.blockParameters
        // Embedding, norm, and the projection heads of a student.
        let before = 0..<blocks.first!.lowerBound
        let between = blocks.last!.upperBound..<decoderParameters.lowerBound
        let behind = decoderParameters.upperBound..<parameters.all.count
        plan.begin(backward.norm)
        if !accumulate {
            parameters.clearVectorGradients(before)
            parameters.clearVectorGradients(between)
            parameters.clearVectorGradients(behind)
        }
        encoder.backward(
            dLatent: dLatent!, accumulate: accumulate,
            beforeBlock: { block, d in
                if !accumulate { parameters.clearVectorGradients(blocks[block]) }
                beforeBlock(block, d)
            },
            afterBlock: { sink.complete(blocks[$0]) })
        plan.begin(backward.complete)
        sink.complete(before)
        sink.complete(between)
        sink.complete(behind)
    }

    /// Calls `body` with each part of the batch that the decoder takes at a time: its images, and their rows of
    /// `latent`.
    private func forEachPart(_ body: (Range<Int>, Range<Int>) -> Void) {
        let tokens = 1 + masking.keptCount
        for first in stride(from: 0, to: batch, by: decoder.images) {
            let part = first..<first + decoder.images
            body(part, first * tokens..<part.upperBound * tokens)
        }
    }
}
