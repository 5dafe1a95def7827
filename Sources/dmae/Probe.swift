import ArgumentParser
import Images
import Interchange
import Models
import Reporting
import Training

extension ProbeAugmentation: ExpressibleByArgument {}

struct Probe: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Train a linear classifier on a frozen encoder: MAE's linear probe.",
        discussion: """
            The encoder does not change. An image's feature passes a BatchNorm without affine part and a linear layer, \
            which LARS trains on the labels. --train and --val have one folder per class, with the same names.

              dmae probe --weights run/model.safetensors --train images/train \\
                --val images/val --output probe
              dmae probe --weights run/model.safetensors --train images/train \\
                --val images/val --output quick --augment none

            The values are MAE's: base learning rate 0.1, a cosine to 0 after 10 epochs of warm-up, 90 epochs (50 from \
            width 1024 on), and batches of 512 images, over which BatchNorm computes its statistics. The effective \
            batch is 16384, or a tenth of the images if that is less; the peak learning rate is then still MAE's, 6.4.

            With --augment crop, MAE's, each epoch shows a new crop of every image, and the encoder runs in every \
            step. With --augment none the features of all images are computed once, from centre crops as `dmae embed` \
            takes them, and the training takes seconds; its accuracy is not to be compared with MAE's.

            Top-1, top-5 and loss on --val are computed after every --evaluate-every epochs. At the end --output \
            contains model.safetensors, the encoder with the last probe, best.safetensors, with the probe of the best \
            top-1 (the earlier on a tie), and evaluation.json. Both files name the classes and stand for themselves in \
            `dmae evaluate` and `dmae predict`. Signals, resuming and exit codes are those of `dmae distill`.
            """)

    @Option(help: ArgumentHelp("Weights of an encoder.", valueName: "file"), completion: .file())
    var weights: String

    @OptionGroup var choice: PrefixOptions

    @OptionGroup(title: "Run") var images: LabelledDataOptions
    @OptionGroup(title: "Run") var training: TrainingOptions

    @Option(
        help: ArgumentHelp(
            "crop: a random crop and flip of each image in each epoch; none: features are computed once.",
            valueName: "crop|none"))
    var augment = ProbeAugmentation.crop

    @Option(
        help: ArgumentHelp(
            "class token, or mean of the patch tokens. Default: mean if the weights were fine-tuned on it, else class.",
            valueName: "class|mean"))
    var pool: ClassifierPool?

    @Option(help: ArgumentHelp("Attention heads, if the weights do not say.", valueName: "heads"))
    var heads: Int?

    @Option(
        help: ArgumentHelp(
            "Side of the images, or HEIGHTxWIDTH, in pixels, if the weights do not say.", valueName: "pixels"))
    var imageSize: ImageSize?

    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precision: PrecisionOptions

    func run() throws {
        Terminal.hold()
        try compute.apply()
        if !training.dryRun { Signals.endBeforeTheRun() }
        try training.requirePaths([("--weights", [weights])] + images.paths)
        let model = try ModelWeights(path: weights, prefix: choice.prefix)
        if !training.quiet { Terminal.note(model.summary) }
        try model.requireKnownParts()
        let encoder = try model.runnableEncoder(heads: heads, imageSize: imageSize)
        let pool = try pool ?? model.defaultPool(for: "a probe")
        try model.requireNorm(of: pool)
        let indexes = training.makeIndexes()
        let source = try ImageCollection(images.training, indexes: indexes)
        try requireClasses(source, .train)
        var recipe = ProbeRecipe.mae(width: encoder.width)
        let batches = try recipe.batches(
            images: source.count, batch: training.batch, effectiveBatch: training.effectiveBatch)
        recipe.baseLearningRate = recipe.baseLearningRate(effectiveBatch: batches.batch * batches.accumulation)
        (recipe.batch, recipe.effectiveBatch) = (batches.batch, batches.batch * batches.accumulation)
        var configuration = try training.configuration(
            recipe, classifier: ClassifierConfiguration(encoder: encoder, classes: source.classes.count, pool: pool),
            data: images.training, teacher: nil,
            prepared: TrainingOptions.PreparedWeights(weights: model, role: "weights", isWhole: true),
            precision: precision.resolved())
        (configuration.weights, configuration.prefix) = (weights, choice.prefix)
        configuration.validation = images.validating
        configuration.evaluateEvery = images.evaluateEvery
        configuration.probeAugmentation = augment
        if !training.quiet { notes(on: configuration, images: source.count).forEach(Terminal.note) }
        try training.run(configuration, from: StartingWeights(teacher: model), images: source, indexes: indexes)
    }

    /// What is not as in MAE's probe, and what follows from it, a sentence each.
    private func notes(on configuration: TrainingConfiguration, images: Int) -> [String] {
        var notes: [String] = []
        if augment == .none {
            notes.append(
                "--augment none: the features of all images are computed once; the accuracy is not to be compared with "
                    + "that of MAE's probe, which augments")
        }
        let mae = ProbeRecipe.mae(width: configuration.trainedEncoder.width)
        if configuration.effectiveBatch < mae.effectiveBatch, training.baseLearningRate == nil {
            notes.append(
                "\(Format.grouped(images)) images: the effective batch is \(configuration.effectiveBatch), not "
                    + "\(mae.effectiveBatch) as on ImageNet; the peak learning rate stays MAE's "
                    + "\(Format.shortest((100 * configuration.peakLearningRate).rounded() / 100)) (--base-learning-rate)"
            )
        }
        return notes
    }
}
