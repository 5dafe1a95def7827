import Reporting
import Images
import Interchange
import Models
import Tensors
import Weights

/// Shows what a student sees and what it makes of it: pictures for people, from weights with a decoder.
public final class Reconstruction {
    /// One input's pictures, all of the model's image size.
    public struct Pictures {
        public let original: Pixels
        /// The removed patches grey.
        public let masked: Pixels
        /// The removed patches as predicted, the visible ones as they are.
        public let reconstruction: Pixels
        /// Mean squared error over the removed patches, in the units the model was trained in.
        public let loss: Float
    }

    /// Which patches are removed.
    public enum Mask {
        /// At random, of every image alike, by this seed.
        case random(seed: UInt64)
        /// One flag per patch, row by row: true where it is removed.
        case given([Bool])
    }

    public let configuration: ModelConfiguration
    /// What was changed in the weights to fit the images; see `Parameters.Loading`.
    public let adaptations: [String]
    private let mask: Mask
    private let plan = MemoryPlan()
    private let distiller: Distiller
    private let augmentation: Augmentation

    /// Loads the weights of an encoder and a decoder.
    ///
    /// - Parameters:
    ///   - configuration: sizes, mask ratio and kind of target; a teacher in it is ignored.
    ///   - stretches: whether whole pictures are stretched to the model's size, instead of their centre cut out.
    /// - Throws: `Failure.badData` where the file holds no decoder or does not fit the sizes; `Failure.usage` where the
    ///   mask does not.
    public init(
        weights: ModelWeights, configuration: ModelConfiguration, mask: Mask, stretches: Bool = false
    ) throws {
        try weights.requireDecoder()
        var configuration = configuration
        configuration.teacher = nil
        configuration.alignment.pairs = []
        let patches = configuration.student.patches
        if case .given(let removed) = mask {
            precondition(removed.count == patches)
            let kept = removed.lazy.filter { !$0 }.count
            guard kept >= 1, kept < patches else {
                throw Failure(
                    .usage,
                    "\(.mask) removes \(patches - kept) of \(patches) patches: it must leave at least one and remove at least one"
                )
            }
            // Half a patch more than `kept`, so that truncation gives `kept` whatever the rounding.
            configuration.maskRatio = 1 - (Double(kept) + 0.5) / Double(patches)
        }
        self.configuration = configuration
        self.mask = mask
        let student = configuration.student
        guard student.channels == 1 || student.channels == 3 else {
            throw Failure(
                .badData,
                "\(weights.path): takes \(student.channels) channels, but image files give 1 or 3: use weights for one of them"
            )
        }
        distiller = try Distiller(configuration, batch: 1, plan: plan, training: false)
        try plan.commit()
        distiller.parameters.initialize(seed: 0)
        adaptations = try distiller.parameters.load(from: weights, for: student).adaptations
        augmentation = Augmentation(
            width: student.imageWidth, height: student.imageHeight, channels: student.channels,
            framing: stretches ? .whole : .centre)
    }

    /// The patches that a black-and-white picture removes: those at least half of which is white once it is stretched
    /// over the grid.
    ///
    /// - Throws: `Failure.usage` where there are more patches than pixels in any picture.
    public static func mask(_ picture: Pixels, for student: EncoderConfiguration) throws -> [Bool] {
        guard student.patches <= Pixels.maximumCount else {
            throw Failure(
                .usage,
                "\(.mask) is for at most \(Pixels.maximumCount) patches, not \(student.patches): lower \(.imageSize)")
        }
        let grid = picture.converted(channels: 1).resized(width: student.gridColumns, height: student.gridRows)
        return grid.bytes.map { $0 >= 128 }
    }

    /// Reconstructs the picture at `path`.
    ///
    /// - Throws: `Failure` where it cannot be read or decoded.
    public func pictures(of path: String) throws -> Pictures {
        let student = configuration.student
        let picture = try Pixels(contentsOf: path, channels: student.channels)
        let sample = augmentation.apply(to: picture, seed: 0, epoch: 0, index: 0)
        augmentation.normalisation.write(sample, to: distiller.images.pointer)
        switch mask {
        case .random(let seed): distiller.masking.draw(0, seed: seed, sample: 0)
        case .given(let removed):
            for (patch, isRemoved) in removed.enumerated() {
                distiller.masking.noise.pointer[patch] = isRemoved ? 1 : 0
            }
        }
        distiller.forward()
        return Pictures(
            original: sample, masked: filled { _, _ in }, reconstruction: filled(with: predicted),
            loss: distiller.losses.reconstruction)
    }

    /// The image with each removed patch grey, then written over by `fill`, which gets the patch's number and its
    /// values.
    private func filled(with fill: (Int, UnsafeMutablePointer<Float>) -> Void) -> Pixels {
        let student = configuration.student
        let side = student.patchSize
        let plane = student.imageHeight * student.imageWidth
        var values = Array(distiller.images.elements)
        var patchValues = [Float](repeating: 0, count: student.patchElements)
        for patch in 0..<student.patches where distiller.masking.mask.pointer[patch] == 1 {
            for i in patchValues.indices {
                let channel = i % student.channels
                patchValues[i] =
                    (0.5 - augmentation.normalisation.mean[channel]) / augmentation.normalisation.deviation[channel]
            }
            patchValues.withUnsafeMutableBufferPointer { fill(patch, $0.baseAddress!) }
            let (row, column) = patch.quotientAndRemainder(dividingBy: student.gridColumns)
            var place = 0
            for y in 0..<side {
                for x in 0..<side {
                    let pixel = (row * side + y) * student.imageWidth + column * side + x
                    for channel in 0..<student.channels {
                        values[channel * plane + pixel] = patchValues[place]
                        place += 1
                    }
                }
            }
        }
        return values.withUnsafeBufferPointer {
            augmentation.normalisation.pixels($0.baseAddress!, width: student.imageWidth, height: student.imageHeight)
        }
    }

    /// The decoder's values of one patch, brought back from the scale of normalised targets where the model was trained
    /// on them.
    private func predicted(_ patch: Int, _ values: UnsafeMutablePointer<Float>) {
        let count = configuration.student.patchElements
        let row = distiller.decoder.prediction.pointer + (1 + patch) * count
        guard configuration.normalizePixels else {
            values.update(from: row, count: count)
            return
        }
        TargetPatch.read(distiller.images, configuration.student, image: 0, patch: patch, into: values)
        let (mean, deviation) = TargetPatch.statistics(values, count)
        for i in 0..<count { values[i] = row[i] * deviation + mean }
    }
}
