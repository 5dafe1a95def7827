import Tensors

// Letters: N images of a part of the batch, L patches, K kept patches, D width, R = N·(1+L) rows of all tokens, C =
// N·(1+K) + L distinct rows: the class token and the kept patches of each image, then the mask token at each of the L
// positions.

/// The distinct rows of a decoder's first input. The mask token at a position, plus that position's row of the table,
/// is the same row in every image. LayerNorm, queries, keys and values depend on single rows, so they are computed once
/// for all images of a part. Their backward pass runs once, on the sum of the equal rows' gradients.
final class DistinctRows {
    /// C.
    let count: Int
    private let images: Int
    private let masking: Masking
    /// [R]: for each row, the index of its distinct row.
    private var distinct: [Int32] = []
    /// [C]: the first row that equals the distinct row; -1 if no image of the part has a mask token at its position.
    private var first: [Int32] = []

    /// Nil if more than half of the rows would be distinct.
    init?(images: Int, masking: Masking) {
        count = images * (1 + masking.keptCount) + masking.patches
        guard 2 * count <= images * (1 + masking.patches) else { return nil }
        self.images = images
        self.masking = masking
    }

    /// Finds the distinct rows of the part that begins with image `start` of the masking.
    func update(firstImage start: Int) {
        if first.isEmpty {
            // Allocated at the first use, like the order in `Masking.select`.
            distinct = Array(repeating: 0, count: images * (1 + masking.patches))
            first = Array(repeating: -1, count: count)
        }
        for index in first.indices { first[index] = -1 }
        for image in 0..<images {
            for token in 0...masking.patches {
                let place = token == 0 ? 0 : 1 + masking.place(start + image, ofPatch: token - 1)
                let index =
                    place <= masking.keptCount
                    ? image * (1 + masking.keptCount) + place : images * (1 + masking.keptCount) + token - 1
                let row = image * (1 + masking.patches) + token
                distinct[row] = Int32(index)
                if first[index] < 0 { first[index] = Int32(row) }
            }
        }
    }

    /// target[C, D] = the distinct rows of all[R, D]. A distinct row that no row equals receives row 0.
    func gather(_ all: Tensor, _ target: Tensor) { each(count, Gathering(rows: self, all: all, distinct: target)) }

    /// all[R, D] = source[C, D], each distinct row copied to all rows that equal it; both have the same type.
    func expand(_ source: Tensor, _ all: Tensor) { each(all.rows, Expansion(rows: self, all: all, distinct: source)) }

    /// target[C, D] = sums over equal rows of all[R, D], in the order of images; zero for a distinct row that no row
    /// equals. The target is float32.
    func sum(_ all: Tensor, _ target: Tensor) { each(count, Sums(rows: self, all: all, distinct: target)) }

    /// The first row of all[R, D] that equals a distinct row += that row of source[C, D]; both are float32.
    func addToFirst(_ source: Tensor, _ all: Tensor) {
        each(count, Scattering(rows: self, all: all, distinct: source))
    }

    private func each(_ count: Int, _ work: some ParallelRows) { work.runAll(count, chunk: 16) }

    private struct Gathering: ParallelRows {
        unowned(unsafe) let rows: DistinctRows
        let all: Tensor
        let distinct: Tensor

        func run(_ range: Range<Int>) {
            for index in range { distinct.copyRow(index, from: all, max(0, Int(rows.first[index]))) }
        }
    }

    private struct Expansion: ParallelRows {
        unowned(unsafe) let rows: DistinctRows
        let all: Tensor
        let distinct: Tensor

        func run(_ range: Range<Int>) {
            for row in range { all.copyRow(row, from: distinct, Int(rows.distinct[row])) }
        }
    }

    private struct Sums: ParallelRows {
        unowned(unsafe) let rows: DistinctRows
        let all: Tensor
        let distinct: Tensor

        func run(_ range: Range<Int>) {
            let tokens = 1 + rows.masking.patches, perImage = rows.images * (1 + rows.masking.keptCount)
            for index in range {
                (distinct.pointer + index * distinct.stride).update(repeating: 0, count: distinct.columns)
                let start = Int(rows.first[index])
                guard start >= 0 else { continue }
                // A class token or kept patch is one row. A mask token is at one position in several images, beginning
                // with the first one.
                let last = index < perImage ? start + 1 : rows.images * tokens
                for row in stride(from: start, to: last, by: tokens) where Int(rows.distinct[row]) == index {
                    distinct.addRow(index, from: all, row)
                }
            }
        }
    }

    private struct Scattering: ParallelRows {
        unowned(unsafe) let rows: DistinctRows
        let all: Tensor
        let distinct: Tensor

        func run(_ range: Range<Int>) {
            for index in range where rows.first[index] >= 0 {
                all.addRow(Int(rows.first[index]), from: distinct, index)
            }
        }
    }
}
