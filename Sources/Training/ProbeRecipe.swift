import Models
import Reporting

/// Values for a linear probe. A user may override some of them.
public struct ProbeRecipe: TrainingRecipe {
    public let name: String
    public let summary: String
    public let method = Method.probe
    public var effectiveBatch: Int
    /// Images per forward pass, over which BatchNorm computes its statistics.
    public var batch: Int
    public var baseLearningRate: Double
    public var minimumLearningRate: Double
    public var epochs: Double
    public var warmupEpochs: Double
    public var optimizer: Optimizer
    public var cropArea: ClosedRange<Double>

    /// MAE's values (He et al., arXiv 2111.06377, table 10) for a ViT of this width: 50 epochs for ViT-L and wider ones,
    /// else 90.
    public static func mae(width: Int) -> ProbeRecipe {
        ProbeRecipe(
            name: "mae-probe", summary: "MAE's linear probe", effectiveBatch: 16_384, batch: 512,
            baseLearningRate: 0.1, minimumLearningRate: 0, epochs: width >= 1024 ? 50 : 90, warmupEpochs: 10,
            optimizer: .lars, cropArea: 0.08...1)
    }

    /// MAE's learning rate per 256 images, for a smaller effective batch the rate with which the peak stays MAE's 6.4.
    ///
    /// In proportion to the batch, the rate of few images is so low that LARS hardly moves the head: of 200 images of
    /// Fashion-MNIST, 10 classes, a probe then has a top-1 of 7.5 %, with MAE's peak 67 %; of 600 images 15 % and 73 %.
    public func baseLearningRate(effectiveBatch: Int) -> Double {
        effectiveBatch < self.effectiveBatch
            ? baseLearningRate * Double(self.effectiveBatch) / Double(effectiveBatch) : baseLearningRate
    }

    /// Micro-batch and number of micro-batches per step for `images` training images: an effective batch of at most a
    /// tenth of the images, in whole micro-batches.
    ///
    /// - Parameters:
    ///   - batch: the user's micro-batch; nil for the recipe's, or the whole effective batch if that is smaller.
    ///   - effectiveBatch: the user's effective batch; nil for the rule above.
    /// - Throws: `Failure.usage` if a value is too small or the user's two do not fit together.
    public func batches(images: Int, batch: Int?, effectiveBatch: Int?) throws -> (batch: Int, accumulation: Int) {
        // BatchNorm needs two images.
        let effective = effectiveBatch ?? max(2, min(self.effectiveBatch, images / 10))
        try Field.effectiveBatch.requireAtLeast(2, effective)
        let batch = batch ?? min(self.batch, effective)
        try Field.batch.requireAtLeast(2, batch)
        guard effectiveBatch == nil || effective % batch == 0 else {
            throw Failure(
                .usage,
                "\(.effectiveBatch, effective) is not a multiple of \(.batch, batch): choose both so that whole "
                    + "batches add up to it")
        }
        return (batch, max(1, effective / batch))
    }
}

/// How a linear probe's training images become samples.
public enum ProbeAugmentation: String, Codable, CaseIterable, Sendable {
    /// A random crop and flip in every epoch, as MAE's. The encoder runs in every step.
    case crop
    /// The preparation of validation images. Features are computed once.
    case none
}
