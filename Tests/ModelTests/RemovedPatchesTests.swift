import Models
import Tensors
import TestSupport
import XCTest

/// The loss reads removed patches alone, so a decoder whose last block, norm and prediction run for them alone gives
/// the same.
final class RemovedPatchesTests: XCTestCase {
    private func model(_ configuration: ModelConfiguration, everyPatch: Bool) throws -> RandomModel {
        let model = try RandomModel(configuration, batch: 3, seed: 71, predictsEveryPatch: everyPatch)
        model.step()
        return model
    }

    /// Each removed patch's prediction has the very bits of the whole one, and so has the loss, which sums in the order
    /// of patches. Gradients differ in the order of their sums: a few hundred terms in float32, and what follows from
    /// them in some dozen layers: (300 + 12·30)·2⁻²⁴ = 4e-5 of a tensor's largest gradient.
    func testSameAsPredictingEveryPatch() throws {
        for ratio in [0.1, 0.5, 0.75, 0.9] {
            for normalizePixels in [false, true] {
                var configuration = ModelConfiguration.small()
                configuration.maskRatio = ratio
                configuration.normalizePixels = normalizePixels
                let whole = try model(configuration, everyPatch: true),
                    removed = try model(configuration, everyPatch: false)
                let masking = whole.observed.masking
                let (all, some) = (whole.observed.decoder.prediction, removed.observed.decoder.prediction)
                XCTAssertEqual(some.rows, 3 * (masking.patches - masking.keptCount))
                for row in 0..<some.rows {
                    let image = row / masking.removedCount
                    let patch = (0..<masking.patches).first {
                        masking.place(image, ofPatch: $0) == masking.keptCount + row % masking.removedCount
                    }!
                    let wanted = all.rows(
                        image * (1 + masking.patches) + 1 + patch..<image * (1 + masking.patches) + 2 + patch)
                    XCTAssertEqual(
                        some.rows(row..<row + 1).values.bits, wanted.values.bits, "ratio \(ratio), row \(row)")
                }
                XCTAssertEqual(whole.observed.losses.total, removed.observed.losses.total)
                let (expected, got) = (whole.gradients(), removed.gradients())
                for (name, values) in expected {
                    let largest = values.reduce(0) { max($0, abs($1)) }
                    let difference = zip(values, got[name]!).reduce(0) { max($0, abs($1.0 - $1.1)) }
                    XCTAssertLessThanOrEqual(difference, 4e-5 * largest + 1e-9, "ratio \(ratio), \(name)")
                    XCTAssertFalse(values.allSatisfy { $0 == 0 } && !name.contains("attn.qkv.bias"), name)
                }
            }
        }
    }

    /// The decoder sees the batch in parts of as many images as have enough tokens. Whatever concerns single rows has
    /// the same bits: the loss, the encoder's gradients, the mask token's. The decoder's sum over other rows first: at
    /// most 4·13 terms, 52·2⁻²⁴ = 3.1e-6 of the sum of their magnitudes, which is taken to be up to sixteen times a
    /// tensor's largest gradient.
    func testDecoderInParts() throws {
        var configuration = ModelConfiguration.small()
        configuration.decoder = DecoderConfiguration(width: 16, depth: 2, heads: 2)
        let tokens = 1 + configuration.student.patches
        for precision in [Precision.f32, .bf16] {
            func model(images: Int) throws -> RandomModel {
                let model = try RandomModel(
                    configuration, batch: 4, seed: 72, precision: precision, minimumDecoderRows: images * tokens)
                let rows = images == 3 ? 4 : images
                XCTAssertEqual(
                    model.observed.decoder.prediction.rows, rows * model.observed.masking.removedCount,
                    "3 does not divide 4")
                model.step()
                return model
            }
            let whole = try model(images: 4)
            for images in 1...3 {
                let parts = try model(images: images)
                XCTAssertEqual(parts.observed.losses.total.bitPattern, whole.observed.losses.total.bitPattern)
                let (expected, got) = (whole.gradients(), parts.gradients())
                for (name, values) in expected {
                    let found = got[name]!
                    guard name.hasPrefix("decoder"), images < 3 else {
                        XCTAssertEqual(found.bits, values.bits, "parts of \(images), \(name)")
                        continue
                    }
                    let largest = values.reduce(0) { max($0, abs($1)) }
                    let difference = zip(values, found).reduce(0) { max($0, abs($1.0 - $1.1)) }
                    XCTAssertLessThanOrEqual(difference, 5e-5 * largest + 1e-9, "parts of \(images), \(name)")
                    XCTAssertTrue(name.contains("bias") || found != values, "\(name) was summed as in one part")
                }
            }
        }
    }

    /// Mask tokens in one place are alike in every image, and worked out once. A trained decoder shares them where that
    /// halves the rows, a decoder that only predicts does not: the pixel loss has the same bits. Gradients are held to
    /// finite differences elsewhere; here, to those of a batch of one image at a time, which has nothing to share:
    /// 3.1e-6 of the sum of magnitudes as above, and the mean of four images' gradients adds two roundings more.
    func testSharedMaskTokens() throws {
        var configuration = ModelConfiguration.small(maskRatio: 0.9)
        configuration.decoder = DecoderConfiguration(width: 16, depth: 2, heads: 2)
        for precision in [Precision.f32, .bf16] {
            let shared = try RandomModel(configuration, batch: 4, seed: 73, precision: precision)
            let plain = try RandomModel(configuration, batch: 4, seed: 73, training: false, precision: precision)
            let tokens = Double(1 + configuration.student.patches), kept = Double(configuration.keptPatches)
            let saved = tokens - (1 + kept + (tokens - 1) / 4), width = Double(configuration.decoder.width)
            XCTAssertEqual(
                Operations(configuration).decoder - shared.observed.operations.decoder,
                3 * 2 * saved * 3 * width * width * 1e-9,
                accuracy: 1e-15)
            shared.step()
            plain.observed.forward()
            XCTAssertEqual(
                shared.observed.losses.reconstruction.bitPattern, plain.observed.losses.reconstruction.bitPattern)

            let single = try RandomModel(configuration, batch: 1, seed: 73, precision: precision)
            XCTAssertEqual(single.observed.operations.decoder, Operations(configuration).decoder)
            for image in 0..<4 {
                single.observed.images.copy(from: shared.observed.images.rows(image..<image + 1))
                single.observed.draw(seed: 73, from: image)
                single.observed.addGradients(scale: 0.25, isFirst: image == 0)
            }
            // A shared gradient is rounded to bf16 as a sum, not summand by summand: half a unit of 2⁻⁸, through a
            // block.
            let tolerance: Float = precision == .f32 ? 5e-5 : 0x1p-7
            let (expected, got) = (single.gradients(), shared.gradients())
            for (name, values) in expected {
                let largest = values.reduce(0) { max($0, abs($1)) }
                let difference = zip(values, got[name]!).reduce(0) { max($0, abs($1.0 - $1.1)) }
                XCTAssertLessThanOrEqual(difference, tolerance * largest + 1e-8, "\(precision), \(name)")
            }
        }
    }

    /// Fewer products than for every patch; nothing saved where nothing is removed.
    func testWorkIsCountedAsDone() throws {
        var configuration = ModelConfiguration.small()
        configuration.maskRatio = 0.5
        let some = Operations(configuration).decoder
        let (tokens, width, student) = (
            Double(1 + configuration.student.patches), Double(configuration.decoder.width), configuration.student
        )
        let kept = Double(configuration.keptPatches), removed = Double(student.patches) - kept
        func block(_ queries: Double) -> Double {
            3 * 2 * (tokens * 2 + queries * 10) * width * width + 3.5 * 2 * 2 * queries * tokens * width
        }
        let wanted =
            Double(configuration.decoder.depth - 1) * block(tokens) + block(removed)
            + 6 * (1 + kept) * width * Double(student.width) + 6 * removed * width * Double(student.patchElements)
        XCTAssertEqual(some, wanted * 1e-9, accuracy: 1e-12)
    }
}
