import Tensors

// Letters: N images of a part of the batch, L patches, K kept ones, D width, R = N·(1+L) rows of all tokens, C =
// N·(1+K) + L rows that differ: the class token and the kept patches of each image, then the mask token in each of the
// L places.

/// Which rows of a decoder's first input are alike: a mask token with its place's row of the position table is the same
/// in every image, so what concerns single rows (LayerNorm, queries, keys, values) need be worked out once for a part
/// of the batch, and its gradient once for the sum of theirs.
final class SharedRows {
    /// C.
    let count: Int
    private let images: Int
    private let masking: Masking
    /// [R]: the shared row of each row.
    private var shared: [Int32] = []
    /// [C]: the first row that is alike, -1 where no image of the part has a mask token in that place.
    private var first: [Int32] = []

    /// Nil where sharing would not halve the rows.
    init?(images: Int, masking: Masking) {
        count = images * (1 + masking.kept) + masking.patches
        guard 2 * count <= images * (1 + masking.patches) else { return nil }
        self.images = images
        self.masking = masking
    }

    /// Looks at the part that begins with image `start` of the masking.
    func update(firstImage start: Int) {
        if first.isEmpty {
            // Not before the first use, as Masking's order.
            shared = Array(repeating: 0, count: images * (1 + masking.patches))
            first = Array(repeating: -1, count: count)
        }
        for index in first.indices { first[index] = -1 }
        for image in 0..<images {
            for token in 0...masking.patches {
                let place = token == 0 ? 0 : 1 + masking.restore(start + image, token - 1)
                let index =
                    place <= masking.kept ? image * (1 + masking.kept) + place : images * (1 + masking.kept) + token - 1
                let row = image * (1 + masking.patches) + token
                shared[row] = Int32(index)
                if first[index] < 0 { first[index] = Int32(row) }
            }
        }
    }

    /// target[C, D] = the rows of all[R, D] that differ; any of them where there is none.
    func gather(_ all: Tensor, _ target: Tensor) { each(count, Gathering(rows: self, all: all, shared: target)) }

    /// all[R, D] = to each row its shared one of source[C, D]; both of one type.
    func expand(_ source: Tensor, _ all: Tensor) { each(all.rows, Expansion(rows: self, all: all, shared: source)) }

    /// target[C, D] = sums over alike rows of all[R, D], in the order of images; zero where there is none. The target
    /// is float32.
    func sum(_ all: Tensor, _ target: Tensor) { each(count, Sums(rows: self, all: all, shared: target)) }

    /// To the first of alike rows of all[R, D] += the row of source[C, D]; both float32.
    func addToFirst(_ source: Tensor, _ all: Tensor) { each(count, Scattering(rows: self, all: all, shared: source)) }

    private func each(_ count: Int, _ work: some ParallelRows) { work.runAll(count, chunk: 16) }

    private struct Gathering: ParallelRows {
        unowned(unsafe) let rows: SharedRows
        let all: Tensor
        let shared: Tensor

        func run(_ range: Range<Int>) {
            for index in range { shared.copyRow(index, from: all, max(0, Int(rows.first[index]))) }
        }
    }

    private struct Expansion: ParallelRows {
        unowned(unsafe) let rows: SharedRows
        let all: Tensor
        let shared: Tensor

        func run(_ range: Range<Int>) {
            for row in range { all.copyRow(row, from: shared, Int(rows.shared[row])) }
        }
    }

    private struct Sums: ParallelRows {
        unowned(unsafe) let rows: SharedRows
        let all: Tensor
        let shared: Tensor

        func run(_ range: Range<Int>) {
            let tokens = 1 + rows.masking.patches, own = rows.images * (1 + rows.masking.kept)
            for index in range {
                (shared.pointer + index * shared.stride).update(repeating: 0, count: shared.columns)
                let start = Int(rows.first[index])
                guard start >= 0 else { continue }
                // The row of one token, or of one place in each image from the first that has a mask token there.
                let last = index < own ? start + 1 : rows.images * tokens
                for row in stride(from: start, to: last, by: tokens) where Int(rows.shared[row]) == index {
                    shared.addRow(index, from: all, row)
                }
            }
        }
    }

    private struct Scattering: ParallelRows {
        unowned(unsafe) let rows: SharedRows
        let all: Tensor
        let shared: Tensor

        func run(_ range: Range<Int>) {
            for index in range where rows.first[index] >= 0 { all.addRow(Int(rows.first[index]), from: shared, index) }
        }
    }
}
