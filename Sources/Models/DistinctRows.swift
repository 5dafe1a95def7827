import Tensors

// Letters: N images of a part of the batch, L patches, K kept patches, P predicted patches, D width, R = N·(1+K+P) rows
// of all tokens, C = N·(1+K) + L distinct rows: the class token and the kept patches of each image, then the mask token
// at each of the L positions.

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
    /// [R]: the next row that equals each row; -1 for the last one.
    private var next: [Int32] = []

    /// Nil if more than half of the rows would be distinct.
    init?(images: Int, masking: Masking) {
        count = images * (1 + masking.keptCount) + masking.patches
        guard 2 * count <= images * (1 + masking.decodedCount) else { return nil }
        self.images = images
        self.masking = masking
    }

    /// Finds the distinct rows of the part that begins with image `start` of the masking.
    func update(firstImage start: Int) {
        if first.isEmpty {
            // Allocated at the first use, like the order in `Masking.select`.
            distinct = Array(repeating: 0, count: images * (1 + masking.decodedCount))
            next = Array(repeating: -1, count: distinct.count)
            first = Array(repeating: -1, count: count)
        }
        for index in first.indices { first[index] = -1 }
        // Backwards, so that the rows of a list ascend.
        for image in (0..<images).reversed() {
            for token in (0...masking.decodedCount).reversed() {
                let patch = token == 0 ? -1 : masking.decodedPatch(start + image, token - 1)
                let place = token == 0 ? 0 : 1 + masking.place(start + image, ofPatch: patch)
                let index =
                    place <= masking.keptCount
                    ? image * (1 + masking.keptCount) + place : images * (1 + masking.keptCount) + patch
                let row = image * (1 + masking.decodedCount) + token
                distinct[row] = Int32(index)
                next[row] = first[index]
                first[index] = Int32(row)
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
            for index in range {
                (distinct.pointer + index * distinct.stride).update(repeating: 0, count: distinct.columns)
                var row = Int(rows.first[index])
                while row >= 0 {
                    distinct.addRow(index, from: all, row)
                    row = Int(rows.next[row])
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
