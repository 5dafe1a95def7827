import Glibc
import Reporting

/// Files that belong together, such as features and the list of their images: they appear together or not at all.
///
/// Everything is written and synced to the disk before any file takes its place. The last file of a group confirms the
/// others: it is the first of an earlier group to go and the last of the new one to come. At no moment, not even if the
/// process is killed or the power fails, does a file of the new group stand beside one of an earlier group.
public enum FileGroup {
    /// Writes files beside one another. `body` appends to them; they take their places after it returns.
    ///
    /// 1. Every file is written as a part and synced.
    /// 2. The earlier files of these paths are removed, the last path first, and the folder is synced before the others go
    ///    and after it. Files that must be new (`AtomicFile.requireNew`) have none: what appeared meanwhile is kept.
    /// 3. The parts are renamed into place, and the folder is synced before the last one and after it.
    ///
    /// A failure up to the end of step 1 leaves the earlier files as they were. A later one leaves none of the new ones; a
    /// kill leaves no last file.
    ///
    /// - Parameters:
    ///   - paths: the paths of the files, the one that confirms the others last.
    ///   - obsolete: files of an earlier group that the new one does not have; removed in step 2.
    /// - Throws: `Failure.inputOutput` with the system's reason, or what `body` throws.
    public static func write(
        to paths: [String], removing obsolete: [String] = [], _ body: ([AtomicFile]) throws -> Void
    ) throws {
        precondition(paths.count > 1, "one file is no group")
        var files: [AtomicFile] = [], placed: [AtomicFile] = []
        func place(_ files: some Sequence<AtomicFile>) throws {
            for file in files {
                try file.place()
                placed.append(file)
            }
        }
        do {
            for path in paths { files.append(try AtomicFile(path)) }
            try body(files)
            for file in files { try file.finish() }
            try remove(files, obsolete)
            try place(files.dropLast())
            try synchronizeFolders(of: files)
            try place(files.suffix(1))
            try AtomicFile.synchronizeFolder(of: files.last!.path)
        } catch {
            // The last first, as in step 2.
            for file in placed.reversed() { file.displace() }
            for file in files { file.abandon() }
            throw error
        }
    }

    /// Writes a folder of files. A new folder is written under another name and renamed when it is whole; in a folder
    /// that exists the files are a group like others, and all other files stay.
    ///
    /// - Parameters:
    ///   - names: the names of the files, the one that confirms the others last.
    ///   - form: the form that is a folder, for a message.
    /// - Throws: `Failure.inputOutput` with the system's reason, or what `body` throws.
    public static func write(
        folder path: String, names: [String], form: String, _ body: ([AtomicFile]) throws -> Void
    ) throws {
        var path = path
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        func failure(_ reason: String, _ remedy: Message) -> Failure {
            Failure(.inputOutput, "cannot create folder \(quoted(path: path)): \(reason); \(remedy)")
        }
        let taken: () -> Failure = {
            failure("something else has that name", "\(.form, form) writes a folder")
        }
        var status = stat()
        if lstat(path, &status) == 0 {
            guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { throw taken() }
            return try write(to: names.map { "\(path)/\($0)" }, body)
        }
        let part = AtomicFile.partName(of: path)
        AtomicFile.parts.add(part)
        guard mkdir(part, 0o777) == 0 else {
            let number = errno
            AtomicFile.parts.remove(part)
            throw failure(errorText(number), "\(remedy(number, .makingFolder))")
        }
        var files: [AtomicFile] = []
        do {
            for name in names { files.append(try AtomicFile(name, inPart: part, of: path)) }
            try body(files)
            for file in files { try file.finish() }
            try AtomicFile.synchronizeFolder(of: part + "/")
            guard rename(part, path) == 0 else {
                let number = errno
                throw [EEXIST, ENOTEMPTY, ENOTDIR].contains(number)
                    ? taken() : failure(errorText(number), "\(remedy(number, .makingFolder))")
            }
            for file in files { file.wasPlaced() }
            AtomicFile.parts.remove(part)
            try AtomicFile.synchronizeFolder(of: path)
        } catch {
            for file in files { file.abandon() }
            rmdir(part)
            AtomicFile.parts.remove(part)
            throw error
        }
    }

    /// Removes the earlier files of a group. The last one is gone from the disk before the others go: after a power failure
    /// it would confirm files that are not there.
    private static func remove(_ files: [AtomicFile], _ obsolete: [String]) throws {
        if try files.last!.removeEarlier() { try AtomicFile.synchronizeFolder(of: files.last!.path) }
        var isChanged = false
        for file in files.dropLast() where try file.removeEarlier() { isChanged = true }
        for path in obsolete where !AtomicFile.mustBeNew(path) {
            if unlink(path) == 0 {
                isChanged = true
            } else if errno != ENOENT {
                throw Failure.system("cannot remove \(quoted(path: path))", errno, .removing)
            }
        }
        if isChanged { try synchronizeFolders(of: files) }
    }

    /// Syncs the folders of the files: those of symbolic links may lie in several.
    private static func synchronizeFolders(of files: [AtomicFile]) throws {
        var seen: Set<String> = []
        for file in files
        where seen.insert(String(file.path[..<(file.path.lastIndex(of: "/") ?? file.path.startIndex)])).inserted {
            try AtomicFile.synchronizeFolder(of: file.path)
        }
    }
}
