import Tensors

// Letters: B batch, T tokens, Q tokens of each image that the output is wanted of, R = B·T rows, D width, H heads.

/// A pre-norm transformer block: x += proj(attention(LN(x))); x += fc2(gelu(fc1(LN(x)))).
///
/// Between forward and backward it keeps per row D (middle) floats, 3D (qkv) + D (attention) + 4D (before GELU) in the
/// precision of the products, and the row statistics. Both LayerNorm outputs and GELU's are computed again: cheaper
/// than the memory they would take.
///
/// As the first block of a decoder that sees mask tokens, it works out norm, queries, keys and values of rows that are
/// alike once. As the last block of a decoder whose loss reads removed patches only, it computes keys and values of all
/// tokens, but queries, MLP and output of the removed patches alone: Q = L - K rows of each image, in the order of the
/// masking's removed places.
struct TransformerBlock {
    private let batch: Int
    private let tokens: Int
    private let heads: Int
    /// The masking whose removed patches the output is wanted of; nil: all tokens.
    private let selection: Masking?
    /// Which rows of the input are alike; nil: none. Its owner updates it before each forward pass.
    private let sharing: SharedRows?
    private let norm1: LayerNorm
    private let qkvLinear: Linear
    private let projection: Linear
    private let norm2: LayerNorm
    private let fc1: Linear
    private let fc2: Linear
    private let workspace: Workspace

    private let inputs: Kernels.AttentionInputs
    /// [R, 3D], or [R, 2D] (keys and values) with a selection.
    private let qkv: Tensor
    private let attention: Tensor
    private let logSumExp: Tensor?
    private let middle: Tensor
    private let hidden: Tensor?

    private let normed: Tensor
    /// The rows of the input that differ: [C, D]. They are kept for the backward pass, the input itself is not needed
    /// there.
    private let different: Tensor?
    /// Rows of `normed` that the selection names; gone when `dNormed` is written.
    private let selected: Tensor
    /// GELU's output in the forward pass. The backward pass has it where `hidden` was, and the gradient by `hidden`
    /// here.
    private let activation: Tensor
    private let dNormed: Tensor?

    /// - Parameters:
    ///   - name: "blocks.0" or "decoder_blocks.0".
    ///   - keep: whether a backward pass will follow.
    ///   - selection: the masking whose removed patches alone are wanted; the first token of each image is the class
    ///     token.
    ///   - sharing: which rows of the input are alike; not together with a selection.
    init(
        _ name: String, batch: Int, tokens: Int, width: Int, heads: Int, in parameters: Parameters, plan: MemoryPlan,
        keep: Bool,
        selection: Masking? = nil, sharing: SharedRows? = nil
    ) {
        let rows = batch * tokens
        let queries = selection?.removed ?? tokens
        let outputRows = batch * queries
        self.batch = batch
        self.tokens = tokens
        self.heads = heads
        self.selection = selection
        self.sharing = sharing
        precondition(sharing == nil || selection == nil)
        func linear(_ part: String, _ inputs: Int, _ outputs: Int) -> Linear {
            Linear(
                "\(name).\(part)", inputs: inputs, outputs: outputs, rows: rows, in: parameters, plan: plan,
                isInBlock: true)
        }
        norm1 = LayerNorm("\(name).norm1", width: width, rows: rows, in: parameters, plan: plan, keep: keep)
        qkvLinear = linear("attn.qkv", width, 3 * width)
        projection = linear("attn.proj", width, width)
        norm2 = LayerNorm("\(name).norm2", width: width, rows: outputRows, in: parameters, plan: plan, keep: keep)
        fc1 = linear("mlp.fc1", width, 4 * width)
        fc2 = linear("mlp.fc2", 4 * width, width)
        let type = parameters.precision.activations
        workspace = plan.workspace(
            "kernel workspace",
            bytes: Kernels.attentionWorkspaceBytes(queries: queries, tokens: tokens, headSize: width / heads, as: type))

        func buffer(_ name: String, _ rows: Int, _ columns: Int, as type: ElementType) -> Tensor {
            keep ? plan.reserve(rows, columns, .activations, as: type) : plan.scratch(name, rows, columns, as: type)
        }
        if selection == nil {
            qkv = buffer("block qkv", rows, 3 * width, as: type)
            inputs = Kernels.AttentionInputs(qkv)
        } else {
            qkv = buffer("block qkv", rows, 2 * width, as: type)
            inputs = Kernels.AttentionInputs(
                query: buffer("block query", outputRows, width, as: type), key: qkv.columns(0..<width),
                value: qkv.columns(width..<2 * width))
        }
        attention = buffer("block attention", outputRows, width, as: type)
        middle = buffer("block middle", outputRows, width, as: .f32)
        logSumExp = keep ? plan.reserve(heads * outputRows, 1, .activations) : nil
        hidden = keep ? plan.reserve(outputRows, 4 * width, .activations, as: type) : nil
        normed = plan.scratch("block normed", rows, width, as: type)
        selected = selection == nil ? normed : plan.scratch("block normed gradient", outputRows, width, as: type)
        different = sharing.map { buffer("block different rows", $0.count, width, as: .f32) }
        activation = plan.scratch("block activation", rows, 4 * width, as: type)
        dNormed = keep ? plan.scratch("block normed gradient", rows, width) : nil
    }

    /// y = block(x[R, D]), [R, D], or [B·Q, D] with a selection. y may be x where no backward pass follows.
    ///
    /// - Parameter firstImage: the image of the selection's masking that x begins with.
    func forward(_ x: Tensor, _ y: Tensor, firstImage: Int = 0) {
        if let sharing, let different {
            let width = normed.columns
            let normed = normed.prefix(rows: sharing.count, columns: width)
            let qkvOfDifferent = activation.prefix(rows: sharing.count, columns: 3 * width)
            sharing.gather(x, different)
            norm1.forward(different, normed)
            qkvLinear.forward(normed, qkvOfDifferent)
            sharing.expand(qkvOfDifferent, qkv)
        } else if selection == nil {
            norm1.forward(x, normed)
            qkvLinear.forward(normed, qkv)
        } else {
            norm1.forward(x, normed)
            let width = normed.columns
            qkvLinear.outputs(width..<3 * width).forward(normed, qkv)
            gather(normed, selected, firstImage)
            qkvLinear.outputs(0..<width).forward(selected, inputs.query)
        }
        Kernels.attention(
            inputs, batch: batch, heads: heads, output: attention, logSumExp: logSumExp, workspace: workspace)
        if selection == nil {
            projection.forward(attention, middle, .residual(x))
        } else {
            gather(x, middle, firstImage)
            projection.forward(attention, middle, .residual(middle))
        }
        let (normed, activation) = mlpScratch
        norm2.forward(middle, normed)
        fc1.forward(normed, hidden, .gelu(activation: activation))
        fc2.forward(activation, y, .residual(middle))
    }

    /// LN's and GELU's outputs of the MLP: the start of memory that holds all rows.
    private var mlpScratch: (normed: Tensor, activation: Tensor) {
        (
            normed.prefix(rows: middle.rows, columns: normed.columns),
            activation.prefix(rows: middle.rows, columns: activation.columns)
        )
    }

    /// Turns d, the gradient by the block's output, into dX[R, D], the gradient by its input x; adds to the weights'
    /// gradients, or overwrites those of the matrices unless `accumulate`. Without a selection d and dX are the same
    /// memory; with one, d is [B·Q, D] and lost.
    func backward(_ x: Tensor, d: Tensor, dX: Tensor, firstImage: Int = 0, accumulate: Bool) {
        let width = x.columns
        let (normed, dHidden) = mlpScratch
        let dMiddle = dNormed!.prefix(rows: d.rows, columns: width)
        // GELU's output takes the place of its input.
        let activation = hidden!
        fc2.inputGradient(d, dHidden, beforeGELU: hidden!, activation: activation)
        fc2.weightGradient(d, activation, accumulate: accumulate)
        norm2.again(middle, normed)
        fc1.weightGradient(dHidden, normed, accumulate: accumulate)
        fc1.inputGradient(dHidden, dMiddle)
        norm2.backward(middle, dY: dMiddle, dX: d, accumulate: true)

        // The MLP's memory is free by now; attention's gradients take its place.
        let dAttention = dNormed!.prefix(rows: d.rows, columns: width, as: attention.type)
        projection.weightGradient(d, attention, accumulate: accumulate)
        projection.inputGradient(d, dAttention)
        if sharing != nil {
            sharedInputGradient(dAttention, dX, accumulate)
        } else if selection == nil {
            inputGradient(x, dAttention, dX, accumulate)
        } else {
            selectedInputGradient(x, d, dAttention, dX, firstImage, accumulate)
        }
    }

    /// From attention's output to the block's input, all tokens alike; `dX` holds the residual's gradient already.
    private func inputGradient(_ x: Tensor, _ dAttention: Tensor, _ dX: Tensor, _ accumulate: Bool) {
        let dQKV = activation.prefix(rows: x.rows, columns: qkv.columns)
        attentionGradient(dAttention, Kernels.AttentionInputs(dQKV))
        norm1.again(x, normed)
        qkvLinear.weightGradient(dQKV, normed, accumulate: accumulate)
        qkvLinear.inputGradient(dQKV, dNormed!)
        norm1.backward(x, dY: dNormed!, dX: dX, accumulate: true)
    }

    /// The same with the gradients of alike rows summed first. `dX` receives that sum in one of those rows: what made
    /// them all the same takes the sum over them anyway.
    private func sharedInputGradient(_ dAttention: Tensor, _ dX: Tensor, _ accumulate: Bool) {
        let sharing = sharing!, different = different!, width = dX.columns
        let dQKV = activation.prefix(rows: dX.rows, columns: qkv.columns)
        attentionGradient(dAttention, Kernels.AttentionInputs(dQKV))
        let dQKVOfDifferent = hidden!.prefix(rows: sharing.count, columns: qkv.columns, as: .f32)
        let normed = normed.prefix(rows: sharing.count, columns: width),
            dDifferent = dNormed!.prefix(rows: sharing.count, columns: width)
        sharing.sum(dQKV, dQKVOfDifferent)
        norm1.again(different, normed)
        qkvLinear.weightGradient(dQKVOfDifferent, normed, accumulate: accumulate)
        qkvLinear.inputGradient(dQKVOfDifferent, dDifferent)
        norm1.backward(different, dY: dDifferent, dX: dDifferent, accumulate: false)
        sharing.addToFirst(dDifferent, dX)
    }

    /// The same where queries, and the residual whose gradient is `d`, are those of the selection.
    private func selectedInputGradient(
        _ x: Tensor, _ d: Tensor, _ dAttention: Tensor, _ dX: Tensor, _ firstImage: Int, _ accumulate: Bool
    ) {
        let width = x.columns
        let (queryLinear, keyValueLinear) = (qkvLinear.outputs(0..<width), qkvLinear.outputs(width..<3 * width))
        let dKeyValue = activation.prefix(rows: x.rows, columns: 2 * width)
        let dQuery = hidden!.prefix(rows: d.rows, columns: width)
        attentionGradient(
            dAttention,
            Kernels.AttentionInputs(
                query: dQuery, key: dKeyValue.columns(0..<width), value: dKeyValue.columns(width..<2 * width)))
        norm1.again(x, normed)
        gather(normed, selected, firstImage)
        queryLinear.weightGradient(dQuery, selected, accumulate: accumulate)
        keyValueLinear.weightGradient(dKeyValue, normed, accumulate: accumulate)
        // dX is scratch until LN's gradient is written to it.
        let dSelected = dX.prefix(rows: d.rows, columns: width)
        queryLinear.inputGradient(dQuery, dSelected)
        keyValueLinear.inputGradient(dKeyValue, dNormed!)
        scatterAdd(dSelected, dNormed!, firstImage)
        norm1.backward(x, dY: dNormed!, dX: dX, accumulate: false)
        scatterAdd(d, dX, firstImage)
    }

    private func attentionGradient(_ dAttention: Tensor, _ gradients: Kernels.AttentionInputs) {
        Kernels.attentionGradient(
            inputs, output: attention, logSumExp: logSumExp!, dOutput: dAttention, batch: batch, heads: heads,
            gradients: gradients, workspace: workspace)
    }

    /// target[B·Q, D] = the selection's rows of source[R, D].
    private func gather(_ source: Tensor, _ target: Tensor, _ firstImage: Int) {
        SelectedRows(
            masking: selection!, firstImage: firstImage, tokens: tokens, all: source, selected: target, adds: false
        )
        .runAll(target.rows, chunk: 32)
    }

    /// The selection's rows of target[R, D] += source[B·Q, D].
    private func scatterAdd(_ source: Tensor, _ target: Tensor, _ firstImage: Int) {
        SelectedRows(
            masking: selection!, firstImage: firstImage, tokens: tokens, all: target, selected: source, adds: true
        )
        .runAll(source.rows, chunk: 32)
    }
}

/// Rows of removed patches, copied out of those of all tokens or added to them.
private struct SelectedRows: ParallelRows {
    let masking: Masking
    let firstImage: Int
    let tokens: Int
    let all: Tensor
    let selected: Tensor
    let adds: Bool

    func run(_ range: Range<Int>) {
        for row in range {
            let (image, place) = row.quotientAndRemainder(dividingBy: masking.removed)
            let index = image * tokens + 1 + masking.removed(firstImage + image, place)
            if adds { all.addRow(index, from: selected, row) } else { selected.copyRow(row, from: all, index) }
        }
    }
}
