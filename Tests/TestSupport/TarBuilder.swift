/// Writes tar archives for tests: ustar, with whatever a test wants to be wrong.
public struct TarBuilder {
    public private(set) var bytes: [UInt8] = []

    public init() {}

    /// An archive of regular files, with its end mark.
    public static func archive(_ members: [(path: String, content: [UInt8])]) -> [UInt8] {
        var builder = TarBuilder()
        for member in members { builder.add(member.path, member.content) }
        return builder.finished()
    }

    /// An archive of regular files whose contents are texts.
    public static func archive(_ members: KeyValuePairs<String, String>) -> [UInt8] {
        archive(members.map { ($0.key, Array($0.value.utf8)) })
    }

    /// Adds a member.
    ///
    /// - Parameters:
    ///   - type: "0" for a file, "5" for a folder, "1" for a hard link, "2" for a symbolic link, "L" for a long name, …
    ///   - size: the size in the header, if it is to be another one.
    public mutating func add(
        _ path: String, _ content: [UInt8] = [], type: Character = "0", target: String = "", size: Int? = nil
    ) {
        add(Array(path.utf8), content, type: type, target: target, size: size)
    }

    /// As above, for a path that is not UTF-8.
    public mutating func add(
        _ path: [UInt8], _ content: [UInt8] = [], type: Character = "0", target: String = "", size: Int? = nil
    ) {
        precondition(path.count <= 100, "a longer name needs an extension")
        var header = [UInt8](repeating: 0, count: 512)
        func write(_ text: some Sequence<UInt8>, at offset: Int) {
            for (index, byte) in text.enumerated() { header[offset + index] = byte }
        }
        func octal(_ number: Int, _ digits: Int) -> [UInt8] {
            let text = String(number, radix: 8)
            return Array((String(repeating: "0", count: digits - text.count) + text).utf8)
        }
        write(path, at: 0)
        write(octal(0o644, 7), at: 100)
        write(octal(size ?? content.count, 11), at: 124)
        write(octal(0, 11), at: 136)
        write([type.asciiValue!], at: 156)
        write(target.utf8, at: 157)
        write(Array("ustar\0".utf8) + Array("00".utf8), at: 257)
        write([UInt8](repeating: 0x20, count: 8), at: 148)
        write(octal(header.reduce(0) { $0 + Int($1) }, 6) + [0, 0x20], at: 148)
        bytes += header + content + [UInt8](repeating: 0, count: (512 - content.count % 512) % 512)
    }

    /// Adds an extended header of pax for the next member.
    public mutating func addExtension(_ records: KeyValuePairs<String, String>) {
        let content = records.map { key, value in
            var length = key.utf8.count + value.utf8.count + 3
            while String(length).count + key.utf8.count + value.utf8.count + 3 != length { length += 1 }
            return "\(length) \(key)=\(value)\n"
        }.joined()
        add("PaxHeaders/x", Array(content.utf8), type: "x")
    }

    /// The archive with the mark of its end.
    public func finished() -> [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }
}
