import Images
import Tensors
import TestSupport
import XCTest

final class RandAugmentTests: XCTestCase {
    private let expected = ExpectedAugmentation.read

    private func fill(_ picture: Pixels) -> [UInt8] { Normalisation.imageNet(channels: picture.channels).meanBytes }

    func testOperationsAreTimmsInItsOrder() {
        XCTAssertEqual(RandAugment.Operation.allCases.map(\.rawValue), expected.operations)
        XCTAssertEqual(Normalisation.imageNet(channels: 3).meanBytes, [124, 116, 104])
        XCTAssertEqual(Normalisation.imageNet(channels: 1).meanBytes, [114])
    }

    /// Fifteen operations at seventeen magnitudes and both signs, on pictures of odd sizes, grey ones, flat ones and
    /// ones smaller than a filter.
    func testOperationsEqualTimmsAndPillows() throws {
        XCTAssertGreaterThan(expected.sources.count, 10)
        var compared = 0
        for entry in expected.sources {
            let source = try ExpectedAugmentation.source(entry.name), fill = fill(source)
            XCTAssertEqual(Set(entry.results.keys), Set(expected.operations))
            for operation in RandAugment.Operation.allCases {
                let rows = entry.results[operation.rawValue]!
                XCTAssertEqual(rows.count, expected.signed.contains(operation.rawValue) ? 2 : 1)
                for (sign, row) in rows.enumerated() {
                    for (magnitude, crc) in zip(expected.magnitudes, row) {
                        let change = RandAugment.Change(operation, magnitude: magnitude, isNegative: sign == 1)
                        XCTAssertEqual(crc32(source.changed(by: change, fill: fill)), crc, "\(entry.name): \(change)")
                        compared += 1
                    }
                }
            }
        }
        XCTAssertGreaterThan(compared, 5000)
    }

    /// Whole pictures, so that a failure shows where the first wrong pixel is.
    func testOperationsAtMagnitude9EqualTimmsPictures() throws {
        for (name, channels) in [("color", 3), ("grey", 1)] {
            let source = try ExpectedAugmentation.source(name)
            let sheet = try Pixels(
                contentsOf: "\(ExpectedAugmentation.folder)/sheet-\(name).png", channels: channels)
            for (place, operation) in RandAugment.Operation.allCases.enumerated() {
                let change = RandAugment.Change(
                    operation, magnitude: 9, isNegative: expected.signed.contains(operation.rawValue))
                let result = source.changed(by: change, fill: fill(source))
                let tile = sheet.cropped(
                    to: Rectangle(left: place * source.width, top: 0, width: source.width, height: source.height))
                let wrong = result.bytes.indices.first { result.bytes[$0] != tile.bytes[$0] }
                XCTAssertNil(
                    wrong,
                    "\(name), \(operation): byte \(wrong ?? 0) at column \((wrong ?? 0) / channels % source.width)"
                        + ", row \((wrong ?? 0) / channels / source.width) is \(result.bytes[wrong ?? 0])"
                        + ", not \(tile.bytes[wrong ?? 0])")
            }
        }
    }

    /// Crop, flip and RandAugment together: the same operations are drawn, and the samples equal timm's transform
    /// "rand-m9-mstd0.5-inc1".
    func testWholeSamplesEqualTimms() throws {
        var drawn = 0
        for entry in expected.samples {
            let source = try ResizingTests.source(entry.source), seed = UInt64(entry.seed)!
            let randAugment = RandAugment()
            let changes = randAugment.changes(seed: seed, epoch: entry.epoch, index: entry.index)
            // timm draws a sign and a magnitude only for operations that have them; the others' do not count.
            XCTAssertEqual(changes.map(\.operation.rawValue), entry.changes.map(\.operation))
            for (change, wanted) in zip(changes, entry.changes) {
                XCTAssertEqual(change.magnitude, wanted.magnitude, accuracy: 1e-14)
                XCTAssertEqual(change.isNegative, wanted.isNegative)
            }
            drawn += changes.count
            let augmentation = Augmentation(
                width: entry.size[0], height: entry.size[1], channels: source.channels,
                framing: .random(area: 0.08...1, aspect: 3.0 / 4...4.0 / 3, flip: 0.5), randAugment: randAugment)
            let sample = augmentation.apply(to: source, seed: seed, epoch: entry.epoch, index: entry.index)
            XCTAssertEqual(crc32(sample), entry.crc, "\(entry)")
        }
        XCTAssertGreaterThan(drawn, 60)
    }

    func testTheProbesCropIsOneDraw() throws {
        for entry in expected.probe {
            let source = try ResizingTests.source(entry.source), seed = UInt64(entry.seed)!
            let framing = Augmentation.Framing.randomOnce(area: 0.08...1, aspect: 3.0 / 4...4.0 / 3, flip: 0.5)
            var draw = CounterRandom(seed: seed, purpose: .crop, epoch: entry.epoch, index: entry.index)
            let crop = randomCropOnce(
                width: source.width, height: source.height, area: 0.08...1, aspect: 3.0 / 4...4.0 / 3, using: &draw)
            XCTAssertEqual([crop.left, crop.top, crop.width, crop.height], entry.crop)
            let augmentation = Augmentation(
                width: entry.size[0], height: entry.size[1], channels: source.channels, framing: framing)
            let sample = augmentation.apply(to: source, seed: seed, epoch: entry.epoch, index: entry.index)
            XCTAssertEqual(crc32(sample), entry.crc, "\(entry)")
        }
        // Where RandomResizedCrop would try again, the probe's crop is cut: of a long strip it often has the full
        // height. A single pixel is its own crop.
        var full = 0
        for index in 0..<200 {
            var draw = CounterRandom(seed: 1, purpose: .crop, index: index)
            let crop = randomCropOnce(
                width: 400, height: 40, area: 0.08...1, aspect: 3.0 / 4...4.0 / 3, using: &draw)
            XCTAssert(crop.left >= 0 && crop.left + crop.width <= 400 && crop.top + crop.height <= 40)
            if crop.height == 40 { full += 1 }
            var other = CounterRandom(seed: 1, purpose: .crop, index: index)
            XCTAssertEqual(
                randomCropOnce(width: 1, height: 1, area: 0.08...1, aspect: 3.0 / 4...4.0 / 3, using: &other),
                Rectangle(left: 0, top: 0, width: 1, height: 1))
        }
        XCTAssertGreaterThan(full, 150)
    }

    // MARK: Distributions

    func testOperationsAreDrawnWithReplacementAndEqualChances() {
        let seed = testSeed(23), trials = 30_000
        let randAugment = RandAugment(probability: 1)
        var first: [RandAugment.Operation: Int] = [:], second = first, equal = 0
        for index in 0..<trials {
            let changes = randAugment.changes(seed: seed, epoch: 3, index: index)
            XCTAssertEqual(changes.count, 2)
            first[changes[0].operation, default: 0] += 1
            second[changes[1].operation, default: 0] += 1
            if changes[0].operation == changes[1].operation { equal += 1 }
        }
        for operation in RandAugment.Operation.allCases {
            assertBinomial(first[operation] ?? 0, of: trials, 1.0 / 15, "first \(operation)")
            assertBinomial(second[operation] ?? 0, of: trials, 1.0 / 15, "second \(operation)")
        }
        assertBinomial(equal, of: trials, 1.0 / 15, "the same operation twice")
    }

    func testEachDrawnOperationIsAppliedWithProbabilityOneHalf() {
        let seed = testSeed(24), trials = 20_000
        var counts = [0, 0, 0], any = 0
        let never = RandAugment(probability: 0), always = RandAugment(probability: 1)
        for index in 0..<trials {
            let changes = RandAugment().changes(seed: seed, epoch: 0, index: index)
            counts[changes.count] += 1
            any += never.changes(seed: seed, epoch: 0, index: index).count
            // A probability decides what is applied, and changes nothing of it.
            let all = always.changes(seed: seed, epoch: 0, index: index)
            XCTAssert(changes.allSatisfy(all.contains))
        }
        for (count, probability) in zip(counts, [0.25, 0.5, 0.25]) {
            assertBinomial(count, of: trials, probability, "applied operations")
        }
        XCTAssertEqual(any, 0)
    }

    /// Normal with mean 9 and deviation ½, cut off at 10 (and at 0, where a smaller mean comes near it); the sign is a
    /// fair coin. Probabilities are those of the normal distribution.
    func testMagnitudesAndSigns() {
        let seed = testSeed(25), trials = 20_000
        let randAugment = RandAugment(operations: 1, probability: 1)
        let low = RandAugment(operations: 1, magnitude: 0.2, probability: 1)
        let fixed = RandAugment(operations: 1, magnitude: 9, deviation: 0, probability: 1)
        var atTop = 0, below8 = 0, below9 = 0, below95 = 0, negative = 0, negativeAndBelow9 = 0, atBottom = 0
        for index in 0..<trials {
            let change = randAugment.changes(seed: seed, epoch: 1, index: index)[0]
            XCTAssert(change.magnitude >= 0 && change.magnitude <= 10)
            if change.magnitude == 10 { atTop += 1 }
            if change.magnitude < 8 { below8 += 1 }
            if change.magnitude < 9 { below9 += 1 }
            if change.magnitude < 9.5 { below95 += 1 }
            if change.isNegative { negative += 1 }
            if change.isNegative && change.magnitude < 9 { negativeAndBelow9 += 1 }
            if low.changes(seed: seed, epoch: 1, index: index)[0].magnitude == 0 { atBottom += 1 }
            XCTAssertEqual(fixed.changes(seed: seed, epoch: 1, index: index)[0].magnitude, 9)
        }
        assertBinomial(atTop, of: trials, 0.022750131948179, "magnitude 10")
        assertBinomial(below8, of: trials, 0.022750131948179, "magnitude below 8")
        assertBinomial(below9, of: trials, 0.5, "magnitude below 9")
        assertBinomial(below95, of: trials, 0.841344746068543, "magnitude below 9.5")
        assertBinomial(negative, of: trials, 0.5, "negative")
        assertBinomial(negativeAndBelow9, of: trials, 0.25, "negative with a magnitude below 9")
        assertBinomial(atBottom, of: trials, 0.344578258389676, "magnitude 0 of mean 0.2")
    }
}
