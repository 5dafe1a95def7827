import CCodecs

/// Decodes the picture in a file. Opening it reads the header, so that the size is known before memory is allocated for
/// the samples.
///
/// A decoder refers to the bytes of the file, which must outlive it.
protocol PictureDecoder {
    /// The size of the picture and the kind of its samples.
    var header: PictureHeader { get }
    /// Transparency without an alpha channel; nil where there is none or it is not wanted.
    var transparency: Transparency? { get }
    /// Whether the pixels that were read have a wrong checksum.
    var hasWrongChecksum: Bool { get }

    /// Writes `samples`[height, width, bytesPerPixel], all of them. May be called once.
    ///
    /// - Throws: `PictureDamage`.
    func read(into samples: UnsafeMutablePointer<UInt8>) throws
}

extension PictureDecoder {
    var hasWrongChecksum: Bool { false }
}

/// The size of a picture and the kind of its samples.
struct PictureHeader {
    var width: Int
    var height: Int
    /// The colour model of the samples.
    var samples: dmae_samples
    /// Bits of a sample in the file.
    var bitDepth = 8
    /// Bytes that the decoder takes for the whole picture while it reads, beside the samples.
    var workingBytes = 0
    /// Red, green and blue of 256 entries, those that the file does not define black; empty without a palette.
    var palette: [UInt8] = []

    /// Bytes of a pixel of the samples.
    var bytesPerPixel: Int {
        switch samples {
        case DMAE_SAMPLES_GREY, DMAE_SAMPLES_PALETTE: 1
        case DMAE_SAMPLES_GREY16, DMAE_SAMPLES_GREY_ALPHA: 2
        case DMAE_SAMPLES_RGB: 3
        default: 4
        }
    }

    /// A palette of 256 entries of which the first are `colours`.
    static func palette(_ colours: some Sequence<UInt8>) -> [UInt8] {
        let defined = Array(colours.prefix(3 * 256))
        return defined + Array(repeating: 0, count: 3 * 256 - defined.count)
    }
}

/// Why a picture cannot be decoded.
enum PictureDamage: Error, Equatable {
    /// Memory ran out: the file may be valid.
    case outOfMemory
    /// The file is not what its header says, as words after "a damaged … file: ".
    case damaged(String)
    /// The file may be valid, but it has something that is not read, as words after "a … file with ".
    case unusual(String)

    static let truncated = PictureDamage.damaged("the file is truncated")
}

extension FileKind {
    /// Opens a file of this kind.
    ///
    /// - Parameter hasAlpha: whether transparency is wanted; otherwise it is dropped.
    /// - Throws: `PictureDamage`.
    func decoder(of file: UnsafeRawBufferPointer, hasAlpha: Bool) throws -> any PictureDecoder {
        switch self {
        case .jpeg, .png, .webp: try LibraryDecoder(self, file, hasAlpha: hasAlpha)
        case .gif: try GIFDecoder(file, hasAlpha: hasAlpha)
        case .bmp: try BMPDecoder(file, hasAlpha: hasAlpha)
        case .pnm: try PNMDecoder(file)
        }
    }
}

/// Decodes JPEG, PNG and WebP with their libraries.
private final class LibraryDecoder: PictureDecoder {
    let header: PictureHeader
    let transparency: Transparency?

    private let kind: FileKind
    private let decoder: OpaquePointer

    init(_ kind: FileKind, _ file: UnsafeRawBufferPointer, hasAlpha: Bool) throws {
        self.kind = kind
        var header = dmae_image_header()
        let start = file.bindMemory(to: UInt8.self).baseAddress!
        let wantsAlpha: Int32 = hasAlpha ? 1 : 0
        decoder = try Self.attempt { message in
            switch kind {
            case .jpeg: dmae_jpeg_open(start, file.count, &header, message)
            case .png: dmae_png_open(start, file.count, wantsAlpha, &header, message)
            default: dmae_webp_open(start, file.count, wantsAlpha, &header, message)
            }
        }
        self.header = PictureHeader(
            width: Int(header.width), height: Int(header.height), samples: header.samples,
            bitDepth: Int(header.bit_depth), workingBytes: Int(header.working_bytes),
            palette: header.samples == DMAE_SAMPLES_PALETTE ? withUnsafeBytes(of: header.palette) { Array($0) } : [])
        transparency = kind == .png && hasAlpha ? Transparency(png: file, header.samples) : nil
    }

    deinit {
        switch kind {
        case .jpeg: dmae_jpeg_close(decoder)
        case .png: dmae_png_close(decoder)
        default: dmae_webp_close(decoder)
        }
    }

    func read(into samples: UnsafeMutablePointer<UInt8>) throws {
        try Self.attempt { message in
            let status =
                switch kind {
                case .jpeg: dmae_jpeg_read(decoder, samples, message)
                case .png: dmae_png_read(decoder, samples, message)
                default: dmae_webp_read(decoder, samples, message)
                }
            return status == 0 ? () : nil
        }
    }

    var hasWrongChecksum: Bool { kind == .png && dmae_png_has_wrong_checksum(decoder) != 0 }

    /// Calls a codec and throws its message where it returns nil.
    private static func attempt<Result>(_ call: (UnsafeMutablePointer<CChar>) -> Result?) throws -> Result {
        try withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(DMAE_CODEC_MESSAGE)) { message in
            message.initialize(repeating: 0)
            guard let result = call(message.baseAddress!) else {
                let reason = String(cString: message.baseAddress!)
                throw reason == DMAE_CODEC_OUT_OF_MEMORY ? PictureDamage.outOfMemory : .damaged(reason)
            }
            return result
        }
    }
}

/// Takes the bytes of a file one after another.
struct ByteCursor {
    let file: UnsafeRawBufferPointer
    /// The next byte; never beyond the end.
    private(set) var offset: Int

    init(_ file: UnsafeRawBufferPointer, at offset: Int = 0) {
        self.file = file
        self.offset = Swift.min(offset, file.count)
    }

    /// The next byte; nil at the end.
    mutating func next() -> UInt8? {
        guard offset < file.count else { return nil }
        offset += 1
        return file[offset - 1]
    }

    /// The next `count` bytes, or as many as there are.
    mutating func take(upTo count: Int) -> UnsafeRawBufferPointer {
        let end = offset + Swift.min(count, file.count - offset)
        defer { offset = end }
        return UnsafeRawBufferPointer(rebasing: file[offset..<end])
    }

    /// The next `count` bytes.
    ///
    /// - Throws: `PictureDamage.truncated` where there are fewer.
    mutating func take(_ count: Int) throws -> UnsafeRawBufferPointer {
        guard count <= file.count - offset else { throw PictureDamage.truncated }
        return take(upTo: count)
    }
}

/// The number in the two bytes from `offset` on.
func littleEndian16(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> Int {
    Int(bytes[offset]) | Int(bytes[offset + 1]) << 8
}

/// The number in the four bytes from `offset` on.
func littleEndian32(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> Int {
    littleEndian16(bytes, offset) | littleEndian16(bytes, offset + 2) << 16
}
