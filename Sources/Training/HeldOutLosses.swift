import Images
import Models
import Ranks
import Reporting
import Tensors

/// The losses of an objective on validation images, under masks that are the same in every evaluation.
///
/// A mask is drawn for the index of its image. Images are prepared by resize and centre crop.
public final class HeldOutLosses: PeriodicEvaluation {
    public let everyEpochs: Double
    /// The objective's terms with "val_" before their keys; a list has a term for each of its values.
    public let terms: [EvaluationTerm]

    public var imagesRead: Int { source.count }

    private let objective: any Objective
    private let source: any ImageSource
    private let augmentation: Augmentation
    private let unreadableLimit: Double

    /// - Parameters:
    ///   - source: validation images; classes are not used.
    ///   - augmentation: their preparation, which draws no random numbers.
    ///   - unreadableLimit: fraction of the images that may be unreadable; they are left out.
    public init(
        of objective: any Objective, on source: any ImageSource, augmentation: Augmentation, everyEpochs: Double = 1,
        unreadableLimit: Double
    ) {
        self.objective = objective
        self.source = source
        self.augmentation = augmentation
        self.everyEpochs = everyEpochs
        self.unreadableLimit = unreadableLimit
        // A total of one term says nothing beside it.
        let isSingle = objective.lossTerms.reduce(0) { $0 + $1.valueCount } == 2
        terms = objective.lossTerms.enumerated().flatMap { number, term in
            zip(0..<term.valueCount, term.valueNames).map { index, name in
                EvaluationTerm(
                    key: "val_" + term.key + (term.listCount == nil ? "" : "_\(index)"), name: "val " + name,
                    meaning: term.meaning + ", on the validation images", isFraction: false,
                    isShown: number == 0 || !isSingle)
            }
        }
    }

    public func evaluate(
        workers: Int, report: @escaping (Message) -> Void, isInterrupted: () -> Bool
    ) throws -> [Double]? {
        // The objective's images are free between two steps.
        let images = objective.images
        return try withoutActuallyEscaping(isInterrupted) { isInterrupted in
            let batches = SharedBatches(
                once: source, augmentation: augmentation, batchSize: images.rows, workers: workers,
                unreadableLimit: unreadableLimit, report: report, isInterrupted: isInterrupted)
            defer { batches.stop() }
            // The losses of a batch, which are means over its images.
            let losses = UnsafeMutableBufferPointer<Float>.allocate(capacity: terms.count)
            defer { losses.deallocate() }
            var sums = [Double](repeating: 0, count: terms.count), count = 0
            while let batch = try batches.next(
                into: images, results: { _ in losses },
                { batch in
                    let found = objective.evaluate(batch)
                    for index in losses.indices { losses[index] = found.values[index] }
                })
            {
                for index in sums.indices { sums[index] += Double(losses[index]) * Double(batch.count) }
                count += batch.count
            }
            return batches.isWhole ? sums.map { $0 / Double(max(1, count)) } : nil
        }
    }
}
