import Reporting

extension Format {
    /// Names and values, the values in one column. An empty name and value give an empty line.
    static func lines(_ lines: [(String, String)]) -> String {
        let width = lines.map(\.0.count).max() ?? 0
        return lines.map { name, value in
            name.isEmpty && value.isEmpty ? "" : name + String(repeating: " ", count: width - name.count) + "  " + value
        }.joined(separator: "\n")
    }

    /// Rows as columns: the first `left` left-aligned, the others right-aligned.
    static func table(_ rows: [[String]], left: Int = 1) -> String {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            row.enumerated().map { column, text in
                let space = String(repeating: " ", count: widths[column] - text.count)
                return column < left ? text + (column < row.count - 1 ? space : "") : space + text
            }.joined(separator: "  ")
        }.joined(separator: "\n")
    }
}
