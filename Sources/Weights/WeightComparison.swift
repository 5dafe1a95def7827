import Glibc

/// What differs between the tensors of two files, and by how much.
public struct WeightComparison: Sendable {
    /// A tensor that is there in another shape.
    public struct Shapes: Equatable, Sendable {
        public let name: String
        public let first: [Int]
        public let second: [Int]
    }

    /// A tensor whose values differ.
    public struct Difference: Equatable, Sendable {
        public let name: String
        /// Elements that differ.
        public let count: Int
        /// The largest |first - second|; infinite where one of them is not finite.
        public let maximum: Double
        /// `maximum` over the largest finite |first|; infinite where that is 0.
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
                continue
            }
            // What cannot be read as floats is refused by reading it.
            let types = [entry.type, other.type]
            let isWide = types.contains { Self.wideTypes.contains($0) } && types.allSatisfy(\.isConvertible)
            let tally =
                try isWide
                ? Self.wideTally(entry, first, other, second)
                : Self.tally(first.floats(entry.name), second.floats(entry.name))
            if let difference = tally.difference(entry.name) { differences.append(difference) } else { identical += 1 }
        }
    }

    /// Whether nothing differs.
    public var isSame: Bool { onlyInFirst.isEmpty && onlyInSecond.isEmpty && shapes.isEmpty && differences.isEmpty }

    private static func sameBytes(_ name: String, _ first: any WeightFile, _ second: any WeightFile) throws -> Bool {
        try first.withBytes(name) { left in
            try second.withBytes(name) { right in
                left.count == right.count
                    && (left.isEmpty || memcmp(left.baseAddress!, right.baseAddress!, left.count) == 0)
            }
        }
    }

    // MARK: Elements

    /// What differs of the elements seen so far.
    private struct Tally {
        private var count = 0
        private var maximum = 0.0, largest = 0.0

        /// - Parameter difference: nil where both elements are the same.
        mutating func add(_ first: Double, _ difference: Double?) {
            if first.isFinite { largest = max(largest, first.magnitude) }
            guard let difference else { return }
            count += 1
            maximum = difference.isNaN ? .infinity : max(maximum, difference)
        }

        func difference(_ name: String) -> Difference? {
            guard count > 0 else { return nil }
            return Difference(
                name: name, count: count, maximum: maximum, relative: largest > 0 ? maximum / largest : .infinity)
        }
    }

    private static func tally(_ first: [Float], _ second: [Float]) -> Tally {
        var tally = Tally()
        for (a, b) in zip(first, second) {
            let isSame = a == b || a.bitPattern == b.bitPattern
            tally.add(Double(a), isSame ? nil : (Double(a) - Double(b)).magnitude)
        }
        return tally
    }

    /// Types whose values a 32-bit float cannot all hold.
    private static let wideTypes: Set<TensorType> = [.f64, .i64, .u64, .i32, .u32]

    /// As `tally`, without rounding an element before it is compared.
    private static func wideTally(
        _ entry: TensorEntry, _ first: any WeightFile, _ other: TensorEntry, _ second: any WeightFile
    ) throws -> Tally {
        var tally = Tally()
        try first.withBytes(entry.name) { left in
            try second.withBytes(other.name) { right in
                for index in 0..<entry.count {
                    let (a, b) = (Exact(left, index, entry.type), Exact(right, index, other.type))
                    tally.add(a.value, a == b ? nil : a.distance(to: b))
                }
            }
        }
        return tally
    }

    /// An element of any type without loss: the nearest Double, and what that lacks of a large integer.
    private struct Exact: Equatable {
        let value: Double
        private let rest: Double

        /// Element number `index` of those of `type`, which is one that is converted.
        init(_ bytes: UnsafeRawBufferPointer, _ index: Int, _ type: TensorType) {
            let position = index * type.size
            switch type {
            case .f64: self.init(Double(bitPattern: bytes.word64(position)))
            case .f32: self.init(Double(Float(bitPattern: bytes.word32(position))))
            case .f16: self.init(Double(float(halfBits: bytes.word16(position))))
            case .bf16: self.init(Double(Float(bitPattern: UInt32(bytes.word16(position)) << 16)))
            case .i64: self.init(integer: bytes.number(position, Int64.self))
            case .i32: self.init(integer: bytes.number(position, Int32.self))
            case .i16: self.init(integer: bytes.number(position, Int16.self))
            case .i8: self.init(integer: bytes.number(position, Int8.self))
            case .u64: self.init(integer: bytes.word64(position))
            case .u32: self.init(integer: bytes.word32(position))
            case .u16: self.init(integer: bytes.word16(position))
            case .u8: self.init(integer: bytes[position])
            case .bool: self.init(bytes[position] == 0 ? 0 : 1)
            case .f8e4m3, .f8e5m2: preconditionFailure("a type that is not converted")
            }
        }

        private init(_ value: Double) {
            self.value = value
            rest = 0
        }

        private init<Integer: FixedWidthInteger>(integer: Integer) {
            // Two halves that are exact. Their sum is rounded, and of the larger half nothing is lost in taking it away
            // again.
            let high = Double(Int64(truncatingIfNeeded: integer >> 32)) * 0x1p32
            let low = Double(UInt32(truncatingIfNeeded: integer))
            value = high + low
            rest = low - (value - high)
        }

        /// NaNs of the same bits are the same, as are both zeros.
        static func == (first: Exact, second: Exact) -> Bool {
            (first.value == second.value || first.value.bitPattern == second.value.bitPattern)
                && first.rest == second.rest
        }

        func distance(to other: Exact) -> Double { ((value - other.value) + (rest - other.rest)).magnitude }
    }
}
