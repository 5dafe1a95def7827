import Glibc

/// A stretch of neighbouring values of a curve: what is drawn in their place.
package struct Stretch: Equatable {
    /// The values' indices.
    package let rows: Range<Int>
    /// Of the finite values; NaN where there are none.
    package let minimum, maximum, mean: Double

    /// The stretch of the values in `rows`.
    package init(_ values: [Double], _ rows: Range<Int>) {
        var minimum = Double.infinity, maximum = -Double.infinity, sum = 0.0, count = 0
        for row in rows where values[row].isFinite {
            minimum = min(minimum, values[row])
            maximum = max(maximum, values[row])
            sum += values[row]
            count += 1
        }
        self.rows = rows
        (self.minimum, self.maximum) = count > 0 ? (minimum, maximum) : (.nan, .nan)
        // The quotient may be rounded past an extreme.
        mean = count > 0 ? min(max(sum / Double(count), minimum), maximum) : .nan
    }

    /// `values` in at most `most` stretches of equal length, up to one; each value is in exactly one.
    package static func thinned(_ values: [Double], to most: Int) -> [Stretch] {
        let count = min(most, values.count)
        return (0..<count).map { index in
            Stretch(values, index * values.count / count..<(index + 1) * values.count / count)
        }
    }

    /// `values` weighted by a Gaussian of `deviation` places around each; NaN stays, and has no weight.
    package static func smoothed(_ values: [Double], deviation: Double) -> [Double] {
        let reach = Int((3 * deviation).rounded(.up))
        let weights = (0...reach).map { exp(-0.5 * (Double($0) / deviation) * (Double($0) / deviation)) }
        return values.indices.map { place in
            guard values[place].isFinite else { return .nan }
            var sum = 0.0, weight = 0.0
            for other in max(0, place - reach)...min(values.count - 1, place + reach) where values[other].isFinite {
                sum += weights[abs(other - place)] * values[other]
                weight += weights[abs(other - place)]
            }
            return sum / weight
        }
    }
}
