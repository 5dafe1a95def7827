/// Some images of another source, in the order of that source.
public struct ImageSubset: ImageSource {
    private let base: any ImageSource
    /// The index in the other source of each image.
    public let indices: [Int]

    /// - Parameter indices: at least one index of an image of `base`, in ascending order.
    public init(_ base: any ImageSource, _ indices: some Sequence<Int>) {
        self.base = base
        self.indices = Array(indices)
        precondition(!self.indices.isEmpty, "a source holds at least one image")
    }

    /// At most `most` of the indices 0..<count, at equal distances. A source is ordered by class, so such a subset has
    /// about the same fraction of every class as the whole.
    public static func spread(_ most: Int, of count: Int) -> [Int] {
        guard count > most else { return Array(0..<count) }
        return (0..<most).map { $0 * count / most }
    }

    public var count: Int { indices.count }
    public var classes: [String] { base.classes }
    public var place: String? { base.place }
    public func name(_ index: Int) -> String { base.name(indices[index]) }
    public func path(_ index: Int) -> String { base.path(indices[index]) }
    public func title(_ index: Int) -> String { base.title(indices[index]) }
    public func label(_ index: Int) -> Int? { base.label(indices[index]) }
    public func head(_ index: Int, count: Int) throws -> [UInt8] { try base.head(indices[index], count: count) }
    public func bytes(_ index: Int) throws -> [UInt8] { try base.bytes(indices[index]) }
    public func byteCount(_ index: Int) -> Int? { base.byteCount(indices[index]) }
}
