import Reporting
import Glibc
import Synchronization

/// A file that appears complete or not at all. It is written beside its place as `path.part-<process>-<random>`, synced
/// to the disk and renamed into place; then the folder is synced as well. Processes that write the same file at a time,
/// perhaps with the same number in different containers, each have a part of their own: the last one to finish wins.
///
/// On a failure the part is removed and an earlier file at `path` stays as it was. After `removePartsOnSignals` this
/// also holds if a signal ends the process.
public final class AtomicFile {
    /// The text between the file's name and the process number in the name of a part.
    public static let partMark = ".part-"

    /// The path of the finished file; a symbolic link given as `path` is resolved.
    public let path: String
    private let part: String
    private var descriptor: Int32

    /// Writes one file: `body` appends to it, and the file takes its place after `body` returns.
    ///
    /// - Parameter replacesLink: whether a symbolic link at `path` is replaced; otherwise the file that it leads to is.
    /// - Throws: `Failure(.inputOutput)` with the system's reason, or what `body` throws.
    public static func write(to path: String, replacesLink: Bool = false, _ body: (AtomicFile) throws -> Void) throws {
        let file = try AtomicFile(path, replacesLink: replacesLink)
        do {
            try body(file)
            try file.finish()
            try file.place()
            try synchronizeFolder(of: file.path)
        } catch {
            file.abandon()
            throw error
        }
    }

    /// Requires that a file can be written at `path`, before long work for its contents.
    ///
    /// Throws `Failure(.inputOutput)` with the system's reason.
    public static func requirePlace(at path: String) throws {
        let file = try AtomicFile(path)
        defer { file.abandon() }
        guard unlink(file.part) == 0 else { throw file.failure(errno) }
    }

    /// Writes a file that consists of `bytes`.
    public static func write(_ bytes: some Sequence<UInt8>, to path: String, replacesLink: Bool = false) throws {
        let bytes = Array(bytes)
        try write(to: path, replacesLink: replacesLink) { file in try bytes.withUnsafeBytes { try file.append($0) } }
    }

    init(_ path: String, replacesLink: Bool = false) throws {
        var place = path
        if var status = try fileStatus(path, followsLinks: false),
            !(replacesLink && status.st_mode & S_IFMT == S_IFLNK)
        {
            if status.st_mode & S_IFMT == S_IFLNK {
                guard let resolved = realpath(path, nil) else {
                    throw Failure(
                        .inputOutput,
                        "cannot write \(quoted(path: path)): it is a symbolic link that leads nowhere; name another "
                            + "file"
                    )
                }
                place = String(cString: resolved)
                free(resolved)
                stat(place, &status)
            }
            // Renaming a file to a device would replace it.
            guard status.st_mode & S_IFMT == S_IFREG else {
                let what = status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "not a regular file"
                throw Failure(.inputOutput, "cannot write \(quoted(path: path)): it is \(what); name another file")
            }
        }
        self.path = place
        part = Self.partName(of: place)
        descriptor = -1
        try openPart()
    }

    /// A file `name` in the folder `part`, which is renamed to `folder` when all of its files are written.
    init(_ name: String, inPart part: String, of folder: String) throws {
        path = "\(folder)/\(name)"
        self.part = "\(part)/\(name)"
        descriptor = -1
        try openPart()
    }

    /// A name beside `place` that no other process has chosen.
    static func partName(of place: String) -> String {
        "\(place)\(partMark)\(getpid())-\(String(UInt64.random(in: 0 ... .max), radix: 16))"
    }

    private func openPart() throws {
        Self.parts.add(part)
        descriptor = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        if descriptor < 0 {
            let number = errno
            Self.parts.remove(part)
            throw failure(number)
        }
    }

    /// Appends `bytes`.
    public func append(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let written = Glibc.write(descriptor, rest.base.baseAddress! + rest.startIndex, rest.count)
            if written < 0 {
                if errno == EINTR { continue }
                // The kernel reads a mapped file itself.
                if errno == EFAULT { throw MappedRanges.unreadable(rest.base.baseAddress! + rest.startIndex) }
                throw failure(errno)
            }
            rest = rest.dropFirst(written)
        }
    }

    /// Appends `text` in UTF-8.
    public func append(_ text: String) throws {
        var text = text
        try text.withUTF8 { try append(UnsafeRawBufferPointer($0)) }
    }

    /// Overwrites earlier bytes from `offset` on, for headers that are known only at the end.
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

    /// The number of bytes written so far, and their XXH64 checksum; they are read again for it.
    public func summary() throws -> (byteCount: Int, checksum: UInt64) {
        var hash = XXHash64(), count = 0
        let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { piece.deallocate() }
        while true {
            let read = pread(descriptor, piece.baseAddress!, piece.count, off_t(count))
            if read < 0 {
                if errno == EINTR { continue }
                throw failure(errno)
            }
            if read == 0 { return (count, hash.finish()) }
            hash.update(UnsafeRawBufferPointer(rebasing: piece[..<read]))
            count += read
        }
    }

    /// Writes what was appended to the disk. Nothing can be appended any more.
    func finish() throws {
        guard fsync(descriptor) == 0 else { throw failure(errno) }
        let closed = close(descriptor)
        descriptor = -1
        guard closed == 0 else { throw failure(errno) }
    }

    /// Renames the finished file into place; the folder is not synced.
    func place() throws {
        if mustBeNew {
            try placeNew()
        } else {
            guard rename(part, path) == 0 else { throw failure(errno) }
        }
        Self.parts.remove(part)
    }

    /// Renames the finished file to a place where nothing is.
    private func placeNew() throws {
        if renameat2(AT_FDCWD, part, AT_FDCWD, path, 1 /* RENAME_NOREPLACE */) == 0 { return }
        var number = errno
        // File systems and kernels that cannot rename so: a second name never replaces a file either.
        if number == EINVAL || number == ENOSYS {
            if link(part, path) == 0 {
                unlink(part)
                return
            }
            number = errno
        }
        if number == EEXIST {
            throw Failure(
                .usage,
                "\(quoted(path: path)) appeared while it was being written here, and is kept: name another output")
        }
        // File systems where a file has one name only.
        guard number == EPERM, access(path, F_OK) != 0 else { throw failure(number) }
        guard rename(part, path) == 0 else { throw failure(errno) }
    }

    /// Removes the file that `place` put there.
    func displace() { unlink(path) }

    /// Forgets the part, which has taken its place with the folder that holds it.
    func wasPlaced() { Self.parts.remove(part) }

    /// Removes an earlier file at `path`, if there is one that may be replaced, and says whether there was.
    func removeEarlier() throws -> Bool {
        guard !mustBeNew else { return false }
        if unlink(path) == 0 { return true }
        guard errno == ENOENT else { throw failure(errno) }
        return false
    }

    /// Removes the part.
    func abandon() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
        unlink(part)
        Self.parts.remove(part)
    }

    // MARK: Files that must be new

    /// Keeps what may appear at `paths` until this process has written its own files there: placing them fails then.
    public static func requireNew(_ paths: [String]) {
        newPaths.withLock { $0.formUnion(paths.map(Self.plain)) }
    }

    /// Whether an earlier file at `path` is kept.
    static func mustBeNew(_ path: String) -> Bool { newPaths.withLock { $0.contains(plain(path)) } }
    private var mustBeNew: Bool { Self.mustBeNew(path) }

    private static let newPaths = Mutex<Set<String>>([])

    /// The path with single slashes.
    private static func plain(_ path: String) -> String {
        (path.hasPrefix("/") ? "/" : "") + path.split(separator: "/").joined(separator: "/")
    }

    // MARK: Signals

    /// Installs handlers of the signals by which others end a process that remove the parts of unfinished files before.
    /// A signal that has a handler or is ignored is left alone.
    public static func removePartsOnSignals() {
        // A global is initialised at its first use, and that must not happen in the handler.
        _ = parts
        var action = sigaction()
        action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND))
        action.__sigaction_handler.sa_handler = { number in
            AtomicFile.parts.unlinkAll()
            raise(number)
        }
        for number in [
            SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGXCPU,
        ] {
            var before = sigaction()
            sigaction(number, nil, &before)
            // SIG_DFL is a null pointer.
            if before.__sigaction_handler.sa_handler == nil { sigaction(number, &action, nil) }
        }
    }

    /// Removes the parts of unfinished files. A signal handler may call it after `removePartsOnSignals`.
    public static func removeParts() { parts.unlinkAll() }

    static let parts = Parts()

    /// The paths of unfinished files and folders, in memory that a signal handler may read; there are at most a few at a
    /// time.
    final class Parts: @unchecked Sendable {
        private let slots = 8, size = Int(PATH_MAX)
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
                    // The first byte last: it marks the slot as used.
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
            // Folders are empty now.
            for slot in 0..<slots where memory[slot * size] != 0 { rmdir(memory + slot * size) }
        }
    }

    private func failure(_ number: Int32) -> Failure {
        .system("cannot write \(quoted(path: path))", number, .writing)
    }

    /// Syncs the folder that holds `path` to the disk, so that a rename or removal survives a power failure.
    public static func synchronizeFolder(of path: String) throws {
        let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw Failure.system("cannot open folder \(quoted(path: folder))", errno, .listing)
        }
        defer { close(descriptor) }
        // EINVAL: this file system does not sync folders.
        guard fsync(descriptor) == 0 || errno == EINVAL else {
            throw Failure.system("cannot write folder \(quoted(path: folder)) to the disk", errno, .writing)
        }
    }
}

/// The C library's function, which its header shows to GNU programs only.
@_silgen_name("renameat2")
private func renameat2(
    _ oldFolder: Int32, _ old: UnsafePointer<CChar>, _ newFolder: Int32, _ new: UnsafePointer<CChar>, _ flags: UInt32
) -> Int32
