import Models
import Tensors

/// An optimiser and its settings.
public struct Optimizer: Codable, Equatable, Sendable {
    /// The rule that updates a weight.
    public enum Algorithm: String, Codable, CaseIterable, Sendable {
        /// Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101), in PyTorch's order of operations.
        case adamW = "adamw"
        /// Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888), as MAE's linear probe uses it; see
        /// `LARSUpdate`.
        case lars

        /// The tensors that it keeps for each trained parameter.
        var state: [OptimizerState.Kind] {
            switch self {
            case .adamW: [.firstMoment, .secondMoment]
            case .lars: [.momentum]
            }
        }
    }

    public var algorithm: Algorithm
    /// AdamW: decay rates of the first and second moment.
    public var beta1: Float
    public var beta2: Float
    /// AdamW: added to the root of the second moment.
    public var epsilon: Float
    /// AdamW: decoupled weight decay, multiplied by the learning rate, for the parameters with
    /// `Parameters.Parameter.decays`. LARS has none.
    public var weightDecay: Float
    /// LARS: factor of the momentum from one step to the next.
    public var momentum: Float
    /// LARS: norm of an update at rate 1, divided by the norm of its weight.
    public var trust: Float

    public init(
        algorithm: Algorithm = .adamW, beta1: Float = 0.9, beta2: Float = 0.95, epsilon: Float = 1e-8,
        weightDecay: Float = 0.05, momentum: Float = 0.9, trust: Float = 0.001
    ) {
        self.algorithm = algorithm
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.weightDecay = weightDecay
        self.momentum = momentum
        self.trust = trust
    }

    /// LARS with the settings of MAE's linear probe.
    public static let lars = Optimizer(algorithm: .lars, weightDecay: 0)
}

/// The optimiser's state of all trained parameters, by the parameter's name.
public final class OptimizerState {
    /// A tensor that an optimiser keeps for each parameter, in the shape of its weight. The raw value names it in
    /// checkpoints.
    public enum Kind: String, Sendable {
        case firstMoment = "first_moment"
        case secondMoment = "second_moment"
        case momentum

        /// In words: "first moment".
        fileprivate var name: String { rawValue.replacing("_", with: " ") }
    }
    /// The parameters whose state this is.
    public let parameters: Parameters
    /// The kinds of tensors, in the order of checkpoints.
    let kinds: [Kind]
    /// For each of `parameters.all`, a tensor of each kind; nil for parameters that are not trained, or that another
    /// process owns.
    private let tensors: [[Tensor]?]

    /// Plans the memory.
    ///
    /// - Parameter owns: whether this process keeps the state of the parameter at an index; the others are not updated.
    public init(
        of parameters: Parameters, _ algorithm: Optimizer.Algorithm = .adamW, plan: MemoryPlan,
        owns: (Int) -> Bool = { _ in true }
    ) {
        self.parameters = parameters
        let kinds = algorithm.state
        self.kinds = kinds
        tensors = parameters.all.enumerated().map { index, parameter in
            guard parameter.isTrained, owns(index) else { return nil }
            return kinds.map {
                plan.reserve(
                    "\($0.name) of \(parameter.name)", parameter.weight.rows, parameter.weight.columns, .moments)
            }
        }
    }

    /// The tensor of one kind for the parameter called `name`; nil if there is no such parameter, it is not trained, or
    /// the optimiser has no such state.
    public subscript(name: String, kind: Kind) -> Tensor? {
        guard let index = parameters.all.firstIndex(where: { $0.name == name }), let place = kinds.firstIndex(of: kind)
        else { return nil }
        return tensors[index]?[place]
    }

    /// The tensor of one kind for the parameter at `index`; nil if it has none here.
    func tensor(_ index: Int, _ kind: Kind) -> Tensor? {
        kinds.firstIndex(of: kind).flatMap { tensors[index]?[$0] }
    }

    /// One step of `optimizer` for the parameters in `range` of `parameters.all`. Its algorithm must be that of `init`.
    ///
    /// - Parameters:
    ///   - learningRate: the rate that each parameter's `rateScale` multiplies.
    ///   - step: number of this step, from 1.
    ///   - gradientScale: factor of the gradients, below 1 where their norm is clipped.
    public func update(
        _ range: Range<Int>, _ optimizer: Optimizer, learningRate: Float, step: Int, gradientScale: Float = 1
    ) {
        for index in range {
            let parameter = parameters.all[index]
            guard let gradient = parameter.gradient, let state = tensors[index] else { continue }
            let rate = learningRate * parameter.rateScale
            switch optimizer.algorithm {
            case .adamW:
                Kernels.adamW(
                    weight: parameter.weight, gradient: gradient, firstMoment: state[0], secondMoment: state[1],
                    Kernels.AdamWSettings(
                        learningRate: rate, beta1: optimizer.beta1, beta2: optimizer.beta2,
                        epsilon: optimizer.epsilon, weightDecay: parameter.decays ? optimizer.weightDecay : 0,
                        gradientScale: gradientScale, step: step))
            case .lars:
                LARSUpdate.run(
                    parameter.weight, gradient: gradient, momentum: state[0], learningRate: rate,
                    decay: optimizer.momentum, trust: parameter.shape.count > 1 ? optimizer.trust : nil,
                    gradientScale: gradientScale)
            }
        }
    }
}

/// The Euclidean norm of gradients that need not all exist at the same time. Its bits do not depend on the order in
/// which gradients are added.
public struct GradientNorm {
    /// Sum of squares by parameter; zero for those that are not trained.
    var squares: [Double]

    public init(_ parameters: Parameters) { squares = Array(repeating: 0, count: parameters.all.count) }

    /// Adds the gradients in `range` of `parameters.all`; they replace earlier gradients of the same parameters.
    public mutating func add(_ parameters: Parameters, _ range: Range<Int>) {
        for index in range {
            if let gradient = parameters.all[index].gradient { squares[index] = Kernels.sumOfSquares(gradient) }
        }
    }

    /// The norm; valid once every gradient is added. NaN if a gradient is NaN.
    public var value: Float { Float(squares.reduce(0, +).squareRoot()) }

    /// The factor that clips gradients of this norm, as PyTorch's clip_grad_norm_ computes it:
    /// min(1, maximum / (norm + 1e-6)).
    public func factor(clippingTo maximum: Float) -> Float { min(1, maximum / (value + 1e-6)) }
}
