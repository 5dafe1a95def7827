import Reporting

/// One tensor that a file holds.
public struct TensorEntry: Equatable, Sendable {
    public let name: String
    public let type: TensorType
    /// Outermost dimension first; empty for a single number.
    public let shape: [Int]
    /// Number of elements.
    public let count: Int

    /// The product of `shape` must fit in an Int; see `isCountable`.
    public init(name: String, type: TensorType, shape: [Int]) {
        self.name = name
        self.type = type
        self.shape = shape
        count = shape.reduce(1, *)
    }

    /// Bytes of its elements.
    public var byteCount: Int { count * type.size }

    /// Whether the bytes of `shape` can be counted in an Int in every type, whatever dimensions are taken first or left
    /// out.
    ///
    /// Readers refuse other shapes, of empty tensors too: products of some dimensions, and sizes in other types, are
    /// computed later.
    package static func isCountable(_ shape: [Int]) -> Bool {
        // The size of the largest types.
        var bytes = 8
        for dimension in shape {
            let (product, overflow) = bytes.multipliedReportingOverflow(by: max(1, dimension))
            if overflow { return false }
            bytes = product
        }
        return true
    }
}

/// Something that stands beside the tensors of a PyTorch archive: a number, a text, an option of the run that wrote it.
///
/// Plain data: whatever object of Python it was, nothing of it is ever called.
public enum PlainValue: Equatable, Sendable {
    case none
    case bool(Bool)
    case integer(Int)
    case number(Double)
    case text(String)
    /// A list or tuple of plain values.
    case list([PlainValue])
    /// Anything else, in words.
    case other(String)
}

/// Named tensors in a file (or files), whatever its form: found, checked and described when it is opened, read when
/// asked for.
public protocol WeightFile: AnyObject, Sendable {
    /// The file; the index where the tensors are spread over several.
    var path: String { get }
    /// What kind of file it is, for people: "safetensors", "safetensors in 3 shards", "PyTorch archive".
    var form: String { get }
    /// The `__metadata__` of safetensors; empty for other forms.
    var metadata: [String: String] { get }
    /// What stands beside the tensors of a PyTorch archive, by dotted names, in the order of the file; empty for other
    /// forms.
    var values: [(name: String, value: PlainValue)] { get }
    /// Every tensor, in the order of the file.
    var entries: [TensorEntry] { get }
    /// Bytes of the whole file or files.
    var byteCount: Int { get }

    /// The tensor called `name`, or nil.
    subscript(name: String) -> TensorEntry? { get }

    /// Converts a tensor into `destination`, which must hold exactly its number of elements and need not be
    /// initialised; they arrive in row-major order, whatever the strides in the file.
    ///
    /// F32, F16 and BF16 arrive exactly, infinities and the bits of a NaN included; F64 and integers arrive as the
    /// nearest float, exactly where there is one; BOOL as 0 and 1. Throws `Failure(.badData)` where the tensor does not
    /// exist or is of an eight-bit floating type.
    func copyFloats(_ name: String, into destination: UnsafeMutableBufferPointer<Float>) throws

    /// Calls `body` with the tensor's elements in row-major order, little-endian, in the stored type and aligned to
    /// nothing.
    ///
    /// They are the file's own memory where it has them so, a copy of this one tensor where not; valid during the call
    /// only. Throws `Failure(.badData)` where the tensor does not exist, or what `body` throws.
    func withBytes<Result>(_ name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result
}

extension WeightFile {
    public var values: [(name: String, value: PlainValue)] { [] }
    /// Names in the order of the file.
    public var names: [String] { entries.map(\.name) }
    /// Elements of all tensors.
    public var elementCount: Int { entries.reduce(0) { $0 + $1.count } }
    /// Bytes of all tensors, each counted whole even where some share their memory.
    public var dataByteCount: Int { entries.reduce(0) { $0 + $1.byteCount } }

    /// The tensor called `name`; throws `Failure(.badData)` where there is none.
    public func entry(_ name: String) throws -> TensorEntry {
        guard let entry = self[name] else {
            throw Failure(
                .badData, "\(quoted(path: path)) holds no tensor \(quoted(name)); list what it holds with: dmae inspect"
            )
        }
        return entry
    }

    /// A tensor as 32-bit floats; see `copyFloats`.
    public func floats(_ name: String) throws -> [Float] {
        let count = try entry(name).count
        return try [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            try copyFloats(name, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
            initialized = count
        }
    }
}
