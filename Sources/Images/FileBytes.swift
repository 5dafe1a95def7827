import Reporting
import Glibc

/// Maximum bytes of an image file: more than the largest accepted image has uncompressed.
let maximumFileSize = 1 << 30

/// Reads the regular file at `path` into memory, or its first `most` bytes. `accept` is called with its first `headCount`
/// bytes before the rest is read.
///
/// Throws `Failure`, naming the path: `.inputOutput` with the system's reason, `.badData` for a file too large to be
/// an image; and what `accept` throws.
func readFile(
    _ path: String, atMost most: Int = .max, headCount: Int, where accept: (UnsafeRawBufferPointer) throws -> Void
) throws -> [UInt8] {
    // Non-blocking: opening a pipe with an image's name must not hang the run.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw cannotOpen(path) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
        throw Failure.system("cannot read \(path)", errno, .reading)
    }
    guard status.st_mode & S_IFMT != S_IFDIR else { throw Failure(.inputOutput, "\(path) is a folder: name a picture") }
    guard status.st_mode & S_IFMT == S_IFREG else {
        throw Failure(.inputOutput, "\(path) is not a regular file: name a picture")
    }

    /// Reads the next bytes into `buffer`, fewer at the end of the file, and returns their number.
    func fill(_ buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        var done = 0
        while done < buffer.count {
            let count = read(descriptor, buffer.baseAddress! + done, buffer.count - done)
            if count < 0 {
                if errno == EINTR { continue }
                throw Failure.system("cannot read \(path)", errno, .reading)
            }
            if count == 0 { break }
            done += count
        }
        return done
    }
    guard status.st_size <= maximumFileSize else {
        throw tooLarge(path)
    }
    // A huge file of another kind is refused by its first bytes.
    var head = [UInt8](repeating: 0, count: min(headCount, Int(status.st_size)))
    let known = try head.withUnsafeMutableBytes(fill)
    try head.withUnsafeBytes { try accept(UnsafeRawBufferPointer(rebasing: $0[..<known])) }
    let size = max(known, min(most, Int(status.st_size)))
    return try [UInt8](unsafeUninitializedCapacity: size) { buffer, initialized in
        for index in 0..<known { buffer[index] = head[index] }
        let rest = UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: buffer[known...]))
        initialized = known + (try fill(rest))
    }
}

/// The failure for a file, or a member of an archive, that is too large to be an image.
func tooLarge(_ name: String) -> Failure {
    Failure(.badData, "\(name) is larger than the \(maximumFileSize >> 20) MiB that an image file may have")
}

/// The bytes of the image file at `path`, as an `ImageSource` gives them: a file that cannot be read is the image's own
/// fault (`Failure.badData`), unless it is there and may be read. With `most`, only the first bytes.
func imageOfSource(_ path: String, atMost most: Int = .max) throws -> [UInt8] {
    do {
        return try imageFile(path, atMost: most)
    } catch let failure as Failure where failure.code == .inputOutput {
        if isReadableFile(path) { throw failure }
        throw Failure(.badData, failure.sentence)
    }
}

/// The size of the regular file at `path`; nil where there is none.
func fileByteCount(_ path: String) -> Int? {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG ? Int(status.st_size) : nil
}

/// Whether `path` is a regular file with permission to read it. If reading it fails all the same, the system is at
/// fault, not the file.
func isReadableFile(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path, R_OK) == 0
}

/// The failure of opening `path`, with the reason in errno; the message has `kind` before the path.
func cannotOpen(_ path: String, _ kind: String = "") -> Failure {
    let number = errno
    // Bytes of a command line that are not UTF-8 arrive as replacement characters, so the path names another file.
    if number == ENOENT, path.unicodeScalars.contains("\u{FFFD}") { return notText(kind + path) }
    let shown = path.isEmpty ? "\"\"" : path
    return .cannotOpen(kind + shown, number)
}

/// The failure of opening a path whose bytes are not UTF-8.
func notText(_ path: String) -> Failure {
    Failure(.inputOutput, "cannot open \(path), as its name is not valid UTF-8: rename it")
}
