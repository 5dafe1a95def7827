import Reporting
import Glibc
import Tensors

/// Batches of an endless, reproducible stream of samples, decoded ahead of their use on threads of its own.
///
/// Position s of the stream belongs to epoch s / N, N being the number of files, and shows file s % N of that epoch's
/// order; crop and flip are drawn for (epoch, s % N). So what a position shows depends on the seed and the files alone:
/// not on the number of threads, on the batch size, or on where the stream was started. An image that cannot be read or
/// decoded is replaced by the next readable one in the epoch's order, beginning again at its start, with the crop and
/// flip of the position it stands in for.
///
/// A loader made by `init(once:…)` shows every file once instead, in the folder's order, and leaves unreadable ones
/// out.
///
/// All memory for batches is allocated when the loader is made: `batchesAhead` batches of bytes, normalised only when
/// they are handed over. One thread at a time may call `next` and `stop`.
public final class BatchLoader {
    private let pipeline: Pipeline
    private let table: [Float]
    private let report: (String) -> Void
    private var threads: [pthread_t] = []
    private var startFailure: Failure?
    private var unreadable: Set<Int> = []
    private var firstUnreadable: [String] = []

    /// For each sample of the batch that `next` wrote last: the index of its file in the folder.
    public private(set) var lastFiles: [Int] = []

    /// Distinct files that could not be decoded, among those met in the batches that `next` handed over.
    public var unreadableCount: Int { unreadable.count }

    /// Starts decoding at once.
    ///
    /// - Parameters:
    ///   - firstSample: the stream position of the first sample.
    ///   - lastSample: the stream position after the last one; the last batch is short where the size does not divide.
    ///   - workers: decoding threads, at least 1.
    ///   - unreadableLimit: the share of the folder's files that may be unreadable; with more, `next` throws.
    ///   - batchesAhead: batches held in memory at a time, the one being handed over included.
    ///   - report: called by `next`, on its thread, once for each file found unreadable, with a sentence that names the
    ///     file.
    public convenience init(
        folder: ImageFolder, augmentation: Augmentation, batchSize: Int, seed: UInt64, firstSample: Int,
        lastSample: Int, workers: Int, unreadableLimit: Double = 0.01, batchesAhead: Int = 3,
        report: @escaping (String) -> Void
    ) {
        precondition(batchesAhead > 0 && firstSample >= 0 && firstSample <= lastSample)
        self.init(
            Pipeline(
                folder: folder, augmentation: augmentation, batchSize: batchSize, seed: seed,
                samples: firstSample..<lastSample,
                unreadableLimit: unreadableLimit, depth: batchesAhead, isOnce: false),
            workers: workers, report: report)
    }

    /// A loader of every file of `folder` once, in the folder's order; an image that cannot be decoded is reported and
    /// left out. `augmentation` must not draw random numbers. Parameters as above.
    public convenience init(
        once folder: ImageFolder, augmentation: Augmentation, batchSize: Int, workers: Int,
        unreadableLimit: Double = 0.01,
        batchesAhead: Int = 3, report: @escaping (String) -> Void
    ) {
        precondition(batchesAhead > 0)
        self.init(
            Pipeline(
                folder: folder, augmentation: augmentation, batchSize: batchSize, seed: 0, samples: 0..<folder.count,
                unreadableLimit: unreadableLimit, depth: batchesAhead, isOnce: true),
            workers: workers, report: report)
    }

    private init(_ pipeline: Pipeline, workers: Int, report: @escaping (String) -> Void) {
        self.pipeline = pipeline
        self.report = report
        table = pipeline.augmentation.normalisation.table
        start(max(1, workers))
    }

    deinit { stop() }

    /// Writes the next batch, normalised, to `destination`[batchSize, channels, height, width], waiting for it where
    /// it is not ready.
    ///
    /// - Returns: the number of samples written: `batchSize`, fewer at the end of the stream or where images were left
    ///   out, 0 after the end.
    /// - Throws: `Failure(.badData)` once more than the limit of the files, or all of them, proved unreadable;
    ///   `Failure(.inputOutput)` where the system failed, as for want of file descriptors or memory, and the file could
    ///   have been read.
    @discardableResult
    public func next(into destination: UnsafeMutablePointer<Float>) throws -> Int {
        if let startFailure { throw startFailure }
        while true {
            guard let batch = try pipeline.waitForBatch() else {
                throw Failure(.failure, "the image loader was stopped")
            }
            guard batch.count > 0 else { return 0 }
            try note(batch)
            let augmentation = pipeline.augmentation, pixelCount = augmentation.width * augmentation.height
            lastFiles.removeAll(keepingCapacity: true)
            for (sample, file) in batch.files.enumerated() where file >= 0 {
                Normalisation.write(
                    batch.bytes + sample * augmentation.sampleCount, count: pixelCount, channels: augmentation.channels,
                    table,
                    to: destination + lastFiles.count * augmentation.sampleCount)
                lastFiles.append(file)
            }
            pipeline.release()
            if !lastFiles.isEmpty { return lastFiles.count }
        }
    }

    /// Reports what could not be read in `batch`, and throws where that is too much.
    private func note(_ batch: Pipeline.Batch) throws {
        for event in pipeline.unreadable(in: batch) where unreadable.insert(event.file).inserted {
            report("\(event.reason); \(pipeline.isOnce ? "it is left out" : "the next image takes its place")")
            if firstUnreadable.count < 3 { firstUnreadable.append(pipeline.folder.path(event.file)) }
        }
        let total = pipeline.folder.count, place = pipeline.folder.place
        guard pipeline.exceedsLimit(unreadable.count) || batch.exhausted || unreadable.count == total else { return }
        let some = firstUnreadable.joined(separator: ", ") + (unreadable.count > firstUnreadable.count ? ", …" : "")
        throw Failure(
            .badData,
            unreadable.count == total
                ? "none of the \(total) images\(place) can be read (\(some)); name a folder of JPEG or PNG files"
                : "\(unreadable.count) of the \(total) images\(place) cannot be read (\(some)), "
                    + "more than the share of \(pipeline.unreadableLimit) that is allowed; "
                    + "mend or remove them, or raise --unreadable-limit")
    }

    /// Ends the decoding threads and waits for them; `next` throws from then on. Harmless when repeated.
    public func stop() {
        pipeline.stop()
        for thread in threads { pthread_join(thread, nil) }
        threads = []
    }

    private func start(_ count: Int) {
        // Signals are for the thread that trains.
        var all = sigset_t(), before = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        for _ in 0..<count {
            var thread = pthread_t()
            let context = Unmanaged.passRetained(pipeline)
            let code = pthread_create(
                &thread, nil,
                { context in
                    Unmanaged<Pipeline>.fromOpaque(context!).takeRetainedValue().work()
                    return nil
                }, context.toOpaque())
            guard code == 0 else {
                context.release()
                if threads.isEmpty {
                    startFailure = Failure(.failure, "cannot start a decoding thread: \(errorText(code))")
                }
                return
            }
            threads.append(thread)
        }
    }
}

/// What the decoding threads and the consumer share: a ring of batches, and who works on which sample.
private final class Pipeline {
    /// A finished batch, the consumer's until it calls `release`.
    struct Batch {
        let count: Int
        let bytes: UnsafeMutablePointer<UInt8>
        let files: ArraySlice<Int>
        /// A sample for which no readable image was found.
        let exhausted: Bool
        let slot: Int
    }
    /// A file that could not be decoded where the stream came upon it.
    struct Event {
        let sample: Int, attempt: Int, file: Int
        let reason: String
    }

    let folder: ImageFolder
    let augmentation: Augmentation
    private let batchSize: Int
    private let seed: UInt64
    private let samples: Range<Int>
    let unreadableLimit: Double
    private let depth: Int
    /// Whether every file is shown once, in the folder's order, and unreadable ones are left out.
    let isOnce: Bool

    // Of each slot of the ring: the samples, how many are still missing, which files they show, what went wrong.
    private let bytes: UnsafeMutablePointer<UInt8>
    private var missing: [Int]
    private var files: [Int]
    private var events: [[Event]]
    private var exhausted: [Bool]

    // Everything below and the slots' books are guarded by the mutex; a slot's bytes belong to whoever the books say.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let roomForWork = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let batchReady = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var nextSample: Int
    private var released = 0
    private var stopping = false
    private var trouble: (any Error)?
    private var reasons: [Int: String] = [:]
    private var orders: [(epoch: Int, order: [Int])] = []

    init(
        folder: ImageFolder, augmentation: Augmentation, batchSize: Int, seed: UInt64, samples: Range<Int>,
        unreadableLimit: Double, depth: Int, isOnce: Bool
    ) {
        precondition(batchSize > 0 && folder.count > 0)
        self.isOnce = isOnce
        self.folder = folder
        self.augmentation = augmentation
        self.batchSize = batchSize
        self.seed = seed
        self.samples = samples
        self.unreadableLimit = unreadableLimit
        self.depth = depth
        bytes = .allocate(capacity: depth * batchSize * augmentation.sampleCount)
        missing = [Int](repeating: 0, count: depth)
        files = [Int](repeating: 0, count: depth * batchSize)
        events = [[Event]](repeating: [], count: depth)
        exhausted = [Bool](repeating: false, count: depth)
        nextSample = samples.lowerBound
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(roomForWork, nil)
        pthread_cond_init(batchReady, nil)
        for batch in 0..<depth { missing[batch] = size(of: batch) }
    }

    deinit {
        pthread_cond_destroy(batchReady)
        pthread_cond_destroy(roomForWork)
        pthread_mutex_destroy(mutex)
        batchReady.deallocate()
        roomForWork.deallocate()
        mutex.deallocate()
        bytes.deallocate()
    }

    private func locked<Result>(_ body: () throws -> Result) rethrows -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body()
    }

    /// Samples in the batch of that number.
    private func size(of batch: Int) -> Int { max(0, min(batchSize, samples.count - batch * batchSize)) }

    /// Whether `count` unreadable files are more than allowed.
    func exceedsLimit(_ count: Int) -> Bool { Double(count) / Double(folder.count) > unreadableLimit }

    // MARK: The consumer's side

    /// The oldest batch that was not released, once it is whole; nil where the pipeline was stopped.
    func waitForBatch() throws -> Batch? {
        try locked {
            let slot = released % depth
            while !stopping && missing[slot] > 0 { pthread_cond_wait(batchReady, mutex) }
            if let trouble { throw trouble }
            guard !stopping else { return nil }
            let count = size(of: released)
            return Batch(
                count: count, bytes: bytes + slot * batchSize * augmentation.sampleCount,
                files: files[slot * batchSize..<slot * batchSize + count], exhausted: exhausted[slot], slot: slot)
        }
    }

    /// What could not be read in `batch`, in the order of the stream, which the threads' order is not.
    func unreadable(in batch: Batch) -> [Event] {
        locked { events[batch.slot].sorted { ($0.sample, $0.attempt) < ($1.sample, $1.attempt) } }
    }

    /// Gives the oldest batch's memory back to the threads.
    func release() {
        locked {
            let slot = released % depth
            events[slot].removeAll()
            exhausted[slot] = false
            missing[slot] = size(of: released + depth)
            released += 1
            pthread_cond_broadcast(roomForWork)
        }
    }

    /// Ends the threads' work; `error` is what `waitForBatch` throws from then on.
    func stop(_ error: (any Error)? = nil) {
        locked {
            stopping = true
            trouble = trouble ?? error
            pthread_cond_broadcast(roomForWork)
            pthread_cond_broadcast(batchReady)
        }
    }

    // MARK: The threads' side

    /// What a decoding thread does: one sample after another, as long as there is room in the ring.
    func work() {
        Threads.unbind()
        let resampler = Resampler()
        while let sample = takeSample() {
            let file: Int?, failures: [Int]
            do {
                (file, failures) = try produce(sample, resampler)
            } catch {
                return stop(error)
            }
            locked {
                let offset = sample - samples.lowerBound
                let slot = offset / batchSize % depth
                files[slot * batchSize + offset % batchSize] = file ?? -1
                for (tried, failure) in failures.enumerated() {
                    events[slot].append(Event(sample: sample, attempt: tried, file: failure, reason: reasons[failure]!))
                }
                if file == nil && !isOnce { exhausted[slot] = true }
                missing[slot] -= 1
                if missing[slot] == 0 { pthread_cond_broadcast(batchReady) }
            }
        }
    }

    private func takeSample() -> Int? {
        locked {
            while !stopping {
                let batch = (nextSample - samples.lowerBound) / batchSize
                if nextSample < samples.upperBound && batch < released + depth {
                    defer { nextSample += 1 }
                    return nextSample
                }
                pthread_cond_wait(roomForWork, mutex)
            }
            return nil
        }
    }

    /// Puts the sample of that stream position into its place; gives the file it shows, nil where none could be read,
    /// and the files that had to be passed over, in that order.
    ///
    /// Throws where it is the system that failed, not a file: whether a picture is read then depends on the moment.
    private func produce(_ sample: Int, _ resampler: Resampler) throws -> (file: Int?, failures: [Int]) {
        let epoch = sample / folder.count, index = sample % folder.count
        let order = order(of: epoch)
        let offset = sample - samples.lowerBound
        let place = offset / batchSize % depth * batchSize + offset % batchSize
        var failures: [Int] = []
        for step in 0..<folder.count {
            let file = order[(index + step) % folder.count]
            if locked({ reasons[file] == nil }) {
                do {
                    let picture = try Pixels(
                        contentsOf: folder.pathToOpen(file), channels: augmentation.channels,
                        orienting: augmentation.orienting)
                    augmentation.apply(
                        to: picture, seed: seed, epoch: epoch, index: index, with: resampler,
                        into: bytes + place * augmentation.sampleCount)
                    return (file, failures)
                } catch {
                    if (error as? Failure)?.code == .inputOutput, let path = try? folder.pathToOpen(file),
                        isReadableFile(path)
                    {
                        throw error
                    }
                    let reason = (error as? Failure)?.message ?? "\(folder.path(file)): \(error)"
                    locked { if reasons[file] == nil { reasons[file] = reason } }
                }
            }
            failures.append(file)
            // Enough to stop the run; going on could mean reading a million broken files for one sample.
            if isOnce || exceedsLimit(failures.count) { break }
        }
        return (nil, failures)
    }

    /// The epoch's order of the files. Threads stand in two epochs at most, so two are kept.
    private func order(of epoch: Int) -> [Int] {
        locked {
            if let known = orders.first(where: { $0.epoch == epoch }) { return known.order }
            var draw = CounterRandom(seed: seed, purpose: .order, epoch: epoch)
            let order = isOnce ? Array(0..<folder.count) : draw.permutation(folder.count)
            orders.append((epoch, order))
            if orders.count > 2 { orders.remove(at: orders[0].epoch < orders[1].epoch ? 0 : 1) }
            return order
        }
    }
}
