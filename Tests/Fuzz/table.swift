import Reporting

/// Reads any bytes as comma-separated values. Records that were read are the same once they were written with quotes.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    do {
        let records = try DelimitedText(UnsafeRawBufferPointer(start: start, count: count), named: "input").records
        let text = records.map { record in
            record.fields.map { "\"" + $0.replacing("\"", with: "\"\"") + "\"" }.joined(separator: ",")
        }.joined(separator: "\r\n")
        let again = try Array(text.utf8).withUnsafeBytes { try DelimitedText($0, named: "again").records }
        precondition(again.map(\.fields) == records.map(\.fields))
    } catch {
        guard let failure = error as? Failure, failure.code == .badData else { fatalError("\(error)") }
        precondition(!failure.message.utf8.contains(0x0A), failure.message)
    }
    return 0
}
