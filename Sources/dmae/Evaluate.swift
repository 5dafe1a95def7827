import ArgumentParser
import Glibc
import Images
import Inference
import Interchange
import Models
import Reporting
import Weights

struct Evaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure a fine-tuned model on images with labels.",
        discussion: """
            The folder has a directory for each class. Printed are top-1 and top-5 (the fraction of images whose class \
            is the most probable one, or among the five most probable), chance (the top-1 of always predicting the most \
            frequent class of these images), the mean cross-entropy, each class's top-1, and the classes that are most \
            often confused. Images are prepared as `dmae embed` does; no augmentation.

              dmae evaluate --weights run/best.safetensors --data images/val
              dmae evaluate --weights run/best.safetensors --data images/val --json \\
                --logits logits.safetensors --confusion confusion.png

            Weights that name their classes are held to them: the directories must have the same names. Without names, \
            directories are taken in the order of their bytes, as torchvision sorts them. --class-map natural takes \
            them in the order in which timm sorts, where 2 stands before 10; --class-map FILE reads a list, on each \
            line the name of a directory and, after a tab, a comma or spaces, the index or the name of its class. \
            Only with a list may the data have fewer classes than the head.

            --logits writes the tensors logits [images, classes] and labels [images] of a safetensors file, sorted by \
            class directory, then by path; logits.safetensors.files.txt lists the paths, one per line. \
            Unreadable images are reported and left out; if there are more than --unreadable-limit allows, the exit \
            code is 65.

            The result does not depend on --threads, --workers or --batch.
            """)

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Images with classes: folders, tar archives, and lists with labels.", valueName: "folder|tar|list"),
        completion: .file())
    var data: [String]

    @Flag(help: "Print one JSON object instead of text.")
    var json = false

    @Option(
        help: ArgumentHelp("Where to write logits and labels: a .safetensors file.", valueName: "file"),
        completion: .file(extensions: ["safetensors"]))
    var logits: String?

    @Option(
        help: ArgumentHelp("Where to draw the confusion matrix: a .png file.", valueName: "file"),
        completion: .file(extensions: ["png"]))
    var confusion: String?

    @Option(
        help: ArgumentHelp(
            "How class directories belong to classes: in natural order, or as a list in a file says.",
            valueName: "natural|file"),
        completion: .file())
    var classMap: String?

    @OptionGroup var classifier: ClassifierOptions
    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precision: PrecisionOptions

    func validate() throws {
        try ValidationError.requirePlaces(data, "--data")
    }

    func run() throws {
        if let confusion {
            try Outputs.requireEnding(".png", of: confusion, "--confusion", "the matrix is drawn as a PNG file")
        }
        Terminal.hold()
        try compute.apply()
        // Refuse early: evaluation may take minutes.
        let list = try logits.map { try Evaluation.list(beside: $0) }
        try GivenPaths.require(
            [("--weights", [classifier.weights]), ("--data", data)]
                + (classMap.map { $0 == "natural" ? [] : [("--class-map", [$0])] } ?? []))
        try Outputs.requireOutside([logits, list, confusion].compactMap { $0 }, of: data)
        let model = try classifier.open()
        let places = ImagePlaces(data)
        let source = try ImageCollection(places, indexes: ArchiveIndexes(isQuiet: classifier.inference.quiet))
        let mapping = try ClassMapping(
            folder: source.classes, head: model.classes!, names: model.classNames,
            map: classMap.map { try ClassMap($0) }, place: "\(places)", meant: source.evaluationPart)
        // After the list of --class-map was read.
        try Outputs.check([logits, list, confusion].compactMap { $0 }, images: source.files, tensors: .logits)
        // A list without logits is something else.
        if let logits, let list, access(logits, F_OK) != 0, access(list, F_OK) == 0 {
            throw Failure(
                .usage,
                "\(quoted(path: list)) exists without logits beside it and would be replaced: name other --logits, or "
                    + "remove it")
        }
        if confusion != nil, source.classes.count > ConfusionPicture.maximumClasses {
            throw Failure(
                .usage,
                "--confusion draws at most \(ConfusionPicture.maximumClasses) classes, and \(places) has "
                    + "\(source.classes.count): leave it out")
        }
        for path in [logits, confusion] { try path.map(AtomicFile.requirePlace) }
        source.warnings.forEach(Terminal.warningOnce)
        if !classifier.inference.quiet { source.notes.forEach(Terminal.note) }
        for note in mapping.notes { Terminal.warning(note.text(in: Flags())) }
        let classification = try classifier.classification(model, images: source.count, precision)
        let reading = classifier.inference.pictures.reading(for: model, isQuiet: classifier.inference.quiet)
        let preprocessing = try classifier.inference.preprocessing.preprocessing(
            for: model, isQuiet: classifier.inference.quiet)
        try Processes.share(
            [source], weights: classification.checksum,
            settings: "\(classification.configuration), \(classification.pool), \(classification.batch), "
                + "\(precision.resolved()), \(reading), \(preprocessing), \(mapping.indices)",
            lead: {
                try lead(
                    classification, model, over: source, mapping, to: list, reading: reading,
                    preprocessing: preprocessing)
            },
            follow: {
                _ = try classification.run(
                    over: source, reading: reading, preprocessing: preprocessing, workers: classifier.inference.workers
                ) { _, _ in }
            })
    }

    /// Evaluates the model and prints the report.
    private func lead(
        _ classification: Classification, _ model: ModelWeights, over source: ImageCollection, _ mapping: ClassMapping,
        to list: String?, reading: PictureReading, preprocessing: Preprocessing
    ) throws {
        let progress = ImageProgress(total: source.count, isQuiet: classifier.inference.quiet)
        let evaluation = try Evaluation(
            classification, over: source, mapping: mapping, logits: logits,
            metadata: ["dmae.weights": classifier.weights],
            reading: reading, preprocessing: preprocessing,
            workers: classifier.inference.workers,
            unreadableLimit: classifier.inference.unreadableLimit, progress: progress.update, report: Terminal.warning)
        let report = EvaluationReport(
            evaluation, names: Self.names(model.classNames, source.classes, mapping, count: classification.classes))
        if let confusion {
            let picture = ConfusionPicture.draw(
                report.matrix, images: report.classes.map(\.images), numbers: evaluation.classes)
            try AtomicFile.write(PNGWriter.encode(picture, named: confusion), to: confusion)
        }
        if json {
            print(String(decoding: try report.sortedJSON(), as: UTF8.self))
        } else {
            print(report.text)
            var files: [(String, String)] = []
            if let logits, let list { files += [("logits", escaped(logits)), ("images", escaped(list))] }
            if let confusion {
                files.append(
                    (
                        "confusion",
                        "\(escaped(confusion)): rows are the images' classes, columns the predicted ones, numbers "
                            + "the classes' indices"
                    ))
            }
            if !files.isEmpty { print("\n" + Format.lines(files)) }
        }
    }

    /// The name of each class of the head: the weights', else its directory's, else its index.
    private static func names(_ own: [String]?, _ folder: [String], _ mapping: ClassMapping, count: Int) -> [String] {
        if let own { return own }
        var names = (0..<count).map(String.init)
        for (name, index) in zip(folder, mapping.indices).reversed() { names[index] = name }
        return names
    }
}
