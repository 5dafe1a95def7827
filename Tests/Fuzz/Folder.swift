import Glibc
import Reporting

/// A new folder below .build/fuzz, for readers that take a path.
func makeFolder() -> String {
    var template = Array(".build/fuzz/folder-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
        fatalError("cannot make a folder below .build/fuzz: run this in the project's folder")
    }
    return template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
}

func write(_ bytes: UnsafeRawBufferPointer, to path: String) {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    guard file >= 0, Glibc.write(file, bytes.baseAddress, bytes.count) == bytes.count else {
        fatalError("cannot write \(path)")
    }
    close(file)
}

/// The content of a file; nil where there is none.
func read(_ path: String) -> [UInt8]? {
    let file = open(path, O_RDONLY)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var status = stat()
    fstat(file, &status)
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    return Glibc.read(file, &bytes, bytes.count) == bytes.count ? bytes : nil
}

/// Any other error than a refusal in one line ends the process.
func attempt(_ read: () throws -> Void) {
    do { try read() } catch {
        guard let failure = error as? Failure, failure.code == .badData || failure.code == .inputOutput else {
            fatalError("\(error)")
        }
        precondition(!failure.message.utf8.contains(0x0A), failure.message)
    }
}
