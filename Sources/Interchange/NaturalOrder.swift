/// The order in which timm sorts class directories: digits as numbers, the rest as text in lower case; "2" stands before
/// "10", "b" between "A" and "C". Of names that are equal so, the one with the lower bytes comes first.
enum NaturalOrder {
    /// Texts and numbers in turn, a text first.
    private struct Key {
        var texts: [[Unicode.Scalar]] = [[]]
        /// Without leading zeros.
        var numbers: [[Unicode.Scalar]] = []

        init(_ name: String) {
            var isNumber = false
            for scalar in name.lowercased().unicodeScalars {
                let isDigit = ("0"..."9").contains(scalar)
                if isDigit {
                    if !isNumber { numbers.append([]) }
                    if scalar != "0" || !numbers[numbers.count - 1].isEmpty {
                        numbers[numbers.count - 1].append(scalar)
                    }
                } else {
                    if isNumber { texts.append([]) }
                    texts[texts.count - 1].append(scalar)
                }
                isNumber = isDigit
            }
            // Python's re.split ends with a text, which may be empty.
            if isNumber { texts.append([]) }
        }

        func precedes(_ other: Key) -> Bool? {
            for place in 0..<max(texts.count, other.texts.count) {
                guard place < texts.count else { return true }
                guard place < other.texts.count else { return false }
                if texts[place] != other.texts[place] {
                    return texts[place].lexicographicallyPrecedes(other.texts[place])
                }
                guard place < numbers.count else { return place < other.numbers.count ? true : nil }
                guard place < other.numbers.count else { return false }
                let (number, another) = (numbers[place], other.numbers[place])
                if number != another {
                    return number.count != another.count
                        ? number.count < another.count : number.lexicographicallyPrecedes(another)
                }
            }
            return nil
        }
    }

    /// The indices of `names` in their natural order.
    static func order(_ names: [String]) -> [Int] {
        let keys = names.map(Key.init)
        return names.indices.sorted { a, b in
            keys[a].precedes(keys[b]) ?? names[a].utf8.lexicographicallyPrecedes(names[b].utf8)
        }
    }

    /// `names` in their natural order.
    static func sorted(_ names: [String]) -> [String] { order(names).map { names[$0] } }
}
