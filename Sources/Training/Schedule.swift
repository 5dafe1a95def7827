import Glibc

/// The learning rate over a run: linear from 0 during the warm-up, then half a cosine down to the minimum.
public struct LearningRateSchedule: Equatable, Sendable {
    /// The highest rate: base learning rate · effective batch / 256.
    public let peakLearningRate: Double
    /// The rate at the end.
    public let minimumLearningRate: Double
    /// Epochs of warm-up with linearly growing rate, at most `epochs`.
    public let warmupEpochs: Double
    /// Epochs of the whole run, warm-up included.
    public let epochs: Double

    public init(peakLearningRate: Double, minimumLearningRate: Double, warmupEpochs: Double, epochs: Double) {
        precondition(0 <= warmupEpochs && warmupEpochs <= epochs, "a warm-up of \(warmupEpochs) in \(epochs) epochs")
        self.peakLearningRate = peakLearningRate
        self.minimumLearningRate = minimumLearningRate
        self.warmupEpochs = warmupEpochs
        self.epochs = epochs
    }

    /// The rate of the optimiser step that begins at `epoch`, counted from 0 and fractional within an epoch.
    ///
    /// With w warm-up epochs of n: peak · epoch/w below w, then min + (peak - min)·(1 + cos(π·(epoch - w)/(n - w)))/2,
    /// and the minimum from n on. The minimum does not apply during warm-up.
    public func rate(epoch: Double) -> Double {
        if epoch < warmupEpochs { return peakLearningRate * epoch / warmupEpochs }
        if epoch >= epochs { return minimumLearningRate }
        let progress = (epoch - warmupEpochs) / (epochs - warmupEpochs)
        return minimumLearningRate + (peakLearningRate - minimumLearningRate) * 0.5 * (1 + cos(.pi * progress))
    }
}
