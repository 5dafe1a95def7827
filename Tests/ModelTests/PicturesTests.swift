import Images
import Models
import Tensors
import TestSupport
import XCTest

/// Pictures that a model in training draws of what it predicts.
final class PicturesTests: XCTestCase {
    private let grey: [Float] = [0.125, -0.5, 3]

    private func model(
        _ configuration: ModelConfiguration, everyPatch: Bool = false, minimumDecoderRows: Int? = nil
    ) throws -> RandomModel {
        try RandomModel(
            configuration, batch: 4, seed: 81, predictsEveryPatch: everyPatch, minimumDecoderRows: minimumDecoderRows)
    }

    /// Visible patches are the image's, removed ones grey or what was predicted: the loss follows from the picture. It is
    /// the same however the decoder takes the batch, with a teacher and without.
    func testPictures() throws {
        for (normalizes, share, teacherWidth) in [
            (false, 1.0, Int?(20)), (true, 1, nil), (false, 0.5, nil), (true, 0.5, 20),
        ] {
            var configuration = ModelConfiguration.small(teacherWidth: teacherWidth, normalizePixels: normalizes)
            configuration.predictRatio = share
            let random = try model(configuration), student = random.observed.student, size = configuration.student
            random.observed.forward()
            let evaluated = random.observed.losses.reconstruction
            let batch = Batch(samples: [0, 1, 2, 3], images: [0, 1, 2, 3])
            let (losses, pictures) = student.reconstruct(batch, grey: grey)
            XCTAssertEqual(losses.reconstruction.bitPattern, evaluated.bitPattern)
            let plane = size.imageHeight * size.imageWidth
            var sum = 0.0, predicted = 0
            for (image, picture) in pictures.enumerated() {
                let original = Array(student.images.rows(image..<image + 1).elements)
                for patch in 0..<size.patches {
                    let (row, column) = patch.quotientAndRemainder(dividingBy: size.gridColumns)
                    let pixels = (0..<size.patchElements).map { element -> (pixel: Int, channel: Int) in
                        let (place, channel) = element.quotientAndRemainder(dividingBy: 3)
                        let (y, x) = place.quotientAndRemainder(dividingBy: size.patchSize)
                        return (
                            channel * plane + (row * size.patchSize + y) * size.imageWidth + column * size.patchSize
                                + x,
                            channel
                        )
                    }
                    func values(_ picture: [Float]) -> [Float] { pixels.map { picture[$0.pixel] } }
                    let target = values(original), ground = pixels.map { grey[$0.channel] }
                    guard student.masking.mask.pointer[image * size.patches + patch] == 1 else {
                        XCTAssertEqual(values(picture.masked), target)
                        XCTAssertEqual(values(picture.reconstruction), target)
                        continue
                    }
                    XCTAssertEqual(values(picture.masked), ground)
                    let drawn = values(picture.reconstruction)
                    guard drawn != ground else { continue }
                    predicted += 1
                    let mean = target.reduce(0.0) { $0 + Double($1) } / Double(target.count)
                    let variance =
                        target.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) } / Double(target.count - 1)
                    let scale = normalizes ? 1 / (variance + 1e-6).squareRoot() : 1
                    sum += zip(drawn, target).reduce(0.0) {
                        let difference = (Double($1.0) - Double($1.1)) * scale
                        return $0 + difference * difference
                    }
                }
            }
            XCTAssertEqual(predicted, 4 * student.masking.predictedCount)
            let mean = sum / Double(predicted * size.patchElements)
            // 48 terms in float32, and a prediction that is scaled there and back: (48 + 4) · 2^-24 = 3.1e-6.
            XCTAssertEqual(mean, Double(evaluated), accuracy: 4e-6 * mean, "\(normalizes), \(share)")
            for other in [
                try model(configuration, everyPatch: true), try model(configuration, minimumDecoderRows: 1),
            ] {
                let found = other.observed.student.reconstruct(batch, grey: grey).pictures
                XCTAssertEqual(found.map(\.reconstruction.bits), pictures.map(\.reconstruction.bits))
                XCTAssertEqual(found.map(\.masked), pictures.map(\.masked))
            }
            // A part of the batch.
            let two = student.reconstruct(Batch(samples: [0, 1], images: [0, 1]), grey: grey).pictures
            XCTAssertEqual(two.map(\.reconstruction.bits), pictures.prefix(2).map(\.reconstruction.bits))
        }
    }

    /// Drawn between two micro-batches, they leave no trace in the gradients.
    func testNoTrace() throws {
        let plain = try model(.small()), drawn = try model(.small())
        for (random, draws) in [(plain, false), (drawn, true)] {
            random.observed.addGradients(isFirst: true)
            if draws { _ = random.observed.student.reconstruct(Batch(samples: [9], images: [0]), grey: grey) }
            random.observed.addGradients(isFirst: false)
        }
        for (one, other) in zip(plain.parameters.all, drawn.parameters.all) {
            XCTAssertEqual(one.gradient?.values.bits, other.gradient?.values.bits, one.name)
        }
    }
}
