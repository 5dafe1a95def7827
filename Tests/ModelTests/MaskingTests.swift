import Models
import Tensors
import TestSupport
import XCTest

final class MaskingTests: XCTestCase {
    /// A masking's tensors live as long as the model that planned them.
    private var models: [RandomModel] = []

    override func tearDown() { models = [] }

    /// Only the masking of it is used: the smallest model over a grid of patches.
    private func model(_ rows: Int, _ columns: Int, ratio: Double, batch: Int = 1) throws -> RandomModel {
        let encoder = EncoderConfiguration(
            width: 4, depth: 1, heads: 1, patchSize: 1, imageHeight: rows, imageWidth: columns, channels: 1)
        let model = try RandomModel(
            ModelConfiguration(
                student: encoder, decoder: DecoderConfiguration(width: 4, depth: 1, heads: 1), maskRatio: ratio),
            batch: batch, seed: 1)
        models.append(model)
        return model
    }

    /// int(L·(1 - ratio)) in double, as Python has it: of 196 patches 49, 19, 9 and 3 (the paper counts the class token
    /// too).
    func testKeptCounts() throws {
        for (ratio, kept) in [(0.75, 49), (0.90, 19), (0.95, 9), (0.98, 3)] {
            let model = try model(14, 14, ratio: ratio)
            XCTAssertEqual(model.observed.configuration.keptPatches, kept)
            XCTAssertEqual(model.observed.masking.keptCount, kept)
            model.observed.masking.select(.random(seed: 1)) { $0 }
            XCTAssertEqual(model.observed.masking.mask.values.filter { $0 == 0 }.count, kept)
        }
        // 20·(1 - 0.9) is 1.9999999999999996 in double.
        XCTAssertEqual(try model(4, 5, ratio: 0.9).observed.masking.keptCount, 1)
    }

    /// Places are the ranks of the noise, kept patches those of the first K places, and the mask says place ≥ K:
    /// against a stable sort.
    func testMaskAndPlacesAreOneOrder() throws {
        let seed = testSeed(31)
        for (rows, columns, ratio) in [(14, 14, 0.75), (3, 5, 0.5), (2, 1, 0.5), (7, 4, 0.9)] {
            let masking = try model(rows, columns, ratio: ratio, batch: 3).observed.masking
            let patches = rows * columns
            var random = CounterRandom(seed: seed, purpose: .test)
            var noise = (0..<3 * patches).map { _ in random.uniform() }
            // Ties: the middle image has few different numbers.
            for patch in 0..<patches { noise[patches + patch] = Float(patch * 7 % 3) }
            masking.select(.noise(noise)) { $0 }
            for image in 0..<3 {
                let numbers = noise[image * patches..<(image + 1) * patches]
                check(
                    masking, image,
                    order: (0..<patches).sorted {
                        (numbers[$0 + numbers.startIndex], $0) < (numbers[$1 + numbers.startIndex], $1)
                    })
            }
        }
    }

    private func check(_ masking: Masking, _ image: Int, order: [Int], line: UInt = #line) {
        let patches = order.count
        XCTAssertEqual(
            (0..<masking.keptCount).map { masking.keptPatch(image, $0) }, Array(order[..<masking.keptCount]), line: line
        )
        XCTAssertEqual(
            (0..<masking.removedCount).map { masking.removedPatch(image, $0) }, Array(order[masking.keptCount...]),
            line: line)
        XCTAssertEqual(order.map { masking.place(image, ofPatch: $0) }, Array(0..<patches), line: line)
        XCTAssertEqual(
            (0..<patches).map { masking.mask.pointer[image * patches + $0] },
            (0..<patches).map { masking.place(image, ofPatch: $0) >= masking.keptCount ? 1 : 0 }, line: line)
    }

    /// Random noise is the stream of seed and sample; a given mask keeps the order of patches on both sides.
    func testRandomAndGivenSelections() throws {
        let seed = testSeed(34)
        let masking = try model(3, 4, ratio: 0.5, batch: 2).observed.masking
        masking.select(.random(seed: seed)) { 1000 + 7 * $0 }
        for image in 0..<2 {
            var random = CounterRandom(seed: seed, purpose: .mask, index: 1000 + 7 * image)
            let noise = (0..<12).map { _ in random.uniform() }
            check(masking, image, order: (0..<12).sorted { (noise[$0], $0) < (noise[$1], $1) })
        }
        let removed = (0..<12).map { $0 % 4 < 2 }
        masking.select(.removed(removed)) { $0 }
        for image in 0..<2 {
            check(masking, image, order: (0..<12).filter { !removed[$0] } + (0..<12).filter { removed[$0] })
        }
    }

    /// A sample's mask depends on the seed and on the sample alone, not on its place in a batch or on what was drawn
    /// before.
    func testMaskDependsOnSeedAndSampleAlone() throws {
        let masking = try model(14, 14, ratio: 0.75, batch: 3).observed.masking
        func drawn(_ image: Int, seed: UInt64, sample: Int) -> [Int] {
            masking.select(.random(seed: seed)) { $0 == image ? sample : 17 + $0 }
            return (0..<masking.keptCount).map { masking.keptPatch(image, $0) }
        }
        let first = drawn(0, seed: 5, sample: 1_000_000_007)
        let other = drawn(1, seed: 5, sample: 3)
        XCTAssertEqual(drawn(2, seed: 5, sample: 1_000_000_007), first)
        XCTAssertEqual(drawn(0, seed: 5, sample: 3), other)
        XCTAssertNotEqual(first, other)
        XCTAssertNotEqual(drawn(0, seed: 6, sample: 3), other)
        XCTAssertNotEqual(drawn(0, seed: 5, sample: 4), other)
    }

    /// Uniform: over many samples each patch is kept as often as any other. K of L is a hypergeometric draw, so a
    /// patch's count over n samples has mean n·K/L and variance n·K/L·(1 - K/L); five deviations over 196 patches fail
    /// once in ten thousand seeds.
    func testEveryPatchIsKeptEquallyOften() throws {
        let seed = testSeed(32)
        let masking = try model(14, 14, ratio: 0.75).observed.masking
        let samples = 4000
        var counts = [Int](repeating: 0, count: 196)
        for sample in 0..<samples {
            masking.select(.random(seed: seed)) { _ in sample }
            for patch in 0..<196 where masking.mask.pointer[patch] == 0 { counts[patch] += 1 }
        }
        let deviation = (Double(samples) * 0.25 * 0.75).squareRoot()
        for count in counts { XCTAssertLessThan((Double(count) - Double(samples) / 4).magnitude, 5 * deviation) }
    }

    /// Encoders see kept patches only: other pixels in the removed places leave every feature as it was, to the bit.
    func testRemovedPixelsDoNotReachTheEncoders() throws {
        let seed = testSeed(33)
        let configuration = ModelConfiguration.small()
        let model = try RandomModel(configuration, batch: 2, seed: seed)
        let observed = model.observed
        observed.forward()
        func features() -> [[UInt32]] {
            [observed.encoder.latent!, observed.alignments[0].teacherFeature, observed.decoder.prediction].map(
                \.values.bits)
        }
        let before = features()
        let losses = observed.losses
        let (side, width) = (configuration.student.patchSize, configuration.student.imageWidth)
        /// Changes one pixel in each patch that is removed (or kept).
        func change(removed: Bool) {
            var image = observed.images.pointer
            for index in 0..<observed.batch {
                for patch in 0..<configuration.student.patches {
                    guard (observed.masking.place(index, ofPatch: patch) >= observed.masking.keptCount) == removed
                    else {
                        continue
                    }
                    let (row, column) = patch.quotientAndRemainder(dividingBy: configuration.student.gridColumns)
                    image[row * side * width + column * side + side - 1] += 1
                }
                image += observed.images.columns
            }
        }
        change(removed: true)
        observed.forward()
        XCTAssertEqual(features(), before)
        XCTAssertNotEqual(observed.losses.reconstruction, losses.reconstruction)
        XCTAssertEqual(observed.losses.alignments, losses.alignments)
        change(removed: false)
        observed.forward()
        for (old, new) in zip(before, features()) { XCTAssertNotEqual(old, new) }
    }
}
