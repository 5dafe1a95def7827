import Images
import Models
import Reporting

/// A few pictures that the model in training reconstructs at its checkpoints, always the same ones under the same masks.
///
/// They are computed by the objective itself, between two steps and in the memory of a step, and change no bit of the run.
final class CheckpointPictures {
    /// Number of pictures, if the batch has so many rows.
    private static let count = 4
    /// Checkpoints of a run with pictures, about; of more, as many at equal distances, and the last.
    private static let shownCheckpoints = 100
    /// Maximum side of a picture.
    private static let maximumSide = 128
    /// Pixels between the three pictures of a strip.
    private static let gap = 2

    private let model: MaskedAutoencoder
    private let samples: [Pixels]
    private let normalisation: Normalisation
    private let shownEvery: Int

    /// Reads pictures, spread evenly over `source`. Those that cannot be read are left out: training or evaluation
    /// reports them.
    ///
    /// - Parameters:
    ///   - augmentation: their preparation, which draws no random numbers.
    ///   - checkpoints: of the whole run.
    /// - Returns: nil where the objective predicts no pixels, or no picture can be read.
    init?(
        of objective: any Objective, source: any ImageSource, augmentation: Augmentation, checkpoints: Int
    ) {
        guard let model = objective as? MaskedAutoencoder ?? (objective as? Distillation)?.student,
            model.decoder != nil
        else { return nil }
        self.model = model
        normalisation = augmentation.normalisation
        shownEvery = max(1, (checkpoints + Self.shownCheckpoints - 1) / Self.shownCheckpoints)
        var tally = PictureTally(augmentation.reading)
        let channels = model.configuration.student.channels
        samples = ImageSubset.spread(min(Self.count, model.batch), of: source.count).enumerated().compactMap {
            number, index in
            let picture = try? Pixels(
                decoding: source.bytes(index), named: source.title(index), channels: channels,
                as: augmentation.reading, in: &tally, image: number
            ) { _ in }
            return picture.map { augmentation.apply(to: $0, seed: 0, epoch: 0, index: 0) }
        }
        guard !samples.isEmpty else { return nil }
    }

    /// Whether checkpoint `number` of the run has pictures.
    func areDue(at number: Int) -> Bool { number % shownEvery == 0 }

    /// Strips of original, masked picture and reconstruction by the present weights, with their tags.
    func draw() -> [(tag: String, picture: Pixels)] {
        let size = model.configuration.student
        for (row, sample) in samples.enumerated() {
            normalisation.write(sample, to: model.images.rows(row..<row + 1).pointer)
        }
        let grey = zip(normalisation.mean, normalisation.deviation).map { (0.5 - $0) / $1 }
        let all = Array(samples.indices)
        let (_, drawn) = model.reconstruct(Batch(samples: all, images: all), grey: grey)
        return zip(samples, drawn).enumerated().map { number, pair in
            let (sample, picture) = pair
            let parts =
                [sample]
                + [picture.masked, picture.reconstruction].map { (values: [Float]) in
                    normalisation.pixels(values, width: size.imageWidth, height: size.imageHeight)
                }
            return ("reconstruction/\(number)", Self.strip(parts.map(Self.small)))
        }
    }

    private static func strip(_ parts: [Pixels]) -> Pixels {
        let (width, height) = (parts[0].width, parts[0].height)
        var canvas = Canvas(
            width: parts.count * (width + gap) - gap, height: height, channels: parts[0].channels)
        for (place, part) in parts.enumerated() { canvas.draw(part, left: place * (width + gap), top: 0) }
        return canvas.picture
    }

    private static func small(_ picture: Pixels) -> Pixels {
        let side = max(picture.width, picture.height)
        guard side > maximumSide else { return picture }
        return picture.resized(
            width: max(1, picture.width * maximumSide / side), height: max(1, picture.height * maximumSide / side))
    }
}
