import Interchange
import Reporting
import Foundation
import Images
import Models
import Tensors
import TestSupport
import Training
import XCTest

/// How far a teacher in int8 is from the same teacher in float32.
///
/// A row of d values loses at most half a step in each, s = (highest - lowest)/255 <= √2·‖x‖/255: independent errors of
/// s/√12 lose √2·√d/(255·√12) of the row's norm; a weight's row likewise, of 2·‖w‖/254 a step. A linear layer loses
/// both, S of them in a row √S times as much, and twice that is the bound. Real rows are spread more evenly than the
/// worst one, so errors are mostly far below it.
final class TeacherPrecisionTests: XCTestCase {
    /// Blocks that a feature comes through, and the longest row that is rounded.
    private func bound(blocks: Int, width: Int) -> Double {
        let root = (4 * Double(width)).squareRoot(), activations = 2.0.squareRoot() * root / (255 * 12.0.squareRoot())
        let weights = 2 * root / (254 * 12.0.squareRoot())
        return 2 * (4 * Double(blocks)).squareRoot() * (activations * activations + weights * weights).squareRoot()
    }

    private func distance(_ values: [Float], _ others: [Float]) -> Double {
        var difference = 0.0, square = 0.0
        for (value, other) in zip(values, others) {
            difference += pow(Double(value) - Double(other), 2)
            square += pow(Double(other), 2)
        }
        return (difference / square).squareRoot()
    }

    /// The features move by int8's rounding and no more, with every instruction set; nothing else of the step sees it.
    func testFeaturesOfRandomWeights() throws {
        let seed = testSeed(31),
            configuration = ModelConfiguration.small(pairs: [AlignedPair(studentBlock: 1, teacherBlock: 2)])
        let ran = try withEachInstructionSet { set in
            for precision in [Precision.f32, .bf16] {
                let models = try [TeacherPrecision.same, .int8].map {
                    try RandomModel(configuration, batch: 5, seed: seed, precision: precision, teacherPrecision: $0)
                }
                models.forEach { $0.step() }
                let features = models.map { $0.observed.alignments[0].teacherFeature.values }
                let distance = distance(features[1], features[0])
                XCTAssertGreaterThan(distance, 1e-4, "\(set.name), \(precision): nothing was rounded to int8")
                XCTAssertLessThan(distance, bound(blocks: 3, width: 20), "\(set.name), \(precision)")
                print("\(set.name), \(precision): features off by \(distance) of their norm")
                let losses = models.map(\.observed.losses)
                XCTAssertEqual(losses[1].reconstruction, losses[0].reconstruction)
                XCTAssertNotEqual(losses[1].alignments, losses[0].alignments)
                // Weights of one byte, with two words of each row, instead of two or four.
                let bytes = models.map { $0.plan.bytes(of: .teacherWeights) }
                if Precision.int8.isNative { XCTAssertLessThan(bytes[1], bytes[0]) }
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// Sums of more than 65,536 products of bytes could overflow, and the MLP is four times as wide as the model.
    func testTeachersTooWideForInt8() throws {
        for (width, isRefused) in [(16_384, false), (16_388, true)] {
            let configuration = ModelConfiguration.small(teacherWidth: width)
            func make(_ precision: TeacherPrecision) -> Failure? {
                failure {
                    _ = try ObservedModel(configuration, batch: 1, plan: MemoryPlan(), teacherPrecision: precision)
                }
            }
            XCTAssertNil(make(.same))
            XCTAssertEqual(make(.int8)?.code, isRefused ? .usage : nil)
            XCTAssertEqual(make(.int8)?.message.contains("at most 16384, not 16388"), isRefused ? true : nil)
        }
    }

    /// The demo's teacher on the demo's pictures. DMAE_TEACHER names another teacher to measure, on the same pictures.
    func testFeaturesOfATrainedTeacher() throws {
        let path = ProcessInfo.processInfo.environment["DMAE_TEACHER"] ?? Fixtures.path("demo/teacher.safetensors")
        let weights = try ModelWeights(path: path, role: .teacher), encoder = weights.encoder
        let last = encoder.depth * 3 / 4 - (encoder.depth % 4 == 0 ? 1 : 0)
        let configuration = ModelConfiguration(
            student: EncoderConfiguration(
                width: 16, depth: 1, heads: 2, patchSize: encoder.patchSize, imageHeight: encoder.imageHeight,
                imageWidth: encoder.imageWidth, channels: encoder.channels),
            decoder: DecoderConfiguration(width: 16, depth: 1, heads: 2), teacher: encoder,
            alignment: AlignmentConfiguration(
                pairs: [AlignedPair(studentBlock: 0, teacherBlock: last)], distance: .l1, projection: .linear, weight: 1
            ),
            maskRatio: 0.75)
        let batch = 32
        func features(_ precision: Precision, _ teacherPrecision: TeacherPrecision) throws -> (
            raw: [Float], unit: [Float]
        ) {
            let plan = MemoryPlan()
            let observed = try ObservedModel(
                configuration, batch: batch, plan: plan, precision: precision,
                teacherPrecision: teacherPrecision)
            try plan.commit()
            observed.parameters.initialize(seed: 1)
            let teacher = observed.teacherParameters!
            teacher.initializePositions()
            _ = try teacher.load(from: weights, for: encoder)
            let folder = try ImageFolder(Fixtures.path("demo/images"))
            let normalisation = Normalisation.imageNet(channels: encoder.channels)
            for image in 0..<batch {
                let picture = try Pixels(
                    contentsOf: folder.path(image * folder.count / batch), channels: encoder.channels)
                normalisation.write(
                    picture.resized(width: encoder.imageWidth, height: encoder.imageHeight),
                    to: observed.images.pointer + image * observed.images.columns)
            }
            observed.draw(seed: 1)
            observed.forward()
            let raw = observed.alignments[0].teacherFeature.values
            var unit = raw
            for row in 0..<raw.count / encoder.width {
                let range = row * encoder.width..<(row + 1) * encoder.width
                let norm = raw[range].reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
                for i in range { unit[i] = Float(Double(raw[i]) / norm) }
            }
            return (raw, unit)
        }
        let f32 = try features(.f32, .same)
        for (precision, teacherPrecision) in [(Precision.bf16, TeacherPrecision.same), (.f32, .int8), (.bf16, .int8)] {
            let other = try features(precision, teacherPrecision)
            let distance = distance(other.raw, f32.raw)
            print(
                "features after block \(last), \(precision) \(teacherPrecision): off by \(distance) of their norm, "
                    + "\(self.distance(other.unit, f32.unit)) on the unit sphere")
            XCTAssertGreaterThan(distance, 1e-4)
            XCTAssertLessThan(distance, bound(blocks: last + 1, width: encoder.width))
        }
    }
}
