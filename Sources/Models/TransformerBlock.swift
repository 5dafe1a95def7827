import Tensors

/// A pre-norm transformer block: x += proj(attention(qkv(LN(x)))); x += fc2(gelu(fc1(LN(x)))). With drop path, each
/// image's rows of a branch are multiplied by a factor before they are added.
struct TransformerBlock {
    private let attention: SelfAttention
    private let mlp: MLP
    /// The residual stream after attention: [R, D], or [B·Q, D] for output tokens only.
    private let middle: Tensor
    private let dropPath: DropPath?
    private let index: Int

    /// - Parameters:
    ///   - stack: "blocks" or "decoder_blocks".
    ///   - index: number of the block in its stack.
    ///   - batch: images B.
    ///   - count: tokens T of an image.
    ///   - tokens: the tokens for which the block's steps run.
    ///   - dropPath: drops the block's branches; nil: none is ever dropped.
    init(
        _ stack: String, _ index: Int, batch: Int, tokens count: Int, width: Int, heads: Int,
        tokens: BlockTokens = .all, dropPath: DropPath? = nil, schedule: BlockSchedule, in parameters: Parameters
    ) {
        let name = "\(stack).\(index)"
        self.index = index
        self.dropPath = dropPath
        attention = SelfAttention(
            name, batch: batch, tokens: count, width: width, heads: heads, tokens: tokens,
            dropsPath: dropPath != nil, schedule: schedule, in: parameters)
        var rows = batch * count
        if case .outputs(let outputs) = tokens { rows = outputs.count }
        middle = parameters.buffer(
            "\(name) residual stream after attention", rows, width, schedule.backward == nil ? .scratch : .activations,
            alive: schedule.value(\.projection, \.fc2, backward: \.fc1))
        mlp = MLP(
            name, rows: rows, width: width, dropsPath: dropPath != nil, schedule: schedule, in: parameters)
    }

    /// y = block(x[R, D]): [R, D], or [B·Q, D] for output tokens only. y may be x, or its beginning, if no backward pass
    /// follows.
    func forward(_ x: Tensor, _ y: Tensor) {
        attention.forward(x, middle, factors: dropPath?.factors(index, .attention))
        mlp.forward(middle, y, factors: dropPath?.factors(index, .mlp))
    }

    /// Backward pass. In: `d`, the gradient with respect to y, which is overwritten; out: `dX` [R, D], the gradient
    /// with respect to x. `d` and `dX` are the same tensor; for output tokens only, `d` is another tensor [B·Q, D].
    /// The gradients of matrices are overwritten unless `accumulate`; gradients of vectors always accumulate.
    func backward(_ x: Tensor, d: Tensor, dX: Tensor, accumulate: Bool) {
        mlp.backward(middle, d: d, factors: dropPath?.factors(index, .mlp), accumulate: accumulate)
        attention.backward(
            x, d: d, dX: dX, factors: dropPath?.factors(index, .attention), accumulate: accumulate)
    }
}
