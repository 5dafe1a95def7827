import CCodecs
import Glibc
import Tensors

/// Writes pictures as PNG files.
public enum PNGWriter {
    /// Writes `picture` to `path`, which appears complete or not at all: the file is written beside it, then renamed.
    ///
    /// Throws `Failure(.inputOutput)` naming the path and the reason.
    public static func write(_ picture: Pixels, to path: String) throws {
        let file = try encode(picture, named: path)
        let part = "\(path).\(getpid()).part"
        let descriptor = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw Failure(.inputOutput, "cannot write \(path): \(systemReason())") }
        var reason: Int32 = 0
        file.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count && reason == 0 {
                let count = Glibc.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
                if count >= 0 { done += count } else if errno != EINTR { reason = errno }
            }
        }
        if reason == 0 && fsync(descriptor) != 0 { reason = errno }
        if close(descriptor) != 0 && reason == 0 { reason = errno }
        if reason == 0 && rename(part, path) != 0 { reason = errno }
        guard reason == 0 else {
            unlink(part)
            throw Failure(.inputOutput, "cannot write \(path): \(systemReason(reason))")
        }
    }

    /// The bytes of a PNG file that holds `picture`; `name` stands for it in errors.
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

/// Versions of the image libraries that are linked in, for `dmae doctor`.
public enum ImageLibraries {
    /// Each library's name and version.
    public static var versions: [(name: String, version: String)] {
        [
            ("libjpeg-turbo", String(cString: dmae_jpeg_version())), ("libpng", String(cString: dmae_png_version())),
            ("zlib", String(cString: dmae_zlib_version())),
        ]
    }
}
