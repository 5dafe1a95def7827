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

    @OptionGroup var choice: PrefixOptions

    @Option(
        help: ArgumentHelp(
            "What the head reads: class token or mean of the patch tokens. Default: as the weights say.",
            valueName: "class|mean"))
    var pool: ClassifierPool?

    @Option(
        help: ArgumentHelp(
            "Side of the images, or HEIGHTxWIDTH, in pixels. Default: that of the weights; for another, position "
                + "tables are resampled.",
            valueName: "pixels"))
    var imageSize: ImageSize?

    @OptionGroup var inference: InferenceOptions

    /// The model in the file, which must hold a class head.
    func open() throws -> ModelWeights {
        let model = try ModelWeights(path: weights, prefix: choice.prefix)
        if !inference.quiet { Terminal.note(model.summary) }
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
            configuration: try model.runnableEncoder(heads: inference.heads, imageSize: imageSize, resampling: true),
            pool: pool?.feature,
            batch: Embedding.batch(for: count, most: inference.batch), precision: precision.resolved())
        if !inference.quiet, !classification.adaptations.isEmpty {
            Terminal.note(classification.adaptations.joined(separator: "; "))
        }
        return classification
    }
}
