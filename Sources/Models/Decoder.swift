import Tensors

// Letters: B images of a part of the batch, L patches, K kept patches, E decoder width, D encoder width, T = 1 + L
// tokens, R = B·T rows.

/// MAE's decoder: all patches again, mask tokens in the removed places, down to predicted pixels.
///
/// It works on `images` images at a time, a part of the batch: what its backward pass needs is kept of one part alone.
public final class Decoder {
    private let configuration: DecoderConfiguration
    /// Images of a part.
    let images: Int
    /// Rows for each image that the first block's queries, keys and values are worked out of.
    let firstRows: Double
    /// Whether the last block's queries, its MLP, the norm and the prediction run for removed patches alone.
    let predictsRemovedOnly: Bool
    private let masking: Masking
    private let embedding: Linear
    private let maskToken: Parameters.Parameter
    private let positions: Parameters.Parameter
    private let sharing: SharedRows?
    private let blocks: [TransformerBlock]
    private let norm: LayerNorm
    private let predictionLinear: Linear

    private let embedded: Tensor
    private let states: [Tensor]
    private let normed: Tensor
    /// Predicted patches of the part last seen, values in (row, column, channel) order: [R, p·p·C], the class token's
    /// row first in each image; or the removed patches alone, [B·(L-K), p·p·C], in the order of the masking's removed
    /// places.
    public let prediction: Tensor
    private let d: Tensor?
    /// The gradient by the last block's output.
    private let dPredicted: Tensor?
    private let dNormed: Tensor?

    init(
        _ configuration: DecoderConfiguration, encoder: EncoderConfiguration, images: Int, masking: Masking,
        in parameters: Parameters, plan: MemoryPlan, training: Bool, predictsRemovedOnly: Bool
    ) {
        self.predictsRemovedOnly = predictsRemovedOnly
        self.configuration = configuration
        self.images = images
        self.masking = masking
        let width = configuration.width
        let tokens = 1 + masking.patches
        let rows = images * tokens
        embedding = Linear(
            "decoder_embed", inputs: encoder.width, outputs: width, rows: images * (1 + masking.kept), in: parameters,
            plan: plan)
        maskToken = parameters.add("mask_token", [1, 1, width], .token)
        positions = parameters.add(
            "decoder_pos_embed", [1, encoder.patches + 1, width],
            .positions(rows: encoder.gridRows, columns: encoder.gridColumns))
        let sharing = training && configuration.depth > 1 ? SharedRows(images: images, masking: masking) : nil
        self.sharing = sharing
        firstRows = Double(sharing?.count ?? rows) / Double(images)
        blocks = (0..<configuration.depth).map {
            TransformerBlock(
                "decoder_blocks.\($0)", batch: images, tokens: tokens, width: width, heads: configuration.heads,
                in: parameters,
                plan: plan, keep: training,
                selection: predictsRemovedOnly && $0 == configuration.depth - 1 ? masking : nil,
                sharing: $0 == 0 ? sharing : nil)
        }
        let predicted = predictsRemovedOnly ? images * masking.removed : rows
        norm = LayerNorm("decoder_norm", width: width, rows: predicted, in: parameters, plan: plan, keep: training)
        predictionLinear = Linear(
            "decoder_pred", inputs: width, outputs: encoder.patchElements, rows: predicted, in: parameters, plan: plan)
        embedded = plan.scratch("decoder embedded", images * (1 + masking.kept), width)
        d = training ? plan.scratch("decoder gradient", rows, width) : nil
        dPredicted = training && predictsRemovedOnly ? plan.scratch("decoder prediction gradient", predicted, width) : d
        dNormed = training ? plan.scratch("block normed gradient", predicted, width) : nil
        if training {
            // d is first written by the last block's backward pass. That block's output is not needed any more by then,
            // nor the first one's input where rows are shared.
            let isInD = { [depth = configuration.depth] in
                $0 == 0 && sharing != nil || $0 == depth && predictsRemovedOnly
            }
            states = (0...configuration.depth).map { [d] in
                let count = $0 == configuration.depth ? predicted : rows
                return isInD($0) ? d!.prefix(rows: count, columns: width) : plan.reserve(count, width, .activations)
            }
        } else {
            states = Array(repeating: plan.scratch("decoder state", rows, width), count: configuration.depth + 1)
        }
        // Kept until the prediction's backward pass only, which no block's comes before.
        normed = plan.scratch("block normed", predicted, width, as: parameters.precision.activations)
        // Left for whoever looks at it after a pass.
        prediction = plan.during([.decoder, .studentBackward]) {
            plan.reserve(predicted, encoder.patchElements, .activations)
        }
    }

    /// Predicts patches of the part that begins with image `first` of the batch, from its latent[B·(1+K), D].
    func forward(_ latent: Tensor, firstImage first: Int) {
        embedding.forward(latent, embedded)
        assembleTokens(first)
        sharing?.update(firstImage: first)
        for (index, block) in blocks.enumerated() { block.forward(states[index], states[index + 1], firstImage: first) }
        norm.forward(states[blocks.count], normed)
        predictionLinear.forward(normed, prediction)
    }

    private func assembleTokens(_ first: Int) {
        TokenAssembly(
            masking: masking, firstImage: first, embedded: embedded, maskToken: maskToken.weight,
            positions: positions.weight.reshaped(1 + masking.patches, configuration.width), state: states[0]
        ).runAll(states[0].rows, chunk: 32)
    }

    /// From dPrediction, shaped as the prediction of the part last seen, to dLatent[B·(1+K), D] (overwritten) and the
    /// weights' gradients, which are added to, or overwritten in the matrices of linear layers unless `accumulate`.
    func backward(dPrediction: Tensor, latent: Tensor, dLatent: Tensor, firstImage first: Int, accumulate: Bool) {
        let d = d!
        predictionLinear.weightGradient(dPrediction, normed, accumulate: accumulate)
        predictionLinear.inputGradient(dPrediction, dNormed!)
        norm.backward(states[blocks.count], dY: dNormed!, dX: dPredicted!, accumulate: false)
        for index in blocks.indices.reversed() {
            blocks[index].backward(
                states[index], d: index == blocks.count - 1 ? dPredicted! : d, dX: d, firstImage: first,
                accumulate: accumulate)
        }
        let width = configuration.width
        let dMaskToken = maskToken.gradient!.pointer
        for image in 0..<images {
            let target = embedded.pointer + image * (1 + masking.kept) * width
            for token in 0...masking.patches {
                let source = d.pointer + (image * (1 + masking.patches) + token) * width
                let place = token == 0 ? 0 : 1 + masking.restore(first + image, token - 1)
                if place <= masking.kept {
                    (target + place * width).update(from: source, count: width)
                } else {
                    for i in 0..<width { dMaskToken[i] += source[i] }
                }
            }
        }
        embedding.weightGradient(embedded, latent, accumulate: accumulate)
        embedding.inputGradient(embedded, dLatent)
    }
}

/// state[B·(1+L), E]: what was embedded back in its place, mask tokens elsewhere, each with its row of the position
/// table added.
private struct TokenAssembly: ParallelRows {
    let masking: Masking
    let firstImage: Int
    let embedded: Tensor
    let maskToken: Tensor
    let positions: Tensor
    let state: Tensor

    func run(_ range: Range<Int>) {
        for row in range {
            let (image, token) = row.quotientAndRemainder(dividingBy: 1 + masking.patches)
            let place = token == 0 ? 0 : 1 + masking.restore(firstImage + image, token - 1)
            if place <= masking.kept {
                state.copyRow(row, from: embedded, image * (1 + masking.kept) + place)
            } else {
                state.copyRow(row, from: maskToken, 0)
            }
            state.addRow(row, from: positions, token)
        }
    }
}
