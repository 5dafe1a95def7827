import Inference
import Interchange
import Reporting
import ArgumentParser
import Images
import Models
import Tensors
import Training
import Weights

struct Reconstruct: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Draw original, masked picture and reconstruction side by side.",
        discussion: """
            Draws one row per input. Removed patches are grey in the middle picture; on the right the model's \
            prediction takes their place among the visible patches. The error printed is the mean squared error over \
            the removed patches, in the units of training.

            Weights of `dmae distill` and `dmae pretrain` describe their model, as config.json does for Hugging Face. \
            For other weights the shapes of the tensors give everything except three things. The number of heads is \
            taken from the preset of that width unless --heads and --decoder-heads are given. Images that are not \
            square need --image-size. Weights that were trained on normalised pixels need --normalize-pixels: each \
            removed patch is then shown with the mean and standard deviation of the original. `dmae convert --help` \
            lists the formats.

              dmae reconstruct --weights run/model.safetensors --input cat.jpg dog.png \\
                --output grid.png
            """)

    @Option(help: ArgumentHelp("Weights of an encoder and its decoder.", valueName: "file"), completion: .file())
    var weights: String

    @OptionGroup var choice: PrefixOptions

    @Option(parsing: .upToNextOption, help: ArgumentHelp("Images.", valueName: "image"))
    var input: [String]

    @Option(help: ArgumentHelp("Where to write the grid: a PNG file.", valueName: "file"))
    var output: String

    @Option(
        help: ArgumentHelp(
            "Fraction of the patches that is removed at random. Default: that of the training, else 0.75.",
            valueName: "ratio"))
    var maskRatio: Double?

    @Option(
        help: ArgumentHelp(
            "Black-and-white image, stretched over the patches; patches under white are removed.", valueName: "file"))
    var mask: String?

    @Option(help: ArgumentHelp("Seed of the random mask. Default: 0.", valueName: "number"))
    var seed: UInt64?

    @Flag(help: "Stretch the whole image to the model's size instead of cropping its centre.")
    var stretch = false

    // Only what weights may leave open: everything else follows from them.

    @Flag(
        inversion: .prefixedNo,
        help: ArgumentHelp(
            "Whether the weights predict normalised pixels (MAE's norm_pix_loss). Default: as the weights say, else "
                + "raw pixels.")
    )
    var normalizePixels: Bool?

    @Option(
        help: ArgumentHelp(
            "Side of the images, or HEIGHTxWIDTH, in pixels. Default: that of the weights; for another, position "
                + "tables are resampled.",
            valueName: "pixels"))
    var imageSize: ImageSize?

    @Option(help: ArgumentHelp("Attention heads of the encoder, if the weights do not say.", valueName: "heads"))
    var heads: Int?

    @Option(help: ArgumentHelp("Attention heads of the decoder, if the weights do not say.", valueName: "heads"))
    var decoderHeads: Int?

    @OptionGroup var pictures: PictureOptions
    @OptionGroup var preprocessing: PreprocessingOptions

    @OptionGroup(title: "Compute") var compute: ComputeOptions

    func validate() throws {
        if mask != nil, maskRatio != nil { throw ValidationError("--mask and --mask-ratio exclude each other") }
        if mask != nil, seed != nil {
            throw ValidationError("--seed has no effect: --mask says which patches are removed")
        }
        if input.isEmpty { throw ValidationError("--input needs at least one picture") }
        try ValidationError.requirePNG(output, of: "the grid")
    }

    func run() throws {
        try compute.apply()
        let weights = try ModelWeights(path: weights, prefix: choice.prefix)
        try Outputs.check([output], images: input + [mask].compactMap { $0 })
        Terminal.note(weights.summary)
        try weights.requireDecoder()
        let configuration = ModelConfiguration(
            student: try weights.runnableEncoder(heads: heads, imageSize: imageSize, resampling: true),
            decoder: try weights.runnableDecoder(heads: decoderHeads),
            maskRatio: maskRatio ?? weights.maskRatio ?? 0.75,
            normalizePixels: normalizePixels ?? weights.normalizePixels ?? false)
        if normalizePixels == nil, weights.normalizePixels == nil {
            Terminal.note(
                weights.hint
                    ?? "nothing says whether it was trained on raw or on normalised pixels: raw ones are assumed, "
                    + "--normalize-pixels is for the others")
        }
        if configuration.normalizePixels {
            Terminal.warning(
                "\(weights.normalizePixels == false ? "taken, against what they say, for weights" : "these weights were") trained on "
                    + "normalised pixels: each removed patch is shown with the mean and deviation of the original, "
                    + "which the model did "
                    + "not predict")
        } else if weights.normalizePixels == true {
            Terminal.warning(
                "these weights were trained on normalised pixels: shown as raw ones, what they predict is near grey")
        }
        let removed = try mask.map {
            // Drawn for this purpose: where nothing is drawn, nothing is removed.
            try Reconstruction.mask(
                Pixels(contentsOf: $0, channels: 1, as: .torchvision), for: configuration.student)
        }
        let reconstruction = try Reconstruction(
            weights: weights, configuration: configuration,
            mask: removed.map(Reconstruction.Mask.given) ?? .random(seed: seed ?? 0),
            stretches: stretch, reading: pictures.reading(for: weights),
            preprocessing: try preprocessing.preprocessing(for: weights))
        if !reconstruction.adaptations.isEmpty { Terminal.note(reconstruction.adaptations.joined(separator: "; ")) }
        let student = reconstruction.configuration.student
        // Images of 64 pixels are hard to judge on a screen; integer factors keep their pixels intact.
        let enlargement = max(1, 192 / max(student.imageHeight, student.imageWidth))
        var rows: [[Pixels]] = []
        var losses = [["input", "mean squared error"]]
        for path in input {
            let pictures = try reconstruction.pictures(of: path, report: Terminal.warning)
            guard pictures.loss.isFinite else {
                throw Failure(
                    .failure,
                    "what \(weights.path) predicts of \(path) is not finite, and nothing was written: look at the "
                        + "weights"
                )
            }
            rows.append(
                [pictures.original, pictures.masked, pictures.reconstruction].map { $0.enlarged(by: enlargement) })
            losses.append([path, Format.fixed(Double(pictures.loss), 5)])
        }
        reconstruction.summary.forEach(Terminal.warning)
        let grid = Pixels.grid(rows)
        try AtomicFile.write(PNGWriter.encode(grid, named: output), to: output)
        print(Format.table(losses))
        let patches = student.patches
        print(
            "\(reconstruction.removedPatches) of \(patches) patches removed; original, masked picture and "
                + "reconstruction from left to right"
        )
        print("grid  \(output)  \(grid.width)×\(grid.height)")
    }
}
