import Reporting
import Images
import Inference
import Interchange
import ArgumentParser
import FoundationEssentials
import Tensors
import Training
import Weights

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the contents of a weight file, or compare two; count the images of a folder.",
        discussion: """
            Prints the format of the file, the naming scheme, the sizes of the model and the metadata; then a line for \
            each tensor in the order of the file (name, type, shape, bytes); then the totals, which in a checkpoint \
            include the optimiser's state. `dmae convert --help` lists the formats.

            With --compare the values of both files are read instead. Printed are tensors that only one file has, \
            tensors of different shape, and for each tensor that differs the maximum difference, absolute and divided \
            by the maximum magnitude in the first file. If the files name the same model differently, MAE's names \
            are compared.

            Of images (a folder, a tar archive or several of them, a list) every one is read and decoded once. Printed \
            are the numbers of images, the classes and formats, the sizes, images that cannot be read or are a copy of \
            another, and the speed of decoding.

              dmae inspect run/model.safetensors
              dmae inspect --json run/model.safetensors | python3 -m json.tool
              dmae inspect teacher.safetensors --compare mae_visualize_vit_large.pth
              dmae inspect pictures/train
              dmae inspect 'train-{000..127}.tar'
            """)

    @Argument(
        help: ArgumentHelp(
            "A weight file, a Hugging Face folder; or images: a picture, a folder, a tar archive or a list.",
            valueName: "file"),
        completion: .file())
    var file: String

    @OptionGroup var choice: PrefixOptions

    @Option(help: ArgumentHelp("Second file, to be compared with the first.", valueName: "file"), completion: .file())
    var compare: String?

    @Flag(help: "Print one JSON object instead of text, with null for infinity.")
    var json = false

    @OptionGroup(title: "Images") var pictures: PictureOptions

    @Option(
        help: ArgumentHelp("Threads that read and decode images. Default: one for each processor.", valueName: "count"))
    var workers: Int?

    @Flag(name: .shortAndLong, help: "Show no progress.")
    var quiet = false

    func validate() throws {
        if let workers, !(1...1024).contains(workers) { throw ValidationError("--workers must be 1 to 1024") }
    }

    func run() throws {
        if compare == nil, choice.prefix == nil,
            ImageCollection.isArchiveOrList(file) || WeightFiles.isFolderWithoutWeights(file)
                || ExaminedImage.isImage(file)
        {
            return try countImages()
        }
        try ExaminedImage.requireDecodable(file)
        let contents = try WeightFiles.open(file)
        if let compare {
            let other = try WeightFiles.open(compare)
            try printComparison(contents, other, compare)
        } else if json {
            try Self.printJSON(Report(contents, path: file, model: try model(contents)))
        } else {
            printText(contents, try model(contents))
        }
    }

    /// Reads every image at `file`, and prints what that showed.
    private func countImages() throws {
        let source =
            ExaminedImage.isImage(file)
            ? try ImageCollection(listing: [file]) : try ImageCollection(ImagePlaces(file), usesLabels: false)
        source.warnings.forEach(Terminal.warningOnce)
        if !quiet { source.notes.forEach(Terminal.note) }
        let progress = ImageProgress(total: source.count, isQuiet: quiet)
        let workers = workers ?? Threads.recommended, reading = pictures.reading()
        let census = try ImageCensus(of: source, reading: reading, workers: workers, progress: progress.update)
        if json { try Self.printJSON(census.report) } else { print(census.text(reading: reading)) }
    }

    /// The model in the file; a failure where none is recognised.
    ///
    /// - Throws: `Failure.badData` where none has the prefix that was asked for.
    private func model(_ contents: any WeightFile) throws -> Result<ModelWeights, any Error> {
        let model = Result { try ModelWeights(contents, path: file, prefix: choice.prefix) }
        // Where the system fails, nothing is known of the model.
        if case .failure(let failure as Failure) = model, failure.code == .inputOutput { throw failure }
        if choice.prefix != nil { _ = try CanonicalWeightFile(contents, prefix: choice.prefix) }
        return model
    }

    // MARK: One file

    private struct Report: Encodable {
        struct Tensor: Encodable {
            let name: String
            let type: String
            let shape: [Int]
            let bytes: Int
        }
        struct Model: Encodable {
            let scheme: String
            let wrapper: String
            /// Prefixes of the other models in the file.
            let otherWrappers: [String]
            let width, depth, patchSize, channels: Int
            /// Absent, like the other optional values, if unknown.
            let heads, imageHeight, imageWidth: Int?
            let decoderWidth, decoderDepth, decoderHeads: Int?
            let projectionHeads: Int
            let classes: Int?
            let classNames: [String]?
            /// The tokens that the head reads.
            let pool: String?
            let maskRatio: Double?
            let normalizePixels: Bool?
            /// How pictures are prepared, as a run's configuration says it.
            let preprocessing: Preprocessing?

            init(_ weights: ModelWeights) {
                func known(_ value: Int) -> Int? { value == 0 ? nil : value }
                let detection = weights.tensors.detection
                scheme = detection.scheme.name
                wrapper = detection.wrapper
                otherWrappers = detection.others
                width = weights.encoder.width
                depth = weights.encoder.depth
                patchSize = weights.encoder.patchSize
                channels = weights.encoder.channels
                heads = known(weights.encoder.heads)
                imageHeight = known(weights.encoder.imageHeight)
                imageWidth = known(weights.encoder.imageWidth)
                decoderWidth = weights.decoder?.width
                decoderDepth = weights.decoder?.depth
                decoderHeads = weights.decoder.flatMap { known($0.heads) }
                projectionHeads = weights.projectionHeads
                classes = weights.classes
                classNames = weights.classNames
                pool = weights.pool?.rawValue
                maskRatio = weights.maskRatio
                normalizePixels = weights.normalizePixels
                preprocessing = weights.statedPreprocessing?.preprocessing
            }
        }
        let file: String
        let form: String
        let kind: String
        /// Absent if no model is recognised.
        let model: Model?
        let metadata: [Pair]
        let tensors: [Tensor]
        let tensorCount: Int
        let parameters: Int
        let bytes: Int
        let fileBytes: Int

        init(_ contents: any WeightFile, path: String, model: Result<ModelWeights, any Error>) {
            file = path
            form = contents.form
            kind = Inspect.kind(contents, model)
            self.model = (try? model.get()).map(Model.init)
            metadata =
                contents.metadata.sorted { $0.key < $1.key }.map { Pair(key: $0.key, value: $0.value) }
                + contents.values.map { Pair(key: $0.name, value: Inspect.text($0.value)) }
            tensors = contents.entries.map {
                Report.Tensor(name: $0.name, type: $0.typeName, shape: $0.shape, bytes: $0.byteCount)
            }
            tensorCount = contents.entries.count
            parameters = contents.elementCount
            bytes = contents.dataByteCount
            fileBytes = contents.byteCount
        }
    }

    /// The metadata of a file. Not a dictionary: the encoder would change the file's keys.
    private struct Pair: Encodable {
        let key, value: String
    }

    private func printText(_ contents: any WeightFile, _ model: Result<ModelWeights, any Error>) {
        print("\(shown(file)): \(Self.kind(contents, model))")
        print("  form: \(contents.form)")
        switch model {
        case .success(let weights):
            print("  names: \(shown(weights.tensors.detection.description))")
            print("  model: \(shown(weights.architecture))")
            if let stated = weights.statedPreprocessing {
                print("  pixels: \(stated.preprocessing) (\(stated.origin))")
            }
            if let part = weights.tensors.foreign.first {
                print("  not MAE's ViT: it has parts of its own, such as \(shown(part))")
            }
            if let fault = weights.positionFault {
                print("  not MAE's ViT: \(shown(fault.text(in: Flags())))")
            }
            if let hint = weights.hint { print("  hint: \(hint.text(in: Flags()))") }
        case .failure(let failure):
            let reason = (failure as? Failure)?.message(in: Flags()) ?? "\(failure)"
            print("  model: none that is recognised (\(shown(reason)))")
        }
        let pairs =
            contents.metadata.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
            + contents.values.map { ($0.name, Self.text($0.value)) }
        for (key, value) in pairs { print("  \(shown(key)) = \(shown(value, limit: 200))") }
        if !contents.entries.isEmpty {
            let rows = contents.entries.map { entry in
                [shown(entry.name), entry.typeName, Self.text(entry.shape), Format.grouped(entry.byteCount)]
            }
            print(Format.table([["tensor", "type", "shape", "bytes"]] + rows, left: 3))
        }
        print(
            Format.counted(contents.entries.count, "tensor") + ", " + Format.counted(contents.elementCount, "parameter")
                + ", " + Format.bytes(contents.dataByteCount))
    }

    /// A description of the file in a few words.
    private static func kind(_ file: any WeightFile, _ model: Result<ModelWeights, any Error>) -> String {
        if let step = file.metadata[CheckpointStore.stepKey] {
            let halfway = file.names.contains { $0.hasPrefix(CheckpointStore.gradientPrefix) }
            return "checkpoint of a run of dmae at step \(step)" + (halfway ? ", in the middle of the next one" : "")
        }
        if ["dmae.configuration", "dmae.training"].contains(where: { file.metadata[$0] != nil }) {
            return "weights of a model that dmae trained"
        }
        if file.metadata["dmae.replay"] != nil { return "recorded steps for dmae replay" }
        guard case .success(let weights) = model else { return file.form }
        if weights.hasDecoder { return "a masked autoencoder's encoder and decoder" }
        if weights.classes != nil { return "a Vision Transformer with a class head" }
        return "a Vision Transformer's encoder, without a decoder"
    }

    // MARK: Two files

    private struct ComparisonReport: Encodable {
        struct Shapes: Encodable {
            let name: String
            let shape, otherShape: [Int]
        }
        struct Difference: Encodable {
            let name: String
            let elements: Int
            let maximum, relative: Magnitude
        }
        /// Null if infinite: a value is not finite or, in a relative difference, the first file has only zeros.
        struct Magnitude: Encodable {
            let value: Double

            func encode(to encoder: any Encoder) throws {
                var container = encoder.singleValueContainer()
                if value.isFinite { try container.encode(value) } else { try container.encodeNil() }
            }
        }
        let file, other: String
        /// The names compared: "MAE", or "file" if both files have the same names.
        let names: String
        let onlyInFile, onlyInOther: [String]
        let shapes: [Shapes]
        let differences: [Difference]
        let identical: Int
    }

    private func printComparison(_ first: any WeightFile, _ second: any WeightFile, _ path: String) throws {
        let models = [
            choice.prefix == nil
                ? try? CanonicalWeightFile(first) : try CanonicalWeightFile(first, prefix: choice.prefix),
            try? CanonicalWeightFile(second),
        ]
        // Names of two tools for the same model are translated to MAE's; otherwise all tensors are compared by name.
        var pair = (first, second)
        var translated = false
        if let left = models[0], let right = models[1],
            choice.prefix != nil || left.detection.scheme != right.detection.scheme
                || left.detection.wrapper != right.detection.wrapper
                // Hugging Face has several spellings of one scheme.
                || left.entries.contains(where: {
                    right[$0.name] != nil && left.sourceNames($0.name) != right.sourceNames($0.name)
                })
        {
            pair = (left, right)
            translated = true
        }
        let comparison = try WeightComparison(pair.0, pair.1)
        if json {
            try Self.printJSON(
                ComparisonReport(
                    file: file, other: path, names: translated ? NamingScheme.mae.name : "file",
                    onlyInFile: comparison.onlyInFirst,
                    onlyInOther: comparison.onlyInSecond,
                    shapes: comparison.shapes.map { .init(name: $0.name, shape: $0.first, otherShape: $0.second) },
                    differences: comparison.differences.map {
                        .init(
                            name: $0.name, elements: $0.count, maximum: .init(value: $0.maximum),
                            relative: .init(value: $0.relative))
                    }, identical: comparison.identical))
            return
        }
        if translated { print("compared under MAE's names") }
        for name in comparison.onlyInFirst { print("only in \(shown(file)): \(shown(name))") }
        for name in comparison.onlyInSecond { print("only in \(shown(path)): \(shown(name))") }
        for tensor in comparison.shapes {
            print("shapes differ: \(shown(tensor.name)) \(Self.text(tensor.first)) and \(Self.text(tensor.second))")
        }
        if !comparison.differences.isEmpty {
            let rows = comparison.differences.map {
                [shown($0.name), Format.grouped($0.count), "\(Float($0.maximum))", "\(Float($0.relative))"]
            }
            print(
                Format.table(
                    [["tensor", "elements that differ", "largest difference", "over the first's largest magnitude"]]
                        + rows))
        }
        let counts = [
            "\(comparison.identical) identical", "\(comparison.differences.count) different",
            "\(comparison.shapes.count) of another shape",
            "\(comparison.onlyInFirst.count + comparison.onlyInSecond.count) in one file only",
        ]
        print("tensors: " + counts.joined(separator: ", "))
    }

    // MARK: Wording

    /// One JSON object on one line, keys sorted and in snake_case.
    static func printJSON(_ report: some Encodable) throws {
        print(String(decoding: try report.sortedJSON(isSnakeCase: true), as: UTF8.self))
    }

    private static func text(_ shape: [Int]) -> String { "[" + shape.map(String.init).joined(separator: ", ") + "]" }

    private static func text(_ value: PlainValue) -> String {
        switch value {
        case .none: "none"
        case .bool(let value): "\(value)"
        case .integer(let value): "\(value)"
        case .number(let value): "\(value)"
        case .text(let value): value
        case .list(let values): "[" + values.map { text($0) }.joined(separator: ", ") + "]"
        case .other(let words): words
        }
    }

    /// `text` on one line: characters that a terminal would obey are escaped, cut at `limit` with a note.
    private func shown(_ text: String, limit: Int = .max) -> String {
        escaped(text, limit: limit) { "… (\($0) characters)" }
    }
}
