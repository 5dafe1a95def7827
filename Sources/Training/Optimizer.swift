import Models
import Tensors

/// AdamW over all trained parameters, with MAE's decay rule: biases and 1-D tensors do not decay.
public struct Optimizer: Codable, Equatable, Sendable {
    public var beta1: Float
    public var beta2: Float
    public var epsilon: Float
    public var weightDecay: Float

    public init(beta1: Float = 0.9, beta2: Float = 0.95, epsilon: Float = 1e-8, weightDecay: Float = 0.05) {
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.weightDecay = weightDecay
    }

    /// One step with `learningRate`; `step` counts this one and starts at 1.
    public func update(_ parameters: Parameters, learningRate: Float, step: Int) {
        for index in parameters.all.indices {
            let parameter = parameters.all[index]
            guard let gradient = parameter.gradient, let first = parameter.firstMoment, let second = parameter.secondMoment
            else { continue }
            Kernels.adamW(
                weight: parameter.weight, gradient: gradient, firstMoment: first, secondMoment: second,
                Kernels.AdamWSettings(
                    learningRate: learningRate, beta1: beta1, beta2: beta2, epsilon: epsilon,
                    weightDecay: parameter.decays ? weightDecay : 0, gradientScale: 1, step: step))
        }
    }

    /// The Euclidean norm of all gradients together.
    public static func gradientNorm(_ parameters: Parameters) -> Float {
        var sum = 0.0
        for index in parameters.all.indices {
            if let gradient = parameters.all[index].gradient { sum += Kernels.sumOfSquares(gradient) }
        }
        return Float(sum.squareRoot())
    }
}
