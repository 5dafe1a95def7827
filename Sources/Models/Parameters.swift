import Tensors

/// The named weights of a model, with their gradients and optimiser moments where they are trained.
public final class Parameters {
    /// One named tensor.
    public struct Parameter {
        /// MAE's name for it, such as `blocks.0.attn.qkv.weight`.
        public let name: String
        /// Its shape in files.
        public let shape: [Int]
        /// Seen as a matrix: [first dimension, all others]; vectors are one row.
        public let weight: Tensor
        /// Nil where the weight is fixed. Of a group's parameters it may be the memory of other groups' gradients, too.
        public let gradient: Tensor?
        public let firstMoment: Tensor?
        public let secondMoment: Tensor?
        /// Whether weight decay applies: to everything but biases and 1-D tensors (class and mask token do decay).
        public let decays: Bool
        /// Whether it is the matrix of a linear layer, whose gradient a pass may overwrite; to all others it adds.
        fileprivate let isMatrix: Bool
        fileprivate let initial: Initial
    }

    /// How a weight starts.
    public enum Initial: Sendable {
        case zero
        case one
        /// N(0, 0.02).
        case token
        /// Xavier-uniform of the matrix [first dimension, all others].
        case xavier
        /// A fixed sin-cos table for a grid of patches.
        case positions(rows: Int, columns: Int)
    }

    public private(set) var all: [Parameter] = []
    private let plan: MemoryPlan
    private let trained: Bool
    private let isFrozen: Bool
    /// When in a pass the gradients of what is added from now on exist: in part of it where they are not accumulated.
    /// The gradients of all groups then have one memory.
    var gradientPhases = MemoryPlan.Phases.all
    /// Runs of `all` whose gradients are complete at the same time, one after the other: the student's blocks.
    private(set) var groups: [Range<Int>] = []
    /// Where in `all` the group that is being added begins.
    private var groupStart: Int?
    /// What products read instead of frozen matrices, by their places in `all`.
    private var packed: [Int: Kernels.PackedWeight] = [:]
    /// Whether the weights have been set; frozen ones cannot be used before.
    public private(set) var isFilled = false

    /// What the operands of the products with these weights are rounded to, but where `matrices` says int8; and what
    /// activations are kept as.
    public let precision: Precision
    /// The same of the linear layers inside the blocks.
    public let matrices: Precision

    /// - Parameters:
    ///   - trained: whether gradients and moments are planned too.
    ///   - matrices: another precision of the linear layers inside blocks: int8, for frozen weights alone.
    ///   - isFrozen: whether the weights stay what `fill` makes of them, as a teacher's: matrices are then kept only as
    ///     products read them, packed and in their precision, and have one memory for all of them, good only while
    ///     `fill` sets them.
    public init(
        plan: MemoryPlan, trained: Bool, precision: Precision = .f32, matrices: Precision? = nil, isFrozen: Bool = false
    ) {
        precondition(!(trained && isFrozen))
        precondition(precision != .int8 && (matrices != .int8 || isFrozen), "only frozen weights can be int8")
        self.plan = plan
        self.trained = trained
        self.precision = precision
        self.matrices = matrices ?? precision
        self.isFrozen = isFrozen
    }

    /// Adds what `body` adds as one group.
    func addGroup<Result>(_ body: () -> Result) -> Result {
        precondition(groupStart == nil, "a group within a group")
        let start = all.count
        groupStart = start
        let result = body()
        groupStart = nil
        groups.append(start..<all.count)
        return result
    }

    /// Sets the weights: `body` is called with each parameter in turn and writes its weight, or leaves it as it is.
    public func fill(_ body: (Int, Parameter) throws -> Void) rethrows {
        for (index, parameter) in all.enumerated() {
            try body(index, parameter)
            packed[index]?.pack(parameter.weight)
        }
        isFilled = true
    }

    /// Adds the weight of a linear layer: what products read is nil where it is the weight itself.
    func addMatrix(_ name: String, _ shape: [Int], _ precision: Precision) -> (Parameter, Kernels.PackedWeight?) {
        guard isFrozen else { return (add(name, shape, .xavier, isMatrix: true), nil) }
        let (rows, columns) = (shape[0], shape.dropFirst().reduce(1, *))
        let parameter = Parameter(
            name: name, shape: shape, weight: plan.during(.loading) { plan.scratch("frozen matrix", rows, columns) },
            gradient: nil,
            firstMoment: nil, secondMoment: nil, decays: true, isMatrix: true, initial: .xavier)
        let packed = Kernels.PackedWeight(
            rows: rows, columns: columns, precision: precision, plan: plan, .teacherWeights)
        self.packed[all.count] = packed
        all.append(parameter)
        return (parameter, packed)
    }

    /// Adds a parameter; its memory is planned at once.
    func add(_ name: String, _ shape: [Int], _ initial: Initial, isMatrix: Bool = false) -> Parameter {
        let count = shape.reduce(1, *)
        let rows = shape.count == 1 ? 1 : shape[0]
        var fixed = !trained
        if case .positions = initial { fixed = true }
        func moment() -> Tensor? { fixed ? nil : plan.reserve(rows, count / rows, .moments) }
        func gradient() -> Tensor? {
            guard !fixed else { return nil }
            guard let groupStart, gradientPhases != .all else { return plan.reserve(rows, count / rows, .gradients) }
            return plan.scratch(
                "gradient \(all.count - groupStart) of a group", rows, count / rows, purpose: .gradients)
        }
        let parameter = Parameter(
            name: name, shape: shape, weight: plan.reserve(rows, count / rows, trained ? .weights : .teacherWeights),
            gradient: plan.during(gradientPhases, gradient), firstMoment: moment(), secondMoment: moment(),
            decays: shape.count > 1, isMatrix: isMatrix, initial: initial)
        all.append(parameter)
        return parameter
    }

    /// Scalars in all, or of trained weights only.
    public func count(trainedOnly: Bool = false) -> Int {
        all.reduce(0) { $0 + (trainedOnly && $1.gradient == nil ? 0 : $1.weight.count) }
    }

    /// Fills every weight with its starting value. Each parameter has a random stream of its own, named by its place in
    /// `all`.
    public func initialize(seed: UInt64) {
        fill { index, parameter in
            let elements = parameter.weight.elements
            var random = CounterRandom(seed: seed, purpose: .weights, index: index)
            switch parameter.initial {
            case .zero: elements.update(repeating: 0)
            case .one: elements.update(repeating: 1)
            case .token: for i in elements.indices { elements[i] = Float(0.02 * random.normal()) }
            case .xavier:
                let fan = parameter.shape[0] + parameter.weight.count / parameter.shape[0]
                let bound = (6 / Double(fan)).squareRoot()
                UniformRun(target: elements, bound: bound, random: random)
                    .runAll((elements.count + UniformRun.length - 1) / UniformRun.length, chunk: 8)
            case .positions: fillPositions(parameter)
            }
        }
    }

    /// Computes the fixed position tables, the only values that weights from a file may lack.
    public func initializePositions() {
        for parameter in all { fillPositions(parameter) }
    }

    private func fillPositions(_ parameter: Parameter) {
        guard case .positions(let rows, let columns) = parameter.initial else { return }
        PositionTable.fill(parameter.weight.elements, rows: rows, columns: columns, width: parameter.shape.last!)
    }

    /// Sets every gradient to zero, as each accumulation starts.
    public func clearGradients() {
        for parameter in all { parameter.gradient?.clear() }
    }

    /// Sets to zero those gradients of `range` of `all` that a pass adds to even where it overwrites the matrices'.
    func clearVectorGradients(_ range: Range<Int>) {
        for index in range where !all[index].isMatrix { all[index].gradient?.clear() }
    }
}

/// Numbers in [-bound, bound) from one stream, in runs that know where in it they begin.
private struct UniformRun: ParallelRows {
    static let length = 4096
    let target: UnsafeMutableBufferPointer<Float>
    let bound: Double
    let random: CounterRandom

    func run(_ range: Range<Int>) {
        for index in range {
            let start = index * Self.length
            var random = random
            // Each number takes half a block.
            random.skip(blocks: start / 2)
            for i in start..<min(start + Self.length, target.count) { target[i] = Float(random.uniform(-bound, bound)) }
        }
    }
}
