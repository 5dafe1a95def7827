import Images
import Models
import Reporting
import Tensors

/// Draws the first samples of a training run as the network is given them: cropped, augmented, erased, mixed and masked.
public final class SamplePreview {
    /// MAE's random masking of square patches.
    public struct Mask: Equatable, Sendable {
        /// Side of a patch, in pixels; divides the sides of a sample.
        public let patchSize: Int
        /// Patches that stay visible.
        public let keptPatches: Int

        public init(patchSize: Int, keptPatches: Int) {
            self.patchSize = patchSize
            self.keptPatches = keptPatches
        }
    }

    /// Samples of one batch.
    public struct Row: Sendable {
        /// The samples in RGB or grey, removed patches in mid-grey.
        public let pictures: [Pixels]
        /// For each picture, its image's index in the source.
        public let images: [Int]
        /// How the batch was mixed; nil if it was not.
        public let mixture: Mixture?
    }

    private let augmentation: Augmentation
    private let mask: Mask?
    private let seed: UInt64
    private let makeLoader: (_ batch: Int, _ samples: Int) -> BatchLoader
    private let batch: Int
    private let isMixed: Bool

    /// - Parameters:
    ///   - mixing: how batches are mixed; nil if they are not.
    ///   - mask: which patches are removed; nil for none.
    ///   - batch: images of a batch of the run, even if they are mixed.
    ///   - seed: seed of the run.
    ///   - workers: decoding threads.
    ///   - report: called with a sentence about each unreadable image.
    public init(
        source: any ImageSource, augmentation: Augmentation, mixing: Mixing?, mask: Mask?, batch: Int, seed: UInt64,
        workers: Int, report: @escaping (Message) -> Void
    ) {
        self.augmentation = augmentation
        self.mask = mask
        self.seed = seed
        self.batch = batch
        isMixed = mixing != nil
        makeLoader = { batch, samples in
            BatchLoader(
                source: source, augmentation: augmentation, batchSize: batch, seed: seed, firstSample: 0,
                lastSample: samples, workers: workers, batchesAhead: 2, mixing: mixing, report: report)
        }
    }

    /// The first `count` samples of the run, in rows of `columns`. Where batches are mixed, row r shows the first
    /// samples of the run's batch r instead, since λ is the same in a whole batch; `columns` is then at most a batch.
    ///
    /// - Throws: `Failure` where too many images cannot be read, or memory runs out.
    public func rows(_ count: Int, columns: Int) throws -> [Row] {
        precondition(count > 0 && columns > 0 && (!isMixed || columns <= batch))
        let rows = (count + columns - 1) / columns, perRow = isMixed ? batch : columns
        let plan = MemoryPlan()
        let samples = plan.reserve("images", perRow, augmentation.sampleCount, .batch)
        let masking = mask.map {
            Masking(
                batch: columns, patches: augmentation.width * augmentation.height / $0.patchSize / $0.patchSize,
                kept: $0.keptPatches, plan: plan)
        }
        try plan.commit()
        let loader = makeLoader(perRow, isMixed ? rows * batch : count)
        defer { loader.stop() }
        var drawn: [Row] = []
        while drawn.count < rows, let loaded = try loader.next(into: samples) {
            let shown = min(columns, count - drawn.count * columns, loaded.count)
            masking?.select(.random(seed: seed)) { loaded.samples[min($0, loaded.count - 1)] }
            let pictures = (0..<shown).map { sample in
                var picture = augmentation.normalisation.pixels(
                    samples.pointer + sample * samples.stride, width: augmentation.width, height: augmentation.height)
                if let mask, let masking {
                    let removed = UnsafeBufferPointer(masking.mask.rows(sample..<sample + 1).elements)
                    picture.removePatches(removed.map { $0 == 1 }, size: mask.patchSize)
                }
                return picture
            }
            drawn.append(Row(pictures: pictures, images: Array(loaded.images.prefix(shown)), mixture: loaded.mixture))
        }
        return drawn
    }
}

extension Pixels {
    /// Makes square patches of `size` pixels mid-grey: those whose flag in `removed`, row by row, is true.
    fileprivate mutating func removePatches(_ removed: [Bool], size: Int) {
        var bytes = bytes
        let columns = width / size
        for (patch, isRemoved) in removed.enumerated() where isRemoved {
            for y in patch / columns * size..<(patch / columns + 1) * size {
                let start = (y * width + patch % columns * size) * channels
                for i in start..<start + size * channels { bytes[i] = 128 }
            }
        }
        self = Pixels(width: width, height: height, channels: channels, bytes: bytes)
    }
}
