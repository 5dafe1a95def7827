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

    /// One step of all parameters with `learningRate`; `step` counts this one and starts at 1.
    public func update(_ parameters: Parameters, learningRate: Float, step: Int) {
        update(parameters, parameters.all.indices, learningRate: learningRate, step: step)
    }

    /// The same of the parameters in `range` of `parameters.all`.
    public func update(_ parameters: Parameters, _ range: Range<Int>, learningRate: Float, step: Int) {
        for index in range {
            let parameter = parameters.all[index]
            guard let gradient = parameter.gradient, let first = parameter.firstMoment,
                let second = parameter.secondMoment
            else { continue }
            Kernels.adamW(
                weight: parameter.weight, gradient: gradient, firstMoment: first, secondMoment: second,
                Kernels.AdamWSettings(
                    learningRate: learningRate, beta1: beta1, beta2: beta2, epsilon: epsilon,
                    weightDecay: parameter.decays ? weightDecay : 0, gradientScale: 1, step: step))
        }
    }
}

/// The Euclidean norm of gradients that need not all exist at the same time; the same bits in whatever order they are
/// seen.
public struct GradientNorm {
    /// Of each parameter, zero where it is fixed.
    private var squares: [Double]

    public init(_ parameters: Parameters) { squares = Array(repeating: 0, count: parameters.all.count) }

    /// Looks at the gradients of `range` of `parameters.all`, in place of what they were before.
    public mutating func add(_ parameters: Parameters, _ range: Range<Int>) {
        for index in range {
            if let gradient = parameters.all[index].gradient { squares[index] = Kernels.sumOfSquares(gradient) }
        }
    }

    /// The norm, once every gradient was seen; NaN where one is.
    public var value: Float { Float(squares.reduce(0, +).squareRoot()) }
}
