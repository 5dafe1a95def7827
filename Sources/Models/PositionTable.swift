#if canImport(Glibc)
    import Glibc
#endif

/// MAE's fixed two-dimensional sin-cos position table.
public enum PositionTable {
    /// Fills table [1 + rows·columns, width]: a zero row for the class token, then for each patch, row by row,
    /// [sin(column·ω), cos(column·ω), sin(row·ω), cos(row·ω)] with width/4 frequencies ω = 10000^(-i/(width/4)), in
    /// double.
    public static func fill(_ table: UnsafeMutableBufferPointer<Float>, rows: Int, columns: Int, width: Int) {
        precondition(width % 4 == 0 && table.count == (1 + rows * columns) * width)
        let quarter = width / 4
        for i in 0..<width { table[i] = 0 }
        for i in 0..<quarter {
            let omega = 1 / pow(10_000, Double(i) / Double(quarter))
            for patch in 0..<rows * columns {
                let (row, column) = patch.quotientAndRemainder(dividingBy: columns)
                let start = (1 + patch) * width + i
                table[start] = Float(sin(Double(column) * omega))
                table[start + quarter] = Float(cos(Double(column) * omega))
                table[start + 2 * quarter] = Float(sin(Double(row) * omega))
                table[start + 3 * quarter] = Float(cos(Double(row) * omega))
            }
        }
    }
}
