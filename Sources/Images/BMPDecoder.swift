import CCodecs

/// Decodes a BMP file, as Pillow does: headers of Windows and OS/2, 1 to 32 bits a pixel, bit fields, and both run-length
/// encodings, from the bottom up or from the top down.
///
/// 32 bits a pixel have an alpha channel only where bit fields say so.
struct BMPDecoder: PictureDecoder {
    let header: PictureHeader
    var transparency: Transparency? { nil }

    private let file: UnsafeRawBufferPointer
    /// Where the pixels begin.
    private let start: Int
    private let isTopDown: Bool
    private let storage: Storage

    /// How pixels are stored.
    private enum Storage: Equatable {
        /// Indices of 1, 4 or 8 bits; `isBilevel` where other indices than 0 are white.
        case indices(bits: Int, rowCount: Int, isBilevel: Bool)
        /// Runs of indices; `isHalf` where an index has 4 bits.
        case runs(isHalf: Bool, isBilevel: Bool)
        /// 16 bits a pixel: five of each colour, or six of green.
        case packed(hasSixOfGreen: Bool, rowCount: Int)
        /// A byte a channel: which byte of the pixel's is red, green, blue, and alpha, if there is any.
        case channels([Int], pixelCount: Int, rowCount: Int)
    }

    /// Sizes of headers that are known: OS/2 1, Windows 3 (and its extensions by bit fields), OS/2 2, Windows 4 and 5.
    static let headerSizes = [12, 40, 52, 56, 64, 108, 124]

    init(_ file: UnsafeRawBufferPointer, hasAlpha: Bool) throws {
        self.file = file
        var cursor = ByteCursor(file)
        let beginning = try cursor.take(18)
        let size = littleEndian32(beginning, 14)
        guard Self.headerSizes.contains(size) else { throw PictureDamage.unusual("a header of \(size) bytes") }
        let fields = try cursor.take(size - 4)
        let isOld = size == 12
        let width = isOld ? littleEndian16(fields, 0) : littleEndian32(fields, 0)
        var height = isOld ? littleEndian16(fields, 2) : littleEndian32(fields, 4)
        isTopDown = !isOld && height >> 24 == 0xFF
        if isTopDown { height = 1 << 32 - height }
        let bits = littleEndian16(fields, isOld ? 6 : 10)
        let compression = isOld ? 0 : littleEndian32(fields, 12)
        var colourCount = isOld ? 0 : littleEndian32(fields, 28)
        let colourSize = isOld ? 3 : 4
        var masks: [Int] = []
        if compression == 3 {
            masks = try (0..<3).map {
                size >= 52 ? littleEndian32(fields, 36 + 4 * $0) : littleEndian32(try cursor.take(4), 0)
            }
            masks.append(size >= 56 ? littleEndian32(fields, 48) : 0)
        }
        if colourCount == 0 { colourCount = 1 << Swift.min(bits, 32) }
        var start = littleEndian32(beginning, 10)
        if start == 14 + size, bits <= 8 { start += colourSize * colourCount }

        let rowCount = (width * bits + 31) >> 3 & ~3
        let isIndexed = [1, 4, 8].contains(bits)
        var isBilevel = false, palette: [UInt8] = [], isPalette = false
        if isIndexed {
            guard colourCount <= 65536 else { throw PictureDamage.damaged("a palette of \(colourCount) colours") }
            let colours = cursor.take(upTo: colourSize * colourCount)
            // A palette that is a ramp of greys is none: two colours are black and white.
            let isRamp = (0..<colourCount).allSatisfy { index in
                let grey = colourCount == 2 ? UInt8(255 * index) : UInt8(truncatingIfNeeded: index)
                return colours.dropFirst(colourSize * index).prefix(3).elementsEqual([grey, grey, grey])
            }
            isBilevel = isRamp && colourCount <= 2
            isPalette = !isRamp
            if isPalette {
                let count = colours.count / colourSize
                guard count <= 256 else { throw PictureDamage.damaged("a palette of \(count) colours") }
                palette = PictureHeader.palette(
                    (0..<count).flatMap { entry in (0..<3).map { colours[colourSize * entry + 2 - $0] } })
            }
        }
        self.start = start == 0 ? cursor.offset : start

        var samples = isPalette ? DMAE_SAMPLES_PALETTE : isIndexed ? DMAE_SAMPLES_GREY : DMAE_SAMPLES_RGB
        switch (compression, bits) {
        case (0, 1), (0, 4), (0, 8):
            // Pillow takes greys without a palette for 1 bit a pixel or 8, whatever the header says.
            storage = .indices(
                bits: isPalette ? bits : isBilevel ? 1 : 8, rowCount: rowCount, isBilevel: isBilevel)
        case (1, 1), (1, 4), (1, 8), (2, 1), (2, 4), (2, 8):
            storage = .runs(isHalf: compression == 2, isBilevel: isBilevel)
        case (0, 16), (3, 16):
            let hasSixOfGreen = masks.starts(with: [0xF800, 0x7E0, 0x1F])
            guard masks.isEmpty || hasSixOfGreen || masks.starts(with: [0x7C00, 0x3E0, 0x1F]) else {
                throw Self.unusualFields
            }
            storage = .packed(hasSixOfGreen: hasSixOfGreen, rowCount: rowCount)
        case (0, 24), (3, 24):
            guard masks.isEmpty || masks.starts(with: [0xFF0000, 0xFF00, 0xFF]) else { throw Self.unusualFields }
            storage = .channels([2, 1, 0], pixelCount: 3, rowCount: rowCount)
        case (0, 32), (3, 32):
            let places: [Int]? =
                switch masks {
                case [], [0xFF0000, 0xFF00, 0xFF, 0]: [2, 1, 0]
                case [0xFF00_0000, 0xFF_0000, 0xFF00, 0]: [3, 2, 1]
                case [0xFF00_0000, 0xFF00, 0xFF, 0]: [3, 1, 0]
                case [0xFF00_0000, 0xFF_0000, 0xFF00, 0xFF]: [3, 2, 1, 0]
                case [0xFF, 0xFF00, 0xFF_0000, 0xFF00_0000]: [0, 1, 2, 3]
                case [0xFF_0000, 0xFF00, 0xFF, 0xFF00_0000], [0, 0, 0, 0]: [2, 1, 0, 3]
                case [0xFF00_0000, 0xFF00, 0xFF, 0xFF_0000]: [3, 1, 0, 2]
                default: nil
                }
            guard let places else { throw Self.unusualFields }
            if places.count == 4, hasAlpha { samples = DMAE_SAMPLES_RGB_ALPHA }
            storage = .channels(hasAlpha ? places : Array(places.prefix(3)), pixelCount: 4, rowCount: rowCount)
        case (4, _):
            throw PictureDamage.unusual("a JPEG file inside")
        case (5, _):
            throw PictureDamage.unusual("a PNG file inside")
        default:
            throw PictureDamage.unusual("\(bits) bits a pixel in compression \(compression)")
        }
        header = PictureHeader(width: width, height: height, samples: samples, palette: palette)
    }

    private static let unusualFields = PictureDamage.unusual("bit fields in an unusual order")

    func read(into samples: UnsafeMutablePointer<UInt8>) throws {
        let width = header.width, height = header.height
        switch storage {
        case .runs(let isHalf, let isBilevel):
            try readRuns(isHalf, into: samples)
            if isBilevel { for pixel in 0..<width * height where samples[pixel] != 0 { samples[pixel] = 255 } }
        case .indices(let bits, let rowCount, let isBilevel):
            try forRows(of: (width * bits + 7) / 8, each: rowCount) { row, y in
                let target = samples + y * width
                for x in 0..<width {
                    let index = bits == 8 ? row[x] : row[x * bits / 8] >> (8 - bits - x * bits % 8) & (1 << bits - 1)
                    target[x] = isBilevel ? 255 * index : index
                }
            }
        case .packed(let hasSixOfGreen, let rowCount):
            try forRows(of: 2 * width, each: rowCount) { row, y in
                let target = samples + 3 * y * width
                for x in 0..<width {
                    let pixel = littleEndian16(row, 2 * x)
                    let green = hasSixOfGreen ? (pixel >> 5 & 63) * 255 / 63 : (pixel >> 5 & 31) * 255 / 31
                    target[3 * x] = UInt8((pixel >> (hasSixOfGreen ? 11 : 10) & 31) * 255 / 31)
                    target[3 * x + 1] = UInt8(green)
                    target[3 * x + 2] = UInt8((pixel & 31) * 255 / 31)
                }
            }
        case .channels(let places, let pixelCount, let rowCount):
            try forRows(of: pixelCount * width, each: rowCount) { row, y in
                var target = samples + places.count * y * width
                for x in 0..<width {
                    for place in places {
                        target[0] = row[pixelCount * x + place]
                        target += 1
                    }
                }
            }
        }
    }

    /// Calls `body` with the bytes of each row and its number from the top. Rows of `count` bytes are `distance` apart.
    private func forRows(of count: Int, each distance: Int, _ body: (UnsafeRawBufferPointer, Int) -> Void) throws {
        guard count <= distance else { throw PictureDamage.damaged("its rows are too short") }
        guard start + distance * (header.height - 1) + count <= file.count else { throw PictureDamage.truncated }
        for row in 0..<header.height {
            let place = start + distance * row
            body(UnsafeRawBufferPointer(rebasing: file[place..<place + count]), target(row))
        }
    }

    /// The number from the top of the row that is stored as number `row`.
    private func target(_ row: Int) -> Int { isTopDown ? row : header.height - 1 - row }

    private func readRuns(_ isHalf: Bool, into samples: UnsafeMutablePointer<UInt8>) throws {
        let width = header.width, total = width * header.height
        var cursor = ByteCursor(file, at: start)
        // The next pixel, counted over all rows, and its place in the row, for which absolute runs count in full.
        var next = 0, x = 0
        func write(_ index: UInt8) {
            if next < total { samples[target(next / width) * width + next % width] = index }
            next += 1
        }
        while next < total {
            guard let count = cursor.next().map(Int.init), let byte = cursor.next() else { break }
            switch (count, byte) {
            case (1..., _):
                // A run ends with the row.
                let run = Swift.max(0, Swift.min(count, width - x))
                for place in 0..<run { write(isHalf ? place % 2 == 0 ? byte >> 4 : byte & 15 : byte) }
                x += run
            case (0, 0):
                while next % width != 0 { write(0) }
                x = 0
            case (0, 1):
                throw PictureDamage.truncated
            case (0, 2):
                let offset = try cursor.take(2)
                for _ in 0..<Swift.min(total - next, Int(offset[0]) + Int(offset[1]) * width) { write(0) }
                x = next % width
            default:
                let run = Swift.min(total - next, Int(byte))
                let bytes = try cursor.take(isHalf ? (run + 1) / 2 : run)
                for place in 0..<run {
                    write(isHalf ? place % 2 == 0 ? bytes[place / 2] >> 4 : bytes[place / 2] & 15 : bytes[place])
                }
                x += Int(byte)
                // Runs of pixels begin at even places in the file.
                if cursor.offset % 2 != 0 { _ = cursor.next() }
            }
        }
        guard next >= total else { throw PictureDamage.truncated }
    }
}
