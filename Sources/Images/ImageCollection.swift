import Glibc
import Reporting

/// The images of one or several folders, tar archives and lists, as one source.
///
/// Classes of the same name are one class; they are sorted by the bytes of their names. The images are those of all
/// places, sorted by class, then by name, then by place: two places may have an image of the same name. Where a place
/// has no classes, the collection has none.
public struct ImageCollection: ImageSource {
    private let parts: [any ImageSource]
    public let classes: [String]
    /// Of each image, its part and its index there.
    private let images: [(part: UInt32, index: UInt32)]
    /// Of each image, its class; empty without classes.
    private let labels: [Int32]
    /// Whether images are listed by their whole paths, without classes.
    private let isListing: Bool
    private let ownWarnings: [String]

    public var count: Int { images.count }
    public var place: String? { isListing || parts.count > 1 ? nil : parts[0].place }
    public var evaluationPart: String? { parts.count == 1 ? parts[0].evaluationPart : nil }
    public var files: [String] { parts.flatMap(\.files) }
    public var notes: [String] { parts.flatMap(\.notes) + summary }
    public var warnings: [String] { ownWarnings + parts.distinctWarnings + partNames + repeatedClasses }
    public var leftOutPictures: [LeftOutPictures] { parts.flatMap(\.leftOutPictures) }

    /// A warning about classes that are called as the parts of a data set are.
    private var partNames: [String] {
        guard let part = classes.first(where: ImageFolder.parts.contains),
            classes.allSatisfy(ImageFolder.parts.contains)
        else { return [] }
        let remedy: String
        switch parts.count == 1 ? parts[0] : nil {
        case let folder as ImageFolder: remedy = "name one, such as \(Self.inside(folder.place ?? "", part))"
        case is ImageArchives: remedy = "give each an archive of its own, and name one, such as that of \(part)"
        case is ImageList: remedy = "give each a list of its own, and name one, such as that of \(part)"
        default: remedy = "name the images of one, such as \(part)"
        }
        return [
            "the classes\(ofPlace) are called \(classes.joined(separator: ", ")): if they are parts of a data set, \(remedy)"
        ]
    }

    /// Warnings about classes whose names differ only in case, spaces, hyphens and underscores.
    private var repeatedClasses: [String] {
        var seen: [String: String] = [:]
        return classes.compactMap { name in
            let plain = String(name.lowercased().filter { !$0.isWhitespace && $0 != "_" && $0 != "-" })
            guard let other = seen.updateValue(name, forKey: plain) else { return nil }
            return
                "the classes \(other) and \(name)\(ofPlace) are two, though their names are alike: give their images one "
                + "name of a class if they are one"
        }
    }

    private var ofPlace: String { place.map { " of \($0)" } ?? "" }

    private static func inside(_ folder: String, _ name: String) -> String {
        folder.hasSuffix("/") ? folder + name : "\(folder)/\(name)"
    }

    /// Place after place.
    public var storedOrder: [Int] {
        var numbers = parts.map { [Int](repeating: -1, count: $0.count) }
        for (number, image) in images.enumerated() { numbers[Int(image.part)][Int(image.index)] = number }
        return parts.indices.flatMap { part in
            parts[part].storedOrder.compactMap { numbers[part][$0] >= 0 ? numbers[part][$0] : nil }
        }
    }

    public func name(_ index: Int) -> String {
        let image = images[index], part = parts[Int(image.part)]
        return isListing ? part.path(Int(image.index)) : part.name(Int(image.index))
    }
    public func path(_ index: Int) -> String { parts[Int(images[index].part)].path(Int(images[index].index)) }
    public func title(_ index: Int) -> String { parts[Int(images[index].part)].title(Int(images[index].index)) }
    public func label(_ index: Int) -> Int? { classes.isEmpty ? nil : Int(labels[index]) }
    public func bytes(_ index: Int) throws -> [UInt8] {
        try parts[Int(images[index].part)].bytes(Int(images[index].index))
    }
    public func head(_ index: Int, count: Int) throws -> [UInt8] {
        try parts[Int(images[index].part)].head(Int(images[index].index), count: count)
    }
    public func byteCount(_ index: Int) -> Int? {
        parts[Int(images[index].part)].byteCount(Int(images[index].index))
    }

    /// Opens the folders, tar archives and lists at `places`.
    ///
    /// - Parameter usesLabels: whether the classes of images matter. If they do not, directories that may not be read
    ///   are passed over with a warning, and classes may be missing in some places.
    /// - Parameter indexes: where the indexes of archives are kept.
    /// - Parameter keepsDrawn: whether pictures in folders that dmae drew are images as others.
    /// - Throws: `Failure.inputOutput` where a place is missing or cannot be read; `Failure.badData` where one holds no
    ///   images, is malformed, or alone has no classes though labels are used; `Failure.usage` for a file of another
    ///   kind.
    public init(
        _ places: ImagePlaces, usesLabels: Bool = true, indexes: ArchiveIndexes = ArchiveIndexes(),
        keepsDrawn: Bool = false
    ) throws {
        var parts: [any ImageSource] = []
        let places = try Self.expanded(places.paths)
        var kinds: [Kind] = []
        for place in places { kinds.append(try Self.kind(of: place)) }
        // Archives that are named are one data set, whatever else stands between them.
        let archives = zip(places, kinds).filter { $1 == .archive }.map { ImageArchives.Archive(path: $0.0) }
        for (place, kind) in zip(places, kinds) {
            switch kind {
            case .folder:
                var found: [ImageArchives.Archive] = [], packed: [String] = []
                let folder = try ImageFolder(place, usesLabels: usesLabels, keepsDrawn: keepsDrawn) { tar, compressed in
                    found = tar.map { ImageArchives.Archive($0, in: place) }
                    packed = compressed
                    return !tar.isEmpty || !compressed.isEmpty
                }
                if let folder {
                    parts.append(folder)
                } else {
                    if found.isEmpty { throw Self.onlyCompressed(place, packed) }
                    parts.append(
                        try ImageArchives(found, place: place, usesLabels: usesLabels, indexes: indexes))
                }
            case .archive where parts.contains(where: { ($0 as? ImageArchives)?.isNamed == true }): break
            case .archive:
                parts.append(
                    try ImageArchives(
                        archives, place: archives.count == 1 ? place : nil, usesLabels: usesLabels, isNamed: true,
                        indexes: indexes))
            case .list: parts.append(try ImageList(place))
            case .other:
                throw Failure(
                    .inputOutput,
                    "\(place) is not a folder; name the folder that holds the images or their class directories, an "
                        + "archive that ends in .tar, or a list that ends in .csv or .txt")
            }
        }
        if usesLabels, let flat = parts.first(where: \.classes.isEmpty),
            let other = parts.first(where: { !$0.classes.isEmpty })
        {
            throw Failure(
                .badData,
                "\(flat.place ?? "a place of images") has no classes, but \(other.place ?? "another") has: give every "
                    + "image a class, in class directories or by a list")
        }
        self.init(parts, warnings: Self.repetitions(places))
    }

    /// Lists the images at `paths`: files, with any extension, folders, searched to any depth, tar archives and lists.
    /// They have no classes, and are sorted by path, byte by byte, every path once.
    ///
    /// - Throws: as above.
    public init(listing paths: [String], indexes: ArchiveIndexes = ArchiveIndexes()) throws {
        var parts: [any ImageSource] = [], plain: [String] = []
        var archives: [ImageArchives.Archive] = [], packed: (folder: String, names: [String])?
        for path in try Self.expanded(paths) {
            switch try Self.kind(of: path) {
            case .list: parts.append(try ImageList(path))
            case .archive: archives.append(ImageArchives.Archive(path: path))
            case .folder, .other: plain.append(path)
            }
        }
        if !plain.isEmpty {
            let folder = try ImageFolder(listing: plain) { folder, tar, compressed in
                archives += tar.map { ImageArchives.Archive($0, in: folder) }
                if tar.isEmpty, packed == nil, !compressed.isEmpty { packed = (folder, compressed) }
                return !tar.isEmpty || !compressed.isEmpty
            }
            if let folder { parts.append(folder) }
        }
        if let packed { throw Self.onlyCompressed(packed.folder, packed.names) }
        if !archives.isEmpty {
            var seen: Set<ByteText> = []
            let distinct = archives.filter { seen.insert(ByteText($0.path)).inserted }
            parts.append(try ImageArchives(distinct, place: nil, isListing: true, indexes: indexes))
        }
        self.init(listing: parts)
    }

    /// The classes of a listing's images.
    public struct ListedClasses: Equatable, Sendable {
        /// The name of each image's class, empty for an image beside class directories; nil without classes.
        public let names: [String]?
        /// Why there are none, as a sentence for a person, where one could expect some.
        public let reason: String?

        /// No classes, for that reason.
        fileprivate static func none(_ reason: String? = nil) -> ListedClasses {
            ListedClasses(names: nil, reason: reason)
        }
    }

    /// The classes of a listing's images, where its folders, archives and lists have some: those of a source of the same
    /// places. Where the directories of a place are the parts of a data set, such as train and val, the classes are the
    /// directories within them.
    ///
    /// - Parameter paths: those of the listing.
    /// - Throws: `Failure.inputOutput` where a place cannot be read: results without their classes would look complete.
    public func classes(of paths: [String], indexes: ArchiveIndexes = ArchiveIndexes()) throws -> ListedClasses {
        precondition(isListing)
        // Pictures that are named one by one have no classes.
        guard try Self.expanded(paths).allSatisfy({ try Self.kind(of: $0) != .other }) else { return .none() }
        let labelled: ImageCollection
        do {
            labelled = try ImageCollection(ImagePlaces(paths), usesLabels: false, indexes: indexes)
        } catch let failure as Failure where failure.code == .badData || failure.code == .usage {
            // As a data set the places do not fit together.
            return .none()
        }
        guard !labelled.classes.isEmpty else {
            guard let other = labelled.parts.first(where: { !$0.classes.isEmpty }),
                let flat = labelled.parts.first(where: \.classes.isEmpty)
            else { return .none() }
            return .none(
                "no labels are written: \(flat.place ?? "a place of images") has no classes, but "
                    + "\(other.place ?? "another") has; name them in commands of their own to have those labels")
        }
        // What a list says is meant.
        let isOfParts = labelled.parts.map { part in
            !(part is ImageList) && part.classes.allSatisfy(ImageFolder.parts.contains)
        }
        var classes: [String: String] = [:]
        classes.reserveCapacity(labelled.count)
        for index in 0..<labelled.count {
            var name = labelled.label(index).map { labelled.classes[$0] } ?? ""
            let part = Int(labelled.images[index].part)
            if isOfParts[part] {
                let names = labelled.name(index).split(separator: "/")
                guard names.count > 2 else {
                    let place = labelled.parts[part].place.map { "of \($0) " } ?? ""
                    return .none(
                        "no labels are written: the folders \(place)are called "
                            + "\(labelled.parts[part].classes.joined(separator: ", ")), as the parts of a data set are, and there "
                            + "are no class folders in them (such as \(labelled.name(index))); if these are the classes, say so "
                            + "by a list with labels")
                }
                name = String(names[1])
            }
            classes[labelled.path(index)] = name
        }
        return ListedClasses(names: (0..<count).map { classes[path($0)] ?? "" }, reason: nil)
    }

    private static func onlyCompressed(_ folder: String, _ names: [String]) -> Failure {
        Failure(
            .badData,
            "the folder \(folder) holds no images but in compressed archives (\(firstNames(names.sorted(by: precedes)))): "
                + "unpack them")
    }

    private enum Kind { case folder, archive, list, other }

    /// What kind of place a path names.
    private static func kind(of path: String) throws -> Kind {
        var status = stat()
        guard stat(path, &status) == 0 else { throw cannotOpen(path, isFileName(path) ? "" : "the folder ") }
        if status.st_mode & S_IFMT == S_IFDIR { return .folder }
        if let compression = ArchiveName.compression(of: path) {
            throw Failure(
                .badData,
                "\(path) is \(compression.kind), whose images cannot be read by their place: unpack it with "
                    + "\(compression.command)")
        }
        return ArchiveName.isTar(path) ? .archive : ImageList.isList(path) ? .list : .other
    }

    private static func isFileName(_ path: String) -> Bool {
        ImageList.isList(path) || ImageFolder.isImage(path) || ArchiveName.isTar(path)
            || ArchiveName.compression(of: path) != nil || ImageExtension.undecodable(path) != nil
    }

    /// The paths with the braces of those that do not exist as they are expanded.
    private static func expanded(_ paths: [String]) throws -> [String] {
        try paths.flatMap { path in
            path.utf8.contains(UInt8(ascii: "{")) && access(path, F_OK) != 0
                ? try BraceExpansion.texts(of: path) : [path]
        }
    }

    /// Warnings about places that are given twice.
    private static func repetitions(_ places: [String]) -> [String] {
        var seen: Set<[UInt64]> = []
        return places.compactMap { place in
            var status = stat()
            guard stat(place, &status) == 0,
                !seen.insert([UInt64(status.st_dev), UInt64(status.st_ino)]).inserted
            else { return nil }
            return "\(place) is given twice: each of its images counts twice"
        }
    }

    /// The parts as one source, by class and name.
    private init(_ parts: [any ImageSource], warnings: [String]) {
        self.parts = parts
        isListing = false
        ownWarnings = warnings
        let names = Array(Set(parts.flatMap { $0.classes.map(ByteText.init) })).sorted()
        let indices = Dictionary(uniqueKeysWithValues: zip(names, Int32(0)...))
        let ranks = parts.map { part in part.classes.map { indices[ByteText($0)]! } }
        // Every part is in this order already, so the next image is the first of the heads.
        func label(_ part: Int, _ index: Int) -> Int32 {
            parts[part].label(index).map { ranks[part][$0] } ?? -1
        }
        struct Head {
            let part: Int
            var index: Int
            var label: Int32
            var name: String
            func precedes(_ other: Head) -> Bool {
                if label != other.label { return label < other.label }
                return name.utf8.lexicographicallyPrecedes(other.name.utf8)
            }
        }
        var images: [(part: UInt32, index: UInt32)] = [], labels: [Int32] = []
        images.reserveCapacity(parts.map(\.count).reduce(0, +))
        let hasClasses = parts.allSatisfy { !$0.classes.isEmpty }
        if parts.count == 1 {
            images += (0..<parts[0].count).map { (0, UInt32($0)) }
            labels = hasClasses ? (0..<parts[0].count).map { label(0, $0) } : []
        } else {
            var heads = parts.indices.map { Head(part: $0, index: 0, label: label($0, 0), name: parts[$0].name(0)) }
            while !heads.isEmpty {
                var first = 0
                for other in heads.indices.dropFirst() where heads[other].precedes(heads[first]) { first = other }
                let head = heads[first]
                images.append((UInt32(head.part), UInt32(head.index)))
                if hasClasses { labels.append(head.label) }
                let next = head.index + 1
                if next < parts[head.part].count {
                    heads[first] = Head(
                        part: head.part, index: next, label: label(head.part, next), name: parts[head.part].name(next))
                } else {
                    heads.remove(at: first)
                }
            }
        }
        self.images = images
        self.labels = labels
        classes = hasClasses ? names.map(\.text) : []
    }

    /// The parts as one list of paths.
    private init(listing parts: [any ImageSource]) {
        self.parts = parts
        isListing = true
        ownWarnings = []
        (classes, labels) = ([], [])
        var all: [(path: String, part: UInt32, index: UInt32)] = []
        for (number, part) in parts.enumerated() {
            all += (0..<part.count).map { (part.path($0), UInt32(number), UInt32($0)) }
        }
        all.sort { first, second in
            if !first.path.utf8.elementsEqual(second.path.utf8) { return precedes(first.path, second.path) }
            return (first.part, first.index) < (second.part, second.index)
        }
        // A part has every path once.
        images = all.enumerated().filter { number, image in
            number == 0 || all[number - 1].part == image.part
                || !image.path.utf8.elementsEqual(all[number - 1].path.utf8)
        }.map { ($1.part, $1.index) }
    }

    /// What the collection consists of: "pictures/train: 1,200 images, 3 classes (bird, cat, dog)".
    private var summary: [String] {
        guard !isListing else { return [] }
        let kinds: [(noun: String, count: Int)] = [
            ("folder", parts.count { $0 is ImageFolder }),
            ("tar archive", parts.compactMap { ($0 as? ImageArchives)?.archiveCount }.reduce(0, +)),
            ("list", parts.count { $0 is ImageList }),
        ]
        let places = kinds.filter { $0.count > 0 }.map { Format.counted($0.count, $0.noun) }.joined(separator: ", ")
        var text = "\(place ?? places): \(Format.counted(count, "image"))"
        if !classes.isEmpty {
            text += ", \(Format.grouped(classes.count)) class\(classes.count == 1 ? "" : "es") (\(firstNames(classes)))"
        }
        return [text]
    }

    /// Whether a path names an archive or a list by its ending, or several places by braces.
    public static func isArchiveOrList(_ path: String) -> Bool {
        ArchiveName.isTar(path) || ImageList.isList(path) || path.utf8.contains(UInt8(ascii: "{"))
    }
}
