import Models
import Tensors

/// AdamW's settings, with MAE's decay rule: biases and 1-D tensors do not decay.
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
}

/// AdamW's moments of all trained parameters, by the parameter's name.
public final class OptimizerState {
    /// First and second moment of one parameter, shaped as its weight.
    public struct Moments {
        public let first: Tensor
        public let second: Tensor
    }
    public let parameters: Parameters
    /// In the order of `parameters.all`; nil where the parameter is not trained.
    private let moments: [Moments?]

    /// Plans the moments' memory.
    public init(of parameters: Parameters, plan: MemoryPlan) {
        self.parameters = parameters
        moments = parameters.all.map { parameter in
            guard parameter.isTrained else { return nil }
            func moment(_ name: String) -> Tensor {
                plan.reserve("\(name) of \(parameter.name)", parameter.weight.rows, parameter.weight.columns, .moments)
            }
            return Moments(first: moment("first moment"), second: moment("second moment"))
        }
    }

    /// The moments of the parameter called `name`; nil where there is none or it is not trained.
    public subscript(name: String) -> Moments? {
        parameters.all.firstIndex { $0.name == name }.flatMap { moments[$0] }
    }

    /// One step of AdamW for the parameters in `range` of `parameters.all`.
    ///
    /// - Parameters:
    ///   - learningRate: before each parameter's `rateScale`.
    ///   - step: counts this step, from 1.
    public func update(_ range: Range<Int>, _ optimizer: Optimizer, learningRate: Float, step: Int) {
        for index in range {
            let parameter = parameters.all[index]
            guard let gradient = parameter.gradient, let moments = moments[index] else { continue }
            Kernels.adamW(
                weight: parameter.weight, gradient: gradient, firstMoment: moments.first, secondMoment: moments.second,
                Kernels.AdamWSettings(
                    learningRate: learningRate * parameter.rateScale, beta1: optimizer.beta1, beta2: optimizer.beta2,
                    epsilon: optimizer.epsilon, weightDecay: parameter.decays ? optimizer.weightDecay : 0,
                    gradientScale: 1, step: step))
        }
    }
}

/// The Euclidean norm of gradients that need not all exist at the same time; the same bits whatever the order in which they
/// are seen.
public struct GradientNorm {
    /// By parameter; zero where it is not trained.
    private var squares: [Double]

    public init(_ parameters: Parameters) { squares = Array(repeating: 0, count: parameters.all.count) }

    /// Takes the gradients of `range` of `parameters.all`, in place of those taken before.
    public mutating func add(_ parameters: Parameters, _ range: Range<Int>) {
        for index in range {
            if let gradient = parameters.all[index].gradient { squares[index] = Kernels.sumOfSquares(gradient) }
        }
    }

    /// The norm, once every gradient was taken; NaN where a gradient is NaN.
    public var value: Float { Float(squares.reduce(0, +).squareRoot()) }
}
