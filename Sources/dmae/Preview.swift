import ArgumentParser
import Images
import Inference
import Models
import Reporting
import Tensors
import Training
import Weights

struct Preview: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Draw training samples as the network sees them.",
        discussion: """
            Draws the first samples of a run, after crop, flip and everything else that the recipe does to them, so \
            that its augmentation can be checked by eye. Patches that the recipe removes are grey. A run with the \
            same images, recipe, --seed and --batch trains on exactly these samples.

            Without --recipe the samples are those of the paper's recipe, or of finetune-base where flags of \
            fine-tuning's augmentation are given.

            Samples stand in rows of --columns. Recipes that mix images by mixup or CutMix do it with one λ for a \
            whole batch; each row then shows the first samples of another batch.

              dmae preview --data pictures --output grid.png
              dmae preview --data pictures --recipe finetune-base --output grid.png
            """)

    @OptionGroup var images: DataOptions

    @Option(
        help: ArgumentHelp(
            "Recipe: \(Self.recipes.joined(separator: ", ")). Default: \(Recipe.paper.name), that of `dmae distill`.",
            valueName: "name"),
        completion: .list(Self.recipes))
    var recipe: String?

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Where to write the grid: a .png file.", valueName: "file"),
        completion: .file(extensions: ["png"]))
    var output: String

    @Option(help: ArgumentHelp("Number of samples.", valueName: "samples"))
    var count = 24

    @Option(help: ArgumentHelp("Samples in a row.", valueName: "samples"))
    var columns = 6

    @Option(help: ArgumentHelp("Seed of all random numbers.", valueName: "number"))
    var seed: UInt64 = 0

    @Option(help: ArgumentHelp("Images per forward and backward pass. Default: the recipe's.", valueName: "images"))
    var batch: Int?

    @Option(
        help: ArgumentHelp(
            "Side of the samples, or HEIGHTxWIDTH, in pixels. Default: the recipe's.", valueName: "pixels"))
    var imageSize: ImageSize?

    @Option(help: ArgumentHelp("Side of a square patch, in pixels. Default: the recipe's.", valueName: "pixels"))
    var patchSize: Int?

    @Option(help: ArgumentHelp("Channels of the samples: 1 for grey, 3 for RGB. Default: 3.", valueName: "count"))
    var channels: Int?

    @Option(
        help: ArgumentHelp("Fraction of the patches that is removed. Default: the recipe's.", valueName: "ratio"))
    var maskRatio: Double?

    @OptionGroup var pictures: PictureOptions
    @OptionGroup var preprocessing: PreprocessingOptions
    @OptionGroup(title: "Augmentation") var augmentation: AugmentationOptions
    @OptionGroup(title: "Compute") var compute: ComputeOptions

    @Flag(name: .shortAndLong, help: "Print results, warnings and errors only.")
    var quiet = false

    private static let recipes = Recipe.all.map(\.name) + FineTuningRecipe.all.map(\.name)

    /// The recipe that is drawn: the one given, or that of the command whose flags are.
    private var resolvedRecipe: String {
        recipe ?? (augmentation.given.isEmpty ? Recipe.paper.name : FineTuningRecipe.base.name)
    }

    func validate() throws {
        if !(1...10_000).contains(count) { throw ValidationError("--count must be 1 to 10000") }
        if !(1...1000).contains(columns) { throw ValidationError("--columns must be 1 to 1000") }
    }

    func run() throws {
        try Outputs.requireEnding(".png", of: output, "--output", "the grid is a PNG file")
        try compute.apply()
        try Outputs.requireOutside([output], of: images.data)
        let source = try ImageCollection(images.places, usesLabels: false, indexes: ArchiveIndexes(isQuiet: quiet))
        source.warnings.forEach(Terminal.warningOnce)
        if !quiet {
            source.notes.forEach(Terminal.note)
            if recipe == nil {
                Terminal.note(
                    "recipe \(resolvedRecipe), that of `dmae \(augmentation.given.isEmpty ? "distill" : "finetune")` (--recipe)"
                )
            }
        }
        try Outputs.check([output], images: source.files)
        try AtomicFile.requirePlace(at: output)
        let configuration = try configuration(classes: source.classes.count)
        if configuration.mixing != nil, columns > configuration.batch {
            throw Failure(
                .usage,
                "--columns \(columns) is more than a batch of \(configuration.batch) images: lower it, or raise --batch"
            )
        }
        let mask = configuration.model.map {
            SamplePreview.Mask(patchSize: $0.student.patchSize, keptPatches: $0.keptPatches)
        }
        let preview = SamplePreview(
            source: source, augmentation: configuration.augmentation, mixing: configuration.mixing, mask: mask,
            batch: configuration.batch, seed: seed, workers: Threads.count, report: Terminal.warning)
        let rows = try preview.rows(count, columns: columns)
        // Samples of 32 pixels are hard to judge on a screen; integer factors keep their pixels intact.
        let size = configuration.trainedEncoder
        let enlargement = max(1, 192 / max(size.imageWidth, size.imageHeight))
        let grid = Pixels.grid(rows.map { $0.pictures.map { $0.enlarged(by: enlargement) } })
        try AtomicFile.write(PNGWriter.encode(grid, named: output), to: output)
        print("\(Format.counted(count, "sample")) of recipe \(resolvedRecipe), seed \(seed)")
        if let mask { print("\(size.patches - mask.keptPatches) of \(size.patches) patches removed: grey") }
        for (number, row) in rows.enumerated() {
            guard let mixture = row.mixture else { continue }
            let kind = mixture.box == nil ? "mixup" : "CutMix"
            print("row \(number + 1): \(kind), λ \(Format.fixed(Double(mixture.lambda), 2))")
        }
        print("grid  \(escaped(output))  \(grid.width)×\(grid.height)")
    }

    /// The configuration of the run whose samples are drawn. `classes` is the number of the folder's classes, 0 for a
    /// flat folder.
    private func configuration(classes: Int) throws -> TrainingConfiguration {
        var configuration: TrainingConfiguration
        let recipe = resolvedRecipe
        if let recipe = Recipe.all.first(where: { $0.name == recipe }) {
            guard augmentation.given.isEmpty else {
                throw Failure(
                    .usage,
                    "\(augmentation.given.joined(separator: ", ")) is for recipes of fine-tuning: leave it out, or use "
                        + "one of \(FineTuningRecipe.all.map(\.name).joined(separator: ", "))")
            }
            configuration = self.configuration(
                recipe,
                model: ModelConfiguration(
                    student: encoder(recipe.student, side: recipe.imageSize), decoder: Preset.decoder(recipe.decoder)!,
                    maskRatio: maskRatio ?? recipe.maskRatio, normalizePixels: recipe.normalizePixels))
        } else if let recipe = FineTuningRecipe.named(recipe) {
            guard maskRatio == nil else {
                throw Failure(.usage, "--mask-ratio has no effect: recipe \(recipe.name) removes no patches")
            }
            configuration = self.configuration(recipe, model: nil)
            // Pictures do not depend on the number of classes; a flat folder may be looked at, too.
            configuration.classifier = ClassifierConfiguration(
                encoder: encoder(recipe.student, side: recipe.imageSize), classes: max(classes, 2), pool: recipe.pool)
            try augmentation.apply(to: &configuration, recipe)
        } else {
            throw Failure(
                .usage, "--recipe \(recipe) is not known: use one of \(Self.recipes.joined(separator: ", "))")
        }
        configuration.preprocessing = try preprocessing.applied(
            to: .imageNet(channels: configuration.trainedEncoder.channels))
        try configuration.validate()
        return configuration
    }

    private func configuration(_ recipe: some TrainingRecipe, model: ModelConfiguration?) -> TrainingConfiguration {
        TrainingConfiguration(
            method: recipe.method, recipe: recipe.name, model: model, data: images.places, teacher: nil,
            batch: batch ?? recipe.batch, accumulation: 1, epochs: recipe.epochs, warmupEpochs: recipe.warmupEpochs,
            baseLearningRate: recipe.baseLearningRate, minimumLearningRate: 0, optimizer: recipe.optimizer, seed: seed,
            minimumCropArea: recipe.cropArea.lowerBound, maximumCropArea: recipe.cropArea.upperBound,
            reading: pictures.reading())
    }

    /// The preset `name` with the sizes of this command line.
    private func encoder(_ name: String, side: Int) -> EncoderConfiguration {
        var encoder = Preset.encoder(name, imageHeight: side, imageWidth: side)!
        encoder.imageHeight = imageSize?.height ?? side
        encoder.imageWidth = imageSize?.width ?? side
        if recipe == nil, let imageSize {
            encoder.patchSize = StudentDefaults.patch(encoder.patchSize, ofImages: imageSize)
        }
        encoder.patchSize = patchSize ?? encoder.patchSize
        encoder.channels = channels ?? encoder.channels
        return encoder
    }
}

extension AugmentationOptions {
    /// The flags of this group on the command line.
    fileprivate var given: [String] {
        let flags: [(name: String, isGiven: Bool)] = [
            ("--rand-augment", randAugment == true), ("--no-rand-augment", randAugment == false),
            ("--erasing", erasing != nil), ("--mixup", mixup != nil), ("--cutmix", cutmix != nil),
        ]
        return flags.filter(\.isGiven).map(\.name)
    }
}
