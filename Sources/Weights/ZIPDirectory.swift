import Reporting

/// The members of a zip archive, read from the central directory at its end (PKWARE's APPNOTE.TXT; ZIP64 included) and
/// checked against the members' own headers: each member is complete and within the file, and no two overlap.
package struct ZIPDirectory {
    /// An error in the archive, worded to follow "the archive …".
    struct Fault: Error {
        let message: String
    }

    /// Names of members, in the order of the directory.
    private(set) var names: [String] = []
    /// The range of each member's content in the file.
    private(set) var contents: [String: Range<Int>] = [:]
    /// Each member's checksum according to the directory.
    private(set) var checksums: [String: UInt32] = [:]
    /// The first compressed member, if any; its content cannot be used.
    private(set) var compressed: String?

    /// Maximum number of members: many more than any checkpoint has tensors.
    package static let maximumMembers = 100_000
    package static let maximumDirectoryLength = 16 << 20
    private static let maximumNameLength = 4096

    /// - Parameter rest: called every 256 members, to release pages of a mapped file.
    init(_ file: UnsafeRawBufferPointer, rest: () -> Void) throws {
        let end = try Self.end(of: file)
        guard end.members <= Self.maximumMembers else {
            throw Fault(message: "lists \(end.members) members, more than the allowed \(Self.maximumMembers)")
        }
        guard end.directory.count <= Self.maximumDirectoryLength else {
            throw Fault(
                message:
                    "lists its members in \(end.directory.count) bytes, more than the allowed "
                    + "\(Self.maximumDirectoryLength)"
            )
        }
        // Extent of each member from its own header to the end of its content.
        var extents: [(range: Range<Int>, name: String)] = []
        var position = end.directory.lowerBound
        for _ in 0..<end.members {
            let (name, range, content, checksum, isCompressed, next) = try Self.member(
                file, at: position, end.directory)
            position = next
            if isCompressed, compressed == nil { compressed = name }
            guard contents.updateValue(content, forKey: name) == nil else {
                throw Fault(message: "holds two members named \(quoted(name))")
            }
            checksums[name] = checksum
            names.append(name)
            if names.count % 256 == 0 { rest() }
            extents.append((range, name))
        }
        guard position == end.directory.upperBound else {
            throw Fault(message: "lists \(end.members) members and something after them")
        }
        extents.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
        for (earlier, later) in zip(extents, extents.dropFirst())
        where later.range.lowerBound < earlier.range.upperBound {
            throw Fault(message: "lets member \(quoted(later.name)) overlap \(quoted(earlier.name))")
        }
    }

    // MARK: The end

    private struct End {
        let members: Int
        let directory: Range<Int>
    }

    private static func end(of file: UnsafeRawBufferPointer) throws -> End {
        guard let position = endPosition(file) else {
            throw Fault(message: "has no list of members at its end: it was cut off")
        }
        // The number of this disk and of the disk with the directory, members on this disk, members, the directory's
        // length and position.
        let disks = (file.word16(position + 4), file.word16(position + 6))
        var members = (UInt64(file.word16(position + 8)), UInt64(file.word16(position + 10)))
        var (length, start) = (UInt64(file.word32(position + 12)), UInt64(file.word32(position + 16)))
        var directoryEnd = position
        // In a ZIP64 archive, the 20 bytes before it locate the record with the 64-bit form of these numbers.
        if position >= 20, file.word32(position - 20) == 0x0706_4B50 {
            let record = file.word64(position - 12)
            guard record <= UInt64(position - 20), position - 20 - Int(record) >= 56,
                file.word32(Int(record)) == 0x0606_4B50
            else {
                throw Fault(message: "gives a wrong position of its ZIP64 end record")
            }
            let place = Int(record)
            // 4 bytes each: the number of this disk and of the disk with the directory.
            guard file.word32(place + 16) == 0, file.word32(place + 20) == 0 else {
                throw Fault(message: "is a part of one that is split over several files")
            }
            guard file.word64(place + 4) == UInt64(position - 20 - place - 12) else {
                throw Fault(message: "has a ZIP64 end record of a wrong length")
            }
            members = (file.word64(place + 24), file.word64(place + 32))
            (length, start) = (file.word64(place + 40), file.word64(place + 48))
            directoryEnd = place
        }
        guard disks.0 == 0 || disks.0 == 0xFFFF, disks.1 == 0 || disks.1 == 0xFFFF, members.0 == members.1 else {
            throw Fault(message: "is a part of one that is split over several files")
        }
        let (sum, overflow) = start.addingReportingOverflow(length)
        guard !overflow, sum == UInt64(directoryEnd) else {
            throw Fault(message: "gives a wrong position of its list of members")
        }
        // Each member takes at least 46 bytes.
        guard members.0 <= length / 46 else {
            throw Fault(message: "lists \(members.0) members in \(length) bytes, too few for so many")
        }
        return End(members: Int(members.0), directory: Int(start)..<directoryEnd)
    }

    /// The position of the end record: at the end of the file, or before a comment of the length given in the record.
    private static func endPosition(_ file: UnsafeRawBufferPointer) -> Int? {
        guard file.count >= 22 else { return nil }
        for position in stride(from: file.count - 22, through: max(0, file.count - 22 - 0xFFFF), by: -1)
        where file.word32(position) == 0x0605_4B50 && Int(file.word16(position + 20)) == file.count - position - 22 {
            return position
        }
        return nil
    }

    // MARK: Members

    private static func member(
        _ file: UnsafeRawBufferPointer, at position: Int, _ directory: Range<Int>
    ) throws -> (name: String, extent: Range<Int>, content: Range<Int>, checksum: UInt32, isCompressed: Bool, next: Int)
    {
        guard directory.upperBound - position >= 46, file.word32(position) == 0x0201_4B50 else {
            throw Fault(message: "has a damaged list of members")
        }
        let flags = file.word16(position + 8)
        let method = file.word16(position + 10)
        let lengths = (
            Int(file.word16(position + 28)), Int(file.word16(position + 30)), Int(file.word16(position + 32))
        )
        let next = position + 46 + lengths.0 + lengths.1 + lengths.2
        guard next <= directory.upperBound else { throw Fault(message: "has a damaged list of members") }
        guard lengths.0 <= maximumNameLength else {
            throw Fault(
                message: "holds a member with a name of \(lengths.0) bytes, more than the allowed \(maximumNameLength)")
        }
        let nameBytes = UnsafeRawBufferPointer(rebasing: file[position + 46..<position + 46 + lengths.0])
        guard let name = String(validating: nameBytes, as: UTF8.self), !name.isEmpty else {
            throw Fault(message: "holds a member whose name is not UTF-8 text")
        }
        guard flags & 1 == 0 else { throw Fault(message: "holds member \(quoted(name)) encrypted") }

        var packed = UInt64(file.word32(position + 20))
        var size = UInt64(file.word32(position + 24))
        var start = UInt64(file.word32(position + 42))
        if size == 0xFFFF_FFFF || packed == 0xFFFF_FFFF || start == 0xFFFF_FFFF {
            let extra = position + 46 + lengths.0..<position + 46 + lengths.0 + lengths.1
            guard var field = zip64Field(file, extra) else {
                throw Fault(message: "lacks the true size of member \(quoted(name))")
            }
            // The field holds the values that did not fit in 32 bits, in this order.
            func take(_ value: inout UInt64) throws {
                guard value == 0xFFFF_FFFF else { return }
                guard field.count >= 8 else { throw Fault(message: "lacks the true size of member \(quoted(name))") }
                value = file.word64(field.lowerBound)
                field = field.lowerBound + 8..<field.upperBound
            }
            try take(&size)
            try take(&packed)
            try take(&start)
        }
        guard packed == size || method != 0 else {
            throw Fault(message: "gives two sizes, \(packed) and \(size) bytes, for the stored member \(quoted(name))")
        }

        // The member's own header: 30 bytes, the name, and an extra field with which PyTorch aligns the content.
        func outside() -> Fault { Fault(message: "gives member \(quoted(name)) an impossible position") }
        guard start <= UInt64(directory.lowerBound), directory.lowerBound - Int(start) >= 30 else { throw outside() }
        let header = Int(start)
        guard file.word32(header) == 0x0403_4B50 else {
            throw Fault(message: "has no header where member \(quoted(name)) should begin")
        }
        guard file.word16(header + 8) == method, file.word16(header + 6) & 1 == 0 else {
            throw Fault(message: "has contradictory descriptions of member \(quoted(name))")
        }
        let (nameLength, extraLength) = (Int(file.word16(header + 26)), Int(file.word16(header + 28)))
        let content = header + 30 + nameLength + extraLength
        guard content <= directory.lowerBound, packed <= UInt64(directory.lowerBound - content) else { throw outside() }
        guard nameLength == lengths.0, file[header + 30..<header + 30 + nameLength].elementsEqual(nameBytes) else {
            throw Fault(message: "gives member \(quoted(name)) another name in its own header")
        }
        let end = content + Int(packed)
        return (name, header..<end, content..<end, file.word32(position + 16), method != 0, next)
    }

    /// The range of the extra field of kind 1, which holds ZIP64's numbers.
    private static func zip64Field(_ file: UnsafeRawBufferPointer, _ extra: Range<Int>) -> Range<Int>? {
        var position = extra.lowerBound
        while extra.upperBound - position >= 4 {
            let (kind, length) = (file.word16(position), Int(file.word16(position + 2)))
            position += 4
            guard length <= extra.upperBound - position else { return nil }
            if kind == 1 { return position..<position + length }
            position += length
        }
        return nil
    }
}

extension UnsafeRawBufferPointer {
    /// The little-endian number at a byte position, at any alignment. The bounds are checked in every configuration;
    /// the standard library's loads check them in debug builds only.
    @inline(__always)
    func number<Number: FixedWidthInteger>(_ position: Int, _: Number.Type) -> Number {
        precondition(position >= 0 && position <= count - MemoryLayout<Number>.size)
        return Number(littleEndian: loadUnaligned(fromByteOffset: position, as: Number.self))
    }
    func word16(_ position: Int) -> UInt16 { number(position, UInt16.self) }
    func word32(_ position: Int) -> UInt32 { number(position, UInt32.self) }
    func word64(_ position: Int) -> UInt64 { number(position, UInt64.self) }
}
