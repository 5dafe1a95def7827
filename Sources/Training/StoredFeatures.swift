import Images
import Models
import Reporting
import Tensors

/// The features of all images of a source, computed once by a frozen encoder and kept in memory.
public final class StoredFeatures {
    public let source: any ImageSource
    /// One row for each image of the source: [N, D]. Rows of images that could not be read are not set.
    public let rows: Tensor
    /// Whether each image could be read; empty before `compute`.
    public private(set) var hasRow: [Bool] = []
    /// Whether `compute` has finished.
    public var isComputed: Bool { !hasRow.isEmpty }

    /// Images of one pass, so that a signal need not wait for a whole batch.
    static let passImages = 32

    /// Plans the memory.
    ///
    /// - Parameter name: the buffer's name in the plan: "validation features".
    public init(_ name: String, of source: any ImageSource, width: Int, plan: MemoryPlan) {
        self.source = source
        rows = plan.reserve(name, source.count, width, .batch)
    }

    /// Computes the features with `encoder`, whose batch is overwritten.
    ///
    /// - Parameters:
    ///   - augmentation: how an image becomes a sample; it must not draw random numbers.
    ///   - progress: called after each pass with the number of images done.
    ///   - report: called with a sentence about each image that cannot be read.
    ///   - isInterrupted: called after each pass; true ends the computation.
    /// - Returns: false if it was interrupted.
    /// - Throws: `Failure.badData` if too many images are unreadable or a feature is not finite; `.inputOutput`.
    public func compute(
        with encoder: BatchEncoder, augmentation: Augmentation, workers: Int, unreadableLimit: Double,
        progress: (Int) -> Void = { _ in }, report: @escaping (Message) -> Void, isInterrupted: () -> Bool
    ) throws -> Bool {
        let loader = BatchLoader(
            once: source, augmentation: augmentation, batchSize: min(encoder.batch, Self.passImages), workers: workers,
            unreadableLimit: unreadableLimit, report: report)
        defer { loader.stop() }
        var hasRow = Array(repeating: false, count: source.count), done = 0
        while let batch = try loader.next(into: encoder.images) {
            encoder.encode(batch.count)
            let features = encoder.features.rows(0..<batch.count)
            guard features.elements.allSatisfy(\.isFinite) else {
                throw Failure(
                    .badData,
                    "features are not finite, from \(source.path(batch.images[0])) on: compare the encoder's weights "
                        + "with their source by dmae inspect \(.compare)")
            }
            for (row, image) in batch.images.enumerated() {
                rows.copyRow(image, from: features, row)
                hasRow[image] = true
            }
            done += batch.count
            progress(done)
            if isInterrupted() { return false }
        }
        self.hasRow = hasRow
        return true
    }

    /// The class index of each image; nil if the source has no classes.
    var labels: [Int]? { source.classes.isEmpty ? nil : (0..<source.count).map { source.label($0)! } }
}
