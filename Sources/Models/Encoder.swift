import Tensors

// Letters: B batch, L patches, K kept patches, T = 1 + K tokens, R = B·T rows, D width, p patch side, C channels.

/// A ViT encoder that processes the kept patches only; of a classifier, all patches.
public final class Encoder {
    public let configuration: EncoderConfiguration
    private let plan: MemoryPlan
    private let batch: Int
    private let masking: Masking
    private let forwardPhases: EncoderForward
    private let backwardPhases: EncoderBackward?
    private let patchEmbedding: Linear
    private let classToken: Parameters.Parameter
    private let positions: Parameters.Parameter
    private let blocks: [TransformerBlock]
    /// Each block's parameters, as ranges of `Parameters.all`.
    let blockParameters: [Range<Int>]
    private let output: EncoderOutput
    private let norm: LayerNorm?
    private let dropPath: DropPath?

    /// Values of the kept patches in the order of the patch projection (channel, row, column): [B·K, C·p·p].
    private let patches: Tensor
    private let embedded: Tensor
    /// The residual stream: the input of each block and the output of the last. All are one buffer without a backward
    /// pass.
    private let residualStream: [Tensor]
    /// Means of the patch tokens [B, D], if the output is made of them.
    private let means: Tensor?
    /// The output after the final norm: [R, D], or [B, D]. Nil without a final norm.
    public let latent: Tensor?
    private let gradients: Gradients?

    private struct Gradients {
        /// With respect to the last block's output; `d` itself unless the block runs for the class token only.
        let dOutput: Tensor
        /// With respect to the residual stream: [R, D].
        let d: Tensor
        let dMeans: Tensor?
        let dEmbedded: Tensor
    }

    /// - Parameters:
    ///   - forward: phases of the forward pass. Their number of blocks is the number of blocks that run, which is
    ///     below the depth for a teacher that stops at its last aligned block.
    ///   - backward: phases of the backward pass; nil without one.
    ///   - output: gives `latent`.
    ///   - trainsPositions: whether the position table is trained.
    ///   - dropPath: drops branches of the blocks; nil: none is ever dropped.
    ///   - keepsFeatures: blocks whose outputs are kept until the phase `end`.
    ///   - end: the last phase in which the results are read.
    init(
        _ configuration: EncoderConfiguration, batch: Int, masking: Masking, forward: EncoderForward,
        backward: EncoderBackward? = nil, output: EncoderOutput, trainsPositions: Bool = false,
        dropPath: DropPath? = nil, keepsFeatures: Set<Int> = [], until end: Phase, in parameters: Parameters
    ) {
        self.configuration = configuration
        self.output = output
        self.dropPath = dropPath
        plan = parameters.plan
        self.batch = batch
        self.masking = masking
        forwardPhases = forward
        backwardPhases = backward
        let width = configuration.width
        let tokens = 1 + masking.keptCount
        let (rows, patchRows) = (batch * tokens, batch * masking.keptCount)
        // Only the last block of a whole encoder may run for the class token alone.
        let classTokens = output == .classToken ? OutputRows(images: batch, .classToken(tokens: tokens)) : nil
        let outputRows = classTokens == nil ? rows : batch
        let latentRows = output == .tokens ? rows : batch
        let outside = backward?.gradient
        classToken = parameters.add("cls_token", [1, 1, width], .normal(0.02), gradient: outside)
        positions = parameters.add(
            "pos_embed", [1, configuration.patches + 1, width],
            .positions(rows: configuration.gridRows, columns: configuration.gridColumns), gradient: outside,
            isTrained: trainsPositions)
        let side = configuration.patchSize
        patchEmbedding = Linear(
            "patch_embed.proj", inputs: configuration.patchElements, outputs: width, rows: patchRows,
            at: LayerPhases(forward: forward.embedding, backward: backward?.embedding, gradient: outside),
            in: parameters, shape: [width, configuration.channels, side, side])
        var blocks: [TransformerBlock] = [], blockParameters: [Range<Int>] = []
        let last = forward.blocks.count - 1
        for (index, phases) in forward.blocks.enumerated() {
            let back = backward?.blocks[index]
            var tokensOfBlock = BlockTokens.all
            if index == last, let classTokens { tokensOfBlock = .outputs(classTokens) }
            let (block, range) = parameters.range {
                TransformerBlock(
                    "blocks", index, batch: batch, tokens: tokens, width: width, heads: configuration.heads,
                    tokens: tokensOfBlock, dropPath: dropPath,
                    schedule: BlockSchedule(
                        forward: phases, backward: back?.parts, gradient: back.map { $0.start...$0.complete }),
                    in: parameters)
            }
            blocks.append(block)
            blockParameters.append(range)
        }
        self.blocks = blocks
        self.blockParameters = blockParameters
        norm = output.norm.map {
            LayerNorm(
                $0, width: width, rows: latentRows,
                at: LayerPhases(forward: forward.norm, backward: backward?.norm, gradient: outside), in: parameters)
        }
        patches = parameters.buffer(
            "patches", patchRows, configuration.patchElements, backward == nil ? .scratch : .activations,
            alive: .during(forward.embedding...(backward?.embedding ?? forward.embedding)))
        embedded = parameters.buffer("embedded patches", patchRows, width, alive: .only(forward.embedding))
        means =
            output == .patchMean
            ? parameters.buffer(
                "means of patch tokens", batch, width, .activations,
                alive: .during(forward.norm...(backward?.norm ?? forward.norm))) : nil
        latent = output.norm.map { _ in
            parameters.buffer("latent", latentRows, width, .activations, alive: .during(forward.norm...end))
        }
        guard let backward else {
            let state = parameters.buffer(
                "residual stream", rows, width, alive: .during(forward.embedding...end))
            residualStream = Array(repeating: state, count: blocks.count) + [state.rows(0..<outputRows)]
            gradients = nil
            return
        }
        residualStream = (0...blocks.count).map { index in
            let written = index == 0 ? forward.embedding : forward.blocks[index - 1].fc2
            let read = index == blocks.count ? backward.norm : backward.blocks[index].parts.qkv
            return parameters.buffer(
                "residual stream \(index)", index == blocks.count ? outputRows : rows, width, .activations,
                alive: .during(written...(keepsFeatures.contains(index - 1) ? end : read)))
        }
        let lastRuns = backward.blocks[last].parts.qkv
        let d = parameters.buffer(
            "residual stream gradient", rows, width,
            alive: .during((classTokens == nil ? backward.norm : lastRuns)...backward.embedding))
        gradients = Gradients(
            dOutput: classTokens == nil
                ? d
                : parameters.buffer(
                    "residual stream gradient of class tokens", batch, width,
                    alive: .during(backward.norm...lastRuns)),
            d: d,
            dMeans: output == .patchMean
                ? parameters.buffer("means of patch tokens gradient", batch, width, alive: .only(backward.norm)) : nil,
            dEmbedded: parameters.buffer(
                "embedded patches gradient", patchRows, width, alive: .only(backward.embedding)))
    }

    /// The output of block `block`, [R, D], before any final norm. Without a backward pass it is valid only until the
    /// next block runs. With one it is valid until the backward pass of the next block, or of the final norm after the
    /// last block; a block in `keepsFeatures` keeps it to the end of the pass.
    public func feature(afterBlock block: Int) -> Tensor { residualStream[block + 1] }

    /// Encodes images[B, C, H, W] (normalised); calls `tap` with each block's number and output after the block.
    func forward(_ images: Tensor, tap: (Int, Tensor) -> Void = { _, _ in }) {
        plan.begin(forwardPhases.embedding)
        PatchExtraction(images: images, configuration: configuration, masking: masking, patches: patches)
            .runAll(batch * masking.keptCount, chunk: 8)
        patchEmbedding.forward(patches, embedded)
        assembleTokens()
        for (index, block) in blocks.enumerated() {
            block.forward(residualStream[index], residualStream[index + 1])
            tap(index, residualStream[index + 1])
        }
        plan.begin(forwardPhases.norm)
        guard let norm, let latent else { return }
        if let means {
            PatchMeans(tokens: residualStream[blocks.count], patches: masking.keptCount, means: means).runAll(batch)
        }
        norm.forward(means ?? residualStream[blocks.count], latent)
    }

    private func assembleTokens() {
        TokenAssembly(
            masking: masking, embedded: embedded, classToken: classToken.weight,
            positions: positions.weight.reshaped(1 + masking.patches, configuration.width), state: residualStream[0]
        ).runAll(residualStream[0].rows, chunk: 32)
    }

    /// Backward pass from dLatent, the gradient with respect to `latent`, of the same shape. Nil without a final norm:
    /// all gradients then come from `beforeBlock`. The gradients of matrices are overwritten unless `accumulate`;
    /// gradients of vectors always accumulate.
    ///
    /// - Parameters:
    ///   - beforeBlock: called before each block runs backward, with its number and the gradient with respect to its
    ///     output, to which other losses may be added.
    ///   - afterBlock: called when a block's gradients are complete.
    func backward(
        dLatent: Tensor?, accumulate: Bool, beforeBlock: (Int, Tensor) -> Void, afterBlock: (Int) -> Void
    ) {
        let gradients = gradients!, backward = backwardPhases!, d = gradients.d
        if let means, let dMeans = gradients.dMeans {
            norm!.backward(means, dY: dLatent!, dX: dMeans, accumulate: false)
            PatchMeansGradient(dMeans: dMeans, patches: masking.keptCount, d: d).runAll(d.rows, chunk: 32)
        } else if let norm {
            norm.backward(residualStream[blocks.count], dY: dLatent!, dX: gradients.dOutput, accumulate: false)
        } else {
            gradients.dOutput.clear()
        }
        for index in blocks.indices.reversed() {
            plan.begin(backward.blocks[index].start)
            let dOutput = index == blocks.count - 1 ? gradients.dOutput : d
            beforeBlock(index, dOutput)
            blocks[index].backward(residualStream[index], d: dOutput, dX: d, accumulate: accumulate)
            plan.begin(backward.blocks[index].complete)
            afterBlock(index)
        }
        plan.begin(backward.embedding)
        let width = configuration.width
        let tokens = 1 + masking.keptCount
        let dEmbedded = gradients.dEmbedded
        let dClassToken = classToken.gradient!.pointer
        for image in 0..<batch {
            let first = d.pointer + image * tokens * width
            for i in 0..<width { dClassToken[i] += first[i] }
            (dEmbedded.pointer + image * masking.keptCount * width)
                .update(from: first + width, count: masking.keptCount * width)
        }
        if let dPositions = positions.gradient {
            PositionGradient(
                masking: masking, d: d, batch: batch, gradient: dPositions.reshaped(1 + masking.patches, width)
            ).runAll(1 + masking.patches, chunk: 4)
        }
        patchEmbedding.weightGradient(dEmbedded, patches, accumulate: accumulate)
    }
}

/// The gradient of the position table [1 + L, D] += the sum over the images of d[B·T, D] at each position, in the order
/// of the images. Position 0 is the class token's.
private struct PositionGradient: ParallelRows {
    let masking: Masking
    let d: Tensor
    let batch: Int
    let gradient: Tensor

    func run(_ range: Range<Int>) {
        for row in range {
            for image in 0..<batch {
                let token = row == 0 ? 0 : 1 + masking.place(image, ofPatch: row - 1)
                guard token <= masking.keptCount else { continue }
                gradient.addRow(row, from: d, image * (1 + masking.keptCount) + token)
            }
        }
    }
}

/// state[B·T, D]: the class token, then the kept patches' embeddings, each plus its row of the position table.
private struct TokenAssembly: ParallelRows {
    let masking: Masking
    let embedded: Tensor
    let classToken: Tensor
    let positions: Tensor
    let state: Tensor

    func run(_ range: Range<Int>) {
        for row in range {
            let (image, token) = row.quotientAndRemainder(dividingBy: 1 + masking.keptCount)
            if token == 0 {
                state.copyRow(row, from: classToken, 0)
                state.addRow(row, from: positions, 0)
            } else {
                state.copyRow(row, from: embedded, image * masking.keptCount + token - 1)
                state.addRow(row, from: positions, 1 + masking.keptPatch(image, token - 1))
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
            let (image, place) = row.quotientAndRemainder(dividingBy: masking.keptCount)
            let (patchRow, patchColumn) = masking.keptPatch(image, place).quotientAndRemainder(
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
