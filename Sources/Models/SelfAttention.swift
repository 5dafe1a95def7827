import Tensors

// Letters: B images, T tokens, Q tokens of each image with an output, R = B·T rows, C distinct rows, D width, H heads.

/// The self-attention of a pre-norm transformer block: x + proj(attention(qkv(LN(x)))).
///
/// Between forward and backward it keeps queries, keys, values and attention's output, attention's log-sum-exp, and
/// LayerNorm's statistics of each row. LayerNorm's output is recomputed, which saves its memory.
struct SelfAttention {
    private let plan: MemoryPlan
    private let batch: Int
    private let heads: Int
    private let tokens: BlockTokens
    private let schedule: BlockSchedule
    private let norm: LayerNorm
    private let qkvLinear: Linear
    private let projection: Linear
    private let workspace: Workspace

    private let inputs: Kernels.AttentionInputs
    /// [R, 3D], or [R, 2D] (keys and values) if only removed patches have queries.
    private let qkv: Tensor
    /// LayerNorm's output: [R, D], or [C, D] for distinct rows.
    private let normed: Tensor
    /// The removed patches' rows of `normed`: [B·Q, D].
    private let removedNormed: Tensor?
    /// The distinct rows of the input [C, D], kept for the backward pass instead of the input.
    private let distinct: Tensor?
    private let qkvOfDistinct: Tensor?
    private let output: Tensor
    private let logSumExp: Tensor?
    private let gradients: Gradients?

    private struct Gradients {
        let dOutput: Tensor
        let inputs: Kernels.AttentionInputs
        let dQKV: Tensor
        let recomputedNormed: Tensor
        let dNormed: Tensor
        let removedNormed: Tensor?
        let dRemovedNormed: Tensor?
        let dQKVOfDistinct: Tensor?
    }

    /// Adds the parameters of `block.norm1`, `block.attn.qkv` and `block.attn.proj`.
    init(
        _ block: String, batch: Int, tokens count: Int, width: Int, heads: Int, tokens: BlockTokens,
        schedule: BlockSchedule, in parameters: Parameters
    ) {
        plan = parameters.plan
        self.batch = batch
        self.heads = heads
        self.tokens = tokens
        self.schedule = schedule
        let rows = batch * count, type = parameters.precision.activations
        var (outputRows, normedRows, qkvColumns) = (rows, rows, 3 * width)
        var (isDistinct, isRemoved) = (false, false)
        switch tokens {
        case .all: break
        case .distinct(let distinct): (normedRows, isDistinct) = (distinct.count, true)
        case .removed(let removed): (outputRows, qkvColumns, isRemoved) = (removed.count, 2 * width, true)
        }
        norm = LayerNorm(
            "\(block).norm1", width: width, rows: normedRows, at: schedule.layer(\.qkv), in: parameters)
        qkvLinear = Linear(
            "\(block).attn.qkv", inputs: width, outputs: 3 * width, rows: normedRows, at: schedule.layer(\.qkv),
            in: parameters, isInBlock: true)
        projection = Linear(
            "\(block).attn.proj", inputs: width, outputs: width, rows: outputRows, at: schedule.layer(\.projection),
            in: parameters, isInBlock: true)
        let forward = schedule.forward, backward = schedule.backward
        workspace = parameters.workspace(
            "\(block).attn workspace",
            bytes: Kernels.attentionWorkspaceBytes(
                queries: outputRows / batch, tokens: count, headSize: width / heads, as: type),
            alive: .only(forward.attention, backward?.attention))

        let purpose = backward == nil ? MemoryPlan.Purpose.scratch : .activations
        func buffer(
            _ name: String, _ rows: Int, _ columns: Int, _ purpose: MemoryPlan.Purpose = .scratch,
            as type: ElementType = type, alive lifetime: Lifetime
        ) -> Tensor {
            parameters.buffer("\(block).\(name)", rows, columns, purpose, as: type, alive: lifetime)
        }
        let operands = schedule.value(\.qkv, \.attention, backward: \.attention)
        qkv = buffer("attn.qkv output", rows, qkvColumns, purpose, alive: operands)
        if isRemoved {
            inputs = Kernels.AttentionInputs(
                query: buffer("attn query", outputRows, width, purpose, alive: operands),
                keysAndValues: qkv)
        } else {
            inputs = Kernels.AttentionInputs(qkv)
        }
        normed = buffer("norm1 output", normedRows, width, alive: .only(forward.qkv))
        removedNormed =
            isRemoved
            ? buffer("norm1 output of removed patches", outputRows, width, alive: .only(forward.qkv)) : nil
        distinct =
            isDistinct
            ? buffer(
                "distinct rows", normedRows, width, purpose, as: .f32,
                alive: schedule.value(\.qkv, \.qkv, backward: \.qkv)) : nil
        qkvOfDistinct =
            isDistinct
            ? buffer("attn.qkv output of distinct rows", normedRows, 3 * width, alive: .only(forward.qkv)) : nil
        output = buffer(
            "attn output", outputRows, width, purpose,
            alive: schedule.value(\.attention, \.projection, backward: \.attention))
        guard let backward else {
            (logSumExp, gradients) = (nil, nil)
            return
        }
        logSumExp = buffer(
            "attn log-sum-exp", heads * outputRows, 1, .activations, as: .f32,
            alive: schedule.value(\.attention, \.attention, backward: \.attention))
        let whileInputs = Lifetime.during(backward.attention...backward.qkv), last = Lifetime.only(backward.qkv)
        let dQKV = buffer("attn.qkv output gradient", rows, qkvColumns, alive: whileInputs)
        gradients = Gradients(
            dOutput: buffer(
                "attn output gradient", outputRows, width, alive: .during(backward.projection...backward.attention)),
            inputs: isRemoved
                ? Kernels.AttentionInputs(
                    query: buffer("attn query gradient", outputRows, width, alive: whileInputs), keysAndValues: dQKV)
                : Kernels.AttentionInputs(dQKV),
            dQKV: dQKV,
            recomputedNormed: buffer("norm1 output, recomputed", normedRows, width, alive: last),
            dNormed: buffer("norm1 output gradient", normedRows, width, as: .f32, alive: last),
            removedNormed: isRemoved
                ? buffer("norm1 output of removed patches, recomputed", outputRows, width, alive: last) : nil,
            dRemovedNormed: isRemoved
                ? buffer("norm1 output gradient of removed patches", outputRows, width, as: .f32, alive: last) : nil,
            dQKVOfDistinct: isDistinct
                ? buffer("attn.qkv output gradient of distinct rows", normedRows, 3 * width, as: .f32, alive: last)
                : nil)
    }

    /// y = x + proj(attention(qkv(LN(x)))): [R, D] from x[R, D], or [B·Q, D] for removed patches only. y may be x if no
    /// backward pass follows.
    func forward(_ x: Tensor, _ y: Tensor) {
        plan.begin(schedule.forward.qkv)
        let width = x.columns
        switch tokens {
        case .all:
            norm.forward(x, normed)
            qkvLinear.forward(normed, qkv)
        case .distinct(let rows):
            rows.gather(x, distinct!)
            norm.forward(distinct!, normed)
            qkvLinear.forward(normed, qkvOfDistinct!)
            rows.expand(qkvOfDistinct!, qkv)
        case .removed(let rows):
            norm.forward(x, normed)
            qkvLinear.outputs(width..<3 * width).forward(normed, qkv)
            rows.gather(normed, removedNormed!)
            qkvLinear.outputs(0..<width).forward(removedNormed!, inputs.query)
        }
        plan.begin(schedule.forward.attention)
        Kernels.attention(
            inputs, batch: batch, heads: heads, output: output, logSumExp: logSumExp, workspace: workspace)
        plan.begin(schedule.forward.projection)
        if case .removed(let rows) = tokens {
            rows.gather(x, y)
            projection.forward(output, y, .residual(y))
        } else {
            projection.forward(output, y, .residual(x))
        }
    }

    /// Backward pass. In: `d`, the gradient with respect to the output y; out: `dX` [R, D], the gradient with respect
    /// to x. `d` and `dX` are the same tensor; for removed patches only, `d` is another tensor [B·Q, D] and keeps its
    /// values. The gradients of matrices are overwritten unless `accumulate`; gradients of vectors always accumulate.
    func backward(_ x: Tensor, d: Tensor, dX: Tensor, accumulate: Bool) {
        let (gradients, backward) = (gradients!, schedule.backward!)
        plan.begin(backward.projection)
        projection.weightGradient(d, output, accumulate: accumulate)
        projection.inputGradient(d, gradients.dOutput)
        plan.begin(backward.attention)
        Kernels.attentionGradient(
            inputs, output: output, logSumExp: logSumExp!, dOutput: gradients.dOutput, batch: batch, heads: heads,
            gradients: gradients.inputs, workspace: workspace)
        plan.begin(backward.qkv)
        let (normed, dNormed, dQKV) = (gradients.recomputedNormed, gradients.dNormed, gradients.dQKV)
        switch tokens {
        case .all:
            norm.recompute(x, normed)
            qkvLinear.weightGradient(dQKV, normed, accumulate: accumulate)
            qkvLinear.inputGradient(dQKV, dNormed)
            norm.backward(x, dY: dNormed, dX: dX, accumulate: true)
        case .distinct(let rows):
            // The gradient of a distinct row is added to only the first of the rows that equal it. Several equal rows
            // are mask tokens, and the mask token's gradient is their sum.
            let distinct = distinct!, dQKVOfDistinct = gradients.dQKVOfDistinct!
            rows.sum(dQKV, dQKVOfDistinct)
            norm.recompute(distinct, normed)
            qkvLinear.weightGradient(dQKVOfDistinct, normed, accumulate: accumulate)
            qkvLinear.inputGradient(dQKVOfDistinct, dNormed)
            norm.backward(distinct, dY: dNormed, dX: dNormed, accumulate: false)
            rows.addToFirst(dNormed, dX)
        case .removed(let rows):
            let width = x.columns
            let query = qkvLinear.outputs(0..<width), keyValue = qkvLinear.outputs(width..<3 * width)
            let removed = gradients.removedNormed!, dRemoved = gradients.dRemovedNormed!
            norm.recompute(x, normed)
            rows.gather(normed, removed)
            query.weightGradient(gradients.inputs.query, removed, accumulate: accumulate)
            keyValue.weightGradient(dQKV, normed, accumulate: accumulate)
            query.inputGradient(gradients.inputs.query, dRemoved)
            keyValue.inputGradient(dQKV, dNormed)
            rows.scatterAdd(dRemoved, dNormed)
            norm.backward(x, dY: dNormed, dX: dX, accumulate: false)
            rows.scatterAdd(d, dX)
        }
    }
}
