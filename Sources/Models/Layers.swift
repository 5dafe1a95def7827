import Tensors

// Letters: R rows (batch × tokens), K inputs, N outputs, D width. "d" before a name is the loss's gradient with respect
// to it.

/// The phases of a layer, and the lifetime of its gradients.
struct LayerPhases {
    let forward: Phase
    /// Nil without a backward pass.
    var backward: Phase?
    /// From the phase that clears the gradients to the phase that passes them to the sink; nil without a backward
    /// pass.
    var gradient: ClosedRange<Phase>?
}

/// y = x·Wᵀ + b.
struct Linear {
    private let name: String
    private let weight: Tensor
    private let bias: Tensor
    private let dWeight: Tensor?
    private let dBias: Tensor?
    private let packed: Kernels.PackedWeight?
    private let precision: Precision
    private let workspace: Workspace

    /// Adds the parameters `name.weight` [outputs, inputs] and `name.bias` [outputs].
    ///
    /// - Parameters:
    ///   - rows: maximum rows of a forward or backward pass.
    ///   - shape: the weight's shape in files, if it has more than two dimensions.
    ///   - isInBlock: whether the layer is in a transformer block, so that its precision is `Parameters.matrices`.
    ///   - initial: how the weight is initialised; the bias begins at 0.
    init(
        _ name: String, inputs: Int, outputs: Int, rows: Int, at phases: LayerPhases, in parameters: Parameters,
        shape: [Int]? = nil, isInBlock: Bool = false, initial: Parameters.Initial = .xavier
    ) {
        self.name = name
        let matrix = isInBlock ? parameters.matrices : parameters.precision
        let (weight, packed) = parameters.addMatrix(
            name + ".weight", shape ?? [outputs, inputs], initial, matrix, gradient: phases.gradient)
        let bias = parameters.add(name + ".bias", [outputs], .zero, gradient: phases.gradient)
        (self.weight, dWeight, self.packed) = (weight.weight, weight.gradient, packed)
        (self.bias, dBias) = (bias.weight, bias.gradient)
        precision = parameters.precision
        workspace = parameters.workspace(
            "\(name) workspace",
            bytes: Kernels.linearWorkspaceBytes(
                rows: rows, inputs: inputs, outputs: outputs, precision: matrix, activations: precision.activations),
            alive: .only(phases.forward, phases.backward))
    }

    private init(_ whole: Linear, outputs: Range<Int>) {
        precondition(whole.packed == nil, "a packed weight has no parts")
        name = whole.name
        weight = whole.weight.rows(outputs)
        dWeight = whole.dWeight?.rows(outputs)
        bias = whole.bias.columns(outputs)
        dBias = whole.dBias?.columns(outputs)
        packed = nil
        precision = whole.precision
        workspace = whole.workspace
    }

    /// The layer that computes the outputs in `range` only.
    func outputs(_ range: Range<Int>) -> Linear { Linear(self, outputs: range) }

    /// output[R, N] = x[R, K]·Wᵀ + b, then the epilogue.
    func forward(_ x: Tensor, _ output: Tensor?, _ epilogue: Kernels.Epilogue = .none) {
        Profile.layer = name
        Kernels.linear(
            x, weight: weight, packed: packed, bias: bias, output: output, epilogue, precision: precision,
            workspace: workspace)
    }

    /// dX[R, K] = (or += when `accumulate`) dY[R, N]·W.
    func inputGradient(_ dY: Tensor, _ dX: Tensor, accumulate: Bool = false) {
        Profile.layer = name
        Kernels.linearInputGradient(
            dY, weight: weight, dX: dX, accumulate: accumulate, precision: precision, workspace: workspace)
    }

    /// dX[R, K] = (dY[R, N]·W) · gelu'(preActivation), for a layer whose input is GELU of `preActivation`. `activation`
    /// receives the recomputed input and may be the same tensor as `preActivation`.
    func inputGradient(_ dY: Tensor, _ dX: Tensor, preActivation: Tensor, activation: Tensor) {
        Profile.layer = name
        Kernels.linearInputGradient(
            dY, weight: weight, preActivation: preActivation, activation: activation, dX: dX, precision: precision,
            workspace: workspace)
    }

    /// dW = (or += when `accumulate`) dYᵀ·x; db += column sums of dY.
    func weightGradient(_ dY: Tensor, _ x: Tensor, accumulate: Bool) {
        Profile.layer = name
        Kernels.linearWeightGradient(
            dY, x, dWeight: dWeight!, accumulate: accumulate, dBias: dBias!, precision: precision, workspace: workspace)
    }
}

/// LayerNorm over the last dimension. For a backward pass it keeps each row's mean and reciprocal standard deviation.
struct LayerNorm {
    private let gamma: Parameters.Parameter
    private let beta: Parameters.Parameter
    private let mean: Tensor?
    private let rstd: Tensor?
    private let workspace: Workspace?

    init(_ name: String, width: Int, rows: Int, at phases: LayerPhases, in parameters: Parameters) {
        gamma = parameters.add(name + ".weight", [width], .one, gradient: phases.gradient)
        beta = parameters.add(name + ".bias", [width], .zero, gradient: phases.gradient)
        guard let backward = phases.backward else {
            (mean, rstd, workspace) = (nil, nil, nil)
            return
        }
        let kept = Lifetime.during(phases.forward...backward)
        mean = parameters.buffer("\(name) mean", rows, 1, .activations, alive: kept)
        rstd = parameters.buffer("\(name) rstd", rows, 1, .activations, alive: kept)
        workspace = parameters.workspace(
            "\(name) workspace", bytes: Kernels.reductionWorkspaceBytes(rows: rows, width: width),
            alive: .only(backward))
    }

    /// y = LayerNorm(x).
    func forward(_ x: Tensor, _ y: Tensor) {
        Kernels.layerNorm(x, gamma: gamma.weight, beta: beta.weight, y: y, mean: mean, rstd: rstd)
    }

    /// y = LayerNorm(x), recomputed bit for bit from the kept statistics, so that y need not be kept in memory.
    func recompute(_ x: Tensor, _ y: Tensor) {
        Kernels.layerNormRecompute(x, gamma: gamma.weight, beta: beta.weight, mean: mean!, rstd: rstd!, y: y)
    }

    /// dX = (or +=) the gradient with respect to x; dγ, dβ +=.
    func backward(_ x: Tensor, dY: Tensor, dX: Tensor, accumulate: Bool) {
        Kernels.layerNormGradient(
            x, gamma: gamma.weight, mean: mean!, rstd: rstd!, dY: dY, accumulate: accumulate, dX: dX,
            dGamma: gamma.gradient!, dBeta: beta.gradient!, workspace: workspace!)
    }
}
