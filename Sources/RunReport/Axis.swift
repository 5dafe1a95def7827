import Glibc
import Reporting

/// An axis: the values at its ends, and where its ticks are.
package struct Axis {
    package enum Scale {
        case linear, logarithmic
        /// Linear, in seconds, with ticks at whole minutes, hours and days.
        case time
    }

    package let scale: Scale
    /// The values at the ends, `low` below `high`.
    package let low, high: Double
    package let ticks: [(value: Double, label: String)]

    /// An axis for values from `low` to `high`.
    ///
    /// - Parameters:
    ///   - most: ticks wanted; about as many are made.
    ///   - isFraction: whether values are shown as percentages.
    package init(_ scale: Scale, low: Double, high: Double, most: Int = 6, isFraction: Bool = false) {
        self.scale = scale
        var (low, high) = (low, high)
        if !(high > low) {
            // A constant curve lies in the middle.
            let space = low == 0 ? 1 : low.magnitude * 0.1
            (low, high) = (low - space, high + space)
        }
        (self.low, self.high) = (low, high)
        switch scale {
        case .linear:
            let step = Self.niceStep((high - low) / Double(most))
            let values = Self.multiples(of: step, low, high)
            // One way of writing for all labels of an axis.
            let isTiny = values.contains { $0.magnitude > step * 1e-6 && $0.magnitude < Self.leastPlain }
            ticks = values.map { value in
                (
                    value,
                    isFraction
                        ? Self.number(100 * value, step: 100 * step) + " %"
                        : Self.number(value, step: step, isExponential: isTiny)
                )
            }
        case .time:
            let (step, unit, name) = Self.timeStep((high - low) / Double(most))
            ticks = Self.multiples(of: step, low, high).map { value in
                (value, value == 0 ? "0" : Self.number(value / unit, step: step / unit) + " " + name)
            }
        case .logarithmic:
            let decades = log10(high / low)
            if decades < 1 {
                let step = Self.niceStep((high - low) / Double(most))
                ticks = Self.multiples(of: step, low, high).filter { $0 > 0 }.map { ($0, Self.number($0, step: step)) }
            } else {
                let mantissas: [Double] = decades < 1.7 ? [1, 2, 3, 5] : decades < 3 ? [1, 3] : [1]
                let stride = max(1, Int((decades / Double(most)).rounded()))
                let exponents = Int(log10(low).rounded(.down))...Int(log10(high).rounded(.up))
                var found: [(value: Double, label: String)] = []
                for exponent in exponents where exponent % stride == 0 {
                    for mantissa in mantissas {
                        let value = mantissa * pow(10, Double(exponent))
                        guard value >= low * (1 - 1e-9), value <= high * (1 + 1e-9) else { continue }
                        found.append((value, Self.number(value, step: value)))
                    }
                }
                ticks = found
            }
        }
    }

    /// Where `value` lies: 0 at the lower end, 1 at the upper.
    package func place(_ value: Double) -> Double {
        scale == .logarithmic ? log(value / low) / log(high / low) : (value - low) / (high - low)
    }

    /// The smallest of 1, 2 and 5 times a power of ten that is at least `least`.
    package static func niceStep(_ least: Double) -> Double {
        guard least > 0, least.isFinite else { return 1 }
        let power = pow(10, log10(least).rounded(.down))
        return ([1, 2, 5, 10].first { $0 * power >= least * (1 - 1e-9) } ?? 10) * power
    }

    private static func timeStep(_ least: Double) -> (step: Double, unit: Double, name: String) {
        if least < 1 { return (niceStep(least), 1, "s") }
        let units: [(unit: Double, name: String, counts: [Double])] = [
            (1, "s", [1, 2, 5, 10, 20, 30]), (60, "min", [1, 2, 5, 10, 20, 30]), (3600, "h", [1, 2, 3, 6, 12]),
        ]
        for (unit, name, counts) in units {
            for count in counts where count * unit >= least * (1 - 1e-9) { return (count * unit, unit, name) }
        }
        return (86400 * niceStep(max(1, least / 86400)), 86400, "d")
    }

    private static func multiples(of step: Double, _ low: Double, _ high: Double) -> [Double] {
        let first = (low / step - 1e-9).rounded(.up), last = (high / step + 1e-9).rounded(.down)
        guard last >= first, last - first < 1000 else { return [] }
        return (0...Int(last - first)).map { (first + Double($0)) * step }
    }

    /// The least value that is written without an exponent.
    private static let leastPlain = 1e-4

    /// A tick's label, with the digits that tell it from the next one.
    ///
    /// - Parameter isExponential: whether a value is written as 1.5e-4 even if it is not tiny.
    package static func number(_ value: Double, step: Double, isExponential: Bool = false) -> String {
        let magnitude = value.magnitude
        if magnitude < step * 1e-6 || magnitude == 0 { return "0" }
        func decimals(_ step: Double) -> Int {
            (0...8).first { digits in
                let scaled = step * pow(10, Double(digits))
                return abs(scaled - scaled.rounded()) < 1e-6 * scaled
            } ?? 8
        }
        let units: [(least: Double, unit: Double, name: String)] = [
            (1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"),
        ]
        if magnitude < 1e15, let (_, unit, name) = units.first(where: { magnitude >= $0.least }) {
            return Format.fixed(value / unit, decimals(step / unit)) + name
        }
        guard magnitude >= leastPlain, magnitude < 1e15, !isExponential else {
            let exponent = Int(log10(magnitude * (1 + 1e-9)).rounded(.down)), power = pow(10, Double(exponent))
            return Format.fixed(value / power, decimals(step / power)) + "e\(exponent)"
        }
        return Format.fixed(value, decimals(step))
    }
}
