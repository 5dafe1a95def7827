import Images
import Models
import Reporting
import Tensors

extension PeriodicNeighbors {
    /// What the figures of a run are to be compared with: those of the weights before the first step, of raw pixels and of
    /// a guess, as `dmae knn` has them.
    public struct Baselines: Equatable, Sendable {
        /// The numbers of images that were compared.
        public let trainImages, validationImages: Int
        /// Of the weights as they are.
        public let weights: NeighborScores
        /// Of raw pixels of `pixelSide` × `pixelSide`.
        public let pixels: NeighborScores
        /// The fraction of the validation images whose class is the most frequent one of the training images.
        public let chance: Double
    }

    /// Maximum images of the baselines: of larger sets, images at equal distances are taken.
    public static let baselineImages = (train: 5000, validation: 1000)
    /// Side of the pictures whose raw pixels are compared.
    public static let pixelSide = 16

    /// The number of training images.
    public var trainImages: Int { train.count }

    /// Computes the baselines for the largest number of neighbours. To be called between two steps.
    ///
    /// - Returns: nil if `isInterrupted` says so.
    /// - Throws: as `evaluate`.
    public func baselines(
        workers: Int, report: @escaping (Message) -> Void = { _ in }, isInterrupted: () -> Bool = { false }
    ) throws -> Baselines? {
        let train = ImageSubset(train, ImageSubset.spread(Self.baselineImages.train, of: train.count))
        let every = ImageSubset(
            validation, ImageSubset.spread(Self.baselineImages.validation, of: validation.count))
        // Copies of images that are not compared do no harm, and a search in all images could take long.
        let copies = Self.leftOut(
            train.files == every.files ? .none(in: every) : try CopiedImages(of: train, in: every, workers: workers))
        let validation = ImageSubset(every, (0..<every.count).filter { !copies.contains($0) })
        guard
            let weights = try scores(
                of: train, validation, isShared: false, workers: workers, report: report, isInterrupted: isInterrupted,
                leavingOut: { [] }),
            let pixels = try pixelScores(train, validation, workers: workers, isInterrupted: isInterrupted)
        else { return nil }
        func counts(_ source: ImageSubset) -> [Int] {
            var counts = [Int](repeating: 0, count: source.classes.count)
            for index in 0..<source.count { if let label = source.label(index) { counts[label] += 1 } }
            return counts
        }
        let learned = counts(train), judged = counts(validation)
        // Of classes with as many images the one of lower index counts as more frequent.
        let guess = learned.indices.max { (learned[$0], $1) < (learned[$1], $0) }!
        return Baselines(
            trainImages: train.count, validationImages: validation.count, weights: weights.last!, pixels: pixels.last!,
            chance: Double(judged[guess]) / Double(validation.count))
    }

    /// Classifies by the pixels of small pictures, prepared and normalised as for the encoder.
    private func pixelScores(
        _ train: ImageSubset, _ validation: ImageSubset, workers: Int, isInterrupted: () -> Bool
    ) throws -> [NeighborScores]? {
        let side = Self.pixelSide
        let augmentation = Augmentation(
            width: side, height: side, channels: augmentation.channels, framing: .centre,
            preprocessing: augmentation.preprocessing, reading: augmentation.reading)
        let plan = MemoryPlan()
        let pixels = plan.reserve("pixels", 64, augmentation.sampleCount, .batch)
        let neighbors = NearestNeighbors(
            queries: validation.count, width: augmentation.sampleCount, classes: train.classes.count,
            counts: Self.counts, plan: plan, blockSize: min(1024, train.count))
        try plan.commit()
        func read(_ source: ImageSubset, _ add: (UnsafePointer<Float>, Int) -> Void) throws -> Bool {
            // What is unreadable was reported.
            let loader = BatchLoader(
                once: source, augmentation: augmentation, batchSize: pixels.rows, workers: workers, unreadableLimit: 1,
                batchesAhead: 2, report: { _ in })
            defer { loader.stop() }
            while let batch = try loader.next(into: pixels) {
                if isInterrupted() { return false }
                for row in 0..<batch.count { add(pixels.pointer + row * pixels.columns, batch.labels![row]) }
            }
            return true
        }
        guard try read(validation, { neighbors.addQuery($0, label: $1) }),
            try read(train, { neighbors.addReference($0, label: $1) })
        else { return nil }
        return neighbors.scores()
    }
}
