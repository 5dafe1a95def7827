import Inference
import Interchange
import Reporting
import ArgumentParser
import Glibc
import Images
import Models
import Tensors
import Training
import Weights

struct Reconstruct: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Draw original, masked picture and reconstruction side by side.",
        discussion: """
            Draws three pictures for each input, with its name and its error. Removed patches are grey in the middle \
            picture; on the right the model's prediction takes their place among the visible patches. The error is the \
            mean squared error over the removed patches, in the units of training.

            Each picture has a random mask of its own, or the same with --same-mask. --mask takes one picture for all \
            inputs, or one for each, in the order of the inputs: as given, and sorted by path within a folder, archive \
            or list.

            Weights of `dmae distill` and `dmae pretrain` describe their model, as config.json does for Hugging Face. \
            For other weights the shapes of the tensors give everything except three things. The number of heads is \
            taken from the preset of that width unless --heads and --decoder-heads are given. Images that are not \
            square need --image-size. Weights that were trained on normalised pixels need --normalize-pixels: each \
            removed patch is then shown with the mean and standard deviation of the original. `dmae convert --help` \
            lists the formats.

              dmae reconstruct --weights run/model.safetensors --input cat.jpg dog.png \\
                --output grid.png
              dmae reconstruct --weights run/model.safetensors --input images/val \\
                --output grid.png --count 12 --columns 3
            """)

    @Option(help: ArgumentHelp("Weights of an encoder and its decoder.", valueName: "file"), completion: .file())
    var weights: String

    @OptionGroup var choice: PrefixOptions

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Images, folders of them, searched to any depth, tar archives and lists.",
            valueName: "image|folder|tar|list"),
        completion: .file())
    var input: [String]

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Where to write the grid: a .png file.", valueName: "file"),
        completion: .file(extensions: ["png"]))
    var output: String

    @Option(
        help: ArgumentHelp(
            "Number of pictures, spread evenly over the input. Default: all that are named, at most "
                + "\(Self.mostListed) of folders, archives and lists.", valueName: "pictures"))
    var count: Int?

    @Option(
        help: ArgumentHelp(
            "Pictures side by side, each with its mask and reconstruction. Default: as many as fit a screen's shape.",
            valueName: "pictures"))
    var columns: Int?

    @Option(
        help: ArgumentHelp(
            "Fraction of the patches that is removed at random. Default: that of the training, else 0.75.",
            valueName: "ratio"))
    var maskRatio: Double?

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Black-and-white image, stretched over the patches; patches under white are removed. One for all pictures, "
                + "or one for each.", valueName: "file"),
        completion: .file())
    var mask: [String] = []

    @Flag(help: "Remove the same random patches from every picture.")
    var sameMask = false

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

    @Flag(help: "Print one JSON object instead of text.")
    var json = false

    @Option(help: ArgumentHelp("Attention heads of the encoder, if the weights do not say.", valueName: "heads"))
    var heads: Int?

    @Option(help: ArgumentHelp("Attention heads of the decoder, if the weights do not say.", valueName: "heads"))
    var decoderHeads: Int?

    @OptionGroup var pictures: PictureOptions
    @OptionGroup var preprocessing: PreprocessingOptions

    @OptionGroup(title: "Compute") var compute: ComputeOptions

    @Flag(name: .shortAndLong, help: "Print results, warnings and errors only.")
    var quiet = false

    /// Pictures of folders, archives and lists that are drawn unless --count says otherwise.
    private static let mostListed = 24

    func validate() throws {
        if !mask.isEmpty, maskRatio != nil { throw ValidationError("--mask and --mask-ratio exclude each other") }
        if !mask.isEmpty, seed != nil {
            throw ValidationError("--seed has no effect: --mask says which patches are removed")
        }
        if !mask.isEmpty, sameMask {
            throw ValidationError("--same-mask has no effect: one --mask is for all pictures")
        }
        if input.isEmpty {
            throw ValidationError("--input needs at least one picture, folder, tar archive or list")
        }
        if let count, !(1...10_000).contains(count) { throw ValidationError("--count must be 1 to 10000") }
        if let columns, !(1...1000).contains(columns) { throw ValidationError("--columns must be 1 to 1000") }
    }

    /// The result as JSON.
    private struct Report: Encodable {
        struct Picture: Encodable {
            let path: String
            /// Over the removed patches.
            let meanSquaredError: Double

            enum CodingKeys: String, CodingKey {
                case path
                case meanSquaredError = "mean_squared_error"
            }
        }

        /// Path and size of the grid.
        let grid: String
        let width, height: Int
        /// Patches of a picture.
        let patches: Int
        /// The numbers of patches that were removed: one, unless masks differ.
        let removedPatches: [Int]
        /// In the order of the grid.
        let pictures: [Picture]

        enum CodingKeys: String, CodingKey {
            case grid, width, height, patches, pictures
            case removedPatches = "removed_patches"
        }
    }

    /// A picture of the input.
    private struct Input {
        let source: ImageCollection
        let index: Int
        /// Whether it was named itself.
        let isNamed: Bool
        var path: String { source.path(index) }
    }

    func run() throws {
        try Outputs.requireEnding(".png", of: output, "--output", "the grid is a PNG file")
        Terminal.hold()
        try compute.apply()
        try GivenPaths.require([("--weights", [weights]), ("--input", input), ("--mask", mask)])
        try Outputs.requireOutside([output], of: input)
        let weights = try ModelWeights(path: weights, prefix: choice.prefix)
        try Outputs.check([output], images: input + mask)
        try AtomicFile.requirePlace(at: output)
        note("\(weights.summary)")
        try weights.requireDecoder()
        let configuration = try configuration(of: weights)
        let inputs = try inputs()
        let masks = try masks(for: configuration.student, pictures: inputs.count)
        let reading = pictures.reading(for: weights, isQuiet: quiet)
        let preprocessing = try preprocessing.preprocessing(for: weights, isQuiet: quiet)

        let student = configuration.student
        // Images of 64 pixels are hard to judge on a screen; integer factors keep their pixels intact.
        let enlargement = max(1, 192 / max(student.imageHeight, student.imageWidth))
        let names = Self.names(inputs.map(\.path))
        var cells = [ReconstructionGrid.Cell?](repeating: nil, count: inputs.count)
        var losses = [Double](repeating: 0, count: inputs.count), removed: Set<Int> = []
        var tally = PictureTally(reading)
        // The model has one number of visible patches; masks with as many share it.
        var groups: [(kept: Int?, pictures: [Int])] = []
        for number in inputs.indices {
            let kept = masks.isEmpty ? nil : masks[min(number, masks.count - 1)].count { !$0 }
            if let group = groups.firstIndex(where: { $0.kept == kept }) {
                groups[group].pictures.append(number)
            } else {
                groups.append((kept, [number]))
            }
        }
        for (place, group) in groups.enumerated() {
            let reconstruction = try Reconstruction(
                weights: weights, configuration: configuration, keptPatches: group.kept, stretches: stretch,
                reading: reading, preprocessing: preprocessing)
            Terminal.release()
            if place == 0, !reconstruction.adaptations.isEmpty {
                note("\(reconstruction.adaptations.joined(separator: "; "))")
            }
            removed.insert(reconstruction.removedPatches)
            for number in group.pictures {
                let input = inputs[number]
                let mask: Reconstruction.Mask =
                    masks.isEmpty
                    ? .random(seed: seed ?? 0, sample: sameMask ? 0 : number)
                    : .given(masks[min(number, masks.count - 1)])
                let pictures: Reconstruction.Pictures
                do {
                    pictures = try reconstruction.pictures(
                        of: input.source, at: input.index, mask: mask, in: &tally, number: number,
                        report: Terminal.warning)
                } catch let failure as Failure where failure.code == .badData && inputs.count > 1 {
                    // As in predict and embed, one bad picture does not keep the others from being drawn.
                    Terminal.warning("\(failure.sentence); it is left out")
                    continue
                }
                guard pictures.loss.isFinite else {
                    throw Failure(
                        .failure,
                        "what \(weights.path) predicts of \(input.path) is not finite, and nothing was written: look at "
                            + "the weights"
                    )
                }
                losses[number] = Double(pictures.loss)
                cells[number] = ReconstructionGrid.Cell(
                    [pictures.original, pictures.masked, pictures.reconstruction].map { $0.enlarged(by: enlargement) },
                    caption: "\(names[number])  \(Format.fixed(losses[number], 3))")
            }
        }
        let drawn = inputs.indices.filter { cells[$0] != nil }
        guard !drawn.isEmpty else {
            throw Failure(.badData, "none of the \(inputs.count) pictures can be read; name others")
        }
        tally.summary(of: drawn.count, in: nil).forEach(Terminal.warning)
        let grid = ReconstructionGrid.draw(
            drawn.map { cells[$0]! },
            columns: columns
                ?? ReconstructionGrid.columns(
                    for: drawn.count, width: enlargement * student.imageWidth, height: enlargement * student.imageHeight
                ))
        try AtomicFile.write(PNGWriter.encode(grid, named: output), to: output)
        defer { fflush(stdout) }
        if json {
            let report = Report(
                grid: output, width: grid.width, height: grid.height, patches: student.patches,
                removedPatches: removed.sorted(),
                pictures: drawn.map { Report.Picture(path: inputs[$0].path, meanSquaredError: losses[$0]) })
            print(String(decoding: try report.sortedJSON(), as: UTF8.self))
        } else {
            print(
                Format.table(
                    [["input", "mean squared error"]]
                        + drawn.map { [escaped(inputs[$0].path), Format.fixed(losses[$0], 5)] }))
            let counts = removed.sorted().map(String.init).joined(separator: ", ")
            print(
                "\(counts) of \(student.patches) patches removed; original, masked picture and reconstruction from left to "
                    + "right"
            )
            print("grid  \(escaped(output))  \(grid.width)×\(grid.height)")
        }
        let unreadable = inputs.count - drawn.count, limit = UnreadableLimit.standard
        guard !UnreadableLimit.isExceeded(by: unreadable, of: inputs.count, limit) else {
            throw Failure(
                .badData,
                "\(unreadable) of the \(inputs.count) pictures cannot be read, more than a fraction of "
                    + "\(Format.shortest(limit)); the grid has the others; repair or remove them")
        }
    }

    private func note(_ message: Message) { if !quiet { Terminal.note(message) } }

    /// The sizes and the kind of target, as the weights and the command line say.
    private func configuration(of weights: ModelWeights) throws -> ModelConfiguration {
        let configuration = ModelConfiguration(
            student: try weights.runnableEncoder(heads: heads, imageSize: imageSize, resampling: true),
            decoder: try weights.runnableDecoder(heads: decoderHeads),
            maskRatio: maskRatio ?? weights.maskRatio ?? 0.75,
            normalizePixels: normalizePixels ?? weights.normalizePixels ?? false)
        if normalizePixels == nil, weights.normalizePixels == nil {
            note(
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
        return configuration
    }

    /// The pictures to draw: those named, in the order given, and those of folders, archives and lists.
    private func inputs() throws -> [Input] {
        let indexes = ArchiveIndexes(isQuiet: quiet)
        var all: [Input] = []
        for path in input {
            let source = try ImageCollection(listing: [path], indexes: indexes)
            source.warnings.forEach(Terminal.warningOnce)
            let isNamed = source.count == 1 && source.path(0) == path
            if !isNamed {
                try Outputs.check([output], images: source.files)
                source.notes.forEach { note("\($0)") }
            }
            all += (0..<source.count).map { Input(source: source, index: $0, isNamed: isNamed) }
        }
        let most = count ?? (all.contains { !$0.isNamed } ? max(Self.mostListed, all.count { $0.isNamed }) : all.count)
        let chosen = ImageSubset.spread(most, of: all.count).map { all[$0] }
        if chosen.count < all.count {
            note(
                "\(Format.grouped(chosen.count)) of \(Format.grouped(all.count)) pictures, evenly spread: --count draws "
                    + "more")
        }
        return chosen
    }

    /// The masks given as pictures; one, or one for each of `pictures`.
    private func masks(for student: EncoderConfiguration, pictures: Int) throws -> [[Bool]] {
        guard [0, 1, pictures].contains(mask.count) else {
            throw Failure(
                .usage,
                "--mask was given \(mask.count) pictures, and there are \(Format.counted(pictures, "picture")) to draw: "
                    + "give one for all, or one for each")
        }
        return try mask.map {
            // Drawn for this purpose: where nothing is drawn, nothing is removed.
            try Reconstruction.mask(Pixels(contentsOf: $0, channels: 1, as: .torchvision), for: student)
        }
    }

    /// The last part of each path; with the folder before it where two are alike.
    private static func names(_ paths: [String]) -> [String] {
        let parts = paths.map { $0.split(separator: "/") }
        let last = parts.map { String($0.last ?? "") }
        let isUnique = Set(last).count == last.count
        return isUnique ? last : parts.map { $0.suffix(2).joined(separator: "/") }
    }
}
