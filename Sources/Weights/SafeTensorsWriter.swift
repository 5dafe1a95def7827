/// Writes a safetensors file from tensors in memory, without copying them, or from tensors that are produced one by
/// one.
///
/// The same tensors and metadata give the same bytes. Metadata keys are sorted; tensors are in the order given, but
/// those with wider element types first, so that each tensor is aligned to its elements. The header is padded with
/// spaces to a multiple of 8.
public struct SafeTensorsWriter {
    /// The metadata key of the checksum of the whole file, which `write(checksummed: true)` stores.
    public static let checksumKey = "dmae.checksum"
    static let checksumPrefix = "xxh64:"
    static let checksumPlaceholder = checksumPrefix + String(repeating: "0", count: 16)

    private var tensors: [TensorSource] = []
    /// Becomes the header's `__metadata__`.
    public var metadata: [String: String]

    public init(metadata: [String: String] = [:]) {
        self.metadata = metadata
    }

    /// Adds a tensor of 32-bit floats. `floats` must have the number of elements of `shape` and stay valid until
    /// `write` returns.
    public mutating func add(_ name: String, shape: [Int], floats: UnsafeBufferPointer<Float>) {
        add(name, type: .f32, shape: shape, bytes: UnsafeRawBufferPointer(floats))
    }

    /// Adds a tensor of any type from its little-endian bytes, which must stay valid until `write` returns.
    public mutating func add(_ name: String, type: TensorType, shape: [Int], bytes: UnsafeRawBufferPointer) {
        precondition(
            shape.reduce(type.size, *) == bytes.count, "tensor \(name) of shape \(shape) has \(bytes.count) bytes")
        add(TensorSource(name: name, type: type, shape: shape) { try $0(bytes) })
    }

    /// Adds a tensor whose bytes are produced by `write`: once, or twice for a checksummed file.
    public mutating func add(_ tensor: TensorSource) {
        precondition(tensor.name != "__metadata__", "__metadata__ is not a tensor's name")
        tensors.append(tensor)
    }

    /// Writes the file through `AtomicFile`; if `checksummed`, with the checksum of all its bytes in the metadata.
    /// Names must be distinct.
    ///
    /// - Parameter replacesLink: whether a symbolic link at `path` is replaced, not the file that it leads to.
    /// - Throws: `Failure(.inputOutput)` with the path and the system's reason, or what a tensor's source throws; no file
    ///   is left then.
    public func write(to path: String, checksummed: Bool = false, replacesLink: Bool = false) throws {
        let (header, ordered) = try layout(checksummed: checksummed)
        try AtomicFile.write(to: path, replacesLink: replacesLink) { try Self.write(header, ordered, into: $0) }
    }

    /// Writes the whole of `file`, as `write(to:)` does without a checksum.
    public func write(into file: AtomicFile) throws {
        let (header, ordered) = try layout(checksummed: false)
        try Self.write(header, ordered, into: file)
    }

    /// The header, and the tensors in the order of the file.
    private func layout(checksummed: Bool) throws -> (header: [UInt8], tensors: [TensorSource]) {
        precondition(Set(tensors.map(\.name)).count == tensors.count, "two tensors of one name")
        var ordered: [TensorSource] = []
        for size in [8, 4, 2, 1] { ordered += tensors.filter { $0.type.size == size } }
        var header = Self.header(ordered, metadata: metadata, checksummed: checksummed)
        if checksummed, let digits = header.withUnsafeBytes(Self.checksumDigits) {
            var hash = XXHash64()
            header.withUnsafeBytes { hash.update($0) }
            for tensor in ordered { try tensor.write { hash.update($0) } }
            header.replaceSubrange(digits, with: Self.hexadecimal(hash.finish()))
        }
        return (header, ordered)
    }

    private static func write(_ header: [UInt8], _ tensors: [TensorSource], into file: AtomicFile) throws {
        try header.withUnsafeBytes { try file.append($0) }
        for tensor in tensors {
            var count = 0
            try tensor.write {
                count += $0.count
                try file.append($0)
            }
            precondition(count == tensor.byteCount, "tensor \(tensor.name) gave \(count) bytes")
        }
    }

    /// The length and the padded JSON text.
    private static func header(_ tensors: [TensorSource], metadata: [String: String], checksummed: Bool) -> [UInt8] {
        var metadata = metadata
        metadata[checksumKey] = checksummed ? checksumPlaceholder : nil
        var members: [String] = []
        if !metadata.isEmpty {
            let pairs = metadata.sorted { $0.key < $1.key }.map { "\(json($0.key)):\(json($0.value))" }
            members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
        }
        var offset = 0
        for tensor in tensors {
            let end = offset + tensor.byteCount
            let shape = tensor.shape.map(String.init).joined(separator: ",")
            members.append(
                "\(json(tensor.name)):{\"dtype\":\"\(tensor.type.rawValue)\",\"shape\":[\(shape)],\"data_offsets\":[\(offset),\(end)]}"
            )
            offset = end
        }
        var text = Array("{\(members.joined(separator: ","))}".utf8)
        text += [UInt8](repeating: 0x20, count: (8 - text.count % 8) % 8)
        precondition(text.count <= SafeTensorsHeader.maximumLength, "a header of \(text.count) bytes")
        return withUnsafeBytes(of: UInt64(text.count).littleEndian, Array.init) + text
    }

    /// `text` as a JSON string.
    static func json(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case "\0"..<" ":
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    /// The range of the checksum's sixteen digits in a header.
    static func checksumDigits(in header: UnsafeRawBufferPointer) -> Range<Int>? {
        // Within a string the quotes would be escaped, so the mark cannot occur elsewhere.
        let mark = Array("\"\(checksumKey)\":\"\(checksumPrefix)".utf8)
        for start in 0..<max(0, header.count - mark.count - 15) where header[start] == mark[0] {
            if header[start...].starts(with: mark) { return start + mark.count..<start + mark.count + 16 }
        }
        return nil
    }

    static func hexadecimal(_ value: UInt64) -> [UInt8] {
        let digits = String(value, radix: 16)
        return Array((String(repeating: "0", count: 16 - digits.count) + digits).utf8)
    }
}
