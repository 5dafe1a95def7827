import Tensors
import XCTest

final class CounterRandomTests: XCTestCase {
    /// Random123's kat_vectors, philox4x32 with 10 rounds.
    func testPhiloxKnownAnswers() {
        XCTAssertEqual(
            CounterRandom.philox(counter: SIMD4(repeating: 0), key: SIMD2(repeating: 0)),
            SIMD4(0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8))
        XCTAssertEqual(
            CounterRandom.philox(counter: SIMD4(repeating: .max), key: SIMD2(repeating: .max)),
            SIMD4(0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD))
        XCTAssertEqual(
            CounterRandom.philox(
                counter: SIMD4(0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344), key: SIMD2(0xA409_3822, 0x299F_31D0)
            ),
            SIMD4(0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1))
    }

    /// The stream's layout is part of what makes a run reproducible; Fixtures/images/make_images.py renders it a
    /// second time.
    func testPermutationKnownAnswer() {
        var draw = CounterRandom(seed: 81_985_529_216_486_895, purpose: .order, epoch: 7)
        XCTAssertEqual(
            draw.permutation(40),
            [
                10, 33, 8, 1, 34, 6, 19, 25, 7, 15, 26, 32, 23, 3, 5, 0, 27, 38, 39, 18, 28,
                22, 35, 37, 4, 9, 17, 36, 2, 13, 16, 21, 29, 20, 11, 31, 12, 24, 14, 30,
            ])
    }

    func testStreamsDifferInEveryPartOfTheirName() {
        var seen: Set<UInt64> = []
        let streams: [CounterRandom] = [
            .init(seed: 1, purpose: .crop), .init(seed: 1 << 32, purpose: .crop), .init(seed: 1, purpose: .flip),
            .init(seed: 1, purpose: .crop, epoch: 1), .init(seed: 1, purpose: .crop, index: 1),
            .init(seed: 1, purpose: .crop, index: 1 << 32), .init(seed: 1, purpose: .crop, epoch: 0xFF_FFFF),
        ]
        for stream in streams {
            var stream = stream
            for _ in 0..<1000 { XCTAssert(seen.insert(stream.next()).inserted) }
        }
        var again = CounterRandom(seed: 1, purpose: .crop, index: 1 << 32)
        XCTAssert(seen.contains(again.next()))
    }

    /// Pearson's chi-square of `counts` against equal expectation. With k - 1 degrees of freedom its mean is k - 1,
    /// its variance 2(k - 1); six standard deviations are exceeded less often than once in a million runs, and the
    /// streams are fixed anyway.
    private func assertUniform(_ counts: [Int], _ what: String, line: UInt = #line) {
        let expected = Double(counts.reduce(0, +)) / Double(counts.count)
        let statistic = counts.reduce(0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
        let freedom = Double(counts.count - 1)
        XCTAssertLessThan(
            abs(statistic - freedom), 6 * (2 * freedom).squareRoot(), "\(what): chi-square \(statistic)", line: line)
    }

    func testUniformity() {
        var draw = CounterRandom(seed: 20_260_731, purpose: .test)
        let count = 100_000
        var single = [Int](repeating: 0, count: 64), double = single, whole = [Int](repeating: 0, count: 37)
        for _ in 0..<count {
            let x = draw.uniform()
            XCTAssert(x >= 0 && x < 1)
            single[Int(x * 64)] += 1
            let y = draw.uniform(-2, 6)
            XCTAssert(y >= -2 && y < 6)
            double[Int((y + 2) * 8)] += 1
            whole[draw.below(37)] += 1
        }
        assertUniform(single, "Float")
        assertUniform(double, "Double")
        assertUniform(whole, "below")
        // Across streams, too: the first number of each sample's stream.
        var first = [Int](repeating: 0, count: 64)
        for index in 0..<count {
            var stream = CounterRandom(seed: 3, purpose: .mask, epoch: 5, index: index)
            first[Int(stream.uniform() * 64)] += 1
        }
        assertUniform(first, "first of each stream")
    }

    func testPermutationsAreEquallyLikely() {
        var counts: [[Int]: Int] = [:]
        for epoch in 0..<24_000 {
            var draw = CounterRandom(seed: 9, purpose: .order, epoch: epoch)
            let order = draw.permutation(4)
            XCTAssertEqual(order.sorted(), [0, 1, 2, 3])
            counts[order, default: 0] += 1
        }
        XCTAssertEqual(counts.count, 24)
        assertUniform(Array(counts.values), "orders of four")
        var draw = CounterRandom(seed: 9, purpose: .order)
        XCTAssertEqual(draw.permutation(0), [])
        XCTAssertEqual(draw.permutation(1), [0])
    }

    /// Mean within 5 standard errors (1/√n), variance within 5 of its own (√(2/n)), tail shares by the normal
    /// distribution.
    func testNormal() {
        var draw = CounterRandom(seed: 4, purpose: .weights)
        let count = 200_000, root = Double(count).squareRoot()
        var sum = 0.0, squares = 0.0, beyondTwo = 0
        for _ in 0..<count {
            let x = draw.normal()
            XCTAssert(x.isFinite)
            sum += x
            squares += x * x
            if abs(x) > 2 { beyondTwo += 1 }
        }
        XCTAssertLessThan(abs(sum / Double(count)), 5 / root)
        XCTAssertLessThan(abs(squares / Double(count) - 1), 5 * 2.0.squareRoot() / root)
        let share = 0.0455002638963584
        XCTAssertLessThan(abs(Double(beyondTwo) / Double(count) - share), 5 * (share * (1 - share)).squareRoot() / root)
    }

    /// Both numbers of a pair are normal and independent: means, variances and the covariance within 5 standard errors.
    func testNormalPair() {
        var draw = CounterRandom(seed: 5, purpose: .test), single = draw
        let first = draw.normalPair().0
        XCTAssertEqual(first, single.normal())
        let count = 100_000, root = Double(count).squareRoot()
        var sums = SIMD2(0.0, 0), squares = sums, product = 0.0
        for _ in 0..<count {
            let pair = draw.normalPair(), both = SIMD2(pair.0, pair.1)
            sums += both
            squares += both * both
            product += pair.0 * pair.1
        }
        for i in 0..<2 {
            XCTAssertLessThan(abs(sums[i] / Double(count)), 5 / root)
            XCTAssertLessThan(abs(squares[i] / Double(count) - 1), 5 * 2.0.squareRoot() / root)
        }
        XCTAssertLessThan(abs(product / Double(count)), 5 / root)
    }

    /// Beta(α, α): mean ½, variance 1 / (4 · (2α + 1)), and the probability of a number below ¼, which is 1⁄3 for α = ½
    /// (the arcsine law), ¼ for 1 and 5⁄32 for 2. Small α give numbers near 0 and 1 and nothing that is not finite.
    func testBeta() {
        let count = 50_000
        for (alpha, quarter) in [(0.5, 1.0 / 3), (1, 0.25), (2, 5.0 / 32), (0.8, nil), (0.01, nil), (30, nil)] {
            var draw = CounterRandom(seed: 6, purpose: .test, index: Int(alpha * 100))
            var sum = 0.0, squares = 0.0, below = 0
            for _ in 0..<count {
                let x = draw.beta(alpha)
                XCTAssert(x >= 0 && x <= 1, "\(x)")
                sum += x
                squares += (x - 0.5) * (x - 0.5)
                if x < 0.25 { below += 1 }
            }
            let variance = 1 / (4 * (2 * alpha + 1)), n = Double(count)
            XCTAssertEqual(sum / n, 0.5, accuracy: 5 * (variance / n).squareRoot(), "α \(alpha)")
            // (x - ½)² is at most ¼, so its variance is at most variance · ¼.
            XCTAssertEqual(squares / n, variance, accuracy: 5 * (variance / 4 / n).squareRoot(), "α \(alpha)")
            if let quarter {
                XCTAssertEqual(
                    Double(below) / n, quarter, accuracy: 5 * (quarter * (1 - quarter) / n).squareRoot(), "α \(alpha)")
            }
        }
    }
}
