import Reporting
import Glibc
import Synchronization

/// A file that appears whole or not at all: written beside its place as `path.part-<process>`, forced to the disk,
/// renamed into place, and the folder forced to the disk too. Whatever fails, the part is removed and what stood at
/// `path` stays; after `removePartsOnSignals`, where a signal ends the process, too.
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

    /// Refuses an output that is the file of an input, by whatever path: writing it would destroy that.
    ///
    /// Throws `Failure(.usage)`.
    public static func requireOther(_ output: String, than inputs: some Sequence<String>) throws {
        var written = stat(), read = stat()
        guard stat(output, &written) == 0 else { return }
        for input in inputs
        where stat(input, &read) == 0 && (read.st_dev, read.st_ino) == (written.st_dev, written.st_ino) {
            throw Failure(
                .usage,
                "the output \(quoted(path: output)) is the input \(quoted(path: input)) itself: name another output")
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
                        "cannot write \(quoted(path: path)): it is a symbolic link that leads nowhere; name another file"
                    )
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
        Self.parts.add(part)
        descriptor = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o666)
        if descriptor < 0 {
            let number = errno
            Self.parts.remove(part)
            throw failure(number)
        }
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
        Self.parts.remove(part)
        try Self.synchronizeFolder(of: path)
    }

    private func abandon() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
        unlink(part)
        Self.parts.remove(part)
    }

    // MARK: Signals

    /// From now on SIGINT, SIGTERM and SIGHUP, where they would have ended the process, remove the parts of files that
    /// are being written first.
    public static func removePartsOnSignals() {
        // A global is initialised at its first use, which must not be in the handler.
        _ = parts
        var action = sigaction()
        action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND))
        action.__sigaction_handler.sa_handler = { number in
            AtomicFile.parts.unlinkAll()
            raise(number)
        }
        for number in [SIGINT, SIGTERM, SIGHUP] {
            var before = sigaction()
            sigaction(number, nil, &before)
            // SIG_DFL is no handler at all.
            if before.__sigaction_handler.sa_handler == nil { sigaction(number, &action, nil) }
        }
    }

    private static let parts = Parts()

    /// The paths of parts, where a signal's handler may read them: a few at most are written at a time.
    private final class Parts: @unchecked Sendable {
        private let slots = 4, size = Int(PATH_MAX)
        private let memory: UnsafeMutablePointer<CChar>
        private let lock = Mutex(())

        init() {
            memory = .allocate(capacity: slots * size)
            memory.initialize(repeating: 0, count: slots * size)
        }

        func add(_ path: String) {
            lock.withLock { _ in
                guard path.utf8.count < size,
                    let slot = (0..<slots).lazy.map({ self.memory + $0 * self.size }).first(where: { $0[0] == 0 })
                else { return }
                path.withCString { text in
                    // The first letter, which says that there is a path, last.
                    for index in stride(from: path.utf8.count, through: 0, by: -1) { slot[index] = text[index] }
                }
            }
        }

        func remove(_ path: String) {
            lock.withLock { _ in
                for slot in (0..<slots).map({ memory + $0 * size }) where strcmp(slot, path) == 0 { slot[0] = 0 }
            }
        }

        func unlinkAll() {
            for slot in 0..<slots where memory[slot * size] != 0 { unlink(memory + slot * size) }
        }
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
        default: remedyForOpening(number, otherwise: "check the folder and its disk")
        }
    }

    /// Forces the entries of the folder that holds `path` to the disk, so that a rename or removal survives a power
    /// cut.
    public static func synchronizeFolder(of path: String) throws {
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else {
            let number = errno
            throw Failure(
                .inputOutput,
                "cannot open folder \(quoted(path: folder)): \(errorText(number)); "
                    + "\(remedyForOpening(number, otherwise: "check its permissions"))")
        }
        defer { close(descriptor) }
        // EINVAL: the file system has nothing to force.
        guard fsync(descriptor) == 0 || errno == EINVAL else {
            throw Failure(
                .inputOutput,
                "cannot write folder \(quoted(path: folder)) to the disk: \(errorText(errno)); check its disk"
            )
        }
    }
}
