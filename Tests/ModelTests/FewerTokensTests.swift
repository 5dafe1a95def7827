import Models
import Tensors
import TestSupport
import XCTest

/// A decoder that predicts some of the removed patches, a student without a decoder, and a teacher that sees more.
final class FewerTokensTests: XCTestCase {
    /// max(1, int(ρ·removed)) of 147, 177, 193 removed patches, and at least one.
    func testPredictedCounts() {
        for (maskRatio, predictRatio, predicted) in [
            (0.75, 1.0, 147), (0.75, 0.25, 36), (0.9, 0.5, 88), (0.98, 0.25, 48), (0.98, 0.001, 1),
        ] {
            var configuration = ModelConfiguration.small(imageHeight: 56, imageWidth: 56)
            XCTAssertEqual(configuration.student.patches, 196)
            (configuration.maskRatio, configuration.predictRatio) = (maskRatio, predictRatio)
            XCTAssertEqual(configuration.predictedPatches(), predicted, "\(maskRatio), \(predictRatio)")
        }
    }

    /// The decoder's patches are those at the first K+P places, ascending, against a sort of the same noise; the
    /// teacher's begin with the student's.
    func testDecodedPatches() throws {
        let seed = testSeed(81)
        var configuration = ModelConfiguration.small(imageHeight: 28, imageWidth: 20, maskRatio: 0.8)
        configuration.predictRatio = 0.3
        let model = try RandomModel(configuration, batch: 3, seed: seed), masking = model.observed.masking
        let (patches, kept, predicted) = (35, 6, 8)
        XCTAssertEqual([masking.patches, masking.keptCount, masking.predictedCount], [patches, kept, predicted])
        var random = CounterRandom(seed: seed, purpose: .test)
        let noise = (0..<3 * patches).map { _ in random.uniform() }
        masking.select(.noise(noise)) { $0 }
        for image in 0..<3 {
            let numbers = Array(noise[image * patches..<(image + 1) * patches])
            let order = (0..<patches).sorted { numbers[$0] < numbers[$1] }
            let wanted = order[..<(kept + predicted)].sorted()
            XCTAssertEqual((0..<masking.decodedCount).map { masking.decodedPatch(image, $0) }, wanted)
            XCTAssertEqual(wanted.map { masking.decodedIndex(image, ofPatch: $0) }, Array(0..<kept + predicted))
        }
    }

    /// The loss is the mean squared error of the predicted patches, and a trained decoder, which computes its last block
    /// for them alone and shares mask tokens, has the bits of one that does neither.
    func testLossIsTheMeanOverPredictedPatches() throws {
        for (maskRatio, predictRatio) in [(0.5, 0.5), (0.9, 0.5), (0.75, 0.1)] {
            var configuration = ModelConfiguration.small(maskRatio: maskRatio)
            configuration.predictRatio = predictRatio
            configuration.decoder = DecoderConfiguration(width: 16, depth: 2, heads: 2)
            let whole = try RandomModel(configuration, batch: 16, seed: 82, training: false)
            let trained = try RandomModel(configuration, batch: 16, seed: 82)
            whole.observed.forward()
            trained.step()
            let masking = whole.observed.masking, elements = configuration.student.patchElements
            XCTAssertEqual(trained.observed.decoder.prediction.rows, 16 * masking.predictedCount)
            XCTAssertEqual(
                trained.observed.losses.reconstruction.bitPattern, whole.observed.losses.reconstruction.bitPattern)
            var sum = 0.0
            var target = [Float](repeating: 0, count: elements)
            for image in 0..<16 {
                for index in 0..<masking.decodedCount {
                    let patch = masking.decodedPatch(image, index)
                    guard masking.place(image, ofPatch: patch) >= masking.keptCount else { continue }
                    TargetPatch.read(
                        whole.observed.images, configuration.student, image: image, patch: patch, into: &target)
                    let row = image * (1 + masking.decodedCount) + 1 + index
                    for (value, wanted) in zip(whole.observed.decoder.prediction.rows(row..<row + 1).values, target) {
                        sum += Double(value - wanted) * Double(value - wanted)
                    }
                }
            }
            let mean = sum / Double(16 * masking.predictedCount * elements)
            // A patch's mean is rounded to float32, and so is the loss.
            XCTAssertEqual(Double(trained.observed.losses.reconstruction), mean, accuracy: 4 * 0x1p-24 * mean)
        }
    }

    /// The total is w times the reconstruction loss plus α times the distance; the gradient of a tensor that the
    /// distance does not reach is w times that of MAE.
    func testReconstructionWeight() throws {
        let plain = try RandomModel(.small(weight: 0), batch: 2, seed: 83)
        var configuration = ModelConfiguration.small(weight: 0.5)
        configuration.reconstructionWeight = 0.25
        let weighted = try RandomModel(configuration, batch: 2, seed: 83)
        plain.step()
        weighted.step()
        let losses = weighted.observed.losses
        XCTAssertEqual(losses.reconstruction.bitPattern, plain.observed.losses.reconstruction.bitPattern)
        XCTAssertEqual(losses.total, 0.5 * losses.alignments[0] + 0.25 * losses.reconstruction)
        let (expected, found) = (plain.gradients(), weighted.gradients())
        // A factor of 1/4 changes no bit.
        for (name, values) in expected where name.hasPrefix("decoder") || name.hasPrefix("blocks.2.") {
            XCTAssertEqual(found[name]!.bits, values.map { 0.25 * $0 }.bits, name)
        }
    }

    /// Without a reconstruction loss nothing of a decoder is planned, blocks after the last aligned one are not trained,
    /// and the loss is the weighted distance. (Gradients and updated weights: the recording no_decoder.)
    func testNoDecoder() throws {
        var configuration = ModelConfiguration.small(weight: 0.5)
        let whole = try RandomModel(configuration, batch: 2, seed: 84)
        configuration.reconstructionWeight = 0
        let model = try RandomModel(configuration, batch: 2, seed: 84)
        let decoder = ModelLayout(whole.observed.configuration).count { $0 == .decoder }
        XCTAssertLessThan(model.plan.totalBytes, whole.plan.totalBytes - 2 * 4 * decoder, "weights and gradients")
        XCTAssertNil(model.observed.student.decoder)
        XCTAssertEqual(model.observed.objective.lossTerms.map(\.key), ["loss", "loss_align"])
        XCTAssertEqual(
            Set(model.parameters.all.map(\.name)), Set(ModelLayout(configuration).entries.map(\.name)))
        // Vectors are drawn by their place in the model, which differs.
        for parameter in model.parameters.all {
            parameter.weight.copy(from: try XCTUnwrap(whole.parameters.all.first { $0.name == parameter.name }).weight)
        }
        whole.step()
        model.step()
        let distance = whole.observed.losses.alignments[0]
        XCTAssertEqual(model.observed.losses.values, [0.5 * distance, distance])
        let untrained = model.parameters.all.filter { !$0.isTrained }.map(\.name)
        XCTAssertTrue(untrained.contains("norm.weight") && untrained.contains("blocks.2.attn.qkv.weight"))
        XCTAssertFalse(untrained.contains("blocks.1.attn.qkv.weight"))
        // Initial values are those of a model with a decoder.
        model.parameters.initialize(seed: 84)
        whole.parameters.initialize(seed: 84)
        for parameter in model.parameters.all {
            let same = try XCTUnwrap(whole.parameters.all.first { $0.name == parameter.name })
            XCTAssertEqual(same.weight.values.bits, parameter.weight.values.bits, parameter.name)
        }
        XCTAssertEqual(Operations(configuration).decoder, 0)
        XCTAssertLessThan(Operations(configuration).student, Operations(whole.observed.configuration).student)
    }

    /// A teacher that sees more than the student is compared at the student's tokens: with the features of the same
    /// teacher in a model whose student sees as much.
    func testTeacherThatSeesMore() throws {
        var configuration = ModelConfiguration.small(maskRatio: 0.75)
        configuration.teacherMaskRatio = 0.25
        let model = try RandomModel(configuration, batch: 2, seed: 85)
        let other = try RandomModel(.small(maskRatio: 0.25), batch: 2, seed: 85)
        model.step()
        other.step()
        let feature = model.observed.alignments[0].teacherFeature, whole = other.observed.alignments[0].teacherFeature
        let (rows, teacherRows) = (1 + 3, 1 + 9)
        XCTAssertEqual([feature.rows, whole.rows], [2 * rows, 2 * teacherRows])
        for image in 0..<2 {
            let first = image * teacherRows
            XCTAssertEqual(
                feature.rows(image * rows..<(image + 1) * rows).values.bits,
                whole.rows(first..<first + rows).values.bits)
        }
        XCTAssertEqual(Operations(configuration).teacher, Operations(other.observed.configuration).teacher)
        XCTAssertLessThan(Operations(configuration).student, Operations(other.observed.configuration).student)
    }

    /// The paper's step with a quarter of the removed patches predicted: 62 GFLOP an image at 75 %, 12 at 98 %.
    func testOperationsOfThePaper() throws {
        for (maskRatio, total) in [(0.75, 62.0), (0.98, 12.0)] {
            var configuration = ModelConfiguration(
                student: Preset.encoder("vit-base", imageHeight: 224, imageWidth: 224)!,
                decoder: Preset.decoder("dec512d8")!,
                teacher: Preset.encoder("vit-large", imageHeight: 224, imageWidth: 224)!,
                alignment: AlignmentConfiguration(pairs: [AlignedPair(studentBlock: 8, teacherBlock: 17)]),
                maskRatio: maskRatio)
            configuration.predictRatio = 0.25
            XCTAssertEqual(Operations(configuration).total, total, accuracy: 0.5)
            // Counted by hand: whole blocks, and a last one in which P patches have queries.
            let kept = configuration.keptPatches, predicted = configuration.predictedPatches()
            let tokens = Double(1 + kept + predicted), removed = Double(predicted)
            func block(_ queries: Double) -> Double {
                3 * 2 * (tokens * 2 + queries * 10) * 512 * 512 + 3.5 * 2 * 2 * queries * tokens * 512
            }
            let wanted =
                7 * block(tokens) + block(removed) + 6 * Double(1 + kept) * 512 * 768 + 6 * removed * 512 * 768
            XCTAssertEqual(Operations(configuration).decoder, wanted * 1e-9, accuracy: 1e-9)
        }
    }
}
