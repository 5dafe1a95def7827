import RunReport
import Tensors
import XCTest

/// Curves with fewer points than values.
final class StretchTests: XCTestCase {
    /// Every value is in exactly one stretch, and its stretch says its minimum, maximum and mean.
    func testNothingIsLost() {
        var generator = SystemRandomNumberGenerator()
        let seed = UInt64.random(in: 0 ... .max, using: &generator)
        print("seed \(seed)")
        var state = seed
        func random(_ count: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % count
        }
        for _ in 0..<300 {
            let count = random(2000), most = 1 + random(400)
            let values = (0..<count).map { _ -> Double in
                switch random(20) {
                case 0: .nan
                case 1: 1e12 * Double(random(1000))
                default: Double(random(1_000_000)) / 1000 - 500
                }
            }
            let stretches = Stretch.thinned(values, to: most)
            XCTAssertEqual(stretches.count, min(count, most))
            XCTAssertEqual(stretches.flatMap { Array($0.rows) }, Array(values.indices))
            let lengths = stretches.map(\.rows.count)
            XCTAssertLessThanOrEqual((lengths.max() ?? 0) - (lengths.min() ?? 0), 1)
            for stretch in stretches {
                let own = values[stretch.rows].filter(\.isFinite)
                guard !own.isEmpty else {
                    XCTAssertTrue(stretch.minimum.isNaN && stretch.maximum.isNaN && stretch.mean.isNaN)
                    continue
                }
                XCTAssertEqual(stretch.minimum, own.min())
                XCTAssertEqual(stretch.maximum, own.max())
                let mean = own.reduce(0, +) / Double(own.count)
                XCTAssertEqual(stretch.mean, mean, accuracy: 1e-12 * own.map(\.magnitude).max()!)
                XCTAssertTrue((stretch.minimum...stretch.maximum).contains(stretch.mean))
            }
            let finite = values.filter(\.isFinite)
            XCTAssertEqual(stretches.map(\.minimum).filter(\.isFinite).min(), finite.min())
            XCTAssertEqual(stretches.map(\.maximum).filter(\.isFinite).max(), finite.max())
        }
    }

    /// Smoothing keeps a constant and a straight line's middle, lies within the values, and leaves gaps open.
    func testSmoothing() {
        XCTAssertEqual(
            Stretch.smoothed([Double](repeating: 3, count: 50), deviation: 4).map { ($0 * 1e9).rounded() / 1e9 },
            [Double](repeating: 3, count: 50))
        let line = (0..<101).map(Double.init)
        XCTAssertEqual(Stretch.smoothed(line, deviation: 5)[50], 50, accuracy: 1e-9)
        // Against NumPy: np.average([0, 0, 10, 0], weights=exp(-0.5 * [2, 1, 0, 1]²)) at the third place.
        XCTAssertEqual(Stretch.smoothed([0, 0, 10, 0], deviation: 1)[2], 4.258224521643882, accuracy: 1e-9)
        let gap = Stretch.smoothed([1, .nan, 2], deviation: 1)
        XCTAssertTrue(gap[1].isNaN && gap[0] > 1 && gap[0] < gap[2] && gap[2] < 2)
    }
}
