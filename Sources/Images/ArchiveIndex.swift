import Reporting

/// Where the images of a tar archive lie: its own, and those of archives that are its members.
package struct ArchiveIndex: Equatable {
    /// The images of an archive, or of an archive in it.
    package struct Unit: Equatable {
        /// The path of the archive within the outer one; empty for the outer one.
        var name: [UInt8] = []
        /// The images' paths in their archive, sorted by bytes, each once.
        var paths = PathTable()
        /// Where each image lies in the outer archive.
        var offsets: [Int] = []
        package var sizes: [Int] = []
        /// The number in the .cls member of each image's sample; nil without one.
        var classes: [Int?] = []
        /// The folders that are members.
        var folders = PathTable()
    }
    /// A number of members of a kind, and the names of the first.
    struct Tally: Equatable {
        var count = 0
        var first: [String] = []

        mutating func add(_ name: String) {
            count += 1
            if first.count < 3 { first.append(name) }
        }

        var text: String { firstNames(first) + (count > first.count ? ", …" : "") }
    }

    package var units: [Unit] = []
    /// Images and folders that `Debris` names.
    var debris = Tally()
    /// Links to nothing in the archive that images or directories might be.
    var links = Tally()
    /// Links to directories, which are not followed.
    var folderLinks = Tally()
    /// Further images of a sample.
    var others = Tally()
    /// Earlier members with the path of a later one.
    var replaced = Tally()
    /// Compressed archives, which are not read.
    var compressed = Tally()
    /// Pictures that cannot be decoded.
    var undecodable = UndecodablePictures()
    /// Archives without the mark of their end.
    var endless = Tally()
    /// Archives in which something follows that mark.
    var joined = Tally()

    var imageCount: Int { units.map(\.paths.count).reduce(0, +) }

    init() {}

    /// Reads the headers of an archive.
    ///
    /// Members are grouped as WebDataset does it: neighbours whose paths are equal up to the first dot of the base name
    /// are one sample, and the rest of the name is the suffix, without regard to case. A sample's .cls holds the number
    /// of its class. Of several images in a sample that has other members, too, the one without a dot in its suffix is
    /// taken.
    ///
    /// - Throws: `Failure.badData` for an archive that is damaged or truncated, has an image that is stored sparse, a
    ///   suffix twice in a sample that has more than images, or a .cls that is not a number; and what reading it throws.
    package init(_ bytes: ArchiveBytes) throws {
        try add(bytes, range: 0..<bytes.count, name: [], title: bytes.path, depth: 0)
    }

    private mutating func add(
        _ bytes: ArchiveBytes, range: Range<Int>, name: [UInt8], title: String, depth: Int
    ) throws {
        var reader = TarReader(bytes, in: range, named: title)
        var builder = UnitBuilder(title: title)
        var inner: [(path: [UInt8], content: Range<Int>)] = []
        // Neighbours mostly lie in the same folder.
        var folder: (path: ArraySlice<UInt8>, isDebris: Bool) = ([], false)
        while let member = try reader.next() {
            guard let path = MemberPath(member.path) else { continue }
            if path.folder != folder.path { folder = (path.folder, MemberPath.isDebris(path.folder)) }
            if folder.isDebris || path.isDebrisItself {
                if member.kind == .folder || path.isImage { debris.add("\(title): \(path.text)") }
                continue
            }
            switch member.kind {
            case .folder: builder.unit.folders.append(path.bytes)
            case .regular:
                if path.isImage {
                    try builder.add(path, member.content, of: bytes)
                } else if ArchiveName.isTar(path.base) {
                    guard depth == 0 else {
                        throw Failure(
                            .badData,
                            "\(title): \(path.text) is an archive in an archive in an archive: unpack the outer one")
                    }
                    inner.append((path.bytes, member.content))
                } else if ArchiveName.compression(of: path.base) != nil {
                    compressed.add("\(title): \(path.text)")
                } else {
                    if let kind = ImageExtension.undecodable(path.base) { undecodable.add(kind) }
                    if !path.base.utf8.contains(UInt8(ascii: ".")) { builder.plainFiles.insert(path.bytes) }
                    try builder.add(path, member.content, of: bytes)
                }
            case .link(let target, let isHard):
                let place = path.resolve(target, isHard: isHard)
                if path.isImage {
                    builder.links.append((path, place))
                } else if !isHard {
                    builder.otherLinks.append((path, place, target))
                }
            case .sparse:
                guard path.isImage else { continue }
                throw Failure(
                    .badData,
                    "\(title): \(path.text) is stored as a sparse file, which cannot be read: write the archive without "
                        + "tar's -S")
            case .other: continue
            }
        }
        if !reader.hasEndMark { endless.add(title) }
        if reader.hasRest { joined.add(title) }
        try builder.flush()
        let (folders, nowhere) = builder.folderLinks()
        for path in folders { folderLinks.add("\(title): \(path)") }
        for path in nowhere { links.add("\(title): \(path)") }
        for image in builder.others { others.add("\(title): \(image)") }
        for path in builder.finish() { links.add("\(title): \(path)") }
        for path in builder.sort() { replaced.add("\(title): \(path)") }
        builder.unit.name = name
        units.append(builder.unit)
        for archive in inner {
            try add(
                bytes, range: archive.content, name: archive.path,
                title: "\(title): \(String(decoding: archive.path, as: UTF8.self))", depth: depth + 1)
        }
    }
}

/// The path of a member without what does not change its meaning: "./", doubled and trailing slashes.
private struct MemberPath {
    let bytes: [UInt8]
    let base: String
    let isImage: Bool

    /// Nil for the archive's own root.
    init?(_ path: [UInt8]) {
        let slash = UInt8(ascii: "/")
        let parts = path.split(separator: slash).filter { !$0.elementsEqual(".".utf8) }
        guard let last = parts.last else { return nil }
        bytes = Array(parts.joined(separator: [slash]))
        base = String(decoding: last, as: UTF8.self)
        isImage = ImageExtension.isImage(base)
    }

    var text: String { String(decoding: bytes, as: UTF8.self) }
    var parts: [ArraySlice<UInt8>] { bytes.split(separator: UInt8(ascii: "/")) }

    /// The position of the base name.
    private var baseStart: Int { (bytes.lastIndex(of: UInt8(ascii: "/")) ?? -1) + 1 }
    /// The folder, with a slash after it; empty for none.
    var folder: ArraySlice<UInt8> { bytes[..<baseStart] }

    /// Whether the base name is debris.
    var isDebrisItself: Bool { Debris.contains(base) || folder.isEmpty && Self.isWebDatasets(bytes[...]) }

    /// Whether a part of the path is debris, or the first is one of WebDataset's own names.
    static func isDebris(_ path: ArraySlice<UInt8>) -> Bool {
        let parts = path.split(separator: UInt8(ascii: "/"))
        return parts.contains { !$0.elementsEqual("..".utf8) && Debris.contains(String(decoding: $0, as: UTF8.self)) }
            || parts.first.map(isWebDatasets) ?? false
    }

    /// Whether a name is of the form "__x__".
    private static func isWebDatasets(_ name: ArraySlice<UInt8>) -> Bool {
        name.count >= 4 && name.starts(with: "__".utf8) && name.suffix(2).elementsEqual("__".utf8)
    }

    /// Everything up to the first dot of the base name, and the rest in lower case; nil without a dot.
    var sample: (key: ArraySlice<UInt8>, suffix: String)? {
        guard let dot = bytes[baseStart...].firstIndex(of: UInt8(ascii: ".")), dot > baseStart else { return nil }
        return (bytes[..<dot], String(decoding: bytes[(dot + 1)...], as: UTF8.self).lowercased())
    }

    /// The path in the archive of a link's target; nil outside the archive.
    func resolve(_ target: [UInt8], isHard: Bool) -> [UInt8]? {
        var parts: [ArraySlice<UInt8>] = []
        if !isHard {
            guard target.first != UInt8(ascii: "/") else { return nil }
            parts = Array(self.parts.dropLast())
        }
        for part in target.split(separator: UInt8(ascii: "/")) where !part.elementsEqual([UInt8(ascii: ".")]) {
            if part.elementsEqual("..".utf8) {
                guard parts.popLast() != nil else { return nil }
            } else {
                parts.append(part)
            }
        }
        return Array(parts.joined(separator: [UInt8(ascii: "/")]))
    }
}

/// Collects the images of an archive, in the order of its members.
private struct UnitBuilder {
    struct Image {
        let path: [UInt8]
        let content: Range<Int>
        let suffix: String
    }

    let title: String
    var unit = ArchiveIndex.Unit()
    var links: [(path: MemberPath, target: [UInt8]?)] = []
    /// Symbolic links with other names than those of images, with their targets in the archive, and as they are stored.
    var otherLinks: [(path: MemberPath, target: [UInt8]?, stored: [UInt8])] = []
    /// Regular members that are no images and have no dot in their names.
    var plainFiles: Set<[UInt8]> = []
    /// Further images of samples, which were left out.
    var others: [String] = []

    // The sample that is being read.
    private var key: [UInt8] = []
    private var suffixes: Set<String> = []
    private var images: [Image] = []
    private var number: Int?
    /// The first member whose suffix the sample has already.
    private var repeated: (path: MemberPath, suffix: String)?

    init(title: String) { self.title = title }

    mutating func add(_ path: MemberPath, _ content: Range<Int>, of bytes: ArchiveBytes) throws {
        guard let (key, suffix) = path.sample else { return }
        if !key.elementsEqual(self.key) {
            try flush()
            self.key = Array(key)
        }
        if !suffixes.insert(suffix).inserted, repeated == nil { repeated = (path, suffix) }
        if suffix == "cls" {
            number = try Self.number(try bytes.bytes(content.prefix(64)), whole: content.count <= 64) {
                "\(title): \(path.text) holds \(quoted($0)) where the number of a class belongs"
            }
        } else if path.isImage {
            images.append(Image(path: path.bytes, content: content, suffix: suffix))
        }
    }

    private static func number(
        _ bytes: ArraySlice<UInt8>, whole: Bool, _ refusal: (String) -> Message
    ) throws -> Int {
        let text = String(decoding: bytes, as: UTF8.self)
        let digits = text.drop(while: \.isWhitespace).prefix { !$0.isWhitespace && $0 != "\0" }
        let rest = text[digits.endIndex...].allSatisfy { $0.isWhitespace || $0 == "\0" }
        guard whole, rest, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(digits) else {
            throw Failure(.badData, refusal(text))
        }
        return number
    }

    /// Ends the sample.
    ///
    /// - Throws: `Failure.badData` for a sample of several kinds of members with two of one kind. Images alone, such as
    ///   1.png and 1.PNG, are samples of their own.
    mutating func flush() throws {
        defer { (suffixes, images, number, repeated) = ([], [], nil, nil) }
        let hasOtherMembers = suffixes.count > Set(images.map(\.suffix)).count
        if hasOtherMembers, let repeated {
            throw Failure(
                .badData,
                "\(title): \(repeated.path.text) is the second \(repeated.suffix) of one sample: its neighbours with the "
                    + "name \(String(decoding: key, as: UTF8.self)) belong to it; write the archive with other names")
        }
        var taken = images
        if images.count > 1, hasOtherMembers {
            let plain = images.filter { !$0.suffix.contains(".") }
            let ranks = ImageExtension.all
            if let best = plain.min(by: { ranks.firstIndex(of: $0.suffix)! < ranks.firstIndex(of: $1.suffix)! }) {
                taken = [best]
                others += images.filter { $0.path != best.path }.map { String(decoding: $0.path, as: UTF8.self) }
            }
        }
        for image in taken { append(image.path, image.content.lowerBound, image.content.count, number) }
    }

    private mutating func append(_ path: [UInt8], _ offset: Int, _ size: Int, _ number: Int?) {
        unit.paths.append(path)
        unit.offsets.append(offset)
        unit.sizes.append(size)
        unit.classes.append(number)
    }

    /// Of the symbolic links without an image's name, those to directories of the archive, and those to nothing in it
    /// whose names, without a dot, may be those of directories. To be called after `flush` and before `finish`.
    func folderLinks() -> (folders: [String], nowhere: [String]) {
        guard !otherLinks.isEmpty else { return ([], []) }
        let slash = UInt8(ascii: "/")
        var known: Set<[UInt8]> = [[]]
        func addParents(_ path: ArraySlice<UInt8>) {
            var path = path
            while let end = path.lastIndex(of: slash) {
                path = path[..<end]
                guard known.insert(Array(path)).inserted else { return }
            }
        }
        for index in 0..<unit.paths.count { addParents(unit.paths[index]) }
        for index in 0..<unit.folders.count { addParents(unit.folders[index] + [slash]) }
        func isPlain(_ path: [UInt8]) -> Bool {
            !(path.split(separator: slash).last ?? []).contains(UInt8(ascii: "."))
        }
        var folders: [String] = [], nowhere: [String] = []
        for link in otherLinks {
            if let target = link.target, known.contains(target) {
                folders.append(link.path.text)
            } else if isPlain(link.path.bytes), isPlain(link.stored), !(link.target.map(plainFiles.contains) ?? false) {
                nowhere.append(link.path.text)
            }
        }
        return (folders, nowhere)
    }

    /// Adds the images that are links to others in the archive. Returns the paths of the other links.
    mutating func finish() -> [String] {
        guard !links.isEmpty else { return [] }
        var places: [[UInt8]: Int] = [:]
        for index in 0..<unit.paths.count { places[Array(unit.paths[index])] = index }
        // A link may lead to another one.
        var isNew = true
        while isNew {
            isNew = false
            var rest: [(path: MemberPath, target: [UInt8]?)] = []
            for link in links {
                guard let target = link.target, let index = places[target] else {
                    rest.append(link)
                    continue
                }
                places[link.path.bytes] = unit.paths.count
                append(link.path.bytes, unit.offsets[index], unit.sizes[index], unit.classes[index])
                isNew = true
            }
            links = rest
        }
        return links.map(\.path.text)
    }

    /// Sorts the images by path. Of several with the same path the last is kept, as unpacking keeps it; returns the path
    /// of each of the others.
    mutating func sort() -> [String] {
        let order = unit.paths.sortedIndices()
        var sorted = ArchiveIndex.Unit(), replaced: [String] = []
        sorted.folders = unit.folders
        for (place, index) in order.enumerated() {
            if place + 1 < order.count, unit.paths[order[place + 1]] == unit.paths[index] {
                replaced.append(String(decoding: unit.paths[index], as: UTF8.self))
                continue
            }
            sorted.paths.append(unit.paths[index])
            sorted.offsets.append(unit.offsets[index])
            sorted.sizes.append(unit.sizes[index])
            sorted.classes.append(unit.classes[index])
        }
        unit = sorted
        return replaced
    }
}
