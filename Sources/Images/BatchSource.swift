import Tensors

/// Batches one after another: a `BatchLoader`, or whatever else fills a tensor with samples, such as stored features.
public protocol BatchSource: AnyObject {
    /// Writes the next batch to the first rows of `destination`[≥ batch size, values of a sample] and returns its
    /// samples; nil after the end.
    ///
    /// Throws `Failure` where the samples cannot be read.
    func next(into destination: Tensor) throws -> Batch?

    /// Ends the source's own threads and waits for them; `next` throws from then on. May be called more than once.
    func stop()
}
