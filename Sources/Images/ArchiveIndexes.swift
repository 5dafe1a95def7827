import Glibc
import Reporting
import Synchronization

/// The indexes of tar archives, each made once: they are kept in memory, and in files so that the next command need not
/// read all headers again. A file holds for an archive of the same path, size and time of modification.
///
/// Nothing is ever written beside an archive. What cannot be written is made again the next time.
public final class ArchiveIndexes: @unchecked Sendable {
    /// Where files of indexes are.
    public enum Place: Sendable {
        /// In memory only.
        case memory
        /// In `$XDG_CACHE_HOME/dmae/archives`, by default `~/.cache/dmae/archives`: for commands without a run's folder.
        case userCache
        /// In the folder of a run, which `save` writes: a run's folder may not exist when its images are looked for.
        case run(String)
    }

    private let place: Place
    private let report: (Message) -> Void
    private let state = Mutex(State())

    private struct State: Sendable {
        var known: [String: Known] = [:]
        var isReported = false
    }
    private struct Known: Sendable {
        let stamp: FileStamp, index: ArchiveIndex
    }

    /// - Parameter report: called with a sentence before the first archive of which no index is kept is read, if that
    ///   takes time.
    public init(_ place: Place = .userCache, report: @escaping (Message) -> Void = { _ in }) {
        self.place = place
        self.report = report
    }

    /// The index of the archive at `path`, and the state of the file that it is of.
    ///
    /// - Throws: `Failure.inputOutput` where the archive cannot be read; `Failure.badData` for another kind of file, and
    ///   what `ArchiveIndex.init` throws.
    package func index(of path: String) throws -> (index: ArchiveIndex, stamp: FileStamp) {
        let file = ArchiveFile(path: path)
        return try file.open { descriptor, stamp in
            let whole = Self.wholePath(path)
            if let found = state.withLock({ $0.known[whole] }), found.stamp == stamp { return (found.index, stamp) }
            let index =
                try Self.files(in: place, of: whole).lazy.compactMap {
                    ArchiveIndex($0, path: whole, stamp: stamp)
                }.first ?? scan(file, descriptor, stamp, whole)
            state.withLock { $0.known[whole] = Known(stamp: stamp, index: index) }
            return (index, stamp)
        }
    }

    /// Writes the indexes in memory into the folder of a run.
    public func save(in run: String) {
        let folder = Self.folder(inRun: run)
        for (path, entry) in state.withLock({ $0.known })
        where access(Self.file(in: folder, of: path), F_OK) != 0
            || Self.bytes(Self.file(in: folder, of: path)).map({
                ArchiveIndex($0, path: path, stamp: entry.stamp) == nil
            }) ?? true
        {
            Self.write(entry.index.encoded(path: path, stamp: entry.stamp), in: folder, of: path)
        }
    }

    private func scan(
        _ file: ArchiveFile, _ descriptor: Int32, _ stamp: FileStamp, _ whole: String
    ) throws -> ArchiveIndex {
        guard stamp.size > 0 else { throw Failure(.badData, "\(file.path) is empty: name a tar archive") }
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_RANDOM)
        let bytes = ArchiveBytes(path: file.path, count: stamp.size) { offset, target in
            try file.fill(target, from: descriptor, at: offset)
        }
        let head = try bytes.bytes(0..<min(stamp.size, FileKind.headCount))
        if !TarReader.isArchive(head), head.contains(where: { $0 != 0 }) {
            throw head.withUnsafeBytes { Self.notAnArchive(file.path, OtherFile($0), size: stamp.size) }
        }
        if stamp.size > 64 << 20, state.withLock({ !$0.isReported }) {
            state.withLock { $0.isReported = true }
            report("the headers of \(file.path) and other archives are read, once: where images lie is kept")
        }
        let index = try ArchiveIndex(bytes)
        if case .userCache = place, let folder = Self.userFolder() {
            Self.write(index.encoded(path: whole, stamp: stamp), in: folder, of: whole)
        }
        return index
    }

    /// The failure for a file that is no tar archive.
    private static func notAnArchive(_ path: String, _ kind: OtherFile?, size: Int) -> Failure {
        if kind?.name == "a tar archive" {
            return size < FileKind.headCount ? TarReader.truncated(path) : TarReader.damaged(path, at: 0)
        }
        return Failure(.badData, "\(path) is \(kind.map { "\($0.name), not" } ?? "not") a tar archive: \(remedy(kind))")
    }

    private static func remedy(_ kind: OtherFile?) -> String {
        let compressed = ["gzip", "xz", "bzip2", "Zstandard"]
        guard let kind, compressed.contains(where: kind.name.contains) else { return "name an archive that tar wrote" }
        return "unpack it first, as images are read by their place in the archive"
    }

    // MARK: Files

    private static func wholePath(_ path: String) -> String {
        guard let whole = realpath(path, nil) else { return path }
        defer { free(whole) }
        return String(cString: whole)
    }

    private static func folder(inRun run: String) -> String { "\(run)/archives" }

    private static func userFolder() -> String? {
        func variable(_ name: String) -> String? {
            getenv(name).map { String(cString: $0) }.flatMap { $0.hasPrefix("/") ? $0 : nil }
        }
        return (variable("XDG_CACHE_HOME") ?? variable("HOME").map { $0 + "/.cache" }).map { $0 + "/dmae/archives" }
    }

    private static func file(in folder: String, of path: String) -> String {
        let digits = String(NameHash.of(path.utf8), radix: 16)
        return "\(folder)/\(String(repeating: "0", count: 16 - digits.count))\(digits).index"
    }

    /// The files that may hold an index of the archive at `path`.
    private static func files(in place: Place, of path: String) -> [[UInt8]] {
        let folder: String?
        switch place {
        case .memory: folder = nil
        case .userCache: folder = userFolder()
        case .run(let run): folder = self.folder(inRun: run)
        }
        return folder.flatMap { bytes(file(in: $0, of: path)) }.map { [$0] } ?? []
    }

    private static func bytes(_ path: String) -> [UInt8]? { try? readFile(path, headCount: 0) { _ in } }

    /// Writes a file whole, or not at all.
    private static func write(_ bytes: [UInt8], in folder: String, of path: String) {
        var prefix = folder.hasPrefix("/") ? "/" : ""
        for part in folder.split(separator: "/") {
            prefix += part
            mkdir(prefix, 0o777)
            prefix += "/"
        }
        let place = file(in: folder, of: path), suffix = String(UInt64.random(in: 0 ... .max), radix: 16)
        // Processes in different containers may have the same number, and share this folder.
        let part = "\(place).part-\(getpid())-\(suffix)"
        let descriptor = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { return }
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + done, bytes.count - done) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            done += count
        }
        if close(descriptor) == 0, done == bytes.count, rename(part, place) == 0 { return }
        unlink(part)
    }
}
