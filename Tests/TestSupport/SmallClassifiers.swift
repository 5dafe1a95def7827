import Images
import Models
import Tensors

extension ClassifierConfiguration {
    /// A classifier small enough for thousands of evaluations; its sizes share no factor that could hide a mix-up of
    /// dimensions.
    public static func small(
        channels: Int = 3, imageHeight: Int = 12, imageWidth: Int = 16, patchSize: Int = 4, width: Int = 12,
        depth: Int = 3, heads: Int = 3, classes: Int = 7, pool: ClassifierPool = .mean, dropPath: Double = 0,
        layerDecay: Double = 1, smoothing: Double = 0, teacher: LogitDistillation? = nil
    ) -> ClassifierConfiguration {
        func encoder(_ width: Int, _ depth: Int, _ heads: Int, _ patchSize: Int) -> EncoderConfiguration {
            EncoderConfiguration(
                width: width, depth: depth, heads: heads, patchSize: patchSize, imageHeight: imageHeight,
                imageWidth: imageWidth, channels: channels)
        }
        return ClassifierConfiguration(
            encoder: encoder(width, depth, heads, patchSize), classes: classes, pool: pool, dropPath: dropPath,
            layerDecay: layerDecay, smoothing: smoothing,
            teacher: teacher.map {
                // Patches of the teacher may be of another size, and its pool another.
                Teacher(
                    encoder: encoder(20, 2, 2, 2), pool: pool == .mean ? .class : .mean, weight: $0.weight,
                    temperature: $0.temperature, isHard: $0.isHard)
            })
    }
}

/// A classifier with the memory it lives in, on random weights, images and labels.
public final class RandomClassifier {
    public let plan = MemoryPlan()
    public let classifier: Classifier
    /// Samples, labels and mixture of the next pass.
    public var batch: Batch
    /// Of the pass last run.
    public private(set) var losses: Losses

    /// Nothing is left at 0 or 1, so that every term can be seen to act: vectors are moved by up to 0.2, and the head's
    /// matrix has numbers of the other matrices' size.
    ///
    /// - Parameter planning: plans what else has its memory in the plan, such as an optimiser's state.
    public init(
        _ configuration: ClassifierConfiguration, batch count: Int, seed: UInt64,
        _ computation: Classifier.Computation = .init(), planning: (Classifier, MemoryPlan) -> Void = { _, _ in }
    ) throws {
        classifier = try Classifier(configuration, batch: count, seed: seed, plan: plan, computation)
        batch = Batch(samples: Array(0..<count), images: Array(0..<count), labels: Array(repeating: 0, count: count))
        losses = Losses(values: [0])
        planning(classifier, plan)
        try plan.commit()
        Self.fill(classifier.parameters, seed: seed)
        if let teacher = classifier.frozenParameters { Self.fill(teacher, seed: seed &+ 1) }
        fillInputs(seed: seed)
    }

    /// Draws images, labels, and where the batch is even a mixture.
    public func fillInputs(seed: UInt64) {
        var random = CounterRandom(seed: seed, purpose: .test, epoch: 1)
        let images = classifier.images.elements
        for index in images.indices { images[index] = Float(random.normal()) }
        let count = classifier.batch, first = Int(seed % 1000)
        batch = Batch(
            samples: Array(first..<first + count), images: Array(0..<count),
            labels: (0..<count).map { _ in random.below(classifier.configuration.classes) },
            mixture: count % 2 == 0 ? Mixture(lambda: random.uniform()) : nil)
    }

    /// Sets every weight of a model, of whatever precision, to the same random numbers.
    public static func fill(_ parameters: Parameters, seed: UInt64) {
        parameters.initialize(seed: seed)
        parameters.fill { parameter in
            var random = CounterRandom(seed: seed &+ 3, purpose: .weights, name: parameter.name)
            let elements = parameter.weight.elements
            if parameter.shape.count == 1 {
                let center: Float = parameter.name.contains("norm") && parameter.name.hasSuffix("weight") ? 1 : 0
                for i in elements.indices { elements[i] = center + Float(random.uniform(-0.2, 0.2)) }
            } else {
                let columns = parameter.shape.dropFirst().reduce(1, *)
                let bound = parameter.shape[0] == 1 ? 0.3 : (6 / Double(parameter.shape[0] + columns)).squareRoot()
                for i in elements.indices { elements[i] = Float(random.uniform(-bound, bound)) }
            }
        }
    }

    /// One micro-batch's gradients, in place of the former ones.
    public func step(scale: Float = 1, whenComplete: @escaping (Range<Int>) -> Void = { _ in }) {
        losses = classifier.step(batch, scale: scale, sink: ClosureSink(whenComplete))
    }

    /// One micro-batch's gradients, added to those of the step's earlier micro-batches.
    public func addGradients(scale: Float, isFirst: Bool) {
        losses = classifier.step(batch, scale: scale, sink: ClosureSink(accumulates: !isFirst))
    }

    /// Copies of all gradients by name.
    public func gradients() -> [String: [Float]] {
        var result: [String: [Float]] = [:]
        for parameter in classifier.parameters.all { result[parameter.name] = parameter.gradient?.values }
        return result
    }
}
