import CCodecs

/// The chunks of a PNG file up to IEND or the first one that is broken, without a check of their checksums.
struct PNGChunks: Sequence, IteratorProtocol {
    /// A chunk's type, four letters as a big-endian number, and the bytes of its data.
    typealias Chunk = (type: UInt32, data: Range<Int>)

    static let header: UInt32 = 0x4948_4452, pixels: UInt32 = 0x4944_4154, end: UInt32 = 0x4945_4E44
    static let transparency: UInt32 = 0x7452_4E53, exif: UInt32 = 0x6558_4966
    static let text: UInt32 = 0x7445_5874, compressedText: UInt32 = 0x7A54_5874, internationalText: UInt32 = 0x6954_5874

    private let file: UnsafeRawBufferPointer
    private var offset = 8

    init(_ file: UnsafeRawBufferPointer) {
        self.file = file
    }

    mutating func next() -> Chunk? {
        guard offset + 8 <= file.count else { return nil }
        let length = Int(bigEndian32(file, offset)), type = bigEndian32(file, offset + 4)
        let start = offset + 8
        guard type != Self.end, length <= file.count - start, file[start - 4..<start].allSatisfy(Self.isWordByte) else {
            return nil
        }
        offset = start + length + 4
        return (type, start..<start + length)
    }

    /// Whether a type may hold the byte, for Pillow: Python's `\w`.
    private static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x5F: true
        default: false
        }
    }
}

/// The number in the four bytes from `offset` on.
func bigEndian32(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt32 {
    UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
}

/// The content of a zlib stream; nil where it is damaged or longer than `limit`.
func inflated(_ stream: UnsafeRawBufferPointer, limit: Int) -> [UInt8]? {
    var count = -1
    let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, initialized in
        count = dmae_zlib_inflate(
            stream.bindMemory(to: UInt8.self).baseAddress, stream.count, buffer.baseAddress, limit)
        initialized = Swift.max(0, count)
    }
    return count < 0 ? nil : bytes
}
