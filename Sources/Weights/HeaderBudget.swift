/// The memory that a file's descriptions of tensors may still take.
///
/// A header may have a hundred million bytes and describe millions of empty tensors. Real ones describe hundreds or
/// thousands, so a larger description is refused before it is held in memory. All shards of a model share one budget.
package struct HeaderBudget {
    /// Bytes of memory for names, shapes and metadata together: enough for about fifty thousand tensors.
    package static let maximum = 16 << 20
    /// Estimated bytes of one entry beside its texts and numbers: its places in arrays and dictionaries.
    private static let entry = 256

    private let limit: Int
    private var taken = 0
    /// Whether other shards of the same model were accounted for before.
    var isShared = false

    init(limit: Int = HeaderBudget.maximum) {
        self.limit = limit
    }

    /// Accounts for one entry, a tensor or a metadata pair, whose texts and numbers take `bytes`.
    ///
    /// Throws `JSONReader.Fault` where the entries exceed the limit.
    mutating func take(_ bytes: Int) throws {
        taken += bytes + Self.entry
        if taken > limit {
            let others = isShared ? "together with those of the shards before it " : ""
            throw JSONReader.Fault(
                message: "describes tensors and metadata that \(others)would take more than \(limit) bytes of memory")
        }
    }

    /// Accounts for a tensor.
    mutating func take(_ entry: TensorEntry) throws {
        try take(entry.name.utf8.count + entry.shape.count * MemoryLayout<Int>.stride)
    }
}
