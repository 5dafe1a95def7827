/// Writes a zip archive of stored members in PyTorch's layout: all names begin with `archive/`, contents begin at
/// multiples of 64 bytes and are followed by their size and checksum, and ZIP64 is used where needed.
struct ZIPWriter {
    private struct Member {
        let name: [UInt8]
        let start: Int
        let size: Int
        let checksum: UInt32
    }

    private static let alignment = 64
    /// From this value on, a size or position is written in the ZIP64 field.
    private static let long = Int(UInt32.max)

    private let file: AtomicFile
    private var position = 0
    private var members: [Member] = []

    init(_ file: AtomicFile) {
        self.file = file
    }

    mutating func add(_ name: String, _ content: [UInt8]) throws {
        try add(name, byteCount: content.count) { append in try content.withUnsafeBytes { try append($0) } }
    }

    /// Adds a member of `byteCount` bytes, which `source` provides in one or several pieces.
    mutating func add(_ name: String, byteCount: Int, source: TorchArchiveWriter.Source) throws {
        let name = Array("archive/\(name)".utf8)
        let start = position
        // An extra field of a kind that readers ignore ("FB") pads to the alignment; its header takes 4 bytes.
        let unpadded = start + 30 + name.count + 4
        let padding = (Self.alignment - unpadded % Self.alignment) % Self.alignment
        var header = Fields()
        header.word32(0x0403_4B50)
        header.member(name: name, checksum: 0, packed: 0, size: 0)
        header.word16(4 + padding)
        header.bytes += name
        header.word16(0x4246)
        header.word16(padding)
        header.bytes += [UInt8](repeating: UInt8(ascii: "Z"), count: padding)
        try append(header.bytes)

        var checksum = CRC32()
        var taken = 0
        try source { piece in
            taken += piece.count
            precondition(taken <= byteCount, "more bytes than the member has")
            checksum.update(piece)
            try file.append(piece)
        }
        precondition(taken == byteCount, "\(taken) bytes for a member of \(byteCount)")
        position += byteCount

        // The checksum and sizes, unknown when the header was written; sizes of 8 bytes for a member that needs them.
        var descriptor = Fields()
        descriptor.word32(0x0807_4B50)
        descriptor.word32(Int(checksum.value))
        for _ in 0..<2 { byteCount >= Self.long ? descriptor.word64(byteCount) : descriptor.word32(byteCount) }
        try append(descriptor.bytes)
        members.append(Member(name: name, start: start, size: byteCount, checksum: checksum.value))
    }

    /// Writes the central directory and the end records.
    mutating func finish() throws {
        let start = position
        for member in members {
            var long = Fields()
            for value in [member.size, member.size, member.start] where value >= Self.long { long.word64(value) }
            var entry = Fields()
            entry.word32(0x0201_4B50)
            entry.word16(0)
            entry.member(
                name: member.name, checksum: member.checksum, packed: min(member.size, Self.long),
                size: min(member.size, Self.long))
            entry.word16(long.bytes.isEmpty ? 0 : 4 + long.bytes.count)
            // No comment, first disk, no attributes.
            for _ in 0..<5 { entry.word16(0) }
            entry.word32(min(member.start, Self.long))
            entry.bytes += member.name
            if !long.bytes.isEmpty {
                entry.word16(1)
                entry.word16(long.bytes.count)
                entry.bytes += long.bytes
            }
            try append(entry.bytes)
        }
        let end = position
        var record = Fields()
        record.word32(0x0606_4B50)
        record.word64(44)
        record.word16(45)
        record.word16(45)
        record.word32(0)
        record.word32(0)
        for value in [members.count, members.count, end - start, start] { record.word64(value) }
        record.word32(0x0706_4B50)
        record.word32(0)
        record.word64(end)
        record.word32(1)
        record.word32(0x0605_4B50)
        record.word32(0)
        for _ in 0..<2 { record.word16(min(members.count, 0xFFFF)) }
        record.word32(min(end - start, Self.long))
        record.word32(min(start, Self.long))
        record.word16(0)
        try append(record.bytes)
    }

    private mutating func append(_ bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { try file.append($0) }
        position += bytes.count
    }

    private struct Fields {
        var bytes: [UInt8] = []
        mutating func word16(_ value: Int) { bytes += withUnsafeBytes(of: UInt16(value).littleEndian, Array.init) }
        mutating func word32(_ value: Int) { bytes += withUnsafeBytes(of: UInt32(value).littleEndian, Array.init) }
        mutating func word64(_ value: Int) { bytes += withUnsafeBytes(of: UInt64(value).littleEndian, Array.init) }

        /// The fields that a member's own header and its directory entry have in common.
        mutating func member(name: [UInt8], checksum: UInt32, packed: Int, size: Int) {
            // Version 4.5 to extract (ZIP64); flags for UTF-8 names and sizes after the content; stored; time 0; date
            // 33, the first day of 1980.
            for value in [45, 0x0808, 0, 0, 33] { word16(value) }
            word32(Int(checksum))
            word32(packed)
            word32(size)
            word16(name.count)
        }
    }
}
