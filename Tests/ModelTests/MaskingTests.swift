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
            XCTAssertEqual(model.distiller.configuration.keptPatches, kept)
            XCTAssertEqual(model.distiller.masking.kept, kept)
            model.distiller.masking.update()
            XCTAssertEqual(model.distiller.masking.mask.values.filter { $0 == 0 }.count, kept)
        }
        // 20·(1 - 0.9) is 1.9999999999999996 in double.
        XCTAssertEqual(try model(4, 5, ratio: 0.9).distiller.masking.kept, 1)
    }

    /// `restore` is the rank of each patch's noise, `keep` its inverse below K, `mask` says rank ≥ K: against a stable
    /// sort.
    func testMaskKeepAndRestoreAreOneOrder() throws {
        let seed = testSeed(31)
        for (rows, columns, ratio) in [(14, 14, 0.75), (3, 5, 0.5), (2, 1, 0.5), (7, 4, 0.9)] {
            let masking = try model(rows, columns, ratio: ratio, batch: 3).distiller.masking
            let patches = rows * columns
            for image in 0..<3 { masking.draw(image, seed: seed, sample: image) }
            // Ties: the middle image has few different numbers.
            for patch in 0..<patches { masking.noise.pointer[patches + patch] = Float(patch * 7 % 3) }
            masking.update()
            for image in 0..<3 {
                let noise = (0..<patches).map { masking.noise.pointer[image * patches + $0] }
                let order = (0..<patches).sorted { (noise[$0], $0) < (noise[$1], $1) }
                XCTAssertEqual((0..<masking.kept).map { masking.keep(image, $0) }, Array(order[..<masking.kept]))
                XCTAssertEqual(order.map { masking.restore(image, $0) }, Array(0..<patches))
                XCTAssertEqual(
                    (0..<patches).map { masking.mask.pointer[image * patches + $0] },
                    (0..<patches).map { masking.restore(image, $0) >= masking.kept ? 1 : 0 })
            }
        }
    }

    /// A sample's noise depends on the seed and on the sample alone, not on its place in a batch or on what was drawn
    /// before.
    func testNoiseDependsOnSeedAndSampleAlone() throws {
        let masking = try model(14, 14, ratio: 0.75, batch: 3).distiller.masking
        func drawn(_ place: Int, seed: UInt64, sample: Int) -> [UInt32] {
            masking.draw(place, seed: seed, sample: sample)
            return (0..<196).map { masking.noise.pointer[place * 196 + $0].bitPattern }
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
        let masking = try model(14, 14, ratio: 0.75).distiller.masking
        let samples = 4000
        var counts = [Int](repeating: 0, count: 196)
        for sample in 0..<samples {
            masking.draw(0, seed: seed, sample: sample)
            masking.update()
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
        let distiller = model.distiller
        distiller.forward()
        func features() -> [[UInt32]] {
            [distiller.student.latent!, distiller.alignments[0].teacherFeature, distiller.decoder.prediction].map(
                \.values.bits)
        }
        let before = features()
        let losses = distiller.losses
        let (side, width) = (configuration.student.patchSize, configuration.student.imageWidth)
        /// Changes one pixel in each patch that is removed (or kept).
        func change(removed: Bool) {
            var image = distiller.images.pointer
            for index in 0..<distiller.batch {
                for patch in 0..<configuration.student.patches {
                    guard (distiller.masking.restore(index, patch) >= distiller.masking.kept) == removed else {
                        continue
                    }
                    let (row, column) = patch.quotientAndRemainder(dividingBy: configuration.student.gridColumns)
                    image[row * side * width + column * side + side - 1] += 1
                }
                image += distiller.images.columns
            }
        }
        change(removed: true)
        distiller.forward()
        XCTAssertEqual(features(), before)
        XCTAssertNotEqual(distiller.losses.reconstruction, losses.reconstruction)
        XCTAssertEqual(distiller.losses.alignments, losses.alignments)
        change(removed: false)
        distiller.forward()
        for (old, new) in zip(before, features()) { XCTAssertNotEqual(old, new) }
    }
}
