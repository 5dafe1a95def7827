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

/// A distiller with the memory it lives in, on random weights, images and noise.
public final class RandomModel {
    public let plan = MemoryPlan()
    public let distiller: Distiller
    public var parameters: Parameters { distiller.parameters }

    /// Nothing is left at 0 or 1, so that every term can be seen to act: biases and LayerNorm's weights are moved by up
    /// to 0.2.
    public init(
        _ configuration: ModelConfiguration, batch: Int, seed: UInt64, training: Bool = true, accumulates: Bool = true,
        precision: Precision = .f32, teacherPrecision: TeacherPrecision = .same, predictsEveryPatch: Bool = false,
        leastDecoderRows: Int? = nil
    ) throws {
        distiller = try Distiller(
            configuration, batch: batch, plan: plan, training: training, accumulates: accumulates, precision: precision,
            teacherPrecision: teacherPrecision, predictsEveryPatch: predictsEveryPatch,
            leastDecoderRows: leastDecoderRows)
        try plan.commit()
        Self.fill(distiller.parameters, seed: seed)
        if let teacher = distiller.teacherParameters { Self.fill(teacher, seed: seed &+ 1) }
        fillInputs(seed: seed)
    }

    /// Draws images and noise.
    public func fillInputs(seed: UInt64) {
        var random = CounterRandom(seed: seed, purpose: .test, epoch: 1)
        for index in distiller.images.elements.indices { distiller.images.pointer[index] = Float(random.normal()) }
        for image in 0..<distiller.batch { distiller.masking.draw(image, seed: seed, sample: image) }
    }

    private static func fill(_ parameters: Parameters, seed: UInt64) {
        parameters.initialize(seed: seed)
        for (index, parameter) in parameters.all.enumerated() where parameter.shape.count == 1 {
            var random = CounterRandom(seed: seed, purpose: .test, epoch: 2, index: index)
            for i in 0..<parameter.weight.count { parameter.weight.pointer[i] += Float(random.uniform(-0.2, 0.2)) }
        }
    }

    /// One micro-batch's gradients, from zero.
    public func step() {
        parameters.clearGradients()
        distiller.accumulateGradients()
    }

    /// Copies of all gradients by name.
    public func gradients() -> [String: [Float]] {
        var result: [String: [Float]] = [:]
        for parameter in parameters.all { result[parameter.name] = parameter.gradient?.values }
        return result
    }
}
