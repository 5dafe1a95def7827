import Tensors

/// The tokens for which a transformer block's steps run.
enum BlockTokens {
    /// Every step for every token.
    case all
    /// LayerNorm, queries, keys and values once for each distinct row of the input: for the first block of a decoder,
    /// where equal mask tokens are equal rows. The decoder updates the rows before each forward pass.
    case distinct(DistinctRows)
    /// Keys and values for every token; queries, MLP and output for some tokens only: for a last block of which nothing
    /// else is read.
    case outputs(OutputRows)
}

/// Selects the rows of the tokens that a last block computes among the rows of all tokens: Q rows per image. The first
/// row of an image is its class token.
final class OutputRows {
    enum Selection {
        /// The predicted patches, in the order of the masking's removed places: Q = P.
        case predictedPatches(Masking)
        /// The class token: Q = 1. Each image has this number of tokens.
        case classToken(tokens: Int)
    }
    /// Number of rows, B·Q.
    let count: Int
    private let selection: Selection
    /// Index in the masking of the first image.
    private var firstImage = 0

    init(images: Int, _ selection: Selection) {
        self.selection = selection
        switch selection {
        case .predictedPatches(let masking): count = images * masking.predictedCount
        case .classToken: count = images
        }
    }

    /// Selects the part of the batch that begins with image `start` of the masking.
    func update(firstImage start: Int) { firstImage = start }

    /// target[B·Q, D] = the selected rows of all[R, D].
    func gather(_ all: Tensor, _ target: Tensor) {
        Copy(selection: selection, firstImage: firstImage, all: all, selected: target, adds: false)
            .runAll(target.rows, chunk: 32)
    }

    /// The selected rows of all[R, D] += source[B·Q, D].
    func scatterAdd(_ source: Tensor, _ all: Tensor) {
        Copy(selection: selection, firstImage: firstImage, all: all, selected: source, adds: true)
            .runAll(source.rows, chunk: 32)
    }

    private struct Copy: ParallelRows {
        let selection: Selection
        let firstImage: Int
        let all: Tensor
        let selected: Tensor
        let adds: Bool

        private func index(_ row: Int) -> Int {
            switch selection {
            case .predictedPatches(let masking):
                let (image, place) = row.quotientAndRemainder(dividingBy: masking.predictedCount)
                let patch = masking.removedPatch(firstImage + image, place)
                return image * (1 + masking.decodedCount) + 1 + masking.decodedIndex(firstImage + image, ofPatch: patch)
            case .classToken(let tokens): return row * tokens
            }
        }

        func run(_ range: Range<Int>) {
            for row in range {
                if adds {
                    all.addRow(index(row), from: selected, row)
                } else {
                    selected.copyRow(row, from: all, index(row))
                }
            }
        }
    }
}
