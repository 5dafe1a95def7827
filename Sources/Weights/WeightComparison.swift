import Glibc

/// What differs between the tensors of two files, and by how much.
public struct WeightComparison: Sendable {
    /// A tensor that is there in another shape.
    public struct Shapes: Equatable, Sendable {
        public let name: String
        public let first: [Int]
        public let second: [Int]
    }

    /// A tensor whose values differ, seen as 32-bit floats.
    public struct Difference: Equatable, Sendable {
        public let name: String
        /// Elements that differ.
        public let count: Int
        /// The largest |first - second|; infinite where one of them is no number.
        public let maximum: Double
        /// `maximum` over the largest |first|.
        public let relative: Double
    }

    /// Names in one file only, in its order.
    public private(set) var onlyInFirst: [String] = []
    public private(set) var onlyInSecond: [String] = []
    public private(set) var shapes: [Shapes] = []
    public private(set) var differences: [Difference] = []
    /// Tensors with the same values.
    public private(set) var identical = 0

    /// Reads every tensor of both files once, one pair at a time.
    ///
    /// Throws what reading throws.
    public init(_ first: any WeightFile, _ second: any WeightFile) throws {
        onlyInSecond = second.names.filter { first[$0] == nil }
        for entry in first.entries {
            guard let other = second[entry.name] else {
                onlyInFirst.append(entry.name)
                continue
            }
            guard entry.shape == other.shape else {
                shapes.append(Shapes(name: entry.name, first: entry.shape, second: other.shape))
                continue
            }
            if entry.type == other.type, try Self.sameBytes(entry.name, first, second) {
                identical += 1
            } else if let difference = try Self.difference(entry.name, first.floats(entry.name), second.floats(entry.name)) {
                differences.append(difference)
            } else {
                identical += 1
            }
        }
    }

    /// Whether nothing differs.
    public var isSame: Bool { onlyInFirst.isEmpty && onlyInSecond.isEmpty && shapes.isEmpty && differences.isEmpty }

    private static func sameBytes(_ name: String, _ first: any WeightFile, _ second: any WeightFile) throws -> Bool {
        try first.withBytes(name) { left in
            try second.withBytes(name) { right in left.count == right.count && (left.isEmpty || memcmp(left.baseAddress!, right.baseAddress!, left.count) == 0) }
        }
    }

    private static func difference(_ name: String, _ first: [Float], _ second: [Float]) -> Difference? {
        var count = 0
        var maximum = 0.0, largest = 0.0
        for (a, b) in zip(first, second) {
            if a.isFinite { largest = max(largest, Double(a.magnitude)) }
            if a == b || a.bitPattern == b.bitPattern { continue }
            count += 1
            let difference = (Double(a) - Double(b)).magnitude
            maximum = difference.isNaN ? .infinity : max(maximum, difference)
        }
        guard count > 0 else { return nil }
        return Difference(name: name, count: count, maximum: maximum, relative: largest > 0 ? maximum / largest : .infinity)
    }
}
