import Images
import Models
import Reporting
import Tensors

/// A frozen encoder that computes stored features before the first step of a run. Its memory is its own, and is freed
/// with it.
public final class FeatureExtraction {
    /// The encoder's memory.
    public let plan = MemoryPlan()
    let encoder: BatchEncoder
    private let stores: [StoredFeatures]

    /// Plans the encoder's memory.
    ///
    /// - Parameter stores: the features to compute, in this order.
    /// - Throws: `Failure.usage` where the encoder's sizes do not fit together.
    init(_ encoder: EncoderConfiguration, pool: ClassifierPool, precision: Precision, stores: [StoredFeatures]) throws {
        self.stores = stores
        self.encoder = try BatchEncoder(
            encoder, pool: pool, batch: StoredFeatures.passImages, plan: plan, precision: precision)
    }

    /// Number of images.
    public var images: Int { stores.reduce(0) { $0 + $1.source.count } }

    /// Computes the features.
    ///
    /// - Parameter progress: says how far it is, every ten seconds.
    /// - Returns: false if it was interrupted.
    /// - Throws: see `StoredFeatures.compute`.
    func run(
        _ augmentation: Augmentation, workers: Int, unreadableLimit: Double, progress: ProgressLine?,
        report: @escaping (Message) -> Void, isInterrupted: () -> Bool
    ) throws -> Bool {
        let start = monotonicSeconds(), total = images
        var before = 0, last = start
        for store in stores {
            let isWhole = try store.compute(
                with: encoder, augmentation: augmentation, workers: workers, unreadableLimit: unreadableLimit,
                progress: { count in
                    let now = monotonicSeconds(), done = before + count
                    guard let progress, now - last >= ProgressLine.plainInterval else { return }
                    last = now
                    let rate = Double(done) / (now - start)
                    progress.message(
                        "features of \(Format.grouped(done)) of \(Format.grouped(total)) images, "
                            + "\(Format.fixed(rate, 1)) images/s, "
                            + "\(Format.duration(Double(total - done) / rate)) left", isTimed: true)
                }, report: report, isInterrupted: isInterrupted)
            guard isWhole else { return false }
            before += store.source.count
        }
        progress?.message(
            "features of \(Format.grouped(total)) images in \(Format.duration(monotonicSeconds() - start))",
            isTimed: true)
        return true
    }
}
