/// A float32 matrix [rows, columns] in a memory plan, or a part of one: whole rows, or a run of columns of every row.
///
/// A value of a few words: passing it copies no data and allocates nothing. Valid while its plan lives.
public struct Tensor {
    unowned(unsafe) let plan: MemoryPlan
    let slot: Int
    /// Elements from the start of the slot.
    let offset: Int
    public let rows: Int
    public let columns: Int
    /// Elements from one row to the next.
    public let stride: Int

    init(plan: MemoryPlan, slot: Int, offset: Int = 0, rows: Int, columns: Int, stride: Int? = nil) {
        self.plan = plan
        self.slot = slot
        self.offset = offset
        self.rows = rows
        self.columns = columns
        self.stride = stride ?? columns
    }

    /// rows × columns.
    public var count: Int { rows * columns }

    /// The first element; rows follow at `stride`.
    @inline(__always)
    public var pointer: UnsafeMutablePointer<Float> {
        plan.address(slot).assumingMemoryBound(to: Float.self) + offset
    }

    /// All elements of a tensor whose rows touch.
    public var elements: UnsafeMutableBufferPointer<Float> {
        precondition(stride == columns || rows <= 1, "the rows of a part are not contiguous")
        return UnsafeMutableBufferPointer(start: pointer, count: count)
    }

    /// The same elements seen as [rows, columns]; the counts must agree.
    public func reshaped(_ rows: Int, _ columns: Int) -> Tensor {
        precondition(rows * columns == count && (stride == self.columns || self.rows <= 1))
        return Tensor(plan: plan, slot: slot, offset: offset, rows: rows, columns: columns)
    }

    /// Sets every element to zero.
    public func clear() {
        elements.update(repeating: 0)
    }

    /// Copies all elements from a tensor of the same count.
    public func copy(from other: Tensor) {
        precondition(count == other.count)
        elements.baseAddress!.update(from: other.elements.baseAddress!, count: count)
    }
}

extension Tensor {
    /// The first rows × columns elements of the same memory, seen as a contiguous matrix.
    public func prefix(rows: Int, columns: Int) -> Tensor {
        precondition(rows * columns <= count && stride == self.columns)
        return Tensor(plan: plan, slot: slot, offset: offset, rows: rows, columns: columns)
    }

    /// self += other, element by element; the counts must agree.
    public func add(_ other: Tensor) {
        precondition(count == other.count)
        Addition(target: elements.baseAddress!, source: other.elements.baseAddress!).runAll(count, chunk: 65_536)
    }
}

private struct Addition: ParallelRows {
    let target: UnsafeMutablePointer<Float>
    let source: UnsafeMutablePointer<Float>

    func run(_ range: Range<Int>) {
        var i = range.lowerBound
        while i + 16 <= range.upperBound {
            SIMDRow.store(SIMDRow.load(target + i) + SIMDRow.load(source + i), target + i)
            i += 16
        }
        while i < range.upperBound {
            target[i] += source[i]
            i += 1
        }
    }
}

/// Sixteen neighbouring floats at a time, for the loops that are Swift's own.
public enum SIMDRow {
    @inline(__always)
    public static func load(_ pointer: UnsafePointer<Float>) -> SIMD16<Float> {
        UnsafeRawPointer(pointer).loadUnaligned(as: SIMD16<Float>.self)
    }

    @inline(__always)
    public static func store(_ value: SIMD16<Float>, _ pointer: UnsafeMutablePointer<Float>) {
        UnsafeMutableRawPointer(pointer).storeBytes(of: value, as: SIMD16<Float>.self)
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
