/// A reflected cyclic redundancy check of 32 bits, computed eight bytes at a time.
package struct CRC32 {
    /// What the bytes are divided by.
    package struct Polynomial: Sendable {
        /// [8, 256]: table[k][b] is the contribution of byte b that is followed by k bytes.
        fileprivate let table: [UInt32]

        /// The CRC-32 of zip archives (ISO 3309).
        static let zip = Polynomial(0xEDB8_8320)
        /// The CRC-32C of TFRecords and iSCSI (RFC 3720).
        package static let castagnoli = Polynomial(0x82F6_3B78)

        /// - Parameter bits: the polynomial, its coefficients from the highest bit down in ascending order.
        private init(_ bits: UInt32) {
            var table = [UInt32](repeating: 0, count: 8 * 256)
            for byte in 0..<256 {
                table[byte] = (0..<8).reduce(UInt32(byte)) { value, _ in
                    value & 1 == 0 ? value >> 1 : value >> 1 ^ bits
                }
            }
            for index in 256..<8 * 256 {
                table[index] = table[index - 256] >> 8 ^ table[Int(table[index - 256] & 0xFF)]
            }
            self.table = table
        }
    }

    private let table: [UInt32]
    private var state: UInt32 = .max

    package init(_ polynomial: Polynomial) { table = polynomial.table }

    /// The zip archive's.
    init() { self.init(.zip) }

    /// The checksum of all bytes so far.
    package var value: UInt32 { ~state }

    /// Adds the next bytes. The result does not depend on how they are split into calls.
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var state = state
        table.withUnsafeBufferPointer { table in
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

    package static func of(_ bytes: UnsafeRawBufferPointer, _ polynomial: Polynomial) -> UInt32 {
        var checksum = CRC32(polynomial)
        checksum.update(bytes)
        return checksum.value
    }

    static func of(_ bytes: UnsafeRawBufferPointer) -> UInt32 { of(bytes, .zip) }
}
