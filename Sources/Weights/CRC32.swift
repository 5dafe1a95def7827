/// The CRC-32 of zip archives (ISO 3309, reflected polynomial 0xEDB88320), computed eight bytes at a time.
struct CRC32 {
    /// [8, 256]: table[k][b] is the contribution of byte b that is followed by k bytes.
    private static let table: [UInt32] = {
        var table = [UInt32](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            table[byte] = (0..<8).reduce(UInt32(byte)) { value, _ in
                value & 1 == 0 ? value >> 1 : value >> 1 ^ 0xEDB8_8320
            }
        }
        for index in 256..<8 * 256 { table[index] = table[index - 256] >> 8 ^ table[Int(table[index - 256] & 0xFF)] }
        return table
    }()

    private var state: UInt32 = .max

    /// The checksum of all bytes so far.
    var value: UInt32 { ~state }

    /// Adds the next bytes. The result does not depend on how they are split into calls.
    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var state = state
        Self.table.withUnsafeBufferPointer { table in
            var position = 0
            while position + 8 <= bytes.count {
                let word =
                    UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)) ^ UInt64(state)
                state = table[7 * 256 + Int(word & 0xFF)]
                for byte in 1..<8 { state ^= table[(7 - byte) * 256 + Int(word >> (8 * UInt64(byte)) & 0xFF)] }
                position += 8
            }
            for byte in bytes[position...] { state = state >> 8 ^ table[Int(UInt8(truncatingIfNeeded: state) ^ byte)] }
        }
        self.state = state
    }

    static func of(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var checksum = CRC32()
        checksum.update(bytes)
        return checksum.value
    }
}
