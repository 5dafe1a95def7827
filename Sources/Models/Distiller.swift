import Tensors

// Letters: B batch, L patches, K kept patches, C channels, H × W pixels.

/// One micro-batch of the method: teacher to its last aligned block, student, decoder, both losses, and all gradients.
///
/// Without a teacher it is MAE's pre-training. All memory is planned in `init` and mapped by the caller's `plan.commit()`.
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

    private let teacher: Encoder?
    private let reconstruction: ReconstructionLoss
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
    ///   - training: whether `backward` will be called.
    ///   - precision: what the operands of products and attention are rounded to, student and teacher.
    ///   - teacherPrecision: what those of the linear layers in the teacher's blocks are rounded to instead.
    ///   - predictsEveryPatch: whether the decoder's prediction is wanted for patches that stay, too. The losses and gradients are the
    ///     same either way, to rounding: the loss reads removed patches alone.
    ///   - leastDecoderRows: the decoder takes as many images at a time as have this many tokens, or the next count that divides the
    ///     batch; all of them where every patch is predicted or nothing is trained. Products of more rows are hardly faster, and what is
    ///     kept for the backward pass grows with them. Losses and the encoder's gradients do not depend on it.
    /// - Throws: `Failure.usage` where the configuration does not fit together.
    public init(
        _ configuration: ModelConfiguration, batch: Int, plan: MemoryPlan, training: Bool = true, precision: Precision = .f32,
        teacherPrecision: TeacherPrecision = .same, predictsEveryPatch: Bool = false, leastDecoderRows: Int = 1536
    ) throws {
        try configuration.validate()
        self.configuration = configuration
        self.batch = batch
        let studentConfiguration = configuration.student
        images = plan.reserve(
            batch, studentConfiguration.channels * studentConfiguration.imageHeight * studentConfiguration.imageWidth, .batch)
        masking = Masking(
            batch: batch, patches: studentConfiguration.patches, kept: configuration.keptPatches, plan: plan)
        let rows = batch * (1 + configuration.keptPatches)
        let parameters = Parameters(plan: plan, trained: training, precision: precision)
        student = Encoder(
            studentConfiguration, batch: batch, masking: masking, blockCount: studentConfiguration.depth, in: parameters,
            plan: plan, training: training, hasNorm: true)
        let predictsRemovedOnly = training && !predictsEveryPatch && masking.removed > 0
        let decoderImages =
            predictsRemovedOnly
            ? (1...batch).first { batch % $0 == 0 && $0 * (1 + studentConfiguration.patches) >= leastDecoderRows } ?? batch : batch
        decoder = Decoder(
            configuration.decoder, encoder: studentConfiguration, images: decoderImages, masking: masking, in: parameters, plan: plan,
            training: training, predictsRemovedOnly: predictsRemovedOnly)
        reconstruction = ReconstructionLoss(
            studentConfiguration, masking: masking, images: decoderImages, normalizesPixels: configuration.normalizePixels,
            predictsRemovedOnly: predictsRemovedOnly, plan: plan)
        if let teacherConfiguration = configuration.teacher, let last = configuration.lastTeacherBlock {
            let teacherParameters = Parameters(
                plan: plan, trained: false, precision: precision, matrices: teacherPrecision.matrices(in: precision), isFrozen: true)
            teacher = Encoder(
                teacherConfiguration, batch: batch, masking: masking, blockCount: last + 1, in: teacherParameters, plan: plan,
                training: false, hasNorm: false)
            self.teacherParameters = teacherParameters
            alignments = configuration.alignment.pairs.indices.map {
                AlignmentLoss(
                    $0, configuration.alignment, studentWidth: studentConfiguration.width,
                    teacherWidth: teacherConfiguration.width, rows: rows, in: parameters, plan: plan)
            }
        } else {
            teacher = nil
            teacherParameters = nil
            alignments = []
        }
        self.parameters = parameters
        dLatent = training ? plan.scratch("latent gradient", rows, studentConfiguration.width) : nil
        dState = training ? plan.scratch("encoder gradient", rows, studentConfiguration.width) : nil
        losses = Losses(alignments: Array(repeating: 0, count: alignments.count))
    }

    /// What one image's share of a micro-batch costs.
    public var operations: Operations { Operations(configuration, decoderFirstRows: decoder.firstRows) }

    /// Runs teacher, student and decoder on `images` under the mask that the noise gives, and leaves the losses; no gradients.
    ///
    /// In a distiller that is not for training all student blocks share one output, so of the alignment losses only those of its last block
    /// hold; the others, and the total, do not.
    public func forward() { run(scale: 1, gradients: false) }

    /// The same, and adds the losses' gradients to the parameters' gradients.
    ///
    /// - Parameter scale: what the gradients are multiplied by; 1/accumulation for the mean over an effective batch.
    public func accumulateGradients(scale: Float = 1) { run(scale: scale, gradients: true) }

    private func run(scale: Float, gradients: Bool) {
        masking.update()
        Profile.part = "teacher"
        if let teacher {
            precondition(teacherParameters!.isFilled, "the teacher has no weights yet")
            teacher.forward(images) { block, feature in
                for alignment in self.alignments where alignment.pair.teacherBlock == block {
                    alignment.teacherFeature.copy(from: feature)
                }
            }
        }
        Profile.part = "student"
        student.forward(images)
        Profile.part = "decoder"
        let tokens = 1 + masking.kept
        for first in stride(from: 0, to: batch, by: decoder.images) {
            let part = first..<first + decoder.images
            let rows = first * tokens..<part.upperBound * tokens
            let latent = student.latent!.rows(rows)
            decoder.forward(latent, firstImage: first)
            reconstruction.evaluate(images, part: part, prediction: decoder.prediction, scale: scale)
            guard gradients else { continue }
            decoder.backward(
                dPrediction: reconstruction.dPrediction, latent: latent, dLatent: dLatent!.rows(rows), firstImage: first)
        }
        losses.reconstruction = reconstruction.loss
        Profile.part = "alignment"
        var sum: Float = 0
        for (index, alignment) in alignments.enumerated() {
            let feature = student.feature(afterBlock: alignment.pair.studentBlock)
            losses.alignments[index] = alignment.evaluate(feature, scale: scale * configuration.alignment.weight)
            sum += losses.alignments[index]
        }
        losses.total = losses.reconstruction + configuration.alignment.weight * sum
        Profile.part = "student"
        if gradients {
            student.backward(dLatent: dLatent!, d: dState!) { block, d in
                for alignment in self.alignments where alignment.pair.studentBlock == block {
                    Profile.part = "alignment"
                    alignment.backward(self.student.feature(afterBlock: block), d: d)
                    Profile.part = "student"
                }
            }
        }
        Profile.part = ""
    }
}
