import Tensors

/// Which patches of each image stay visible, from one random number per patch (MAE's random masking).
///
/// `noise[B, L]` sorts the patches of each image; the K smallest stay, in rising order of noise; equal numbers keep
/// their order.
public final class Masking {
    public let batch: Int
    public let patches: Int
    public let kept: Int
    /// [B·L]; written by the caller before `update()`.
    public let noise: Tensor
    /// [B·L]: 1 where a patch is removed, 0 where it stays.
    public let mask: Tensor
    /// [B·L]: the patches in the order of their noise; the first K of each image stay.
    private var orderStorage: [Int32] = []
    /// [B·L]: the place of each patch in the order of its image; below K it is a kept place.
    private var restoreStorage: [Int32] = []

    init(batch: Int, patches: Int, kept: Int, plan: MemoryPlan) {
        self.batch = batch
        self.patches = patches
        self.kept = kept
        noise = plan.reserve(batch, patches, .batch)
        mask = plan.reserve(batch, patches, .batch)
    }

    /// Draws the noise of image `index` of the batch, whose place in the stream of all samples is `sample`.
    public func draw(_ index: Int, seed: UInt64, sample: Int) {
        var random = CounterRandom(seed: seed, purpose: .mask, index: sample)
        let row = noise.pointer + index * patches
        for patch in 0..<patches { row[patch] = random.uniform() }
    }

    /// The patch at kept place `place` of image `image`.
    @inline(__always) package func keep(_ image: Int, _ place: Int) -> Int {
        Int(orderStorage[image * patches + place])
    }

    /// Patches that do not stay, of each image.
    public var removed: Int { patches - kept }

    /// The patch at removed place `place`, 0..<removed, of image `image`.
    @inline(__always) package func removed(_ image: Int, _ place: Int) -> Int {
        Int(orderStorage[image * patches + kept + place])
    }

    /// The place of patch `patch` of image `image` in the image's order.
    @inline(__always) package func restore(_ image: Int, _ patch: Int) -> Int {
        Int(restoreStorage[image * patches + patch])
    }

    /// Sorts the noise. A rank is a count of smaller numbers: quadratic in L, but branch-free and without memory of its
    /// own.
    public func update() {
        if orderStorage.isEmpty {
            // Not before the first use: a plan that does not fit the machine is refused before anything is filled.
            orderStorage = Array(repeating: 0, count: batch * patches)
            restoreStorage = orderStorage
        }
        let noise = noise.pointer
        let mask = mask.pointer
        for image in 0..<batch {
            let row = noise + image * patches
            for patch in 0..<patches {
                let value = row[patch]
                var rank = 0
                for other in 0..<patch where row[other] <= value { rank += 1 }
                for other in patch + 1..<max(patches, patch + 1) where row[other] < value { rank += 1 }
                restoreStorage[image * patches + patch] = Int32(rank)
                mask[image * patches + patch] = rank < kept ? 0 : 1
                orderStorage[image * patches + rank] = Int32(patch)
            }
        }
    }
}
