import Images
import Tensors

extension MaskedAutoencoder {
    /// What a pass saw and predicted of one image: normalised pixels [C, H, W].
    public struct Picture {
        /// The image with grey in place of the removed patches.
        public fileprivate(set) var masked: [Float]
        /// The image with the predictions in place of the predicted patches, and with grey in place of removed ones that
        /// are not predicted.
        public fileprivate(set) var reconstruction: [Float]
    }

    /// Computes the losses of the batch in `images` as `evaluate` does, and draws its images. The model must have a
    /// decoder.
    ///
    /// - Parameter grey: what stands in place of removed patches, a value for each channel.
    public func reconstruct(_ batch: Batch, grey: [Float]) -> (losses: Losses, pictures: [Picture]) {
        guard let decoder else { preconditionFailure("without a decoder nothing is predicted") }
        let size = configuration.student, elements = size.patchElements
        select(batch)
        encode()
        let greyPatch = (0..<elements).map { grey[$0 % size.channels] }
        var pictures = (0..<batch.count).map { image in
            var masked = Array(images.rows(image..<image + 1).elements)
            masked.withUnsafeMutableBufferPointer { pixels in
                for patch in 0..<masking.patches where masking.mask.pointer[image * masking.patches + patch] == 1 {
                    TargetPatch.write(greyPatch, size, patch: patch, into: pixels.baseAddress!)
                }
            }
            return Picture(masked: masked, reconstruction: masked)
        }
        var values = [Float](repeating: 0, count: elements)
        let losses = decode(images: batch.count) { part in
            forEachPrediction(of: part) { image, patch, row in
                guard image < batch.count else { return }
                values.withUnsafeMutableBufferPointer {
                    predicted(decoder.prediction.pointer + row * elements, image, patch, $0.baseAddress!)
                }
                pictures[image].reconstruction.withUnsafeMutableBufferPointer {
                    TargetPatch.write(values, size, patch: patch, into: $0.baseAddress!)
                }
            }
        }
        return (losses, pictures)
    }

    /// Calls `body` for each predicted patch of the part of the batch that the decoder processed last: its image, the
    /// patch, and its row of the prediction.
    private func forEachPrediction(of part: Range<Int>, _ body: (_ image: Int, _ patch: Int, _ row: Int) -> Void) {
        for (number, image) in part.enumerated() {
            if decoder!.computesPredictedOnly {
                for place in 0..<masking.predictedCount {
                    body(image, masking.removedPatch(image, place), number * masking.predictedCount + place)
                }
            } else {
                for place in 0..<masking.decodedCount {
                    let patch = masking.decodedPatch(image, place)
                    guard masking.mask.pointer[image * masking.patches + patch] == 1 else { continue }
                    body(image, patch, number * (1 + masking.decodedCount) + 1 + place)
                }
            }
        }
    }

    /// Writes the pixels of one predicted patch to `values`. A prediction of standardised pixels is scaled back by the
    /// mean and deviation of the original patch.
    private func predicted(
        _ row: UnsafePointer<Float>, _ image: Int, _ patch: Int, _ values: UnsafeMutablePointer<Float>
    ) {
        let count = configuration.student.patchElements
        guard configuration.normalizePixels else { return values.update(from: row, count: count) }
        TargetPatch.read(images, configuration.student, image: image, patch: patch, into: values)
        let (mean, deviation) = TargetPatch.statistics(values, count)
        for i in 0..<count { values[i] = row[i] * deviation + mean }
    }
}

extension TargetPatch {
    /// Writes the values of patch `patch` into an image's pixels [C, H, W]: the inverse of `read`.
    static func write(
        _ values: [Float], _ configuration: EncoderConfiguration, patch: Int, into pixels: UnsafeMutablePointer<Float>
    ) {
        let (side, channels, width) = (configuration.patchSize, configuration.channels, configuration.imageWidth)
        let plane = configuration.imageHeight * width
        let (row, column) = patch.quotientAndRemainder(dividingBy: configuration.gridColumns)
        var place = 0
        for y in 0..<side {
            for x in 0..<side {
                let pixel = (row * side + y) * width + column * side + x
                for channel in 0..<channels {
                    pixels[channel * plane + pixel] = values[place]
                    place += 1
                }
            }
        }
    }
}
