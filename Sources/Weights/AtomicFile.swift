import Glibc
import Tensors

/// A file that appears whole or not at all: written beside its place as `path.part-<process>`, forced to the disk, renamed into
/// place, and the folder forced to the disk too. Whatever fails, the part is removed and what stood at `path` stays.
public final class AtomicFile {
    /// What is between the place's name and the process number in the name of a part.
    public static let partMark = ".part-"

    /// Where the file will be; a symbolic link given as `path` is followed.
    public let path: String
    private let part: String
    private var descriptor: Int32

    /// Writes one file: `body` appends to it, and only when it returns does the file take its place.
    ///
    /// Throws `Failure(.inputOutput)` with the system's reason, or what `body` throws.
    public static func write(to path: String, _ body: (AtomicFile) throws -> Void) throws {
        let file = try AtomicFile(path)
        do {
            try body(file)
            try file.commit()
        } catch {
            file.abandon()
            throw error
        }
    }

    /// Writes `bytes` as the whole of the file at `path`.
    public static func write(_ bytes: some Sequence<UInt8>, to path: String) throws {
        let bytes = Array(bytes)
        try write(to: path) { file in try bytes.withUnsafeBytes { try file.append($0) } }
    }

    private init(_ path: String) throws {
        var place = path
        var status = stat()
        if lstat(path, &status) == 0 {
            if status.st_mode & S_IFMT == S_IFLNK {
                guard let resolved = realpath(path, nil) else {
                    throw Failure(
                        .inputOutput,
                        "cannot write \(quoted(path: path)): it is a symbolic link that leads nowhere; name another file")
                }
                place = String(cString: resolved)
                free(resolved)
                stat(place, &status)
            }
            // Renaming would replace a device by a file.
            guard status.st_mode & S_IFMT == S_IFREG else {
                let what = status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "not a regular file"
                throw Failure(.inputOutput, "cannot write \(quoted(path: path)): it is \(what); name another file")
            }
        }
        self.path = place
        part = "\(place)\(Self.partMark)\(getpid())"
        descriptor = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o666)
        if descriptor < 0 { throw failure(errno) }
    }

    /// Adds `bytes` to the end.
    public func append(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let written = Glibc.write(descriptor, rest.base.baseAddress! + rest.startIndex, rest.count)
            if written < 0 {
                if errno == EINTR { continue }
                throw failure(errno)
            }
            rest = rest.dropFirst(written)
        }
    }

    /// Writes `bytes` over what was appended before, from `offset` on; for headers that are known only at the end.
    public func overwrite(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
        var done = 0
        while done < bytes.count {
            let written = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
            if written < 0 {
                if errno == EINTR { continue }
                throw failure(errno)
            }
            done += written
        }
    }

    private func commit() throws {
        guard fsync(descriptor) == 0 else { throw failure(errno) }
        let closed = close(descriptor)
        descriptor = -1
        guard closed == 0 else { throw failure(errno) }
        guard rename(part, path) == 0 else { throw failure(errno) }
        try Self.synchronizeFolder(of: path)
    }

    private func abandon() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
        unlink(part)
    }

    private func failure(_ number: Int32) -> Failure {
        Failure(.inputOutput, "cannot write \(quoted(path: path)): \(errorText(number)); \(Self.remedy(number))")
    }

    private static func remedy(_ number: Int32) -> String {
        switch number {
        case ENOSPC, EDQUOT: "free some space or choose another folder"
        case EFBIG: "raise the limit on the size of files (ulimit -f)"
        case ENOENT, ENOTDIR: "create its folder first"
        case EACCES, EPERM, EROFS: "choose a folder that can be written"
        default: "check the folder and its disk"
        }
    }

    /// Forces the entries of the folder that holds `path` to the disk, so that a rename or removal survives a power cut.
    public static func synchronizeFolder(of path: String) throws {
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw Failure(
                .inputOutput, "cannot open folder \(quoted(path: folder)): \(errorText(errno)); check its permissions")
        }
        defer { close(descriptor) }
        // EINVAL: the file system has nothing to force.
        guard fsync(descriptor) == 0 || errno == EINVAL else {
            throw Failure(
                .inputOutput, "cannot write folder \(quoted(path: folder)) to the disk: \(errorText(errno)); check its disk"
            )
        }
    }
}
