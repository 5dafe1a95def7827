// Letters: C classes.

/// Counts and losses of a classifier's predictions: top-1, top-5, cross-entropy, counts by class, and confusions.
///
/// Of equal logits the lower class index comes first. A logit that is not a number comes last.
public struct ClassificationScores: Equatable, Sendable {
    /// The counts of one class.
    public struct ClassCount: Equatable, Sendable {
        /// Images of the class.
        public internal(set) var images = 0
        /// Those of them that were predicted as the class.
        public internal(set) var hits = 0

        /// Fraction of hits; NaN without images.
        public var top1: Double { Double(hits) / Double(images) }
    }

    /// A pair of classes, with the number of images that have the first as label and the second as prediction.
    public struct Confusion: Equatable, Sendable {
        public let label, prediction, images: Int
    }

    /// Number of classes C.
    public var classes: Int { byClass.count }
    /// Images added.
    public private(set) var images = 0
    /// By class index: images that have it as label, and hits.
    public private(set) var byClass: [ClassCount]
    private var hits = 0
    private var hitsAmongFive = 0
    private var lossSum = 0.0
    /// Images by label · C + prediction; pairs without images are absent.
    private var confusions: [Int: Int] = [:]

    public init(classes: Int) { byClass = Array(repeating: ClassCount(), count: classes) }

    /// Fraction of the images whose label has the largest logit; NaN without images.
    public var top1: Double { Double(hits) / Double(images) }
    /// Fraction of the images whose label is among the min(5, C) largest logits; NaN without images.
    public var top5: Double { Double(hitsAmongFive) / Double(images) }
    /// Mean over the images of the cross-entropy -log softmax(logits)[label]; NaN without images.
    public var loss: Double { lossSum / Double(images) }

    /// The class with the most images, the lower index of equals.
    public var mostFrequent: Int { byClass.indices.max { (byClass[$0].images, $1) < (byClass[$1].images, $0) }! }
    /// Fraction of the images in the most frequent class, the top-1 of always predicting it; NaN without images.
    public var chance: Double { Double(byClass[mostFrequent].images) / Double(images) }

    /// Adds an image's logits [C] and label.
    ///
    /// - Complexity: O(C).
    public mutating func add(logits: UnsafePointer<Float>, label: Int) {
        precondition(byClass.indices.contains(label), "the label \(label) is no class")
        let prediction = mostProbable(logits, classes)
        let own = logits[label]
        var above = 0
        for index in 0..<classes where index != label {
            let other = logits[index]
            let isAhead = own.isNaN ? !other.isNaN || index < label : other > own || other == own && index < label
            if isAhead { above += 1 }
        }
        images += 1
        byClass[label].images += 1
        if above == 0 {
            hits += 1
            byClass[label].hits += 1
        }
        if above < min(5, classes) { hitsAmongFive += 1 }
        confusions[label * classes + prediction, default: 0] += 1
        lossSum -= Softmax(logits, classes).logProbability(label)
    }

    /// Number of images with this label and this prediction.
    public func confusion(label: Int, prediction: Int) -> Int { confusions[label * classes + prediction] ?? 0 }

    /// The pairs of different classes with the most images, at most `count`; the lower label, then the lower prediction
    /// first among equals.
    public func mostConfused(_ count: Int) -> [Confusion] {
        confusions.map { Confusion(label: $0 / classes, prediction: $0 % classes, images: $1) }
            .filter { $0.label != $0.prediction }
            .sorted { ($1.images, $0.label, $0.prediction) < ($0.images, $1.label, $1.prediction) }
            .prefix(count).map { $0 }
    }
}
