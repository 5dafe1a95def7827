import Reporting
import Inference
import Interchange
import ArgumentParser
import Images
import Models
import Weights

/// "10,20": numbers of neighbours.
struct NeighborCounts: ExpressibleByArgument {
    let counts: [Int]

    init(_ counts: [Int]) { self.counts = counts }

    init?(argument: String) {
        let numbers = argument.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
        guard !numbers.isEmpty, numbers.allSatisfy({ $0 != nil && $0! >= 1 }) else { return nil }
        counts = numbers.map { $0! }
    }

    var defaultValueDescription: String { counts.map(String.init).joined(separator: ",") }
}

struct Knn: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Classify images by the most similar training images: a quick test of an encoder.",
        discussion: """
            Needs images with classes, one folder per class, and no training. The features are those that `dmae embed` \
            writes by default, divided by their norm. The k training images with the largest cosine similarity vote \
            for their class with the weight exp(similarity / 0.07). top-1 is the fraction of validation images whose \
            class has the most votes, top-5 the fraction whose class is among the first five.

              dmae knn --weights run/model.safetensors --train images/train \\
                --val images/val
              dmae knn --weights run/model.safetensors --train images/train \\
                --val images/val --k 1,10,20,100 --json

            Figures mean little without a scale. So the same is done with raw pixels (16×16) and with the same encoder \
            with random weights, on at most 5,000 training and 1,000 validation images; of larger sets, images at \
            equal distances are taken, and the trained encoder is evaluated on them as well. The last sentences \
            compare them at one k, the largest of at most 20. chance is the top-1 of always guessing the most frequent \
            class of the training images, and the top-5 of guessing the five most frequent.

            Images of --val that are copies of images of --train are left out of the figures: each would be its own \
            nearest neighbour.

            The figures do not depend on --threads, --workers or --batch. Of equally similar training images the first \
            is nearer: images are ordered by class, then by path. Of classes with equal votes the first is predicted.
            """)

    @Option(help: ArgumentHelp("Weights of an encoder.", valueName: "file"), completion: .file())
    var weights: String

    @OptionGroup var choice: PrefixOptions

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Training images: folders with one folder per class, tar archives, lists with labels.",
            valueName: "folder|tar|list"),
        completion: .file())
    var train: [String]

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Validation images, with the same classes.", valueName: "folder|tar|list"),
        completion: .file())
    var val: [String]

    @Option(help: ArgumentHelp("Numbers of neighbours, separated by commas.", valueName: "k,…"))
    var k = NeighborCounts([10, 20])

    @Flag(help: "Print one JSON object.")
    var json = false

    @Flag(help: "Evaluate the trained encoder only, without raw pixels and random weights.")
    var noBaselines = false

    @Option(
        help: ArgumentHelp(
            "class token or mean of the patch tokens. Default: mean if the weights were fine-tuned on it, else class.",
            valueName: "class|mean"))
    var pool: ClassifierPool?

    @Option(
        help: ArgumentHelp(
            "Side of the images, or HEIGHTxWIDTH, in pixels, if the weights do not say.", valueName: "pixels"))
    var imageSize: ImageSize?

    @OptionGroup var inference: InferenceOptions

    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precision: PrecisionOptions

    func validate() throws {
        try ValidationError.requirePlaces(train, "--train")
        try ValidationError.requirePlaces(val, "--val")
    }

    func run() throws {
        Terminal.hold()
        try compute.apply()
        try GivenPaths.require([("--weights", [weights]), ("--train", train), ("--val", val)])
        let shared = GivenPaths.sharedWarning(("--train", train), ("--val", val), "the accuracy")
        let indexes = ArchiveIndexes(isQuiet: inference.quiet)
        let train = try ImageCollection(ImagePlaces(train), indexes: indexes)
        let validation = try ImageCollection(ImagePlaces(val), indexes: indexes)
        try requireSameClasses(train, .train, validation, .validation)
        let model = try ModelWeights(path: weights, prefix: choice.prefix)
        ([train, validation] as [any ImageSource]).distinctWarnings.forEach(Terminal.warningOnce)
        shared.map { Terminal.warning($0) }
        let copied = try CopiedImages(of: train, in: validation, workers: inference.workers)
        if let sentence = GivenPaths.copies(copied, of: "--train", in: "--val") {
            if !copied.areAll {
                Terminal.warning("\(sentence): left out of the figures")
            } else if shared == nil {
                Terminal.warning("\(sentence); give --val other images")
            }
        }
        let judged = Self.without(copied, validation)
        if !inference.quiet {
            for note in train.notes + validation.notes { Terminal.note(note) }
            Terminal.note(model.summary)
        }
        try model.requireKnownParts()
        try model.tensors.requireOneNorm("k-NN", "name weights with the one that is used")
        let embedding = try Embedding(
            file: model.tensors, configuration: try model.runnableEncoder(heads: inference.heads, imageSize: imageSize),
            block: nil, pool: pool?.feature,
            batch: inference.batch(for: max(train.count, judged.count)),
            precision: precision.resolved())
        let reading = inference.pictures.reading(for: model, isQuiet: inference.quiet)
        let preprocessing = try inference.preprocessing.preprocessing(for: model, isQuiet: inference.quiet)
        var progress: ImageProgress?
        let evaluation = try NeighborEvaluation(
            embedding, train: train, validation: judged, counts: k.counts, hasBaselines: !noBaselines,
            reading: reading, preprocessing: preprocessing,
            workers: inference.workers,
            unreadableLimit: inference.unreadableLimit,
            progress: { progress?.update($0) }, report: Terminal.warning)
        progress = ImageProgress(total: evaluation.totalImages, isQuiet: inference.quiet)
        if evaluation.passes > 1, !inference.quiet {
            Terminal.note(
                "the features of \(Format.counted(judged.count, "validation image")) are compared in "
                    + "\(evaluation.passes) parts, and the training images are encoded for each of them")
        }
        try Processes.share(
            [train, judged], weights: embedding.checksum,
            settings:
                "\(embedding.configuration), \(embedding.pool), \(embedding.batch), \(precision.resolved()), \(reading), "
                + "\(preprocessing), \(noBaselines)",
            lead: { try report(evaluation.run(), classes: train.classes.count, copied) },
            follow: { _ = try evaluation.run() })
    }

    /// Prints the figures.
    private func report(_ result: NeighborEvaluation.Result, classes: Int, _ copied: CopiedImages) throws {
        if json {
            print(String(decoding: try Report(result, copied).sortedJSON(), as: UTF8.self))
        } else {
            print(Self.table(result, classes: classes))
            print("")
            print(
                Format.filled(
                    copied.areAll
                        ? Self.sharedVerdict
                        : Self.verdict(onLookalikesOf: result)
                            ?? result.comparison?.explanation
                            ?? "Without baselines only chance gives a scale: leave out --no-baselines to see what raw "
                            + "pixels and random weights reach on the same images."))
        }
    }

    /// The images of `validation` that are no copies; all of them where there are no others.
    private static func without(_ copied: CopiedImages, _ validation: ImageCollection) -> any ImageSource {
        guard !copied.copies.isEmpty, !copied.areAll else { return validation }
        let copies = Set(copied.copies.map(\.image))
        return ImageSubset(validation, (0..<validation.count).filter { !copies.contains($0) })
    }

    /// What is said of images that look the same, in place of a verdict where they are more than a trifle.
    private static func verdict(onLookalikesOf result: NeighborEvaluation.Result) -> String? {
        let count = result.lookalikes.count, total = result.figures.validationImages
        guard count > 0 else { return nil }
        let names = result.lookalikes.prefix(2).map { "\(escaped($0.title)) like \(escaped($0.original))" }
        let sentence =
            "\(Format.grouped(count)) of the \(Format.counted(total, "validation image")) "
            + "\(count == 1 ? "looks" : "look") to the encoder exactly like a training image "
            + "(\(names.joined(separator: ", "))\(count > names.count ? ", …" : "")): likely copies that were saved anew"
        guard count > total / 100 else {
            Terminal.warning(sentence)
            return nil
        }
        return "No verdict on the features: \(sentence). Take them out of --val or of --train."
    }

    /// In place of a verdict where all validation images are training images.
    private static let sharedVerdict =
        "No verdict on the features: an image that is in both --train and --val is its own nearest neighbour, whatever the "
        + "encoder has learned. Give --val other images than --train."

    /// The figures as an aligned table.
    private static func table(_ result: NeighborEvaluation.Result, classes: Int) -> String {
        // Of five classes each image's is among the first five.
        let shown = classes > 5 ? 2 : 1
        func percent(_ value: Double) -> String { Format.fixed(100 * value, 2) + " %" }
        func images(_ figures: NeighborEvaluation.Figures) -> [String] {
            [Format.grouped(figures.trainImages), Format.grouped(figures.validationImages)]
        }
        func row(_ name: String, _ figures: NeighborEvaluation.Figures) -> [String] {
            [name] + images(figures) + figures.scores.flatMap { [percent($0.top1), percent($0.top5)].prefix(shown) }
        }
        let all = result.figures
        var rows = [
            ["", "training", "validation"]
                + all.scores.flatMap { ["top-1, k = \($0.k)", "top-5, k = \($0.k)"].prefix(shown) },
            row("trained encoder", all),
        ]
        if let comparison = result.comparison {
            if comparison.encoder != all { rows.append(row("trained encoder", comparison.encoder)) }
            rows.append(row("random weights", comparison.random))
            rows.append(row("raw pixels", comparison.pixels))
        }
        let chance = [percent(result.chance.top1), percent(result.chance.top5)]
        rows.append(["chance"] + images(all) + all.scores.flatMap { _ in chance.prefix(shown) })
        return Format.table(rows)
    }

    /// The JSON object that --json prints.
    private struct Report: Encodable {
        struct Scores: Encodable {
            let top1, top5: Double
        }
        /// The trained encoder on the images of the baselines.
        struct Compared: Encodable {
            let k: [String: Scores]
            let trainImages, validationImages: Int

            enum CodingKeys: String, CodingKey {
                case k, trainImages = "train_images", validationImages = "val_images"
            }
        }
        let k: [String: Scores]
        let chance, chanceTop5: Double
        let pixels, random: [String: Scores]?
        let compared: Compared?
        let trainImages, validationImages: Int
        /// Validation images that are copies of training images. Where not all are, they are left out.
        let copies: Int
        /// Others that look exactly like training images.
        let lookalikes: Int

        enum CodingKeys: String, CodingKey {
            case k, chance, pixels, random, compared, copies, lookalikes
            case chanceTop5 = "chance_top5", trainImages = "train_images", validationImages = "val_images"
        }

        init(_ result: NeighborEvaluation.Result, _ copied: CopiedImages) {
            copies = copied.copies.count
            lookalikes = copied.areAll ? 0 : result.lookalikes.count
            func scores(_ figures: NeighborEvaluation.Figures) -> [String: Scores] {
                Dictionary(
                    uniqueKeysWithValues: figures.scores.map { ("\($0.k)", Scores(top1: $0.top1, top5: $0.top5)) })
            }
            k = scores(result.figures)
            (chance, chanceTop5) = result.chance
            pixels = result.comparison.map { scores($0.pixels) }
            random = result.comparison.map { scores($0.random) }
            compared = result.comparison.map {
                Compared(
                    k: scores($0.encoder), trainImages: $0.encoder.trainImages,
                    validationImages: $0.encoder.validationImages)
            }
            trainImages = result.figures.trainImages
            validationImages = result.figures.validationImages
        }
    }
}
