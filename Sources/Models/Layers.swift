import Tensors

// Letters: R rows (batch × tokens), K inputs, N outputs, D width. "d" before a name is the gradient of the loss by it.

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

    /// Names `name.weight` [outputs, inputs] and `name.bias` [outputs]; `shape` where the file keeps the weight in more
    /// dimensions; `isInBlock` where it follows the precision of the blocks' matrices.
    init(
        _ name: String, inputs: Int, outputs: Int, rows: Int, in parameters: Parameters, plan: MemoryPlan,
        shape: [Int]? = nil,
        isInBlock: Bool = false
    ) {
        self.name = name
        let matrix = isInBlock ? parameters.matrices : parameters.precision
        let (weight, packed) = parameters.addMatrix(name + ".weight", shape ?? [outputs, inputs], matrix)
        let bias = parameters.add(name + ".bias", [outputs], .zero)
        (self.weight, dWeight, self.packed) = (weight.weight, weight.gradient, packed)
        (self.bias, dBias) = (bias.weight, bias.gradient)
        precision = parameters.precision
        workspace = plan.workspace(
            "kernel workspace",
            bytes: Kernels.linearWorkspaceBytes(
                rows: rows, inputs: inputs, outputs: outputs, precision: matrix, activations: precision.activations))
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

    /// The layer that computes outputs `range` alone.
    func outputs(_ range: Range<Int>) -> Linear { Linear(self, outputs: range) }

    /// output[R, N] = x[R, K]·Wᵀ + b, then the epilogue.
    func forward(_ x: Tensor, _ output: Tensor?, _ epilogue: Kernels.Epilogue = .none) {
        Profile.layer = name
        Kernels.linear(
            x, weight: weight, packed: packed, bias: bias, output: output, epilogue, precision: precision,
            workspace: workspace)
    }

    /// dX[R, K] = (or +=) dY[R, N]·W.
    func inputGradient(_ dY: Tensor, _ dX: Tensor, accumulate: Bool = false) {
        Profile.layer = name
        Kernels.linearInputGradient(
            dY, weight: weight, dX: dX, accumulate: accumulate, precision: precision, workspace: workspace)
    }

    /// dX[R, K] = (dY[R, N]·W) · gelu'(beforeGELU), where GELU made this layer's input; `activation` becomes that input
    /// again, and may be the same tensor.
    func inputGradient(_ dY: Tensor, _ dX: Tensor, beforeGELU: Tensor, activation: Tensor) {
        Profile.layer = name
        Kernels.linearInputGradient(
            dY, weight: weight, beforeGELU: beforeGELU, activation: activation, dX: dX, precision: precision,
            workspace: workspace)
    }

    /// dW = (or += when `accumulate`) dYᵀ·x; db += column sums of dY.
    func weightGradient(_ dY: Tensor, _ x: Tensor, accumulate: Bool) {
        Profile.layer = name
        Kernels.linearWeightGradient(
            dY, x, dWeight: dWeight!, accumulate: accumulate, dBias: dBias!, precision: precision, workspace: workspace)
    }
}

/// LayerNorm over the last dimension, with the statistics of its rows where a backward pass will follow.
struct LayerNorm {
    let gamma: Parameters.Parameter
    let beta: Parameters.Parameter
    private let mean: Tensor?
    private let rstd: Tensor?
    private let workspace: Workspace

    init(_ name: String, width: Int, rows: Int, in parameters: Parameters, plan: MemoryPlan, keep: Bool) {
        gamma = parameters.add(name + ".weight", [width], .one)
        beta = parameters.add(name + ".bias", [width], .zero)
        mean = keep ? plan.reserve(rows, 1, .activations) : nil
        rstd = keep ? plan.reserve(rows, 1, .activations) : nil
        workspace = plan.workspace("kernel workspace", bytes: Kernels.reductionWorkspaceBytes(rows: rows, width: width))
    }

    /// y = LayerNorm(x).
    func forward(_ x: Tensor, _ y: Tensor) {
        Kernels.layerNorm(x, gamma: gamma.weight, beta: beta.weight, y: y, mean: mean, rstd: rstd)
    }

    /// y = LayerNorm(x) once more, bit for bit, instead of having kept it.
    func again(_ x: Tensor, _ y: Tensor) {
        Kernels.layerNormAgain(x, gamma: gamma.weight, beta: beta.weight, mean: mean!, rstd: rstd!, y: y)
    }

    /// dX = (or +=) the gradient by x; dγ, dβ +=.
    func backward(_ x: Tensor, dY: Tensor, dX: Tensor, accumulate: Bool) {
        Kernels.layerNormGradient(
            x, gamma: gamma.weight, mean: mean!, rstd: rstd!, dY: dY, accumulate: accumulate, dX: dX,
            dGamma: gamma.gradient!,
            dBeta: beta.gradient!, workspace: workspace)
    }
}
