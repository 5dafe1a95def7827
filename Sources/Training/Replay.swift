import Images
import Models
import Reporting
import Tensors
import Weights

/// Runs recorded training steps and writes all their results, for golden tests and for comparison with ports of the
/// method.
public enum Replay {
    /// Replays `input` and writes `output`; the page Replay describes both files.
    ///
    /// - Throws: `Failure.badData` if the recording is incomplete or contradicts itself; `Failure.failure` if a result
    ///   is not finite, with nothing written; `Failure.inputOutput`.
    public static func run(input: String, output: String, precision: Precision = .f32) throws {
        let recording = try Recording(path: input), plan = MemoryPlan()
        let recorded: any RecordedSteps
        switch try recording.decode(MethodKey.self).method {
        case nil: recorded = try MaskedAutoencoderSteps(recording, plan: plan, precision: precision)
        case "finetune": recorded = try ClassifierSteps(recording, plan: plan, precision: precision)
        case let method?:
            throw recording.refusal(
                "method \(quoted(method)) is not known: use finetune, or leave it out for distillation and "
                    + "pre-training")
        }
        try recording.inKeys { try plan.commit() }
        try recorded.load(from: recording)
        try recording.file.copyFloats("images", into: recorded.objective.images.elements)
        var results = Results(input: input)
        try run(recorded, &results)
        try results.write(to: output)
    }

    /// The key of a description that decides which other keys it has.
    private struct MethodKey: Decodable {
        let method: String?
    }

    /// A recording's model, inputs and optimiser.
    protocol RecordedSteps {
        /// Reads the description and plans the memory of model and optimiser.
        init(_ recording: Recording, plan: MemoryPlan, precision: Precision) throws
        var objective: any Objective { get }
        var state: OptimizerState { get }
        var optimizer: AdamW { get }
        var steps: Int { get }
        /// Maximum norm of the gradient; nil: it is not clipped.
        var clipGradient: Float? { get }
        /// The samples of every step.
        var batch: Batch { get }
        /// Sets weights and inputs, except images, once the memory is mapped.
        func load(from recording: Recording) throws
        /// The recorded losses of a step: `loss.` and the name.
        func named(_ losses: Losses) -> [(name: String, value: Float)]
        /// Records what only this method's first step has, before the weights change.
        func recordFirstStep(in results: inout Results) throws
    }

    /// The tensors of the output.
    struct Results {
        let input: String
        private var copies: [(name: String, shape: [Int], values: [Float])] = []

        init(input: String) { self.input = input }

        func failure(_ problem: String) -> Failure {
            Failure(.failure, "\(input): \(problem), and nothing was written: look at optimizer, images and weights")
        }

        mutating func record(_ name: String, _ shape: [Int], _ values: some Sequence<Float>) throws {
            let values = Array(values)
            guard values.allSatisfy(\.isFinite) else { throw failure("\(name) is not finite") }
            copies.append((name, shape, values))
        }

        func write(to output: String) throws {
            var writer = SafeTensorsWriter()
            // The writer keeps pointers to the values, so their memory is freed only after it has written.
            let storage = copies.map { copy in
                let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(1, copy.values.count))
                _ = buffer.initialize(from: copy.values)
                writer.add(
                    copy.name, shape: copy.shape,
                    floats: UnsafeBufferPointer(start: buffer.baseAddress, count: copy.values.count))
                return buffer
            }
            defer { storage.forEach { $0.deallocate() } }
            try writer.write(to: output)
        }
    }

    /// Leaves all gradients in place, to be recorded after the step.
    private final class RecordingSink: GradientSink {
        let accumulates = false
        func complete(_ tensors: Range<Int>) {}
    }

    private static func run(_ recorded: some RecordedSteps, _ results: inout Results) throws {
        let objective = recorded.objective, parameters = objective.parameters
        let optimizer = recorded.optimizer.optimizer, batch = recorded.batch, sink = RecordingSink()
        var curves: [(name: String, values: [Float])] = []
        for step in 1...recorded.steps {
            let losses = objective.step(batch, scale: 1, sink: sink)
            guard losses.total.isFinite else {
                throw results.failure("the loss is not finite at step \(step): \(objective.describe(losses))")
            }
            let named = recorded.named(losses)
            if curves.isEmpty { curves = named.map { ($0.name, []) } }
            for (index, loss) in named.enumerated() { curves[index].values.append(loss.value) }
            if step == 1 {
                try recorded.recordFirstStep(in: &results)
                for parameter in parameters.all {
                    if let gradient = parameter.gradient {
                        try results.record("grad.\(parameter.name)", parameter.shape, gradient.elements)
                    }
                }
            }
            var gradientScale: Float = 1
            if let maximum = recorded.clipGradient {
                var norm = GradientNorm(parameters)
                norm.add(parameters, parameters.all.indices)
                gradientScale = norm.factor(clippingTo: maximum)
            }
            recorded.state.update(
                parameters.all.indices, optimizer, learningRate: recorded.optimizer.lr, step: step,
                gradientScale: gradientScale)
        }
        for (name, values) in curves { try results.record("loss.\(name)", [values.count], values) }
        for parameter in parameters.all {
            try results.record("after.\(parameter.name)", parameter.shape, parameter.weight.elements)
        }
    }
}
