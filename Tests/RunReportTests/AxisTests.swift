import RunReport
import XCTest

/// Ticks and their labels.
final class AxisTests: XCTestCase {
    private func labels(_ scale: Axis.Scale, _ low: Double, _ high: Double, isFraction: Bool = false) -> [String] {
        Axis(scale, low: low, high: high, most: 5, isFraction: isFraction).ticks.map(\.label)
    }

    func testLabels() {
        XCTAssertEqual(labels(.linear, 0, 1093), ["0", "500", "1000"])
        XCTAssertEqual(labels(.linear, 0, 100_000), ["0", "20k", "40k", "60k", "80k", "100k"])
        XCTAssertEqual(labels(.linear, 0.87, 3.61), ["1", "2", "3"])
        XCTAssertEqual(labels(.linear, 0.871, 0.879), ["0.872", "0.874", "0.876", "0.878"])
        XCTAssertEqual(labels(.linear, 0, 0.000_36), ["0", "0.0001", "0.0002", "0.0003"])
        XCTAssertEqual(labels(.linear, 0, 0.000_17), ["0", "5e-5", "1.0e-4", "1.5e-4"])
        XCTAssertEqual(labels(.linear, -1, 1), ["-1.0", "-0.5", "0", "0.5", "1.0"])
        XCTAssertEqual(labels(.linear, 0, 3_000_000), ["0", "1M", "2M", "3M"])
        XCTAssertEqual(labels(.linear, 0, 1, isFraction: true), ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"])
        XCTAssertEqual(labels(.logarithmic, 0.01, 100), ["0.01", "0.1", "1", "10", "100"])
        XCTAssertEqual(labels(.logarithmic, 1e-9, 1e-3), ["1e-9", "1e-8", "1e-7", "1e-6", "1e-5", "0.0001", "0.001"])
        XCTAssertEqual(labels(.logarithmic, 0.4, 6), ["0.5", "1", "2", "3", "5"])
        XCTAssertEqual(labels(.time, 0, 81.6), ["0", "20 s", "40 s", "60 s", "80 s"])
        XCTAssertEqual(labels(.time, 0, 3000), ["0", "10 min", "20 min", "30 min", "40 min", "50 min"])
        XCTAssertEqual(labels(.time, 0, 400_000), ["0", "1 d", "2 d", "3 d", "4 d"])
    }

    /// Any axis has ticks within its ends, ascending, few and at least one, with labels of their own.
    func testAnyRange() {
        var state: UInt64 = 5
        func random() -> Double {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Double(state >> 11) / Double(UInt64(1) << 53)
        }
        for _ in 0..<5000 {
            let low = exp(40 * random() - 25), high = low * (1 + exp(25 * random() - 6))
            for scale in [Axis.Scale.linear, .logarithmic, .time] {
                let axis = Axis(scale, low: low, high: high, most: 5)
                let values = axis.ticks.map(\.value), labels = axis.ticks.map(\.label)
                XCTAssertTrue((1...14).contains(values.count), "\(scale) \(low) \(high): \(values)")
                XCTAssertEqual(values, values.sorted())
                for value in values {
                    XCTAssertTrue((-1e-6...1 + 1e-6).contains(axis.place(value)), "\(scale) \(low) \(high): \(value)")
                }
                if (high - low) / high > 1e-3 {
                    XCTAssertEqual(Set(labels).count, labels.count, "\(scale) \(low) \(high): \(labels)")
                }
            }
        }
        // Curves that are constant, and zero.
        for value in [0, 1, -3, 1e-30, 1e30] {
            let axis = Axis(.linear, low: value, high: value)
            XCTAssertEqual(axis.place(value), 0.5, accuracy: 1e-9)
            XCTAssertFalse(axis.ticks.isEmpty)
        }
    }
}
