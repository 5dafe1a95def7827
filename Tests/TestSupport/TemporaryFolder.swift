import Reporting
import Foundation
import Tensors

/// A folder that goes away when the process ends: XCTest keeps its test cases, and what they hold, until then.
public final class TemporaryFolder {
    private static let all: AllFolders = {
        atexit { TemporaryFolder.all.remove() }
        return AllFolders()
    }()

    private final class AllFolders: @unchecked Sendable {
        private let lock = NSLock()
        private var paths: [String] = []

        func add(_ path: String) {
            lock.withLock { paths.append(path) }
        }

        func remove() {
            lock.withLock { paths.forEach { try? FileManager.default.removeItem(atPath: $0) } }
        }
    }

    public let path: String

    public init() {
        path = NSTemporaryDirectory() + "/dmae-tests-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        Self.all.add(path)
    }

    /// The path of `name` in the folder.
    public func file(_ name: String) -> String {
        path + "/" + name
    }

    /// Everything in the folder, sorted.
    public func names() -> [String] {
        try! FileManager.default.contentsOfDirectory(atPath: path).sorted()
    }

    /// Writes a file and returns its path.
    @discardableResult
    public func write(_ bytes: some Sequence<UInt8>, _ name: String) -> String {
        // Not Data.write: it waits for the disk, which takes long ten thousand times.
        let descriptor = open(file(name), O_WRONLY | O_CREAT | O_TRUNC, 0o666)
        let bytes = Array(bytes)
        precondition(
            descriptor >= 0 && Glibc.write(descriptor, bytes, bytes.count) == bytes.count, "cannot write \(file(name))")
        close(descriptor)
        return file(name)
    }

    /// The bytes of a file in the folder.
    public func read(_ name: String) -> [UInt8] {
        [UInt8](try! Data(contentsOf: URL(fileURLWithPath: file(name))))
    }

    /// Runs `body` while no file of this process may grow beyond `bytes`, as on a disk that is full.
    public static func limitingFileSize<Result>(to bytes: Int, _ body: () throws -> Result) rethrows -> Result {
        var old = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &old)
        var limited = old
        limited.rlim_cur = rlim_t(bytes)
        // Without this the kernel ends the process instead of failing the write.
        let handler = signal(SIGXFSZ, SIG_IGN)
        setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limited)
        defer {
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &old)
            signal(SIGXFSZ, handler)
        }
        return try body()
    }

    /// Runs the body while the system opens no file.
    public static func withoutFileDescriptors<Result>(_ body: () throws -> Result) rethrows -> Result {
        var old = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &old)
        var none = rlimit(rlim_cur: 0, rlim_max: old.rlim_max)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none)
        defer { setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &old) }
        return try body()
    }
}

/// Calls `body` with copies of the arrays that stay where they are.
public func withBuffers<Result>(
    _ arrays: [[Float]], _ body: ([UnsafeBufferPointer<Float>]) throws -> Result
) rethrows -> Result {
    let copies = arrays.map { array in
        let copy = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(array.count, 1))
        _ = copy.initialize(from: array)
        return copy
    }
    defer { copies.forEach { $0.deallocate() } }
    return try body(zip(copies, arrays).map { UnsafeBufferPointer(rebasing: $0[..<$1.count]) })
}

/// The failure that `body` throws; nil where it throws none. Anything else it throws is fatal.
public func failure(_ body: () throws -> Void) -> Failure? {
    do {
        try body()
        return nil
    } catch {
        return (error as! Failure)
    }
}
