import Tensors

// Letters: B images of a part of the batch, K kept patches, P predicted patches, E decoder width, D encoder width,
// T = 1 + K + P tokens, R = B·T rows.

/// The phases of a decoder's forward and backward pass.
struct DecoderPhases {
    struct Backward {
        let prediction: Phase
        let blocks: [BlockPhases]
        let embedding: Phase
        /// The gradients are passed to the sink.
        let complete: Phase
    }
    /// The gradients are cleared. All later phases up to the backward pass of the embedding repeat for each part of
    /// the batch.
    let start: Phase
    let embedding: Phase
    let blocks: [BlockPhases]
    let prediction: Phase
    let loss: Phase
    let backward: Backward?

    init(blocks count: Int, isTrained: Bool, in plan: MemoryPlan) {
        let part = "decoder"
        func phase(_ name: String) -> Phase { plan.phase("decoder \(name)", part: part) }
        start = phase("begins")
        embedding = phase("embedding")
        blocks = (0..<count).map { BlockPhases(forward: "decoder_blocks.\($0)", part: part, in: plan) }
        prediction = phase("prediction")
        loss = phase("loss")
        guard isTrained else {
            backward = nil
            plan.loop(after: start, through: loss)
            return
        }
        let prediction = phase("prediction backward")
        let blocks = (0..<count).reversed().map {
            BlockPhases(backward: "decoder_blocks.\($0)", part: part, in: plan)
        }
        let embedding = phase("embedding backward")
        plan.loop(after: start, through: embedding)
        backward = Backward(
            prediction: prediction, blocks: blocks.reversed(), embedding: embedding,
            complete: plan.phase("decoder is complete"))
    }
}

/// MAE's decoder: predicts pixels from the latent, with mask tokens in place of the patches to predict.
///
/// It processes `images` images at a time, a part of the batch. So only one part's activations are kept for the
/// backward pass.
public final class Decoder {
    private let configuration: DecoderConfiguration
    private let plan: MemoryPlan
    /// Images of a part of the batch.
    let images: Int
    /// Rows per image for which the first block computes queries, keys and values. A fraction, where images share rows.
    let firstRows: Double
    /// Whether the last block's queries and MLP, the norm and the prediction run for predicted patches only.
    let computesPredictedOnly: Bool
    private let phases: DecoderPhases
    private let masking: Masking
    private let embedding: Linear
    private let maskToken: Parameters.Parameter
    private let positions: Parameters.Parameter
    private let distinct: DistinctRows?
    private let outputs: OutputRows?
    private let blocks: [TransformerBlock]
    private let norm: LayerNorm
    private let predictionLinear: Linear

    private let embedded: Tensor
    private let residualStream: [Tensor]
    private let normed: Tensor
    /// Predicted patches of the part last processed, values in (row, column, channel) order. [R, p·p·C] with the class
    /// token's row first in each image, then its decoded patches in ascending order; if `computesPredictedOnly`,
    /// [B·P, p·p·C] in the order of the masking's removed places.
    public let prediction: Tensor
    private let gradients: Gradients?

    private struct Gradients {
        /// With respect to the output of the last block; `d` itself where every patch is predicted.
        let dPredicted: Tensor
        /// With respect to the residual stream.
        let d: Tensor
        let dNormed: Tensor
        let dEmbedded: Tensor
    }

    /// - Parameter end: the last phase in which the prediction is read.
    init(
        _ configuration: DecoderConfiguration, encoder: EncoderConfiguration, images: Int, masking: Masking,
        computesPredictedOnly: Bool, at phases: DecoderPhases, until end: Phase, in parameters: Parameters
    ) {
        self.computesPredictedOnly = computesPredictedOnly
        self.configuration = configuration
        self.images = images
        self.masking = masking
        self.phases = phases
        plan = parameters.plan
        let (width, depth) = (configuration.width, configuration.depth)
        let tokens = 1 + masking.decodedCount
        let (rows, keptRows) = (images * tokens, images * (1 + masking.keptCount))
        let backward = phases.backward
        let gradient = backward.map { phases.start...$0.complete }
        func layer(_ forward: Phase, _ backward: Phase?) -> LayerPhases {
            LayerPhases(forward: forward, backward: backward, gradient: gradient)
        }
        embedding = Linear(
            "decoder_embed", inputs: encoder.width, outputs: width, rows: keptRows,
            at: layer(phases.embedding, backward?.embedding), in: parameters)
        maskToken = parameters.add("mask_token", [1, 1, width], .normal(0.02), gradient: gradient)
        positions = parameters.add(
            "decoder_pos_embed", [1, encoder.patches + 1, width],
            .positions(rows: encoder.gridRows, columns: encoder.gridColumns), gradient: gradient, isTrained: false)
        let distinct = backward != nil && depth > 1 ? DistinctRows(images: images, masking: masking) : nil
        let outputs = computesPredictedOnly ? OutputRows(images: images, .predictedPatches(masking)) : nil
        (self.distinct, self.outputs) = (distinct, outputs)
        firstRows = Double(distinct?.count ?? rows) / Double(images)
        blocks = (0..<depth).map { index in
            var tokensOfBlock = BlockTokens.all
            if index == 0, let distinct { tokensOfBlock = .distinct(distinct) }
            if index == depth - 1, let outputs { tokensOfBlock = .outputs(outputs) }
            return TransformerBlock(
                "decoder_blocks", index, batch: images, tokens: tokens, width: width, heads: configuration.heads,
                tokens: tokensOfBlock,
                schedule: BlockSchedule(
                    forward: phases.blocks[index], backward: backward?.blocks[index], gradient: gradient),
                in: parameters)
        }
        let predicted = outputs?.count ?? rows
        norm = LayerNorm(
            "decoder_norm", width: width, rows: predicted, at: layer(phases.prediction, backward?.prediction),
            in: parameters)
        predictionLinear = Linear(
            "decoder_pred", inputs: width, outputs: encoder.patchElements, rows: predicted,
            at: layer(phases.prediction, backward?.prediction), in: parameters)
        embedded = parameters.buffer("decoder_embed output", keptRows, width, alive: .only(phases.embedding))
        normed = parameters.buffer(
            "decoder_norm output", predicted, width, as: parameters.precision.activations,
            alive: .during(phases.prediction...(backward?.prediction ?? phases.prediction)))
        prediction = parameters.buffer(
            "prediction", predicted, encoder.patchElements, .activations, alive: .during(phases.prediction...end))
        guard let backward else {
            let state = parameters.buffer(
                "decoder residual stream", rows, width, alive: .during(phases.embedding...phases.prediction))
            residualStream = Array(repeating: state, count: depth + 1)
            gradients = nil
            return
        }
        residualStream = (0...depth).map { index in
            let written = index == 0 ? phases.embedding : phases.blocks[index - 1].fc2
            // The backward pass of a block that keeps its distinct input rows does not read the input itself.
            let read =
                index == depth
                ? backward.prediction
                : index == 0 && distinct != nil ? phases.blocks[0].projection : backward.blocks[index].qkv
            return parameters.buffer(
                "decoder residual stream \(index)", index == depth ? predicted : rows, width, .activations,
                alive: .during(written...read))
        }
        let d = parameters.buffer(
            "decoder residual stream gradient", rows, width,
            alive: .during((outputs == nil ? backward.prediction : backward.blocks[depth - 1].qkv)...backward.embedding)
        )
        gradients = Gradients(
            dPredicted: outputs == nil
                ? d
                : parameters.buffer(
                    "decoder residual stream gradient of predicted patches", predicted, width,
                    alive: .during(backward.prediction...backward.blocks[depth - 1].qkv)),
            d: d,
            dNormed: parameters.buffer(
                "decoder_norm output gradient", predicted, width, alive: .only(backward.prediction)),
            dEmbedded: parameters.buffer(
                "decoder_embed output gradient", keptRows, width, alive: .only(backward.embedding)))
    }

    /// Predicts patches of the part that begins with image `first` of the batch, from its latent[B·(1+K), D].
    func forward(_ latent: Tensor, firstImage first: Int) {
        plan.begin(phases.embedding)
        embedding.forward(latent, embedded)
        TokenAssembly(
            masking: masking, firstImage: first, embedded: embedded, maskToken: maskToken.weight,
            positions: positions.weight.reshaped(1 + masking.patches, configuration.width), state: residualStream[0]
        ).runAll(residualStream[0].rows, chunk: 32)
        distinct?.update(firstImage: first)
        outputs?.update(firstImage: first)
        for (index, block) in blocks.enumerated() { block.forward(residualStream[index], residualStream[index + 1]) }
        plan.begin(phases.prediction)
        norm.forward(residualStream[blocks.count], normed)
        predictionLinear.forward(normed, prediction)
    }

    /// Backward pass of the part that `forward` processed last. In: dPrediction, shaped as the prediction; out:
    /// dLatent[B·(1+K), D]. The gradients of matrices are overwritten unless `accumulate`; gradients of vectors always
    /// accumulate.
    func backward(dPrediction: Tensor, latent: Tensor, dLatent: Tensor, firstImage first: Int, accumulate: Bool) {
        let gradients = gradients!, backward = phases.backward!
        plan.begin(backward.prediction)
        predictionLinear.weightGradient(dPrediction, normed, accumulate: accumulate)
        predictionLinear.inputGradient(dPrediction, gradients.dNormed)
        norm.backward(
            residualStream[blocks.count], dY: gradients.dNormed, dX: gradients.dPredicted, accumulate: false)
        for index in blocks.indices.reversed() {
            blocks[index].backward(
                residualStream[index], d: index == blocks.count - 1 ? gradients.dPredicted : gradients.d,
                dX: gradients.d, accumulate: accumulate)
        }
        plan.begin(backward.embedding)
        let width = configuration.width
        let dMaskToken = maskToken.gradient!.pointer
        let dEmbedded = gradients.dEmbedded
        for image in 0..<images {
            let target = dEmbedded.pointer + image * (1 + masking.keptCount) * width
            for token in 0...masking.decodedCount {
                let source = gradients.d.pointer + (image * (1 + masking.decodedCount) + token) * width
                let place = masking.place(first + image, ofDecoderToken: token)
                if place <= masking.keptCount {
                    (target + place * width).update(from: source, count: width)
                } else {
                    for i in 0..<width { dMaskToken[i] += source[i] }
                }
            }
        }
        embedding.weightGradient(dEmbedded, latent, accumulate: accumulate)
        embedding.inputGradient(dEmbedded, dLatent)
    }
}

/// state[B·T, E]: the class token, then the decoded patches in ascending order: kept ones, and mask tokens for predicted
/// ones, each plus its row of the position table.
private struct TokenAssembly: ParallelRows {
    let masking: Masking
    let firstImage: Int
    let embedded: Tensor
    let maskToken: Tensor
    let positions: Tensor
    let state: Tensor

    func run(_ range: Range<Int>) {
        for row in range {
            let (image, token) = row.quotientAndRemainder(dividingBy: 1 + masking.decodedCount)
            let place = masking.place(firstImage + image, ofDecoderToken: token)
            if place <= masking.keptCount {
                state.copyRow(row, from: embedded, image * (1 + masking.keptCount) + place)
            } else {
                state.copyRow(row, from: maskToken, 0)
            }
            state.addRow(
                row, from: positions, token == 0 ? 0 : 1 + masking.decodedPatch(firstImage + image, token - 1))
        }
    }
}

extension Masking {
    /// The place of a decoder's token among the class token and the ordered patches of image `image`: 0 for the class
    /// token, 1 to K for kept patches, above K for predicted ones.
    @inline(__always) fileprivate func place(_ image: Int, ofDecoderToken token: Int) -> Int {
        token == 0 ? 0 : 1 + place(image, ofPatch: decodedPatch(image, token - 1))
    }
}
