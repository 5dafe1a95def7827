import ArgumentParser
import Glibc
import Images
import Inference
import Interchange
import Models
import Reporting

struct Predict: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Predict the classes of images with a fine-tuned model.",
        discussion: """
            Prints a line for each image: its path and the five most probable classes with their probabilities, the \
            most probable first. Lines appear as soon as the images of a pass are done. Folders are searched to any \
            depth, and images are sorted by path, byte by byte.

              dmae predict --weights run/best.safetensors cat.jpg
              dmae predict --weights run/best.safetensors pictures --csv > classes.csv

            A class has the name that the weights give it, else its index. Of an image that cannot be read the line \
            says so, in its place among the others, with the reason on standard error; in JSON it has an error and no \
            predictions, in CSV empty columns. If there are more of them than --unreadable-limit allows, the exit code \
            is 65 when all others are done.

            The result does not depend on --threads, --workers or --batch.
            """)

    @Argument(
        help: ArgumentHelp(
            "Images, folders of them, searched to any depth, tar archives and lists.",
            valueName: "image|folder|tar|list"),
        completion: .file())
    var images: [String]

    @Flag(help: "Print one JSON object per image.")
    var json = false

    @Flag(help: "Print comma-separated values, a line with the names of the columns first.")
    var csv = false

    @OptionGroup var classifier: ClassifierOptions
    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precision: PrecisionOptions

    /// Classes on a line.
    private static let shown = 5

    func validate() throws {
        if json, csv { throw ValidationError("--json and --csv exclude each other") }
    }

    func run() throws {
        Terminal.hold()
        try compute.apply()
        try GivenPaths.require([("--weights", [classifier.weights]), ("images", images)])
        let model = try classifier.open()
        let source = try ImageCollection(
            listing: images, indexes: ArchiveIndexes(isQuiet: classifier.inference.quiet))
        source.warnings.forEach(Terminal.warningOnce)
        if !classifier.inference.quiet { source.notes.forEach(Terminal.note) }
        let classification = try classifier.classification(model, images: source.count, precision)
        let names = model.classNames ?? (0..<classification.classes).map(String.init)
        let count = min(Self.shown, classification.classes)
        if csv {
            let columns = (1...count).flatMap { ["class_\($0)", "index_\($0)", "probability_\($0)"] }
            try printNow((["path"] + columns).joined(separator: ","))
        }
        let progress = ImageProgress(total: source.count, isQuiet: classifier.inference.quiet)
        var done = 0
        var reasons: [Int: Message] = [:]
        /// The lines of the images before `end` that cannot be read and have none yet.
        func unreadableLines(before end: Int) throws -> [String] {
            try reasons.keys.filter { $0 < end }.sorted().map {
                try line(source.path($0), unreadable: reasons.removeValue(forKey: $0)!, columns: 3 * count)
            }
        }
        let unreadable = try classification.run(
            over: source,
            reading: classifier.inference.pictures.reading(for: model, isQuiet: classifier.inference.quiet),
            preprocessing: try classifier.inference.preprocessing.preprocessing(
                for: model, isQuiet: classifier.inference.quiet),
            workers: classifier.inference.workers,
            unreadableLimit: 1,
            unreadable: { reasons[$0] = $1 },
            report: Terminal.warning
        ) { batch, logits in
            var lines: [String] = []
            for (row, image) in batch.images.enumerated() {
                lines += try unreadableLines(before: image)
                let own = UnsafeBufferPointer(
                    rebasing: logits[row * classification.classes..<(row + 1) * classification.classes])
                lines.append(try line(source.path(image), Prediction.best(count, of: own), names))
            }
            try printNow(lines.joined(separator: "\n"))
            done += batch.count
            progress.update(done)
        }
        for line in try unreadableLines(before: source.count) { try printNow(line) }
        let limit = classifier.inference.unreadableLimit
        guard !UnreadableLimit.isExceeded(by: unreadable, of: source.count, limit) else {
            fflush(stdout)
            throw UnreadableLimit.failure(
                "\(unreadable) of the \(source.count) images cannot be read, more than the allowed fraction of \(limit); "
                    + "the lines of the others are complete", unreadable, of: source.count)
        }
    }

    /// Prints a line at once, whatever standard output is.
    private func printNow(_ line: String) throws {
        print(line)
        guard fflush(stdout) == 0 else {
            throw Failure(.inputOutput, "cannot write to standard output: check where it goes, and the space there")
        }
    }

    private func line(_ path: String, _ predictions: [Prediction], _ names: [String]) throws -> String {
        if json {
            let report = Report(
                path: path,
                predictions: predictions.map {
                    Report.Class(class: names[$0.index], index: $0.index, probability: $0.probability)
                })
            return String(decoding: try report.sortedJSON(), as: UTF8.self)
        }
        if csv {
            let columns = predictions.flatMap {
                [Format.commaSeparated(names[$0.index]), "\($0.index)", "\($0.probability)"]
            }
            return ([Format.commaSeparated(path)] + columns).joined(separator: ",")
        }
        let classes = predictions.map { "\(names[$0.index]) \(Format.fixed(100 * $0.probability, 2)) %" }
        // A line break in a name must not end the line.
        return visible(([path] + classes).joined(separator: "  ")).replacing("\n", with: "\\n")
    }

    /// The line of an image that cannot be read.
    ///
    /// - Parameter columns: columns after the path, of CSV.
    private func line(_ path: String, unreadable reason: Message, columns: Int) throws -> String {
        if json {
            let report = Report(path: path, predictions: [], error: reason.text(in: Flags()))
            return String(decoding: try report.sortedJSON(), as: UTF8.self)
        }
        if csv { return Format.commaSeparated(path) + String(repeating: ",", count: columns) }
        return visible("\(path)  cannot be read").replacing("\n", with: "\\n")
    }

    private struct Report: Encodable {
        struct Class: Encodable {
            let `class`: String
            let index: Int
            let probability: Double
        }
        let path: String
        let predictions: [Class]
        /// Why the image cannot be read; left out of the others.
        var error: String?
    }
}
