/// The result of comparing a list of wanted tensors with the tensors of a file.
public struct TensorMatching: Equatable, Sendable {
    /// A tensor that the file holds in another shape.
    public struct ShapeDifference: Equatable, Sendable {
        public let name: String
        public let wanted: [Int]
        public let found: [Int]
    }

    /// Wanted names that the file lacks, in the order wanted.
    public private(set) var missing: [String] = []
    /// Names in the file that are not wanted, in the order of the file.
    public private(set) var unexpected: [String] = []
    /// Tensors with another shape than wanted, in the order wanted.
    public private(set) var differences: [ShapeDifference] = []

    /// Compares `wanted` (distinct names) with every tensor of `file` whose name begins with `prefix`.
    public init(wanted: [(name: String, shape: [Int])], file: any WeightFile, prefix: String = "") {
        for (name, shape) in wanted {
            guard let entry = file[name] else {
                missing.append(name)
                continue
            }
            if entry.shape != shape { differences.append(.init(name: name, wanted: shape, found: entry.shape)) }
        }
        let names = Set(wanted.map(\.name))
        unexpected = file.names.filter { $0.hasPrefix(prefix) && !names.contains($0) }
    }

    /// Adds names that the file lacks, or that are to be taken so.
    public mutating func addMissing(_ names: [String]) { missing += names }

    /// Whether the file holds all wanted tensors in the wanted shapes; it may hold others.
    public var isComplete: Bool { missing.isEmpty && differences.isEmpty }
}
