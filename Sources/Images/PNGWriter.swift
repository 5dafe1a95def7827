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
