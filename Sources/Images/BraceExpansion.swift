import Reporting

/// Expands braces as bash, and WebDataset for the names of its shards, do: "{a,b}" is a list, "{000..127}" and "{a..e}"
/// are ranges, with a step in "{0..10..5}". Groups may stand side by side and inside one another. A brace without a
/// partner, and a group with neither a comma nor a range, stay as they are; so does the character after a backslash,
/// which is dropped.
package enum BraceExpansion {
    /// Most texts that a pattern may stand for.
    static let limit = 1_000_000

    /// The texts that `pattern` stands for, in its order.
    ///
    /// - Throws: `Failure.usage` for more than `limit` texts.
    package static func texts(of pattern: String) throws -> [String] {
        var parser = Parser(pattern: pattern, bytes: Array(pattern.utf8))
        let texts = try parser.sequence(until: [])
        return texts.map { String(decoding: $0, as: UTF8.self) }
    }

    private struct Parser {
        let pattern: String
        let bytes: [UInt8]
        var position = 0
        private var depth = 0

        init(pattern: String, bytes: [UInt8]) {
            self.pattern = pattern
            self.bytes = bytes
        }

        private func limited(_ count: Int) throws {
            guard count <= limit else {
                throw Failure(
                    .usage,
                    "\(pattern) stands for more than \(Format.grouped(limit)) files: name a folder of archives instead")
            }
        }

        /// The texts of the pattern from here up to one of `ends`, or to its end.
        mutating func sequence(until ends: Set<UInt8>) throws -> [[UInt8]] {
            var texts: [[UInt8]] = [[]]
            func append(_ byte: UInt8) { for index in texts.indices { texts[index].append(byte) } }
            while position < bytes.count, !ends.contains(bytes[position]) {
                let byte = bytes[position]
                if byte == UInt8(ascii: "\\"), position + 1 < bytes.count {
                    append(bytes[position + 1])
                    position += 2
                } else if byte == UInt8(ascii: "{"), let group = try group() {
                    try limited(texts.count * group.count)
                    texts = texts.flatMap { text in group.map { text + $0 } }
                } else {
                    append(byte)
                    position += 1
                }
            }
            return texts
        }

        /// The texts of the group that begins here. Nil, at the same position, where the brace is an ordinary
        /// character.
        private mutating func group() throws -> [[UInt8]]? {
            let start = position
            guard let end = partner(of: start), depth < 64 else { return nil }
            if let range = try range(start + 1..<end) {
                position = end + 1
                return range
            }
            depth += 1
            defer { depth -= 1 }
            var texts: [[UInt8]] = [], parts = 0
            position = start + 1
            while true {
                texts += try sequence(until: [UInt8(ascii: ","), UInt8(ascii: "}")])
                try limited(texts.count)
                parts += 1
                let isLast = bytes[position] == UInt8(ascii: "}")
                position += 1
                if isLast { break }
            }
            // "{a}" stands for itself, with what its content stands for.
            return parts > 1 ? texts : texts.map { [UInt8(ascii: "{")] + $0 + [UInt8(ascii: "}")] }
        }

        /// The position of the brace that closes the one at `start`; nil if it is never closed.
        private func partner(of start: Int) -> Int? {
            var open = 0, index = start
            while index < bytes.count {
                switch bytes[index] {
                case UInt8(ascii: "\\"): index += 1
                case UInt8(ascii: "{"): open += 1
                case UInt8(ascii: "}"):
                    open -= 1
                    if open == 0 { return index }
                default: break
                }
                index += 1
            }
            return nil
        }

        /// "first..last" or "first..last..step", of integers or of letters.
        private func range(_ content: Range<Int>) throws -> [[UInt8]]? {
            let words = String(decoding: bytes[content], as: UTF8.self).split(
                separator: "..", omittingEmptySubsequences: false)
            guard words.count == 2 || words.count == 3 else { return nil }
            var step = 1
            if words.count == 3 {
                guard let number = Int(words[2]), number != .min else { return nil }
                step = max(1, abs(number))
            }
            if let first = integer(words[0]), let last = integer(words[1]) {
                let (distance, overflow) = last.subtractingReportingOverflow(first)
                try limited(overflow || distance == .min ? .max : abs(distance) / step + 1)
                func isPadded(_ word: Substring) -> Bool {
                    let digits = word.drop { $0 == "-" }
                    return digits.count > 1 && digits.first == "0"
                }
                let width = isPadded(words[0]) || isPadded(words[1]) ? max(words[0].count, words[1].count) : 0
                return stride(from: first, through: last, by: first <= last ? step : -step).map { number in
                    let digits = String(number.magnitude), sign = number < 0 ? "-" : ""
                    return Array(
                        (sign + String(repeating: "0", count: max(0, width - sign.count - digits.count))
                            + digits).utf8)
                }
            }
            // The letters as one alphabet, capital ones first.
            let letters = Array(0x41...0x5A as ClosedRange<UInt8>) + Array(0x61...0x7A as ClosedRange<UInt8>)
            func letter(_ word: Substring) -> Int? {
                word.utf8.count == 1 ? letters.firstIndex(of: word.utf8.first!) : nil
            }
            guard let first = letter(words[0]), let last = letter(words[1]) else { return nil }
            return stride(from: first, through: last, by: first <= last ? step : -step).map { [letters[$0]] }
        }

        private func integer(_ word: Substring) -> Int? {
            word.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-") } ? Int(word) : nil
        }
    }
}
