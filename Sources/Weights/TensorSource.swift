/// A tensor to be written, whose bytes are made when their turn comes: writers hold one tensor at a time.
public struct TensorSource {
    public let name: String
    public let type: TensorType
    public let shape: [Int]
    /// Hands its little-endian bytes, `byteCount` in all, to the function it is given, in any number of pieces.
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

    /// Bytes of all elements.
    public var byteCount: Int { shape.reduce(type.size, *) }
}
