import Reporting
import Glibc

/// The bytes of a file, mapped read-only. If another program shortens it while it is open, `MappedRanges` ends the process.
package final class MappedFile: @unchecked Sendable {
    package let path: String
    package let bytes: UnsafeRawBufferPointer
    private let isMapped: Bool
    /// Of `InputFiles`; nil for memory.
    private let number: Int?

    /// Maps the file at `path` and adds it to `InputFiles`. `wanted` is what messages ask for if it is a folder or device.
    ///
    /// Throws `Failure(.inputOutput)`.
    package init(path: String, wanted: Message) throws {
        self.path = path
        // Non-blocking: opening a named pipe must not wait for a writer.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            let number = errno
            throw Failure.cannotOpen(quoted(path: path), number)
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw Failure.system("cannot examine \(quoted(path: path))", errno, .examining)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            let what = status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "not a regular file"
            throw Failure(.inputOutput, "cannot read \(quoted(path: path)): it is \(what); name \(wanted)")
        }
        let opened = InputFiles.open(status, at: path)
        number = opened
        let length = Int(status.st_size)
        guard length > 0 else {
            // mmap refuses a length of 0.
            bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            isMapped = false
            return
        }
        guard let base = mmap(nil, length, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else {
            let reason = errno
            InputFiles.close(opened)
            throw Failure.system("cannot map \(quoted(path: path))", reason, .mapping)
        }
        bytes = UnsafeRawBufferPointer(start: base, count: length)
        isMapped = true
        MappedRanges.add(bytes, path: path)
    }

    /// A copy of the bytes of the file at `path`. (Foundation would expand a ~ at the start of the path.)
    ///
    /// Throws `Failure(.inputOutput)`.
    package static func contents(_ path: String, wanted: Message) throws -> [UInt8] {
        let file = try MappedFile(path: path, wanted: wanted)
        // The object owns the mapping.
        return withExtendedLifetime(file) { Array(file.bytes) }
    }

    /// Treats memory as the content of a file called `path`. It must stay valid and unchanged while this object lives.
    package init(bytes: UnsafeRawBufferPointer, path: String) {
        self.path = path
        self.bytes = bytes
        isMapped = false
        number = nil
    }

    deinit {
        number.map(InputFiles.close)
        guard isMapped else { return }
        MappedRanges.remove(bytes)
        munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count)
    }

    /// Lets the kernel read part of the file ahead.
    func willRead(_ range: Range<Int>) {
        guard isMapped, let base = bytes.baseAddress, !range.isEmpty else { return }
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let first = range.lowerBound / page * page
        madvise(UnsafeMutableRawPointer(mutating: base + first), range.upperBound - first, MADV_WILLNEED)
    }

    /// Lets the kernel drop the pages of part of the file, so that bytes that were read do not stay in resident memory.
    func releasePages(_ range: Range<Int>) {
        guard isMapped, let base = bytes.baseAddress else { return }
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let first = (range.lowerBound + page - 1) / page * page
        let last = range.upperBound / page * page
        if first < last { madvise(UnsafeMutableRawPointer(mutating: base + first), last - first, MADV_DONTNEED) }
    }
}
