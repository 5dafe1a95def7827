import Glibc

/// The differences between the tensors of two files.
public struct WeightComparison: Sendable {
    /// A tensor that has another shape in the second file.
    public struct Shapes: Equatable, Sendable {
        public let name: String
        public let first: [Int]
        public let second: [Int]
    }

    /// A tensor whose values differ.
    public struct Difference: Equatable, Sendable {
        public let name: String
        /// Number of elements that differ.
        public let count: Int
        /// The maximum of |first - second|; infinite if a differing element is not finite.
        public let maximum: Double
        /// `maximum` divided by the maximum finite |first|; infinite if that is 0.
        public let relative: Double
    }

    /// Names in one file only, in the order of that file.
    public private(set) var onlyInFirst: [String] = []
    public private(set) var onlyInSecond: [String] = []
    public private(set) var shapes: [Shapes] = []
    public private(set) var differences: [Difference] = []
    /// Number of tensors with the same values.
    public private(set) var identical = 0

    /// Compares all tensors of two files, one pair at a time.
    ///
    /// Throws what reading a tensor throws.
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
            if entry.typeName == other.typeName, try Self.sameBytes(entry.name, first, second) {
                identical += 1
                continue
            }
            // `floats` throws for a type that cannot be converted.
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

    /// Statistics of the elements compared so far.
    private struct Tally {
        private var count = 0
        private var maximum = 0.0, largest = 0.0

        /// - Parameter difference: |first - second|; nil if the elements are the same.
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

    /// Types with values that a 32-bit float cannot represent.
    private static let wideTypes: Set<TensorType> = [.f64, .i64, .u64, .i32, .u32]

    /// As `tally`, but elements are compared exactly, without conversion to a 32-bit float.
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

    /// The exact value of an element of any type: the nearest Double, plus the rest of a large integer.
    private struct Exact: Equatable {
        let value: Double
        private let rest: Double

        /// Element `index` of elements of type `type`, which must be convertible.
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
            case .f8e4m3, .f8e5m2, .opaque: preconditionFailure("a type that is not converted")
            }
        }

        private init(_ value: Double) {
            self.value = value
            rest = 0
        }

        private init<Integer: FixedWidthInteger>(integer: Integer) {
            // Both halves are exact. `value` is their rounded sum, and subtracting the larger half from it is exact.
            let high = Double(Int64(truncatingIfNeeded: integer >> 32)) * 0x1p32
            let low = Double(UInt32(truncatingIfNeeded: integer))
            value = high + low
            rest = low - (value - high)
        }

        /// NaNs with the same bits are equal, and so are both zeros.
        static func == (first: Exact, second: Exact) -> Bool {
            (first.value == second.value || first.value.bitPattern == second.value.bitPattern)
                && first.rest == second.rest
        }

        func distance(to other: Exact) -> Double { ((value - other.value) + (rest - other.rest)).magnitude }
    }
}
