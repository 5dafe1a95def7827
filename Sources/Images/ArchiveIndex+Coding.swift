/// An index as bytes of a file: a first line, whose index it is, the index, and a checksum of it all. Numbers have 8 bytes,
/// the lowest first.
extension ArchiveIndex {
    private static let title = Array("dmae index of a tar archive, 3\n".utf8)

    /// The bytes of a file for this index of the archive at `path`.
    package func encoded(path: String, stamp: FileStamp) -> [UInt8] {
        var writer = Writer(bytes: Self.title)
        writer.append(Array(path.utf8))
        for number in [stamp.size, stamp.seconds, stamp.nanoseconds, units.count] { writer.append(number) }
        for unit in units {
            writer.append(unit.name)
            for table in [unit.paths, unit.folders] {
                writer.append(table.bytes)
                writer.append(table.ends)
            }
            writer.append(unit.offsets)
            writer.append(unit.sizes)
            writer.append(unit.classes.map { $0 ?? -1 })
        }
        for tally in [debris, links, folderLinks, others, replaced, compressed, endless, joined] {
            writer.append(tally.count)
            writer.append(tally.first.count)
            for name in tally.first { writer.append(Array(name.utf8)) }
        }
        let kinds = undecodable.counts.sorted { $0.key < $1.key }
        writer.append(kinds.count)
        for (kind, count) in kinds {
            writer.append(Array(kind.utf8))
            writer.append(count)
        }
        writer.append(Int(bitPattern: UInt(NameHash.of(writer.bytes[...]))))
        return writer.bytes
    }

    /// Reads what `encoded` wrote; nil if it is not whole, or of another archive or another state of it.
    package init?(_ bytes: [UInt8], path: String, stamp: FileStamp) {
        guard bytes.count > Self.title.count + 8, bytes.starts(with: Self.title) else { return nil }
        var end = Reader(bytes: bytes[(bytes.count - 8)...])
        guard end.number() == Int(bitPattern: UInt(NameHash.of(bytes.dropLast(8)))) else { return nil }
        var reader = Reader(bytes: bytes.dropFirst(Self.title.count).dropLast(8))
        guard let name = reader.text(), name.elementsEqual(path.utf8), let size = reader.number(),
            let seconds = reader.number(), let nanoseconds = reader.number(),
            FileStamp(size: size, seconds: seconds, nanoseconds: nanoseconds) == stamp,
            let count = reader.number()
        else { return nil }
        for _ in 0..<max(0, count) {
            guard let unit = Unit(&reader, archiveSize: size) else { return nil }
            units.append(unit)
        }
        func tally() -> Tally? {
            guard let count = reader.number(), let names = reader.number() else { return nil }
            var tally = Tally(count: count)
            for _ in 0..<max(0, names) {
                guard let name = reader.text() else { return nil }
                tally.first.append(String(decoding: name, as: UTF8.self))
            }
            return tally
        }
        guard let debris = tally(), let links = tally(), let folderLinks = tally(), let others = tally(),
            let replaced = tally(), let compressed = tally(), let endless = tally(), let joined = tally(),
            let kinds = reader.number()
        else { return nil }
        for _ in 0..<max(0, kinds) {
            guard let kind = reader.text(), let count = reader.number() else { return nil }
            undecodable.add(String(decoding: kind, as: UTF8.self), count)
        }
        guard reader.bytes.isEmpty else { return nil }
        (self.debris, self.links, self.folderLinks, self.others) = (debris, links, folderLinks, others)
        (self.replaced, self.compressed, self.endless, self.joined) = (replaced, compressed, endless, joined)
    }

    fileprivate struct Writer {
        var bytes: [UInt8]

        mutating func append(_ number: Int) {
            withUnsafeBytes(of: UInt64(bitPattern: Int64(number)).littleEndian) { bytes += $0 }
        }
        mutating func append(_ text: [UInt8]) {
            append(text.count)
            bytes += text
        }
        mutating func append(_ numbers: [Int]) {
            append(numbers.count)
            for number in numbers { append(number) }
        }
    }

    fileprivate struct Reader {
        var bytes: ArraySlice<UInt8>

        mutating func number() -> Int? {
            guard bytes.count >= 8 else { return nil }
            var value: UInt64 = 0
            for byte in bytes.prefix(8).reversed() { value = value << 8 | UInt64(byte) }
            bytes = bytes.dropFirst(8)
            return Int(Int64(bitPattern: value))
        }
        mutating func text() -> [UInt8]? {
            guard let count = number(), (0...bytes.count).contains(count) else { return nil }
            defer { bytes = bytes.dropFirst(count) }
            return Array(bytes.prefix(count))
        }
        mutating func numbers() -> [Int]? {
            guard let count = number(), (0...bytes.count / 8).contains(count) else { return nil }
            return (0..<count).map { _ in number()! }
        }
    }
}

extension ArchiveIndex.Unit {
    fileprivate init?(_ reader: inout ArchiveIndex.Reader, archiveSize: Int) {
        func table() -> PathTable? {
            guard let bytes = reader.text(), let ends = reader.numbers() else { return nil }
            return PathTable(bytes: bytes, ends: ends)
        }
        guard let name = reader.text(), let paths = table(), let folders = table(), let offsets = reader.numbers(),
            let sizes = reader.numbers(), let classes = reader.numbers(),
            [offsets.count, sizes.count, classes.count].allSatisfy({ $0 == paths.count }),
            zip(offsets, sizes).allSatisfy({ $0 >= 0 && $1 >= 0 && $0 <= archiveSize && $1 <= archiveSize - $0 })
        else { return nil }
        (self.name, self.paths, self.folders, self.offsets, self.sizes) = (name, paths, folders, offsets, sizes)
        self.classes = classes.map { $0 < 0 ? nil : $0 }
    }
}

/// A hash of bytes that is the same on every machine (FNV-1a, 64 bits).
enum NameHash {
    static func of(_ bytes: some Sequence<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return hash
    }
}
