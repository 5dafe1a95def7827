import CCodecs

/// Decodes the first frame of a GIF file, placed on the logical screen, as Pillow does: a screen that is smaller than the
/// frame grows, and around a smaller frame is the transparent colour, or the first colour where there is none.
///
/// Written for this program, as Pillow's decoder is: what it makes of unusual files is the specification here.
struct GIFDecoder: PictureDecoder {
    let header: PictureHeader
    let transparency: Transparency?

    /// The frame on the screen.
    private let frame: Rectangle
    private let isInterlaced: Bool
    /// Bits of an index before compression.
    private let bits: Int
    /// The index around the frame.
    private let surroundings: UInt8
    /// The file from the frame's compressed data on.
    private let data: ByteCursor

    init(_ file: UnsafeRawBufferPointer, hasAlpha: Bool) throws {
        var cursor = ByteCursor(file)
        let screen = try cursor.take(13)
        var palette = screen[10] & 0x80 != 0 ? try Self.colours(screen[10], &cursor) : nil
        var transparent: UInt8?
        while true {
            // Between blocks, other bytes are passed over.
            guard let byte = cursor.next(), byte != 0x3B else { throw PictureDamage.damaged("it holds no picture") }
            if byte == 0x21 {
                let label = try cursor.take(1)[0]
                var block = try Self.block(&cursor)
                if label == 0xF9, let control = block, control.count >= 4, control[0] & 1 == 1 {
                    transparent = control[3]
                }
                while block != nil { block = try Self.block(&cursor) }
            } else if byte == 0x2C {
                break
            }
        }
        let descriptor = try cursor.take(9)
        frame = Rectangle(
            left: littleEndian16(descriptor, 0), top: littleEndian16(descriptor, 2),
            width: littleEndian16(descriptor, 4), height: littleEndian16(descriptor, 6))
        guard frame.width > 0, frame.height > 0 else { throw PictureDamage.damaged("its first frame is empty") }
        let flags = descriptor[8]
        // With a frame's palette of indices alone, Pillow keeps the global one.
        if flags & 0x80 != 0 { palette = try Self.colours(flags, &cursor) ?? palette }
        isInterlaced = flags & 0x40 != 0
        bits = Int(try cursor.take(1)[0])
        guard bits <= 12 else { throw PictureDamage.damaged("indices of \(bits) bits") }
        data = cursor
        surroundings = transparent ?? 0
        header = PictureHeader(
            width: max(littleEndian16(screen, 6), frame.left + frame.width),
            height: max(littleEndian16(screen, 8), frame.top + frame.height), samples: DMAE_SAMPLES_PALETTE,
            // Without a palette, and with one in which every colour is its own index, indices are shades of grey.
            palette: palette ?? (0...255).flatMap { [$0, $0, $0] })
        transparency = transparent.flatMap { entry in
            guard hasAlpha else { return nil }
            var alpha = [UInt8](repeating: 255, count: 256)
            alpha[Int(entry)] = 0
            return .palette(alpha)
        }
    }

    /// The palette of a descriptor with these flags; nil where every colour is its own index.
    private static func colours(_ flags: UInt8, _ cursor: inout ByteCursor) throws -> [UInt8]? {
        let colours = try cursor.take(3 << (Int(flags & 7) + 1))
        let isRamp = colours.enumerated().allSatisfy { Int($1) == $0 / 3 }
        return isRamp ? nil : PictureHeader.palette(colours)
    }

    /// The next block of data; nil for the empty one that ends them.
    private static func block(_ cursor: inout ByteCursor) throws -> UnsafeRawBufferPointer? {
        let count = Int(try cursor.take(1)[0])
        return count == 0 ? nil : try cursor.take(count)
    }

    func read(into samples: UnsafeMutablePointer<UInt8>) throws {
        let width = header.width
        samples.initialize(repeating: surroundings, count: width * header.height)
        var codes = LZWCodes(data: data, bits: bits)
        // The rows of each pass begin at `start` and are `step` apart.
        let passes = isInterlaced ? [(0, 8), (4, 8), (2, 4), (1, 2)] : [(0, 1)]
        let frame = frame
        try LZWTable.withTable { table in
            var pass = passes.makeIterator()
            var (y, step) = pass.next()!
            var x = 0
            var target = samples + (frame.top + y) * width + frame.left
            while true {
                for index in try table.string(&codes) {
                    target[x] = index
                    x += 1
                    guard x == frame.width else { continue }
                    x = 0
                    y += step
                    while y >= frame.height {
                        guard let next = pass.next() else { return }
                        (y, step) = next
                    }
                    target = samples + (frame.top + y) * width + frame.left
                }
            }
        }
    }
}

/// The codes of a GIF file's compressed data, from the lowest bit of each byte on.
private struct LZWCodes {
    private var cursor: ByteCursor
    private var block: UnsafeRawBufferPointer.SubSequence = UnsafeRawBufferPointer(start: nil, count: 0)[...]
    private var rest: UInt32 = 0
    private var restCount = 0
    /// Bits of an index before compression.
    let bits: Int

    init(data: ByteCursor, bits: Int) {
        cursor = data
        self.bits = bits
    }

    /// The next code of `size` bits. Throws where the data ends before, also within a block.
    mutating func next(_ size: Int) throws -> Int {
        while restCount < size {
            if block.isEmpty {
                let count = Int(try cursor.take(1)[0])
                // The end of the frame's data.
                guard count > 0 else { throw PictureDamage.truncated }
                block = try cursor.take(count)[...]
            }
            rest |= UInt32(block.removeFirst()) << restCount
            restCount += 8
        }
        let code = Int(rest & (1 << size - 1))
        rest >>= size
        restCount -= size
        return code
    }
}

/// The strings of indices for which codes stand. Each is an earlier string and one more index.
private struct LZWTable {
    private static let count = 4096
    /// Maximum bits of a code.
    private static let maximumSize = 12
    private static let wrongCode = PictureDamage.damaged("a code that stands for nothing")
    /// For each code, the code of the string before its last index.
    private let prefixes: UnsafeMutablePointer<UInt16>
    /// For each code, its last index.
    private let lasts: UnsafeMutablePointer<UInt8>
    /// Where a string is put together, from its end.
    private let room: UnsafeMutablePointer<UInt8>

    private var free = 0
    private var size = 0
    private var isCleared = false
    private var previous = 0
    /// The first index of the previous string.
    private var first: UInt8 = 0

    /// Calls `body` with a table in memory that is valid during the call.
    static func withTable<Result>(_ body: (inout LZWTable) throws -> Result) rethrows -> Result {
        try withUnsafeTemporaryAllocation(of: UInt16.self, capacity: count) { prefixes in
            try withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 2 * count) { bytes in
                let start = bytes.baseAddress!
                var table = LZWTable(prefixes: prefixes.baseAddress!, lasts: start, room: start + count)
                return try body(&table)
            }
        }
    }

    private init(
        prefixes: UnsafeMutablePointer<UInt16>, lasts: UnsafeMutablePointer<UInt8>, room: UnsafeMutablePointer<UInt8>
    ) {
        (self.prefixes, self.lasts, self.room) = (prefixes, lasts, room)
    }

    private mutating func clear(_ bits: Int) {
        free = 1 << bits + 2
        size = bits + 1
        isCleared = true
    }

    /// The next string of indices, in memory that the next call uses again.
    mutating func string(_ codes: inout LZWCodes) throws -> UnsafeMutableBufferPointer<UInt8> {
        let clearCode = 1 << codes.bits
        if size == 0 { clear(codes.bits) }
        var code = try codes.next(size)
        while code == clearCode {
            clear(codes.bits)
            code = try codes.next(size)
        }
        // The end code, though the picture is not complete.
        guard code != clearCode + 1 else { throw PictureDamage.truncated }
        let read = code, isFirst = isCleared
        isCleared = false
        guard isFirst ? code < clearCode : code <= free && code < Self.count else { throw Self.wrongCode }
        var begin = Self.count
        func prepend(_ index: UInt8) throws {
            guard begin > 0 else { throw Self.wrongCode }
            begin -= 1
            room[begin] = index
        }
        if code == free {
            // The string that this code adds to the table: the previous one and that one's first index.
            try prepend(first)
            code = previous
        }
        while code >= clearCode {
            try prepend(lasts[code])
            code = Int(prefixes[code])
        }
        first = UInt8(truncatingIfNeeded: code)
        try prepend(first)
        if !isFirst, free < Self.count {
            lasts[free] = first
            prefixes[free] = UInt16(previous)
            if free == 1 << size - 1, size < Self.maximumSize { size += 1 }
            free += 1
        }
        previous = read
        return UnsafeMutableBufferPointer(start: room + begin, count: Self.count - begin)
    }
}
