import Reporting
import Glibc
import Tensors

/// The image files in a folder, in torchvision's order.
///
/// A folder with one directory per class is read as torchvision's ImageFolder reads it: class directories sorted by
/// name, each searched recursively, its directories sorted by path and the files of each by name. If no class directory
/// holds images, the folder is flat: the images directly in it, without classes. A file is an image if it has one of
/// `extensions`, in upper or lower case; its content is checked when it is decoded. Names that `Debris` contains are
/// passed over. Symbolic links are followed, but within a class a directory is read once, by its path without links
/// where there is one. An image whose name is not UTF-8 is listed, but cannot be opened; it may be listed under the same
/// name as another.
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
    /// Paths that were passed over as debris, within `place` where there is one.
    private let debris: [String]
    /// The failures of directories that were passed over, as they may not be read.
    private let closed: [Failure]
    /// The files whose names are not UTF-8: the text in `names` opens nothing, or another file.
    private let misnamed: Set<Int>

    /// The extensions of image files, torchvision's list. Only JPEG and PNG files can be decoded, under any of these
    /// names.
    public static let extensions = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"]

    /// Whether a file of that name is an image.
    static func isImage(_ name: String) -> Bool {
        guard let dot = name.lastIndex(of: ".") else { return false }
        return extensions.contains(name[name.index(after: dot)...].lowercased())
    }

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
        var notes: [String] = []
        if !debris.isEmpty {
            let names = debris.prefix(3).joined(separator: ", ") + (debris.count > 3 ? ", …" : "")
            notes.append(
                "hidden files and what systems leave behind are passed over\(place.map { " in \($0)" } ?? ""): "
                    + "\(names) (images and folders: \(debris.count))")
        }
        guard let place else { return notes }
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

    public var warnings: [String] {
        closed.prefix(3).map { "\($0.message); it is passed over" }
            + (closed.count > 3 ? ["\(closed.count - 3) more folders cannot be opened and are passed over"] : [])
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
    /// - Parameter usesLabels: whether the classes of images matter. If they do not, directories in the folder that may
    ///   not be read are passed over with a warning.
    /// - Throws: `Failure(.inputOutput)` where a directory is missing, cannot be read or has a name that is not UTF-8;
    ///   `Failure(.badData)` where there is no image.
    public init(_ root: String, usesLabels: Bool = true) throws {
        place = root
        var status = stat()
        guard stat(root, &status) == 0 else { throw cannotOpen(root, "the folder ") }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw Failure(
                .inputOutput,
                "\(root) is not a folder; name the folder that holds the images or their class directories")
        }
        var search = ImageSearch(root: root)
        let top = try search.directory(root)
        var images: [ImageName] = [], labels: [Int32] = [], empty: [String] = []
        for (label, name) in top.folders.enumerated() {
            for (folder, names) in try search.images(in: name) { images += names.map { $0.inside(folder) } }
            if images.count == labels.count { empty.append(name) }
            labels += [Int32](repeating: Int32(label), count: images.count - labels.count)
        }
        if let closed = search.closed.first, usesLabels || images.isEmpty && top.images.isEmpty { throw closed.failure }
        (debris, closed) = (search.debris, search.closed.map(\.failure))
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
    /// recursively: without classes, every path once, sorted by bytes. Directories in those folders that may not be
    /// read are passed over with a warning.
    ///
    /// Throws `Failure(.inputOutput)` where a path does not exist, a folder among them cannot be read or a directory
    /// has a name that is not UTF-8; `Failure(.badData)` where there is no image.
    public init(listing paths: [String]) throws {
        var all: [ImageName] = []
        var search = ImageSearch(root: "")
        for path in paths {
            var status = stat()
            guard stat(path, &status) == 0 else { throw cannotOpen(path) }
            guard status.st_mode & S_IFMT == S_IFDIR else {
                all.append(ImageName(text: path, isExact: true))
                continue
            }
            let folder = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
            let before = search.closed.count
            for (folder, names) in try search.images(in: folder) { all += names.map { $0.inside(folder) } }
            if search.closed.count > before, search.closed[before].path == folder {
                throw search.closed[before].failure
            }
        }
        if let closed = search.closed.first, all.isEmpty { throw closed.failure }
        (debris, closed) = (search.debris, search.closed.map(\.failure))
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
}
