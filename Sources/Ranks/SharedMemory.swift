import CRanks
import Glibc

/// Memory that several processes of one machine map: one makes and writes it, the others read it.
///
/// It has no name in any folder, so that nothing is left of it, however its processes end.
public final class SharedMemory {
    /// Where other processes of the machine find it.
    public struct Place: Codable, Equatable, Sendable {
        let process: Int32
        let descriptor: Int32
        /// What tells it from other memory that a process of that number has.
        let device: UInt64
        let inode: UInt64
        let bytes: Int
    }

    /// The system does not allow it.
    public struct Refusal: Error, Codable, Equatable {
        /// Why, as the end of a sentence.
        public let reason: String
        /// What to do about it.
        public let remedy: String

        public init(_ reason: String, remedy: String) {
            self.reason = reason
            self.remedy = remedy
        }
    }

    public let bytes: Int
    /// Aligned to whole pages.
    public let start: UnsafeMutableRawPointer
    /// Whether this process may write it: the one that has made it, until it is `finished`.
    public private(set) var isWritable: Bool
    private var descriptor: Int32

    /// Makes memory of that many bytes, all zero, and reserves them.
    ///
    /// - Throws: `Refusal`.
    public init(bytes: Int) throws {
        let descriptor = dmae_memory_create(max(1, bytes))
        guard descriptor >= 0 else { throw Self.refusal(-descriptor) }
        guard let start = Self.map(descriptor, bytes, PROT_READ | PROT_WRITE) else {
            let error = errno
            Glibc.close(descriptor)
            throw Self.refusal(error)
        }
        (self.bytes, self.start, self.descriptor, isWritable) = (bytes, start, descriptor, true)
    }

    /// Maps what another process has made, to read it.
    ///
    /// - Throws: `Refusal`, also where the process has closed it.
    public init(at place: Place) throws {
        // Without a wait, whatever the path should lead to.
        let path = "/proc/\(place.process)/fd/\(place.descriptor)"
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        var found = stat()
        guard descriptor >= 0, fstat(descriptor, &found) == 0, UInt64(found.st_dev) == place.device,
            UInt64(found.st_ino) == place.inode, found.st_size >= place.bytes
        else {
            if descriptor >= 0 { Glibc.close(descriptor) }
            throw Refusal(
                "they do not see one another in /proc",
                remedy: "start all of a machine as one user and in one container to share them")
        }
        defer { Glibc.close(descriptor) }
        guard let start = Self.map(descriptor, place.bytes, PROT_READ) else { throw Self.refusal(errno) }
        (bytes, self.start, self.descriptor, isWritable) = (place.bytes, start, -1, false)
    }

    deinit {
        close()
        munmap(start, max(1, bytes))
    }

    /// Where others find it, until `close`.
    public var place: Place {
        precondition(descriptor >= 0, "only what is open has a place")
        var found = stat()
        fstat(descriptor, &found)
        return Place(
            process: getpid(), descriptor: descriptor, device: UInt64(found.st_dev), inode: UInt64(found.st_ino),
            bytes: bytes)
    }

    /// Lets no more processes map it.
    public func close() {
        if descriptor >= 0 { Glibc.close(descriptor) }
        descriptor = -1
    }

    /// From now on this process reads it only, as the others do.
    public func finish() {
        mprotect(start, max(1, bytes), PROT_READ)
        isWritable = false
    }

    private static func map(_ descriptor: Int32, _ bytes: Int, _ protection: Int32) -> UnsafeMutableRawPointer? {
        guard let start = mmap(nil, max(1, bytes), protection, MAP_SHARED, descriptor, 0), start != MAP_FAILED else {
            return nil
        }
        // Where the system has large pages for memory of this kind.
        madvise(start, max(1, bytes), Int32(MADV_HUGEPAGE))
        return start
    }

    private static func refusal(_ error: Int32) -> Refusal {
        let text = String(cString: strerror(error))
        let remedy =
            switch error {
            case EFBIG: "raise the limit on the size of files (ulimit -f) to share them"
            case ENOMEM, ENOSPC: "free some memory to share them"
            default: "let its processes call memfd_create to share them"
            }
        return Refusal("the system gives them no memory to share (\(text))", remedy: remedy)
    }
}
