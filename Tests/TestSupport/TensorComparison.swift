/// Tensors held against expected ones, element by element; it remembers which came closest to its bound, or went
/// furthest past.
public struct TensorComparison {
    private struct Worst {
        var name = ""
        var index = 0
        var expected: Float = 0
        var found: Float = 0
        var bound = 0.0
        /// |found - expected| / bound.
        var share = -1.0
    }
    private var worst = Worst()
    /// One line per tensor that is out of its bound or of another length.
    public private(set) var failures: [String] = []
    public private(set) var tensors = 0

    public init() {}

    /// Compares one tensor. `bound` is how far element i may be off; anything that is not a number is out of every
    /// bound.
    public mutating func compare(_ name: String, expected: [Float], found: [Float], bound: (Int) -> Double) {
        tensors += 1
        guard expected.count == found.count else {
            failures.append("\(name): \(found.count) elements instead of \(expected.count)")
            return
        }
        var own = Worst(name: name)
        for index in expected.indices {
            let bound = bound(index)
            let error = (Double(found[index]) - Double(expected[index])).magnitude
            let share = error == 0 ? 0 : error.isNaN || bound.isNaN ? .infinity : error / bound
            if share > own.share {
                own = Worst(
                    name: name, index: index, expected: expected[index], found: found[index], bound: bound, share: share
                )
            }
        }
        if own.share > 1 { failures.append(Self.text(own)) }
        if own.share > worst.share { worst = own }
    }

    /// Compares with one bound for all elements: `relative` times the largest expected magnitude.
    public mutating func compare(_ name: String, expected: [Float], found: [Float], relative: Double) {
        let scale = Self.largest(expected)
        compare(name, expected: expected, found: found) { _ in relative * scale }
    }

    /// The largest magnitude.
    public static func largest(_ values: [Float]) -> Double { Double(values.reduce(0) { max($0, $1.magnitude) }) }

    /// The tensor that used most of its bound.
    public var summary: String { "\(tensors) tensors; the worst is \(Self.text(worst))" }

    private static func text(_ worst: Worst) -> String {
        let difference = (Double(worst.found) - Double(worst.expected)).magnitude
        return
            "\(worst.name)[\(worst.index)]: \(worst.found) where \(worst.expected) is expected, off by "
            + "\(short(difference)), "
            + "\(short(worst.share)) of the bound \(short(worst.bound))"
    }

    private static func short(_ value: Double) -> String {
        guard value.isFinite, value != 0 else { return "\(value)" }
        var exponent = 0
        var mantissa = value
        while mantissa.magnitude < 1 { (mantissa, exponent) = (mantissa * 10, exponent - 1) }
        while mantissa.magnitude >= 10 { (mantissa, exponent) = (mantissa / 10, exponent + 1) }
        let digits = (mantissa * 10).rounded() / 10
        return exponent >= -2 && exponent <= 2 ? "\((value * 1000).rounded() / 1000)" : "\(digits)e\(exponent)"
    }
}
