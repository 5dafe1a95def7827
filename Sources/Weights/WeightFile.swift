import Reporting

/// The description of one tensor in a file.
public struct TensorEntry: Equatable, Sendable {
    public let name: String
    public let type: TensorType
    /// The type as the file spells it: the raw value of `type`, or the name of one that is `opaque` here.
    public let typeName: String
    /// Outermost dimension first; empty for a scalar.
    public let shape: [Int]
    /// Number of elements.
    public let count: Int

    /// Number of bytes of its elements.
    public let byteCount: Int

    /// The product of `shape` must fit in an Int; see `isCountable`.
    public init(name: String, type: TensorType, shape: [Int]) {
        self.init(
            name: name, type: type, typeName: type.rawValue, shape: shape, byteCount: shape.reduce(type.size, *))
    }

    /// - Parameters:
    ///   - typeName: the type as the file spells it.
    ///   - byteCount: bytes of the elements, which those of an `opaque` type do not tell.
    init(name: String, type: TensorType, typeName: String, shape: [Int], byteCount: Int) {
        self.name = name
        self.type = type
        self.typeName = typeName
        self.shape = shape
        count = shape.reduce(1, *)
        self.byteCount = byteCount
    }

    /// Tensors `parts` of one type and shape under one name, joined along the first dimension.
    package init(_ name: String, joining parts: [TensorEntry]) {
        let first = parts[0]
        var shape = first.shape
        if parts.count > 1 { shape[0] *= parts.count }
        self.init(
            name: name, type: first.type, typeName: first.typeName, shape: shape,
            byteCount: parts.count * first.byteCount)
    }

    /// Whether the bytes of `shape` fit in an Int for every element type and every subset of the dimensions.
    ///
    /// Readers refuse other shapes, also of empty tensors: later code computes products of some dimensions and sizes in
    /// other types.
    package static func isCountable(_ shape: [Int]) -> Bool {
        // The size of the widest types.
        var bytes = 8
        for dimension in shape {
            let (product, overflow) = bytes.multipliedReportingOverflow(by: max(1, dimension))
            if overflow { return false }
            bytes = product
        }
        return true
    }
}

/// A value beside the tensors of a PyTorch archive: a number, a text, an option of the run that wrote it.
///
/// It is plain data; for any other Python object it is a description.
public enum PlainValue: Equatable, Sendable {
    case none
    case bool(Bool)
    case integer(Int)
    case number(Double)
    case text(String)
    /// A list or tuple of plain values.
    case list([PlainValue])
    /// A description of anything else.
    case other(String)
}

/// Named tensors in a file or several, of any form. Opening it finds and checks the tensors; their values are read on
/// demand.
public protocol WeightFile: AnyObject, Sendable {
    /// The path of the file; of the index if there are several files.
    var path: String { get }
    /// The kind of file, as shown to the user: "safetensors", "safetensors in 3 shards", "PyTorch archive".
    var form: String { get }
    /// The `__metadata__` of safetensors; empty for other forms.
    var metadata: [String: String] { get }
    /// The values beside the tensors of a PyTorch archive, with dotted names, in the order of the file; empty for other
    /// forms.
    var values: [(name: String, value: PlainValue)] { get }
    /// All tensors, in the order of the file.
    var entries: [TensorEntry] { get }
    /// Number of bytes of the file or files.
    var byteCount: Int { get }

    /// The tensor called `name`, or nil.
    subscript(name: String) -> TensorEntry? { get }

    /// Converts a tensor to floats in `destination`, in row-major order for any strides in the file. `destination` must
    /// have exactly the tensor's number of elements and need not be initialised.
    ///
    /// F32, F16 and BF16 are converted exactly, including infinities and the bits of a NaN; F64 and integers to the
    /// nearest float; BOOL to 0 and 1. Throws `Failure(.badData)` where the tensor does not exist or has another type.
    func copyFloats(_ name: String, into destination: UnsafeMutableBufferPointer<Float>) throws

    /// Calls `body` with the tensor's elements in the stored type, in row-major order, little-endian, at any alignment.
    ///
    /// They are the file's memory if it has this layout, else a copy of this tensor, and valid only during the call.
    /// Throws `Failure(.badData)` where the tensor does not exist, or what `body` throws.
    func withBytes<Result>(_ name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result
}

extension WeightFile {
    public var values: [(name: String, value: PlainValue)] { [] }
    /// Names in the order of the file.
    public var names: [String] { entries.map(\.name) }
    /// Number of elements of all tensors.
    public var elementCount: Int { entries.reduce(0) { $0 + $1.count } }
    /// Number of bytes of all tensors; a storage that several tensors share is counted for each.
    public var dataByteCount: Int { entries.reduce(0) { $0 + $1.byteCount } }

    /// The tensor called `name`. Throws `Failure(.badData)` where there is none.
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
