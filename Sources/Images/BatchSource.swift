import Tensors

/// Batches one after another: a `BatchLoader`, or whatever else fills a tensor with samples, such as stored features.
public protocol BatchSource: AnyObject {
    /// Writes the next batch to the first rows of `destination`[≥ batch size, values of a sample] and returns its
    /// samples; nil after the end.
    ///
    /// - Parameter whileWaiting: called a few times a second while the batch is not ready. What it throws ends the call;
    ///   the batch stays the next one.
    /// - Throws: `Failure` where the samples cannot be read.
    func next(into destination: Tensor, whileWaiting: () throws -> Void) throws -> Batch?

    /// Seconds that `next` has waited for batches that were not ready.
    var secondsWaited: Double { get }

    /// Ends the source's own threads and waits for them; `next` throws from then on. May be called more than once.
    func stop()
}

extension BatchSource {
    /// As above, without a call while it waits.
    public func next(into destination: Tensor) throws -> Batch? { try next(into: destination) {} }
}
