import Images
import Models
import Ranks
import Reporting
import Tensors

/// k-nearest-neighbour classification by the encoder that is being trained: the figures of `dmae knn`.
///
/// The encoder sees every patch and computes in float32, whatever the precision of the run. It reads the weights that
/// are trained; its activations, and the features of the validation images, share memory with those of a step.
///
/// Validation images that are copies of training images are left out of the figures, as each would be its own nearest
/// neighbour; where all are copies, they are counted.
public final class PeriodicNeighbors: PeriodicEvaluation {
    /// The numbers of neighbours that vote.
    public static let counts = [10, 20]

    public let everyEpochs: Double
    /// The terms of the votes of `k` neighbours.
    private static func terms(k: Int, classes: Int) -> [EvaluationTerm] {
        [(1, "the first prediction"), (5, "among the first five predictions")].map { rank, place in
            EvaluationTerm(
                key: "knn_top\(rank)_k\(k)", name: "k-NN top-\(rank), k = \(k)",
                meaning: "fraction of the validation images whose class is \(place) of \(k) nearest neighbours",
                isFraction: true, isShown: rank == 1 || classes > 5)
        }
    }

    /// The term with this key, of any number of neighbours; nil where it is no k-NN's.
    static func term(key: String) -> EvaluationTerm? {
        guard key.hasPrefix("knn_top"), let k = key.split(separator: "k").last.flatMap({ Int($0) }) else { return nil }
        return terms(k: k, classes: .max).first { $0.key == key }
    }

    /// For each k top-1 and top-5: "knn_top1_k10".
    public let terms: [EvaluationTerm]

    public var imagesRead: Int { train.count + validation.count }

    let train, validation: any ImageSource
    let augmentation: Augmentation
    let unreadableLimit: Double
    private let plan: MemoryPlan
    private let start: Phase
    let encoder: TrainedFeatures
    private let neighbors: NearestNeighbors
    /// Which validation images are copies; nil until process 0 has looked for them, or was told.
    public private(set) var copied: CopiedImages?
    /// Called when the evaluation has itself looked for copies.
    public var foundCopies: (CopiedImages) -> Void = { _ in }

    /// Plans the memory.
    ///
    /// - Parameters:
    ///   - parameters: the trained weights, of an encoder with the final norm `norm`.
    ///   - train: images with classes.
    ///   - validation: images with the same classes.
    ///   - augmentation: preparation of the images, which draws no random numbers.
    ///   - batch: images of a pass; the figures do not depend on it.
    ///   - unreadableLimit: fraction of the images that may be unreadable; they are left out.
    ///   - plan: the memory of the run, after all of a step is planned.
    /// - Throws: `Failure.badData` if a source has no classes, or their classes differ; `Failure.usage` if there are
    ///   fewer training images than neighbours, or the configuration does not fit together.
    public init(
        of parameters: Parameters, _ encoder: EncoderConfiguration, train: any ImageSource,
        validation: any ImageSource, augmentation: Augmentation, batch: Int, everyEpochs: Double,
        unreadableLimit: Double, plan: MemoryPlan
    ) throws {
        try requireSameClasses(train, .neighborTrain, validation, .neighborValidation)
        let counts = Self.counts, most = counts.max()!
        guard train.count >= most else {
            throw Failure(
                .usage,
                "\(.neighborTrain) needs at least \(most) images, as so many neighbours vote, not \(train.count)")
        }
        self.train = train
        self.validation = validation
        self.augmentation = augmentation
        self.everyEpochs = everyEpochs
        self.unreadableLimit = unreadableLimit
        self.plan = plan
        terms = counts.flatMap { Self.terms(k: $0, classes: train.classes.count) }
        start = plan.phase("k-NN", part: "k-NN")
        self.encoder = try TrainedFeatures(encoder, of: parameters, name: "k-NN", batch: batch)
        neighbors = NearestNeighbors(
            "k-NN", queries: validation.count, width: encoder.width, classes: train.classes.count, counts: counts,
            plan: plan, alive: start...self.encoder.reading, blockSize: min(1024, train.count))
        plan.loop(after: start, through: self.encoder.reading)
    }

    /// Takes over the copies that were found among the validation images, so that the evaluation need not look for them.
    public func leaveOut(_ copied: CopiedImages) { self.copied = copied }

    /// The places of copies in their source, where there are other images, too.
    static func leftOut(_ copied: CopiedImages) -> Set<Int> {
        copied.areAll ? [] : Set(copied.copies.map(\.image))
    }

    /// Looks for copies if nobody has; false if interrupted.
    private func findCopies(workers: Int, isInterrupted: () -> Bool) throws -> Bool {
        struct Stopped: Error {}
        guard copied == nil else { return true }
        // Of the same files nobody needs to compare the contents.
        guard train.files != validation.files else {
            copied = CopiedImages.none(in: validation)
            return true
        }
        do {
            let found = try CopiedImages(of: train, in: validation, workers: workers) {
                if isInterrupted() { throw Stopped() }
            }
            copied = found
            foundCopies(found)
            return true
        } catch is Stopped { return false }
    }

    public func evaluate(
        workers: Int, report: @escaping (Message) -> Void, isInterrupted: () -> Bool
    ) throws -> [Double]? {
        try scores(
            of: train, validation, isShared: true, workers: workers, report: report, isInterrupted: isInterrupted,
            leavingOut: {
                guard try self.findCopies(workers: workers, isInterrupted: isInterrupted) else { return nil }
                return Self.leftOut(self.copied!)
            }
        ).map { $0.flatMap { [$0.top1, $0.top5] } }
    }

    /// The scores of the weights as they are on some of the images; nil if interrupted.
    ///
    /// - Parameters:
    ///   - isShared: whether all processes call it, and compute features in turn; process 0 compares them.
    ///   - leavingOut: called in process 0; returns the indices of the validation images that are not counted, or nil if
    ///     interrupted.
    func scores(
        of train: any ImageSource, _ validation: any ImageSource, isShared: Bool, workers: Int,
        report: @escaping (Message) -> Void, isInterrupted: () -> Bool, leavingOut: () throws -> Set<Int>?
    ) throws -> [NeighborScores]? {
        plan.begin(start)
        neighbors.removeAll()
        return try withoutActuallyEscaping(isInterrupted) { isInterrupted in
            func encode(
                _ source: any ImageSource, without leftOut: () throws -> Set<Int>? = { [] },
                _ add: (UnsafePointer<Float>, Int) -> Void
            ) throws -> Bool {
                let batches = SharedBatches(
                    once: source, augmentation: augmentation, batchSize: encoder.batch, workers: workers,
                    isShared: isShared, unreadableLimit: unreadableLimit, report: report, isInterrupted: isInterrupted)
                defer { batches.stop() }
                // The other processes are at their batches by now, so that a search for copies may ask them.
                guard let leftOut = try Ranks.current.isFirst || !isShared ? leftOut() : [] else { return false }
                let features = encoder.features
                func results(_ count: Int) -> UnsafeMutableBufferPointer<Float> {
                    UnsafeMutableBufferPointer(start: features.pointer, count: count * features.columns)
                }
                while true {
                    encoder.beginImages()
                    guard
                        let batch = try batches.next(into: encoder.images, results: results, { _ in encoder.forward() })
                    else { return batches.isWhole }
                    for row in 0..<batch.count where !leftOut.contains(batch.images[row]) {
                        add(features.pointer + row * features.columns, batch.labels![row])
                    }
                }
            }
            guard try encode(validation, without: leavingOut, { neighbors.addQuery($0, label: $1) }),
                try encode(train, { neighbors.addReference($0, label: $1) }), !isShared || Ranks.current.isFirst
            else { return nil }
            return neighbors.scores()
        }
    }
}

extension Trainer {
    /// The k-NN of the run; nil without one.
    public var neighbors: PeriodicNeighbors? { evaluations.lazy.compactMap { $0 as? PeriodicNeighbors }.first }
}
