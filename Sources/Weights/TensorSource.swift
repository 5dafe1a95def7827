/// A tensor to be written, whose bytes are produced on demand, so that a writer holds one tensor at a time.
public struct TensorSource {
    public let name: String
    public let type: TensorType
    public let shape: [Int]
    /// Calls its argument with the tensor's little-endian bytes, `byteCount` in all, in one or several pieces.
    public let write: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void

    public init(
        name: String, type: TensorType, shape: [Int],
        write: @escaping ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) {
        self.name = name
        self.type = type
        self.shape = shape
        self.write = write
    }

    /// Number of bytes of all elements.
    public var byteCount: Int { shape.reduce(type.size, *) }
}
