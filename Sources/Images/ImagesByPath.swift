/// The images of another source ordered by class, then by name, byte by byte.
///
/// A folder orders the images of a class as torchvision does, directory by directory. Results that list images are in
/// this order, which their names alone decide.
public struct ImagesByPath: ImageSource {
    private let base: any ImageSource
    /// The index in the other source of each image.
    private let order: [Int]

    public init(_ base: any ImageSource) {
        self.base = base
        let names = (0..<base.count).map { Array(base.name($0).utf8) }
        order = (0..<base.count).sorted { first, second in
            let (label, other) = (base.label(first) ?? 0, base.label(second) ?? 0)
            if label != other { return label < other }
            if names[first] == names[second] { return first < second }
            return names[first].lexicographicallyPrecedes(names[second])
        }
    }

    public var count: Int { order.count }
    public var classes: [String] { base.classes }
    public var place: String? { base.place }
    public var notes: [String] { base.notes }
    public var warnings: [String] { base.warnings }
    public func name(_ index: Int) -> String { base.name(order[index]) }
    public func label(_ index: Int) -> Int? { base.label(order[index]) }
    public func bytes(_ index: Int) throws -> [UInt8] { try base.bytes(order[index]) }
}
