import Glibc
import Tensors

/// A safetensors file, mapped read-only and checked in full before the first tensor is handed out.
///
/// Format: a little-endian 64-bit header length, the JSON header, the data (github.com/huggingface/safetensors). The file
/// must not be shortened by another program while it is open.
public final class SafeTensorsFile: @unchecked Sendable {
    /// One tensor of the file.
    public struct Entry: Equatable, Sendable {
        public let name: String
        public let type: TensorType
        /// Outermost dimension first; empty for a single number.
        public let shape: [Int]
        /// Where its bytes are, counted from the start of the data (as the format's data_offsets).
        public let byteRange: Range<Int>

        /// Number of elements.
        public var count: Int { byteRange.count / type.size }
    }

    public let path: String
    /// The header's `__metadata__`, empty where there is none.
    public let metadata: [String: String]
    /// Every tensor, in the order of the data.
    public let entries: [Entry]

    private let indices: [String: Int]
    private let mapping: UnsafeRawBufferPointer
    private let dataStart: Int

    /// Opens `path`. Time and memory depend on the header alone, not on the size of the tensors.
    ///
    /// Throws `Failure`: `.inputOutput` where the file cannot be read, `.badData` where it is not a valid safetensors file.
    public init(path: String) throws {
        self.path = path
        mapping = try Self.map(path)
        do {
            let headerLength = try Self.headerLength(mapping, path: path)
            dataStart = 8 + headerLength
            let text = UnsafeRawBufferPointer(rebasing: mapping[8..<8 + headerLength])
            let header = try SafeTensorsHeader(text, dataLength: mapping.count - 8 - headerLength)
            metadata = header.metadata
            entries = header.entries
            indices = Dictionary(uniqueKeysWithValues: header.entries.enumerated().map { ($1.name, $0) })
        } catch {
            Self.unmap(mapping)
            guard let fault = error as? JSONReader.Fault else { throw error }
            throw Failure(
                .badData,
                "\(quoted(path: path)) is not a valid safetensors file: its header \(fault.message); download or write the file again"
            )
        }
    }

    deinit {
        Self.unmap(mapping)
    }

    /// Names in the order of the data.
    public var names: [String] { entries.map(\.name) }
    /// Elements of all tensors.
    public var elementCount: Int { entries.reduce(0) { $0 + $1.count } }
    /// Bytes of all tensors.
    public var dataByteCount: Int { mapping.count - dataStart }
    /// Bytes of the whole file.
    public var byteCount: Int { mapping.count }

    /// The tensor called `name`, or nil.
    public subscript(name: String) -> Entry? {
        indices[name].map { entries[$0] }
    }

    /// The tensor called `name`; throws `Failure(.badData)` where there is none.
    public func entry(_ name: String) throws -> Entry {
        guard let entry = self[name] else {
            throw Failure(
                .badData, "\(quoted(path: path)) holds no tensor \(quoted(name)); list what it holds with: dmae inspect")
        }
        return entry
    }

    /// The bytes of a tensor as stored, little-endian; the file's memory, valid as long as `self` lives and aligned to nothing.
    public func bytes(_ name: String) throws -> UnsafeRawBufferPointer {
        bytes(try entry(name))
    }

    func bytes(_ entry: Entry) -> UnsafeRawBufferPointer {
        let range = entry.byteRange
        return UnsafeRawBufferPointer(rebasing: mapping[dataStart + range.lowerBound..<dataStart + range.upperBound])
    }

    /// Everything before the data: the length and the JSON text.
    var headerBytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: mapping[..<dataStart]) }
    /// The data of all tensors.
    var dataBytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: mapping[dataStart...]) }

    /// Lets the kernel drop the pages of part of the data from this process, so that reading a file does not count twice in
    /// resident memory.
    func releasePages(_ range: Range<Int>) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let first = (dataStart + range.lowerBound + page - 1) / page * page
        let last = (dataStart + range.upperBound) / page * page
        guard first < last, let base = mapping.baseAddress else { return }
        madvise(UnsafeMutableRawPointer(mutating: base + first), last - first, MADV_DONTNEED)
    }

    // MARK: Mapping

    private static func map(_ path: String) throws -> UnsafeRawBufferPointer {
        // Non-blocking: opening a named pipe must not wait for a writer.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw Failure(
                .inputOutput, "cannot open \(quoted(path: path)): \(errorText(errno)); check the path and its permissions")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw Failure(
                .inputOutput, "cannot examine \(quoted(path: path)): \(errorText(errno)); check the file system it is on")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            let what = status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "not a regular file"
            throw Failure(.inputOutput, "cannot read \(quoted(path: path)): it is \(what); name a safetensors file")
        }
        let length = Int(status.st_size)
        guard length >= 8 else {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is not a safetensors file: it holds \(length) bytes, fewer than the 8 of a header length; "
                    + "download or write the file again")
        }
        guard let base = mmap(nil, length, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else {
            throw Failure(
                .inputOutput, "cannot map \(quoted(path: path)): \(errorText(errno)); free some memory and try again")
        }
        return UnsafeRawBufferPointer(start: base, count: length)
    }

    private static func unmap(_ mapping: UnsafeRawBufferPointer) {
        munmap(UnsafeMutableRawPointer(mutating: mapping.baseAddress!), mapping.count)
    }

    private static func headerLength(_ mapping: UnsafeRawBufferPointer, path: String) throws -> Int {
        let length = UInt64(littleEndian: mapping.loadUnaligned(as: UInt64.self))
        // A zip archive begins with these letters, and read as a length they are absurd.
        if mapping.starts(with: [0x50, 0x4B, 0x03, 0x04]) {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is a zip archive, perhaps a PyTorch checkpoint, not a safetensors file; convert it first"
            )
        }
        guard length <= UInt64(SafeTensorsHeader.maximumLength) else {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is not a safetensors file: its first 8 bytes give a header of \(length) bytes, and "
                    + "\(SafeTensorsHeader.maximumLength) are allowed; name a safetensors file")
        }
        guard length <= UInt64(mapping.count - 8) else {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is cut off or not a safetensors file: its header should have \(length) bytes and only "
                    + "\(mapping.count - 8) follow; download or write the file again")
        }
        return Int(length)
    }
}
