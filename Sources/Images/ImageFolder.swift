import Reporting
import Glibc
import Tensors

/// The image files below a folder, in torchvision's order.
///
/// A folder with one directory per class is read as torchvision's ImageFolder reads it: class directories sorted by
/// name, each searched to any depth, files by name within directories by path. A folder whose images lie directly in
/// it, with no class directory that holds any, is read flat: no classes, no labels. Files count by their extension,
/// in any case; what they are is only seen when they are decoded. Symbolic links are followed, but never into a
/// directory that is being searched already. An image whose name is not UTF-8 is listed, but cannot be opened.
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
    /// Those of `files` whose names are not UTF-8: what stands there for them opens nothing, or another file.
    private let misnamed: Set<Int>

    /// The extensions of files that are taken for images, torchvision's list. Whatever a file is called, only JPEG
    /// and PNG are decoded.
    public static let extensions = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"]

    /// Number of files.
    public var count: Int { files.count }

    /// The path of file `index`, to open it by; one that is not UTF-8 has replacement characters.
    public func path(_ index: Int) -> String {
        root.isEmpty || root.hasSuffix("/") ? root + files[index] : "\(root)/\(files[index])"
    }

    /// The path of file `index`.
    ///
    /// Throws `Failure(.inputOutput)` where the file's name is not UTF-8.
    func pathToOpen(_ index: Int) throws -> String {
        guard !misnamed.contains(index) else { throw notText(path(index)) }
        return path(index)
    }

    /// " in ROOT", for sentences about the files; nothing where they come from several places.
    var place: String { root.isEmpty ? "" : " in \(root)" }

    /// Searches the folder at `root`.
    ///
    /// Throws `Failure(.inputOutput)` where a directory is missing, cannot be read or has a name that is not UTF-8, and
    /// `Failure(.badData)` where there is no image.
    public init(_ root: String) throws {
        self.root = root
        var status = stat()
        guard stat(root, &status) == 0 else { throw cannotOpen(root, "the folder ") }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw Failure(
                .inputOutput,
                "\(root) is not a folder; name the folder that holds the images or their class directories")
        }
        let top = try Directory(root)
        var images: [ImageName] = [], labels: [Int32] = []
        for (label, name) in top.folders.enumerated() {
            var found: [(folder: String, files: [ImageName])] = []
            try Self.search(root, name, above: [FileIdentity(status)], &found)
            found.sort { $0.folder.utf8.lexicographicallyPrecedes($1.folder.utf8) }
            for (folder, names) in found { images += names.map { $0.inside(folder) } }
            labels += [Int32](repeating: Int32(label), count: images.count - labels.count)
        }
        if images.isEmpty {
            guard !top.images.isEmpty else {
                throw Failure(
                    .badData,
                    "the folder \(root) holds no images (\(Self.extensions.map { "." + $0 }.joined(separator: " "))), "
                        + "neither directly nor in class directories: name one with JPEG or PNG files, as no others can be decoded"
                )
            }
            images = top.images
            (classes, self.labels, strayCount) = ([], [], 0)
        } else {
            (classes, self.labels, strayCount) = (top.folders, labels, top.images.count)
        }
        (files, misnamed) = (images.map(\.text), Self.misnamed(images))
    }

    /// Lists the files among `paths`, whatever they are called, and the images in the folders among them at any depth,
    /// without classes: every path once, sorted by its bytes.
    ///
    /// Throws `Failure(.inputOutput)` where a path does not exist, or a directory cannot be read or has a name that is
    /// not UTF-8, and `Failure(.badData)` where there is no image.
    public init(listing paths: [String]) throws {
        var all: [ImageName] = []
        for path in paths {
            var status = stat()
            guard stat(path, &status) == 0 else { throw cannotOpen(path) }
            guard status.st_mode & S_IFMT == S_IFDIR else {
                all.append(ImageName(text: path, isExact: true))
                continue
            }
            var found: [(folder: String, files: [ImageName])] = []
            let folder = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
            try Self.search("", folder, above: [], &found)
            for (folder, names) in found { all += names.map { $0.inside(folder) } }
        }
        guard !all.isEmpty else {
            throw Failure(
                .badData,
                "there are no images (\(Self.extensions.map { "." + $0 }.joined(separator: " "))) in "
                    + paths.joined(separator: ", ")
                    + ": name JPEG or PNG files, as no others can be decoded, or a folder that holds some")
        }
        (root, classes, labels, strayCount) = ("", [], [], 0)
        all.sort { $0.precedes($1) }
        let images = all.enumerated().filter { $0 == 0 || !$1.isSameFile(as: all[$0 - 1]) }.map(\.element)
        (files, misnamed) = (images.map(\.text), Self.misnamed(images))
    }

    private static func misnamed(_ images: [ImageName]) -> Set<Int> {
        Set(images.indices.filter { !images[$0].isExact })
    }

    /// Adds the images of the directory `folder`, relative to `root` where that is not empty, and of those below it to
    /// `found`.
    private static func search(
        _ root: String, _ folder: String, above: [FileIdentity], _ found: inout [(folder: String, files: [ImageName])]
    ) throws {
        let path = root.isEmpty ? folder : "\(root)/\(folder)"
        var status = stat()
        guard stat(path, &status) == 0 else { throw cannotOpen(path, "the folder ") }
        let identity = FileIdentity(status)
        // A link back to a directory on the way here would never end.
        guard !above.contains(identity) else { return }
        let directory = try Directory(path)
        if !directory.images.isEmpty { found.append((folder, directory.images)) }
        for name in directory.folders {
            try search(
                root, folder.hasSuffix("/") ? folder + name : "\(folder)/\(name)", above: above + [identity], &found)
        }
    }
}

/// The name of an image file, or its path.
private struct ImageName {
    let text: String
    /// Whether `text` has the bytes of the name: one that is not UTF-8 is shown with replacement characters.
    let isExact: Bool

    /// The path of this name in `folder`.
    func inside(_ folder: String) -> ImageName {
        ImageName(text: folder.hasSuffix("/") ? folder + text : "\(folder)/\(text)", isExact: isExact)
    }

    /// The order of the bytes; of two that look alike the exact one comes first.
    func precedes(_ other: ImageName) -> Bool {
        if text.utf8.elementsEqual(other.text.utf8) { return isExact && !other.isExact }
        return text.utf8.lexicographicallyPrecedes(other.text.utf8)
    }

    /// Strings of the same letters in other bytes are other files; so are, as far as one can see, names that are not
    /// exact.
    func isSameFile(as other: ImageName) -> Bool {
        isExact && other.isExact && text.utf8.elementsEqual(other.text.utf8)
    }
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
    var images: [ImageName] = []
    var folders: [String] = []

    init(_ path: String) throws {
        guard let stream = opendir(path) else { throw cannotOpen(path, "the folder ") }
        defer { closedir(stream) }
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno == 0 { break }
                throw Failure(.inputOutput, "cannot read the folder \(path): \(errorText(errno))")
            }
            let name: ImageName = withUnsafeBytes(of: &entry.pointee.d_name) { field in
                let bytes = field.prefix(while: { $0 != 0 })
                let text = String(decoding: bytes, as: UTF8.self)
                return ImageName(text: text, isExact: text.utf8.elementsEqual(bytes))
            }
            if name.text == "." || name.text == ".." { continue }
            if Self.isFolder(entry, in: stream) {
                guard name.isExact else { throw notText("the folder \(path)/\(name.text)") }
                folders.append(name.text)
            } else if let dot = name.text.lastIndex(of: "."),
                ImageFolder.extensions.contains(name.text[name.text.index(after: dot)...].lowercased())
            {
                images.append(name)
            }
        }
        images.sort { $0.precedes($1) }
        folders.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// Whether an entry is a directory, or a link to one; the system is asked for the entry's own bytes.
    private static func isFolder(_ entry: UnsafeMutablePointer<dirent>, in stream: OpaquePointer) -> Bool {
        let type = Int32(entry.pointee.d_type)
        if type == Int32(DT_DIR) { return true }
        guard type == Int32(DT_LNK) || type == Int32(DT_UNKNOWN) else { return false }
        var status = stat()
        let found = withUnsafeBytes(of: &entry.pointee.d_name) { name in
            fstatat(dirfd(stream), name.bindMemory(to: CChar.self).baseAddress!, &status, 0) == 0
        }
        return found && status.st_mode & S_IFMT == S_IFDIR
    }
}
