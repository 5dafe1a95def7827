import Reporting
import Tensors

// Letters: B batch, L patches, K kept patches, C channels, H × W pixels.

/// One micro-batch of the method: teacher to its last aligned block, student, decoder, both losses, and all gradients.
///
/// Without a teacher it is MAE's pre-training. All memory is planned in `init` and mapped by the caller's
/// `plan.commit()`.
public final class Distiller {
    public let configuration: ModelConfiguration
    /// Images of a micro-batch.
    public let batch: Int
    /// Normalised pixels [B, C·H·W]; written by the caller before a pass.
    public let images: Tensor
    /// Which patches stay; its noise is written by the caller before a pass.
    public let masking: Masking
    /// The student's weights: encoder, decoder and projection heads.
    public let parameters: Parameters
    /// The teacher's weights up to its last aligned block.
    public let teacherParameters: Parameters?
    public let student: Encoder
    public let decoder: Decoder
    public let alignments: [AlignmentLoss]

    private let plan: MemoryPlan
    private let teacher: Encoder?
    private let reconstruction: ReconstructionLoss
    private let accumulates: Bool
    /// Where the decoder's are in `parameters.all`; the projection heads' follow.
    private let decoderParameters: Range<Int>
    private let dLatent: Tensor?
    private let dState: Tensor?

    /// The losses of the micro-batch last seen.
    public struct Losses: Sendable {
        /// Mean squared error over the removed patches.
        public var reconstruction: Float = 0
        /// One distance per aligned pair.
        public var alignments: [Float]
        /// reconstruction + α·Σ alignments.
        public var total: Float = 0
    }
    public private(set) var losses: Losses

    /// - Parameters:
    ///   - training: whether gradients will be wanted.
    ///   - accumulates: whether gradients of several passes are to be added up. Where not, those of the student's
    ///     blocks have one memory, and are had by `computeGradients` alone.
    ///   - precision: what the operands of products and attention are rounded to, student and teacher.
    ///   - teacherPrecision: what those of the linear layers in the teacher's blocks are rounded to instead.
    ///   - predictsEveryPatch: whether the decoder's prediction is wanted for patches that stay, too. The losses and
    ///     gradients are the same either way, to rounding: the loss reads removed patches alone.
    ///   - leastDecoderRows: the decoder takes as many images at a time as have this many tokens, or the next count
    ///     that divides the batch; all of them where every patch is predicted or nothing is trained. Each part packs
    ///     the weights again, and what is kept for the backward pass of one grows with it. Nil: 1536, or 3072 in bf16,
    ///     which are as many bytes. Losses and the encoder's gradients do not depend on it.
    /// - Throws: `Failure.usage` where the configuration does not fit together.
    public init(
        _ configuration: ModelConfiguration, batch: Int, plan: MemoryPlan, training: Bool = true,
        accumulates: Bool = true,
        precision: Precision = .f32, teacherPrecision: TeacherPrecision = .same, predictsEveryPatch: Bool = false,
        leastDecoderRows: Int? = nil
    ) throws {
        try configuration.validate()
        try configuration.student.requireCountable(batch: batch, decoder: configuration.decoder)
        try configuration.teacher?.requireCountable(batch: batch)
        if let width = configuration.teacher?.width, teacherPrecision == .int8, 4 * width > 65_536 {
            throw Failure(
                .usage,
                "\(.teacherPrecision, "int8") is for teachers of a width of at most 16384, not \(width): leave it out")
        }
        self.configuration = configuration
        self.batch = batch
        self.plan = plan
        self.accumulates = accumulates
        let studentConfiguration = configuration.student
        images = plan.reserve(
            batch, studentConfiguration.channels * studentConfiguration.imageHeight * studentConfiguration.imageWidth,
            .batch)
        let masking = Masking(
            batch: batch, patches: studentConfiguration.patches, kept: configuration.keptPatches, plan: plan)
        self.masking = masking
        let rows = batch * (1 + configuration.keptPatches)
        let parameters = Parameters(plan: plan, trained: training, precision: precision)
        if !accumulates { parameters.gradientPhases = .studentBackward }
        let student = plan.during([.student, .studentBackward]) {
            Encoder(
                studentConfiguration, batch: batch, masking: masking, blockCount: studentConfiguration.depth,
                in: parameters,
                plan: plan, training: training, hasNorm: true)
        }
        self.student = student
        let predictsRemovedOnly = training && !predictsEveryPatch && masking.removed > 0
        let decoderRows = leastDecoderRows ?? (precision == .f32 ? 1536 : 3072)
        let decoderImages =
            predictsRemovedOnly
            ? (1...batch).first { batch % $0 == 0 && $0 * (1 + studentConfiguration.patches) >= decoderRows } ?? batch
            : batch
        let decoderStart = parameters.all.count
        // Added up over the parts of the batch.
        if !accumulates { parameters.gradientPhases = [.decoder, .studentBackward] }
        (decoder, reconstruction) = plan.during(.decoder) {
            (
                Decoder(
                    configuration.decoder, encoder: studentConfiguration, images: decoderImages, masking: masking,
                    in: parameters,
                    plan: plan, training: training, predictsRemovedOnly: predictsRemovedOnly),
                ReconstructionLoss(
                    studentConfiguration, masking: masking, images: decoderImages,
                    normalizesPixels: configuration.normalizePixels,
                    predictsRemovedOnly: predictsRemovedOnly, plan: plan)
            )
        }
        decoderParameters = decoderStart..<parameters.all.count
        if !accumulates { parameters.gradientPhases = .studentBackward }
        if let teacherConfiguration = configuration.teacher, let last = configuration.lastTeacherBlock {
            let teacherParameters = Parameters(
                plan: plan, trained: false, precision: precision, matrices: teacherPrecision.matrices(in: precision),
                isFrozen: true)
            teacher = plan.during(.teacher) {
                Encoder(
                    teacherConfiguration, batch: batch, masking: masking, blockCount: last + 1, in: teacherParameters,
                    plan: plan,
                    training: false, hasNorm: false)
            }
            self.teacherParameters = teacherParameters
            alignments = plan.during([.student, .studentBackward]) {
                configuration.alignment.pairs.indices.map {
                    AlignmentLoss(
                        $0, configuration.alignment, studentWidth: studentConfiguration.width,
                        teacherWidth: teacherConfiguration.width, rows: rows, in: parameters, plan: plan)
                }
            }
        } else {
            teacher = nil
            teacherParameters = nil
            alignments = []
        }
        self.parameters = parameters
        dLatent =
            training
            ? plan.during([.decoder, .studentBackward]) { plan.reserve(rows, studentConfiguration.width, .activations) }
            : nil
        dState =
            training
            ? plan.during(.studentBackward) { plan.scratch("encoder gradient", rows, studentConfiguration.width) } : nil
        losses = Losses(alignments: Array(repeating: 0, count: alignments.count))
    }

    /// What one image's share of a micro-batch costs.
    public var operations: Operations { Operations(configuration, decoderFirstRows: decoder.firstRows) }

    /// Runs teacher, student and decoder on `images` under the mask that the noise gives, and leaves the losses; no
    /// gradients.
    ///
    /// In a distiller that is not for training all student blocks share one output, so of the alignment losses only
    /// those of its last block hold; the others, and the total, do not.
    public func forward() { forward(scale: 1, gradients: nil) }

    /// The same, and adds the losses' gradients to the parameters' gradients.
    ///
    /// - Parameter scale: what the gradients are multiplied by; 1/accumulation for the mean over an effective batch.
    public func accumulateGradients(scale: Float = 1) {
        precondition(accumulates, "gradients that share memory cannot be added up")
        forward(scale: scale, gradients: .added)
        backward(.added, whenComplete: { _ in })
    }

    /// Runs one micro-batch and hands over each gradient as soon as it is complete, from when on its weight is not read
    /// any more: the student's blocks, the last first, then everything before and behind them. What was in the
    /// gradients before is lost.
    ///
    /// Where the total loss is not finite, nothing is handed over.
    ///
    /// - Parameter whenComplete: called with places in `parameters.all`, with each of them once. Where gradients are
    ///   not accumulated, those of a student's block are gone once it has returned.
    public func computeGradients(whenComplete: (Range<Int>) -> Void) {
        forward(scale: 1, gradients: .new)
        guard losses.total.isFinite else { return }
        backward(.new, whenComplete: whenComplete)
    }

    /// What becomes of the gradients that are there.
    private enum Gradients { case new, added }

    /// Teacher, student, losses, and the decoder with its gradients if wanted.
    private func forward(scale: Float, gradients: Gradients?) {
        masking.update()
        plan.begin(.teacher)
        Profile.part = "teacher"
        if let teacher {
            precondition(teacherParameters!.isFilled, "the teacher has no weights yet")
            teacher.forward(images) { block, feature in
                for alignment in self.alignments where alignment.pair.teacherBlock == block {
                    alignment.teacherFeature.copy(from: feature)
                }
            }
        }
        plan.begin(.student)
        Profile.part = "student"
        student.forward(images)
        Profile.part = "alignment"
        var sum: Float = 0
        for (index, alignment) in alignments.enumerated() {
            let feature = student.feature(afterBlock: alignment.pair.studentBlock)
            losses.alignments[index] = alignment.evaluate(feature, scale: scale * configuration.alignment.weight)
            sum += losses.alignments[index]
        }
        plan.begin(.decoder)
        Profile.part = "decoder"
        if gradients == .new { parameters.clearVectorGradients(decoderParameters) }
        let tokens = 1 + masking.kept
        for first in stride(from: 0, to: batch, by: decoder.images) {
            let part = first..<first + decoder.images
            let rows = first * tokens..<part.upperBound * tokens
            let latent = student.latent!.rows(rows)
            decoder.forward(latent, firstImage: first)
            reconstruction.evaluate(images, part: part, prediction: decoder.prediction, scale: scale)
            guard gradients != nil else { continue }
            decoder.backward(
                dPrediction: reconstruction.dPrediction, latent: latent, dLatent: dLatent!.rows(rows),
                firstImage: first,
                accumulate: gradients == .added || first > 0)
        }
        losses.reconstruction = reconstruction.loss
        losses.total = losses.reconstruction + configuration.alignment.weight * sum
        Profile.part = ""
    }

    /// The student's gradients and the projection heads'; the decoder's are complete.
    private func backward(_ gradients: Gradients, whenComplete: (Range<Int>) -> Void) {
        let parameters = parameters, groups = parameters.groups
        let blocks = groups.first!.lowerBound..<groups.last!.upperBound, end = parameters.all.count
        plan.begin(.studentBackward)
        Profile.part = "student"
        if gradients == .new {
            parameters.clearVectorGradients(0..<blocks.lowerBound)
            parameters.clearVectorGradients(blocks.upperBound..<decoderParameters.lowerBound)
            parameters.clearVectorGradients(decoderParameters.upperBound..<end)
        }
        let accumulate = gradients == .added
        student.backward(
            dLatent: dLatent!, d: dState!, accumulate: accumulate,
            beforeBlock: { block, d in
                if gradients == .new { parameters.clearVectorGradients(groups[block]) }
                for alignment in self.alignments where alignment.pair.studentBlock == block {
                    Profile.part = "alignment"
                    alignment.backward(self.student.feature(afterBlock: block), d: d, accumulate: accumulate)
                    Profile.part = "student"
                }
            },
            afterBlock: { block in
                Profile.part = ""
                whenComplete(groups[block])
                Profile.part = "student"
            })
        Profile.part = ""
        whenComplete(0..<blocks.lowerBound)
        whenComplete(blocks.upperBound..<end)
    }
}
