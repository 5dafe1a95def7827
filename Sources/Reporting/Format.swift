/// How numbers are written for people.
package enum Format {
    /// "1.60 GB", "312.0 MB", in powers of ten.
    package static func bytes(_ count: Int) -> String {
        let value = Double(count)
        if value >= 1e9 { return fixed(value / 1e9, 2) + " GB" }
        if value >= 1e6 { return fixed(value / 1e6, 1) + " MB" }
        if value >= 1e3 { return fixed(value / 1e3, 1) + " kB" }
        return "\(count) bytes"
    }

    /// "86.60 M", in millions or thousands.
    package static func count(_ count: Int) -> String {
        let value = Double(count)
        if value >= 1e9 { return fixed(value / 1e9, 2) + " G" }
        if value >= 1e6 { return fixed(value / 1e6, 2) + " M" }
        if value >= 1e3 { return fixed(value / 1e3, 1) + " k" }
        return "\(count)"
    }

    /// "1 tensor", "1,200 tensors".
    package static func counted(_ count: Int, _ noun: String) -> String {
        "\(grouped(count)) \(noun)\(count == 1 ? "" : "s")"
    }

    /// "1 epoch", "0.5 epochs", "280 epochs".
    package static func epochs(_ count: Double) -> String { "\(shortest(count)) epoch\(count == 1 ? "" : "s")" }

    /// "447,631,872".
    package static func grouped(_ count: Int) -> String {
        var text = ""
        for (index, digit) in String(count).reversed().enumerated() {
            if index > 0, index % 3 == 0, digit != "-" { text.append(",") }
            text.append(digit)
        }
        return String(text.reversed())
    }

    /// `text` in lines of at most `columns` characters, if no word is longer. Words that a no-break space joins, such as
    /// a number and its unit, stay on one line, with a plain space.
    package static func filled(_ text: String, columns: Int = 80) -> String {
        var lines = [""]
        for word in text.split(separator: " ") {
            let line = lines[lines.count - 1]
            if line.isEmpty {
                lines[lines.count - 1] = String(word)
            } else if line.count + 1 + word.count <= columns {
                lines[lines.count - 1] = line + " " + word
            } else {
                lines.append(String(word))
            }
        }
        return lines.joined(separator: "\n").replacing("\u{A0}", with: " ")
    }

    /// `text` as a field of comma-separated values (RFC 4180).
    package static func commaSeparated(_ text: String) -> String {
        guard text.utf8.contains(where: { [0x22, 0x2C, 0x0A, 0x0D].contains($0) }) else { return text }
        return "\"" + text.replacing("\"", with: "\"\"") + "\""
    }

    /// The shortest text that reads back as `value`; integers without a decimal point.
    package static func shortest(_ value: some BinaryFloatingPoint & CustomStringConvertible) -> String {
        let text = value.description
        return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
    }

    /// `value` with exactly `digits` decimals; a value too large for that, or not finite, as Swift writes it.
    package static func fixed(_ value: Double, _ digits: Int) -> String {
        var scale = 1
        for _ in 0..<digits { scale *= 10 }
        let rounded = (value.magnitude * Double(scale)).rounded()
        // An Int holds less than 2^63; a NaN fails the comparison.
        guard rounded < 9e18 else { return "\(value)" }
        let scaled = Int(rounded)
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return sign + String(scaled) }
        let fraction = String(scaled % scale)
        return sign + "\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
    }

    /// A measured or estimated time: "3 days 4 h", "12 min 5 s", "40 s", "1.25 s". A unit is used from two of it on:
    /// "90 min 0 s", not "1 h 30 min".
    package static func duration(_ seconds: Double) -> String {
        if seconds >= 172_800 { return "\(Int(seconds / 86_400)) days \(Int(seconds / 3600) % 24) h" }
        if seconds >= 7200 { return "\(Int(seconds / 3600)) h \(Int(seconds / 60) % 60) min" }
        if seconds >= 120 { return "\(Int(seconds / 60)) min \(Int(seconds) % 60) s" }
        return fixed(seconds, seconds < 10 ? 2 : 0) + " s"
    }

    /// The time left on a progress line, in the largest unit that fits: "1 d 3 h", "2 h 44 min", "1 min 29 s", "5 s".
    /// Never with decimals, which would flicker.
    package static func countdown(_ seconds: Double) -> String {
        let seconds = Int(min(max(seconds, 0), 1e12).rounded())
        if seconds < 60 { return "\(seconds) s" }
        if seconds < 3600 { return "\(seconds / 60) min \(seconds % 60) s" }
        if seconds < 86400 { return "\(seconds / 3600) h \(seconds % 3600 / 60) min" }
        return "\(seconds / 86400) d \(seconds % 86400 / 3600) h"
    }
}
