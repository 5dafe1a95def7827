import Tensors

/// A pre-norm transformer block: x += proj(attention(qkv(LN(x)))); x += fc2(gelu(fc1(LN(x)))).
struct TransformerBlock {
    private let attention: SelfAttention
    private let mlp: MLP
    /// The residual stream after attention: [R, D], or [B·Q, D] for removed patches only.
    private let middle: Tensor

    /// - Parameters:
    ///   - name: "blocks.0" or "decoder_blocks.0".
    ///   - batch: images B.
    ///   - count: tokens T of an image.
    ///   - tokens: the tokens for which the block's steps run.
    init(
        _ name: String, batch: Int, tokens count: Int, width: Int, heads: Int, tokens: BlockTokens = .all,
        schedule: BlockSchedule, in parameters: Parameters
    ) {
        attention = SelfAttention(
            name, batch: batch, tokens: count, width: width, heads: heads, tokens: tokens, schedule: schedule,
            in: parameters)
        var rows = batch * count
        if case .removed(let removed) = tokens { rows = removed.count }
        middle = parameters.buffer(
            "\(name) residual stream after attention", rows, width, schedule.backward == nil ? .scratch : .activations,
            alive: schedule.value(\.projection, \.fc2, backward: \.fc1))
        mlp = MLP(name, rows: rows, width: width, schedule: schedule, in: parameters)
    }

    /// y = block(x[R, D]): [R, D], or [B·Q, D] for removed patches only. y may be x if no backward pass follows.
    func forward(_ x: Tensor, _ y: Tensor) {
        attention.forward(x, middle)
        mlp.forward(middle, y)
    }

    /// Backward pass. In: `d`, the gradient with respect to y, which is overwritten; out: `dX` [R, D], the gradient
    /// with respect to x. `d` and `dX` are the same tensor; for removed patches only, `d` is another tensor [B·Q, D].
    /// The gradients of matrices are overwritten unless `accumulate`; gradients of vectors always accumulate.
    func backward(_ x: Tensor, d: Tensor, dX: Tensor, accumulate: Bool) {
        mlp.backward(middle, d: d, accumulate: accumulate)
        attention.backward(x, d: d, dX: dX, accumulate: accumulate)
    }
}
