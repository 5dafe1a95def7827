import Tensors

/// The order of the images in an epoch of a stream of samples.
///
/// With N images, position s of the stream belongs to epoch s / N and is place s % N of that epoch's order.
package enum SampleOrder {
    /// The image at each place of `epoch`.
    package static func images(_ count: Int, epoch: Int, seed: UInt64) -> [Int] {
        var draw = CounterRandom(seed: seed, purpose: .order, epoch: epoch)
        return draw.permutation(count)
    }

    /// The image at each place of `epoch`, where images are read near one another: `stored`, the images in the order in
    /// which they lie, is cut into windows of `window` neighbours; the windows follow one another in random order, and so
    /// do the images of each. The first cut is drawn for each epoch, so that the first and the last window are shorter.
    /// One window for all images is the order above.
    package static func images(_ stored: [Int], window: Int, epoch: Int, seed: UInt64) -> [Int] {
        precondition(window > 0)
        guard window < stored.count else { return images(stored.count, epoch: epoch, seed: seed) }
        var draw = CounterRandom(seed: seed, purpose: .order, epoch: epoch)
        let first = draw.below(window)
        let starts = (first > 0 ? [0] : []) + Array(stride(from: first, to: stored.count, by: window))
        var order: [Int] = []
        order.reserveCapacity(stored.count)
        for number in draw.permutation(starts.count) {
            let start = starts[number], end = number + 1 < starts.count ? starts[number + 1] : stored.count
            for place in draw.permutation(end - start) { order.append(stored[start + place]) }
        }
        return order
    }
}
