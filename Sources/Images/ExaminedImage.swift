import Glibc
import Reporting

/// An image that was read and decoded once: what its file is, and what a person should know of it.
public struct ExaminedImage: Sendable {
    /// The format of the file, such as "JPEG".
    public let format: String
    /// Size of the picture in pixels, turned upright if it was read so.
    public let width, height: Int
    /// Whether a pixel is not opaque, and was composited over the background.
    public let isTransparent: Bool
    /// Whether the file has 16 bits a sample.
    public let isSixteenBit: Bool
    /// The fraction of pixels of 16-bit grey that became white as they were above 255.
    public let clippedFraction: Double
    /// Whether its orientation is another than upright, so that it is turned or mirrored.
    public let isOriented: Bool
    /// Whether a PNG file's pixels have a wrong checksum.
    public let hasWrongChecksum: Bool

    /// Whether the file at `path` begins as an image does that can be decoded.
    public static func isImage(_ path: String) -> Bool {
        let kind = try? readFile(path, atMost: FileKind.headCount, headCount: FileKind.headCount) {
            _ = try FileKind($0, named: path)
        }
        return kind != nil
    }

    /// Throws where the file at `path` is called as pictures are and cannot be decoded: as what it is, with the remedy.
    public static func requireDecodable(_ path: String) throws {
        var status = stat()
        guard ImageExtension.isImage(path) || ImageExtension.undecodable(path) != nil,
            stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG
        else { return }
        _ = try readFile(path, atMost: FileKind.headCount, headCount: FileKind.headCount) {
            _ = try FileKind($0, named: path)
        }
    }

    /// The format of an image file whose header is whole, although its picture may be damaged; nil for another.
    public static func format(ofFile file: [UInt8]) -> String? { try? Pixels.header(ofFile: file, named: "").format }

    /// Decodes the bytes of an image file, and gives the picture to `use`.
    ///
    /// - Parameter name: stands for the file in errors.
    /// - Throws: `Failure`, as `Pixels.init(decoding:named:)`.
    public init(
        decoding file: [UInt8], named name: String, channels: Int = 3, as reading: PictureReading,
        use: (Pixels) -> Void = { _ in }
    ) throws {
        var findings = PictureFindings.nothing
        let pixels = try Pixels(decoding: file, named: name, channels: channels, as: reading, &findings)
        let (kind, orientation) = try file.withUnsafeBytes { bytes in
            let kind = try FileKind(bytes, named: name)
            return (kind, storedOrientation(of: bytes, kind))
        }
        format = kind.rawValue
        (width, height) = (pixels.width, pixels.height)
        isTransparent = findings.isTransparent
        isSixteenBit = findings.isSixteenBit
        clippedFraction = findings.clippedFraction
        isOriented = orientation != 1
        hasWrongChecksum = findings.hasWrongChecksum
        use(pixels)
    }
}
