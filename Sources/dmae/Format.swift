/// How numbers are written for people.
enum Format {
    /// "1.6 GB", "312 MB", in powers of ten.
    static func bytes(_ count: Int) -> String {
        let value = Double(count)
        if value >= 1e9 { return fixed(value / 1e9, 2) + " GB" }
        if value >= 1e6 { return fixed(value / 1e6, 1) + " MB" }
        if value >= 1e3 { return fixed(value / 1e3, 1) + " kB" }
        return "\(count) bytes"
    }

    /// "1 tensor", "1,200 tensors".
    static func counted(_ count: Int, _ noun: String) -> String { "\(grouped(count)) \(noun)\(count == 1 ? "" : "s")" }

    /// "447,631,872".
    static func grouped(_ count: Int) -> String {
        var text = ""
        for (index, digit) in String(count).reversed().enumerated() {
            if index > 0, index % 3 == 0, digit != "-" { text.append(",") }
            text.append(digit)
        }
        return String(text.reversed())
    }

    /// The shortest text that reads back as `value`; whole numbers without a point.
    static func shortest(_ value: some BinaryFloatingPoint & CustomStringConvertible) -> String {
        let text = value.description
        return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
    }

    /// "86.6 M", in millions or thousands.
    static func count(_ count: Int) -> String {
        let value = Double(count)
        if value >= 1e9 { return fixed(value / 1e9, 2) + " G" }
        if value >= 1e6 { return fixed(value / 1e6, 2) + " M" }
        if value >= 1e3 { return fixed(value / 1e3, 1) + " k" }
        return "\(count)"
    }

    /// "3 days 4 h", "12 min", "40 s".
    static func duration(_ seconds: Double) -> String {
        if seconds >= 172_800 { return "\(Int(seconds / 86_400)) days \(Int(seconds / 3600) % 24) h" }
        if seconds >= 7200 { return "\(Int(seconds / 3600)) h \(Int(seconds / 60) % 60) min" }
        if seconds >= 120 { return "\(Int(seconds / 60)) min \(Int(seconds) % 60) s" }
        return fixed(seconds, seconds < 10 ? 2 : 0) + " s"
    }

    /// With exactly `digits` decimals; numbers too large for that as Swift writes them.
    static func fixed(_ value: Double, _ digits: Int) -> String {
        var scale = 1
        for _ in 0..<digits { scale *= 10 }
        let rounded = (value.magnitude * Double(scale)).rounded()
        // What an Int holds; a NaN fails the comparison.
        guard rounded < 9e18 else { return "\(value)" }
        let scaled = Int(rounded)
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return sign + String(scaled) }
        let fraction = String(scaled % scale)
        return sign + "\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
    }

    /// Names and values, the values in one column; an empty name and value leave a line free.
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
