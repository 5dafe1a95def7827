import Images
import Models
import Tensors

extension ModelConfiguration {
    /// A model small enough for thousands of evaluations. The sizes share no factor that could hide a mix-up of
    /// dimensions.
    public static func small(
        channels: Int = 3, imageHeight: Int = 12, imageWidth: Int = 16, patchSize: Int = 4, studentWidth: Int = 12,
        teacherWidth: Int? = 20, pairs: [AlignedPair] = [AlignedPair(studentBlock: 1, teacherBlock: 1)],
        distance: AlignmentDistance = .l2, projection: Projection = .linear, weight: Float = 1, maskRatio: Double = 0.5,
        normalizePixels: Bool = false
    ) -> ModelConfiguration {
        func encoder(_ width: Int, _ depth: Int, _ heads: Int) -> EncoderConfiguration {
            EncoderConfiguration(
                width: width, depth: depth, heads: heads, patchSize: patchSize, imageHeight: imageHeight,
                imageWidth: imageWidth,
                channels: channels)
        }
        return ModelConfiguration(
            student: encoder(studentWidth, 3, 3), decoder: DecoderConfiguration(width: 16, depth: 1, heads: 2),
            teacher: teacherWidth.map { encoder($0, 3, 2) },
            alignment: AlignmentConfiguration(
                pairs: teacherWidth == nil ? [] : pairs, distance: distance, projection: projection, weight: weight),
            maskRatio: maskRatio, normalizePixels: normalizePixels)
    }
}

extension Losses {
    /// MAE's pixel loss.
    public var reconstruction: Float { values[1] }
    /// One distance for each aligned pair.
    public var alignments: [Float] { Array(values.dropFirst(2)) }
}

/// Calls a closure with each range of complete gradients.
public final class ClosureSink: GradientSink {
    public var accumulates: Bool
    private let body: (Range<Int>) -> Void

    public init(accumulates: Bool = false, _ body: @escaping (Range<Int>) -> Void = { _ in }) {
        self.accumulates = accumulates
        self.body = body
    }

    public func complete(_ tensors: Range<Int>) { body(tensors) }
}

/// Distillation, or MAE's pre-training without a teacher, with all its parts in view.
public final class ObservedModel {
    public let configuration: ModelConfiguration
    public let batch: Int
    public let objective: any Objective
    public let student: MaskedAutoencoder
    public let distillation: Distillation?
    /// The positions of the batch's images in the stream of samples.
    public var samples: Batch
    /// Of the pass last run.
    public private(set) var losses: Losses

    public var images: Tensor { student.images }
    public var masking: Masking { student.masking }
    public var encoder: Encoder { student.encoder }
    public var decoder: Decoder { student.decoder! }
    public var parameters: Parameters { objective.parameters }
    public var teacherParameters: Parameters? { distillation?.teacherParameters }
    public var alignments: [AlignmentLoss] { distillation?.alignments ?? [] }
    public var operations: Operations { objective.operations }

    /// Plans the memory. A model that is not trained has no teacher.
    public init(
        _ configuration: ModelConfiguration, batch: Int, plan: MemoryPlan, training: Bool = true,
        accumulates: Bool = true, precision: Precision = .f32, teacherPrecision: TeacherPrecision = .same,
        predictsEveryPatch: Bool = false, minimumDecoderRows: Int? = nil
    ) throws {
        self.configuration = configuration
        self.batch = batch
        let computation = MaskedAutoencoder.Computation(
            precision: precision, teacherPrecision: teacherPrecision, isTrained: training, keepsGradients: accumulates,
            predictsEveryPatch: predictsEveryPatch, minimumDecoderRows: minimumDecoderRows)
        if training, configuration.lastTeacherBlock != nil {
            let distillation = try Distillation(configuration, batch: batch, seed: 0, plan: plan, computation)
            (objective, student, self.distillation) = (distillation, distillation.student, distillation)
        } else {
            student = try MaskedAutoencoder(configuration, batch: batch, seed: 0, plan: plan, computation)
            (objective, distillation) = (student, nil)
        }
        samples = Batch(samples: Array(0..<max(batch, 0)), images: Array(0..<max(batch, 0)))
        losses = Losses(values: [0, 0])
    }

    /// Images of the batch are the samples from `first` on of a run with this seed.
    public func draw(seed: UInt64, from first: Int = 0) {
        student.selection = .random(seed: seed)
        samples = Batch(samples: Array(first..<first + batch), images: Array(0..<batch))
    }

    public func forward() { losses = objective.evaluate(samples) }

    /// One micro-batch's gradients, in place of the former ones.
    public func differentiate(scale: Float = 1, whenComplete: @escaping (Range<Int>) -> Void = { _ in }) {
        losses = objective.step(samples, scale: scale, sink: ClosureSink(whenComplete))
    }

    /// One micro-batch's gradients, added to those of the step's earlier micro-batches.
    public func addGradients(scale: Float = 1, isFirst: Bool) {
        losses = objective.step(samples, scale: scale, sink: ClosureSink(accumulates: !isFirst))
    }
}

/// A model with the memory it lives in, on random weights, images and masks.
public final class RandomModel {
    public let plan = MemoryPlan()
    public let observed: ObservedModel
    public var parameters: Parameters { observed.parameters }

    /// Nothing is left at 0 or 1, so that every term can be seen to act: biases and LayerNorm's weights are moved by up
    /// to 0.2.
    ///
    /// - Parameter planning: plans what else has its memory in the model's plan, such as an optimiser's state.
    public init(
        _ configuration: ModelConfiguration, batch: Int, seed: UInt64, training: Bool = true, accumulates: Bool = true,
        precision: Precision = .f32, teacherPrecision: TeacherPrecision = .same, predictsEveryPatch: Bool = false,
        minimumDecoderRows: Int? = nil, planning: (any Objective, MemoryPlan) -> Void = { _, _ in }
    ) throws {
        observed = try ObservedModel(
            configuration, batch: batch, plan: plan, training: training, accumulates: accumulates, precision: precision,
            teacherPrecision: teacherPrecision, predictsEveryPatch: predictsEveryPatch,
            minimumDecoderRows: minimumDecoderRows)
        planning(observed.objective, plan)
        try plan.commit()
        Self.fill(observed.parameters, seed: seed)
        if let teacher = observed.teacherParameters { Self.fill(teacher, seed: seed &+ 1) }
        fillInputs(seed: seed)
    }

    /// Draws images and masks.
    public func fillInputs(seed: UInt64) {
        var random = CounterRandom(seed: seed, purpose: .test, epoch: 1)
        for index in observed.images.elements.indices { observed.images.pointer[index] = Float(random.normal()) }
        observed.draw(seed: seed)
    }

    private static func fill(_ parameters: Parameters, seed: UInt64) {
        parameters.initialize(seed: seed)
        for (index, parameter) in parameters.all.enumerated() where parameter.shape.count == 1 {
            var random = CounterRandom(seed: seed, purpose: .test, epoch: 2, index: index)
            for i in 0..<parameter.weight.count { parameter.weight.pointer[i] += Float(random.uniform(-0.2, 0.2)) }
        }
    }

    /// One micro-batch's gradients, from zero.
    public func step() { observed.differentiate() }

    /// Copies of all gradients by name.
    public func gradients() -> [String: [Float]] {
        var result: [String: [Float]] = [:]
        for parameter in parameters.all { result[parameter.name] = parameter.gradient?.values }
        return result
    }
}
