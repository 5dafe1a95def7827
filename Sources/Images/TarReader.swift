import Reporting

/// A member of a tar archive.
package struct TarMember: Equatable {
    package enum Kind: Equatable {
        case regular
        case folder
        /// A link to another member: a hard link by its path in the archive, a symbolic link by any path.
        case link(target: [UInt8], isHard: Bool)
        /// A regular file of which only parts are stored.
        case sparse
        /// A device, a pipe, or of a type that is not known.
        case other
    }
    /// The path, as it is stored.
    package let path: [UInt8]
    package let kind: Kind
    /// Where its content lies in the archive.
    package let content: Range<Int>
}

/// Reads the headers of a tar archive one after another: ustar, pax (extended headers), GNU (long names, sizes in base
/// 256) and the older form without a magic word.
///
/// Content is skipped, not read. A header must have the right checksum, and a member must end before the archive does.
package struct TarReader {
    /// Whether the archive ended with its mark, a block of zeros, as every program writes it.
    package private(set) var hasEndMark = false
    /// Whether something else than zeros follows that mark.
    package private(set) var hasRest = false

    private let bytes: ArchiveBytes
    /// The archive within `bytes`: all of it, or a member that is an archive.
    private let range: Range<Int>
    /// The archive in messages.
    private let name: String
    private var position: Int
    private var isEnded = false
    /// Values of global extended headers, which hold for the members after them.
    private var global: [String: [UInt8]] = [:]

    private static let block = 512
    /// Most bytes of an extended header or of a long name.
    private static let maximumExtension = 1 << 20

    package init(_ bytes: ArchiveBytes, in range: Range<Int>? = nil, named name: String) {
        self.bytes = bytes
        self.range = range ?? 0..<bytes.count
        self.name = name
        position = self.range.lowerBound
    }

    /// Whether a file that begins with `head` may be a tar archive.
    static func isArchive(_ head: ArraySlice<UInt8>) -> Bool {
        head.count >= block && Header(head.prefix(block)).hasChecksum
    }

    /// The next member; nil after the last one.
    ///
    /// - Throws: `Failure.badData` for a truncated or damaged archive.
    package mutating func next() throws -> TarMember? {
        guard !isEnded else { return nil }
        var longName: [UInt8]?, longTarget: [UInt8]?, local: [String: [UInt8]]?
        var hasExtension: Bool { longName != nil || longTarget != nil || local != nil }
        while true {
            let left = range.upperBound - position
            guard left > 0 else {
                guard !hasExtension else { throw truncated(nil) }
                isEnded = true
                return nil
            }
            let head = try bytes.bytes(position..<position + min(left, Self.block))
            if head.allSatisfy({ $0 == 0 }) {
                guard !hasExtension else { throw damaged() }
                (isEnded, hasEndMark, hasRest) = (true, true, try hasRest(from: position))
                return nil
            }
            guard left >= Self.block else { throw truncated(nil) }
            let header = Header(head)
            guard header.hasChecksum, let stored = header.number(124..<136) else { throw damaged() }
            let values = global.merging(local ?? [:]) { $1 }
            switch header.type {
            case UInt8(ascii: "x"), UInt8(ascii: "X"):
                let records = try Self.records(content(stored))
                guard let records else { throw damaged() }
                local = (local ?? [:]).merging(records) { $1 }
                continue
            case UInt8(ascii: "g"):
                guard let records = Self.records(try content(stored)) else { throw damaged() }
                global.merge(records) { $1 }
                continue
            case UInt8(ascii: "L"):
                longName = Array(try content(stored).prefix { $0 != 0 })
                continue
            case UInt8(ascii: "K"):
                longTarget = Array(try content(stored).prefix { $0 != 0 })
                continue
            default: break
            }
            let path = values["GNU.sparse.name"] ?? values["path"] ?? longName ?? header.path
            var size = stored
            if let text = values["size"] {
                guard let number = Int(String(decoding: text, as: UTF8.self)), number >= 0 else { throw damaged() }
                size = number
            }
            position += Self.block
            if header.type == UInt8(ascii: "S") { try skipSparseMap(header) }
            let kind = Self.kind(
                header, path, target: values["linkpath"] ?? longTarget ?? header.text(157..<257), values)
            // Links, devices and folders have no content, whatever their size says.
            let hasContent: Bool
            switch kind {
            case .regular, .sparse: hasContent = true
            case .folder, .link: hasContent = false
            case .other: hasContent = !(UInt8(ascii: "3")...UInt8(ascii: "6")).contains(header.type)
            }
            if !hasContent { size = 0 }
            guard size <= range.upperBound - position else { throw truncated(path) }
            let content = position..<position + size
            // The last member may lack its padding.
            position = min(range.upperBound, Self.padded(content.upperBound - range.lowerBound) + range.lowerBound)
            return TarMember(path: path, kind: kind, content: content)
        }
    }

    private static func kind(
        _ header: Header, _ path: [UInt8], target: [UInt8], _ values: [String: [UInt8]]
    ) -> TarMember.Kind {
        switch header.type {
        case 0, UInt8(ascii: "0"), UInt8(ascii: "7"):
            if values.keys.contains(where: { $0.hasPrefix("GNU.sparse.") }) { return .sparse }
            return header.type == 0 && path.last == UInt8(ascii: "/") ? .folder : .regular
        case UInt8(ascii: "1"): return .link(target: target, isHard: true)
        case UInt8(ascii: "2"): return .link(target: target, isHard: false)
        case UInt8(ascii: "5"): return .folder
        case UInt8(ascii: "S"): return .sparse
        default: return .other
        }
    }

    /// Whether there is anything but zeros from `position` on.
    private func hasRest(from position: Int) throws -> Bool {
        var position = position
        while position < range.upperBound {
            let piece = try bytes.bytes(position..<min(range.upperBound, position + 1 << 16))
            if piece.contains(where: { $0 != 0 }) { return true }
            position += piece.count
        }
        return false
    }

    private static func padded(_ size: Int) -> Int { (size + block - 1) / block * block }

    /// The content of the extension whose header is here; goes on after it.
    private mutating func content(_ size: Int) throws -> ArraySlice<UInt8> {
        guard size <= Self.maximumExtension else { throw damaged() }
        guard Self.block + Self.padded(size) <= range.upperBound - position else { throw truncated(nil) }
        let start = position + Self.block
        position = start + Self.padded(size)
        return try bytes.bytes(start..<start + size)
    }

    /// Skips the blocks in which GNU's older form goes on with the map of a sparse file.
    private mutating func skipSparseMap(_ header: Header) throws {
        var goesOn = header.bytes[header.bytes.startIndex + 482] != 0
        while goesOn {
            guard range.upperBound - position >= Self.block else { throw truncated(nil) }
            let map = try bytes.bytes(position..<position + Self.block)
            goesOn = map[map.startIndex + 504] != 0
            position += Self.block
        }
    }

    /// The records "length key=value\n" of an extended header; nil if it is malformed.
    private static func records(_ content: ArraySlice<UInt8>) -> [String: [UInt8]]? {
        var records: [String: [UInt8]] = [:], rest = content
        while let first = rest.first, first != 0 {
            guard let space = rest.prefix(20).firstIndex(of: UInt8(ascii: " ")),
                let length = Int(String(decoding: rest[..<space], as: UTF8.self)), length <= rest.count,
                length > space - rest.startIndex + 1
            else { return nil }
            let record = rest[(space + 1)..<(rest.startIndex + length)]
            guard record.last == UInt8(ascii: "\n"), let equals = record.firstIndex(of: UInt8(ascii: "=")) else {
                return nil
            }
            let value = Array(record[(equals + 1)...].dropLast())
            let key = String(decoding: record[..<equals], as: UTF8.self)
            records[key] = value.isEmpty ? nil : value
            rest = rest.dropFirst(length)
        }
        return records
    }

    private func truncated(_ path: [UInt8]?) -> Failure { Self.truncated(name, in: path) }

    /// The failure for an archive that ends in the middle of a member or of a header.
    static func truncated(_ name: String, in path: [UInt8]? = nil) -> Failure {
        let place = path.map { " of \(String(decoding: $0, as: UTF8.self))" } ?? ""
        return Failure(
            .badData,
            "\(name) ends in the middle\(place): it was not written, copied or downloaded to the end; copy it again")
    }

    private func damaged() -> Failure {
        guard position > range.lowerBound else {
            return Failure(.badData, "\(name) is not a tar archive, whatever its name says: name one")
        }
        return Self.damaged(name, at: position)
    }

    /// The failure for an archive without a header where one belongs.
    static func damaged(_ name: String, at position: Int) -> Failure {
        Failure(.badData, "\(name) is damaged: there is no member's header at byte \(position); copy it again")
    }

    /// A block with a member's metadata.
    private struct Header {
        let bytes: ArraySlice<UInt8>

        init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

        private func field(_ range: Range<Int>) -> ArraySlice<UInt8> {
            bytes[bytes.startIndex + range.lowerBound..<bytes.startIndex + range.upperBound]
        }

        var type: UInt8 { bytes[bytes.startIndex + 156] }

        func text(_ range: Range<Int>) -> [UInt8] { Array(field(range).prefix { $0 != 0 }) }

        /// The name, after the prefix that ustar, but not GNU, has for long ones.
        var path: [UInt8] {
            let name = text(0..<100)
            guard field(257..<263).elementsEqual([0x75, 0x73, 0x74, 0x61, 0x72, 0]) else { return name }
            let prefix = text(345..<500)
            return prefix.isEmpty ? name : prefix + [UInt8(ascii: "/")] + name
        }

        /// A number in octal digits, or in base 256 where the first bit is set; nil for anything else.
        func number(_ range: Range<Int>) -> Int? {
            let field = field(range)
            if field.first! & 0x80 != 0 {
                guard field.first! == 0x80 else { return nil }
                var value = 0
                for byte in field.dropFirst() {
                    guard value < 1 << 54 else { return nil }
                    value = value << 8 | Int(byte)
                }
                return value
            }
            let digits = field.prefix { $0 != 0 }.drop { $0 == 0x20 }
            var value = 0
            for digit in digits {
                if digit == 0x20 { break }
                guard (0x30...0x37).contains(digit) else { return nil }
                value = value << 3 | Int(digit - 0x30)
            }
            return value
        }

        /// Whether the checksum is right: the sum of all bytes, its own taken as spaces, of signed or unsigned ones.
        var hasChecksum: Bool {
            guard let stored = number(148..<156) else { return false }
            var unsigned = 8 * 0x20, signed = 8 * 0x20
            for (index, byte) in bytes.enumerated() where !(148..<156).contains(index) {
                unsigned += Int(byte)
                signed += Int(Int8(bitPattern: byte))
            }
            return stored == unsigned || stored == signed
        }
    }
}
