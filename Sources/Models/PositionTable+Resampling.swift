extension PositionTable {
    /// A table [1 + rows·columns, width] for another grid: the class token's row as it is, the patches' resampled by
    /// bicubic interpolation along rows and columns.
    ///
    /// This is what MAE's fine-tuning does to its table: `torch.nn.functional.interpolate(mode="bicubic",
    /// align_corners=False)`, that is Keys' kernel with a = -0.75, pixel centres at half integers, the border repeated,
    /// no antialiasing. Weights are computed in double. Both tables are in the order class token, then row by row;
    /// `target` must not overlap `source`.
    public static func resample(
        _ source: UnsafeBufferPointer<Float>, rows: Int, columns: Int, into target: UnsafeMutableBufferPointer<Float>,
        rows newRows: Int, columns newColumns: Int, width: Int
    ) {
        precondition(rows > 0 && columns > 0 && newRows > 0 && newColumns > 0 && width > 0)
        precondition(source.count == (1 + rows * columns) * width && target.count == (1 + newRows * newColumns) * width)
        for i in 0..<width { target[i] = source[i] }
        let vertical = taps(from: rows, to: newRows)
        let horizontal = taps(from: columns, to: newColumns)
        var sums = [Double](repeating: 0, count: width)
        for row in 0..<newRows {
            for column in 0..<newColumns {
                for i in 0..<width { sums[i] = 0 }
                for y in vertical[row] {
                    for x in horizontal[column] {
                        let weight = y.weight * x.weight
                        let start = (1 + y.index * columns + x.index) * width
                        for i in 0..<width { sums[i] += weight * Double(source[start + i]) }
                    }
                }
                let start = (1 + row * newColumns + column) * width
                for i in 0..<width { target[start + i] = Float(sums[i]) }
            }
        }
    }

    /// For each of `new` positions, the four old positions that it interpolates, and their weights.
    private static func taps(from old: Int, to new: Int) -> [[(index: Int, weight: Double)]] {
        let a = -0.75
        func near(_ x: Double) -> Double { ((a + 2) * x - (a + 3)) * x * x + 1 }
        func far(_ x: Double) -> Double { ((a * x - 5 * a) * x + 8 * a) * x - 4 * a }
        return (0..<new).map { position in
            let place = (Double(position) + 0.5) * Double(old) / Double(new) - 0.5
            let first = place.rounded(.down)
            let t = place - first
            return zip(-1...2, [far(t + 1), near(t), near(1 - t), far(2 - t)]).map {
                (min(max(Int(first) + $0, 0), old - 1), $1)
            }
        }
    }
}
