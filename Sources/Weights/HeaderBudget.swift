/// What the description of tensors, as a file gives it, may still take of memory.
///
/// A header may be a hundred million bytes long and describe millions of tensors without a byte of data. Real ones have
/// hundreds, or thousands: what no model needs is refused before it is held. The shards of a model have one budget
/// together.
struct HeaderBudget {
    /// Names, shapes and metadata together, in bytes of memory: some fifty thousand tensors fit.
    static let maximum = 16 << 20
    /// What one entry takes beside its texts and numbers, in the tables of this program.
    private static let entry = 256

    private let limit: Int
    private var taken = 0
    /// Whether another file of the same model has taken its part already.
    var isShared = false

    init(limit: Int = HeaderBudget.maximum) {
        self.limit = limit
    }

    /// Accounts for one entry, a tensor or a piece of metadata, whose texts and numbers have `bytes`.
    ///
    /// Throws `JSONReader.Fault` where all of them take too much.
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
