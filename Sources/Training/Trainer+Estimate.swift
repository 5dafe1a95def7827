import Models
import Tensors

extension Trainer {
    /// What the evaluations of a whole run cost.
    public struct EvaluationWork: Sendable {
        /// Images that all evaluations of one kind read.
        public let images: Int
        /// Estimated seconds of computing of an image.
        public let secondsPerImage: Double
    }

    /// Steps between two checkpoints.
    var checkpointEvery: Int {
        configuration.checkpointEvery > 0
            ? configuration.checkpointEvery : max(1, source.count / configuration.effectiveBatch)
    }

    /// The checkpoints of the whole run, and about how many bytes each has.
    public var checkpoints: (count: Int, bytes: Int) {
        let all = objective.parameters.all, trained = all.filter(\.isTrained)
        func bytes(_ parameters: [Parameters.Parameter]) -> Int {
            parameters.reduce(0) { $0 + 4 * $1.shape.reduce(1, *) }
        }
        return (
            (totalSteps + checkpointEvery - 1) / checkpointEvery,
            bytes(all) * (configuration.averageDecay == nil ? 1 : 2) + loop.state.kinds.count * bytes(trained)
        )
    }

    /// The work of the evaluations of the whole run, estimated from that of a step.
    ///
    /// A forward pass is a third of a training image. k-NN runs the encoder on all patches, in float32.
    ///
    /// - Parameter secondsPerImage: seconds of computing of a training image.
    public func evaluationWork(secondsPerImage: Double) -> [EvaluationWork] {
        let epochs = configuration.epoch(step: totalSteps, images: source.count)
        return evaluations.compactMap { evaluation in
            guard evaluation.imagesRead > 0 else { return nil }
            let times = max(1, (epochs / evaluation.everyEpochs).rounded(.up))
            var seconds = secondsPerImage / 3
            if evaluation is PeriodicNeighbors, let model = configuration.model {
                let operations = objective.operations
                seconds *= operations.student / operations.total
                seconds *= Double(1 + model.student.patches) / Double(1 + model.keptPatches)
                if configuration.precision == .bf16, Precision.bf16.isNative { seconds *= 2 }
            }
            return EvaluationWork(images: Int(times) * evaluation.imagesRead, secondsPerImage: seconds)
        }
    }
}
