import Reporting
import Glibc
import Tensors

/// The image files in a folder.
///
/// A folder with one directory per class is read as torchvision's ImageFolder reads it: class directories sorted by
/// name, each searched recursively. The images of a class are sorted by path, byte by byte. If no class directory holds
/// images, the folder is flat: the images directly in it, without classes. A file is an image if it has one of
/// `extensions`, in upper or lower case; its content is checked when it is decoded. Names that `Debris` contains are
/// passed over. Symbolic links are followed, but within a class a directory is read once, by its path without links
/// where there is one. An image whose name is not UTF-8 is listed, but cannot be opened; it may be listed under the same
/// name as another. Tar archives beside images are left out, and pictures that dmae drew.
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
    /// Tar archives, compressed or not, that were left out; within `place` where there is one.
    private let archives: [String]
    /// Paths of pictures that dmae drew and that were left out; within `place` where there is one.
    private let drawn: [String]
    /// Pictures that cannot be decoded and were left out.
    private let undecodable: UndecodablePictures

    /// The extensions of image files. Which kind a file is, its content says.
    public static let extensions = ImageExtension.all

    /// The extensions of pictures that cannot be decoded: they are counted and left out.
    public static let undecodableExtensions = ImageExtension.undecodable

    /// Whether a file of that name is an image.
    static func isImage(_ name: String) -> Bool { ImageExtension.isImage(name) }

    public var count: Int { names.count }

    public func name(_ index: Int) -> String { names[index] }

    public func label(_ index: Int) -> Int? { classes.isEmpty ? nil : Int(labels[index]) }

    public var evaluationPart: String? {
        guard let place, !classes.isEmpty, classes.allSatisfy(Self.parts.contains),
            let part = Self.parts.dropFirst().first(where: classes.contains),
            // part/class/image
            names.allSatisfy({ $0.utf8.count(where: { $0 == UInt8(ascii: "/") }) >= 2 })
        else { return nil }
        return (place.hasSuffix("/") ? place : place + "/") + part
    }

    /// Usual names of the parts of a data set: that of training, then the others, the likeliest first.
    static let parts = ["train", "val", "validation", "valid", "test"]

    public var notes: [String] {
        var notes: [String] = []
        if !debris.isEmpty {
            notes.append(
                "hidden files and what systems leave behind are passed over\(place.map { " in \($0)" } ?? ""): "
                    + "\(firstNames(debris)) (images and folders: \(debris.count))")
        }
        if !archives.isEmpty {
            notes.append(
                "archives beside images are left out\(place.map { " in \($0)" } ?? ""): \(firstNames(archives)) (archives: "
                    + "\(archives.count)); name those that hold images, too")
        }
        if !drawn.isEmpty {
            notes.append(
                "pictures that dmae drew are left out\(place.map { " of \($0)" } ?? ""): \(firstNames(drawn)) (pictures: "
                    + "\(drawn.count)); a list takes them")
        }
        guard let place else { return notes }
        if strayCount > 0 {
            notes.append(
                "images directly in \(place) are left out, as torchvision's ImageFolder does with a folder that has class "
                    + "directories (images: \(strayCount)); to use them, move them into the directory of their class, or, where "
                    + "classes do not matter, into one of their own")
        }
        if !emptyClasses.isEmpty {
            notes.append(
                "class directories of \(place) without images keep their class index: \(firstNames(emptyClasses)) (directories: "
                    + "\(emptyClasses.count))")
        }
        return notes
    }

    public var leftOutPictures: [LeftOutPictures] { undecodable.leftOut(of: place) }

    public var warnings: [String] {
        var warnings = closed.prefix(3).map { "\($0.message); it is passed over" }
        if closed.count > 3 {
            warnings.append("\(closed.count - 3) more folders cannot be opened and are passed over")
        }
        warnings += leftOutPictures.map(\.warning)
        guard let place else { return warnings }
        if strayCount > names.count {
            warnings.append(
                "more images of \(place) are left out than taken: \(Format.grouped(strayCount)) lie directly in it, and "
                    + "\(Format.grouped(names.count)) in its directories, which are the classes")
        }
        return warnings
    }

    public func bytes(_ index: Int) throws -> [UInt8] {
        guard !misnamed.contains(index) else { throw Failure(.badData, notText(path(index)).sentence) }
        return try imageOfSource(path(index))
    }

    public func head(_ index: Int, count: Int) throws -> [UInt8] {
        guard !misnamed.contains(index) else { throw Failure(.badData, notText(path(index)).sentence) }
        return try imageOfSource(path(index), atMost: count)
    }

    public func byteCount(_ index: Int) -> Int? { misnamed.contains(index) ? nil : fileByteCount(path(index)) }

    /// Searches the folder at `root`.
    ///
    /// - Parameters:
    ///   - usesLabels: whether the classes of images matter. If they do not, directories in the folder that may not be
    ///     read are passed over with a warning.
    ///   - keepsDrawn: whether pictures that dmae drew are images as others.
    /// - Throws: `Failure(.inputOutput)` where a directory is missing, cannot be read or has a name that is not UTF-8;
    ///   `Failure(.badData)` where there is no image.
    public init(_ root: String, usesLabels: Bool = true, keepsDrawn: Bool = false) throws {
        guard
            let folder = try ImageFolder(root, usesLabels: usesLabels, keepsDrawn: keepsDrawn, orArchives: nil)
        else {
            preconditionFailure("a folder without images is refused")
        }
        self = folder
    }

    /// As above. Nil for a folder without images whose archives `orArchives` takes: tar archives and compressed ones,
    /// within `root`, each sorted by path.
    init?(
        _ root: String, usesLabels: Bool, keepsDrawn: Bool,
        orArchives: ((_ tar: [String], _ compressed: [String]) -> Bool)?
    ) throws {
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
            var own: [ImageName] = []
            for (folder, names) in try search.images(in: name) { own += names.map { $0.inside(folder) } }
            own.sort { $0.precedes($1) }
            images += own
            if own.isEmpty { empty.append(name) }
            labels += [Int32](repeating: Int32(label), count: own.count)
        }
        if let closed = search.closed.first, usesLabels || images.isEmpty && top.images.isEmpty { throw closed.failure }
        (debris, closed) = (search.debris, search.closed.map(\.failure))
        undecodable = search.undecodable
        if images.isEmpty {
            guard !top.images.isEmpty else {
                if let orArchives, orArchives(search.archives.sorted(by: precedes), search.compressed) { return nil }
                let remedy =
                    undecodable.isEmpty
                    ? ": name one with \(FileKind.names) files, as no others can be decoded" : undecodable.hint
                throw Failure(
                    .badData,
                    "the folder \(root) holds no images (\(ImageExtension.text)), neither directly nor in class "
                        + "directories\(remedy)"
                )
            }
            let drawn = try Self.drawn(among: top.images, in: root, keepsDrawn)
            self.drawn = drawn.sorted().map { top.images[$0].text }
            images = top.images.enumerated().filter { !drawn.contains($0.offset) }.map(\.element)
            (classes, self.labels, strayCount, emptyClasses) = ([], [], 0, [])
        } else {
            let drawn = try Self.drawn(among: images, in: root, keepsDrawn)
            self.drawn = drawn.sorted().map { images[$0].text }
            if !drawn.isEmpty {
                let kept = images.indices.filter { !drawn.contains($0) }
                (images, labels) = (kept.map { images[$0] }, kept.map { labels[$0] })
                let filled = Set(labels)
                empty = top.folders.indices.filter { !filled.contains(Int32($0)) }.map { top.folders[$0] }
            }
            (classes, self.labels, strayCount, emptyClasses) = (top.folders, labels, top.images.count, empty)
        }
        (names, misnamed) = (images.map(\.text), Self.misnamed(images))
        archives = (search.archives + search.compressed).sorted(by: precedes)
    }

    /// Lists the files among `paths`, with any extension, and the images in the folders among them, searched
    /// recursively: without classes, every path once, sorted by bytes. Directories in those folders that may not be
    /// read are passed over with a warning.
    ///
    /// Throws `Failure(.inputOutput)` where a path does not exist, a folder among them cannot be read or a directory
    /// has a name that is not UTF-8; `Failure(.badData)` where there is no image.
    public init(listing paths: [String]) throws {
        guard let folder = try ImageFolder(listing: paths, orArchives: nil) else {
            preconditionFailure("paths without images are refused")
        }
        self = folder
    }

    /// As above. `orArchives` is called for each folder without images, with the tar archives in it, within that
    /// folder, and the compressed ones, and says whether it takes them. Nil if there are no images, but archives that
    /// it took.
    init?(
        listing paths: [String],
        orArchives: ((_ folder: String, _ tar: [String], _ compressed: [String]) -> Bool)?
    ) throws {
        var all: [ImageName] = [], left: [String] = [], isTaken = false
        // Those that are named themselves are meant.
        var named: Set<String> = []
        var search = ImageSearch(root: "")
        for path in paths {
            var status = stat()
            guard stat(path, &status) == 0 else { throw cannotOpen(path) }
            guard status.st_mode & S_IFMT == S_IFDIR else {
                all.append(ImageName(text: path, isExact: true))
                named.insert(path)
                continue
            }
            let folder = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
            let before = search.closed.count, found = all.count
            let (tarsBefore, compressedBefore) = (search.archives.count, search.compressed.count)
            for (folder, names) in try search.images(in: folder) { all += names.map { $0.inside(folder) } }
            let tars = search.archives[tarsBefore...], compressed = Array(search.compressed[compressedBefore...])
            let prefix = folder.utf8.count + (folder.hasSuffix("/") ? 0 : 1)
            let inside = tars.map { String(decoding: $0.utf8.dropFirst(prefix), as: UTF8.self) }
            if all.count == found, let orArchives,
                orArchives(folder, inside.sorted(by: precedes), compressed)
            {
                isTaken = true
            } else {
                left += tars + compressed
            }
            if search.closed.count > before, search.closed[before].path == folder {
                throw search.closed[before].failure
            }
        }
        if let closed = search.closed.first, all.isEmpty { throw closed.failure }
        if all.isEmpty, isTaken { return nil }
        (debris, closed) = (search.debris, search.closed.map(\.failure))
        undecodable = search.undecodable
        guard !all.isEmpty else {
            let remedy =
                undecodable.isEmpty
                ? ": name \(FileKind.names) files, as no others can be decoded, or a folder that holds some"
                : undecodable.hint
            throw Failure(
                .badData,
                "there are no images (\(ImageExtension.text)) in \(paths.joined(separator: ", "))\(remedy)"
            )
        }
        (place, classes, labels, strayCount, emptyClasses) = (nil, [], [], 0, [])
        all.sort { $0.precedes($1) }
        let once = all.enumerated().filter { $0 == 0 || !$1.isSameFile(as: all[$0 - 1]) }.map(\.element)
        let drawn = try DrawnPictures.indices(of: once.count) { index in
            once[index].isExact && !named.contains(once[index].text) ? once[index].text : nil
        }
        self.drawn = drawn.sorted().map { once[$0].text }
        let images = once.enumerated().filter { !drawn.contains($0.offset) }.map(\.element)
        archives = left.sorted(by: precedes)
        (names, misnamed) = (images.map(\.text), Self.misnamed(images))
    }

    /// The indices of images in the folder at `root` that are left out, as dmae drew them.
    private static func drawn(among images: [ImageName], in root: String, _ keepsDrawn: Bool) throws -> Set<Int> {
        guard !keepsDrawn else { return [] }
        return try DrawnPictures.indices(of: images.count) { images[$0].isExact ? images[$0].inside(root).text : nil }
    }

    private static func misnamed(_ images: [ImageName]) -> Set<Int> {
        Set(images.indices.filter { !images[$0].isExact })
    }
}

/// Order by bytes.
func precedes(_ first: String, _ second: String) -> Bool { first.utf8.lexicographicallyPrecedes(second.utf8) }
