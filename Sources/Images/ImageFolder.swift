import Glibc
import Tensors

/// The image files below a folder, in torchvision's order.
///
/// A folder with one directory per class is read as torchvision's ImageFolder reads it: class directories sorted by
/// name, each searched to any depth, files by name within directories by path. A folder whose images lie directly in
/// it, with no class directory that holds any, is read flat: no classes, no labels. Files count by their extension,
/// in any case; what they are is only seen when they are decoded. Symbolic links are followed, but never into a
/// directory that is being searched already.
public struct ImageFolder: Sendable {
    /// The folder, as it was given; empty for a list of files from several places.
    public let root: String
    /// The files, relative to `root`; whole paths where that is empty.
    public let files: [String]
    /// Names of the class directories, sorted; empty for a flat folder.
    public let classes: [String]
    /// The class of each file, an index into `classes`; empty for a flat folder.
    public let labels: [Int32]
    /// Images directly in a folder that has class directories: as in torchvision, no part of `files`.
    public let strayCount: Int

    /// The extensions of files that are taken for images, torchvision's list. Whatever a file is called, only JPEG
    /// and PNG are decoded.
    public static let extensions = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"]

    /// Number of files.
    public var count: Int { files.count }

    /// The path of file `index`, to open it by.
    public func path(_ index: Int) -> String {
        root.isEmpty || root.hasSuffix("/") ? root + files[index] : "\(root)/\(files[index])"
    }

    /// " in ROOT", for sentences about the files; nothing where they come from several places.
    var place: String { root.isEmpty ? "" : " in \(root)" }

    /// Searches the folder at `root`.
    ///
    /// Throws `Failure(.inputOutput)` where a directory is missing or cannot be read and `Failure(.badData)` where
    /// there is no image.
    public init(_ root: String) throws {
        self.root = root
        var status = stat()
        guard stat(root, &status) == 0 else { throw cannotOpen(root) }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw Failure(
                .inputOutput, "\(root) is not a folder; name the folder that holds the images or their class directories")
        }
        let top = try Directory(root)
        var files: [String] = [], labels: [Int32] = []
        for (label, name) in top.folders.enumerated() {
            var found: [(folder: String, files: [String])] = []
            try Self.search(root, name, above: [FileIdentity(status)], &found)
            found.sort { $0.folder.utf8.lexicographicallyPrecedes($1.folder.utf8) }
            for (folder, names) in found { files += names.map { "\(folder)/\($0)" } }
            labels += [Int32](repeating: Int32(label), count: files.count - labels.count)
        }
        if files.isEmpty {
            guard !top.images.isEmpty else {
                throw Failure(
                    .badData, "the folder \(root) holds no images (\(Self.extensions.map { "." + $0 }.joined(separator: " "))), "
                        + "neither directly nor in class directories")
            }
            (self.files, self.classes, self.labels, strayCount) = (top.images, [], [], 0)
        } else {
            (self.files, classes, self.labels, strayCount) = (files, top.folders, labels, top.images.count)
        }
    }

    /// Lists the files among `paths`, whatever they are called, and the images in the folders among them at any depth, without
    /// classes: every path once, sorted by its bytes.
    ///
    /// Throws `Failure(.inputOutput)` where a path does not exist or a directory cannot be read and `Failure(.badData)` where
    /// there is no image.
    public init(listing paths: [String]) throws {
        var all: [String] = []
        for path in paths {
            var status = stat()
            guard stat(path, &status) == 0 else { throw Failure(.inputOutput, "cannot open \(path): \(systemReason())") }
            guard status.st_mode & S_IFMT == S_IFDIR else {
                all.append(path)
                continue
            }
            var found: [(folder: String, files: [String])] = []
            let folder = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
            try Self.search("", folder, above: [], &found)
            for (folder, names) in found { all += names.map { folder.hasSuffix("/") ? folder + $0 : "\(folder)/\($0)" } }
        }
        guard !all.isEmpty else {
            throw Failure(
                .badData, "there are no images (\(Self.extensions.map { "." + $0 }.joined(separator: " "))) in "
                    + paths.joined(separator: ", "))
        }
        (root, classes, labels, strayCount) = ("", [], [], 0)
        all.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        // Strings of the same letters in other bytes are other files.
        files = all.enumerated().filter { $0 == 0 || !$1.utf8.elementsEqual(all[$0 - 1].utf8) }.map(\.element)
    }

    /// Adds the images of the directory `folder`, relative to `root` where that is not empty, and of those below it to `found`.
    private static func search(
        _ root: String, _ folder: String, above: [FileIdentity], _ found: inout [(folder: String, files: [String])]
    ) throws {
        let path = root.isEmpty ? folder : "\(root)/\(folder)"
        var status = stat()
        guard stat(path, &status) == 0 else { throw cannotOpen(path) }
        let identity = FileIdentity(status)
        // A link back to a directory on the way here would never end.
        guard !above.contains(identity) else { return }
        let directory = try Directory(path)
        if !directory.images.isEmpty { found.append((folder, directory.images)) }
        for name in directory.folders {
            try search(root, folder.hasSuffix("/") ? folder + name : "\(folder)/\(name)", above: above + [identity], &found)
        }
    }
}

/// The failure of a folder that the system will not open.
private func cannotOpen(_ path: String) -> Failure {
    Failure(.inputOutput, "cannot open the folder \(path): \(systemReason())")
}

/// What makes two paths the same directory.
private struct FileIdentity: Equatable {
    let device: dev_t, number: ino_t
    init(_ status: stat) {
        device = status.st_dev
        number = status.st_ino
    }
}

/// The image files and the directories in one directory, each sorted by the bytes of their names.
private struct Directory {
    var images: [String] = []
    var folders: [String] = []

    init(_ path: String) throws {
        guard let stream = opendir(path) else { throw cannotOpen(path) }
        defer { closedir(stream) }
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno == 0 { break }
                throw Failure(.inputOutput, "cannot read the folder \(path): \(systemReason())")
            }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix(while: { $0 != 0 }), as: UTF8.self)
            }
            if name == "." || name == ".." { continue }
            if Self.isFolder("\(path)/\(name)", Int32(entry.pointee.d_type)) {
                folders.append(name)
            } else if let dot = name.lastIndex(of: "."),
                ImageFolder.extensions.contains(name[name.index(after: dot)...].lowercased())
            {
                images.append(name)
            }
        }
        images.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        folders.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    private static func isFolder(_ path: String, _ type: Int32) -> Bool {
        if type == Int32(DT_DIR) { return true }
        guard type == Int32(DT_LNK) || type == Int32(DT_UNKNOWN) else { return false }
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}
