import Models
import Tensors

/// AdamW's settings. `Parameters.Parameter.decays` says which tensors the weight decay applies to.
public struct Optimizer: Codable, Equatable, Sendable {
    /// Decay rates of the first and second moment.
    public var beta1: Float
    public var beta2: Float
    /// Added to the root of the second moment.
    public var epsilon: Float
    /// Decoupled weight decay, multiplied by the learning rate.
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
    /// First and second moment of one parameter, in the shape of its weight.
    public struct Moments {
        public let first: Tensor
        public let second: Tensor
    }
    /// The parameters whose moments these are.
    public let parameters: Parameters
    /// In the order of `parameters.all`; nil for parameters that are not trained.
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

    /// The moments of the parameter called `name`; nil if there is none or it is not trained.
    public subscript(name: String) -> Moments? {
        parameters.all.firstIndex { $0.name == name }.flatMap { moments[$0] }
    }

    /// One step of AdamW for the parameters in `range` of `parameters.all`.
    ///
    /// - Parameters:
    ///   - learningRate: the rate that each parameter's `rateScale` multiplies.
    ///   - step: number of this step, from 1.
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

/// The Euclidean norm of gradients that need not all exist at the same time. Its bits do not depend on the order in
/// which gradients are added.
public struct GradientNorm {
    /// Sum of squares by parameter; zero for those that are not trained.
    private var squares: [Double]

    public init(_ parameters: Parameters) { squares = Array(repeating: 0, count: parameters.all.count) }

    /// Adds the gradients in `range` of `parameters.all`; they replace earlier gradients of the same parameters.
    public mutating func add(_ parameters: Parameters, _ range: Range<Int>) {
        for index in range {
            if let gradient = parameters.all[index].gradient { squares[index] = Kernels.sumOfSquares(gradient) }
        }
    }

    /// The norm; valid once every gradient is added. NaN if a gradient is NaN.
    public var value: Float { Float(squares.reduce(0, +).squareRoot()) }
}
