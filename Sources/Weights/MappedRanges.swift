import Glibc
import Reporting
import Synchronization

/// Where files are mapped, in memory that a signal handler may read.
///
/// A page of a mapped file that cannot be read, as the file was shortened or its disk failed, is not an error of a call:
/// the kernel sends SIGBUS.
public enum MappedRanges {
    private struct Range {
        var start: UInt
        var end: UInt
        /// The path for a person, as a C string.
        var path: UnsafeMutablePointer<CChar>?
    }

    /// Files beyond these many at a time have no name in the message.
    private static let capacity = 1024
    private static let ranges: UnsafeMutableBufferPointer<Range> = {
        let ranges = UnsafeMutableBufferPointer<Range>.allocate(capacity: capacity)
        ranges.initialize(repeating: Range(start: 0, end: 0, path: nil))
        return ranges
    }()
    private static let lock = Mutex(())

    static func add(_ bytes: UnsafeRawBufferPointer, path: String) {
        lock.withLock { _ in
            guard let slot = ranges.firstIndex(where: { $0.path == nil }) else { return }
            ranges[slot] = Range(
                start: UInt(bitPattern: bytes.baseAddress),
                end: UInt(bitPattern: bytes.baseAddress) + UInt(bytes.count),
                path: strdup(quoted(path: path)))
        }
    }

    static func remove(_ bytes: UnsafeRawBufferPointer) {
        lock.withLock { _ in
            let start = UInt(bitPattern: bytes.baseAddress)
            guard let slot = ranges.firstIndex(where: { $0.path != nil && $0.start == start }) else { return }
            free(ranges[slot].path)
            ranges[slot] = Range(start: 0, end: 0, path: nil)
        }
    }

    private static var sentence: StaticString {
        ": it was shortened while it was read, or its disk failed; see that the file is whole, and try again"
    }

    private static func path(at address: UInt) -> UnsafeMutablePointer<CChar>? {
        ranges.first(where: { $0.path != nil && $0.start <= address && address < $0.end })?.path
    }

    /// The failure for a page of a mapped file that the kernel could not read in a call.
    static func unreadable(_ page: UnsafeRawPointer) -> Failure {
        let name = path(at: UInt(bitPattern: page)).map { String(cString: $0) } ?? "a file"
        return Failure(.inputOutput, "cannot read \(name)\(sentence.description)")
    }

    /// Lets a page of a mapped file that cannot be read end the process with the code of `Failure.Code.inputOutput` and a
    /// sentence with the file's name. Parts of unfinished files are removed.
    public static func endOnUnreadablePages() {
        // Globals are initialised at their first use, and that must not happen in the handler.
        _ = ranges
        _ = AtomicFile.parts
        var action = sigaction()
        action.sa_flags = SA_SIGINFO
        action.__sigaction_handler.sa_sigaction = { _, information, _ in
            AtomicFile.parts.unlinkAll()
            let address = UInt(bitPattern: information?.pointee._sifields._sigfault.si_addr)
            MappedRanges.write("error: cannot read ")
            if let path = MappedRanges.path(at: address) {
                _ = Glibc.write(2, path, strlen(path))
            } else {
                MappedRanges.write("a file")
            }
            MappedRanges.write(MappedRanges.sentence)
            MappedRanges.write("\n")
            _exit(Failure.Code.inputOutput.rawValue)
        }
        sigaction(SIGBUS, &action, nil)
    }

    private static func write(_ text: StaticString) { _ = Glibc.write(2, text.utf8Start, text.utf8CodeUnitCount) }
}
