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
        return model
    }

    /// The model in memory, for passes of at most `batch` images over `count`.
    func classification(_ model: ModelWeights, images count: Int, _ precision: PrecisionOptions) throws
        -> Classification
    {
        let classification = try Classification(
            weights: model,
            configuration: try model.runnableEncoder(heads: inference.heads, imageSize: imageSize, resampling: true),
            pool: pool?.feature,
            batch: inference.batch(for: count), precision: precision.resolved())
        if !inference.quiet, !classification.adaptations.isEmpty {
            Terminal.note(classification.adaptations.joined(separator: "; "))
        }
        return classification
    }
}
