import Reporting
import Images
import Interchange
import Models
import Tensors
import Weights

/// Draws a picture, its visible patches, and the decoder's reconstruction of the removed ones.
public final class Reconstruction {
    /// The three pictures of one input, all of the model's image size.
    public struct Pictures {
        public let original: Pixels
        /// With the removed patches grey.
        public let masked: Pixels
        /// With the removed patches as predicted, and the visible ones of the original.
        public let reconstruction: Pixels
        /// Mean squared error over the removed patches, in the units that the model was trained on.
        public let loss: Float
    }

    /// Which patches of a picture are removed.
    public enum Mask {
        /// Random patches; another `sample` has others.
        case random(seed: UInt64, sample: Int)
        /// One flag per patch, row by row: true if it is removed.
        case given([Bool])
    }

    public let configuration: ModelConfiguration
    /// How the weights were adapted to the images; see `Parameters.Loading`.
    public let adaptations: [String]
    /// Patches that are removed from each picture.
    public var removedPatches: Int { model.masking.removedCount }
    private let plan = MemoryPlan()
    private let model: MaskedAutoencoder
    private let augmentation: Augmentation

    /// Loads the weights of an encoder and a decoder.
    ///
    /// - Parameters:
    ///   - configuration: sizes, mask ratio and kind of target; a teacher in it is ignored.
    ///   - keptPatches: patches that stay visible in each picture; nil for what the mask ratio leaves.
    ///   - stretches: whether to stretch whole pictures to the model's size; otherwise their centre is cropped.
    ///   - reading: how image files become pictures.
    ///   - preprocessing: how these become the input; nil for `Preprocessing.imageNet`.
    /// - Throws: `Failure.badData` if the file holds no decoder or does not fit the sizes; `Failure.usage` if the mask
    ///   ratio leaves no patch.
    public init(
        weights: ModelWeights, configuration: ModelConfiguration, keptPatches: Int? = nil, stretches: Bool = false,
        reading: PictureReading = PictureReading(), preprocessing: Preprocessing? = nil
    ) throws {
        try weights.requireDecoder()
        var configuration = configuration
        configuration.teacher = nil
        configuration.alignment.pairs = []
        // All removed patches are drawn, whatever share of them a run has predicted.
        configuration.predictRatio = 1
        self.configuration = configuration
        let student = configuration.student
        guard student.channels == 1 || student.channels == 3 else {
            throw Failure(
                .badData,
                "\(weights.path): takes \(student.channels) channels, but image files give 1 or 3: use weights for one "
                    + "of them"
            )
        }
        model = try MaskedAutoencoder(
            configuration, batch: 1, seed: 0, plan: plan, .init(isTrained: false, keptPatches: keptPatches))
        try plan.commit()
        model.parameters.initialize(seed: 0)
        adaptations = try model.parameters.load(from: weights, for: student).adaptations
        augmentation = Augmentation(
            width: student.imageWidth, height: student.imageHeight, channels: student.channels,
            framing: stretches ? .whole : .centre, preprocessing: preprocessing, reading: reading)
    }

    /// The patches removed by a black-and-white picture that is stretched over the grid: those that are at least half
    /// white.
    ///
    /// - Throws: `Failure.usage` if there are more patches than `Pixels.maximumCount`, or no patch or every patch would be
    ///   removed.
    public static func mask(_ picture: Pixels, for student: EncoderConfiguration) throws -> [Bool] {
        guard student.patches <= Pixels.maximumCount else {
            throw Failure(
                .usage,
                "\(.mask) is for at most \(Pixels.maximumCount) patches, not \(student.patches): lower \(.imageSize)")
        }
        let grid = picture.converted(channels: 1).resized(width: student.gridColumns, height: student.gridRows)
        let removed = grid.bytes.map { $0 >= 128 }
        let count = removed.count { $0 }
        guard count >= 1, count < removed.count else {
            throw Failure(
                .usage,
                "\(.mask) removes \(count) of \(removed.count) patches: it must leave at least one and remove at least "
                    + "one"
            )
        }
        return removed
    }

    /// Reconstructs an image of `source`.
    ///
    /// - Parameters:
    ///   - mask: leaves `keptPatches` of the initialiser.
    ///   - tally: counts what a person should know of the picture, as image `number`.
    ///   - report: called with what a person should know at once, a sentence each.
    /// - Throws: `Failure` if it cannot be read or decoded.
    public func pictures(
        of source: any ImageSource, at index: Int, mask: Mask, in tally: inout PictureTally, number: Int,
        report: (Message) -> Void = { _ in }
    ) throws -> Pictures {
        let student = configuration.student
        let picture = try Pixels(
            decoding: source.bytes(index), named: source.title(index), channels: student.channels,
            as: augmentation.reading, in: &tally, image: number, report: report)
        let sample = augmentation.apply(to: picture, seed: 0, epoch: 0, index: 0)
        augmentation.normalisation.write(sample, to: model.images.pointer)
        var place = 0
        switch mask {
        case .random(let seed, let sample): (model.selection, place) = (.random(seed: seed), sample)
        case .given(let removed): model.selection = .removed(removed)
        }
        let normalisation = augmentation.normalisation
        let grey = zip(normalisation.mean, normalisation.deviation).map { (0.5 - $0) / $1 }
        let (losses, drawn) = model.reconstruct(Batch(samples: [place], images: [0]), grey: grey)
        func pixels(_ values: [Float]) -> Pixels {
            normalisation.pixels(values, width: student.imageWidth, height: student.imageHeight)
        }
        return Pictures(
            original: sample, masked: pixels(drawn[0].masked), reconstruction: pixels(drawn[0].reconstruction),
            loss: losses.total)
    }
}
