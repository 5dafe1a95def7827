import Images
import Models
import Ranks
import Reporting
import Tensors

/// k-nearest-neighbour classification of validation images by the features of training images: how well an encoder
/// tells classes apart, without training.
///
/// For scale, baselines classify by other features of the same images: raw pixels, and the same encoder with random
/// weights. They use a part of a large set; the trained encoder is then evaluated on that part, too.
public final class NeighborEvaluation {
    /// Maximum images of the baselines.
    public static let baselineImages = (train: 5000, validation: 1000)
    /// Side of the pictures whose raw pixels are compared.
    public static let pixelSide = 16
    /// Bytes of the kept features: with more validation images, the training images are encoded several times.
    public static let keptBytes = 2 << 30

    /// The scores on some training and validation images.
    public struct Figures: Equatable, Sendable {
        /// Training images whose features were compared.
        public let trainImages: Int
        /// Validation images that were classified.
        public let validationImages: Int
        /// One for each k, ascending.
        public let scores: [NeighborScores]

        public init(trainImages: Int, validationImages: Int, scores: [NeighborScores]) {
            self.trainImages = trainImages
            self.validationImages = validationImages
            self.scores = scores
        }

        /// The scores by which encoders are compared: those of the largest k of at most 20, where k-NN is mostly best,
        /// or of the smallest k if all are larger. The k does not depend on the figures.
        public var compared: NeighborScores {
            scores.filter { $0.k <= 20 }.max { $0.k < $1.k } ?? scores.min { $0.k < $1.k }!
        }
    }

    /// Figures of the encoder and of the baselines on the same images.
    public struct Comparison: Equatable, Sendable {
        /// The trained encoder.
        public let encoder: Figures
        /// The same encoder with random weights.
        public let random: Figures
        /// Raw pixels, `pixelSide` × `pixelSide`.
        public let pixels: Figures

        public init(encoder: Figures, random: Figures, pixels: Figures) {
            self.encoder = encoder
            self.random = random
            self.pixels = pixels
        }
    }

    /// The result of an evaluation.
    public struct Result: Equatable, Sendable {
        /// The trained encoder on all images.
        public let figures: Figures
        /// Fraction of the validation images whose class is the most frequent class of the training images, and is
        /// among the five most frequent ones: the top-1 and top-5 of guessing without looking. Of classes with as many
        /// images the one of lower index counts as more frequent.
        public let chance: (top1: Double, top5: Double)
        /// With baselines: the images that all of them used.
        public let comparison: Comparison?
        /// The validation images whose features are those of a training image, bit by bit: copies that were saved anew
        /// without a loss, mostly.
        public let lookalikes: [Lookalike]

        public static func == (first: Result, second: Result) -> Bool {
            first.figures == second.figures && first.chance == second.chance && first.comparison == second.comparison
                && first.lookalikes == second.lookalikes
        }
    }

    /// A validation image, and the first training image with the same feature.
    public struct Lookalike: Equatable, Sendable {
        /// Their titles.
        public let title, original: String
    }

    private let embedding: Embedding
    private let train, validation: any ImageSource
    private let counts: [Int]
    private let reading: PictureReading
    private let preprocessing: Preprocessing?
    private let workers: Int
    private let unreadableLimit: Double
    private let keptBytes: Int
    private let hasBaselines: Bool
    private let isTrainSubset: Set<Int>, isValidationSubset: Set<Int>
    private let report: (Message) -> Void
    private let progress: (Int) -> Void
    private var done = 0

    /// - Parameters:
    ///   - embedding: the encoder; `run` replaces its weights if there are baselines. Its pool gives one vector.
    ///   - train: images with classes.
    ///   - validation: images with the same classes.
    ///   - counts: numbers of neighbours k.
    ///   - hasBaselines: whether to evaluate raw pixels and random weights, too.
    ///   - unreadableLimit: the fraction of each source's images that may be unreadable; they are left out.
    ///   - keptBytes: see the type's; the result does not depend on it.
    ///   - progress: called with the number of images that were encoded so far, of `totalImages`.
    ///   - report: called for each unreadable image with a sentence that names it.
    /// - Throws: `Failure.badData` if a source has no classes, or their classes differ; `Failure.usage` if a k is
    ///   larger than the number of training images.
    public init(
        _ embedding: Embedding, train: any ImageSource, validation: any ImageSource, counts: [Int],
        hasBaselines: Bool, reading: PictureReading = PictureReading(), preprocessing: Preprocessing? = nil,
        workers: Int = 1,
        unreadableLimit: Double = UnreadableLimit.standard,
        keptBytes: Int = NeighborEvaluation.keptBytes,
        baselineImages: (train: Int, validation: Int) = NeighborEvaluation.baselineImages,
        progress: @escaping (Int) -> Void = { _ in }, report: @escaping (Message) -> Void = { _ in }
    ) throws {
        precondition(embedding.shape.count == 1, "an image has one feature")
        try requireSameClasses(train, .train, validation, .validation)
        let most = counts.max() ?? 0
        guard most <= train.count else {
            throw Failure(
                .usage,
                "\(.neighbors, most) is more than the \(Format.counted(train.count, "image")) of \(.train): lower it")
        }
        guard !hasBaselines || most <= baselineImages.train else {
            throw Failure(
                .usage,
                "\(.neighbors, most) is more than the \(Format.grouped(baselineImages.train)) training images of the "
                    + "baselines: lower it, or leave the baselines out with \(.noBaselines)")
        }
        self.embedding = embedding
        self.train = train
        self.validation = validation
        self.counts = counts
        self.hasBaselines = hasBaselines
        self.reading = reading
        self.preprocessing = preprocessing
        self.workers = workers
        self.unreadableLimit = unreadableLimit
        self.keptBytes = keptBytes
        self.progress = progress
        self.report = report
        isTrainSubset = Set(hasBaselines ? ImageSubset.spread(baselineImages.train, of: train.count) : [])
        isValidationSubset = Set(
            hasBaselines ? ImageSubset.spread(baselineImages.validation, of: validation.count) : [])
    }

    /// Validation images of one pass over the training images.
    private var validationImagesPerPass: Int {
        let bytes = 4 * NearestNeighbors.floatsPerQuery(width: embedding.configuration.width, counts: counts)
        return min(validation.count, max(1, keptBytes / bytes))
    }

    /// Passes over the training images.
    public var passes: Int { (validation.count + validationImagesPerPass - 1) / validationImagesPerPass }

    /// Number of images that `run` reads, those that it reads several times included.
    public var totalImages: Int {
        passes * train.count + validation.count + 2 * (isTrainSubset.count + isValidationSubset.count)
    }

    /// Whether this process has the features of all images, and compares them.
    private let isLeading = Ranks.current.isFirst

    /// Runs the evaluation. Several processes all call it, see `SharedBatches`; the result is that of process 0.
    ///
    /// - Throws: the failures of `Embedding.forEachBatch`; `Failure.failure` if memory cannot be mapped.
    public func run() throws -> Result {
        done = 0
        var subset = (train: FeatureList(), validation: FeatureList())
        let subsetIsWhole = isTrainSubset.count == train.count && isValidationSubset.count == validation.count
        let keepsSubset = hasBaselines && !subsetIsWhole
        let width = embedding.configuration.width
        var trainCounts = [Int](repeating: 0, count: train.classes.count), validationCounts = trainCounts
        var scores: [NeighborScores]?
        var lookalikes: [Lookalike] = []
        let step = validationImagesPerPass
        for first in stride(from: 0, to: validation.count, by: step) {
            let part = first..<min(first + step, validation.count)
            let plan = MemoryPlan()
            let neighbors = NearestNeighbors(
                queries: part.count, width: width, classes: train.classes.count, counts: counts, plan: plan,
                blockSize: min(1024, train.count))
            try plan.commit()
            // The validation images of this part, and the first training image that looks like them, by their features.
            var looks: [Int: (images: [Int], original: Int?)] = [:]
            let seen = ImageSubset(validation, part)
            try encode(seen) { image, label, feature in
                looks[Self.hash(of: feature, width), default: ([], nil)].images.append(image)
                neighbors.addQuery(feature, label: label)
                validationCounts[label] += 1
                if keepsSubset, isValidationSubset.contains(part.lowerBound + image) {
                    subset.validation.append(feature, width, label)
                }
            }
            try encode(train, isRepeated: first > 0) { image, label, feature in
                let hash = Self.hash(of: feature, width)
                if let known = looks[hash], known.original == nil { looks[hash]!.original = image }
                neighbors.addReference(feature, label: label)
                guard first == 0 else { return }
                trainCounts[label] += 1
                if keepsSubset, isTrainSubset.contains(image) { subset.train.append(feature, width, label) }
            }
            lookalikes += looks.values.flatMap { known in
                known.original.map { original in
                    known.images.map { (image: $0, original: original) }
                } ?? []
            }.sorted { $0.image < $1.image }.map {
                Lookalike(title: seen.title($0.image), original: train.title($0.original))
            }
            let partScores = isLeading ? neighbors.scores() : []
            scores = scores.map { zip($0, partScores).map { $0 + $1 } } ?? partScores
        }
        let figures = Figures(
            trainImages: trainCounts.reduce(0, +), validationImages: validationCounts.reduce(0, +), scores: scores!)
        let chance = Self.chance(train: trainCounts, validation: validationCounts)
        guard hasBaselines else {
            return Result(figures: figures, chance: chance, comparison: nil, lookalikes: lookalikes)
        }

        let images = (
            train: ImageSubset(train, isTrainSubset.sorted()),
            validation: ImageSubset(validation, isValidationSubset.sorted())
        )
        let encoder = keepsSubset ? try compare(subset, width: width) : figures
        subset = (FeatureList(), FeatureList())
        let pixels = try pixelFigures(images.train, images.validation)
        embedding.setRandomWeights(seed: 0)
        var random = subset
        try encode(images.train, isRepeated: true) { random.train.append($2, width, $1) }
        try encode(images.validation, isRepeated: true) { random.validation.append($2, width, $1) }
        return Result(
            figures: figures, chance: chance,
            comparison: Comparison(
                encoder: encoder, random: try compare(random, width: width), pixels: pixels), lookalikes: lookalikes)
    }

    private static func hash(of feature: UnsafePointer<Float>, _ width: Int) -> Int {
        var hasher = Hasher()
        hasher.combine(bytes: UnsafeRawBufferPointer(UnsafeBufferPointer(start: feature, count: width)))
        return hasher.finalize()
    }

    /// The top-1 and top-5 of guessing the most frequent classes of the training images.
    package static func chance(train: [Int], validation: [Int]) -> (top1: Double, top5: Double) {
        let order = train.indices.sorted { (train[$1], $0) < (train[$0], $1) }
        let total = Double(max(1, validation.reduce(0, +)))
        func fraction(_ count: Int) -> Double {
            Double(order.prefix(count).reduce(0) { $0 + validation[$1] }) / total
        }
        return (fraction(1), fraction(5))
    }

    /// Calls `body` with the index, the class and the feature of every readable image.
    ///
    /// - Parameter isRepeated: whether the images were read before, so that unreadable ones have been reported.
    private func encode(
        _ source: any ImageSource, isRepeated: Bool = false, _ body: (Int, Int, UnsafePointer<Float>) -> Void
    ) throws {
        let width = embedding.configuration.width, before = done
        _ = try embedding.forEachBatch(
            of: source, reading: reading, preprocessing: preprocessing, workers: workers,
            unreadableLimit: isRepeated ? 1 : unreadableLimit,
            report: isRepeated ? { _ in } : report
        ) { batch, features in
            for row in 0..<batch.count { body(batch.images[row], batch.labels![row], features + row * width) }
            done += batch.count
            progress(done)
        }
        // Unreadable images count as done.
        done = before + source.count
    }

    /// Classifies by the pixels of small pictures, prepared and normalised as for the encoder.
    private func pixelFigures(_ train: ImageSubset, _ validation: ImageSubset) throws -> Figures {
        let side = Self.pixelSide
        let augmentation = Augmentation(
            width: side, height: side, channels: embedding.configuration.channels, framing: .centre,
            preprocessing: preprocessing, reading: reading)
        let plan = MemoryPlan()
        let pixels = plan.reserve("pixels", 64, augmentation.sampleCount, .batch)
        try plan.commit()
        func features(_ source: ImageSubset) throws -> FeatureList {
            var list = FeatureList()
            let batches = SharedBatches(
                once: source, augmentation: augmentation, batchSize: pixels.rows, workers: workers, unreadableLimit: 1,
                report: { _ in })
            defer { batches.stop() }
            func results(_ count: Int) -> UnsafeMutableBufferPointer<Float> {
                UnsafeMutableBufferPointer(rebasing: pixels.elements[..<(count * pixels.columns)])
            }
            while let batch = try batches.next(into: pixels, results: results, { _ in }) {
                for row in 0..<batch.count {
                    list.append(pixels.pointer + row * pixels.columns, pixels.columns, batch.labels![row])
                }
                done += batch.count
                progress(done)
            }
            return list
        }
        return try compare((try features(train), try features(validation)), width: pixels.columns)
    }

    /// Classifies kept features.
    private func compare(_ features: (train: FeatureList, validation: FeatureList), width: Int) throws -> Figures {
        let (train, validation) = features, plan = MemoryPlan()
        guard isLeading else { return Figures(trainImages: 0, validationImages: 0, scores: []) }
        let neighbors = NearestNeighbors(
            queries: validation.labels.count, width: width, classes: self.train.classes.count, counts: counts,
            plan: plan)
        try plan.commit()
        validation.forEach(width) { neighbors.addQuery($0, label: $1) }
        train.forEach(width) { neighbors.addReference($0, label: $1) }
        return Figures(
            trainImages: train.labels.count, validationImages: validation.labels.count, scores: neighbors.scores())
    }

    /// Features and classes of a few thousand images.
    private struct FeatureList {
        var values: [Float] = []
        var labels: [Int] = []

        mutating func append(_ feature: UnsafePointer<Float>, _ width: Int, _ label: Int) {
            values.append(contentsOf: UnsafeBufferPointer(start: feature, count: width))
            labels.append(label)
        }

        func forEach(_ width: Int, _ body: (UnsafePointer<Float>, Int) -> Void) {
            values.withUnsafeBufferPointer { values in
                for (index, label) in labels.enumerated() { body(values.baseAddress! + index * width, label) }
            }
        }
    }
}

extension NeighborEvaluation.Comparison {
    /// How the encoder compares with a baseline at one k.
    public enum Relation: Equatable, Sendable {
        case better, worse
        /// The difference is within the margin.
        case same
    }

    /// Differences of top-1 up to this one are noise: two standard errors of the difference of two fractions of these
    /// validation images, for the baseline where they are larger, rounded up to a tenth of a point. (The errors are
    /// taken as independent, which makes the margin wide.)
    public var margin: Double {
        func variance(_ figures: NeighborEvaluation.Figures) -> Double {
            figures.compared.top1 * (1 - figures.compared.top1)
        }
        let sum = variance(encoder) + max(variance(random), variance(pixels))
        return (2000 * (sum / Double(max(1, encoder.validationImages))).squareRoot()).rounded(.up) / 1000
    }

    public func relation(to baseline: NeighborEvaluation.Figures) -> Relation {
        let difference = encoder.compared.top1 - baseline.compared.top1
        return difference.magnitude <= margin ? .same : difference > 0 ? .better : .worse
    }

    /// What the figures mean, in a few sentences. A number and its unit are joined by a no-break space.
    public var explanation: String {
        func percent(_ figures: NeighborEvaluation.Figures) -> String {
            "\(Format.fixed(100 * figures.compared.top1, 1))\u{A0}%"
        }
        let relations = (random: relation(to: random), pixels: relation(to: pixels))
        /// A baseline with its figure, and where the difference is noise, whether it is the higher one.
        func named(_ name: String, _ baseline: NeighborEvaluation.Figures) -> String {
            let isHigher = relation(to: baseline) == .same && baseline.compared.top1 > encoder.compared.top1
            return "\(name) (\(percent(baseline))\(isHigher ? ", which is higher" : ""))"
        }
        let baselines = [
            (relations.random, named("random weights", random)), (relations.pixels, named("raw pixels", pixels)),
        ]
        let comparisons: [(Relation, String, String)] = [
            (.same, "cannot be told from", " or "), (.better, "is better than", " and "),
            (.worse, "is worse than", " and "),
        ]
        let phrases = comparisons.compactMap { relation, verb, conjunction -> String? in
            let names = baselines.filter { $0.0 == relation }.map(\.1)
            return names.isEmpty ? nil : "\(verb) \(names.joined(separator: conjunction))"
        }
        let images = Format.counted(encoder.validationImages, "validation image").replacing(" ", with: "\u{A0}")
        // Of more images than that the baselines use a part.
        let canUseMore = encoder.validationImages < NeighborEvaluation.baselineImages.validation
        let more = canUseMore ? "Use more validation images; if the figures stay this close, its" : "Its"
        let nothing =
            "features hold nothing that tells these classes apart. Check that the losses fell, that the run was long "
            + "enough, and that these images are like those of the training."
        let meaning =
            switch relations {
            case (.same, _): "\(more) \(nothing)"
            case (.worse, _): "Its \(nothing)"
            case (.better, .better): "Its features tell these classes apart."
            case (.better, .same): "\(more) features add nothing to colours and coarse shapes for these classes."
            case (.better, .worse): "Its features add nothing to colours and coarse shapes for these classes."
            }
        return "At k\u{A0}=\u{A0}\(encoder.compared.k) the trained encoder (\(percent(encoder))) "
            + "\(phrases.joined(separator: ", and ")): with \(images) differences below "
            + "\(Format.fixed(100 * margin, 1))\u{A0}points are noise. \(meaning)"
    }
}
