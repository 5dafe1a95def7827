/// A schedule for the number of images of a run: what a recipe made for other numbers leaves to choose.
public struct FittedSchedule: Equatable, Sendable {
    /// Images per optimiser step.
    public let effectiveBatch: Int
    public let epochs: Double
    /// Learning rate per 256 images of effective batch.
    public let baseLearningRate: Double
    /// Optimiser steps of the run.
    public let steps: Int

    package init(effectiveBatch: Int, epochs: Double, baseLearningRate: Double, steps: Int) {
        self.effectiveBatch = effectiveBatch
        self.epochs = epochs
        self.baseLearningRate = baseLearningRate
        self.steps = steps
    }
}

extension TrainingRecipe {
    /// Optimiser steps below which a run of the method hardly learns: a fine-tuning starts from features, a masked
    /// autoencoder mostly from nothing.
    public var fewestSteps: Int { method == .finetune ? 1000 : 3000 }

    /// Epochs, in whole tens, that make `fewestSteps` optimiser steps.
    public func sufficientEpochs(images: Int, effectiveBatch: Int) -> Double {
        (Double(fewestSteps) * Double(effectiveBatch) / Double(images) / 10).rounded(.up) * 10
    }

    /// Images per optimiser step below which no schedule goes: 64, or as many as there are.
    private func smallestBatch(images: Int) -> Int {
        var size = 1
        while 2 * size <= min(64, effectiveBatch, images) { size *= 2 }
        return size
    }

    /// The recipe's schedule for `images` images: if its steps are fewer than `fewestSteps`, a smaller effective batch,
    /// a power of two, and where that is not enough more epochs.
    ///
    /// The peak of the learning rate falls with the square root of the effective batch, the rule for adaptive optimisers
    /// (Malladi et al., arXiv 2205.10287). The demo's student, in 218 steps of 64 images, comes to a loss of 1.72 with the
    /// paper's rate scaled so, and of 2.46 with the rate in proportion to the batch.
    ///
    /// - Parameters:
    ///   - batch, effectiveBatch, epochs: the user's, which stay; nil to choose.
    /// - Returns: nil where the recipe's schedule has steps enough, or nothing is left to choose.
    public func fitted(images: Int, batch: Int? = nil, effectiveBatch: Int? = nil, epochs: Double? = nil)
        -> FittedSchedule?
    {
        let smallest = smallestBatch(images: images)
        let images = Double(images), fewest = Double(fewestSteps)
        guard effectiveBatch == nil || epochs == nil, images >= 1, (epochs ?? 1) > 0, (batch ?? 1) > 0,
            (effectiveBatch ?? 1) > 0,
            (epochs ?? self.epochs) * images / Double(effectiveBatch ?? self.effectiveBatch) < fewest
        else { return nil }
        var effective = effectiveBatch ?? self.effectiveBatch
        if effectiveBatch == nil {
            let most = (epochs ?? self.epochs) * images / fewest
            var size = batch ?? smallest
            while 2 * size <= self.effectiveBatch, Double(2 * size) <= most { size *= 2 }
            effective = size
        }
        var length = epochs ?? self.epochs
        if epochs == nil, length * images < fewest * Double(effective) {
            length = sufficientEpochs(images: Int(images), effectiveBatch: effective)
        }
        let ratio = (Double(self.effectiveBatch) / Double(effective)).squareRoot()
        var rate = baseLearningRate
        if effectiveBatch == nil { rate = Self.rounded(baseLearningRate * ratio) }
        guard (effective, length) != (effectiveBatch ?? self.effectiveBatch, epochs ?? self.epochs) else { return nil }
        return FittedSchedule(
            effectiveBatch: effective, epochs: length, baseLearningRate: rate,
            steps: Int(length * images / Double(effective)))
    }

    /// `value` with two digits.
    private static func rounded(_ value: Double) -> Double {
        guard value > 0 else { return value }
        var scale = 1.0
        while value * scale < 10 { scale *= 10 }
        return (value * scale).rounded() / scale
    }
}
