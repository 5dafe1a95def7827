/// The part of a stream of samples that one of several readers takes: of each block of neighbouring samples, the
/// effective batch of an optimiser step, as many as the others, in its place.
public struct StreamShare: Sendable {
    private let part: Int, count: Int, block: Int

    /// - Parameters:
    ///   - part: the number of the reader, from 0.
    ///   - count: the number of readers.
    ///   - block: samples of a block, a multiple of `count`.
    public init(part: Int, of count: Int, block: Int) {
        precondition((0..<count).contains(part) && block % count == 0, "a block is shared evenly")
        (self.part, self.count, self.block) = (part, count, block)
    }

    /// Of batches that several readers take in turn, those of one: batch b belongs to the reader b modulo `count`.
    public static func batches(of part: Int, _ count: Int, size: Int) -> StreamShare {
        StreamShare(part: part, of: count, block: count * size)
    }

    /// The whole stream.
    public static let whole = StreamShare(part: 0, of: 1, block: 1)

    /// The position in the stream of the reader's own sample number `sample`.
    func position(of sample: Int) -> Int {
        guard count > 1 else { return sample }
        let own = block / count
        return sample / own * block + part * own + sample % own
    }

    /// The reader's own samples among the first `samples` of the stream.
    func count(among samples: Int) -> Int {
        guard count > 1 else { return samples }
        let own = block / count
        return samples / block * own + min(own, max(0, samples % block - part * own))
    }
}
