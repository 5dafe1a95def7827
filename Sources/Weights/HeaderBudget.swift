/// What the description of tensors, as a file gives it, may still take of memory.
///
/// A header may be a hundred million bytes long and describe millions of tensors without a byte of data. Real ones have
/// hundreds, or thousands: what no model needs is refused before it is held.
struct HeaderBudget {
    /// Names, shapes and metadata together, in bytes of memory: some fifty thousand tensors fit.
    static let maximum = 16 << 20
    /// What one entry takes beside its texts and numbers, in the tables of this program.
    private static let entry = 256

    private var taken = 0

    /// Accounts for one entry, a tensor or a piece of metadata, whose texts and numbers have `bytes`.
    ///
    /// Throws `JSONReader.Fault` where all of them take too much.
    mutating func take(_ bytes: Int) throws {
        taken += bytes + Self.entry
        if taken > Self.maximum {
            throw JSONReader.Fault(message: "describes tensors and metadata that would take more than \(Self.maximum) bytes of memory")
        }
    }
}
