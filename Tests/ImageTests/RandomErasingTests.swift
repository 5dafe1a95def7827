import Glibc
import Images
import Tensors
import TestSupport
import Weights
import XCTest

final class RandomErasingTests: XCTestCase {
    private func augmentation(_ width: Int, _ height: Int, _ channels: Int, _ probability: Double) -> Augmentation {
        Augmentation(
            width: width, height: height, channels: channels, erasing: RandomErasing(probability: probability))
    }

    /// The rectangle is the same one, its noise differs by one unit in the last place of a float at most: the double
    /// that it is rounded from may differ in its last place between mathematical libraries.
    func testErasedSamplesEqualTimms() throws {
        let tensors = try ExpectedAugmentation.tensors()
        let entries = ExpectedAugmentation.read.erasing
        XCTAssert(entries.contains { $0.erased } && entries.contains { !$0.erased })
        for (number, entry) in entries.enumerated() {
            let before = try tensors.floats("erasing.\(number).before")
            let wanted = try tensors.floats("erasing.\(number).after")
            var values = before
            augmentation(entry.size[0], entry.size[1], entry.channels, entry.probability).erase(
                &values, seed: UInt64(entry.seed)!, epoch: entry.epoch, index: entry.index)
            XCTAssertEqual(
                values.indices.filter { values[$0] != before[$0] }, wanted.indices.filter { wanted[$0] != before[$0] },
                "\(entry)")
            for (value, wanted) in zip(values, wanted) {
                XCTAssertLessThanOrEqual(abs(value - wanted), wanted.ulp, "\(entry)")
            }
        }
    }

    func testNothingIsErasedWithout() {
        var values = [Float](repeating: 0.5, count: 3 * 8 * 8)
        let before = values
        Augmentation(width: 8, height: 8).erase(&values, seed: 1, epoch: 0, index: 0)
        for index in 0..<100 { augmentation(8, 8, 3, 0).erase(&values, seed: 1, epoch: 0, index: index) }
        XCTAssertEqual(values, before)
    }

    /// Area and aspect have uniform and log-uniform distributions, restricted to rectangles that fit. The expected
    /// fractions are integrals over these; rounding to pixels moves a bound by 1⁄2000 of the area at most, which is
    /// far below the statistical error.
    func testRectanglesDistribution() {
        let seed = testSeed(26), trials = 20_000, side = 2000
        let erasing = RandomErasing()
        var drawn = 0, small = 0, flat = 0, moderate = 0
        var lefts = [Int](repeating: 0, count: 8), tops = lefts
        for index in 0..<trials * 4 {
            var draw = CounterRandom(seed: seed, purpose: .erasing, epoch: 2, index: index)
            guard let rectangle = erasing.rectangle(width: side, height: side, using: &draw) else { continue }
            XCTAssert(rectangle.width < side && rectangle.height < side)
            XCTAssert(rectangle.left >= 0 && rectangle.left + rectangle.width <= side)
            XCTAssert(rectangle.top >= 0 && rectangle.top + rectangle.height <= side)
            drawn += 1
            let area = Double(rectangle.width * rectangle.height) / Double(side * side)
            let aspect = log(Double(rectangle.height) / Double(rectangle.width))
            if area < 0.12 { small += 1 }
            if aspect < 0 { flat += 1 }
            if abs(aspect) < 0.6 { moderate += 1 }
            lefts[rectangle.left * 8 / (side - rectangle.width + 1)] += 1
            tops[rectangle.top * 8 / (side - rectangle.height + 1)] += 1
        }
        assertBinomial(drawn, of: trials * 4, 0.25, "erased samples")
        // A side of √(area · aspect), which rounds to the picture's side from (side - ½) / side on.
        let limit = -log(0.3), largest = pow((Double(side) - 0.5) / Double(side), 2)
        var fits = 0.0, fitsSmall = 0.0, fitsModerate = 0.0
        let steps = 20_000
        for step in 0..<steps {
            let aspect = limit * (Double(step) + 0.5) / Double(steps)
            let upper = min(1.0 / 3, largest / exp(aspect))
            fits += upper - 0.02
            fitsSmall += min(upper, 0.12) - 0.02
            if aspect < 0.6 { fitsModerate += upper - 0.02 }
        }
        assertBinomial(small, of: drawn, fitsSmall / fits, "area below 0.12")
        assertBinomial(flat, of: drawn, 0.5, "wider than high")
        assertBinomial(moderate, of: drawn, fitsModerate / fits, "aspect near 1")
        for bin in 0..<8 {
            assertBinomial(lefts[bin], of: drawn, 1.0 / 8, "left in bin \(bin)")
            assertBinomial(tops[bin], of: drawn, 1.0 / 8, "top in bin \(bin)")
        }
    }

    /// Both ends of the range of places occur, and a rectangle as wide or high as the picture never does.
    func testRectanglesReachTheEdgesOfSmallPictures() {
        var touched: Set<String> = []
        for index in 0..<2000 {
            var draw = CounterRandom(seed: 9, purpose: .erasing, index: index)
            let erasing = RandomErasing(probability: 1)
            guard let rectangle = erasing.rectangle(width: 6, height: 5, using: &draw) else { continue }
            XCTAssert(rectangle.width < 6 && rectangle.height < 5)
            if rectangle.left == 0 { touched.insert("left") }
            if rectangle.top == 0 { touched.insert("top") }
            if rectangle.left + rectangle.width == 6 { touched.insert("right") }
            if rectangle.top + rectangle.height == 5 { touched.insert("bottom") }
        }
        XCTAssertEqual(touched.count, 4)
    }

    /// The noise has mean 0 and deviation 1 (five and six standard errors), and no two values are equal: every channel
    /// of every pixel has a number of its own.
    func testNoiseIsNormal() {
        let side = 64
        var noise: [Float] = []
        for index in 0..<200 {
            var values = [Float](repeating: 100, count: 3 * side * side)
            augmentation(side, side, 3, 1).erase(&values, seed: testSeedOfNoise, epoch: 4, index: index)
            noise += values.filter { $0 != 100 }
        }
        let count = Double(noise.count)
        XCTAssertGreaterThan(count, 100_000)
        let mean = noise.reduce(0) { $0 + Double($1) } / count
        let variance = noise.reduce(0) { $0 + Double($1) * Double($1) } / count
        XCTAssertLessThan(abs(mean), 5 / count.squareRoot())
        XCTAssertLessThan(abs(variance - 1), 6 * (2 / count).squareRoot())
        assertBinomial(noise.filter { abs($0) > 2 }.count, of: noise.count, 0.0455002638963584, "beyond two deviations")
        // Of n floats, about n² / 2²⁶ pairs fall together by chance.
        XCTAssertGreaterThan(Double(Set(noise).count), count - count * count / 0x1p24)
    }
    private let testSeedOfNoise: UInt64 = 27
}
