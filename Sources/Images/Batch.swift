/// What is known of the samples that `BatchLoader.next(into:)` wrote, in the order of the rows.
///
/// The loader alone computes positions in the stream; everything that draws random numbers for a sample, such as
/// masking, takes the position from here. Positions need not be contiguous.
public struct Batch: Equatable, Sendable {
    /// Of each sample: the position in the stream of all samples.
    public internal(set) var samples: [Int]
    /// Of each sample: the index of the image in the source. It may be another image than the stream has at that
    /// position, where that one could not be read.
    public internal(set) var images: [Int]
    /// Of each sample: the class index of the image; nil where the source has no classes.
    public internal(set) var labels: [Int]?

    /// A batch of samples with these positions, images and labels, all of the same count.
    public init(samples: [Int], images: [Int], labels: [Int]? = nil) {
        precondition(images.count == samples.count && (labels ?? samples).count == samples.count)
        self.samples = samples
        self.images = images
        self.labels = labels
    }

    /// Number of samples.
    public var count: Int { samples.count }

    /// Makes the batch empty, keeping its memory where nobody else holds the batch.
    mutating func removeAll() {
        samples.removeAll(keepingCapacity: true)
        images.removeAll(keepingCapacity: true)
        labels?.removeAll(keepingCapacity: true)
    }

    mutating func append(sample: Int, image: Int, label: Int?) {
        samples.append(sample)
        images.append(image)
        if let label { labels?.append(label) }
    }
}
