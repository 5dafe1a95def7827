import ArgumentParser
import Images
import Inference
import Interchange
import Models
import Reporting

/// A fine-tuned model and how it reads images, for the commands that classify.
struct ClassifierOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Weights with a class head.", valueName: "file"), completion: .file())
    var weights: String

    @Option(
        help: ArgumentHelp(
            "The words before the model's names in the file, if they are not known ones or there are several models.",
            valueName: "prefix"))
    var prefix: String?

    @Option(
        help: ArgumentHelp(
            "What the head reads: class token or mean of the patch tokens. Default: as the weights say.",
            valueName: "class|mean"))
    var pool: FeaturePool?

    @Option(help: ArgumentHelp("Maximum number of images per pass.", valueName: "images"))
    var batch = 32

    @Option(help: ArgumentHelp("Fraction of unreadable images above which the command fails.", valueName: "fraction"))
    var unreadableLimit: Double = 0.01

    @Flag(help: "Rotate images by their EXIF orientation; otherwise they are read as stored.")
    var applyOrientation = false

    @Option(
        help: ArgumentHelp(
            "Threads that decode images, beside those of the kernels; the result does not depend on it.",
            valueName: "count"))
    var workers: Int = 1

    @Option(help: ArgumentHelp("Attention heads, if the weights do not say.", valueName: "heads"))
    var heads: Int?

    @Option(
        help: ArgumentHelp(
            "Side of the images, or HEIGHTxWIDTH, in pixels. Default: that of the weights; for another, position "
                + "tables are resampled.",
            valueName: "pixels"))
    var imageSize: ImageSize?

    @Flag(help: "Print results, warnings and errors only, no progress.")
    var quiet = false

    func validate() throws {
        try ValidationError.check { try Field.batch.requireAtLeast(1, batch) }
        if !(1...1024).contains(workers) { throw ValidationError("--workers must be 1 to 1024") }
        if !(0...1).contains(unreadableLimit) { throw ValidationError("--unreadable-limit must be 0 to 1") }
        if pool == .tokens { throw ValidationError("--pool must be class or mean: a head reads one feature") }
    }

    /// The model in the file, which must hold a class head.
    func open() throws -> ModelWeights {
        let model = try ModelWeights(path: weights, prefix: prefix)
        if !quiet { Terminal.note(model.summary) }
        try model.requireHead()
        if let warning = Self.warning(model) { Terminal.warning(warning) }
        return model
    }

    /// A sentence where pictures are normalised otherwise than the weights' own tool does.
    private static func warning(_ model: ModelWeights) -> String? {
        guard let stated = model.statedNormalisation else { return nil }
        let own = Normalisation.imageNet(channels: model.encoder.channels)
        guard stated != own else { return nil }
        func text(_ values: [Float]) -> String { values.map { "\($0)" }.joined(separator: ", ") }
        return
            "the configuration beside \(model.path) states the mean \(text(stated.mean)) and the deviation "
            + "\(text(stated.deviation)), but pictures are normalised with ImageNet's, \(text(own.mean)) and "
            + "\(text(own.deviation)): logits differ from those of the tool that wrote the weights"
    }

    /// The model in memory, for passes of at most `batch` images over `count`.
    func classification(_ model: ModelWeights, images count: Int, _ precision: PrecisionOptions) throws
        -> Classification
    {
        let classification = try Classification(
            weights: model,
            configuration: try model.runnableEncoder(heads: heads, imageSize: imageSize, resampling: true), pool: pool,
            batch: Embedding.batch(for: count, most: batch), precision: precision.resolved())
        if !quiet, !classification.adaptations.isEmpty {
            Terminal.note(classification.adaptations.joined(separator: "; "))
        }
        return classification
    }
}
