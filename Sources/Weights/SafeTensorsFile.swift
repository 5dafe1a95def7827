import Reporting

/// A safetensors file, mapped read-only; its header is checked completely when it is opened.
///
/// Format: a little-endian 64-bit header length, the JSON header, the data (github.com/huggingface/safetensors). The
/// file must not be shortened by another program while it is open.
public final class SafeTensorsFile: WeightFile, @unchecked Sendable {
    public var path: String { file.path }
    public var form: String { "safetensors" }
    /// The header's `__metadata__`; empty if there is none.
    public let metadata: [String: String]
    /// Every tensor, in the order of the data.
    public let entries: [TensorEntry]
    /// Of each tensor: the range of its bytes from the start of the data, the format's data_offsets.
    private let ranges: [Range<Int>]

    private let indices: [String: Int]
    private let file: MappedFile
    private let dataStart: Int

    /// Opens `path`. Time and memory depend on the size of the header, not of the tensors.
    ///
    /// Throws `Failure`: `.inputOutput` where the file cannot be read, `.badData` where it is not a valid safetensors
    /// file.
    public convenience init(path: String) throws {
        try self.init(MappedFile(path: path, wanted: "a safetensors file"))
    }

    package convenience init(_ file: MappedFile) throws {
        var budget = HeaderBudget()
        try self.init(file, &budget)
    }

    /// - Parameter budget: the memory for the header's content is taken from it.
    init(_ file: MappedFile, _ budget: inout HeaderBudget) throws {
        self.file = file
        do {
            let headerLength = try Self.headerLength(file)
            dataStart = 8 + headerLength
            let text = UnsafeRawBufferPointer(rebasing: file.bytes[8..<8 + headerLength])
            let header = try SafeTensorsHeader(text, dataLength: file.bytes.count - 8 - headerLength, &budget) {
                range in
                file.releasePages(8 + range.lowerBound..<8 + range.upperBound)
            }
            metadata = header.metadata
            entries = header.entries
            ranges = header.ranges
            indices = Dictionary(uniqueKeysWithValues: header.entries.enumerated().map { ($1.name, $0) })
        } catch let fault as JSONReader.Fault {
            throw Failure(
                .badData,
                "\(quoted(path: file.path)) is not a valid safetensors file: its header \(fault.message); download or "
                    + "write the file again"
            )
        }
    }

    /// Bytes of all tensors.
    public var dataByteCount: Int { file.bytes.count - dataStart }
    /// Bytes of the whole file.
    public var byteCount: Int { file.bytes.count }

    /// The tensor called `name`, or nil.
    public subscript(name: String) -> TensorEntry? {
        indices[name].map { entries[$0] }
    }

    /// The range of a tensor's bytes in the data. Throws `Failure(.badData)` where there is no tensor of that name.
    func range(_ name: String) throws -> Range<Int> {
        guard let index = indices[name] else {
            _ = try entry(name)
            preconditionFailure("a tensor without bytes")
        }
        return ranges[index]
    }

    /// The bytes before the data: the length and the JSON text.
    var headerBytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: file.bytes[..<dataStart]) }
    /// The data of all tensors.
    var dataBytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: file.bytes[dataStart...]) }

    /// Lets the kernel drop the pages of part of the data; see `MappedFile.releasePages`.
    func releasePages(_ range: Range<Int>) {
        file.releasePages(dataStart + range.lowerBound..<dataStart + range.upperBound)
    }

    private static func headerLength(_ file: MappedFile) throws -> Int {
        let (bytes, path) = (file.bytes, file.path)
        guard bytes.count >= 8 else {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is neither a safetensors file nor a PyTorch archive: it "
                    + (bytes.isEmpty
                        ? "is empty" : "holds no more than \(bytes.count) byte\(bytes.count == 1 ? "" : "s")")
                    + "; download or write the file again")
        }
        let length = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
        // These bytes begin a zip archive; as a header length they would be absurdly large.
        if bytes.starts(with: [0x50, 0x4B, 0x03, 0x04]) {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is a zip archive, perhaps a PyTorch checkpoint, not a safetensors file; convert "
                    + "it first"
            )
        }
        if bytes.starts(with: "version https://git-lfs".utf8) {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is not the file itself but Git LFS's pointer to it: run `git lfs pull` in its "
                    + "folder, or download the "
                    + "file again")
        }
        // Other text, a web page or a picture. The length is meaningless, so the message does not show it.
        guard length <= UInt64(SafeTensorsHeader.maximumLength) else {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is neither a safetensors file nor a PyTorch archive: download it again, or name "
                    + "another file"
            )
        }
        guard length <= UInt64(bytes.count - 8) else {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is cut off or not a safetensors file: its header should have \(length) bytes "
                    + "and only "
                    + "\(bytes.count - 8) follow; download or write the file again")
        }
        return Int(length)
    }
}
