import Glibc
import Reporting

/// An archive as a file, which is opened for each read: of thousands of archives not all could be open.
struct ArchiveFile {
    let path: String

    /// Calls `body` with a descriptor of the open file.
    ///
    /// - Throws: `Failure.inputOutput` where it cannot be opened, or is not a regular file.
    func open<Result>(_ body: (_ descriptor: Int32, _ stamp: FileStamp) throws -> Result) throws -> Result {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw cannotOpen(path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw Failure.system("cannot read \(path)", errno, .reading)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw Failure(.inputOutput, "\(path) is not a regular file: name a tar archive on a disk")
        }
        return try body(descriptor, FileStamp(status))
    }

    /// Fills `target` from `offset` on.
    ///
    /// - Throws: `Failure.inputOutput` where the system fails or the file ends before.
    func fill(_ target: UnsafeMutableRawBufferPointer, from descriptor: Int32, at offset: Int) throws {
        var done = 0
        while done < target.count {
            let count = pread(descriptor, target.baseAddress! + done, target.count - done, off_t(offset + done))
            if count < 0 {
                if errno == EINTR { continue }
                throw Failure.system("cannot read \(path)", errno, .reading)
            }
            guard count > 0 else { throw changed }
            done += count
        }
    }

    /// The bytes in `range` of the file, which must be the one of `stamp`.
    ///
    /// - Throws: `Failure.inputOutput`.
    func bytes(_ range: Range<Int>, of stamp: FileStamp) throws -> [UInt8] {
        try open { descriptor, found in
            guard found == stamp else { throw changed }
            return try [UInt8](unsafeUninitializedCapacity: range.count) { buffer, initialized in
                try fill(UnsafeMutableRawBufferPointer(buffer), from: descriptor, at: range.lowerBound)
                initialized = range.count
            }
        }
    }

    private var changed: Failure {
        Failure(.inputOutput, "\(path) was changed while it was read: start again when it is complete")
    }
}
