import Tensors

/// Batches of a stream of samples that are rows of a matrix in memory, such as features that were computed once.
///
/// The stream is that of a `BatchLoader` with the same seed over as many images: the same image at every position, and
/// for an image without a row the next one in the epoch's order that has one.
public final class RowBatches: BatchSource {
    private let rows: Tensor
    private let hasRow: [Bool]
    private let labels: [Int]?
    private let batchSize: Int
    private let seed: UInt64
    private var position: Int
    private let lastSample: Int
    private var order: (epoch: Int, images: [Int]) = (-1, [])
    /// Reused for the next batch, unless the caller still holds it.
    private var batch: Batch

    /// Makes the batches of the stream's positions `samples`.
    ///
    /// - Parameters:
    ///   - rows: [N, D], the row of each of N images.
    ///   - hasRow: false for images that could not be read. Unless there are no samples, at least one is true.
    ///   - labels: the class index of each image; nil without classes.
    public init(
        of rows: Tensor, hasRow: [Bool], labels: [Int]?, batchSize: Int, seed: UInt64, samples: Range<Int>
    ) {
        precondition(batchSize > 0 && samples.lowerBound >= 0 && (labels?.count ?? rows.rows) == rows.rows)
        precondition(samples.isEmpty || (hasRow.count == rows.rows && hasRow.contains(true)))
        self.rows = rows
        self.hasRow = hasRow
        self.labels = labels
        self.batchSize = batchSize
        self.seed = seed
        position = samples.lowerBound
        lastSample = samples.upperBound
        batch = Batch(samples: [], images: [], labels: labels == nil ? nil : [])
    }

    public func next(into destination: Tensor) -> Batch? {
        let count = min(batchSize, lastSample - position)
        precondition(destination.rows >= count && destination.columns == rows.columns)
        guard count > 0 else { return nil }
        batch.removeAll()
        for row in 0..<count {
            let image = image(at: position + row)
            destination.copyRow(row, from: rows, image)
            batch.append(sample: position + row, image: image, label: labels?[image])
        }
        position += count
        return batch
    }

    public func next(into destination: Tensor, whileWaiting: () throws -> Void) -> Batch? { next(into: destination) }

    /// Rows in memory are always ready.
    public var secondsWaited: Double { 0 }

    /// There are no threads to end.
    public func stop() {}

    private func image(at position: Int) -> Int {
        let (epoch, place) = position.quotientAndRemainder(dividingBy: rows.rows)
        if order.epoch != epoch { order = (epoch, SampleOrder.images(rows.rows, epoch: epoch, seed: seed)) }
        var step = place
        while !hasRow[order.images[step % rows.rows]] { step += 1 }
        return order.images[step % rows.rows]
    }
}
