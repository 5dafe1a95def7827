import Reporting

/// Reads an opened file as a command would: small tensors, as floats and as bytes. Any other error than a `Failure`
/// ends the process.
func readAll(_ file: any WeightFile) {
    var rest = 1 << 16
    for entry in file.entries where entry.count <= rest {
        rest -= entry.count
        do {
            let floats = try file.floats(entry.name)
            let count = try file.withBytes(entry.name) { $0.count }
            precondition(floats.count == entry.count && count == entry.byteCount)
        } catch {
            precondition(error is Failure && !entry.type.isConvertible)
        }
    }
    for value in file.values { precondition(!value.name.isEmpty) }
}

/// Opens a file and reads it. The only error allowed is a refusal in one line.
func attempt(_ open: () throws -> any WeightFile) {
    do { readAll(try open()) } catch {
        guard let failure = error as? Failure, failure.code == .badData else { fatalError("\(error)") }
        precondition(!failure.message.utf8.contains(0x0A), failure.message)
    }
}
