import Reporting
import Glibc
import Images
import Interchange
import Models
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
        public let output: String
        /// The list of the images, one path per line, in the order of the features.
        public let list: String
    }

    private let extractor: FeatureExtractor
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
        // A block's output is taken before either norm.
        if block == nil { try file.requireOneNorm("embed", "take the output of a block with \(.block)") }
        let isMeanNormed = file["norm.weight"] == nil && file["fc_norm.weight"] != nil
        place = block.map(FeaturePlace.block) ?? (isMeanNormed ? .meanNorm : .norm)
        self.pool = pool ?? (place == .meanNorm ? .mean : .class)
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

    /// Writes the features of every readable image of `source`, in its order, to `output` (.npy or .safetensors, by its
    /// ending), and the list of these images beside it. The list is renamed into place first, the features last.
    ///
    /// - Parameters:
    ///   - metadata: goes into a safetensors file; a .npy file has no place for it.
    ///   - preprocessing: how pictures become the input; nil for `Preprocessing.imageNet`.
    ///   - unreadableLimit: the fraction of images that may be unreadable.
    ///   - progress: called after every pass with the number of images done.
    ///   - report: called for each unreadable image with a sentence that names it.
    /// - Throws: `Failure.usage` for another ending, `.failure` if a feature is not finite, `.badData` for too many
    ///   unreadable images or a path with a line break, `.inputOutput` if a file cannot be written.
    public func run(
        over source: any ImageSource, to output: String, metadata: [String: String] = [:],
        reading: PictureReading = PictureReading(), preprocessing: Preprocessing? = nil,
        workers: Int = 1,
        unreadableLimit: Double = 0.01, progress: (Int) -> Void = { _ in },
        report: @escaping (Message) -> Void = { _ in }
    ) throws -> Summary {
        let (form, list) = try Self.destination(output, metadata: metadata)
        if let broken = (0..<source.count).first(where: { source.path($0).utf8.contains(0x0A) }) {
            throw Failure(
                .badData,
                "\(source.path(broken).debugDescription): the name holds a line break, but \(list) has one path per "
                    + "line: "
                    + "rename the file")
        }
        var unreadable = 0
        let row = shape.reduce(1, *)
        let images = try RowFile.write(to: output, form, rowShape: shape, maximumRows: source.count) { append in
            var written: [Int] = []
            unreadable = try forEachBatch(
                of: source, reading: reading, preprocessing: preprocessing, workers: workers,
                unreadableLimit: unreadableLimit, report: report
            ) { batch, features in
                try append(UnsafeBufferPointer(start: features, count: batch.count * row))
                written += batch.images
                progress(written.count)
            }
            try AtomicFile.write(to: list) { file in
                for index in written {
                    try Array((source.path(index) + "\n").utf8).withUnsafeBytes { try file.append($0) }
                }
            }
        }
        return Summary(images: images, unreadable: unreadable, output: output, list: list)
    }

    /// Calls `body` with the features of every readable image of `source`, a batch at a time, in the source's order.
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
        unreadableLimit: Double = 0.01,
        report: @escaping (Message) -> Void = { _ in }, _ body: (Batch, UnsafePointer<Float>) throws -> Void
    ) throws -> Int {
        let loader = BatchLoader(
            once: source,
            augmentation: Augmentation(
                width: configuration.imageWidth, height: configuration.imageHeight, channels: configuration.channels,
                framing: .centre, preprocessing: preprocessing, reading: reading),
            batchSize: extractor.batch, workers: workers, unreadableLimit: unreadableLimit, batchesAhead: 2,
            report: report)
        defer { loader.stop() }
        let row = shape.reduce(1, *)
        while let batch = try loader.next(into: extractor.images) {
            extractor.forward()
            guard extractor.features.elements[..<(batch.count * row)].allSatisfy(\.isFinite) else {
                throw Failure(
                    .failure,
                    "features are not finite, from \(source.path(batch.images[0])) on: check the weights")
            }
            try body(batch, extractor.features.pointer)
        }
        return loader.unreadableCount
    }

    /// Replaces the weights by random ones, as training starts from them: an encoder that has learned nothing.
    public func setRandomWeights(seed: UInt64) { extractor.parameters.initialize(seed: seed) }

    /// The format for the ending of `output`, and the path of the list beside it: `output` + ".files.txt".
    ///
    /// - Throws: `Failure.usage` for an ending other than .npy and .safetensors.
    public static func destination(_ output: String, metadata: [String: String] = [:]) throws -> (
        RowFile.Form, list: String
    ) {
        for (ending, form) in [
            (".npy", RowFile.Form.numpy), (".safetensors", .safetensors(name: "features", metadata: metadata)),
        ]
        where output.hasSuffix(ending) && output.count > ending.count {
            return (form, output + ".files.txt")
        }
        throw Failure(
            .usage, "\(.output, output): end it in .safetensors or .npy, the two forms features are written in")
    }
}
