import FoundationEssentials

extension Encodable {
    /// The value as JSON with sorted keys: equal values give equal bytes.
    ///
    /// - Throws: `EncodingError` where the value holds a number that JSON cannot express.
    public func sortedJSON(indented: Bool = false) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if indented { encoder.outputFormatting.insert(.prettyPrinted) }
        return [UInt8](try encoder.encode(self))
    }
}
