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

    /// The whole stream.
    public static let whole = StreamShare(part: 0, of: 1, block: 1)

    /// The position in the stream of the reader's own sample number `sample`.
    func position(of sample: Int) -> Int {
        guard count > 1 else { return sample }
        let own = block / count
        return sample / own * block + part * own + sample % own
    }
}
