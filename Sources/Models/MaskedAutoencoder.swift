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
    /// The decoder, which processes the batch in parts; nil if the reconstruction loss has no weight.
    public var decoder: Decoder? { decoding?.decoder }

    private let plan: MemoryPlan
    private let decoding: Decoding?
    private let backwardPhases: EncoderBackward?
    private var losses: Losses

    /// The decoder with its loss.
    private struct Decoding {
        let decoder: Decoder
        let reconstruction: ReconstructionLoss
        let phases: DecoderPhases
        /// The decoder's range in `parameters.all`.
        let parameters: Range<Int>
        let dLatent: Tensor?
    }

    /// The terms of MAE's loss.
    public static let lossTerms = [
        LossTerm(key: "loss", name: "loss", meaning: "the total that is minimised"),
        LossTerm(
            key: "loss_reconstruction", name: "reconstruction",
            meaning: "mean squared error over the values of the predicted patches"),
    ]
    /// MAE's terms that this model computes: both, or the total alone without a decoder.
    let ownTerms: [LossTerm]
    /// MAE's terms and an empty list of alignment losses, so that a log has the same keys with and without a teacher.
    public var lossTerms: [LossTerm] { ownTerms + [Distillation.alignmentTerm(pairs: 0)] }

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
        self.init(
            configuration, masking: configuration.masking(batch: batch, computation, plan: plan), seed: seed,
            plan: plan, computation)
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

        precondition(configuration.hasDecoder || computation.isTrained, "there is nothing to compute")
        ownTerms = configuration.hasDecoder ? Self.lossTerms : [Self.lossTerms[0]]
        losses = Losses(values: ownTerms.map { _ in 0 })
        let blocks = configuration.studentBlocks
        let forward = EncoderForward("student", blocks: blocks, in: plan)
        alignment()
        let decoderPhases =
            configuration.hasDecoder
            ? DecoderPhases(blocks: configuration.decoder.depth, isTrained: computation.isTrained, in: plan) : nil
        let backward =
            computation.isTrained
            ? EncoderBackward("student", blocks: blocks, alignedBlocks: alignedBlocks, in: plan) : nil
        backwardPhases = backward
        let end = backward?.complete ?? decoderPhases!.loss

        let parameters =
            computation.isTrained
            ? Parameters(
                trainedIn: plan, owner: "student", keepsGradients: computation.keepsGradients,
                precision: computation.precision)
            : Parameters(
                frozenIn: plan, owner: "student", .weights, packs: false, precision: computation.precision)
        self.parameters = parameters
        encoder = Encoder(
            size, batch: batch, masking: masking, forward: forward, backward: backward,
            output: decoderPhases == nil ? .blocks : .tokens, keepsFeatures: Set(alignedBlocks), until: end,
            in: parameters)
        guard let decoderPhases else {
            decoding = nil
            parameters.addUntrained(ModelLayout.encoder(size))
            return
        }
        let computesPredictedOnly = computation.isTrained && !computation.predictsEveryPatch && masking.removedCount > 0
        let minimumRows = computation.minimumDecoderRows ?? (computation.precision == .f32 ? 1536 : 3072)
        let decoderImages =
            computesPredictedOnly
            ? (1...batch).first { batch % $0 == 0 && $0 * (1 + masking.decodedCount) >= minimumRows } ?? batch : batch
        let (decoder, decoderParameters) = parameters.range {
            Decoder(
                configuration.decoder, encoder: size, images: decoderImages, masking: masking,
                computesPredictedOnly: computesPredictedOnly, at: decoderPhases, until: end, in: parameters)
        }
        let reconstruction = ReconstructionLoss(
            size, masking: masking, images: decoderImages, normalizesPixels: configuration.normalizePixels,
            computesPredictedOnly: computesPredictedOnly, at: decoderPhases, plan: plan)
        let dLatent = backward.map {
            plan.reserve(
                "student latent gradient", batch * (1 + masking.keptCount), size.width, .activations,
                alive: .during(decoderPhases.backward!.embedding...$0.norm))
        }
        decoding = Decoding(
            decoder: decoder, reconstruction: reconstruction, phases: decoderPhases, parameters: decoderParameters,
            dLatent: dLatent)
    }

    /// The lifetime of the gradients of tensors added after encoder and decoder, such as projection heads.
    var outsideGradient: ClosedRange<Phase>? { backwardPhases?.gradient }
    /// The phases of the aligned pairs' backward passes.
    var alignmentsBackward: [Phase] { backwardPhases?.alignments ?? [] }

    public var operations: Operations {
        Operations(configuration, keptPatches: masking.keptCount, decoderFirstRows: decoding?.decoder.firstRows)
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
    ///
    /// - Parameter afterPart: called with each part of the batch while the decoder holds its prediction.
    func decode(images count: Int, addedLoss: Float = 0, afterPart: (Range<Int>) -> Void = { _ in }) -> Losses {
        if let decoding {
            plan.begin(decoding.phases.start)
            forEachPart(decoding) { part, rows in
                decoding.decoder.forward(encoder.latent!.rows(rows), firstImage: part.lowerBound)
                decoding.reconstruction.lossAndGradient(
                    images, part: part, prediction: decoding.decoder.prediction, scale: 1)
                afterPart(part)
            }
        }
        setLosses(addedLoss, images: count)
        return losses
    }

    private func setLosses(_ addedLoss: Float, images count: Int) {
        losses.values[0] = addedLoss
        guard let decoding else { return }
        losses.values[1] = decoding.reconstruction.loss(images: count)
        losses.values[0] += configuration.reconstructionWeight * losses.values[1]
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
        if let decoding {
            let accumulate = sink.accumulates, decoder = decoding.decoder
            plan.begin(decoding.phases.start)
            if !accumulate { parameters.clearVectorGradients(decoding.parameters) }
            forEachPart(decoding) { part, rows in
                let first = part.lowerBound, latent = encoder.latent!.rows(rows)
                decoder.forward(latent, firstImage: first)
                decoding.reconstruction.lossAndGradient(
                    images, part: part, prediction: decoder.prediction,
                    scale: scale * configuration.reconstructionWeight)
                decoder.backward(
                    dPrediction: decoding.reconstruction.dPrediction, latent: latent,
                    dLatent: decoding.dLatent!.rows(rows), firstImage: first, accumulate: accumulate || first > 0)
            }
        }
        setLosses(addedLoss, images: batch)
        guard losses.total.isFinite else { return losses }
        if let decoding {
            plan.begin(decoding.phases.backward!.complete)
            sink.complete(decoding.parameters)
        }
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
        let decoder = decoding?.parameters ?? blocks.last!.upperBound..<blocks.last!.upperBound
        let between = blocks.last!.upperBound..<decoder.lowerBound
        let behind = decoder.upperBound..<parameters.all.count
        plan.begin(backward.norm)
        if !accumulate {
            parameters.clearVectorGradients(before)
            parameters.clearVectorGradients(between)
            parameters.clearVectorGradients(behind)
        }
        encoder.backward(
            dLatent: decoding?.dLatent, accumulate: accumulate,
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
    private func forEachPart(_ decoding: Decoding, _ body: (Range<Int>, Range<Int>) -> Void) {
        let tokens = 1 + masking.keptCount, images = decoding.decoder.images
        for first in stride(from: 0, to: batch, by: images) {
            let part = first..<first + images
            body(part, first * tokens..<part.upperBound * tokens)
        }
    }
}

extension ModelConfiguration {
    /// The masking of a batch that student and decoder share.
    func masking(batch: Int, _ computation: MaskedAutoencoder.Computation, plan: MemoryPlan) -> Masking {
        let kept = computation.keptPatches ?? keptPatches
        return Masking(
            batch: batch, patches: student.patches, kept: kept,
            predicted: hasDecoder ? predictedPatches(kept: kept) : nil, plan: plan)
    }
}
