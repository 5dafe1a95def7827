import FoundationEssentials
import Images
import Reporting
import Tensors

/// Batches of all images of a source, each shown once, that the processes compute in turn: batch b is that of process b
/// modulo their number. Process 0 gets the results of all, in the source's order, with the bits that it would have
/// computed itself; the others compute for it until it has what it wants.
///
/// All processes make one with the same values and call `next` at the same place, process 0 within `Ranks.lead`. Alone a
/// process computes all batches.
public final class SharedBatches {
    private let ranks: Ranks
    private let isShared: Bool
    private let source: any ImageSource
    private let size: Int
    private let isInterrupted: (() -> Bool)?
    private let loader: BatchLoader
    private let account: ImageAccount
    /// The next batch.
    private var number = 0
    /// The processes whose results are under way to process 0, each for a batch that it was ordered to compute.
    private var expected: [Int] = []
    private var isLost = false

    /// Whether all batches were computed. Where it stays false after `next` returned nil, process 0 was interrupted.
    public private(set) var isWhole = false
    /// Number of images that could not be read so far.
    public var unreadableCount: Int { account.unreadableCount }

    /// - Parameters:
    ///   - augmentation: the preparation of an image, which draws no random numbers.
    ///   - isShared: false where process 0 computes all batches, and the others make none.
    ///   - unreadableLimit: the fraction of the source's images that may be unreadable; they are left out.
    ///   - unreadable: called with each unreadable image and the reason, before `next` returns the batch that lacks it.
    ///   - report: called with sentences for a person.
    ///   - isInterrupted: called between batches in process 0; true ends them. Without it `next` throws where another
    ///     process is asked to stop.
    public init(
        once source: any ImageSource, augmentation: Augmentation, batchSize: Int, workers: Int, isShared: Bool = true,
        unreadableLimit: Double = UnreadableLimit.standard, unreadable: ((Int, Message) -> Void)? = nil,
        report: @escaping (Message) -> Void, isInterrupted: (() -> Bool)? = nil
    ) {
        let ranks = Ranks.current
        self.ranks = ranks
        self.isShared = isShared && !ranks.isAlone
        self.source = source
        self.isInterrupted = isInterrupted
        size = batchSize
        account = ImageAccount(
            of: source, reading: augmentation.reading, limit: unreadableLimit, isOnce: true, unreadable: unreadable,
            report: report)
        loader = BatchLoader(
            once: source, augmentation: augmentation, batchSize: batchSize,
            share: self.isShared ? .batches(of: ranks.rank, ranks.count, size: batchSize) : .whole, workers: workers,
            unreadableLimit: unreadableLimit, batchesAhead: 2, report: { _ in })
    }

    private var batches: Int { (source.count + size - 1) / size }

    /// Computes the next batch of which an image could be read.
    ///
    /// - Parameters:
    ///   - images: where the images of a batch go: [≥ batch size, channels·height·width].
    ///   - compute: computes the results of the batch in `images`.
    ///   - results: the memory of the results of a batch of so many images. It is written by `compute`, or received.
    /// - Returns: the batch whose results these are; nil after the last one, where interrupted, and in other processes.
    /// - Throws: `Failure.badData` for too many unreadable images; what reading and `compute` throw, in whichever process;
    ///   `Ranks.LostPeer`, `Ranks.Stopped`.
    public func next(
        into images: Tensor, results: (Int) -> UnsafeMutableBufferPointer<Float>, _ compute: (Batch) throws -> Void
    ) throws -> Batch? {
        guard !isShared || ranks.isFirst else {
            try serve(images, results, compute)
            return nil
        }
        while number < batches {
            let owner = isShared ? number % ranks.count : 0
            if owner == 0 {
                if let isInterrupted {
                    if isInterrupted() { return nil }
                } else if isShared, let signal = try noticingLoss({ try ranks.ask(nil) }) {
                    throw Failure(.interrupted, "stopped by \(signal) at another process")
                }
                try orderRound()
            }
            let (batch, findings) =
                try owner == 0 ? computed(into: images, compute) : received(from: owner, results)
            number += 1
            try account.add(findings)
            if batch.count > 0 { return batch }
        }
        account.summarise()
        isWhole = true
        return nil
    }

    private func computed(
        into images: Tensor, _ compute: (Batch) throws -> Void
    ) throws -> (Batch, BatchFindings) {
        guard let part = try loader.nextPart(into: images) else { preconditionFailure("a batch is missing") }
        if part.0.count > 0 { try compute(part.0) }
        return part
    }

    /// Ends the batches: the decoding threads, and in process 0 the part of the others. To be called in every process.
    public func stop() {
        loader.stop()
        account.summarise()
        guard isShared, ranks.isFirst, !isLost else { return }
        // A process that is lost is noticed by what follows.
        do {
            // Each waits until its results are taken.
            while let peer = expected.first { _ = try takeReply(from: peer) { _ in nil } }
            try ranks.order(Order.end, isWhole ? 1 : 0, 0, of: ranks.others)
        } catch { isLost = true }
    }

    // MARK: Between processes

    private enum Order {
        static let compute = "compute a batch", end = "end of the batches"
    }

    /// What comes before the results of a batch: of another process, or why there are none.
    private struct Reply: Codable {
        var images: [Int] = []
        var findings: BatchFindings?
        /// Where the process has failed.
        var code: Int32 = 0
        var text = ""
    }

    /// Has each other process compute its batch of the next ones.
    private func orderRound() throws {
        let count = min(ranks.count, batches - number)
        guard isShared, count > 1 else { return }
        let peers = Array(1..<count)
        try noticingLoss { try ranks.order(Order.compute, number, 0, of: peers) }
        expected = peers
    }

    private func noticingLoss<Result>(_ body: () throws -> Result) throws -> Result {
        do { return try body() } catch let lost as Ranks.LostPeer {
            isLost = true
            throw lost
        }
    }

    private func received(
        from peer: Int, _ results: (Int) -> UnsafeMutableBufferPointer<Float>
    ) throws -> (Batch, BatchFindings) {
        let reply = try noticingLoss { try takeReply(from: peer) { results($0) } }
        guard let findings = reply.findings else {
            throw Failure(
                Failure.Code(rawValue: reply.code) ?? .failure, "\(ranks.name(of: peer)): \(reply.text)")
        }
        let labels = source.classes.isEmpty ? nil : reply.images.map { source.label($0)! }
        return (Batch(samples: reply.images, images: reply.images, labels: labels), findings)
    }

    /// Receives the results of a batch: into `place`, or nowhere.
    private func takeReply(
        from peer: Int, into place: (Int) -> UnsafeMutableBufferPointer<Float>?
    ) throws -> Reply {
        var lengths = [0, 0]
        try lengths.withUnsafeMutableBytes { try ranks.wait(for: [try ranks.receive($0, from: peer, .results)]) }
        var text = [UInt8](repeating: 0, count: lengths[0])
        try text.withUnsafeMutableBytes { try ranks.wait(for: [try ranks.receive($0, from: peer, .results)]) }
        let reply = try JSONDecoder().decode(Reply.self, from: Data(text))
        if lengths[1] > 0 {
            let floats: UnsafeMutableBufferPointer<Float>
            let ours = place(reply.images.count)
            floats = ours ?? .allocate(capacity: lengths[1])
            defer { if ours == nil { floats.deallocate() } }
            precondition(floats.count == lengths[1], "the results of a batch have another size")
            try ranks.wait(for: [try ranks.receive(UnsafeMutableRawBufferPointer(floats), from: peer, .results)])
        }
        expected.removeAll { $0 == peer }
        return reply
    }

    /// The part of another process: computes what process 0 orders, until the end.
    private func serve(
        _ images: Tensor, _ results: (Int) -> UnsafeMutableBufferPointer<Float>, _ compute: (Batch) throws -> Void
    ) throws {
        while let order = try ranks.nextOrder() {
            switch order.text {
            case Order.end:
                isWhole = order.first == 1
                return
            case Order.compute:
                var reply = Reply(), floats = UnsafeMutableBufferPointer<Float>(start: nil, count: 0)
                do {
                    let (batch, findings) = try computed(into: images, compute)
                    (reply.images, reply.findings) = (batch.images, findings)
                    if batch.count > 0 { floats = results(batch.count) }
                } catch let error where !(error is Ranks.LostPeer) {
                    // Process 0 ends all.
                    let (code, text) = ranks.describe(error)
                    reply = Reply(code: code, text: text)
                }
                try sendReply(reply, floats)
            default: preconditionFailure("an unknown order")
            }
        }
        preconditionFailure("process 0 has ended before the batches")
    }

    private func sendReply(_ reply: Reply, _ floats: UnsafeMutableBufferPointer<Float>) throws {
        let text = try [UInt8](JSONEncoder().encode(reply))
        let lengths = [text.count, floats.count]
        try lengths.withUnsafeBytes { try ranks.wait(for: [try ranks.send($0, to: 0, .results)]) }
        try text.withUnsafeBytes { try ranks.wait(for: [try ranks.send($0, to: 0, .results)]) }
        guard floats.count > 0 else { return }
        try ranks.wait(for: [try ranks.send(UnsafeRawBufferPointer(floats), to: 0, .results)])
    }
}
