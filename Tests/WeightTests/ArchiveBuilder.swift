/// Builds a zip archive in which every field can be made wrong.
struct ArchiveBuilder {
    struct Member {
        var name: String
        var content: [UInt8]
        /// Values that are written instead of the correct ones.
        var method = 0
        var flags = 0
        var checksum: UInt32?
        var size: UInt32?
        var packed: UInt32?
        var localName: String?
        var localMethod: Int?
        var signature: UInt32 = 0x0403_4B50
        /// The position given in the directory.
        var start: UInt32?
        var extra: [UInt8] = []
    }

    var members: [Member] = []
    var membersSaid: Int?
    var directoryOffset = 0
    var directoryLength: UInt32?
    var comment: [UInt8] = []
    var afterDirectory: [UInt8] = []
    var disk = 0

    /// An archive in the layout of torch.save, with one storage of 16 bytes.
    init(_ pickle: [UInt8], storages: [(String, [UInt8])] = [("0", [UInt8](0..<16))]) {
        members = [
            Member(name: "x/data.pkl", content: pickle), Member(name: "x/byteorder", content: Array("little".utf8)),
        ]
        for (key, content) in storages { members.append(Member(name: "x/data/\(key)", content: content)) }
        members.append(Member(name: "x/version", content: Array("3\n".utf8)))
    }

    /// Changes the member `name` in place.
    func with(_ name: String, _ change: (inout Member) -> Void) -> ArchiveBuilder {
        var copy = self
        change(&copy.members[members.firstIndex { $0.name == name }!])
        return copy
    }

    func with(_ change: (inout ArchiveBuilder) -> Void) -> ArchiveBuilder {
        var copy = self
        change(&copy)
        return copy
    }

    static func word16(_ value: Int) -> [UInt8] {
        withUnsafeBytes(of: UInt16(truncatingIfNeeded: value).littleEndian, Array.init)
    }
    static func word32(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }
    static func word64(_ value: UInt64) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }

    static func joined(_ parts: [UInt8]...) -> [UInt8] { Array(parts.joined()) }

    /// CRC-32 bit by bit, independent of the reader's implementation.
    static func checksum(_ bytes: [UInt8]) -> UInt32 {
        var state = UInt32.max
        for byte in bytes {
            state ^= UInt32(byte)
            for _ in 0..<8 {
                let low = state & 1
                state >>= 1
                if low == 1 { state ^= 0xEDB8_8320 }
            }
        }
        return ~state
    }

    func bytes() -> [UInt8] {
        var bytes: [UInt8] = []
        var directory: [UInt8] = []
        for member in members {
            let start = bytes.count
            // No checksum for large contents, to save time: zero, as PyTorch writes if configured so.
            let checksum = member.checksum ?? (member.content.count > 1 << 16 ? 0 : Self.checksum(member.content))
            let (size, packed) = (
                member.size ?? UInt32(member.content.count), member.packed ?? UInt32(member.content.count)
            )
            func common(_ method: Int, _ name: [UInt8], _ extra: Int) -> [UInt8] {
                Self.joined(
                    Self.word16(0), Self.word16(member.flags), Self.word16(method), Self.word32(0),
                    Self.word32(checksum),
                    Self.word32(packed), Self.word32(size), Self.word16(name.count), Self.word16(extra))
            }
            let local = Array((member.localName ?? member.name).utf8)
            bytes += Self.joined(
                Self.word32(member.signature), common(member.localMethod ?? member.method, local, 0), local,
                member.content)
            let name = Array(member.name.utf8)
            directory += Self.joined(
                Self.word32(0x0201_4B50), Self.word16(0), common(member.method, name, member.extra.count),
                [UInt8](repeating: 0, count: 10),
                Self.word32(member.start ?? UInt32(start)), name, member.extra)
        }
        let start = bytes.count + directoryOffset
        bytes += directory + afterDirectory
        bytes += Self.joined(Self.word32(0x0605_4B50), Self.word16(disk), Self.word16(disk))
        for _ in 0..<2 { bytes += Self.word16(membersSaid ?? members.count) }
        bytes += Self.joined(
            Self.word32(directoryLength ?? UInt32(directory.count)), Self.word32(UInt32(start)),
            Self.word16(comment.count),
            comment)
        return bytes
    }
}

/// The opcodes of pickles.
enum Pickled {
    static func text(_ text: String) -> [UInt8] {
        join(Array("X".utf8), ArchiveBuilder.word32(UInt32(text.utf8.count)), Array(text.utf8))
    }
    static func join(_ parts: [UInt8]...) -> [UInt8] { Array(parts.joined()) }
    static func global(_ module: String, _ name: String) -> [UInt8] { Array("c\(module)\n\(name)\n".utf8) }
    static func opcodes(_ text: String) -> [UInt8] { Array(text.utf8) }

    /// A non-negative integer, or -1.
    static func integer(_ value: Int) -> [UInt8] {
        (0..<256).contains(value)
            ? [0x4B, UInt8(value)] : join([0x8A, 8], ArchiveBuilder.word64(UInt64(bitPattern: Int64(value))))
    }
    static func tuple(_ items: [[UInt8]]) -> [UInt8] { join(opcodes("("), Array(items.joined()), opcodes("t")) }
    static func integers(_ values: [Int]) -> [UInt8] { tuple(values.map(integer)) }

    /// The opcodes of a call.
    static func call(_ module: String, _ name: String, _ arguments: [[UInt8]]) -> [UInt8] {
        join(global(module, name), tuple(arguments), opcodes("R"))
    }

    static func storage(_ type: String = "FloatStorage", key: String = "0", count: Int = 4) -> [UInt8] {
        tuple([text("storage"), global("torch", type), text(key), text("cpu"), integer(count)]) + opcodes("Q")
    }
    static func tensor(
        _ storage: [UInt8] = storage(), offset: Int = 0, shape: [Int] = [4], strides: [Int] = [1],
        function: String = "_rebuild_tensor_v2",
        more: [[UInt8]] = []
    ) -> [UInt8] {
        let arguments: [[UInt8]] = [storage, integer(offset), integers(shape), integers(strides), [0x89], opcodes("N")]
        return call("torch._utils", function, arguments + more)
    }

    /// A complete pickle of protocol 2.
    static func whole(_ content: [UInt8]) -> [UInt8] { join([0x80, 2], content, opcodes(".")) }
    /// A pickle of a dictionary with keys "a", "b", … for the values in order.
    static func dictionary(_ values: [UInt8]...) -> [UInt8] {
        var content = opcodes("}")
        for (key, value) in zip("abcdefgh", values) { content += join(text(String(key)), value, opcodes("s")) }
        return whole(content)
    }
}
