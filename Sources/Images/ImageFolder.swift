import Reporting
import Glibc
import Tensors

/// The image files in a folder, in torchvision's order.
///
/// A folder with one directory per class is read as torchvision's ImageFolder reads it: class directories sorted by
/// name, each searched recursively, its directories sorted by path and the files of each by name. If no class directory
/// holds images, the folder is flat: the images directly in it, without classes. A file is an image if it has one of
/// `extensions`, in upper or lower case; its content is checked when it is decoded. Symbolic links are followed, but
/// not to a directory that is already being searched. An image whose name is not UTF-8 is listed, but cannot be opened;
/// it may be listed under the same name as another.
public struct ImageFolder: ImageSource {
    /// The folder, as it was given; nil for a list of files from several places.
    public let place: String?
    /// Names of the class directories, sorted; empty for a flat folder.
    public let classes: [String]
    /// Number of images directly in a folder that has class directories; as in torchvision, they are left out.
    private let strayCount: Int
    /// Names of the class directories that hold no image.
    private let emptyClasses: [String]
    /// The files' paths relative to `place`; whole paths where that is nil.
    private let names: [String]
    /// For each file, the index of its class; empty for a flat folder.
    private let labels: [Int32]
    /// The files whose names are not UTF-8: the text in `names` opens nothing, or another file.
    private let misnamed: Set<Int>

    /// The extensions of image files, torchvision's list. Only JPEG and PNG files can be decoded, under any of these
    /// names.
    public static let extensions = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"]

    public var count: Int { names.count }

    public func name(_ index: Int) -> String { names[index] }

    public func label(_ index: Int) -> Int? { classes.isEmpty ? nil : Int(labels[index]) }

    /// The folder of images to evaluate on if this one's directories are not classes but parts of a data set, such as
    /// train and val, and hold the class directories; nil otherwise.
    public var evaluationPart: String? {
        guard let place, !classes.isEmpty, classes.allSatisfy(Self.parts.contains),
            let part = Self.parts.dropFirst().first(where: classes.contains),
            // part/class/image
            names.allSatisfy({ $0.utf8.count(where: { $0 == UInt8(ascii: "/") }) >= 2 })
        else { return nil }
        return (place.hasSuffix("/") ? place : place + "/") + part
    }

    /// Usual names of the parts of a data set: that of training, then the others, the likeliest first.
    private static let parts = ["train", "val", "validation", "valid", "test"]

    public var notes: [String] {
        guard let place else { return [] }
        var notes: [String] = []
        if strayCount > 0 {
            notes.append(
                "images directly in \(place) are left out, as torchvision's ImageFolder does with a folder that has class "
                    + "directories (images: \(strayCount))")
        }
        if !emptyClasses.isEmpty {
            let names = emptyClasses.prefix(3).joined(separator: ", ") + (emptyClasses.count > 3 ? ", …" : "")
            notes.append(
                "class directories of \(place) without images keep their class index: \(names) (directories: "
                    + "\(emptyClasses.count))")
        }
        return notes
    }

    public func bytes(_ index: Int) throws -> [UInt8] {
        let path = path(index)
        do {
            guard !misnamed.contains(index) else { throw notText(path) }
            return try imageFile(path)
        } catch let failure as Failure where failure.code == .inputOutput {
            // If the file exists and may be read, the system is at fault.
            if !misnamed.contains(index), isReadableFile(path) { throw failure }
            throw Failure(.badData, failure.sentence)
        }
    }

    /// Searches the folder at `root`.
    ///
    /// Throws `Failure(.inputOutput)` where a directory is missing, cannot be read or has a name that is not UTF-8;
    /// `Failure(.badData)` where there is no image.
    public init(_ root: String) throws {
        place = root
        var status = stat()
        guard stat(root, &status) == 0 else { throw cannotOpen(root, "the folder ") }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw Failure(
                .inputOutput,
                "\(root) is not a folder; name the folder that holds the images or their class directories")
        }
        let top = try Directory(root)
        var images: [ImageName] = [], labels: [Int32] = [], empty: [String] = []
        for (label, name) in top.folders.enumerated() {
            var found: [(folder: String, files: [ImageName])] = []
            try Self.search(root, name, above: [FileIdentity(status)], &found)
            found.sort { $0.folder.utf8.lexicographicallyPrecedes($1.folder.utf8) }
            for (folder, names) in found { images += names.map { $0.inside(folder) } }
            if images.count == labels.count { empty.append(name) }
            labels += [Int32](repeating: Int32(label), count: images.count - labels.count)
        }
        if images.isEmpty {
            guard !top.images.isEmpty else {
                throw Failure(
                    .badData,
                    "the folder \(root) holds no images (\(Self.extensions.map { "." + $0 }.joined(separator: " "))), "
                        + "neither directly nor in class directories: name one with JPEG or PNG files, as no others "
                        + "can be decoded"
                )
            }
            images = top.images
            (classes, self.labels, strayCount, emptyClasses) = ([], [], 0, [])
        } else {
            (classes, self.labels, strayCount, emptyClasses) = (top.folders, labels, top.images.count, empty)
        }
        (names, misnamed) = (images.map(\.text), Self.misnamed(images))
    }

    /// Lists the files among `paths`, with any extension, and the images in the folders among them, searched
    /// recursively: without classes, every path once, sorted by bytes.
    ///
    /// Throws `Failure(.inputOutput)` where a path does not exist, or a directory cannot be read or has a name that is
    /// not UTF-8; `Failure(.badData)` where there is no image.
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
                    + "\(paths.joined(separator: ", ")): name JPEG or PNG files, as no others can be decoded, or a "
                    + "folder that holds some"
            )
        }
        (place, classes, labels, strayCount, emptyClasses) = (nil, [], [], 0, [])
        all.sort { $0.precedes($1) }
        let images = all.enumerated().filter { $0 == 0 || !$1.isSameFile(as: all[$0 - 1]) }.map(\.element)
        (names, misnamed) = (images.map(\.text), Self.misnamed(images))
    }

    private static func misnamed(_ images: [ImageName]) -> Set<Int> {
        Set(images.indices.filter { !images[$0].isExact })
    }

    /// Adds to `found` the images of the directory `folder` and of the directories in it. If `root` is not empty,
    /// `folder` is relative to it.
    private static func search(
        _ root: String, _ folder: String, above: [FileIdentity], _ found: inout [(folder: String, files: [ImageName])]
    ) throws {
        let path = root.isEmpty ? folder : "\(root)/\(folder)"
        var status = stat()
        guard stat(path, &status) == 0 else { throw cannotOpen(path, "the folder ") }
        let identity = FileIdentity(status)
        // A link to a directory above this one would be followed for ever.
        guard !above.contains(identity) else { return }
        let directory = try Directory(path)
        if !directory.images.isEmpty { found.append((folder, directory.images)) }
        for name in directory.folders {
            try search(
                root, folder.hasSuffix("/") ? folder + name : "\(folder)/\(name)", above: above + [identity], &found)
        }
    }
}

/// The name or path of an image file.
private struct ImageName {
    let text: String
    /// Whether `text` has the bytes of the name. In a name that is not UTF-8, invalid bytes are replacement characters.
    let isExact: Bool

    /// The path of this name in `folder`.
    func inside(_ folder: String) -> ImageName {
        ImageName(text: folder.hasSuffix("/") ? folder + text : "\(folder)/\(text)", isExact: isExact)
    }

    /// Order by bytes; of two names with the same text, the exact one comes first.
    func precedes(_ other: ImageName) -> Bool {
        if text.utf8.elementsEqual(other.text.utf8) { return isExact && !other.isExact }
        return text.utf8.lexicographicallyPrecedes(other.text.utf8)
    }

    /// Whether both are exact and have the same bytes. (Strings compare equal if they have the same characters in other
    /// bytes.) Names that are not exact may differ in the bytes that were replaced.
    func isSameFile(as other: ImageName) -> Bool {
        isExact && other.isExact && text.utf8.elementsEqual(other.text.utf8)
    }
}

/// The identity of a directory: equal for two paths of the same one.
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

    /// Whether an entry is a directory or a link to one. The name's original bytes are used, as they may not be UTF-8.
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
