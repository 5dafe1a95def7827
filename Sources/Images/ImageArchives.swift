import Reporting

/// The images of one or several tar archives, and of archives that are members of them.
///
/// Members are read in place, by their offsets. The class of an image is
/// - the number in its sample's .cls, in decimal digits, where samples have one;
/// - else the first directory in its path, as in a folder; directories that all images have in common are passed over,
///   unless all images lie directly in the last of them;
/// - else, and where all images of several archives lie directly in the same directory, the directory that holds its
///   archive, where archives lie in several;
/// - else its archive's name, where there are several archives, unless two names differ in digits only, as those of the
///   parts of one archive do. (Names of WordNet, n and eight digits, are classes.)
///
/// Its name is what its path would be in a folder of such class directories, so that a run does not depend on which of
/// the two it reads.
struct ImageArchives: ImageSource {
    /// An archive: its path, and the directory that it counts as lying in, for archives that were found in a folder.
    struct Archive {
        let path: String
        let folder: String

        init(path: String) { (self.path, folder) = (path, "") }

        /// The archive of that name within `folder`.
        init(_ name: String, in folder: String) {
            path = folder.hasSuffix("/") ? folder + name : "\(folder)/\(name)"
            self.folder = name.lastIndex(of: "/").map { String(name[..<$0]) } ?? ""
        }
    }

    /// The images of an archive or of an archive in it.
    private struct Unit {
        let path: String
        let stamp: FileStamp
        let images: ArchiveIndex.Unit
        /// What stands before a member's path in the images' names, without `dropped`.
        var head: [UInt8]
        /// Directories that are left out of a member's path in the images' names.
        var dropped: [UInt8] = []
        /// The images whose names are not UTF-8.
        let misnamed: Set<Int>

        func name(_ index: Int) -> ArraySlice<UInt8> { images.paths[index].dropFirst(dropped.count) }
        var hasDirectories: Bool { images.paths.bytes.contains(UInt8(ascii: "/")) }
    }
    /// An image: its unit, and its index there.
    private struct Entry {
        let unit: UInt32
        let image: UInt32
    }

    let place: String?
    let classes: [String]
    let notes: [String]
    let warnings: [String]
    let leftOutPictures: [LeftOutPictures]
    /// Whether the archives were named one by one.
    let isNamed: Bool
    private let archives: [String]
    private let units: [Unit]
    private let images: [Entry]
    private let labels: [Int32]

    /// Number of archives that are not members of others.
    var archiveCount: Int { archives.count }
    var count: Int { images.count }
    var files: [String] { archives }
    func label(_ index: Int) -> Int? { classes.isEmpty ? nil : Int(labels[index]) }

    func name(_ index: Int) -> String {
        let entry = images[index], unit = units[Int(entry.unit)]
        return String(decoding: unit.head + unit.name(Int(entry.image)), as: UTF8.self)
    }

    func path(_ index: Int) -> String { wholePath(index, separator: "/") }
    func title(_ index: Int) -> String { wholePath(index, separator: ": ") }

    private func wholePath(_ index: Int, separator: String) -> String {
        let entry = images[index], unit = units[Int(entry.unit)]
        let inner = unit.images.name.isEmpty ? [] : unit.images.name + [UInt8(ascii: "/")]
        return unit.path + separator
            + String(decoding: inner + unit.images.paths[Int(entry.image)], as: UTF8.self)
    }

    /// Archive after archive, from the beginning of each to its end.
    var storedOrder: [Int] {
        var numbers: [String: Int] = [:]
        for (number, path) in archives.enumerated() where numbers[path] == nil { numbers[path] = number }
        let ranks = units.map { numbers[$0.path] ?? 0 }
        let places = images.map { entry in
            (ranks[Int(entry.unit)], units[Int(entry.unit)].images.offsets[Int(entry.image)])
        }
        // Links to one member lie at one place.
        return images.indices.sorted { places[$0] == places[$1] ? $0 < $1 : places[$0] < places[$1] }
    }

    func bytes(_ index: Int) throws -> [UInt8] { try head(index, count: .max) }

    func head(_ index: Int, count: Int) throws -> [UInt8] {
        let entry = images[index], unit = units[Int(entry.unit)], image = Int(entry.image)
        let offset = unit.images.offsets[image], size = unit.images.sizes[image]
        guard !unit.misnamed.contains(image) else { throw Failure(.badData, notText(title(index)).sentence) }
        guard size <= maximumFileSize else { throw tooLarge(title(index)) }
        return try ArchiveFile(path: unit.path).bytes(offset..<offset + min(size, count), of: unit.stamp)
    }

    func byteCount(_ index: Int) -> Int? {
        let entry = images[index], unit = units[Int(entry.unit)], image = Int(entry.image)
        return unit.misnamed.contains(image) ? nil : unit.images.sizes[image]
    }

    /// Opens archives.
    ///
    /// - Parameters:
    ///   - archives: in the order in which images of the same name stand.
    ///   - place: what holds them all, as messages name it; nil for several archives.
    ///   - usesLabels: whether the classes of images matter. If they do not, an image may lack a .cls.
    ///   - isNamed: whether the archives were named one by one.
    ///   - isListing: whether all images are listed by their paths, without classes.
    /// - Throws: `Failure.inputOutput` where an archive cannot be read; `Failure.badData` where one is malformed, there
    ///   is no image, or, with labels, a sample lacks its .cls. `Failure.inputOutput`, too, for the name of a directory
    ///   or of an archive in an archive that is not UTF-8.
    init(
        _ archives: [Archive], place: String?, usesLabels: Bool = true, isNamed: Bool = false,
        isListing: Bool = false, indexes: ArchiveIndexes
    ) throws {
        self.place = place
        self.isNamed = isNamed
        self.archives = archives.map(\.path)
        var units: [Unit] = [], notes: [String] = [], warnings: [String] = []
        var names: [(folder: [UInt8], stem: [UInt8])] = []
        var all = ArchiveIndex()
        for archive in archives {
            let (index, stamp) = try indexes.index(of: archive.path)
            all.merge(index)
            for images in index.units where images.paths.count > 0 || images.folders.count > 0 {
                let misnamed = try Self.misnamed(images, in: archive.path)
                let own = Array((archive.path.split(separator: "/").last ?? "").utf8)
                let inner = images.name.split(separator: UInt8(ascii: "/"))
                let folder = Array(archive.folder.utf8).split(separator: UInt8(ascii: "/")) + inner.dropLast()
                let file = inner.last.map { Array($0) } ?? own
                // Directories without images are classes only where they lie beside those with images.
                guard images.paths.count > 0 || folder.isEmpty else { continue }
                units.append(Unit(path: archive.path, stamp: stamp, images: images, head: [], misnamed: misnamed))
                names.append((Array(folder.joined(separator: [UInt8(ascii: "/")])), Array(file.dropLast(4))))
            }
        }
        let shown = place ?? archives.map(\.path).joined(separator: ", ")
        let total = units.map(\.images.paths.count).reduce(0, +)
        guard total > 0 else {
            let endings = ImageExtension.text
            let hint =
                all.compressed.count > 0
                ? ", only compressed archives (\(all.compressed.text)): unpack them" : all.undecodable.hint
            throw Failure(.badData, "\(shown): holds no images (\(endings))\(hint)")
        }
        (notes, warnings) = Self.sentences(all)
        leftOutPictures = all.undecodable.leftOut(of: place)
        warnings += leftOutPictures.map(\.warning)

        if isListing {
            self.units = units
            (classes, labels) = ([], [])
            images = units.indices.flatMap { unit in
                (0..<units[unit].images.paths.count).map { Entry(unit: UInt32(unit), image: UInt32($0)) }
            }
            (self.notes, self.warnings) = (notes, warnings)
            return
        }

        var rule = ClassRule.directory
        if units.contains(where: { $0.images.classes.contains { $0 != nil } }) {
            rule = .number
        } else {
            // What holds directories or archives, but no images of its own, has no say.
            let holding = units.indices.filter { units[$0].images.paths.count > 0 }
            let isInner = holding.allSatisfy { !units[$0].images.name.isEmpty }
            let hasDirectories = units.contains(where: \.hasDirectories)
            if Set(holding.map { names[$0].folder }).count == 1,
                !hasDirectories || holding.count > 1 && Self.haveOneFolder(holding.map { units[$0].images })
            {
                let areParts = holding.count == 1 && !isInner || ArchiveName.areParts(holding.map { names[$0].stem })
                rule = !areParts ? .archive : hasDirectories ? .directory : .none
            }
        }
        for index in units.indices where units[index].images.paths.count > 0 {
            let part = rule == .archive ? names[index].stem : rule == .none ? [] : names[index].folder
            units[index].head = part.isEmpty ? [] : part + [UInt8(ascii: "/")]
        }
        if rule != .none, rule != .number {
            let common = Self.commonFolder(&units)
            if !common.isEmpty, place != nil {
                notes.append("\(shown): directories are counted from \(String(decoding: common, as: UTF8.self)) on")
            }
        }

        // Class names by bytes, and each image's.
        var classes: [[UInt8]: Int32] = [:]
        var found: [(entry: Entry, label: Int32)] = [], strays = 0
        found.reserveCapacity(total)
        func number(of name: [UInt8]) -> Int32 {
            if let known = classes[name] { return known }
            classes[name] = Int32(classes.count)
            return Int32(classes.count - 1)
        }
        var lacking: (unit: Unit, image: Int)?
        for (place, unit) in units.enumerated() {
            // Neighbours mostly have the same class.
            var last: (name: ArraySlice<UInt8>, label: Int32)?
            let ownHead = unit.head.firstIndex(of: UInt8(ascii: "/")).map { number(of: Array(unit.head[..<$0])) }
            for image in 0..<unit.images.paths.count {
                var label: Int32 = -1
                switch rule {
                case .none: break
                case .number:
                    if let value = unit.images.classes[image] {
                        label = number(of: Array(String(value).utf8))
                    } else if lacking == nil {
                        lacking = (unit, image)
                    }
                case .directory, .archive:
                    if let ownHead {
                        label = ownHead
                    } else {
                        let name = unit.name(image)
                        if let slash = name.firstIndex(of: UInt8(ascii: "/")) {
                            if last == nil || last!.name != name[..<slash] {
                                last = (name[..<slash], number(of: Array(name[..<slash])))
                            }
                            label = last!.label
                        }
                    }
                }
                found.append((Entry(unit: UInt32(place), image: UInt32(image)), label))
            }
            guard rule == .directory, ownHead == nil else { continue }
            for folder in 0..<unit.images.folders.count {
                let path = unit.images.folders[folder]
                guard path.count > unit.dropped.count, path.starts(with: unit.dropped) else { continue }
                _ = number(of: Array(path.dropFirst(unit.dropped.count).prefix { $0 != UInt8(ascii: "/") }))
            }
        }
        if rule == .number, let lacking {
            guard !usesLabels else {
                let member = String(decoding: lacking.unit.images.paths[lacking.image], as: UTF8.self)
                throw Failure(
                    .badData,
                    "\(lacking.unit.path): \(member) has no .cls, though other images have: give every image a class")
            }
            (rule, classes) = (.none, [:])
            found = found.map { ($0.entry, -1) }
        }
        let hasClass = found.contains { $0.label >= 0 }
        if hasClass {
            strays = found.count { $0.label < 0 }
            found.removeAll { $0.label < 0 }
        } else {
            // As in a folder whose directories hold no images.
            classes = [:]
        }
        if strays > 0 {
            notes.append(
                "images outside the class directories of \(shown) are left out, as in a folder (images: \(strays)); to use "
                    + "them, write the archive with each in the directory of its class")
        }

        let order = classes.keys.sorted { $0.lexicographicallyPrecedes($1) }
        var ranks = [Int32](repeating: 0, count: classes.count)
        for (rank, name) in order.enumerated() { ranks[Int(classes[name]!)] = Int32(rank) }
        var byClass = [[Entry]](repeating: [], count: max(1, order.count))
        for (entry, label) in found { byClass[label < 0 ? 0 : Int(ranks[Int(label)])].append(entry) }
        let empty = order.indices.filter { byClass[$0].isEmpty }
        if !empty.isEmpty {
            let names = firstNames(empty.map { String(decoding: order[$0], as: UTF8.self) })
            notes.append(
                "class directories of \(shown) without images keep their class index: \(names) (directories: "
                    + "\(empty.count))")
        }
        if rule == .archive {
            let names = firstNames(order.map { String(decoding: $0, as: UTF8.self) })
            notes.append(
                "each archive of \(shown) is a class, as images do not lie in directories of different names: \(names) "
                    + "(classes: \(order.count))")
        }
        let finished = units
        func precedes(_ first: Entry, _ second: Entry) -> Bool {
            // The images of a unit are sorted by path.
            if first.unit == second.unit { return first.image < second.image }
            let (one, other) = (finished[Int(first.unit)], finished[Int(second.unit)])
            let (name, otherName) = (one.name(Int(first.image)), other.name(Int(second.image)))
            if one.head == other.head {
                if name.lexicographicallyPrecedes(otherName) { return true }
                return name == otherName && first.unit < second.unit
            }
            let (whole, otherWhole) = (one.head + name, other.head + otherName)
            if whole.lexicographicallyPrecedes(otherWhole) { return true }
            return whole == otherWhole && first.unit < second.unit
        }
        for index in byClass.indices { byClass[index].sort(by: precedes) }
        labels = hasClass ? byClass.enumerated().flatMap { [Int32](repeating: Int32($0), count: $1.count) } : []
        images = byClass.flatMap { $0 }
        self.classes = order.map { String(decoding: $0, as: UTF8.self) }
        self.units = units
        (self.notes, self.warnings) = (notes, warnings)
    }

    /// What the classes of images are.
    private enum ClassRule { case none, number, directory, archive }

    /// The images of a unit whose names are not UTF-8.
    ///
    /// - Throws: `Failure.inputOutput` where a directory or the archive itself, in another one, has such a name: as in a
    ///   folder, what is a class has a name.
    private static func misnamed(_ unit: ArchiveIndex.Unit, in archive: String) throws -> Set<Int> {
        func refusal(_ title: String, _ path: some Sequence<UInt8>) -> Failure {
            Failure(
                .inputOutput,
                "\(title) \(String(decoding: Array(path), as: UTF8.self)) has a name that is not valid UTF-8: rename it, "
                    + "and write \(archive) anew")
        }
        func isText(_ bytes: some Sequence<UInt8>) -> Bool { String(validating: bytes, as: UTF8.self) != nil }
        guard isText(unit.name) else {
            throw refusal("\(archive): the archive", unit.name)
        }
        let inner = unit.name.isEmpty ? "" : ": " + String(decoding: unit.name, as: UTF8.self)
        let title = "\(archive)\(inner): the folder"
        func hasOnlyASCII(_ table: PathTable) -> Bool { !table.bytes.contains { $0 >= 0x80 } }
        if !hasOnlyASCII(unit.folders) {
            for index in 0..<unit.folders.count where !isText(unit.folders[index]) {
                throw refusal(title, unit.folders[index])
            }
        }
        var misnamed: Set<Int> = []
        guard !hasOnlyASCII(unit.paths) else { return misnamed }
        for index in 0..<unit.paths.count where !isText(unit.paths[index]) {
            let path = unit.paths[index]
            if let slash = path.lastIndex(of: UInt8(ascii: "/")), !isText(path[..<slash]) {
                throw refusal(title, path[..<slash])
            }
            misnamed.insert(index)
        }
        return misnamed
    }

    /// Whether all images lie directly in one directory, of the same path in every archive.
    private static func haveOneFolder(_ units: [ArchiveIndex.Unit]) -> Bool {
        func folder(_ path: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
            path[..<(path.lastIndex(of: UInt8(ascii: "/")) ?? path.startIndex)]
        }
        let first = folder(units[0].paths[0])
        return !first.isEmpty
            && units.allSatisfy { unit in (0..<unit.paths.count).allSatisfy { folder(unit.paths[$0]) == first } }
    }

    /// Takes the directories that all images have in common out of their names, up to the last one if all images lie
    /// directly in it. Returns them.
    private static func commonFolder(_ units: inout [Unit]) -> [UInt8] {
        let slash = UInt8(ascii: "/")
        var common: [UInt8]?
        for unit in units where unit.images.paths.count > 0 {
            // Paths are sorted, so what the first and the last have in common all have.
            for index in [0, unit.images.paths.count - 1] {
                let name = unit.head + unit.images.paths[index]
                guard let prefix = common else {
                    common = Array(name[..<((name.lastIndex(of: slash) ?? -1) + 1)])
                    continue
                }
                let shared = zip(prefix, name).prefix { $0 == $1 }.count
                common = Array(prefix[..<((prefix[..<shared].lastIndex(of: slash) ?? -1) + 1)])
            }
        }
        guard var common, !common.isEmpty else { return [] }
        let isDirect = units.allSatisfy { unit in
            (0..<unit.images.paths.count).allSatisfy { index in
                let name = unit.head + unit.images.paths[index]
                return !name[common.count...].contains(slash)
            }
        }
        if isDirect { common = Array(common[..<((common.dropLast().lastIndex(of: slash) ?? -1) + 1)]) }
        for index in units.indices {
            let own = min(common.count, units[index].head.count)
            units[index].head.removeFirst(own)
            units[index].dropped = Array(common[own...])
        }
        return common
    }

    /// What was found in the archives, for the user.
    private static func sentences(_ all: ArchiveIndex) -> (notes: [String], warnings: [String]) {
        var notes: [String] = [], warnings: [String] = []
        func add(_ tally: ArchiveIndex.Tally, _ unit: String, to sentences: inout [String], _ text: (String) -> String)
        {
            if tally.count > 0 { sentences.append("\(text(tally.text)) (\(unit): \(tally.count))") }
        }
        add(all.debris, "images and folders", to: &notes) {
            "hidden files and what systems leave behind are passed over: \($0)"
        }
        add(all.others, "images", to: &notes) { "further images of a sample are left out: \($0)" }
        add(all.replaced, "images", to: &notes) {
            "of images with the same path in one archive the last is taken, as when it is unpacked: \($0)"
        }
        add(all.compressed, "archives", to: &warnings) { "compressed archives in archives are left out: \($0)" }
        add(all.links, "links", to: &warnings) { "links to nothing in their archive are left out: \($0)" }
        add(all.folderLinks, "links", to: &warnings) {
            "links to directories are left out, and with them what they lead to: \($0)"
        }
        add(all.endless, "archives", to: &warnings) {
            "archives without the mark of their end may not be whole: \($0)"
        }
        add(all.joined, "archives", to: &warnings) {
            "what follows the mark of an archive's end is not read (tar -A joins archives, cat does not): \($0)"
        }
        return (notes, warnings)
    }
}

extension ArchiveIndex {
    /// Adds what was found in another archive, apart from the images.
    fileprivate mutating func merge(_ other: ArchiveIndex) {
        debris.merge(other.debris)
        links.merge(other.links)
        folderLinks.merge(other.folderLinks)
        others.merge(other.others)
        replaced.merge(other.replaced)
        compressed.merge(other.compressed)
        undecodable.add(other.undecodable)
        endless.merge(other.endless)
        joined.merge(other.joined)
    }
}

extension ArchiveIndex.Tally {
    fileprivate mutating func merge(_ other: ArchiveIndex.Tally) {
        first += other.first.prefix(3 - first.count)
        count += other.count
    }
}
