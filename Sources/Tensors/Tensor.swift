import CKernels

/// The type of a tensor's elements in memory.
public enum ElementType: Sendable {
    case f32
    /// bfloat16: the upper half of a float32, to which stored values are rounded to nearest, ties to even.
    case bf16

    /// Bytes of one element.
    public var size: Int { self == .f32 ? 4 : 2 }
    var kernels: dmae_type { self == .f32 ? DMAE_TYPE_F32 : DMAE_TYPE_BF16 }
}

/// A matrix [rows, columns] in a memory plan, or a part of one: whole rows, or a run of columns of every row.
///
/// A value of a few words: passing it copies no data and allocates nothing. Valid while its plan lives.
public struct Tensor {
    unowned(unsafe) let plan: MemoryPlan
    let slot: Int
    /// Type of the elements.
    public let type: ElementType
    /// Elements from the start of the slot.
    let offset: Int
    /// Number of rows.
    public let rows: Int
    /// Elements of a row.
    public let columns: Int
    /// Elements from one row to the next.
    public let stride: Int

    init(
        plan: MemoryPlan, slot: Int, type: ElementType = .f32, offset: Int = 0, rows: Int, columns: Int,
        stride: Int? = nil
    ) {
        self.plan = plan
        self.slot = slot
        self.type = type
        self.offset = offset
        self.rows = rows
        self.columns = columns
        self.stride = stride ?? columns
    }

    /// rows × columns.
    public var count: Int { rows * columns }

    /// The first element of a float32 tensor; rows follow at `stride`.
    @inline(__always)
    public var pointer: UnsafeMutablePointer<Float> {
        precondition(type == .f32, "a bfloat16 tensor has no floats to point at")
        return plan.address(slot).assumingMemoryBound(to: Float.self) + offset
    }

    /// The first element of a tensor of either type.
    @inline(__always)
    var address: UnsafeMutableRawPointer { plan.address(slot) + offset * type.size }

    /// All elements of a float32 tensor whose rows are contiguous.
    public var elements: UnsafeMutableBufferPointer<Float> {
        precondition(stride == columns || rows <= 1, "the rows of a part are not contiguous")
        return UnsafeMutableBufferPointer(start: pointer, count: count)
    }

    /// The same elements seen as [rows, columns]; the counts must agree.
    public func reshaped(_ rows: Int, _ columns: Int) -> Tensor {
        precondition(rows * columns == count && (stride == self.columns || self.rows <= 1))
        return Tensor(plan: plan, slot: slot, type: type, offset: offset, rows: rows, columns: columns)
    }

    /// The rows in `range`; shares this tensor's memory.
    public func rows(_ range: Range<Int>) -> Tensor {
        precondition(range.upperBound <= rows)
        return Tensor(
            plan: plan, slot: slot, type: type, offset: offset + range.lowerBound * stride, rows: range.count,
            columns: columns,
            stride: stride)
    }

    /// The columns in `range` of every row; shares this tensor's memory.
    public func columns(_ range: Range<Int>) -> Tensor {
        precondition(range.upperBound <= columns)
        return Tensor(
            plan: plan, slot: slot, type: type, offset: offset + range.lowerBound, rows: rows, columns: range.count,
            stride: stride)
    }

    /// Sets every element of a float32 tensor to zero.
    public func clear() {
        Clearing(target: elements.baseAddress!).runAll(count, chunk: 1 << 18)
    }

    /// Copies all elements from a tensor of the same count; both are float32 and contiguous.
    public func copy(from other: Tensor) {
        precondition(count == other.count)
        elements.baseAddress!.update(from: other.elements.baseAddress!, count: count)
    }
}

extension Tensor {
    /// The start of the same memory as a contiguous matrix [rows, columns], optionally of another type.
    public func prefix(rows: Int, columns: Int, as type: ElementType? = nil) -> Tensor {
        let type = type ?? self.type
        precondition(rows * columns * type.size <= count * self.type.size && stride == self.columns)
        precondition(offset * self.type.size % type.size == 0)
        return Tensor(
            plan: plan, slot: slot, type: type, offset: offset * self.type.size / type.size, rows: rows,
            columns: columns)
    }

    /// Copies row `index` of `other`, which has the same columns and type, to row `row`.
    @inline(__always)
    public func copyRow(_ row: Int, from other: Tensor, _ index: Int) {
        let size = type.size
        (address + row * stride * size).copyMemory(
            from: other.address + index * other.stride * size, byteCount: columns * size)
    }

    /// Adds row `index` of `other`, which has the same columns and either type, to row `row` of this float32 tensor.
    @inline(__always)
    public func addRow(_ row: Int, from other: Tensor, _ index: Int) {
        let target = pointer + row * stride
        switch other.type {
        case .f32: SIMDRow.add(columns, other.pointer + index * other.stride, to: target)
        case .bf16:
            SIMDRow.add(columns, other.address.assumingMemoryBound(to: UInt16.self) + index * other.stride, to: target)
        }
    }

    /// Sets row `row` to row `index` of `other`, which is float32 and has the same columns, times `factor`. A bf16 row
    /// is rounded to nearest, ties to even.
    @inline(__always)
    public func setRow(_ row: Int, to other: Tensor, _ index: Int, times factor: Float) {
        let source = other.pointer + index * other.stride
        switch type {
        case .f32: SIMDRow.scale(columns, source, by: factor, into: pointer + row * stride)
        case .bf16:
            SIMDRow.scale(
                columns, source, by: factor, into: address.assumingMemoryBound(to: UInt16.self) + row * stride)
        }
    }

    /// self += other, element by element; the counts must agree.
    public func add(_ other: Tensor) {
        precondition(count == other.count)
        Addition(target: elements.baseAddress!, source: other.elements.baseAddress!).runAll(count, chunk: 65_536)
    }
}

private struct Clearing: ParallelRows {
    let target: UnsafeMutablePointer<Float>

    func run(_ range: Range<Int>) { (target + range.lowerBound).update(repeating: 0, count: range.count) }
}

private struct Addition: ParallelRows {
    let target: UnsafeMutablePointer<Float>
    let source: UnsafeMutablePointer<Float>

    func run(_ range: Range<Int>) {
        SIMDRow.add(range.count, source + range.lowerBound, to: target + range.lowerBound)
    }
}

/// Loops in Swift over sixteen adjacent floats at a time.
public enum SIMDRow {
    /// Sixteen floats from `pointer`, of any alignment.
    @inline(__always)
    public static func load(_ pointer: UnsafePointer<Float>) -> SIMD16<Float> {
        UnsafeRawPointer(pointer).loadUnaligned(as: SIMD16<Float>.self)
    }

    /// Stores sixteen floats at `pointer`, of any alignment.
    @inline(__always)
    public static func store(_ value: SIMD16<Float>, _ pointer: UnsafeMutablePointer<Float>) {
        UnsafeMutableRawPointer(pointer).storeBytes(of: value, as: SIMD16<Float>.self)
    }

    /// target[i] += source[i] for i in 0..<count.
    @inline(__always)
    public static func add(_ count: Int, _ source: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>) {
        var i = 0
        while i + 16 <= count {
            store(load(target + i) + load(source + i), target + i)
            i += 16
        }
        while i < count {
            target[i] += source[i]
            i += 1
        }
    }

    /// target[i] += source[i] for i in 0..<count, the source being bf16.
    @inline(__always)
    static func add(_ count: Int, _ source: UnsafePointer<UInt16>, to target: UnsafeMutablePointer<Float>) {
        var i = 0
        while i + 16 <= count {
            let halves = UnsafeRawPointer(source + i).loadUnaligned(as: SIMD16<UInt16>.self)
            let values = unsafeBitCast(SIMD16<UInt32>(truncatingIfNeeded: halves) &<< 16, to: SIMD16<Float>.self)
            store(load(target + i) + values, target + i)
            i += 16
        }
        while i < count {
            target[i] += Float(bitPattern: UInt32(source[i]) << 16)
            i += 1
        }
    }

    /// target[i] = source[i] · factor for i in 0..<count.
    @inline(__always)
    static func scale(
        _ count: Int, _ source: UnsafePointer<Float>, by factor: Float, into target: UnsafeMutablePointer<Float>
    ) {
        var i = 0
        while i + 16 <= count {
            store(load(source + i) * factor, target + i)
            i += 16
        }
        while i < count {
            target[i] = source[i] * factor
            i += 1
        }
    }

    /// target[i] = source[i] · factor for i in 0..<count, the target being bf16.
    @inline(__always)
    static func scale(
        _ count: Int, _ source: UnsafePointer<Float>, by factor: Float, into target: UnsafeMutablePointer<UInt16>
    ) {
        var i = 0
        while i + 16 <= count {
            UnsafeMutableRawPointer(target + i).storeBytes(
                of: bf16(load(source + i) * factor), as: SIMD16<UInt16>.self)
            i += 16
        }
        while i < count {
            target[i] = bf16(SIMD16(repeating: source[i] * factor))[0]
            i += 1
        }
    }

    /// `values` rounded to bf16: to nearest, ties to even. NaN stays NaN.
    @inline(__always)
    static func bf16(_ values: SIMD16<Float>) -> SIMD16<UInt16> {
        let bits = unsafeBitCast(values, to: SIMD16<UInt32>.self), upper = bits &>> 16
        let rounded = (bits &+ 0x7FFF &+ (upper & 1)) &>> 16
        return SIMD16<UInt16>(truncatingIfNeeded: rounded.replacing(with: upper | 0x40, where: values .!= values))
    }

    /// Σ f(i) over 0..<count in double, sixteen partial sums at a time, always in the same order.
    @inline(__always)
    public static func sum(
        _ count: Int, _ vector: (Int) -> SIMD16<Float>, _ scalar: (Int) -> Float
    ) -> Double {
        var sums = SIMD16<Double>()
        var i = 0
        while i + 16 <= count {
            sums += SIMD16<Double>(vector(i))
            i += 16
        }
        var total = sums.sum()
        while i < count {
            total += Double(scalar(i))
            i += 1
        }
        return total
    }
}
