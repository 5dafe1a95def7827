import CKernels
import Foundation

/// Memory that ends at an inaccessible page: a kernel that reads or writes one element too far crashes the test run.
/// Elements that no kernel may write hold the sentinel.
final class GuardedMemory {
    private let base: UnsafeMutableRawPointer
    private let capacity: Int
    private static let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    static let sentinel: Float = 8_388_607.5

    init(floats: Int) {
        capacity = (floats * 4 + 64 + Self.page - 1) / Self.page * Self.page
        base = mmap(nil, capacity + Self.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        precondition(base != MAP_FAILED, "mmap failed")
        precondition(mprotect(base + capacity, Self.page, PROT_NONE) == 0, "mprotect failed")
    }
    deinit { munmap(base, capacity + Self.page) }

    /// The last `count` floats before the guard page: seldom aligned to more than four bytes.
    func floats(_ count: Int) -> UnsafeMutablePointer<Float> {
        precondition(count * 4 <= capacity)
        return (base + (capacity - count * 4)).assumingMemoryBound(to: Float.self)
    }
    /// The last `bytes` before the guard page.
    func bytes(_ bytes: Int) -> UnsafeMutableRawPointer {
        precondition(bytes <= capacity)
        return base + (capacity - bytes)
    }
    /// A matrix of random rows of `width`, with the sentinel between the rows.
    func matrix(rows: Int, width: Int, ld: Int, _ random: inout Random) -> UnsafeMutablePointer<Float> {
        let count = rows == 0 ? 0 : (rows - 1) * ld + width
        let matrix = floats(count)
        for i in 0..<count { matrix[i] = i % ld < width ? random.float() : Self.sentinel }
        return matrix
    }
    /// `values` as elements of `type`, the last of them before the guard page.
    func store(_ values: [Float], _ type: dmae_type) -> UnsafeMutableRawPointer {
        let size = type == DMAE_TYPE_BF16 ? 2 : 4
        precondition(values.count * size <= capacity)
        let start = base + (capacity - values.count * size)
        for (i, value) in values.enumerated() {
            if type == DMAE_TYPE_BF16 {
                start.storeBytes(of: UInt16(bf16(value).bitPattern >> 16), toByteOffset: 2 * i, as: UInt16.self)
            } else {
                start.storeBytes(of: value, toByteOffset: 4 * i, as: Float.self)
            }
        }
        return start
    }
    /// `bytes` of workspace, aligned to 64 and filled with NaN, which shows if a kernel reads memory that it did not
    /// write.
    func workspace(bytes: Int) -> UnsafeMutableRawPointer {
        precondition(bytes + 64 <= capacity)
        let start = (capacity - bytes) / 64 * 64
        memset(base + start, 0xff, capacity - start)
        return base + start
    }
}

/// To the nearest bf16, ties to even.
func bf16(_ x: Float) -> Float {
    let bits = x.bitPattern
    return Float(bitPattern: (bits &+ 0x7fff &+ (bits >> 16 & 1)) & 0xffff_0000)
}

/// A copy of `count` elements of `type`.
func read(_ start: UnsafeRawPointer, _ count: Int, _ type: dmae_type) -> [Float] {
    (0..<count).map {
        type == DMAE_TYPE_BF16
            ? Float(bitPattern: UInt32(start.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)) << 16)
            : start.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self)
    }
}

/// A copy of `count` floats.
func array(_ start: UnsafePointer<Float>, _ count: Int) -> [Float] {
    Array(UnsafeBufferPointer(start: start, count: count))
}
