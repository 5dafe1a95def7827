/// The samples that `BatchLoader.next(into:)` wrote: positions, images and labels, in the order of the rows.
///
/// Only the loader computes positions in the stream. Code that draws random numbers for a sample, such as masking,
/// takes the position from here. Positions need not be contiguous.
public struct Batch: Equatable, Sendable {
    /// For each sample, the position in the stream of all samples.
    public internal(set) var samples: [Int]
    /// For each sample, the index of its image in the source. If the stream's image at the position could not be read,
    /// it is the image that replaced it.
    public internal(set) var images: [Int]
    /// For each sample, the class index of its image; nil if the source has no classes.
    public internal(set) var labels: [Int]?
    /// How the samples were mixed with one another; nil if they were not.
    public internal(set) var mixture: Mixture?

    /// A batch of samples with these positions, images and labels, all of the same count.
    public init(samples: [Int], images: [Int], labels: [Int]? = nil, mixture: Mixture? = nil) {
        precondition(images.count == samples.count && (labels ?? samples).count == samples.count)
        self.samples = samples
        self.images = images
        self.labels = labels
        self.mixture = mixture
    }

    /// Number of samples.
    public var count: Int { samples.count }

    /// Empties the batch. Keeps its memory if nobody else holds the batch.
    mutating func removeAll() {
        samples.removeAll(keepingCapacity: true)
        images.removeAll(keepingCapacity: true)
        labels?.removeAll(keepingCapacity: true)
        mixture = nil
    }

    mutating func append(sample: Int, image: Int, label: Int?) {
        samples.append(sample)
        images.append(image)
        if let label { labels?.append(label) }
    }
}
