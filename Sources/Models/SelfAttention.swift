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
    /// [R, 3D], or [R, 2D] (keys and values) if a backward pass follows and only output tokens have queries.
    private let qkv: Tensor
    /// LayerNorm's output: [R, D], or [C, D] for distinct rows.
    private let normed: Tensor
    /// The output tokens' rows of `normed`, if queries are computed from them: [B·Q, D].
    private let outputNormed: Tensor?
    /// The distinct rows of the input [C, D], kept for the backward pass instead of the input.
    private let distinct: Tensor?
    private let qkvOfDistinct: Tensor?
    private let output: Tensor
    private let logSumExp: Tensor?
    private let gradients: Gradients?

    private struct Gradients {
        /// With respect to the projection's output, if drop path has scaled it: `d` times the factors.
        let dBranch: Tensor?
        let dOutput: Tensor
        let inputs: Kernels.AttentionInputs
        let dQKV: Tensor
        let recomputedNormed: Tensor
        let dNormed: Tensor
        let outputNormed: Tensor?
        let dOutputNormed: Tensor?
        let dQKVOfDistinct: Tensor?
    }

    /// Adds the parameters of `block.norm1`, `block.attn.qkv` and `block.attn.proj`.
    ///
    /// - Parameter dropsPath: whether `forward` and `backward` may be given factors.
    init(
        _ block: String, batch: Int, tokens count: Int, width: Int, heads: Int, tokens: BlockTokens,
        dropsPath: Bool, schedule: BlockSchedule, in parameters: Parameters
    ) {
        plan = parameters.plan
        self.batch = batch
        self.heads = heads
        self.tokens = tokens
        self.schedule = schedule
        let rows = batch * count, type = parameters.precision.activations
        var (outputRows, normedRows, qkvColumns) = (rows, rows, 3 * width)
        var (isDistinct, hasQueriesApart) = (false, false)
        let isTrained = schedule.backward != nil
        switch tokens {
        case .all: break
        case .distinct(let distinct): (normedRows, isDistinct) = (distinct.count, true)
        case .outputs(let outputs):
            (outputRows, hasQueriesApart) = (outputs.count, true)
            if isTrained { qkvColumns = 2 * width }
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
        if hasQueriesApart {
            inputs = Kernels.AttentionInputs(
                query: buffer("attn query", outputRows, width, purpose, alive: operands),
                keysAndValues: qkv.columns(qkvColumns - 2 * width..<qkvColumns))
        } else {
            inputs = Kernels.AttentionInputs(qkv)
        }
        normed = buffer("norm1 output", normedRows, width, alive: .only(forward.qkv))
        outputNormed =
            hasQueriesApart && isTrained
            ? buffer("norm1 output of output tokens", outputRows, width, alive: .only(forward.qkv)) : nil
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
            dBranch: dropsPath
                ? buffer("attn.proj output gradient", outputRows, width, alive: .only(backward.projection)) : nil,
            dOutput: buffer(
                "attn output gradient", outputRows, width, alive: .during(backward.projection...backward.attention)),
            inputs: hasQueriesApart
                ? Kernels.AttentionInputs(
                    query: buffer("attn query gradient", outputRows, width, alive: whileInputs), keysAndValues: dQKV)
                : Kernels.AttentionInputs(dQKV),
            dQKV: dQKV,
            recomputedNormed: buffer("norm1 output, recomputed", normedRows, width, alive: last),
            dNormed: buffer("norm1 output gradient", normedRows, width, as: .f32, alive: last),
            outputNormed: hasQueriesApart
                ? buffer("norm1 output of output tokens, recomputed", outputRows, width, alive: last) : nil,
            dOutputNormed: hasQueriesApart
                ? buffer("norm1 output gradient of output tokens", outputRows, width, as: .f32, alive: last) : nil,
            dQKVOfDistinct: isDistinct
                ? buffer("attn.qkv output gradient of distinct rows", normedRows, 3 * width, as: .f32, alive: last)
                : nil)
    }

    /// y = x + f · proj(attention(qkv(LN(x)))): [R, D] from x[R, D], or [B·Q, D] for output tokens only. f are the
    /// factors of the images' rows; nil: 1. y may be x if no backward pass follows and all tokens have an output.
    func forward(_ x: Tensor, _ y: Tensor, factors: Tensor?) {
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
        case .outputs(let rows):
            norm.forward(x, normed)
            guard let outputNormed else {
                // Frozen weights are packed whole, so queries are computed for every token.
                qkvLinear.forward(normed, qkv)
                rows.gather(qkv.columns(0..<width), inputs.query)
                break
            }
            qkvLinear.outputs(width..<3 * width).forward(normed, qkv)
            rows.gather(normed, outputNormed)
            qkvLinear.outputs(0..<width).forward(outputNormed, inputs.query)
        }
        plan.begin(schedule.forward.attention)
        Kernels.attention(
            inputs, batch: batch, heads: heads, output: output, logSumExp: logSumExp, workspace: workspace)
        plan.begin(schedule.forward.projection)
        if case .outputs(let rows) = tokens {
            rows.gather(x, y)
            projection.forward(output, y, .residual(y, scaledBy: factors))
        } else {
            projection.forward(output, y, .residual(x, scaledBy: factors))
        }
    }

    /// Backward pass. In: `d`, the gradient with respect to the output y; out: `dX` [R, D], the gradient with respect
    /// to x. `d` and `dX` are the same tensor; for output tokens only, `d` is another tensor [B·Q, D] and keeps its
    /// values. The gradients of matrices are overwritten unless `accumulate`; gradients of vectors always accumulate.
    func backward(_ x: Tensor, d: Tensor, dX: Tensor, factors: Tensor?, accumulate: Bool) {
        let (gradients, backward) = (gradients!, schedule.backward!)
        plan.begin(backward.projection)
        var dBranch = d
        if let factors {
            dBranch = gradients.dBranch!
            ScaledRows(source: d, factors: factors, target: dBranch).run()
        }
        projection.weightGradient(dBranch, output, accumulate: accumulate)
        projection.inputGradient(dBranch, gradients.dOutput)
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
        case .outputs(let rows):
            let width = x.columns
            let query = qkvLinear.outputs(0..<width), keyValue = qkvLinear.outputs(width..<3 * width)
            let outputNormed = gradients.outputNormed!, dOutputNormed = gradients.dOutputNormed!
            norm.recompute(x, normed)
            rows.gather(normed, outputNormed)
            query.weightGradient(gradients.inputs.query, outputNormed, accumulate: accumulate)
            keyValue.weightGradient(dQKV, normed, accumulate: accumulate)
            query.inputGradient(gradients.inputs.query, dOutputNormed)
            keyValue.inputGradient(dQKV, dNormed)
            rows.scatterAdd(dOutputNormed, dNormed)
            norm.backward(x, dY: dNormed, dX: dX, accumulate: false)
            rows.scatterAdd(d, dX)
        }
    }
}
