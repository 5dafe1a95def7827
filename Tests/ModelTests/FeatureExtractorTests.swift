import Models
import Tensors
import TestSupport
import XCTest

/// The encoder without masking.
final class FeatureExtractorTests: XCTestCase {
    private let configuration = EncoderConfiguration(
        width: 36, depth: 3, heads: 3, patchSize: 4, imageHeight: 12, imageWidth: 16)

    /// An extractor on random weights, and its features of random images: one array per image.
    private func features(
        _ place: FeaturePlace, _ pool: FeaturePool, images: Int, batch: Int, seed: UInt64, precision: Precision = .f32
    ) throws -> [[Float]] {
        let plan = MemoryPlan()
        let extractor = try FeatureExtractor(
            configuration, at: place, pool: pool, batch: batch, plan: plan, precision: precision)
        try plan.commit()
        extractor.parameters.initialize(seed: seed)
        for parameter in extractor.parameters.all where parameter.shape.count == 1 {
            // By its name, not its place: a shorter encoder has the same weights.
            var random = CounterRandom(
                seed: seed, purpose: .test, epoch: 2,
                index: Int(parameter.name.utf8.reduce(0) { $0 &* 31 &+ UInt32($1) }))
            for i in 0..<parameter.weight.count { parameter.weight.pointer[i] += Float(random.uniform(-0.2, 0.2)) }
        }
        var result: [[Float]] = []
        let sample = extractor.images.columns
        for first in stride(from: 0, to: images, by: batch) {
            let count = min(batch, images - first)
            for image in 0..<count {
                var random = CounterRandom(seed: seed, purpose: .test, epoch: 1, index: first + image)
                for i in 0..<sample { extractor.images.pointer[image * sample + i] = Float(random.normal()) }
            }
            extractor.forward()
            let row = extractor.features.count / batch
            result += (0..<count).map { Array(extractor.features.elements[$0 * row..<($0 + 1) * row]) }
        }
        return result
    }

    /// The same bits for any number of threads and any batch, short last passes included.
    func testBitsDependOnNeitherThreadsNorBatch() throws {
        let seed = testSeed(31)
        for precision in [Precision.f32, .bf16] {
            for (place, pool) in [
                (FeaturePlace.norm, FeaturePool.class), (.norm, .mean), (.norm, .tokens), (.meanNorm, .mean),
                (.block(1), .mean),
            ] {
                let expected = try withThreads(1) {
                    try features(place, pool, images: 7, batch: 1, seed: seed, precision: precision).map(\.bits)
                }
                XCTAssertEqual(Set(expected).count, 7, "images that differ give features that differ")
                for (threads, batch) in [(1, 7), (2, 3), (3, 4), (2, 16)] {
                    let found = try withThreads(threads) {
                        try features(place, pool, images: 7, batch: batch, seed: seed, precision: precision).map(\.bits)
                    }
                    XCTAssertEqual(
                        found, expected, "\(place), \(pool), \(threads) threads, batches of \(batch), \(precision)")
                }
            }
        }
    }

    /// Class and mean are what they are called of all the tokens.
    func testPools() throws {
        let seed = testSeed(32)
        let width = configuration.width
        for place in [FeaturePlace.norm, .block(0), .block(2)] {
            let tokens = try features(place, .tokens, images: 3, batch: 2, seed: seed)
            let classes = try features(place, .class, images: 3, batch: 2, seed: seed)
            let means = try features(place, .mean, images: 3, batch: 2, seed: seed)
            for image in 0..<3 {
                XCTAssertEqual(tokens[image].count, 13 * width)
                XCTAssertEqual(classes[image], Array(tokens[image][..<width]))
                let expected = (0..<width).map { column in
                    Float((1...12).reduce(0.0) { $0 + Double(tokens[image][$1 * width + column]) } / 12)
                }
                XCTAssertEqual(means[image], expected)
            }
        }
    }

    /// `norm` and `fc_norm` are LayerNorms of the last block's tokens and of their mean. Random γ and β differ by name:
    /// both extractors are held to the definition, in double.
    func testNorms() throws {
        let seed = testSeed(33)
        let width = configuration.width
        for (place, pool, name) in [(FeaturePlace.norm, FeaturePool.tokens, "norm"), (.meanNorm, .mean, "fc_norm")] {
            let raw = try features(.block(2), pool, images: 2, batch: 2, seed: seed)
            let normed = try features(place, pool, images: 2, batch: 2, seed: seed)
            func vector(_ part: String, _ start: Float) -> [Double] {
                let index = Int("\(name).\(part)".utf8.reduce(0) { $0 &* 31 &+ UInt32($1) })
                var random = CounterRandom(seed: seed, purpose: .test, epoch: 2, index: index)
                return (0..<width).map { _ in Double(start + Float(random.uniform(-0.2, 0.2))) }
            }
            let (gamma, beta) = (vector("weight", 1), vector("bias", 0))
            var comparison = TensorComparison()
            for image in 0..<2 {
                let expected = stride(from: 0, to: raw[image].count, by: width).flatMap { row in
                    let x = raw[image][row..<row + width].map(Double.init)
                    let mean = x.reduce(0, +) / Double(width)
                    let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(width)
                    return (0..<width).map {
                        Float((x[$0] - mean) / (variance + 1e-6).squareRoot() * gamma[$0] + beta[$0])
                    }
                }
                // Some ten roundings of values no larger than the largest.
                comparison.compare("\(name) \(image)", expected: expected, found: normed[image], relative: 10 * 0x1p-24)
            }
            XCTAssertEqual(comparison.failures, [])
        }
    }

    func testWhatDoesNotFitIsRefused() throws {
        for (place, pool, words) in [
            (FeaturePlace.block(3), FeaturePool.class, "blocks are 0 to 2"), (.block(-1), .mean, "blocks are 0 to 2"),
            (.meanNorm, .class, "pool mean"), (.meanNorm, .tokens, "block 2"),
        ] {
            let failure = failure {
                _ = try FeatureExtractor(configuration, at: place, pool: pool, batch: 1, plan: MemoryPlan())
            }
            XCTAssertEqual(failure?.code, .usage)
            XCTAssert(failure?.message.contains(words) == true, "\(failure as Any)")
        }
    }
}
