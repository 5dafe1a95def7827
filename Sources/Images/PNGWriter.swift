import Reporting
import CCodecs
import Glibc
import Tensors

/// Encodes pictures as PNG files.
public enum PNGWriter {
    /// The bytes of a PNG file of `picture`.
    ///
    /// Throws `Failure(.inputOutput)`, with `name` for the file, where memory runs out.
    public static func encode(_ picture: Pixels, named name: String = "a PNG file") throws -> [UInt8] {
        try withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(DMAE_CODEC_MESSAGE)) { message in
            message.initialize(repeating: 0)
            var count = 0
            guard
                let file = dmae_png_encode(
                    picture.bytes, UInt32(picture.width), UInt32(picture.height), Int32(picture.channels), &count,
                    message.baseAddress!)
            else { throw Failure(.inputOutput, "cannot write \(name): \(String(cString: message.baseAddress!))") }
            defer { free(file) }
            return Array(UnsafeBufferPointer(start: file, count: count))
        }
    }

    /// Bytes of a file by which `wrote` knows it.
    public static let headBytes = 64

    /// Whether a file with this beginning, of `headBytes` bytes unless it is shorter, was written by `encode`: its first
    /// chunk after the header says so.
    public static func wrote(fileWithHead head: some Collection<UInt8>) -> Bool {
        // The signature, and a header of 13 bytes with its length, type and checksum; then the length of the chunk.
        let chunk = head.dropFirst(8 + 25 + 4), text = "tEXtSoftware\0\(DMAE_PNG_SOFTWARE)"
        return chunk.prefix(text.utf8.count).elementsEqual(text.utf8)
    }
}

/// Versions of the linked image libraries, for `dmae doctor`.
public enum ImageLibraries {
    /// Each library's name and version.
    public static var versions: [(name: String, version: String)] {
        [
            ("libjpeg-turbo", String(cString: dmae_jpeg_version())), ("libpng", String(cString: dmae_png_version())),
            ("libwebp", [16, 8, 0].map { "\(dmae_webp_version() >> $0 & 0xFF)" }.joined(separator: ".")),
            ("zlib", String(cString: dmae_zlib_version())),
        ]
    }
}
