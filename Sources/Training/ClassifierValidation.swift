import Images
import Models
import Ranks
import Reporting

/// Accuracy and loss of a classifier on validation images, prepared by resize and centre crop.
public final class ClassifierValidation: PeriodicEvaluation {
    public let everyEpochs: Double
    public var ranksWeights: Bool { true }
    public var rankingImages: (any ImageSource)? { source }
    public var imagesRead: Int { source.count }
    public var terms: [EvaluationTerm] { Self.terms(classes: classes) }
    /// Top-1, top-5 and loss.
    static func terms(classes: Int) -> [EvaluationTerm] {
        [
            EvaluationTerm(
                key: "val_top1", name: "top-1",
                meaning: "fraction of validation images whose class is the first prediction",
                isFraction: true),
            EvaluationTerm(
                key: "val_top5", name: "top-5",
                meaning: "fraction of validation images whose class is among the first five predictions",
                isFraction: true,
                isShown: classes > 5),
            EvaluationTerm(
                key: "val_loss", name: "validation loss", meaning: "mean cross-entropy over the validation images",
                isFraction: false),
        ]
    }

    private let classifier: any ClassifyingObjective
    private let source: any ImageSource
    private let augmentation: Augmentation
    private let classes: Int
    private let unreadableLimit: Double

    /// - Parameters:
    ///   - source: the validation images, with the classes of the training images.
    ///   - augmentation: their preparation, with a centre framing.
    ///   - unreadableLimit: fraction of the images that may be unreadable.
    public init(
        of classifier: any ClassifyingObjective, on source: any ImageSource, augmentation: Augmentation, classes: Int,
        everyEpochs: Double, unreadableLimit: Double
    ) {
        self.classifier = classifier
        self.source = source
        self.augmentation = augmentation
        self.classes = classes
        self.everyEpochs = everyEpochs
        self.unreadableLimit = unreadableLimit
    }

    public func evaluate(
        workers: Int, report: @escaping (Message) -> Void, isInterrupted: () -> Bool
    ) throws -> [Double]? {
        let images = classifier.images, logits = classifier.logits
        return try withoutActuallyEscaping(isInterrupted) { isInterrupted in
            let batches = SharedBatches(
                once: source, augmentation: augmentation, batchSize: images.rows, workers: workers,
                unreadableLimit: unreadableLimit, report: report, isInterrupted: isInterrupted)
            defer { batches.stop() }
            var scores = ClassificationScores(classes: classes)
            while let batch = try batches.next(
                into: images,
                results: { UnsafeMutableBufferPointer(start: logits.pointer, count: $0 * logits.stride) },
                { _ = classifier.evaluate($0) })
            {
                for row in 0..<batch.count {
                    scores.add(logits: logits.pointer + row * logits.stride, label: batch.labels![row])
                }
            }
            return batches.isWhole ? Self.values(scores) : nil
        }
    }

    /// The values of `terms`.
    static func values(_ scores: ClassificationScores) -> [Double] { [scores.top1, scores.top5, scores.loss] }
}
