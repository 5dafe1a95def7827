/// What the name of a file says about archives.
package enum ArchiveName {
    static func isTar(_ name: String) -> Bool { name.lowercased().hasSuffix(".tar") }

    /// The kind of a compressed archive, with its article, and the command that unpacks it; nil for other names.
    static func compression(of name: String) -> (kind: String, command: String)? {
        let name = name.lowercased()
        return kinds.first { $0.endings.contains(where: name.hasSuffix) }.map { ($0.kind, $0.command) }
    }

    private static let kinds: [(endings: [String], kind: String, command: String)] = [
        ([".tar.gz", ".tgz"], "a tar archive compressed by gzip", "gunzip"),
        ([".tar.bz2", ".tbz2", ".tbz"], "a tar archive compressed by bzip2", "bunzip2"),
        ([".tar.xz", ".txz"], "a tar archive compressed by xz", "unxz"),
        ([".tar.zst", ".tzst"], "a tar archive compressed by Zstandard", "unzstd"),
        ([".tar.lz4"], "a tar archive compressed by LZ4", "unlz4"),
        ([".zip"], "a ZIP archive", "unzip"), ([".7z"], "a 7z archive", "7z x"), ([".rar"], "a RAR archive", "unrar x"),
    ]

    /// Whether archives of these names are parts of one: two of the names differ in digits only.
    package static func areParts(_ names: [[UInt8]]) -> Bool {
        let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
        func isWordNet(_ name: [UInt8]) -> Bool {
            name.count == 9 && name[0] == UInt8(ascii: "n") && name[1...].allSatisfy(digits.contains)
        }
        var masks: Set<[UInt8]> = []
        for name in names where !isWordNet(name) {
            var mask: [UInt8] = []
            for byte in name where !digits.contains(byte) || mask.last != 0 {
                mask.append(digits.contains(byte) ? 0 : byte)
            }
            if !masks.insert(mask).inserted { return true }
        }
        return false
    }
}
