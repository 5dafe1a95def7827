import Reporting

/// The JSON header of a safetensors file, read strictly and checked against the size of the data that follows it.
///
///     {"__metadata__": {"key": "text", …},
///      "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}
///
/// Offsets count from the end of the header. The tensors must cover the data exactly, without gaps or overlaps. Reading
/// a header takes a bounded amount of memory, however long it is.
package struct SafeTensorsHeader {
    /// Maximum bytes of a header in the format.
    package static let maximumLength = 100_000_000
    /// Maximum number of dimensions of a tensor, the same as in PyTorch.
    package static let maximumRank = 64

    private(set) var metadata: [String: String] = [:]
    /// In the order of the data.
    private(set) var entries: [TensorEntry] = []
    /// Of each entry: the range of its bytes in the data.
    private(set) var ranges: [Range<Int>] = []

    /// Reads the header `text`. The memory for its content is taken from `budget`; `release` is called with ranges of
    /// bytes that were read.
    ///
    /// Throws `JSONReader.Fault`, worded to follow "the header …".
    init(
        _ text: UnsafeRawBufferPointer, dataLength: Int, _ budget: inout HeaderBudget,
        release: @escaping (Range<Int>) -> Void
    ) throws {
        var reader = JSONReader(text, release: release)
        // The format requires the brace as the first byte, so that a file can be recognised.
        guard text.first == 0x7B else { throw JSONReader.Fault(message: "does not begin with '{'") }
        var seen = Set<String>()
        try reader.object { reader, name in
            guard seen.insert(name).inserted else { throw JSONReader.Fault(message: "names \(quoted(name)) twice") }
            if name == "__metadata__" {
                metadata = try Self.metadata(&reader, &budget)
            } else {
                let (entry, range) = try Self.entry(&reader, name: name)
                try budget.take(entry)
                entries.append(entry)
                ranges.append(range)
            }
        }
        try reader.expectEnd()
        try orderAndCheckCoverage(dataLength: dataLength)
    }

    private static func metadata(_ reader: inout JSONReader, _ budget: inout HeaderBudget) throws -> [String: String] {
        guard reader.peek() == 0x7B else {
            throw JSONReader.Fault(message: "holds a __metadata__ that is not an object")
        }
        var metadata: [String: String] = [:]
        try reader.object { reader, key in
            guard reader.peek() == 0x22 else {
                throw JSONReader.Fault(message: "holds metadata \(quoted(key)) that is not a string")
            }
            let value = try reader.string()
            try budget.take(key.utf8.count + value.utf8.count)
            guard metadata.updateValue(value, forKey: key) == nil else {
                throw JSONReader.Fault(message: "holds metadata \(quoted(key)) twice")
            }
        }
        return metadata
    }

    private static func entry(_ reader: inout JSONReader, name: String) throws -> (TensorEntry, Range<Int>) {
        func fault(_ what: String) -> JSONReader.Fault { .init(message: "describes tensor \(quoted(name)) \(what)") }
        guard reader.peek() == 0x7B else { throw fault("by something that is not an object") }
        var type: String?
        var bits = 0
        var shape: [Int]?
        var offsets: [Int]?

        /// The integers of a list of at most `limit`; faults name the tensor.
        func naturals(_ reader: inout JSONReader, _ key: String, limit: Int) throws -> [Int] {
            guard reader.peek() == 0x5B else { throw fault("with \(key) that is not a list") }
            var values: [Int] = []
            try reader.array { reader in
                guard values.count < limit else { throw fault("with \(key) of more than \(limit) numbers") }
                do { values.append(try reader.natural()) } catch let problem as JSONReader.Fault {
                    throw JSONReader.Fault(message: "\(problem.message), in \(key) of tensor \(quoted(name))")
                }
            }
            return values
        }
        try reader.object { reader, key in
            switch key {
            case "dtype":
                guard type == nil else { throw fault("with dtype twice") }
                guard reader.peek() == 0x22 else { throw fault("with a dtype that is not a string") }
                let text = try reader.string()
                guard let width = TensorType.bits(text) else {
                    throw fault(
                        "with dtype \(quoted(text)), which is not one of "
                            + TensorType.allCases.map(\.rawValue).joined(separator: " "))
                }
                (type, bits) = (text, width)
            case "shape":
                guard shape == nil else { throw fault("with shape twice") }
                shape = try naturals(&reader, "shape", limit: maximumRank)
            case "data_offsets":
                guard offsets == nil else { throw fault("with data_offsets twice") }
                offsets = try naturals(&reader, "data_offsets", limit: 2)
            default:
                throw fault("with \(quoted(key)), which is not dtype, shape or data_offsets")
            }
        }
        guard let type else { throw fault("without dtype") }
        guard let shape else { throw fault("without shape") }
        guard let offsets else { throw fault("without data_offsets") }
        guard offsets.count == 2 else { throw fault("with data_offsets of fewer than 2 numbers") }
        guard offsets[0] <= offsets[1] else { throw fault("with data_offsets that end before they begin") }
        guard TensorEntry.isCountable(shape) else { throw fault("with a shape of more than 2^63 bytes") }
        let (bytes, count) = (offsets[1] - offsets[0], shape.reduce(1, *))
        // Elements of fewer than 8 bits are packed.
        let isPacked = bits % 8 != 0
        let (units, overflow) = count.multipliedReportingOverflow(by: isPacked ? bits : bits / 8)
        let size = isPacked ? units / 8 + (units % 8 > 0 ? 1 : 0) : units
        guard !overflow, bytes == size else {
            throw fault("with \(bytes) bytes where its shape and dtype need \(overflow ? "more than 2^60" : "\(size)")")
        }
        let entry =
            TensorType.allCases.first { $0.rawValue == type }.map { TensorEntry(name: name, type: $0, shape: shape) }
            ?? TensorEntry(name: name, type: .opaque, typeName: type, shape: shape, byteCount: bytes)
        return (entry, offsets[0]..<offsets[1])
    }

    private mutating func orderAndCheckCoverage(dataLength: Int) throws {
        // Ties are broken by index: empty tensors have equal offsets, and the sort need not be stable.
        let order = entries.indices.sorted {
            let (a, b) = (ranges[$0], ranges[$1])
            return (a.lowerBound, a.upperBound, $0) < (b.lowerBound, b.upperBound, $1)
        }
        entries = order.map { entries[$0] }
        ranges = order.map { ranges[$0] }
        var end = 0
        for (entry, range) in zip(entries, ranges) {
            if range.lowerBound < end {
                throw JSONReader.Fault(message: "lets tensor \(quoted(entry.name)) overlap the one before it")
            }
            if range.lowerBound > end {
                throw JSONReader.Fault(
                    message: "leaves \(range.lowerBound - end) unused bytes before tensor \(quoted(entry.name))")
            }
            end = range.upperBound
        }
        if end > dataLength {
            throw JSONReader.Fault(
                message: "describes \(end) bytes of data but the file holds \(dataLength): it was cut off")
        }
        if end < dataLength {
            throw JSONReader.Fault(message: "describes \(end) bytes of data but \(dataLength) follow it")
        }
    }
}
