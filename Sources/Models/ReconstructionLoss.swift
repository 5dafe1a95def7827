import Tensors

// Letters: B batch, N images of a part of it, L patches, K kept ones, P predicted ones, p patch side, C channels.

/// MAE's pixel loss: the squared error, averaged over the values of a predicted patch and over the predicted patches of
/// the batch. In MAE these are all removed patches.
public final class ReconstructionLoss {
    private let configuration: EncoderConfiguration
    private let masking: Masking
    private let normalizesPixels: Bool
    /// Mean squared error of each patch, zero for those that are not predicted: [B, L].
    private let patchLosses: Tensor
    private let computesPredictedOnly: Bool
    private let plan: MemoryPlan
    private let phase: Phase
    /// Gradient with respect to the decoder's prediction for a part of the batch: [N·(1+K+P), p·p·C] with class
    /// rows, or [N·P, p·p·C].
    let dPrediction: Tensor

    init(
        _ configuration: EncoderConfiguration, masking: Masking, images: Int, normalizesPixels: Bool,
        computesPredictedOnly: Bool,
        at phases: DecoderPhases, plan: MemoryPlan
    ) {
        self.configuration = configuration
        self.masking = masking
        self.normalizesPixels = normalizesPixels
        self.computesPredictedOnly = computesPredictedOnly
        patchLosses = plan.reserve(
            "patch losses", masking.batch, masking.patches, .scratch,
            alive: .during(phases.start...(phases.backward?.complete ?? phases.loss)))
        dPrediction = plan.reserve(
            "prediction gradient", images * (computesPredictedOnly ? masking.predictedCount : 1 + masking.decodedCount),
            configuration.patchElements, .scratch,
            alive: .during(phases.loss...(phases.backward?.prediction ?? phases.loss)))
        self.plan = plan
        phase = phases.loss
    }

    /// Computes the squared errors of the decoder's prediction for the images `part` of images[B, C, H, W], and writes
    /// `dPrediction`, the gradient of `scale` times the loss of the whole batch.
    func lossAndGradient(_ images: Tensor, part: Range<Int>, prediction: Tensor, scale: Float) {
        plan.begin(phase)
        let rows = Rows(
            images: images, firstImage: part.lowerBound, prediction: prediction, dPrediction: dPrediction,
            losses: patchLosses,
            masking: masking, configuration: configuration, normalizesPixels: normalizesPixels,
            computesPredictedOnly: computesPredictedOnly,
            gradientScale: 2 * scale
                / (Float(configuration.patchElements) * Float(max(1, masking.batch * masking.predictedCount))))
        patchLosses.rows(part).clear()
        if computesPredictedOnly {
            rows.runAll(part.count * masking.predictedCount, chunk: 16)
        } else {
            rows.runAll(part.count * masking.decodedCount, chunk: 16)
            // The class token predicts nothing.
            for image in 0..<part.count {
                (dPrediction.pointer + image * (1 + masking.decodedCount) * dPrediction.columns)
                    .update(repeating: 0, count: dPrediction.columns)
            }
        }
    }

    /// The loss of the first `images` images of the batch; valid after `lossAndGradient` of every part.
    func loss(images: Int) -> Float {
        let sum = patchLosses.rows(0..<images).elements.reduce(0.0) { $0 + Double($1) }
        return Float(sum / Double(max(1, images * masking.predictedCount)))
    }

    private struct Rows: ParallelRows {
        let images: Tensor
        let firstImage: Int
        let prediction: Tensor
        let dPrediction: Tensor
        let losses: Tensor
        let masking: Masking
        let configuration: EncoderConfiguration
        let normalizesPixels: Bool
        let computesPredictedOnly: Bool
        let gradientScale: Float

        /// Image of the batch, patch, and row of the prediction, for patch `index` of the part.
        private func place(_ index: Int) -> (image: Int, patch: Int, row: Int) {
            if computesPredictedOnly {
                let (image, place) = index.quotientAndRemainder(dividingBy: masking.predictedCount)
                return (firstImage + image, masking.removedPatch(firstImage + image, place), index)
            }
            let (image, decoded) = index.quotientAndRemainder(dividingBy: masking.decodedCount)
            return (
                firstImage + image, masking.decodedPatch(firstImage + image, decoded),
                image * (1 + masking.decodedCount) + 1 + decoded
            )
        }

        func run(_ range: Range<Int>) {
            let elements = configuration.patchElements
            for index in range {
                let (image, patch, row) = place(index)
                let start = row * elements, loss = losses.pointer + image * masking.patches + patch
                // The gradient's row holds the target until the gradient takes its place.
                let gradient = dPrediction.pointer + start
                guard masking.mask.pointer[image * masking.patches + patch] == 1 else {
                    loss.pointee = 0
                    gradient.update(repeating: 0, count: elements)
                    continue
                }
                TargetPatch.read(images, configuration, image: image, patch: patch, into: gradient)
                if normalizesPixels { TargetPatch.standardize(gradient, elements) }
                let predicted = prediction.pointer + start
                let sum = SIMDRow.sum(
                    elements,
                    {
                        let difference = SIMDRow.load(predicted + $0) - SIMDRow.load(gradient + $0)
                        return difference * difference
                    },
                    {
                        let difference = predicted[$0] - gradient[$0]
                        return difference * difference
                    })
                loss.pointee = Float(sum / Double(elements))
                var i = 0
                while i + 16 <= elements {
                    SIMDRow.store(
                        (SIMDRow.load(predicted + i) - SIMDRow.load(gradient + i)) * gradientScale, gradient + i)
                    i += 16
                }
                while i < elements {
                    gradient[i] = (predicted[i] - gradient[i]) * gradientScale
                    i += 1
                }
            }
        }
    }
}

/// The target of a patch's prediction: its pixels in (row, column, channel) order.
public enum TargetPatch {
    /// Reads patch `patch` of image `image` of images[B, C, H, W] into `target` [p·p·C].
    public static func read(
        _ images: Tensor, _ configuration: EncoderConfiguration, image: Int, patch: Int,
        into target: UnsafeMutablePointer<Float>
    ) {
        let side = configuration.patchSize
        let channels = configuration.channels
        let width = configuration.imageWidth
        let plane = configuration.imageHeight * width
        let (row, column) = patch.quotientAndRemainder(dividingBy: configuration.gridColumns)
        let source = images.pointer + image * channels * plane + row * side * width + column * side
        for channel in 0..<channels {
            for y in 0..<side {
                let line = source + channel * plane + y * width
                var place = y * side * channels + channel
                for x in 0..<side {
                    target[place] = line[x]
                    place += channels
                }
            }
        }
    }

    /// The mean and the standard deviation sqrt(unbiased variance + 1e-6) of `count` values, at least 2.
    public static func statistics(_ values: UnsafePointer<Float>, _ count: Int) -> (mean: Float, deviation: Float) {
        let mean = SIMDRow.sum(count, { SIMDRow.load(values + $0) }, { values[$0] }) / Double(count)
        let center = Float(mean)
        let squares = SIMDRow.sum(
            count,
            {
                let difference = SIMDRow.load(values + $0) - center
                return difference * difference
            },
            {
                let difference = values[$0] - center
                return difference * difference
            })
        return (center, Float((squares / Double(count - 1) + 1e-6).squareRoot()))
    }

    /// (x - mean) / sqrt(unbiased variance + 1e-6), in place.
    static func standardize(_ values: UnsafeMutablePointer<Float>, _ count: Int) {
        let (mean, deviation) = statistics(values, count)
        for i in 0..<count { values[i] = (values[i] - mean) / deviation }
    }
}
