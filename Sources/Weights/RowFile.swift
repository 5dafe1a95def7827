/// Writes a file of rows of 32-bit floats, one after another; their number is known only at the end.
///
/// A header for the maximum number of rows is written first. At the end it is overwritten with the one for the actual
/// number, padded to the same length.
public enum RowFile {
    /// The file format.
    public enum Form: Equatable, Sendable {
        /// NumPy's .npy, format version 1.0: the bytes 93 4E 55 4D 50 59 ("\x93NUMPY"), 01 00, a little-endian 16-bit
        /// length, and a Python dictionary of that length, padded with spaces and ended by a line feed so that the rows
        /// begin at a multiple of 64; then the rows, little-endian.
        /// (numpy.org/doc/stable/reference/generated/numpy.lib.format.html)
        case numpy
        /// safetensors with one tensor.
        case safetensors(name: String, metadata: [String: String])
    }

    /// Writes the whole of `file`.
    ///
    /// - Parameters:
    ///   - rowShape: the dimensions of a row, [D] or [T, D]; the file's shape is [rows] + rowShape.
    ///   - maximumRows: an upper bound on the number of rows.
    ///   - labels: of a safetensors file, a second tensor `name`[rows] of 32-bit integers, whose values are asked for
    ///     after `body`; 32-bit, so that it is aligned behind the rows.
    ///   - body: calls its argument with one or more rows at a time.
    /// - Returns: the number of rows.
    /// - Throws: `Failure(.inputOutput)`, or what `body` throws.
    @discardableResult
    public static func write(
        into file: AtomicFile, _ form: Form, rowShape: [Int], maximumRows: Int,
        labels: (name: String, values: () -> [Int32])? = nil,
        _ body: ((UnsafeBufferPointer<Float>) throws -> Void) throws -> Void
    ) throws -> Int {
        let row = rowShape.reduce(1, *)
        precondition(row > 0 && maximumRows >= 0)
        if labels != nil, form == .numpy { preconditionFailure("a .npy file holds one array") }
        let placeholder = header(form, shape: [maximumRows] + rowShape, labels?.name, length: 0)
        var rows = 0
        try placeholder.withUnsafeBytes { try file.append($0) }
        try body { values in
            precondition(values.count % row == 0 && rows + values.count / row <= maximumRows)
            rows += values.count / row
            try file.append(UnsafeRawBufferPointer(values))
        }
        if let values = labels?.values() {
            precondition(values.count == rows, "\(values.count) labels of \(rows) rows")
            try values.map(\.littleEndian).withUnsafeBytes { try file.append($0) }
        }
        let final = header(form, shape: [rows] + rowShape, labels?.name, length: placeholder.count)
        precondition(final.count == placeholder.count)
        try final.withUnsafeBytes { try file.overwrite($0, at: 0) }
        return rows
    }

    /// The bytes before the rows, padded to the alignment of the format and to at least `length`, a multiple of it.
    private static func header(_ form: Form, shape: [Int], _ labels: String?, length: Int) -> [UInt8] {
        let sizes = shape.map(String.init)
        func padded(_ text: String, before: Int, alignment: Int, end: String) -> [UInt8] {
            let minimum = before + text.utf8.count + end.utf8.count
            let total = max(length, (minimum + alignment - 1) / alignment * alignment)
            return Array((text + String(repeating: " ", count: total - minimum) + end).utf8)
        }
        switch form {
        case .numpy:
            let dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(sizes.joined(separator: ", "))), }"
            let text = padded(dictionary, before: 10, alignment: 64, end: "\n")
            return [0x93] + Array("NUMPY".utf8) + [1, 0]
                + withUnsafeBytes(of: UInt16(text.count).littleEndian, Array.init) + text
        case .safetensors(let name, let metadata):
            let json = SafeTensorsWriter.json
            var members: [String] = []
            if !metadata.isEmpty {
                let pairs = metadata.sorted { $0.key < $1.key }.map { "\(json($0.key)):\(json($0.value))" }
                members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
            }
            members.append(
                "\(json(name)):{\"dtype\":\"F32\",\"shape\":[\(sizes.joined(separator: ","))],"
                    + "\"data_offsets\":[0,\(shape.reduce(4, *))]}")
            if let labels {
                let start = shape.reduce(4, *)
                members.append(
                    "\(json(labels)):{\"dtype\":\"I32\",\"shape\":[\(shape[0])],"
                        + "\"data_offsets\":[\(start),\(start + 4 * shape[0])]}")
            }
            let text = padded("{\(members.joined(separator: ","))}", before: 8, alignment: 8, end: "")
            return withUnsafeBytes(of: UInt64(text.count).littleEndian, Array.init) + text
        }
    }
}
