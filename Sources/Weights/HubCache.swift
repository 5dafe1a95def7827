import Reporting
import Glibc

/// The folders in which the Hugging Face hub's programs keep what they fetched:
///
///     hub/models--OWNER--NAME/refs/main             the name of the newest snapshot
///     hub/models--OWNER--NAME/snapshots/HASH/       the files of one revision
enum HubCache {
    /// The folder below `folder` that holds the weights, or is on the way to them; nil if `folder` is no such cache.
    ///
    /// - Parameter names: what is in `folder`.
    /// - Throws: `Failure.badData` where there are several models or snapshots and nothing says which is meant.
    static func below(_ folder: String, _ names: [String]) throws -> String? {
        let prefix = folder.hasSuffix("/") ? folder : folder + "/"
        if names.contains("snapshots"), isFolder(prefix + "snapshots") {
            return try snapshot(prefix, names)
        }
        let models = names.filter { $0.hasPrefix("models--") && isFolder(prefix + $0) }
        if let only = models.first, models.count == 1 { return prefix + only }
        if let first = models.first {
            throw Failure(
                .badData,
                "folder \(quoted(path: folder)) is a cache of the Hugging Face hub with \(models.count) models; name one "
                    + "of them, such as \(quoted(path: prefix + first))")
        }
        return names.contains("hub") && isFolder(prefix + "hub") ? prefix + "hub" : nil
    }

    /// Whether `folder` is such a cache, or a part of one.
    static func isRecognised(_ folder: String, _ names: [String]) -> Bool {
        do { return try below(folder, names) != nil } catch { return true }
    }

    private static func snapshot(_ prefix: String, _ names: [String]) throws -> String {
        let folder = prefix + "snapshots/"
        if let main = try? MappedFile.contents(prefix + "refs/main", wanted: "the name of a snapshot"),
            main.count <= 255
        {
            let name = String(decoding: main, as: UTF8.self).prefix { !$0.isWhitespace }
            let isName = !name.isEmpty && name.utf8.allSatisfy { $0 != 0x2F && $0 != 0 } && !name.hasPrefix(".")
            if isName, isFolder(folder + name) { return folder + name }
        }
        let snapshots = try FolderNames.sorted(folder).filter { !$0.hasPrefix(".") && isFolder(folder + $0) }
        guard let first = snapshots.first else {
            throw Failure(
                .badData,
                "folder \(quoted(path: String(prefix.dropLast()))) is a model in a cache of the Hugging Face hub, but "
                    + "without a snapshot: fetch the model, or name another folder")
        }
        guard snapshots.count == 1 else {
            throw Failure(
                .badData,
                "folder \(quoted(path: String(prefix.dropLast()))) is a model in a cache of the Hugging Face hub with "
                    + "\(snapshots.count) snapshots, and refs/main names none of them; name one, such as "
                    + "\(quoted(path: folder + first))")
        }
        return folder + first
    }

    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}
