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
            same --data, --seed, --batch and recipe trains on exactly these samples.

            Samples stand in rows of --columns. Recipes that mix images by mixup or CutMix do it with one λ for a \
            whole batch; each row then shows the first samples of another batch.

              dmae preview --data pictures --recipe paper --output grid.png
            """)

    @Option(
        help: ArgumentHelp("Folder of images: one folder per class, or a flat one.", valueName: "folder"),
        completion: .directory)
    var data: String

    @Option(
        help: ArgumentHelp(
            "Recipe: \(Recipe.all.map(\.name).joined(separator: ", ")).", valueName: "name"),
        completion: .list(Recipe.all.map(\.name)))
    var recipe: String

    @Option(help: ArgumentHelp("Where to write the grid: a PNG file.", valueName: "file"))
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

    @Flag(help: "Rotate images by their EXIF orientation; otherwise they are read as stored.")
    var applyOrientation = false

    @OptionGroup(title: "Compute") var compute: ComputeOptions

    func validate() throws {
        if !(1...10_000).contains(count) { throw ValidationError("--count must be 1 to 10000") }
        if !(1...1000).contains(columns) { throw ValidationError("--columns must be 1 to 1000") }
        try ValidationError.requirePNG(output, of: "the grid")
    }

    func run() throws {
        try compute.apply()
        let configuration = try configuration()
        let mixing: Mixing? = nil
        if mixing != nil, columns > configuration.batch {
            throw Failure(
                .usage,
                "--columns \(columns) is more than a batch of \(configuration.batch) images: lower it, or raise "
                    + "--batch")
        }
        let source = try ImageFolder(data)
        source.notes.forEach(Terminal.note)
        let augmentation = configuration.augmentation
        let mask = configuration.model.map { (patchSize: $0.student.patchSize, kept: $0.keptPatches) }
        let preview = SamplePreview(
            source: source, augmentation: augmentation, mixing: mixing,
            mask: mask.map { .init(patchSize: $0.patchSize, keptPatches: $0.kept) }, batch: configuration.batch,
            seed: seed,
            workers: Threads.count, report: Terminal.warning)
        let rows = try preview.rows(count, columns: columns)
        // Samples of 32 pixels are hard to judge on a screen; integer factors keep their pixels intact.
        let enlargement = max(1, 192 / max(augmentation.width, augmentation.height))
        let grid = Pixels.grid(rows.map { $0.pictures.map { $0.enlarged(by: enlargement) } })
        try AtomicFile.write(PNGWriter.encode(grid, named: output), to: output)
        print(
            "\(Format.counted(rows.reduce(0) { $0 + $1.pictures.count }, "sample")) of recipe \(recipe), seed \(seed)")
        if let mask {
            let patches = configuration.trainedEncoder.patches
            print("\(patches - mask.kept) of \(patches) patches removed: grey")
        }
        print("grid  \(output)  \(grid.width)×\(grid.height)")
    }

    /// The configuration of the run whose samples are drawn.
    private func configuration() throws -> TrainingConfiguration {
        guard let recipe = Recipe.all.first(where: { $0.name == recipe }) else {
            throw Failure(
                .usage,
                "--recipe \(recipe) is not known: use one of \(Recipe.all.map(\.name).joined(separator: ", "))")
        }
        let side = recipe.imageSize
        guard var student = Preset.encoder(recipe.student, imageHeight: side, imageWidth: side),
            let decoder = Preset.decoder(recipe.decoder)
        else { preconditionFailure("a recipe names presets") }
        student.imageHeight = imageSize?.height ?? side
        student.imageWidth = imageSize?.width ?? side
        student.patchSize = patchSize ?? student.patchSize
        student.channels = channels ?? student.channels
        let batch = batch ?? recipe.batch
        let model = ModelConfiguration(
            student: student, decoder: decoder, maskRatio: maskRatio ?? recipe.maskRatio,
            normalizePixels: recipe.normalizePixels)
        let configuration = TrainingConfiguration(
            method: recipe.method, recipe: recipe.name, model: model, data: data, teacher: nil, batch: batch,
            accumulation: 1, epochs: recipe.epochs, warmupEpochs: recipe.warmupEpochs,
            baseLearningRate: recipe.baseLearningRate, minimumLearningRate: recipe.minimumLearningRate,
            optimizer: recipe.optimizer, seed: seed, minimumCropArea: recipe.cropArea.lowerBound,
            maximumCropArea: recipe.cropArea.upperBound, appliesOrientation: applyOrientation)
        try configuration.validate()
        return configuration
    }
}
