import Tensors

/// The named weights of a model, with their gradients where they are trained.
public final class Parameters {
    /// One named tensor.
    public struct Parameter {
        /// MAE's name for it, such as `blocks.0.attn.qkv.weight`.
        public let name: String
        /// Its shape in files.
        public let shape: [Int]
        /// Seen as a matrix: [first dimension, all others]; vectors are one row.
        public let weight: Tensor
        /// Nil if the weight is not trained.
        public let gradient: Tensor?
        /// Whether weight decay applies: by default to everything but biases and 1-D tensors (class and mask token
        /// decay); otherwise as the parameters' `updates` say.
        public let decays: Bool
        /// Factor of the learning rate, as layer-wise decay sets it.
        public let rateScale: Float
        /// Whether it is the matrix of a linear layer. A pass may overwrite the gradient of a matrix; it adds to all
        /// others.
        fileprivate let isMatrix: Bool
        fileprivate let initial: Initial
        fileprivate let frozen: FrozenMatrix?

        /// Whether it has a gradient.
        public var isTrained: Bool { gradient != nil }
    }

    /// How a weight is initialised.
    public enum Initial: Sendable {
        case zero
        case one
        /// Normal with mean 0 and this standard deviation.
        case normal(Double)
        /// Xavier-uniform of the matrix [first dimension, all others].
        case xavier
        /// A sin-cos table for a grid of patches.
        case positions(rows: Int, columns: Int)
    }

    /// A frozen matrix, kept only in packed form, in the precision of its matmuls. Its float32 weight is alive only
    /// while it is loaded.
    fileprivate struct FrozenMatrix {
        let packed: Kernels.PackedWeight
        let loading: Phase
    }

    /// How the optimiser updates a parameter.
    public struct Update: Equatable, Sendable {
        /// Whether weight decay applies.
        public var decays: Bool
        /// Factor of the learning rate.
        public var rateScale: Float

        public init(decays: Bool, rateScale: Float) {
            self.decays = decays
            self.rateScale = rateScale
        }
    }

    /// All parameters, in the order in which the model added them.
    public private(set) var all: [Parameter] = []
    let plan: MemoryPlan
    private let owner: String
    private let purpose: MemoryPlan.Purpose
    private let isTrained: Bool
    private let packs: Bool
    /// The update of the parameter of a name and a shape, where the default does not hold.
    private let updates: ((_ name: String, _ shape: [Int]) -> Update)?
    /// The parameters whose weights these read; nil for weights of their own.
    private let original: Parameters?
    /// Whether all gradients exist at the same time, so that micro-batches can accumulate in them.
    let keepsGradients: Bool
    private var hasValues = false
    /// Whether the weights have been set. Frozen weights cannot be used before.
    public var isFilled: Bool { original?.isFilled ?? hasValues }

    /// Precision of the operands of matmuls with these weights outside the blocks, and of kept activations.
    public let precision: Precision
    /// Precision of the operands of the linear layers in the blocks: `precision`, or int8.
    public let matrices: Precision

    /// Weights that are trained.
    ///
    /// - Parameters:
    ///   - owner: prefix of the names of their buffers in the plan.
    ///   - keepsGradients: whether all gradients exist at the same time. Otherwise each is alive from the phase that
    ///     first writes it to the phase that passes it to the sink.
    ///   - updates: the update of the parameter of a name and a shape. Nil: matrices decay, vectors do not, and the
    ///     learning rate is the same for all.
    public init(
        trainedIn plan: MemoryPlan, owner: String, keepsGradients: Bool, precision: Precision = .f32,
        updates: ((_ name: String, _ shape: [Int]) -> Update)? = nil
    ) {
        precondition(precision != .int8, "only frozen weights can be int8")
        self.plan = plan
        self.owner = owner
        purpose = .weights
        isTrained = true
        packs = false
        self.updates = updates
        original = nil
        self.keepsGradients = keepsGradients
        self.precision = precision
        matrices = precision
    }

    /// Weights that stay as `fill` sets them.
    ///
    /// - Parameters:
    ///   - purpose: their purpose in the printed plan.
    ///   - packs: whether matrices are kept only in packed form.
    ///   - matrices: another precision for the linear layers inside blocks, such as int8.
    public init(
        frozenIn plan: MemoryPlan, owner: String, _ purpose: MemoryPlan.Purpose, packs: Bool = true,
        precision: Precision = .f32, matrices: Precision? = nil
    ) {
        precondition(precision != .int8 && (packs || matrices != .int8), "only packed matrices can be int8")
        self.plan = plan
        self.owner = owner
        self.purpose = purpose
        isTrained = false
        self.packs = packs
        updates = nil
        original = nil
        keepsGradients = false
        self.precision = precision
        self.matrices = matrices ?? precision
    }

    /// Weights of `other`, in the same memory and read in float32: for an evaluation of what is being trained.
    ///
    /// - Parameters:
    ///   - other: weights that are not packed, at least those that will be added here.
    ///   - owner: prefix of the names of the buffers that layers with these weights reserve.
    init(reading other: Parameters, owner: String) {
        precondition(!other.packs, "packed weights cannot be shared")
        plan = other.plan
        self.owner = owner
        purpose = other.purpose
        isTrained = false
        packs = false
        updates = nil
        original = other
        keepsGradients = false
        precision = .f32
        matrices = .f32
    }

    /// Frozen weights of `other`, in the same memory and precision: for passes of another number of images. `other` is
    /// filled.
    ///
    /// - Parameters:
    ///   - other: frozen weights, at least those that will be added here.
    ///   - owner: prefix of the names of the buffers that layers with these weights reserve.
    init(sharing other: Parameters, owner: String) {
        precondition(!other.isTrained && other.original == nil, "only frozen weights are shared")
        plan = other.plan
        self.owner = owner
        purpose = other.purpose
        isTrained = false
        packs = other.packs
        updates = nil
        original = other
        keepsGradients = false
        precision = other.precision
        matrices = other.matrices
    }

    // MARK: Building

    /// Adds a parameter; its memory is planned at once.
    ///
    /// - Parameters:
    ///   - gradient: the lifetime of its gradient, unless all gradients are kept; nil without a backward pass.
    ///   - isTrained: whether it is trained, if these parameters are trained at all.
    package func add(
        _ name: String, _ shape: [Int], _ initial: Initial, gradient range: ClosedRange<Phase>?,
        isTrained: Bool = true,
        decays: Bool? = nil, rateScale: Float? = nil
    ) -> Parameter {
        add(name, shape, initial, range, isMatrix: false, isTrained: isTrained, decays: decays, rateScale: rateScale)
    }

    /// Adds the weight of a linear layer. If it is frozen, also plans its packed form, which matmuls read instead.
    func addMatrix(
        _ name: String, _ shape: [Int], _ initial: Initial, _ precision: Precision, gradient range: ClosedRange<Phase>?
    ) -> (Parameter, Kernels.PackedWeight?) {
        guard packs else { return (add(name, shape, initial, range, isMatrix: true), nil) }
        if let original {
            let packed = original.all.first { $0.name == name }?.frozen?.packed
            return (add(name, shape, initial, range, isMatrix: true), packed)
        }
        let (rows, columns) = Self.matrix(shape)
        let loading = plan.phase("\(owner) \(name) is loaded")
        let packed = Kernels.PackedWeight(
            "\(owner) \(name), packed", rows: rows, columns: columns, precision: precision, plan: plan, purpose)
        let parameter = Parameter(
            name: name, shape: shape,
            weight: plan.reserve("\(owner) \(name)", rows, columns, .scratch, alive: .only(loading)), gradient: nil,
            decays: true, rateScale: 1, isMatrix: true, initial: initial,
            frozen: FrozenMatrix(packed: packed, loading: loading))
        all.append(parameter)
        return (parameter, packed)
    }

    /// Adds the tensors of `layout` that are not there yet, untrained: weights that are written with the model but that
    /// no pass reads. Initial values are those of blocks and norms.
    func addUntrained(_ layout: ModelLayout) {
        let names = Set(all.map(\.name))
        for entry in layout.entries where !names.contains(entry.name) {
            let initial: Initial = entry.name.hasSuffix(".bias") ? .zero : entry.shape.count == 1 ? .one : .xavier
            _ = add(entry.name, entry.shape, initial, gradient: nil, isTrained: false)
        }
    }

    private func add(
        _ name: String, _ shape: [Int], _ initial: Initial, _ range: ClosedRange<Phase>?, isMatrix: Bool,
        isTrained: Bool = true, decays: Bool? = nil, rateScale: Float? = nil
    ) -> Parameter {
        if let original {
            guard let parameter = original.all.first(where: { $0.name == name }), parameter.shape == shape else {
                preconditionFailure("there is no weight \(name) of shape \(shape)")
            }
            let shared = Parameter(
                name: name, shape: shape, weight: parameter.weight, gradient: nil, decays: parameter.decays,
                rateScale: parameter.rateScale, isMatrix: isMatrix, initial: parameter.initial, frozen: nil)
            all.append(shared)
            return shared
        }
        let (rows, columns) = Self.matrix(shape)
        var gradient: Tensor?
        if self.isTrained, isTrained, let range {
            gradient = plan.reserve(
                "\(owner) \(name) gradient", rows, columns, .gradients, alive: keepsGradients ? .always : .during(range)
            )
        }
        let update = updates?(name, shape) ?? Update(decays: shape.count > 1, rateScale: 1)
        let parameter = Parameter(
            name: name, shape: shape, weight: plan.reserve("\(owner) \(name)", rows, columns, purpose),
            gradient: gradient, decays: decays ?? update.decays, rateScale: rateScale ?? update.rateScale,
            isMatrix: isMatrix, initial: initial, frozen: nil)
        all.append(parameter)
        return parameter
    }

    /// Reserves a tensor [rows, columns] for a layer with these weights.
    func buffer(
        _ name: String, _ rows: Int, _ columns: Int, _ purpose: MemoryPlan.Purpose = .scratch,
        as type: ElementType = .f32,
        alive lifetime: Lifetime
    ) -> Tensor {
        plan.reserve("\(owner) \(name)", rows, columns, purpose, as: type, alive: lifetime)
    }

    /// Reserves a kernel's workspace for a layer with these weights.
    func workspace(_ name: String, bytes: Int, alive lifetime: Lifetime) -> Workspace {
        plan.workspace("\(owner) \(name)", bytes: bytes, alive: lifetime)
    }

    /// A shape as rows and columns.
    private static func matrix(_ shape: [Int]) -> (rows: Int, columns: Int) {
        let rows = shape.count == 1 ? 1 : shape[0]
        return (rows, shape.reduce(1, *) / rows)
    }

    /// The parameters that `body` adds, as a range of `all`, with its result.
    func range<Result>(_ body: () throws -> Result) rethrows -> (Result, Range<Int>) {
        let start = all.count
        let result = try body()
        return (result, start..<all.count)
    }

    // MARK: Values

    /// Number of scalars in all weights, or in the trained ones only.
    public func count(trainedOnly: Bool = false) -> Int {
        all.reduce(0) { $0 + (trainedOnly && !$1.isTrained ? 0 : $1.weight.count) }
    }

    /// Sets the weights: calls `body` with each parameter in order; `body` writes its weight or leaves it unchanged.
    public func fill(_ body: (Parameter) throws -> Void) rethrows {
        precondition(original == nil, "shared weights are set by their owner")
        for parameter in all {
            if let frozen = parameter.frozen { plan.begin(frozen.loading) }
            try body(parameter)
            parameter.frozen?.packed.pack(parameter.weight)
        }
        hasValues = true
    }

    /// Initialises every weight. Each parameter has its own random stream, chosen by the parameter's name.
    public func initialize(seed: UInt64) {
        fill { parameter in
            let elements = parameter.weight.elements
            var random = CounterRandom(seed: seed, purpose: .weights, name: parameter.name)
            switch parameter.initial {
            case .zero: elements.update(repeating: 0)
            case .one: elements.update(repeating: 1)
            case .normal(let deviation):
                for i in elements.indices { elements[i] = Float(deviation * random.normal()) }
            case .xavier:
                let fan = parameter.shape[0] + parameter.weight.count / parameter.shape[0]
                let bound = (6 / Double(fan)).squareRoot()
                UniformRun(target: elements, bound: bound, random: random)
                    .runAll((elements.count + UniformRun.length - 1) / UniformRun.length, chunk: 8)
            case .positions: fillPositions(parameter)
            }
        }
    }

    /// Computes the sin-cos position tables, the only values that weights from a file may lack.
    public func initializePositions() {
        for parameter in all { fillPositions(parameter) }
    }

    /// Sets the weights that begin with values which are not random, and are not packed: position tables, norms and
    /// biases.
    public func initializeConstants() {
        for parameter in all where parameter.frozen == nil {
            switch parameter.initial {
            case .zero: parameter.weight.elements.update(repeating: 0)
            case .one: parameter.weight.elements.update(repeating: 1)
            case .positions: fillPositions(parameter)
            case .normal, .xavier: break
            }
        }
    }

    private func fillPositions(_ parameter: Parameter) {
        guard case .positions(let rows, let columns) = parameter.initial else { return }
        PositionTable.fill(parameter.weight.elements, rows: rows, columns: columns, width: parameter.shape.last!)
    }

    /// Clears the gradients in `range` of `all`, except those of matrices, which the pass overwrites.
    func clearVectorGradients(_ range: Range<Int>) {
        for index in range where !all[index].isMatrix { all[index].gradient?.clear() }
    }
}

/// Uniform numbers in [-bound, bound) from one stream, computed in runs of `length` that can start anywhere in the
/// stream.
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
