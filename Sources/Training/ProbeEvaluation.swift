import Images
import Models
import Reporting
import Tensors

/// The accuracy of a linear probe on validation images. The encoder is frozen, so their features are computed once.
final class ProbeEvaluation: PeriodicEvaluation {
    var terms: [EvaluationTerm] { ClassifierValidation.terms(classes: features.source.classes.count) }
    let everyEpochs: Double
    let ranksWeights = true
    var rankingImages: (any ImageSource)? { features.source }
    let probe: LinearProbe

    private let features: StoredFeatures
    private let augmentation: Augmentation
    private let unreadableLimit: Double

    /// Number of validation images.
    var images: Int { features.source.count }

    /// - Parameters:
    ///   - features: of the validation images, which have the classes of the training images. The first evaluation
    ///     computes them with the probe's encoder if they are not computed yet.
    ///   - augmentation: the images' preparation, which draws no random numbers.
    init(
        of probe: LinearProbe, on features: StoredFeatures, augmentation: Augmentation, everyEpochs: Double,
        unreadableLimit: Double
    ) {
        self.probe = probe
        self.features = features
        self.augmentation = augmentation
        self.everyEpochs = everyEpochs
        self.unreadableLimit = unreadableLimit
    }

    func evaluate(workers: Int, report: @escaping (Message) -> Void, isInterrupted: () -> Bool) throws -> [Double]? {
        if !features.isComputed {
            guard let encoder = probe.encoder else { preconditionFailure("a probe of features has no encoder") }
            let isWhole = try features.compute(
                with: encoder, augmentation: augmentation, workers: workers, unreadableLimit: unreadableLimit,
                report: report, isInterrupted: isInterrupted)
            guard isWhole else { return nil }
        }
        var scores = ClassificationScores(classes: probe.classes)
        let images = features.hasRow.indices.filter { features.hasRow[$0] }
        for first in stride(from: 0, to: images.count, by: probe.batch) {
            let part = images[first..<min(first + probe.batch, images.count)]
            for (row, image) in part.enumerated() { probe.features.copyRow(row, from: features.rows, image) }
            probe.classify(part.count)
            for (row, image) in part.enumerated() {
                scores.add(
                    logits: probe.logits.pointer + row * probe.logits.stride, label: features.source.label(image)!)
            }
        }
        return ClassifierValidation.values(scores)
    }
}
