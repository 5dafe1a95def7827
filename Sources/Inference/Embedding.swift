import Reporting
import Glibc
import Images
import Interchange
import Models
import Ranks
import Tensors
import Weights

/// Computes the features of many images with an unmasked encoder and writes them to a file, one row per image.
public final class Embedding {
    /// The encoder's sizes.
    public let configuration: EncoderConfiguration
    /// Where in the encoder the features are taken.
    public let place: FeaturePlace
    /// Which tokens they are made of.
    public let pool: FeaturePool
    /// The dimensions of one image's feature: [D], or [1 + L, D] for all tokens.
    public var shape: [Int] {
        pool == .tokens ? [1 + configuration.patches, configuration.width] : [configuration.width]
    }

    /// The result of a run.
    public struct Summary: Equatable, Sendable {
        /// Images whose features were written.
        public let images: Int
        /// Images that could not be read; the files have no row for them.
        public let unreadable: Int
        /// Number of different labels; nil without labels.
        public let classes: Int?
    }

    /// Images of one pass.
    public var batch: Int { extractor.batch }

    private let extractor: FeatureExtractor
    /// XXH64 of the weights.
    public var checksum: String {
        var hash = XXHash64()
        for parameter in extractor.parameters.all { hash.update(UnsafeRawBufferPointer(parameter.weight.elements)) }
        return hash.text
    }

    private let plan = MemoryPlan()

    /// Plans the memory and loads the weights.
    ///
    /// - Parameters:
    ///   - file: an encoder under MAE's names.
    ///   - block: the block whose output is taken, before any norm; nil for the end of the encoder.
    ///   - pool: nil for the default: the class token, or the mean of the patch tokens if no block is given and the
    ///     weights hold `fc_norm` instead of `norm`.
    ///   - batch: images of one pass; the features do not depend on it.
    /// - Throws: `Failure` if the weights do not fit the configuration, an option does not fit the weights, or the
    ///   weights hold both norms and no block is given.
    public init(
        file: any WeightFile, configuration: EncoderConfiguration, block: Int?, pool: FeaturePool?, batch: Int,
        precision: Precision = .f32
    ) throws {
        guard configuration.channels == 1 || configuration.channels == 3 else {
            throw Failure(
                .badData,
                "\(file.path): takes \(configuration.channels) channels, but image files give 1 or 3: use weights for "
                    + "one of them"
            )
        }
        let feature = try EncoderFeature(of: file, block: block, pool: pool, for: "embed")
        (place, self.pool) = (feature.place, feature.pool)
        self.configuration = configuration
        extractor = try FeatureExtractor(
            configuration, at: place, pool: self.pool, batch: batch, plan: plan, precision: precision)
        try plan.commit()
        extractor.parameters.initializePositions()
        try extractor.parameters.load(from: file)
    }

    /// The number of images in each pass over `count` images: at most `most`, in as few passes as that allows, all of
    /// about the same size.
    public static func batch(for count: Int, most: Int) -> Int {
        let passes = max(1, count / most + (count % most == 0 ? 0 : 1))
        return max(1, (count + passes - 1) / passes)
    }

    /// The features of normalised images [n, C, H, W], n at most the batch: [n] + shape.
    public func features(of images: [Float]) -> [Float] {
        let sample = extractor.images.columns
        precondition(images.count % sample == 0 && images.count / sample <= extractor.batch)
        for (index, value) in images.enumerated() { extractor.images.pointer[index] = value }
        extractor.forward()
        return Array(extractor.features.elements[..<(images.count / sample * shape.reduce(1, *))])
    }

    /// Writes the features of every readable image of `source`, in its order, to the files of `output`, which appear
    /// together or not at all (`FileGroup`).
    ///
    /// - Parameters:
    ///   - labels: the name of each image's class, empty for an image without one; nil without classes.
    ///   - metadata: goes into the file that confirms the others, and into a safetensors file.
    ///   - preprocessing: how pictures become the input; nil for `Preprocessing.imageNet`.
    ///   - unreadableLimit: the fraction of images that may be unreadable.
    ///   - progress: called after every pass with the number of images done.
    ///   - report: called for each unreadable image with a sentence that names it.
    /// - Throws: `Failure.usage` for a table of all tokens, `.failure` if a feature is not finite, `.badData` for too
    ///   many unreadable images or a path or label with a line break, `.inputOutput` if a file cannot be written.
    public func run(
        over source: any ImageSource, to output: FeatureFiles, labels: [String]? = nil,
        metadata: [String: String] = [:],
        reading: PictureReading = PictureReading(), preprocessing: Preprocessing? = nil,
        workers: Int = 1,
        unreadableLimit: Double = UnreadableLimit.standard, progress: (Int) -> Void = { _ in },
        report: @escaping (Message) -> Void = { _ in }
    ) throws -> Summary {
        precondition(labels.map { $0.count == source.count } ?? true, "a label for each image")
        var unreadable = 0, written: [Int] = []
        let row = shape.reduce(1, *)
        /// Calls `use` with the features of a batch, row after row.
        func forEachBatch(_ use: (Batch, UnsafeBufferPointer<Float>) throws -> Void) throws {
            unreadable = try self.forEachBatch(
                of: source, reading: reading, preprocessing: preprocessing, workers: workers,
                unreadableLimit: unreadableLimit, report: report
            ) { batch, features in
                try use(batch, UnsafeBufferPointer(start: features, count: batch.count * row))
                written += batch.images
                progress(written.count)
            }
        }
        switch output.form {
        case .table:
            guard pool != .tokens else {
                throw Failure(
                    .usage,
                    "\(.output, output.features): a table has one row of features per image, not all tokens: end it in "
                        + ".npy or .safetensors, or choose another \(.pool)")
            }
            try AtomicFile.write(to: output.features) { file in
                try file.append(FeatureFiles.header(columns: row))
                try forEachBatch { batch, features in
                    for (place, image) in batch.images.enumerated() {
                        try file.append(
                            FeatureFiles.line(
                                source.path(image), labels?[image] ?? "",
                                UnsafeBufferPointer(rebasing: features[place * row..<(place + 1) * row])))
                    }
                }
            }
        case .numpy, .safetensors:
            try ImageList.requireLines(source, for: output.list!)
            if let broken = labels?.first(where: { $0.utf8.contains(0x0A) }) {
                throw Failure(
                    .badData,
                    "the class \(broken.debugDescription) has a line break in its name, but \(output.labels!) has one "
                        + "class per line: rename it")
            }
            let form: RowFile.Form =
                output.form == .numpy ? .numpy : .safetensors(name: "features", metadata: metadata)
            let paths = [output.list!] + (labels == nil ? [] : [output.labels!]) + [output.features, output.summary!]
            try FileGroup.write(to: paths, removing: labels == nil ? [output.labels!] : []) { files in
                let (list, features, summary) = (files[0], files[files.count - 2], files[files.count - 1])
                try RowFile.write(into: features, form, rowShape: shape, maximumRows: source.count) { append in
                    try forEachBatch { try append($1) }
                }
                try ImageList.write(written, of: source, into: list)
                if let labels { for image in written { try files[1].append(labels[image] + "\n") } }
                let confirmed = try zip(paths, files).dropLast().map { path, file in
                    let (byteCount, checksum) = try file.summary()
                    return FeatureFiles.Summary.File(path: path, byteCount: byteCount, checksum: checksum)
                }
                let text = try FeatureFiles.Summary(
                    files: confirmed, shape: [written.count] + shape, unreadable: unreadable, metadata: metadata
                ).sortedJSON(indented: true)
                try text.withUnsafeBytes { try summary.append($0) }
                try summary.append("\n")
            }
        }
        return Summary(
            images: written.count, unreadable: unreadable,
            classes: labels.map { labels in Set(written.map { labels[$0] }.filter { !$0.isEmpty }).count })
    }

    /// Calls `body` with the features of every readable image of `source`, a batch at a time, in the source's order. Several
    /// processes all call it, see `SharedBatches`, and `body` is called in process 0.
    ///
    /// - Parameters:
    ///   - unreadableLimit: the fraction of images that may be unreadable.
    ///   - report: called for each unreadable image with a sentence that names it.
    ///   - body: called with the images of a batch and their features, [batch.count] + shape, valid during the call.
    /// - Returns: number of unreadable images.
    /// - Throws: `Failure.failure` if a feature is not finite, `.badData` for too many unreadable images.
    public func forEachBatch(
        of source: any ImageSource, reading: PictureReading = PictureReading(), preprocessing: Preprocessing? = nil,
        workers: Int = 1,
        unreadableLimit: Double = UnreadableLimit.standard,
        report: @escaping (Message) -> Void = { _ in }, _ body: (Batch, UnsafePointer<Float>) throws -> Void
    ) throws -> Int {
        let batches = SharedBatches(
            once: source,
            augmentation: Augmentation(
                width: configuration.imageWidth, height: configuration.imageHeight, channels: configuration.channels,
                framing: .centre, preprocessing: preprocessing, reading: reading),
            batchSize: extractor.batch, workers: workers, unreadableLimit: unreadableLimit, report: report)
        defer { batches.stop() }
        let row = shape.reduce(1, *)
        func results(_ count: Int) -> UnsafeMutableBufferPointer<Float> {
            UnsafeMutableBufferPointer(rebasing: extractor.features.elements[..<(count * row)])
        }
        while let batch = try batches.next(
            into: extractor.images, results: results,
            { batch in
                extractor.forward()
                guard results(batch.count).allSatisfy(\.isFinite) else {
                    throw Failure(
                        .failure,
                        "features are not finite, from \(source.path(batch.images[0])) on: check the weights")
                }
            })
        {
            try body(batch, extractor.features.pointer)
        }
        return batches.unreadableCount
    }

    /// Replaces the weights by random ones, as training starts from them: an encoder that has learned nothing.
    public func setRandomWeights(seed: UInt64) { extractor.parameters.initialize(seed: seed) }
}
