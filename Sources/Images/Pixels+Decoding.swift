import Reporting
import CCodecs
import Tensors

extension Pixels {
    /// Decodes the JPEG or PNG file at `path`. Its first bytes decide which it is, not its name.
    ///
    /// The result equals, bit for bit, Pillow's `Image.open(path).convert("RGB")` for 3 channels and `.convert("L")`
    /// for 1: alpha is dropped without compositing, CMYK is read as Adobe writes it, 16-bit colour keeps its high
    /// byte, 16-bit grey is clamped to 255. EXIF orientation is applied only if `orienting`.
    ///
    /// Throws `Failure`, naming the path: `.inputOutput` where the file cannot be read or memory runs out, `.badData`
    /// where it is not a complete JPEG or PNG file or exceeds `maximumCount` or `maximumSide`.
    public init(contentsOf path: String, channels: Int = 3, orienting: Bool = false) throws {
        try self.init(decoding: imageFile(path), named: path, channels: channels, orienting: orienting)
    }

    /// Decodes the bytes of a JPEG or PNG file, as `init(contentsOf:)` does. `name` stands for the path in errors.
    public init(decoding file: [UInt8], named name: String, channels: Int = 3, orienting: Bool = false) throws {
        precondition(channels == 1 || channels == 3)
        let decoded = try file.withUnsafeBytes { bytes in
            guard let kind = FileKind(bytes) else { throw FileKind.refusal(name, empty: bytes.isEmpty) }
            return try Self.decode(bytes, kind, name, channels)
        }
        self = orienting ? decoded.oriented(exifOrientation(of: file)) : decoded
    }

    private static func decode(
        _ bytes: UnsafeRawBufferPointer, _ kind: FileKind, _ name: String, _ channels: Int
    ) throws -> Pixels {
        var header = dmae_image_header()
        // Calls a codec and turns its error into a failure that names the file.
        func attempt<Result>(
            _ call: (UnsafeMutablePointer<CChar>) -> Result, _ worked: (Result) -> Bool
        ) throws -> Result {
            try withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(DMAE_CODEC_MESSAGE)) { message in
                message.initialize(repeating: 0)
                let result = call(message.baseAddress!)
                guard worked(result) else {
                    let reason = String(cString: message.baseAddress!)
                    guard reason != DMAE_CODEC_OUT_OF_MEMORY else {
                        throw Failure(
                            .inputOutput, "cannot decode \(name): memory ran out; free some memory and try again")
                    }
                    throw Failure(.badData, "\(name) is a damaged \(kind.rawValue) file: \(reason)")
                }
                return result
            }
        }
        let start = bytes.bindMemory(to: UInt8.self).baseAddress!
        let open = kind == .jpeg ? dmae_jpeg_open : dmae_png_open
        let read = kind == .jpeg ? dmae_jpeg_read : dmae_png_read
        let close = kind == .jpeg ? dmae_jpeg_close : dmae_png_close
        let decoder = try attempt({ open(start, bytes.count, &header, $0) }, { $0 != nil })
        defer { close(decoder) }

        let width = Int(header.width), height = Int(header.height)
        guard width > 0, height > 0, max(width, height) <= Self.maximumSide, width <= Self.maximumCount / height else {
            throw Failure(
                .badData,
                "\(name) declares \(width)×\(height) pixels: at most \(Self.maximumCount) are accepted, "
                    + "and \(Self.maximumSide) along a side")
        }
        let perPixel = Int(header.bytes_per_pixel), count = width * height
        // Grey and RGB are decoded in place; everything else is decoded to the file's samples and then converted.
        if header.samples == DMAE_SAMPLES_RGB && channels == 3 || header.samples == DMAE_SAMPLES_GREY && channels == 1 {
            return try Pixels(width: width, height: height, channels: channels) { target in
                _ = try attempt({ read(decoder, target, $0) }, { $0 == 0 })
            }
        }
        let samples = UnsafeMutablePointer<UInt8>.allocate(capacity: count * perPixel)
        defer { samples.deallocate() }
        _ = try attempt({ read(decoder, samples, $0) }, { $0 == 0 })
        return Pixels(width: width, height: height, channels: channels) { target in
            let meaning = header.samples
            withUnsafeBytes(of: &header.palette) { palette in
                for pixel in 0..<count {
                    let sample = samples + pixel * perPixel
                    let red, green, blue: UInt8
                    switch meaning {
                    case DMAE_SAMPLES_GREY:
                        (red, green, blue) = (sample[0], sample[0], sample[0])
                    case DMAE_SAMPLES_GREY16:
                        // Pillow clamps to 255 instead of scaling.
                        let grey = sample[0] > 0 ? 255 : sample[1]
                        (red, green, blue) = (grey, grey, grey)
                    case DMAE_SAMPLES_CMYK:
                        (red, green, blue) = (
                            colour(sample[0], sample[3]), colour(sample[1], sample[3]), colour(sample[2], sample[3])
                        )
                    case DMAE_SAMPLES_PALETTE:
                        let entry = 3 * Int(sample[0])
                        (red, green, blue) = (palette[entry], palette[entry + 1], palette[entry + 2])
                    default:
                        (red, green, blue) = (sample[0], sample[1], sample[2])
                    }
                    if channels == 3 {
                        target[3 * pixel] = red
                        target[3 * pixel + 1] = green
                        target[3 * pixel + 2] = blue
                    } else {
                        target[pixel] = luma(red, green, blue)
                    }
                }
            }
        }
    }

    /// The picture with 1 or 3 channels, as Pillow's convert("L") and convert("RGB"): grey is the ITU-R 601-2 luma in
    /// 16-bit fixed point, rounded.
    public func converted(channels: Int) -> Pixels {
        guard channels != self.channels else { return self }
        return Pixels(width: width, height: height, channels: channels) { target in
            for pixel in 0..<width * height {
                if channels == 1 {
                    target[pixel] = luma(bytes[3 * pixel], bytes[3 * pixel + 1], bytes[3 * pixel + 2])
                } else {
                    for channel in 0..<3 { target[3 * pixel + channel] = bytes[pixel] }
                }
            }
        }
    }
}

/// Reads the JPEG or PNG file at `path` into memory; a file of another kind is refused before it is read.
///
/// Throws as `Pixels.init(contentsOf:)`.
func imageFile(_ path: String) throws -> [UInt8] {
    try readFile(path) { head in
        guard FileKind(head) != nil else { throw FileKind.refusal(path, empty: head.isEmpty) }
    }
}

/// The kinds of image file, recognised by their first bytes.
private enum FileKind: String {
    case jpeg = "JPEG"
    case png = "PNG"

    init?(_ bytes: UnsafeRawBufferPointer) {
        if bytes.starts(with: [0xFF, 0xD8, 0xFF]) {
            self = .jpeg
        } else if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) {
            self = .png
        } else {
            return nil
        }
    }

    static func refusal(_ name: String, empty: Bool) -> Failure {
        Failure(
            .badData, empty ? "\(name) is empty" : "\(name) is neither a JPEG nor a PNG file, whatever its name says")
    }
}

/// The RGB value of a CMYK component and black, both stored as 255 - ink. With `light` the stored black, the value is
/// light - ink·light / 255, the quotient rounded, as in Pillow.
@inline(__always)
private func colour(_ stored: UInt8, _ storedBlack: UInt8) -> UInt8 {
    let light = Int32(storedBlack)
    let product = (255 - Int32(stored)) * light + 128
    return UInt8(truncatingIfNeeded: max(0, light - ((product >> 8) + product) >> 8))
}

@inline(__always)
func luma(_ red: UInt8, _ green: UInt8, _ blue: UInt8) -> UInt8 {
    UInt8(truncatingIfNeeded: (UInt32(red) * 19595 + UInt32(green) * 38470 + UInt32(blue) * 7471 + 0x8000) >> 16)
}
