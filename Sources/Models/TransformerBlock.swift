import Tensors

// Letters: B batch, T tokens, R = B·T rows, D width, H heads.

/// A pre-norm transformer block: x += proj(attention(LN(x))); x += fc2(gelu(fc1(LN(x)))).
///
/// Between forward and backward it keeps per row D (middle) floats, 3D (qkv) + D (attention) + 4D (before GELU) in the precision of
/// the products, and the row statistics. Both LayerNorm outputs and GELU's are computed again: cheaper than the memory they would
/// take.
struct TransformerBlock {
    private let batch: Int
    private let heads: Int
    private let norm1: LayerNorm
    private let qkvLinear: Linear
    private let projection: Linear
    private let norm2: LayerNorm
    private let fc1: Linear
    private let fc2: Linear
    private let workspace: Workspace

    private let qkv: Tensor
    private let attention: Tensor
    private let logSumExp: Tensor?
    private let middle: Tensor
    private let hidden: Tensor?

    private let normed: Tensor
    private let activation: Tensor
    private let dHidden: Tensor?
    private let dNormed: Tensor?
    private let dQKV: Tensor?

    /// - Parameters:
    ///   - name: "blocks.0" or "decoder_blocks.0".
    ///   - keep: whether a backward pass will follow.
    init(
        _ name: String, batch: Int, tokens: Int, width: Int, heads: Int, in parameters: Parameters, plan: MemoryPlan, keep: Bool
    ) {
        let rows = batch * tokens
        self.batch = batch
        self.heads = heads
        func linear(_ part: String, _ inputs: Int, _ outputs: Int) -> Linear {
            Linear("\(name).\(part)", inputs: inputs, outputs: outputs, rows: rows, in: parameters, plan: plan)
        }
        norm1 = LayerNorm("\(name).norm1", width: width, rows: rows, in: parameters, plan: plan, keep: keep)
        qkvLinear = linear("attn.qkv", width, 3 * width)
        projection = linear("attn.proj", width, width)
        norm2 = LayerNorm("\(name).norm2", width: width, rows: rows, in: parameters, plan: plan, keep: keep)
        fc1 = linear("mlp.fc1", width, 4 * width)
        fc2 = linear("mlp.fc2", 4 * width, width)
        workspace = plan.workspace(
            "kernel workspace", bytes: Kernels.attentionWorkspaceBytes(tokens: tokens, headSize: width / heads))

        let type = parameters.precision.activations
        func buffer(_ name: String, _ columns: Int, as type: ElementType) -> Tensor {
            keep ? plan.reserve(rows, columns, .activations, as: type) : plan.scratch(name, rows, columns, as: type)
        }
        qkv = buffer("block qkv", 3 * width, as: .f32)
        attention = buffer("block attention", width, as: .f32)
        middle = buffer("block middle", width, as: .f32)
        logSumExp = keep ? plan.reserve(batch * heads * tokens, 1, .activations) : nil
        hidden = keep ? plan.reserve(rows, 4 * width, .activations, as: type) : nil
        normed = plan.scratch("block normed", rows, width, as: type)
        activation = plan.scratch("block activation", rows, 4 * width, as: type)
        dHidden = keep ? plan.scratch("block hidden gradient", rows, 4 * width, as: type) : nil
        dNormed = keep ? plan.scratch("block normed gradient", rows, width) : nil
        dQKV = keep ? plan.scratch("block qkv gradient", rows, 3 * width) : nil
    }

    /// y[R, D] = block(x[R, D]). y may be x where no backward pass follows.
    func forward(_ x: Tensor, _ y: Tensor) {
        norm1.forward(x, normed)
        qkvLinear.forward(normed, qkv)
        Kernels.attention(qkv, batch: batch, heads: heads, output: attention, logSumExp: logSumExp, workspace: workspace)
        projection.forward(attention, middle, .residual(x))
        norm2.forward(middle, normed)
        fc1.forward(normed, hidden, .gelu(activation: activation))
        fc2.forward(activation, y, .residual(middle))
    }

    /// Turns d[R, D], the gradient by the block's output, into the gradient by its input x; adds to the weights' gradients.
    func backward(_ x: Tensor, d: Tensor) {
        let dHidden = dHidden!
        let dNormed = dNormed!
        fc2.inputGradient(d, dHidden, beforeGELU: hidden!, activation: activation)
        fc2.weightGradient(d, activation)
        norm2.again(middle, normed)
        fc1.weightGradient(dHidden, normed)
        fc1.inputGradient(dHidden, dNormed)
        norm2.backward(middle, dY: dNormed, dX: d, accumulate: true)

        // The MLP's scratch is free by now; attention's gradients take its place.
        let dAttention = dNormed
        let dQKV = dQKV!
        projection.weightGradient(d, attention)
        projection.inputGradient(d, dAttention)
        Kernels.attentionGradient(
            qkv, output: attention, logSumExp: logSumExp!, dOutput: dAttention, batch: batch, heads: heads, dQKV: dQKV,
            workspace: workspace)
        norm1.again(x, normed)
        qkvLinear.weightGradient(dQKV, normed)
        qkvLinear.inputGradient(dQKV, dNormed)
        norm1.backward(x, dY: dNormed, dX: d, accumulate: true)
    }
}
