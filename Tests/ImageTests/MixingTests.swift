import Images
import Tensors
import TestSupport
import Weights
import XCTest

final class MixingTests: XCTestCase {
    /// Bit for bit timm's Mixup of a batch by PyTorch, and its targets from λ. λ itself may differ by one unit in its
    /// last place: it is computed with logarithms, whose last bit differs between mathematical libraries.
    func testMixedBatchesEqualTimms() throws {
        let tensors = try ExpectedAugmentation.tensors(), read = ExpectedAugmentation.read
        XCTAssert(read.mixing.contains { $0.cutmix } && read.mixing.contains { !$0.cutmix })
        for (number, entry) in read.mixing.enumerated() {
            let (width, height) = (entry.size[0], entry.size[1]), batch = entry.labels.count
            let before = try tensors.floats("mixing.\(number).before")
            let after = try tensors.floats("mixing.\(number).after")
            let mixing = Mixing(mixupAlpha: entry.alphas[0], cutmixAlpha: entry.alphas[1])
            let mixture = mixing.mixture(
                seed: UInt64(entry.seed)!, firstSample: entry.first, width: width, height: height)
            XCTAssertEqual(mixture.box != nil, entry.cutmix)

            let plan = MemoryPlan()
            let samples = plan.reserve("images", batch, before.count / batch, .batch)
            try plan.commit()
            _ = samples.elements.update(from: before)
            mixture.apply(to: samples, count: batch, width: width, height: height)
            XCTAssertEqual(samples.values.bits, after.bits, "\(entry)")

            let targets = try tensors.floats("mixing.\(number).targets")
            let off = read.smoothing / Double(read.classes), on = 1 - read.smoothing + off
            for row in 0..<batch {
                for label in 0..<read.classes {
                    let own: Float = entry.labels[row] == label ? Float(on) : Float(off)
                    let partner: Float = entry.labels[batch - 1 - row] == label ? Float(on) : Float(off)
                    XCTAssertEqual(
                        mixture.lambda * own + (1 - mixture.lambda) * partner,
                        targets[row * read.classes + label], accuracy: 1e-6)
                }
            }
        }
    }

    /// Of an odd number of rows, the middle one is its own partner.
    func testTheMiddleOfAnOddBatchStays() throws {
        let plan = MemoryPlan()
        let samples = plan.reserve("images", 3, 4, .batch)
        try plan.commit()
        for mixture in [
            Mixture(lambda: 0.75), Mixture(ratio: 0.5, centre: (1, 1), width: 4, height: 1),
        ] {
            for i in 0..<12 { samples.elements[i] = Float(i) }
            mixture.apply(to: samples, count: 3, width: 4, height: 1)
            XCTAssertEqual(Array(samples.values[4..<8]), [4, 5, 6, 7])
        }
    }

    func testBoxesAreCutOffAtTheEdges() {
        let inside = Mixture(ratio: 0.5, centre: (5, 6), width: 10, height: 13)
        // int(10 · 0.5) = 5 and int(13 · 0.5) = 6, as 2 · (5 / 2) and 2 · (6 / 2).
        XCTAssertEqual(inside.box, Rectangle(left: 3, top: 3, width: 4, height: 6))
        XCTAssertEqual(inside.lambda, 1 - 24.0 / 130)
        let corner = Mixture(ratio: 0.9, centre: (0, 12), width: 10, height: 13)
        XCTAssertEqual(corner.box, Rectangle(left: 0, top: 7, width: 4, height: 6))
        let nothing = Mixture(ratio: 0.05, centre: (4, 4), width: 10, height: 13)
        XCTAssertEqual(nothing.box.map { $0.width * $0.height }, 0)
        XCTAssertEqual(nothing.lambda, 1)
        let all = Mixture(ratio: 1, centre: (5, 6), width: 10, height: 12)
        XCTAssertEqual(all.box, Rectangle(left: 0, top: 0, width: 10, height: 12))
        XCTAssertEqual(all.lambda, 0)
    }

    /// One half each; λ of mixup has Beta(0.8, 0.8)'s mean ½ and variance 1 / (4 · (2α + 1)). With λ uniform, r = √(1-λ)
    /// and a centre uniform over the picture, the cut-off box covers E[(r - r² / 4)²] = 77⁄240 of the picture. A side
    /// loses at most three of 1000 pixels by cutting off fractions.
    func testDistributions() {
        let seed = testSeed(28), trials = 20_000
        var lambdas: [Double] = [], areas: [Double] = []
        for batch in 0..<trials {
            let mixture = Mixing().mixture(seed: seed, firstSample: 512 * batch, width: 1000, height: 1000)
            if let box = mixture.box {
                let area = Double(box.width * box.height) / 1e6
                areas.append(area)
                XCTAssertEqual(Double(mixture.lambda), 1 - area, accuracy: 1e-7)
            } else {
                lambdas.append(Double(mixture.lambda))
            }
        }
        assertBinomial(lambdas.count, of: trials, 0.5, "mixup")
        let variance = 1 / (4 * (2 * 0.8 + 1)), count = Double(lambdas.count)
        XCTAssertEqual(lambdas.reduce(0, +) / count, 0.5, accuracy: 6 * (variance / count).squareRoot())
        // (λ - ½)² is at most ¼, so its variance is at most variance · ¼.
        XCTAssertEqual(
            lambdas.reduce(0) { $0 + ($1 - 0.5) * ($1 - 0.5) } / count, variance,
            accuracy: 6 * (variance / 4 / count).squareRoot())
        // An area is at most 1, so its variance is at most its mean.
        XCTAssertEqual(
            areas.reduce(0, +) / Double(areas.count), 77.0 / 240,
            accuracy: 6 * (77.0 / 240 / Double(areas.count)).squareRoot() + 0.006)
    }

    func testOneMethodAlone() {
        for batch in 0..<200 {
            XCTAssertNil(
                Mixing(mixupAlpha: 0.8, cutmixAlpha: 0).mixture(seed: 1, firstSample: batch, width: 8, height: 8).box)
            XCTAssertNotNil(
                Mixing(mixupAlpha: 0, cutmixAlpha: 1).mixture(seed: 1, firstSample: batch, width: 8, height: 8).box)
        }
    }
}
