import Reporting
import Glibc
import Tensors

/// The state that a loader's decoding threads and its caller share: a ring of batches, and the next sample to decode.
final class DecodingPipeline: @unchecked Sendable {
    /// A decoded batch. Its memory is the caller's until `release`.
    struct DecodedBatch {
        let count: Int
        /// Position in the stream of the first sample; the others follow it.
        let firstSample: Int
        /// [count, height, width, channels].
        let bytes: UnsafePointer<UInt8>
        /// Whether no readable image was found for one of the samples.
        let isExhausted: Bool
        fileprivate let images: UnsafePointer<Int>
        fileprivate let slot: Int

        /// The image that a sample shows; nil where none could be read.
        func image(_ sample: Int) -> Int? { images[sample] >= 0 ? images[sample] : nil }
    }
    /// An image that could not be read, where the stream came upon it.
    struct Event {
        let sample: Int, attempt: Int, image: Int
        let reason: Message
    }
    /// Something about an image that was read, where the stream came upon it.
    struct Finding {
        let sample: Int, image: Int
        let findings: PictureFindings
    }

    let source: any ImageSource
    let augmentation: Augmentation
    let batchSize: Int
    private let seed: UInt64
    /// Images of a window in which images are shuffled, and the images in the order in which they lie; nil: all images
    /// are shuffled at once.
    private let windows: (size: Int, stored: [Int])?
    /// The samples of this loader, and their positions in the stream.
    private let samples: Range<Int>
    private let share: StreamShare
    let unreadableLimit: Double
    private let depth: Int
    /// Whether every image is shown once, in the source's order, and unreadable ones are left out.
    let isOnce: Bool

    // The ring: `depth` slots of one batch each. Samples' bytes and the images they show ([depth, batchSize], -1 for
    // none); of each slot the samples still missing and what went wrong.
    private let bytes: UnsafeMutablePointer<UInt8>
    private let images: UnsafeMutablePointer<Int>
    private var missing: [Int]
    private var events: [[Event]]
    private var findings: [[Finding]]
    private var exhausted: [Bool]

    // The mutex guards the slots' state above and everything below. A sample's bytes belong to the thread that decodes
    // it, then, once the slot has no missing sample, to the caller until `release`.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let roomForWork = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let batchReady = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var nextSample: Int
    private var released = 0
    private var isStopping = false
    private var systemFailure: (any Error)?
    private var reasons: [Int: Message] = [:]
    private var orders: [(epoch: Int, order: [Int])] = []

    /// Seconds that `waitForBatch` has waited. Of the caller alone.
    private(set) var secondsWaited = 0.0
    /// Seconds between two calls of `whileWaiting`.
    private static let waitingInterval = 0.2

    init(
        source: any ImageSource, augmentation: Augmentation, batchSize: Int, seed: UInt64, samples: Range<Int>,
        unreadableLimit: Double, depth: Int, isOnce: Bool, shuffleWindow: Int? = nil,
        share: StreamShare = .whole
    ) {
        precondition(batchSize > 0 && source.count > 0)
        windows = shuffleWindow.map { ($0, source.storedOrder) }
        self.isOnce = isOnce
        self.source = source
        self.augmentation = augmentation
        self.batchSize = batchSize
        self.seed = seed
        self.samples = samples
        self.share = share
        self.unreadableLimit = unreadableLimit
        self.depth = depth
        bytes = .allocate(capacity: depth * batchSize * augmentation.sampleCount)
        images = .allocate(capacity: depth * batchSize)
        images.initialize(repeating: -1, count: depth * batchSize)
        missing = [Int](repeating: 0, count: depth)
        events = [[Event]](repeating: [], count: depth)
        findings = [[Finding]](repeating: [], count: depth)
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
        images.deallocate()
        bytes.deallocate()
    }

    private func locked<Result>(_ body: () throws -> Result) rethrows -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body()
    }

    /// Number of samples in batch number `batch`.
    private func size(of batch: Int) -> Int { max(0, min(batchSize, samples.count - batch * batchSize)) }

    /// Whether `count` unreadable images are more than allowed.
    func exceedsLimit(_ count: Int) -> Bool {
        UnreadableLimit.isExceeded(by: count, of: source.count, unreadableLimit)
    }

    // MARK: The caller's side

    /// Waits for the oldest batch that was not released; its count is 0 after the end. Gives nil once the pipeline is
    /// stopped. Calls `whileWaiting`, and throws what it throws, until the batch is ready.
    func waitForBatch(_ whileWaiting: () throws -> Void) throws -> DecodedBatch? {
        if !isReady(waiting: 0) {
            let start = monotonicSeconds()
            defer { secondsWaited += monotonicSeconds() - start }
            while !isReady(waiting: Self.waitingInterval) { try whileWaiting() }
        }
        return try locked {
            let slot = released % depth
            if let systemFailure { throw systemFailure }
            guard !isStopping else { return nil }
            return DecodedBatch(
                count: size(of: released), firstSample: share.position(of: samples.lowerBound + released * batchSize),
                bytes: bytes + slot * batchSize * augmentation.sampleCount, isExhausted: exhausted[slot],
                images: images + slot * batchSize, slot: slot)
        }
    }

    /// Whether the oldest batch is decoded, or the pipeline stopped; waits for that for at most so many seconds.
    private func isReady(waiting seconds: Double) -> Bool {
        locked {
            let slot = released % depth
            var deadline = timespec()
            clock_gettime(CLOCK_REALTIME, &deadline)
            let nanoseconds = deadline.tv_nsec + Int(seconds * 1e9)
            deadline.tv_sec += nanoseconds / 1_000_000_000
            deadline.tv_nsec = nanoseconds % 1_000_000_000
            while !isStopping && missing[slot] > 0 {
                if seconds == 0 || pthread_cond_timedwait(batchReady, mutex, &deadline) != 0 {
                    return isStopping || missing[slot] == 0
                }
            }
            return true
        }
    }

    /// What was found in the images of `batch`, in the order of the stream: threads finish in any order.
    func findings(of batch: DecodedBatch) -> BatchFindings {
        locked {
            let slot = batch.slot
            return BatchFindings(
                samples: batch.count, isExhausted: batch.isExhausted,
                unreadable: events[slot].isEmpty
                    ? []
                    : events[slot].sorted { ($0.sample, $0.attempt) < ($1.sample, $1.attempt) }
                        .map { .init(image: $0.image, reason: $0.reason) },
                readable: findings[slot].isEmpty
                    ? []
                    : findings[slot].sorted { $0.sample < $1.sample }
                        .map { .init(image: $0.image, findings: $0.findings) })
        }
    }

    /// Gives the oldest batch's slot back to the threads.
    func release() {
        locked {
            let slot = released % depth
            events[slot].removeAll()
            findings[slot].removeAll(keepingCapacity: true)
            exhausted[slot] = false
            missing[slot] = size(of: released + depth)
            released += 1
            pthread_cond_broadcast(roomForWork)
        }
    }

    /// Ends the threads' work. With an error, `waitForBatch` throws it from then on.
    func stop(_ error: (any Error)? = nil) {
        locked {
            isStopping = true
            systemFailure = systemFailure ?? error
            pthread_cond_broadcast(roomForWork)
            pthread_cond_broadcast(batchReady)
        }
    }

    // MARK: The threads' side

    /// The body of a decoding thread: decodes one sample after another while there is room in the ring.
    func work() {
        Threads.unbind()
        let buffers = AugmentationBuffers()
        while let sample = takeSample() {
            let image: Int?, failures: [Int]
            var found = PictureFindings.nothing
            do {
                (image, failures) = try produce(sample, buffers, &found)
            } catch {
                return stop(error)
            }
            locked {
                let slot = (sample - samples.lowerBound) / batchSize % depth
                images[row(of: sample)] = image ?? -1
                for (attempt, failure) in failures.enumerated() {
                    events[slot].append(
                        Event(sample: sample, attempt: attempt, image: failure, reason: reasons[failure]!))
                }
                if let image, found != .nothing {
                    findings[slot].append(Finding(sample: sample, image: image, findings: found))
                }
                if image == nil && !isOnce { exhausted[slot] = true }
                missing[slot] -= 1
                if missing[slot] == 0 { pthread_cond_broadcast(batchReady) }
            }
        }
    }

    /// The row of the ring that a sample is decoded to.
    private func row(of sample: Int) -> Int {
        (sample - samples.lowerBound) % (depth * batchSize)
    }

    private func takeSample() -> Int? {
        locked {
            while !isStopping {
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

    /// Decodes the sample at a position of the stream into its row of the ring.
    ///
    /// - Parameter findings: what is to be known of that image.
    /// - Returns: the image it shows, nil where none could be read, and the unreadable images that were tried before,
    ///   in that order.
    /// - Throws: `Failure` where the system failed, not the image.
    private func produce(
        _ sample: Int, _ buffers: AugmentationBuffers, _ findings: inout PictureFindings
    ) throws -> (image: Int?, failures: [Int]) {
        let position = share.position(of: sample)
        let epoch = position / source.count, index = position % source.count
        let order = order(of: epoch)
        var failures: [Int] = []
        for step in 0..<source.count {
            let image = order[(index + step) % source.count]
            if locked({ reasons[image] == nil }) {
                do {
                    let picture = try Pixels(
                        decoding: source.bytes(image), named: source.title(image), channels: augmentation.channels,
                        as: augmentation.reading, &findings)
                    augmentation.apply(
                        to: picture, seed: seed, epoch: epoch, index: index, with: buffers,
                        into: bytes + row(of: sample) * augmentation.sampleCount)
                    return (image, failures)
                } catch let failure as Failure where failure.code == .badData {
                    locked { if reasons[image] == nil { reasons[image] = failure.sentence } }
                }
            }
            failures.append(image)
            // Enough to stop the run; without this, one sample could read a million broken images.
            if isOnce || exceedsLimit(failures.count) { break }
        }
        return (nil, failures)
    }

    /// The epoch's order of the images. At any time the threads work on two epochs at most, so two orders are kept.
    private func order(of epoch: Int) -> [Int] {
        locked {
            if let known = orders.first(where: { $0.epoch == epoch }) { return known.order }
            let order =
                if isOnce {
                    Array(0..<source.count)
                } else if let windows {
                    SampleOrder.images(windows.stored, window: windows.size, epoch: epoch, seed: seed)
                } else {
                    SampleOrder.images(source.count, epoch: epoch, seed: seed)
                }
            orders.append((epoch, order))
            if orders.count > 2 { orders.remove(at: orders[0].epoch < orders[1].epoch ? 0 : 1) }
            return order
        }
    }
}
