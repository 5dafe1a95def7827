import Tensors

/// The order of the images in an epoch of a stream of samples.
///
/// With N images, position s of the stream belongs to epoch s / N and is place s % N of that epoch's order.
enum SampleOrder {
    /// The image at each place of `epoch`.
    static func images(_ count: Int, epoch: Int, seed: UInt64) -> [Int] {
        var draw = CounterRandom(seed: seed, purpose: .order, epoch: epoch)
        return draw.permutation(count)
    }
}
