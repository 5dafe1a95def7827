import Images
import Reporting
import Tensors

// Letters: B batch, K kept patches, R = B·(1+K) rows, Ds and Dt width of student and teacher.

/// Distillation of masked autoencoders (DMAE, arXiv 2208.12256): teacher and student see the same kept patches, or
/// the teacher more; the teacher runs to its last aligned block and stops; the student minimises MAE's pixel loss plus the distance between
/// aligned features.
public final class Distillation: Objective {
    public let configuration: ModelConfiguration
    /// Encoder and decoder of the student, and the pixel loss.
    public let student: MaskedAutoencoder
    /// The teacher's weights up to its last aligned block.
    public let teacherParameters: Parameters
    /// The alignment losses, in the order of the configuration's pairs.
    public let alignments: [AlignmentLoss]

    private let plan: MemoryPlan
    private let teacher: Encoder
    /// The patches that the teacher sees; the student's masking if it sees the same.
    private let teacherMasking: Masking
    private let alignmentPhases: [Phase]
    private var losses: Losses

    /// The alignment losses, one value for each aligned pair.
    static func alignmentTerm(pairs: Int) -> LossTerm {
        LossTerm(
            key: "loss_align", name: "alignment",
            meaning: "distance between the features of an aligned pair, unweighted",
            listCount: pairs)
    }
    /// MAE's terms, then the alignment losses.
    public let lossTerms: [LossTerm]

    public var images: Tensor { student.images }
    /// Encoder and decoder of the student, then the projection heads.
    public var parameters: Parameters { student.parameters }
    public var frozenParameters: Parameters? { teacherParameters }

    /// - Parameters:
    ///   - configuration: must have a teacher and at least one aligned pair.
    ///   - seed: seed of the random masks.
    /// - Throws: `Failure.usage` where the configuration does not fit together.
    public init(
        _ configuration: ModelConfiguration, batch: Int, seed: UInt64, plan: MemoryPlan,
        _ computation: MaskedAutoencoder.Computation = .init()
    ) throws {
        try configuration.validate()
        try configuration.student.requireCountable(batch: batch, decoder: configuration.decoder)
        guard let size = configuration.teacher, let last = configuration.lastTeacherBlock else {
            preconditionFailure("distillation needs a teacher and an aligned pair")
        }
        precondition(computation.isTrained, "only a trained student has losses to align")
        try size.requireCountable(batch: batch)
        if computation.teacherPrecision == .int8, 4 * size.width > 65_536 {
            throw Failure(
                .usage,
                "\(.teacherPrecision, "int8") is for teachers of a width of at most 16384, not \(size.width): leave it "
                    + "out"
            )
        }
        self.configuration = configuration
        self.plan = plan
        let masking = configuration.masking(batch: batch, computation, plan: plan)
        let teacherKept = max(masking.keptCount, configuration.teacherKeptPatches)
        teacherMasking =
            teacherKept == masking.keptCount ? masking : Masking(keeping: teacherKept, inTheOrderOf: masking)
        let pairs = configuration.alignment.pairs
        let teacherPhases = EncoderForward("teacher", blocks: last + 1, in: plan)
        var alignmentPhases: [Phase] = []
        let student = MaskedAutoencoder(
            configuration, masking: masking, seed: seed, plan: plan, computation,
            alignedBlocks: pairs.map(\.studentBlock)
        ) {
            alignmentPhases = pairs.indices.map { plan.phase("alignment \($0)", part: "alignment") }
        }
        self.student = student
        self.alignmentPhases = alignmentPhases
        let gradient = student.outsideGradient!
        alignments = pairs.indices.map { index in
            AlignmentLoss(
                index, configuration.alignment, studentWidth: configuration.student.width, teacherWidth: size.width,
                rows: batch * (1 + masking.keptCount),
                written: teacherPhases.blocks[pairs[index].teacherBlock].fc2,
                at: LayerPhases(
                    forward: alignmentPhases[index], backward: student.alignmentsBackward[index], gradient: gradient),
                until: gradient.upperBound, in: student.parameters)
        }
        teacherParameters = Parameters(
            frozenIn: plan, owner: "teacher", .teacherWeights, precision: computation.precision,
            matrices: computation.teacherPrecision.matrices(in: computation.precision))
        teacher = Encoder(
            size, batch: batch, masking: teacherMasking, forward: teacherPhases, output: .blocks,
            until: teacherPhases.blocks[last].fc2, in: teacherParameters)
        lossTerms = student.ownTerms + [Self.alignmentTerm(pairs: pairs.count)]
        losses = Losses(values: Array(repeating: 0, count: student.ownTerms.count + pairs.count))
    }

    public var operations: Operations { student.operations }

    public func step(_ batch: Batch, scale: Float, sink: some GradientSink) -> Losses {
        let addedLoss = encodeAndCompare(batch, scale: scale)
        return finished(
            student.decodeAndDifferentiate(scale: scale, sink: sink, addedLoss: addedLoss) { block, d in
                for (index, alignment) in alignments.enumerated() where alignment.pair.studentBlock == block {
                    plan.begin(student.alignmentsBackward[index])
                    alignment.backward(
                        student.encoder.feature(afterBlock: block), d: d, accumulate: sink.accumulates)
                }
            })
    }

    public func evaluate(_ batch: Batch) -> Losses {
        let addedLoss = encodeAndCompare(batch, scale: 1)
        return finished(student.decode(images: batch.count, addedLoss: addedLoss))
    }

    /// Runs teacher and student on their patches and compares the features of the aligned pairs.
    ///
    /// - Returns: the alignment losses' part of the total.
    private func encodeAndCompare(_ batch: Batch, scale: Float) -> Float {
        precondition(teacherParameters.isFilled, "the teacher has no weights yet")
        let weight = configuration.alignment.weight
        student.select(batch)
        teacher.forward(student.images) { block, feature in
            for alignment in alignments where alignment.pair.teacherBlock == block {
                copyFeature(feature, to: alignment.teacherFeature)
            }
        }
        student.encode()
        var sum: Float = 0
        for (index, alignment) in alignments.enumerated() {
            plan.begin(alignmentPhases[index])
            let feature = student.encoder.feature(afterBlock: alignment.pair.studentBlock)
            let term = student.ownTerms.count + index
            losses.values[term] = alignment.lossAndGradient(
                feature, rows: batch.count * (1 + student.masking.keptCount), scale: scale * weight)
            sum += losses.values[term]
        }
        return weight * sum
    }

    /// The student's losses followed by those of the aligned pairs.
    private func finished(_ studentLosses: Losses) -> Losses {
        for (index, value) in studentLosses.values.enumerated() { losses.values[index] = value }
        return losses
    }

    /// Copies the teacher's rows for the class token and for the patches that the student sees, the first ones of each
    /// image.
    private func copyFeature(_ feature: Tensor, to target: Tensor) {
        guard teacherMasking !== student.masking else { return target.copy(from: feature) }
        let (rows, teacherRows) = (1 + student.masking.keptCount, 1 + teacherMasking.keptCount)
        for image in 0..<student.batch {
            let first = image * teacherRows
            target.rows(image * rows..<(image + 1) * rows).copy(from: feature.rows(first..<first + rows))
        }
    }

    public var frozenOutputsAreFinite: Bool {
        alignments.allSatisfy { $0.teacherFeature.elements.allSatisfy(\.isFinite) }
    }
}

extension ModelConfiguration {
    /// The objective that this configuration describes: distillation with a teacher, MAE's pre-training without.
    ///
    /// - Throws: `Failure.usage` where the configuration does not fit together.
    public func objective(
        batch: Int, seed: UInt64, plan: MemoryPlan, _ computation: MaskedAutoencoder.Computation = .init()
    ) throws -> any Objective {
        lastTeacherBlock == nil
            ? try MaskedAutoencoder(self, batch: batch, seed: seed, plan: plan, computation)
            : try Distillation(self, batch: batch, seed: seed, plan: plan, computation)
    }
}
