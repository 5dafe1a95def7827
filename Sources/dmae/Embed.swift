import Reporting
import Inference
import Interchange
import ArgumentParser
import Images
import Models
import Training
import Weights

extension FeaturePool: ExpressibleByArgument {}

struct Embed: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write an encoder's features of images.",
        discussion: """
            The encoder sees every patch. Mean, standard deviation, filter and crop are those of the weights: of their \
            run, of transformers' preprocessor_config.json or of timm's config.json in their folder. Without these, the \
            short side of each image is resized to 8/7 of the model's size (no margin above 224; bicubic, as Pillow \
            does it), the centre cropped and normalised by ImageNet's mean and standard deviation. A line says which.

              dmae embed --weights run/model.safetensors --data pictures \\
                --output features.npy
              dmae embed --weights run/model.safetensors --data a.jpg b.png \\
                --output block8.safetensors --block 8 --pool tokens

            The output is one float32 array (named features in a safetensors file): [images, width], or \
            [images, 1 + patches, width] for all tokens, sorted by path, byte by byte. features.npy.files.txt lists \
            the paths, one per line, and features.npy.labels.txt the classes, where the images have some. \
            features.npy.json comes last and has the checksums of all of them: what it does not confirm is not a \
            result. An output that ends in .csv is a table of path, label and features instead, on its own.

            Unreadable images are reported and left out of all files; if there are more than --unreadable-limit \
            allows, nothing is written and the exit code is 65. Outputs that exist are refused without --force.

            The features do not depend on --threads, --workers or --batch.
            """)

    @Option(help: ArgumentHelp("Weights of an encoder.", valueName: "file"), completion: .file())
    var weights: String

    @OptionGroup var choice: PrefixOptions

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Images, folders of them, searched to any depth, tar archives and lists.",
            valueName: "image|folder|tar|list"),
        completion: .file())
    var data: [String]

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Where to write the features: a .npy, .safetensors or .csv file.", valueName: "file"),
        completion: .file(extensions: ["safetensors", "npy", "csv"]))
    var output: String

    @OptionGroup var replacing: ForceOptions

    @Option(
        help: ArgumentHelp(
            "class token, mean of the patch tokens, or all tokens. Default: mean if the weights were fine-tuned on it, "
                + "else class.",
            valueName: "class|mean|tokens"))
    var pool: FeaturePool?

    @Flag(help: "Print one JSON object instead of text.")
    var json = false

    @Option(help: ArgumentHelp("Take the output of this block, counted from 0, before any norm.", valueName: "number"))
    var block: Int?

    @Option(
        help: ArgumentHelp(
            "Side of the images, or HEIGHTxWIDTH, in pixels, if the weights do not say.", valueName: "pixels"))
    var imageSize: ImageSize?

    @OptionGroup var inference: InferenceOptions

    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precision: PrecisionOptions

    func validate() throws {
        if data.isEmpty { throw ValidationError("--data needs at least one folder, picture, tar archive or list") }
    }

    func run() throws {
        Terminal.hold()
        try compute.apply()
        // Refuse early: embedding may take minutes.
        let files = try FeatureFiles(output)
        try GivenPaths.require([("--weights", [weights]), ("--data", data)])
        try Outputs.requireOutside(files.all, of: data)
        let model = try ModelWeights(path: weights, prefix: choice.prefix)
        if !inference.quiet { Terminal.note(model.summary) }
        try model.requireKnownParts()
        try Outputs.check(files.all, images: data, force: replacing.force)
        try Outputs.requireNoRun(files.all)
        try AtomicFile.requirePlace(at: files.features)
        let encoder = try model.runnableEncoder(heads: inference.heads, imageSize: imageSize)
        let reading = inference.pictures.reading(for: model, isQuiet: inference.quiet)
        let preprocessing = try inference.preprocessing.preprocessing(for: model, isQuiet: inference.quiet)
        let indexes = ArchiveIndexes(isQuiet: inference.quiet)
        let source = try ImageCollection(listing: data, indexes: indexes)
        source.warnings.forEach(Terminal.warningOnce)
        if !inference.quiet { source.notes.forEach(Terminal.note) }
        try Outputs.check(files.all, images: source.files)
        let embedding = try Embedding(
            file: model.tensors, configuration: encoder, block: block, pool: pool,
            batch: inference.batch(for: source.count), precision: precision.resolved())
        var metadata = ["dmae.weights": weights, "dmae.pool": embedding.pool.rawValue]
        if let block { metadata["dmae.block"] = "\(block)" }
        let classes = try source.classes(of: data, indexes: indexes), labels = classes.names
        if let reason = classes.reason, !inference.quiet { Terminal.note(reason) }
        try Processes.share(
            [source], weights: embedding.checksum,
            settings:
                "\(encoder), \(embedding.place), \(embedding.pool), \(embedding.batch), \(precision.resolved()), \(reading), "
                + "\(preprocessing)",
            lead: {
                try lead(
                    embedding, over: source, to: files, labels: labels, metadata, reading: reading,
                    preprocessing: preprocessing)
            },
            follow: {
                _ = try embedding.forEachBatch(
                    of: source, reading: reading, preprocessing: preprocessing, workers: inference.workers
                ) { _, _ in }
            })
    }

    /// Writes the features and says so.
    private func lead(
        _ embedding: Embedding, over source: ImageCollection, to files: FeatureFiles, labels: [String]?,
        _ metadata: [String: String], reading: PictureReading, preprocessing: Preprocessing
    ) throws {
        let progress = ImageProgress(total: source.count, isQuiet: inference.quiet)
        let summary = try embedding.run(
            over: source, to: files, labels: labels,
            metadata: metadata, reading: reading, preprocessing: preprocessing,
            workers: inference.workers,
            unreadableLimit: inference.unreadableLimit, progress: progress.update, report: Terminal.warning)
        guard !json else {
            let report = Report(
                features: files.features, files: files.list, labels: summary.classes == nil ? nil : files.labels,
                images: summary.images, unreadable: summary.unreadable, classes: summary.classes,
                shape: [summary.images] + embedding.shape,
                pool: embedding.pool.rawValue, block: block)
            return print(String(decoding: try report.sortedJSON(), as: UTF8.self))
        }
        let shape = ([summary.images] + embedding.shape).map(String.init).joined(separator: ", ")
        var lines = [("features", "\(escaped(files.features))  [\(shape)], \(what(embedding))")]
        if let list = files.list { lines.append(("images", escaped(list))) }
        if let classes = summary.classes {
            let place = files.labels.map { "\(escaped($0))  " } ?? ""
            lines.append(("labels", "\(place)\(Format.grouped(classes)) class\(classes == 1 ? "" : "es")"))
        }
        if summary.unreadable > 0 {
            lines.append(("left out", Format.counted(summary.unreadable, "unreadable image")))
        }
        print(Format.lines(lines))
    }

    /// The result as JSON.
    private struct Report: Encodable {
        /// Paths of the files that were written.
        let features: String
        let files, labels: String?
        /// Images whose features were written, and those that were left out.
        let images, unreadable: Int
        /// The number of classes; left out without any.
        let classes: Int?
        /// Of the features.
        let shape: [Int]
        let pool: String
        /// The block whose output was taken; left out for the last one.
        let block: Int?
    }

    /// The kind of feature, in words.
    private func what(_ embedding: Embedding) -> String {
        let pool =
            switch embedding.pool {
            case .class: "class token"
            case .mean: "mean of the patch tokens"
            case .tokens: "all tokens"
            }
        let place =
            switch embedding.place {
            case .block(let block): "after block \(block)"
            case .norm: "after the final norm"
            case .meanNorm: "normed by fc_norm"
            }
        return "\(pool) \(place)"
    }
}
