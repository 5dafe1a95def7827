/// The XXH64 checksum (Yann Collet; github.com/Cyan4973/xxHash, doc/xxhash_spec.md), computed incrementally. It detects
/// accidental damage, not forgery, and is as fast as memory.
public struct XXHash64 {
    private static let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
    private static let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
    private static let prime3: UInt64 = 0x1656_67B1_9E37_79F9
    private static let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
    private static let prime5: UInt64 = 0x27D4_EB2F_1656_67C5

    private var lanes: (UInt64, UInt64, UInt64, UInt64)
    private let seed: UInt64
    private var total: UInt64 = 0
    /// The last bytes so far, fewer than a stripe of 32.
    private var pending: [UInt8] = []

    public init(seed: UInt64 = 0) {
        self.seed = seed
        lanes = (seed &+ Self.prime1 &+ Self.prime2, seed &+ Self.prime2, seed, seed &- Self.prime1)
    }

    /// Adds the next bytes. The result does not depend on how they are split into calls.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        total &+= UInt64(bytes.count)
        var rest = bytes[...]
        if !pending.isEmpty {
            let taken = min(32 - pending.count, rest.count)
            pending.append(contentsOf: rest.prefix(taken))
            rest = rest.dropFirst(taken)
            guard pending.count == 32 else { return }
            var lanes = self.lanes
            pending.withUnsafeBytes { Self.consume($0, into: &lanes) }
            self.lanes = lanes
            pending.removeAll(keepingCapacity: true)
        }
        let whole = rest.count / 32 * 32
        Self.consume(UnsafeRawBufferPointer(rebasing: rest.prefix(whole)), into: &lanes)
        pending.append(contentsOf: rest.dropFirst(whole))
    }

    /// The checksum of all bytes so far.
    public func finish() -> UInt64 {
        var hash: UInt64
        if total >= 32 {
            hash =
                Self.rotate(lanes.0, 1) &+ Self.rotate(lanes.1, 7) &+ Self.rotate(lanes.2, 12)
                &+ Self.rotate(lanes.3, 18)
            for lane in [lanes.0, lanes.1, lanes.2, lanes.3] {
                hash = (hash ^ Self.round(0, lane)) &* Self.prime1 &+ Self.prime4
            }
        } else {
            hash = seed &+ Self.prime5
        }
        hash &+= total
        pending.withUnsafeBytes { tail in
            var position = 0
            while position + 8 <= tail.count {
                hash ^= Self.round(
                    0, UInt64(littleEndian: tail.loadUnaligned(fromByteOffset: position, as: UInt64.self)))
                hash = Self.rotate(hash, 27) &* Self.prime1 &+ Self.prime4
                position += 8
            }
            if position + 4 <= tail.count {
                let word = UInt32(littleEndian: tail.loadUnaligned(fromByteOffset: position, as: UInt32.self))
                hash ^= UInt64(word) &* Self.prime1
                hash = Self.rotate(hash, 23) &* Self.prime2 &+ Self.prime3
                position += 4
            }
            for byte in tail[position...] {
                hash ^= UInt64(byte) &* Self.prime5
                hash = Self.rotate(hash, 11) &* Self.prime1
            }
        }
        hash = (hash ^ hash >> 33) &* Self.prime2
        hash = (hash ^ hash >> 29) &* Self.prime3
        return hash ^ hash >> 32
    }

    /// `finish()` as it is written in files: "xxh64:" and sixteen hexadecimal digits.
    public var text: String {
        SafeTensorsWriter.checksumPrefix + String(decoding: SafeTensorsWriter.hexadecimal(finish()), as: UTF8.self)
    }

    /// Processes `bytes`, which are complete stripes of 32.
    private static func consume(_ bytes: UnsafeRawBufferPointer, into lanes: inout (UInt64, UInt64, UInt64, UInt64)) {
        var (a, b, c, d) = lanes
        for position in stride(from: 0, to: bytes.count, by: 32) {
            a = round(a, UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)))
            b = round(b, UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 8, as: UInt64.self)))
            c = round(c, UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 16, as: UInt64.self)))
            d = round(d, UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 24, as: UInt64.self)))
        }
        lanes = (a, b, c, d)
    }

    @inline(__always)
    private static func round(_ lane: UInt64, _ word: UInt64) -> UInt64 {
        rotate(lane &+ word &* prime2, 31) &* prime1
    }

    @inline(__always)
    private static func rotate(_ value: UInt64, _ count: UInt64) -> UInt64 {
        value &<< count | value &>> (64 &- count)
    }
}
