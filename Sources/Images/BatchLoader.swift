import Reporting
import Tensors

/// Batches of an endless, reproducible stream of samples, decoded ahead of their use by the loader's own threads.
///
/// With N images in the source, position s of the stream belongs to epoch s / N and shows image s % N of that epoch's
/// order; all that is random in a sample is drawn for (epoch, s % N). So the sample at a position depends on the seed
/// and the source alone, not on the number of threads, the batch size or the position where the stream was started. An
/// image that cannot be read is replaced by the next readable one in the epoch's order, which continues at its start,
/// with the random numbers of the position. How the samples of a batch are mixed is drawn for the position of the first
/// one.
///
/// A loader made by `init(once:…)` shows every image once instead, in the source's order, and leaves unreadable ones
/// out.
///
/// All memory for batches is allocated when the loader is made: `batchesAhead` batches of bytes, which `next`
/// normalises. Only one thread at a time may call `next` and `stop`.
public final class BatchLoader: BatchSource {
    /// Batches that a loader holds in memory at a time, unless it is told otherwise.
    public static let defaultBatchesAhead = 3

    /// The ends of the sentences about unreadable images, after the reason: of images that are shown once, and of a stream.
    public static let endings = ["; it is left out", "; the next image takes its place"]

    private let pipeline: DecodingPipeline
    private let seed: UInt64
    private let mixing: Mixing?
    private let table: [Float]
    private let account: ImageAccount
    private var threads: WorkerThreads?
    private var startFailure: (any Error)?
    /// The newest batch. Its memory is reused for the next one, unless the caller still holds the batch.
    private var batch: Batch

    public var secondsWaited: Double { pipeline.secondsWaited }

    /// Number of different images that could not be read, in the batches that `next` has returned.
    public var unreadableCount: Int { account.unreadableCount }

    /// Makes a loader of the stream's positions `firstSample`..<`lastSample` and starts decoding at once.
    ///
    /// - Parameters:
    ///   - lastSample: the position after the last sample; the last batch is short if the batch size does not divide
    ///     the number of samples.
    ///   - share: the part of the stream whose samples are numbered here; it divides into whole batches.
    ///   - workers: decoding threads, at least 1.
    ///   - unreadableLimit: the fraction of the source's images that may be unreadable; with more, `next` throws.
    ///   - batchesAhead: batches held in memory at a time, including the one that `next` is normalising.
    ///   - shuffleWindow: shuffles an epoch's images in windows of so many that lie near one another, see `SampleOrder`;
    ///     nil shuffles all at once.
    ///   - mixing: how the samples of a batch are mixed with one another; the batch size must then be even.
    ///   - report: called by `next`, on its thread, with sentences for a person: once about each unreadable image, and
    ///     about what was found in others, such as transparency. The last ones come at the end of an epoch or of the
    ///     samples, or from `stop`.
    public convenience init(
        source: any ImageSource, augmentation: Augmentation, batchSize: Int, seed: UInt64, firstSample: Int,
        lastSample: Int, share: StreamShare = .whole, workers: Int, unreadableLimit: Double = UnreadableLimit.standard,
        batchesAhead: Int = BatchLoader.defaultBatchesAhead,
        shuffleWindow: Int? = nil, mixing: Mixing? = nil, report: @escaping (Message) -> Void
    ) {
        precondition(batchesAhead > 0 && firstSample >= 0 && firstSample <= lastSample)
        precondition(mixing == nil || batchSize % 2 == 0, "a batch whose samples are mixed is even")
        self.init(
            DecodingPipeline(
                source: source, augmentation: augmentation, batchSize: batchSize, seed: seed,
                samples: firstSample..<lastSample,
                unreadableLimit: unreadableLimit, depth: batchesAhead, isOnce: false,
                shuffleWindow: shuffleWindow, share: share),
            seed: seed, mixing: mixing, workers: workers, report: report)
    }

    /// Makes a loader of every image of `source` once, in the source's order; an image that cannot be read is reported
    /// and left out. The positions of its samples are the image indices.
    ///
    /// `augmentation` must not draw random numbers. The other parameters are those of the stream's loader.
    ///
    /// - Parameters:
    ///   - share: the batches of this loader, where several take them in turn; their caller has an account of all images,
    ///     and calls `nextPart`.
    ///   - unreadable: called, beside `report`, with each unreadable image and the reason, before `next` returns the batch
    ///     that lacks it.
    public convenience init(
        once source: any ImageSource, augmentation: Augmentation, batchSize: Int, share: StreamShare = .whole,
        workers: Int,
        unreadableLimit: Double = UnreadableLimit.standard,
        batchesAhead: Int = BatchLoader.defaultBatchesAhead, unreadable: ((Int, Message) -> Void)? = nil,
        report: @escaping (Message) -> Void
    ) {
        precondition(batchesAhead > 0)
        self.init(
            DecodingPipeline(
                source: source, augmentation: augmentation, batchSize: batchSize, seed: 0,
                samples: 0..<share.count(among: source.count), unreadableLimit: unreadableLimit, depth: batchesAhead,
                isOnce: true, share: share),
            seed: 0, mixing: nil, workers: workers, unreadable: unreadable, report: report)
    }

    private init(
        _ pipeline: DecodingPipeline, seed: UInt64, mixing: Mixing?, workers: Int,
        unreadable: ((Int, Message) -> Void)? = nil, report: @escaping (Message) -> Void
    ) {
        self.pipeline = pipeline
        self.seed = seed
        self.mixing = mixing
        account = ImageAccount(
            of: pipeline.source, reading: pipeline.augmentation.reading, limit: pipeline.unreadableLimit,
            isOnce: pipeline.isOnce, unreadable: unreadable, report: report)
        table = pipeline.augmentation.normalisation.table
        batch = Batch(samples: [], images: [], labels: pipeline.source.classes.isEmpty ? nil : [])
        do {
            threads = try WorkerThreads(max(1, workers)) { [pipeline] in pipeline.work() }
        } catch {
            startFailure = error
        }
    }

    deinit { stop() }

    /// Writes the next batch, normalised, erased and mixed as the loader was told, to the first rows of
    /// `destination`[≥ batchSize, channels·height·width] and returns its samples. Waits until the batch is decoded.
    ///
    /// Allocates nothing after the first batch, if the caller no longer holds the previous batch.
    ///
    /// - Returns: `batchSize` samples, fewer at the end of the stream or if images were left out; nil after the end.
    /// - Throws: `Failure(.badData)` once all images, or a larger fraction than the limit, have proved unreadable;
    ///   `Failure(.inputOutput)` where the system failed, not the image (see `ImageSource.bytes`).
    public func next(into destination: Tensor, whileWaiting: () throws -> Void) throws -> Batch? {
        while let (batch, findings) = try nextPart(into: destination, whileWaiting: whileWaiting) {
            try account.add(findings)
            if batch.count > 0 { return batch }
        }
        account.summarise()
        return nil
    }

    /// As `next`, for a caller with an account of the images of its own: also a batch of which no image could be read.
    public func nextPart(
        into destination: Tensor, whileWaiting: () throws -> Void = {}
    ) throws -> (Batch, BatchFindings)? {
        let augmentation = pipeline.augmentation, pixelCount = augmentation.width * augmentation.height
        precondition(destination.rows >= pipeline.batchSize && destination.columns == augmentation.sampleCount)
        if let startFailure { throw startFailure }
        guard let decoded = try pipeline.waitForBatch(whileWaiting) else {
            throw Failure(.failure, "the image loader was stopped")
        }
        guard decoded.count > 0 else { return nil }
        batch.removeAll()
        for sample in 0..<decoded.count {
            guard let image = decoded.image(sample) else { continue }
            let row = destination.pointer + batch.count * destination.stride
            Normalisation.write(
                decoded.bytes + sample * augmentation.sampleCount, count: pixelCount,
                channels: augmentation.channels, table, to: row)
            let position = decoded.firstSample + sample, images = pipeline.source.count
            augmentation.erase(row, seed: seed, epoch: position / images, index: position % images)
            batch.append(sample: position, image: image, label: pipeline.source.label(image))
        }
        let findings = pipeline.findings(of: decoded)
        pipeline.release()
        if let mixing, batch.count > 0 {
            let mixture = mixing.mixture(
                seed: seed, firstSample: batch.samples[0], width: augmentation.width, height: augmentation.height)
            mixture.apply(
                to: destination, count: batch.count, width: augmentation.width, height: augmentation.height)
            batch.mixture = mixture
        }
        return (batch, findings)
    }

    /// Ends the decoding threads and waits for them; `next` throws from then on. May be called more than once.
    public func stop() {
        pipeline.stop()
        // A read from a disk that does not answer must not keep a run from its checkpoint.
        threads?.join(within: 3)
        account.summarise()
    }
}
