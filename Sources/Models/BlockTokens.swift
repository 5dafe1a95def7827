import Tensors

/// The tokens for which a transformer block's steps run.
enum BlockTokens {
    /// Every step for every token.
    case all
    /// LayerNorm, queries, keys and values once for each distinct row of the input: for the first block of a decoder,
    /// where equal mask tokens are equal rows. The decoder updates the rows before each forward pass.
    case distinct(DistinctRows)
    /// Keys and values for every token; queries, MLP and output for the removed patches only: for the last block of a
    /// decoder, if the loss reads nothing else.
    case removed(RemovedRows)
}

/// Selects the rows of the removed patches among the rows of all tokens: Q = L - K rows per image, in the order of the
/// masking's removed places. The first row of an image is its class token.
final class RemovedRows {
    /// Number of rows, B·Q.
    let count: Int
    private let masking: Masking
    /// Index in the masking of the first image.
    private var firstImage = 0

    init(images: Int, masking: Masking) {
        count = images * masking.removedCount
        self.masking = masking
    }

    /// Selects the part of the batch that begins with image `start` of the masking.
    func update(firstImage start: Int) { firstImage = start }

    /// target[B·Q, D] = the removed patches' rows of all[R, D].
    func gather(_ all: Tensor, _ target: Tensor) {
        Copy(masking: masking, firstImage: firstImage, all: all, removed: target, adds: false)
            .runAll(target.rows, chunk: 32)
    }

    /// The removed patches' rows of all[R, D] += source[B·Q, D].
    func scatterAdd(_ source: Tensor, _ all: Tensor) {
        Copy(masking: masking, firstImage: firstImage, all: all, removed: source, adds: true)
            .runAll(source.rows, chunk: 32)
    }

    private struct Copy: ParallelRows {
        let masking: Masking
        let firstImage: Int
        let all: Tensor
        let removed: Tensor
        let adds: Bool

        func run(_ range: Range<Int>) {
            for row in range {
                let (image, place) = row.quotientAndRemainder(dividingBy: masking.removedCount)
                let index = image * (1 + masking.patches) + 1 + masking.removedPatch(firstImage + image, place)
                if adds { all.addRow(index, from: removed, row) } else { removed.copyRow(row, from: all, index) }
            }
        }
    }
}
