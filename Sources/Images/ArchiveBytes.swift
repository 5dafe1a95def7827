import Reporting

/// The bytes of an archive, read by their offsets.
package final class ArchiveBytes {
    /// The archive's path, as messages show it.
    let path: String
    let count: Int
    /// Reads from an offset on into memory, all of it, and throws where that is not possible.
    private let read: (_ offset: Int, _ target: UnsafeMutableRawBufferPointer) throws -> Void
    /// What was read last. Headers are often near one another, and large members between them are not read.
    private var window: [UInt8] = []
    private var windowStart = 0
    private static let windowSize = 2048

    init(path: String, count: Int, read: @escaping (Int, UnsafeMutableRawBufferPointer) throws -> Void) {
        self.path = path
        self.count = count
        self.read = read
    }

    /// An archive in memory.
    package convenience init(path: String, bytes: [UInt8]) {
        self.init(path: path, count: bytes.count) { offset, target in
            bytes.withUnsafeBytes {
                target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + target.count]))
            }
        }
    }

    /// The bytes in `range`, which must lie in the archive.
    func bytes(_ range: Range<Int>) throws -> ArraySlice<UInt8> {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "a range within the archive")
        if range.lowerBound < windowStart || range.upperBound > windowStart + window.count {
            let size = min(max(Self.windowSize, range.count), count - range.lowerBound)
            var fresh = [UInt8](repeating: 0, count: size)
            try fresh.withUnsafeMutableBytes { try read(range.lowerBound, $0) }
            (window, windowStart) = (fresh, range.lowerBound)
        }
        return window[range.lowerBound - windowStart..<range.upperBound - windowStart]
    }
}
