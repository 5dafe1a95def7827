import Tensors

// Letters: B batch, L patches, K kept patches, T = 1 + K tokens, R = B·T rows, D width, p patch side, C channels.

/// A ViT encoder that embeds and runs the kept patches only.
public final class Encoder {
    public let configuration: EncoderConfiguration
    private let batch: Int
    private let masking: Masking
    private let patchEmbedding: Linear
    private let classToken: Parameters.Parameter
    private let positions: Parameters.Parameter
    private let blocks: [TransformerBlock]
    private let norm: LayerNorm?

    /// Values of the kept patches in the patch projection's order (channel, row, column): [B·K, C·p·p].
    private let patches: Tensor
    private let embedded: Tensor
    /// The input of each block and the output of the last; one buffer throughout where no backward pass follows.
    private let states: [Tensor]
    /// LN of the last state: [R, D].
    public let latent: Tensor?
    private let keepsStates: Bool

    /// - Parameters:
    ///   - blockCount: blocks to run; fewer than the depth for a teacher that stops at its last aligned block.
    ///   - training: whether a backward pass will follow.
    ///   - hasNorm: whether the final norm runs and gives `latent`.
    init(
        _ configuration: EncoderConfiguration, batch: Int, masking: Masking, blockCount: Int, in parameters: Parameters,
        plan: MemoryPlan, training: Bool, hasNorm: Bool
    ) {
        self.configuration = configuration
        self.batch = batch
        self.masking = masking
        keepsStates = training
        let width = configuration.width
        let tokens = 1 + masking.kept
        let rows = batch * tokens
        classToken = parameters.add("cls_token", [1, 1, width], .token)
        positions = parameters.add(
            "pos_embed", [1, configuration.patches + 1, width],
            .positions(rows: configuration.gridRows, columns: configuration.gridColumns))
        let side = configuration.patchSize
        patchEmbedding = Linear(
            "patch_embed.proj", inputs: configuration.patchElements, outputs: width, rows: batch * masking.kept,
            in: parameters,
            plan: plan, shape: [width, configuration.channels, side, side])
        blocks = (0..<blockCount).map { index in
            parameters.addGroup {
                TransformerBlock(
                    "blocks.\(index)", batch: batch, tokens: tokens, width: width, heads: configuration.heads,
                    in: parameters,
                    plan: plan, keep: training)
            }
        }
        norm = hasNorm ? LayerNorm("norm", width: width, rows: rows, in: parameters, plan: plan, keep: training) : nil
        patches = plan.reserve(batch * masking.kept, configuration.patchElements, .activations)
        embedded = plan.scratch("encoder embedded", batch * masking.kept, width)
        if training {
            states = (0...blockCount).map { _ in plan.reserve(rows, width, .activations) }
        } else {
            let state = plan.scratch("encoder state", rows, width)
            states = Array(repeating: state, count: blockCount + 1)
        }
        latent = hasNorm ? plan.reserve(rows, width, .activations) : nil
    }

    /// The output of block `block`, [R, D], before any final norm; without a backward pass valid only until the next
    /// block runs.
    public func feature(afterBlock block: Int) -> Tensor { states[block + 1] }

    /// Encodes images[B, C, H, W] (normalised); `tap` sees each block's number and output as it is ready.
    func forward(_ images: Tensor, tap: (Int, Tensor) -> Void = { _, _ in }) {
        PatchExtraction(images: images, configuration: configuration, masking: masking, patches: patches)
            .runAll(batch * masking.kept, chunk: 8)
        patchEmbedding.forward(patches, embedded)
        assembleTokens()
        for (index, block) in blocks.enumerated() {
            block.forward(states[index], states[index + 1])
            tap(index, states[index + 1])
        }
        if let norm, let latent { norm.forward(states[blocks.count], latent) }
    }

    private func assembleTokens() {
        TokenAssembly(
            masking: masking, embedded: embedded, classToken: classToken.weight,
            positions: positions.weight.reshaped(1 + masking.patches, configuration.width), state: states[0]
        ).runAll(states[0].rows, chunk: 32)
    }

    /// From dLatent[R, D], the gradient by `latent`, to the weights' gradients, which are added to, or overwritten in
    /// the matrices of linear layers unless `accumulate`. `d` [R, D] is scratch of the caller's; `beforeBlock` may add
    /// to it what other losses say about the output of a block, before that block's turn; `afterBlock` is called when a
    /// block's gradients are complete.
    func backward(
        dLatent: Tensor, d: Tensor, accumulate: Bool, beforeBlock: (Int, Tensor) -> Void, afterBlock: (Int) -> Void
    ) {
        norm!.backward(states[blocks.count], dY: dLatent, dX: d, accumulate: false)
        for index in blocks.indices.reversed() {
            beforeBlock(index, d)
            blocks[index].backward(states[index], d: d, dX: d, accumulate: accumulate)
            afterBlock(index)
        }
        let width = configuration.width
        let tokens = 1 + masking.kept
        let source = d.pointer
        let dClassToken = classToken.gradient!.pointer
        let dEmbedded = embedded.pointer
        for image in 0..<batch {
            let first = source + image * tokens * width
            for i in 0..<width { dClassToken[i] += first[i] }
            (dEmbedded + image * masking.kept * width).update(from: first + width, count: masking.kept * width)
        }
        patchEmbedding.weightGradient(embedded, patches, accumulate: accumulate)
    }
}

/// state[B·T, D]: the class token, then the kept patches' embeddings, each with its row of the position table added.
private struct TokenAssembly: ParallelRows {
    let masking: Masking
    let embedded: Tensor
    let classToken: Tensor
    let positions: Tensor
    let state: Tensor

    func run(_ range: Range<Int>) {
        for row in range {
            let (image, token) = row.quotientAndRemainder(dividingBy: 1 + masking.kept)
            if token == 0 {
                state.copyRow(row, from: classToken, 0)
                state.addRow(row, from: positions, 0)
            } else {
                state.copyRow(row, from: embedded, image * masking.kept + token - 1)
                state.addRow(row, from: positions, 1 + masking.keep(image, token - 1))
            }
        }
    }
}

/// Copies the kept patches out of images, one row of patches[B·K, C·p·p] each, in the order (channel, row, column).
private struct PatchExtraction: ParallelRows {
    let images: Tensor
    let configuration: EncoderConfiguration
    let masking: Masking
    let patches: Tensor

    func run(_ range: Range<Int>) {
        let side = configuration.patchSize
        let width = configuration.imageWidth
        let plane = configuration.imageHeight * width
        for row in range {
            let (image, place) = row.quotientAndRemainder(dividingBy: masking.kept)
            let (patchRow, patchColumn) = masking.keep(image, place).quotientAndRemainder(
                dividingBy: configuration.gridColumns)
            var source =
                images.pointer + image * configuration.channels * plane + patchRow * side * width + patchColumn * side
            var target = patches.pointer + row * patches.columns
            for _ in 0..<configuration.channels {
                for line in 0..<side {
                    target.update(from: source + line * width, count: side)
                    target += side
                }
                source += plane
            }
        }
    }
}
