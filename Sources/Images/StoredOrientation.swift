import CCodecs

/// The orientation (1 to 8) of an image file, as Pillow's `ImageOps.exif_transpose` finds it; 1 where there is none or
/// it cannot be parsed, and in kinds of file that have none.
///
/// EXIF comes first: the APP1 segments of a JPEG file, joined, a WebP file's EXIF chunk, or a PNG file's last eXIf chunk,
/// else the text that ImageMagick calls "Raw profile type exif". Only where that says nothing of an orientation, XMP is
/// searched for one. Chunks of a PNG file may stand behind the pixels.
func storedOrientation(of file: UnsafeRawBufferPointer, _ kind: FileKind) -> Int {
    let metadata: ImageMetadata
    switch kind {
    case .jpeg: metadata = ImageMetadata(jpeg: file)
    case .png: metadata = ImageMetadata(png: file)
    case .webp: metadata = ImageMetadata(webp: file)
    case .gif, .bmp, .pnm: return 1
    }
    var orientation: Int?
    if let exif = metadata.exif { orientation = exifOrientation(exif) }
    orientation = orientation ?? metadata.xmp.flatMap(xmpOrientation)
    return orientation.map { (1...8).contains($0) ? $0 : 1 } ?? 1
}

/// The blocks of an image file that may hold its orientation.
private struct ImageMetadata {
    /// An EXIF block, perhaps after "Exif\0\0".
    var exif: [UInt8]?
    /// XMP, an XML document.
    var xmp: [UInt8]?

    private static let exifMark = Array("Exif\0\0".utf8), xmpMark = Array("http://ns.adobe.com/xap/1.0/\0".utf8)

    /// Reads the segments of a JPEG file up to its first scan, passing over stray bytes between them.
    init(jpeg file: UnsafeRawBufferPointer) {
        var offset = 2
        while offset + 1 < file.count {
            guard file[offset] == 0xFF else {
                offset += 1
                continue
            }
            let marker = file[offset + 1]
            switch marker {
            case 0xFF:  // a fill byte
                offset += 1
            // Markers without a segment.
            case 0x00, 0xC8, 0xD0...0xD9, 0xF0...0xFD:
                offset += 2
            case 0x01...0xBF, 0xDA:
                return
            default:
                guard offset + 4 <= file.count else { return }
                let length = Int(file[offset + 2]) << 8 | Int(file[offset + 3])
                guard length >= 2, offset + 2 + length <= file.count else { return }
                if marker == 0xE1 { add(UnsafeRawBufferPointer(rebasing: file[offset + 4..<offset + 2 + length])) }
                offset += 2 + length
            }
        }
    }

    /// Takes in an APP1 segment.
    private mutating func add(_ segment: UnsafeRawBufferPointer) {
        if segment.starts(with: Self.exifMark) {
            exif = exif.map { $0 + segment.dropFirst(Self.exifMark.count) } ?? Array(segment)
        } else if segment.starts(with: Self.xmpMark) {
            xmp = Array(segment.dropFirst(Self.xmpMark.count))
        }
    }

    /// Reads the chunks EXIF and XMP of a WebP file.
    init(webp file: UnsafeRawBufferPointer) {
        func chunk(_ kind: String) -> [UInt8]? {
            var offset = 0
            let count = dmae_webp_chunk(
                file.bindMemory(to: UInt8.self).baseAddress, file.count, kind, &offset)
            return count == 0 ? nil : Array(file[offset..<offset + count])
        }
        (exif, xmp) = (chunk("EXIF"), chunk("XMP "))
    }

    /// Maximum bytes of a text, once decompressed: Pillow's limit. Longer ones are passed over.
    private static let maximumText = 1 << 20

    init(png file: UnsafeRawBufferPointer) {
        var profile: [UInt8]?, bytesOfXMP: [UInt8]?
        for chunk in PNGChunks(file) {
            let data = UnsafeRawBufferPointer(rebasing: file[chunk.data])
            if chunk.type == PNGChunks.exif {
                exif = Self.exifMark + data
                continue
            }
            guard let text = PNGText(chunk.type, data, limit: Self.maximumText) else { continue }
            switch text.keyword {
            case "Raw profile type exif": profile = text.content
            case "XML:com.adobe.xmp":
                // Pillow prefers a text that is valid.
                if text.isValid { xmp = text.content } else { bytesOfXMP = text.content }
            case "exif" where chunk.type == PNGChunks.text: exif = text.content
            default: break
            }
        }
        if xmp?.isEmpty != false { xmp = bytesOfXMP ?? xmp }
        exif = exif ?? profile.map(Self.bytes(ofProfile:))
    }

    /// A block that is no EXIF.
    private static let damaged: [UInt8] = [0]

    /// The bytes of ImageMagick's "raw profile": three lines, then hexadecimal digits.
    private static func bytes(ofProfile text: [UInt8]) -> [UInt8] {
        let lines = text.split(separator: 0x0A, omittingEmptySubsequences: false).dropFirst(3)
        var bytes: [UInt8] = [], high: UInt8?
        for character in lines.joined() {
            let isSpace = character == 0x20 || (0x09...0x0D).contains(character)
            if isSpace, high == nil { continue }
            guard let digit = Character(Unicode.Scalar(character)).hexDigitValue else { return Self.damaged }
            if let first = high {
                bytes.append(first << 4 | UInt8(digit))
                high = nil
            } else {
                high = UInt8(digit)
            }
        }
        return high == nil ? bytes : Self.damaged
    }
}

/// A text chunk of a PNG file: tEXt, zTXt or iTXt.
private struct PNGText {
    let keyword: String
    let content: [UInt8]
    /// Whether the content of an iTXt chunk is UTF-8, as it should be.
    let isValid: Bool

    /// Keywords of texts that may hold an orientation; others are not decompressed.
    private static let keywords: Set<String> = ["Raw profile type exif", "XML:com.adobe.xmp", "exif"]

    /// Nil for another chunk, another keyword, and a text that is damaged or longer than `limit`.
    init?(_ type: UInt32, _ data: UnsafeRawBufferPointer, limit: Int) {
        guard [PNGChunks.text, PNGChunks.compressedText, PNGChunks.internationalText].contains(type),
            let end = data.firstIndex(of: 0)
        else { return nil }
        keyword = String(decoding: data[..<end], as: UTF8.self)
        guard Self.keywords.contains(keyword) else { return nil }
        var rest = data[(end + 1)...]
        var isCompressed = type == PNGChunks.compressedText
        if isCompressed {
            guard rest.popFirst() == 0 else { return nil }
        } else if type == PNGChunks.internationalText {
            guard let flag = rest.popFirst(), let method = rest.popFirst(), flag == 0 || method == 0 else { return nil }
            isCompressed = flag != 0
            // The language and the translated keyword.
            for _ in 0..<2 {
                guard let end = rest.firstIndex(of: 0) else { return nil }
                rest = rest[(end + 1)...]
            }
        }
        if isCompressed {
            guard let bytes = inflated(UnsafeRawBufferPointer(rebasing: rest), limit: limit) else { return nil }
            content = bytes
        } else {
            content = Array(rest)
        }
        isValid = type != PNGChunks.internationalText || String(validating: content, as: UTF8.self) != nil
    }
}

/// The digit in the first `tiff:Orientation="6"` or `<tiff:Orientation>6` of an XMP document; nil without any.
private func xmpOrientation(_ document: [UInt8]) -> Int? {
    let name = Array("tiff:Orientation".utf8)
    var start = 0
    while let found = document[start...].firstRange(of: name) {
        var rest = document[found.upperBound...]
        if rest.starts(with: [0x3D, 0x22]) {
            rest = rest.dropFirst(2)
        } else if rest.first == 0x3E {
            rest = rest.dropFirst()
        } else {
            rest = []
        }
        if let digit = rest.first, (0x30...0x39).contains(digit) { return Int(digit - 0x30) }
        start = found.upperBound
    }
    return nil
}

/// The orientation in the first directory of an EXIF block. Nil where the directory has none; a number that is no
/// orientation where the block cannot be read or the tag holds something else, as that keeps Pillow from asking XMP.
private func exifOrientation(_ block: [UInt8]) -> Int? {
    let unreadable = 0
    var tiff = block[...]
    for _ in 0..<2 where tiff.starts(with: Array("Exif\0\0".utf8)) { tiff = tiff.dropFirst(6) }
    guard !tiff.isEmpty else { return nil }
    let isLittle: Bool
    switch Array(tiff.prefix(4)) {
    case [0x49, 0x49, 0x2A, 0], [0x49, 0x49, 0, 0x2A]: isLittle = true
    case [0x4D, 0x4D, 0, 0x2A], [0x4D, 0x4D, 0x2A, 0], [0x4D, 0x4D, 0, 0x2B]: isLittle = false
    default: return unreadable
    }
    let first = tiff.startIndex
    func number(_ offset: Int, _ count: Int) -> UInt64? {
        guard offset >= 0, offset <= tiff.count - count else { return nil }
        let bytes = tiff[first + offset..<first + offset + count]
        return isLittle
            ? bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } : bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }
    guard let directory = number(4, 4) else { return unreadable }
    guard let entries = number(Int(directory), 2) else { return nil }
    var outside = 0
    for entry in 0..<Int(entries) {
        let offset = Int(directory) + 2 + 12 * entry
        guard let tag = number(offset, 2), let type = number(offset + 2, 2), let count = number(offset + 4, 4),
            let place = number(offset + 8, 4)
        else { return nil }
        guard let unit = tiffTypeSizes[Int(type)] else { continue }
        let size = Int(count) * unit
        if size > 4 {
            outside += size
            if outside > tiff.count { continue }
            // Pillow stops at a value that is cut off.
            guard Int(place) <= tiff.count - size else { return nil }
        }
        guard tag == 0x0112, size > 0 else { continue }
        let value = size > 4 ? Int(place) : offset + 8
        if type == 5 || type == 10, let numerator = number(value, 4), let denominator = number(value + 4, 4) {
            return denominator > 0 && numerator % denominator == 0 ? Int(numerator / denominator) : unreadable
        }
        return number(value, unit).flatMap { orientation(of: $0, type: Int(type)) } ?? unreadable
    }
    return nil
}

/// The bytes of a value of each TIFF type that Pillow reads.
private let tiffTypeSizes = [1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8]

/// The orientation that a value of a numeric TIFF type says; nil for other values and for bytes and text. `bits` is the
/// value as an unsigned number.
private func orientation(of bits: UInt64, type: Int) -> Int? {
    switch type {
    case 3, 4, 6, 8, 9, 13, 16: bits <= 8 ? Int(bits) : nil
    case 11: Int(exactly: Float(bitPattern: UInt32(bits)))
    case 12: Int(exactly: Double(bitPattern: bits))
    default: nil
    }
}
