import Tensors

// Letters: B images, L patches, T = 1 + L tokens, D width.

/// Means over the patch tokens of each image, summed in double in the order of the patches: tokens[B·T, D] → means[B,
/// D].
struct PatchMeans: ParallelRows {
    let tokens: Tensor
    let patches: Int
    let means: Tensor

    func run(_ range: Range<Int>) {
        let width = means.columns
        for image in range {
            let first = tokens.pointer + (image * (1 + patches) + 1) * width
            let mean = means.pointer + image * width
            var column = 0
            while column + 16 <= width {
                var sum = SIMD16<Double>()
                for patch in 0..<patches { sum += SIMD16<Double>(SIMDRow.load(first + patch * width + column)) }
                SIMDRow.store(SIMD16<Float>(sum / Double(patches)), mean + column)
                column += 16
            }
            while column < width {
                var sum = 0.0
                for patch in 0..<patches { sum += Double(first[patch * width + column]) }
                mean[column] = Float(sum / Double(patches))
                column += 1
            }
        }
    }
}

/// The backward pass of `PatchMeans`: each patch token has dMeans[B, D] / L of its image, the class token 0. d[B·T, D]
/// is overwritten.
struct PatchMeansGradient: ParallelRows {
    let dMeans: Tensor
    let patches: Int
    let d: Tensor

    func run(_ range: Range<Int>) {
        let share = 1 / Float(patches)
        for row in range {
            let (image, token) = row.quotientAndRemainder(dividingBy: 1 + patches)
            d.setRow(row, to: dMeans, image, times: token == 0 ? 0 : share)
        }
    }
}
