import FoundationEssentials

extension Encodable {
    /// The value as JSON with sorted keys: equal values give equal bytes. Characters that a terminal would obey are
    /// escaped, so that the text may be printed.
    ///
    /// - Parameter isSnakeCase: whether keys are converted to snake_case.
    /// - Throws: `EncodingError` where the value holds a number that JSON cannot express.
    public func sortedJSON(indented: Bool = false, isSnakeCase: Bool = false) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if indented { encoder.outputFormatting.insert(.prettyPrinted) }
        if isSnakeCase { encoder.keyEncodingStrategy = .convertToSnakeCase }
        return escapedJSON([UInt8](try encoder.encode(self)))
    }
}

/// JSON escapes the first 32 characters; others that a terminal would obey only stand in its strings.
private func escapedJSON(_ text: [UInt8]) -> [UInt8] {
    guard text.contains(where: { $0 >= 0x7F }) else { return text }
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    for scalar in String(decoding: text, as: UTF8.self).unicodeScalars {
        guard scalar.value >= 0x7F, scalar.isObeyed else {
            result += Array(UTF8.encode(scalar)!)
            continue
        }
        for unit in String(scalar).utf16 {
            let digits = String(unit, radix: 16)
            result += Array(("\\u" + String(repeating: "0", count: 4 - digits.count) + digits).utf8)
        }
    }
    return result
}
