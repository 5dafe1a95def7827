import Reporting
import CCodecs

extension Pixels {
    /// Decodes the image file at `path`. Its first bytes decide which kind it is, not its name.
    ///
    /// Read as `PictureReading.torchvision`, the result equals, bit for bit, Pillow's `Image.open(path).convert("RGB")`
    /// for 3 channels and `.convert("L")` for 1: CMYK is read as Adobe writes it, 16-bit colour keeps its high byte.
    /// An orientation is applied as by `ImageOps.exif_transpose`, a background as by `Image.alpha_composite`.
    ///
    /// Throws `Failure`, naming the path: `.inputOutput` where the file cannot be read or memory runs out, `.badData`
    /// where it is not a complete file of a kind that is decoded or exceeds `maximumCount` or `maximumSide`.
    public init(contentsOf path: String, channels: Int = 3, as reading: PictureReading = PictureReading()) throws {
        try self.init(decoding: imageFile(path), named: path, channels: channels, as: reading)
    }

    /// Decodes the bytes of an image file, as `init(contentsOf:)` does. `name` stands for the path in errors.
    public init(
        decoding file: [UInt8], named name: String, channels: Int = 3, as reading: PictureReading = PictureReading()
    ) throws {
        var findings = PictureFindings.nothing
        try self.init(decoding: file, named: name, channels: channels, as: reading, &findings)
    }

    /// As above, counting in `tally` what a person should know of it, as image number `image`. `report` is called with
    /// the sentences to say now.
    public init(
        decoding file: [UInt8], named name: String, channels: Int, as reading: PictureReading,
        in tally: inout PictureTally, image: Int, report: (Message) -> Void
    ) throws {
        var findings = PictureFindings.nothing
        try self.init(decoding: file, named: name, channels: channels, as: reading, &findings)
        tally.add(findings, image: image, path: name).forEach(report)
    }

    /// As above, with what a person should know of it in `findings`.
    init(
        decoding file: [UInt8], named name: String, channels: Int, as reading: PictureReading,
        _ findings: inout PictureFindings
    ) throws {
        precondition(channels == 1 || channels == 3)
        self = try file.withUnsafeBytes { bytes in
            let kind = try FileKind(bytes, named: name)
            let decoded = try Self.decode(bytes, kind, name, channels, reading, &findings)
            return reading.appliesOrientation ? decoded.oriented(storedOrientation(of: bytes, kind)) : decoded
        }
    }

    /// What the header of an image file says.
    struct FileHeader {
        /// The format of the file, such as "JPEG".
        let format: String
        /// Pixels of the picture.
        let pixels: Int
        /// The most bytes in memory while it is decoded: of the samples and of the picture of three channels, or of the samples
        /// and what the decoder works with.
        let decodingBytes: Int
        /// Whether the file has an alpha channel, or a colour that is transparent.
        let hasAlpha: Bool
        /// Whether the picture is grey of 16 bits a sample.
        let isDeepGrey: Bool
        /// The shorter side of the picture, in pixels.
        let shortSide: Int
    }

    /// The header of an image file, if it is that of a picture that can be decoded. `file` may be the beginning of the
    /// file alone, if its header is in it.
    ///
    /// Throws as `init(decoding:named:)`.
    static func header(ofFile file: [UInt8], named name: String) throws -> FileHeader {
        try file.withUnsafeBytes { bytes in
            let kind = try FileKind(bytes, named: name)
            let decoder = try opened(bytes, kind, name, hasAlpha: true), header = decoder.header
            let isInPlace = decoder.transparency == nil && header.samples == DMAE_SAMPLES_RGB
            let isTurned = storedOrientation(of: bytes, kind) != 1
            let pixels = header.width * header.height
            let perPixel = max(isInPlace ? 3 : header.bytesPerPixel + 3, isTurned ? 6 : 0)
            let hasAlpha =
                decoder.transparency != nil || header.samples == DMAE_SAMPLES_GREY_ALPHA
                || header.samples == DMAE_SAMPLES_RGB_ALPHA
            return FileHeader(
                format: kind.rawValue, pixels: pixels,
                decodingBytes: max(pixels * perPixel, pixels * header.bytesPerPixel + header.workingBytes),
                hasAlpha: hasAlpha,
                isDeepGrey: header.samples == DMAE_SAMPLES_GREY16,
                shortSide: min(header.width, header.height))
        }
    }

    /// Opens a file and requires that its picture is not too large.
    private static func opened(
        _ bytes: UnsafeRawBufferPointer, _ kind: FileKind, _ name: String, hasAlpha: Bool
    ) throws -> any PictureDecoder {
        let decoder = try naming(name, kind, bytes) { try kind.decoder(of: bytes, hasAlpha: hasAlpha) }
        let width = decoder.header.width, height = decoder.header.height
        guard width > 0, height > 0, max(width, height) <= maximumSide, width <= maximumCount / height else {
            throw Failure(
                .badData,
                "\(name) declares \(width)×\(height) pixels: at most \(maximumCount) are accepted, "
                    + "and \(maximumSide) along a side")
        }
        return decoder
    }

    /// Calls a decoder and turns its error into a failure that names the file.
    private static func naming<Result>(
        _ name: String, _ kind: FileKind, _ bytes: UnsafeRawBufferPointer, _ call: () throws -> Result
    ) throws -> Result {
        do { return try call() } catch let damage as PictureDamage {
            switch damage {
            case .outOfMemory:
                throw Failure(.failure, "cannot decode \(name): memory ran out; \(remedyForMemory())")
            case .unusual(let what):
                throw Failure(
                    .badData,
                    "\(name) is a \(kind.rawValue) file with \(what), which is not read: convert it with magick")
            case .damaged(let reason):
                if kind == .jpeg, let unusual = OtherFile(unusualJPEG: bytes) { throw unusual.refusal(name) }
                throw Failure(.badData, "\(name) is a damaged \(kind.rawValue) file: \(reason)")
            }
        }
    }

    private static func decode(
        _ bytes: UnsafeRawBufferPointer, _ kind: FileKind, _ name: String, _ channels: Int, _ reading: PictureReading,
        _ findings: inout PictureFindings
    ) throws -> Pixels {
        let decoder = try opened(bytes, kind, name, hasAlpha: reading.background != .none)
        let header = decoder.header, width = header.width, height = header.height
        findings.isSixteenBit = header.bitDepth == 16
        func read(into target: UnsafeMutablePointer<UInt8>) throws {
            try naming(name, kind, bytes) { try decoder.read(into: target) }
            findings.hasWrongChecksum = decoder.hasWrongChecksum
        }
        // Opaque grey and RGB are decoded in place; everything else is decoded to samples that are then converted.
        if decoder.transparency == nil,
            header.samples == DMAE_SAMPLES_RGB && channels == 3 || header.samples == DMAE_SAMPLES_GREY && channels == 1
        {
            return try Pixels(width: width, height: height, channels: channels) { try read(into: $0) }
        }
        let count = width * height
        let samples = UnsafeMutablePointer<UInt8>.allocate(capacity: count * header.bytesPerPixel)
        defer { samples.deallocate() }
        try read(into: samples)
        var conversion = SampleConversion(header, decoder.transparency, reading)
        let picture = Pixels(width: width, height: height, channels: channels) { target in
            conversion.convert(samples, count: count, channels: channels, to: target)
        }
        findings.isTransparent = conversion.isTransparent
        findings.clippedFraction = Double(conversion.clippedCount) / Double(count)
        return picture
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

/// Reads the image file at `path` into memory; a file of another kind is refused before it is read.
///
/// Throws as `Pixels.init(contentsOf:)`.
func imageFile(_ path: String, atMost most: Int = .max) throws -> [UInt8] {
    try readFile(path, atMost: most, headCount: FileKind.headCount) { _ = try FileKind($0, named: path) }
}

@inline(__always)
func luma(_ red: UInt8, _ green: UInt8, _ blue: UInt8) -> UInt8 {
    UInt8(truncatingIfNeeded: (UInt32(red) * 19595 + UInt32(green) * 38470 + UInt32(blue) * 7471 + 0x8000) >> 16)
}
