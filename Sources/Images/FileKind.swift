import Reporting

/// The kinds of image file that can be decoded, recognised by their first bytes.
enum FileKind: String {
    case jpeg = "JPEG"
    case png = "PNG"
    case webp = "WebP"
    case gif = "GIF"
    case bmp = "BMP"
    /// PBM, PGM and PPM.
    case pnm = "PNM"

    /// The kinds in a sentence, without an article.
    static let names = "JPEG, PNG, WebP, GIF, BMP or PNM"

    /// The kind of a file that begins with `bytes`: the whole file, or at least its first `headCount` bytes.
    ///
    /// - Parameter name: stands for the file in the message.
    /// - Throws: `Failure.badData` for any other file, with the kind it seems to be.
    init(_ bytes: UnsafeRawBufferPointer, named name: String) throws {
        if bytes.starts(with: [0xFF, 0xD8, 0xFF]) {
            self = .jpeg
        } else if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) {
            guard !OtherFile.isApples(bytes) else { throw OtherFile.apples.refusal(name) }
            self = .png
        } else if bytes.starts(with: "RIFF".utf8), bytes.dropFirst(8).starts(with: "WEBP".utf8) {
            self = .webp
        } else if bytes.starts(with: "GIF87a".utf8) || bytes.starts(with: "GIF89a".utf8) {
            self = .gif
        } else if bytes.starts(with: "BM".utf8), bytes.count >= 18,
            BMPDecoder.headerSizes.contains(littleEndian32(bytes, 14))
        {
            self = .bmp
        } else if PNMDecoder.recognises(bytes) {
            self = .pnm
        } else {
            guard !bytes.isEmpty else { throw Failure(.badData, "\(name) is empty") }
            guard let other = OtherFile(bytes) else {
                throw Failure(.badData, "\(name) is not a \(Self.names) file, whatever its name says")
            }
            throw other.refusal(name)
        }
    }

    /// Bytes at the beginning of a file that tell what it is.
    static let headCount = 512
}

/// A kind of file that is found under the names of pictures and cannot be decoded.
struct OtherFile: Equatable {
    /// The kind with its article, such as "a HEIC file".
    let name: String
    /// What to do about it.
    let remedy: String
    /// Whether it is a file of a kind that is decoded, though not a usual one.
    let isVariant: Bool

    private init(_ name: String, _ remedy: String, isVariant: Bool = false) {
        self.name = name
        self.remedy = remedy
        self.isVariant = isVariant
    }

    func refusal(_ path: String) -> Failure {
        let kind = isVariant ? "" : ", not a \(FileKind.names) file"
        return Failure(.badData, "\(path) is \(name) (\(remedy))\(kind)")
    }

    /// A JPEG file of a process that libjpeg-turbo does not decode; nil for a usual one.
    init?(unusualJPEG file: UnsafeRawBufferPointer) {
        var offset = 2
        while offset + 9 < file.count, file[offset] == 0xFF {
            let marker = file[offset + 1], length = Int(file[offset + 2]) << 8 | Int(file[offset + 3])
            switch marker {
            case 0xFF:
                offset += 1
                continue
            case 0xC3, 0xCB:
                self.init("a lossless JPEG file", Self.magick, isVariant: true)
                return
            case 0xF7:
                self.init("a JPEG-LS file", Self.magick, isVariant: true)
                return
            case 0xC5...0xC7, 0xCD...0xCF:
                self.init("a JPEG file of the hierarchical process", Self.magick, isVariant: true)
                return
            case 0xC0...0xC2, 0xC9, 0xCA:
                guard file[offset + 4] != 8 else { return nil }
                self.init("a JPEG file of \(file[offset + 4]) bits a sample", Self.magick, isVariant: true)
                return
            default:
                offset += 2 + length
            }
        }
        return nil
    }

    /// Apple's variant of PNG, which is in applications for its telephones: its first chunk is CgBI.
    static let apples = OtherFile(
        "a PNG file in Apple's CgBI variant", "convert it with Xcode's pngcrush -revert-iphone-optimizations",
        isVariant: true)

    static func isApples(_ png: UnsafeRawBufferPointer) -> Bool {
        png.count >= 16 && png[12..<16].elementsEqual("CgBI".utf8)
    }

    /// The kind of a file that begins with `bytes`; nil where nothing is recognised.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard
            let known = Self.container(bytes)
                ?? Self.signatures.first(where: { $0.matches(bytes) })?.kind
                ?? Self.text(bytes) ?? Self.shortSignatures.first(where: { $0.matches(bytes) })?.kind ?? Self.shifted(
                    bytes) ?? Self.zeros(bytes)
        else { return nil }
        self = known
    }

    /// Bytes by which a kind is recognised.
    private struct Signature {
        let bytes: [UInt8]
        let offset: Int
        let kind: OtherFile

        init(_ bytes: [UInt8], at offset: Int = 0, _ name: String, _ remedy: String, isVariant: Bool = false) {
            self.bytes = bytes
            self.offset = offset
            kind = OtherFile(name, remedy, isVariant: isVariant)
        }

        init(_ text: String, at offset: Int = 0, _ name: String, _ remedy: String, isVariant: Bool = false) {
            self.init(Array(text.utf8), at: offset, name, remedy, isVariant: isVariant)
        }

        func matches(_ file: UnsafeRawBufferPointer) -> Bool {
            file.count >= offset + bytes.count && file[offset..<offset + bytes.count].elementsEqual(bytes)
        }
    }

    private static let raw = "develop it to JPEG or PNG, for example with darktable-cli"
    private static let unpack = "unpack it and name the folder"
    private static let magick = "convert it with magick"

    /// The more special ones first.
    private static let signatures = [
        Signature("version https://git-lfs", "a pointer of Git LFS", "fetch the pictures with git lfs pull"),
        Signature("version http://git-media", "a pointer of Git LFS", "fetch the pictures with git lfs pull"),
        Signature([0xFF, 0x4F, 0xFF, 0x51], "a JPEG 2000 file", "convert it with opj_decompress"),
        Signature("jP  \r\n", at: 4, "a JPEG 2000 file", "convert it with opj_decompress"),
        Signature([0xFF, 0x0A], "a JPEG XL file", "convert it with djxl"),
        Signature("JXL ", at: 4, "a JPEG XL file", "convert it with djxl"),
        Signature(
            [0x49, 0x49, 0x2A, 0x00, 0x10, 0x00, 0x00, 0x00, 0x43, 0x52], "a raw picture of a camera (CR2)", raw),
        Signature([0x49, 0x49, 0xBC, 0x01], "a JPEG XR file", "convert it with JxrDecApp"),
        Signature([0x49, 0x49, 0x2A, 0x00], "a TIFF file", magick),
        Signature([0x4D, 0x4D, 0x00, 0x2A], "a TIFF file", magick),
        Signature([0x49, 0x49, 0x2B, 0x00], "a BigTIFF file", magick),
        Signature([0x4D, 0x4D, 0x00, 0x2B], "a BigTIFF file", magick),
        Signature("IIRO", "a raw picture of a camera (ORF)", raw),
        Signature([0x49, 0x49, 0x55, 0x00], "a raw picture of a camera (RW2)", raw),
        Signature("FUJIFILMCCD-RAW", "a raw picture of a camera (RAF)", raw),
        Signature([0x00, 0x05, 0x16, 0x07], "an AppleDouble file, which macOS writes beside others", "remove it"),
        Signature([0x00, 0x05, 0x16, 0x00], "an AppleSingle file of macOS", "copy the picture anew"),
        Signature("8BPS", "a Photoshop file", magick), Signature("gimp xcf", "a GIMP file", "export it to PNG"),
        Signature("%PDF", "a PDF document", "convert it with pdftoppm"),
        Signature("%!PS", "a PostScript file", "convert it with gs"),
        Signature([0x8A, 0x4D, 0x4E, 0x47], "an MNG file", magick),
        Signature([0x8B, 0x4A, 0x4E, 0x47], "a JNG file", magick),
        Signature([0x42, 0x50, 0x47, 0xFB], "a BPG file", "convert it with bpgdec"),
        Signature("FLIF", "a FLIF file", "convert it with flif"),
        Signature("qoif", "a QOI file", magick), Signature("DDS ", "a DDS file", magick),
        Signature([0x76, 0x2F, 0x31, 0x01], "an OpenEXR file", magick),
        Signature("#?RADIANCE", "a Radiance HDR file", magick), Signature("SIMPLE  =", "a FITS file", magick),
        Signature("DICM", at: 128, "a DICOM file", "convert it with dcm2img"),
        Signature([0x00, 0x00, 0x01, 0x00], "a Windows icon", magick),
        Signature([0x93] + Array("NUMPY".utf8), "a NumPy array", "write its pictures to PNG files"),
        Signature([0x89] + Array("HDF".utf8), "an HDF5 file", "write its pictures to PNG files"),
        Signature("SQLite format 3", "an SQLite database", "name a folder of pictures"),
        Signature("PK\u{3}\u{4}", "a ZIP archive", unpack), Signature("Rar!", "a RAR archive", unpack),
        Signature([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], "a 7z archive", unpack),
        Signature([0x1F, 0x8B], "a gzip file", "unpack it"),
        Signature([0xFD] + Array("7zXZ".utf8), "an xz file", "unpack it"),
        Signature([0x28, 0xB5, 0x2F, 0xFD], "a Zstandard file", "unpack it"),
        Signature("BZh", "a bzip2 file", "unpack it"),
        Signature("ustar", at: 257, "a tar archive", unpack),
        Signature([0x1A, 0x45, 0xDF, 0xA3], "a Matroska video", "extract its pictures with ffmpeg"),
        Signature("AVI ", at: 8, "an AVI video", "extract its pictures with ffmpeg"),
        Signature("WAVE", at: 8, "a WAVE sound", "remove it"), Signature("OggS", "an Ogg file", "remove it"),
        Signature("ID3", "an MP3 sound", "remove it"),
        Signature([0x7F] + Array("ELF".utf8), "a program", "remove it"),
        Signature("P7\n", "a PAM file", magick), Signature("PF\n", "a PFM file", magick),
        Signature("Pf\n", "a PFM file", magick),
    ]

    /// Kinds that are known by two letters only, with which a text may begin.
    private static let shortSignatures = [
        Signature("BM", "a BMP file with an unusual header", magick, isVariant: true),
        Signature("MZ", "a Windows program", "remove it"),
    ]

    /// HEIC, AVIF and videos: a box "ftyp" with the brands of the format.
    private static func container(_ bytes: UnsafeRawBufferPointer) -> OtherFile? {
        guard bytes.count >= 12, bytes[4..<8].elementsEqual("ftyp".utf8) else { return nil }
        let end = Swift.min(bytes.count, Swift.max(16, Int(bigEndian32(bytes, 0))))
        var brands: [String] = []
        for offset in stride(from: 8, through: end - 4, by: 4) where offset != 12 {
            brands.append(String(decoding: bytes[offset..<offset + 4], as: UTF8.self))
        }
        if brands.contains(where: { $0 == "avif" || $0 == "avis" }) {
            return OtherFile("an AVIF file", "convert it with avifdec")
        }
        if brands.contains(where: { $0.hasPrefix("he") || $0.hasPrefix("mif") || $0.hasPrefix("msf") }) {
            return OtherFile("a HEIC file", "convert it with heif-convert")
        }
        if brands[0] == "crx " { return OtherFile("a raw picture of a camera (CR3)", raw) }
        return OtherFile("a video or sound (MP4 family)", "extract its pictures with ffmpeg")
    }

    /// HTML, SVG and other text.
    private static func text(_ bytes: UnsafeRawBufferPointer) -> OtherFile? {
        let head = bytes.prefix(FileKind.headCount)
        guard head.allSatisfy({ $0 >= 0x20 || (0x09...0x0D).contains($0) }) else {
            let isUTF16 = bytes.starts(with: [0xFF, 0xFE]) || bytes.starts(with: [0xFE, 0xFF])
            return isUTF16 ? OtherFile("a text in UTF-16", "download the picture again") : nil
        }
        let text = String(decoding: head, as: UTF8.self).lowercased()
        let start = text.drop { $0.isWhitespace || $0 == "\u{FEFF}" }
        if start.hasPrefix("<svg") || (start.hasPrefix("<?xml") || start.hasPrefix("<!")) && text.contains("<svg") {
            return OtherFile("an SVG drawing", "draw it to PNG, for example with rsvg-convert")
        }
        let isPage = ["<!doctype html", "<html", "<head", "<body", "<script", "<!--"].contains(where: start.hasPrefix)
        if isPage || text.contains("<html") {
            return OtherFile(
                "a page of HTML", "download it again, and look at the page for what the server said")
        }
        if start.hasPrefix("<?xml") { return OtherFile("an XML document", "download it again") }
        if start.hasPrefix("{") || start.hasPrefix("[") {
            return OtherFile("a JSON document", "download it again")
        }
        // Bytes above 127 may be anything, unless they are UTF-8; the last letter may be cut off.
        let isText =
            head.allSatisfy { $0 < 0x80 }
            || (0...3).contains { String(validating: head.dropLast($0), as: UTF8.self) != nil }
        return isText ? OtherFile("a text", "download it again, or remove it") : nil
    }

    /// A picture with a few bytes before it, such as a byte order mark or a line break.
    private static func shifted(_ bytes: UnsafeRawBufferPointer) -> OtherFile? {
        for offset in 1..<Swift.max(2, Swift.min(32, bytes.count - 8)) {
            let rest = bytes[offset...]
            let isJPEG = rest.starts(with: [0xFF, 0xD8, 0xFF, 0xE0]) || rest.starts(with: [0xFF, 0xD8, 0xFF, 0xE1])
            guard isJPEG || rest.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) else { continue }
            let before = Format.counted(offset, "byte")
            return OtherFile(
                "a \(isJPEG ? "JPEG" : "PNG") file with \(before) before its beginning",
                "remove \(offset == 1 ? "it" : "them"), for example with tail -c +\(offset + 1)", isVariant: true)
        }
        return nil
    }

    /// A file that was never written to the end.
    private static func zeros(_ bytes: UnsafeRawBufferPointer) -> OtherFile? {
        guard bytes.prefix(FileKind.headCount).allSatisfy({ $0 == 0 }) else { return nil }
        return OtherFile("a file of zeros, as a broken copy or download leaves them", "copy it again")
    }
}
