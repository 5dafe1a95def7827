import Tensors

// Letters: B batch, L patches, K kept patches, P predicted patches.

/// The rule that chooses the kept patches of each image.
public enum PatchSelection: Sendable {
    /// Every patch, in its place.
    case all
    /// MAE's random masking: one uniform random number per patch, drawn for (seed, position of the sample in the stream
    /// of all samples). The K patches with the smallest numbers are kept, in ascending order of their numbers.
    case random(seed: UInt64)
    /// The same patches of every image, row by row: true where a patch is removed. Patches keep their order.
    case removed([Bool])
    /// As `random`, with recorded numbers [B·L]; patches with equal numbers keep their order.
    case noise([Float])
}

/// The order of each image's patches: kept ones first, then the predicted ones among the removed.
public final class Masking {
    /// Images B of the batch.
    public let batch: Int
    /// Patches L of an image.
    public let patches: Int
    /// Kept patches K of each image.
    public let keptCount: Int
    /// Removed patches of each image, L - K.
    public var removedCount: Int { patches - keptCount }
    /// Removed patches P of each image that the decoder predicts: the first P removed places.
    public let predictedCount: Int
    /// Patches of each image that the decoder processes, K + P.
    public var decodedCount: Int { keptCount + predictedCount }
    /// [B, L]: 1 where a patch is removed, 0 where it is kept.
    public let mask: Tensor
    /// One image's random numbers: [L].
    private let noise: Tensor
    private let order: Order
    /// [B·(K+P)]: the decoded patches of each image, ascending; empty if all patches are decoded.
    private var patchAtDecoded: [Int32] = []
    /// [B·L]: for each decoded patch, its index among the decoded patches of its image.
    private var decodedOfPatch: [Int32] = []
    /// Whether the order is that of `keepAll`.
    private var keepsAll = false

    /// The order of patches, which maskings of the same images share.
    private final class Order {
        /// [B·L]: the patch at each place of its image; the first K places of an image are the kept patches.
        var patchAtPlace: [Int32] = []
        /// [B·L]: the place of each patch in its image; below K the patch is kept.
        var placeOfPatch: [Int32] = []
    }

    private init(
        batch: Int, patches: Int, kept: Int, predicted: Int?, mask: Tensor, noise: Tensor, order: Order = Order()
    ) {
        self.batch = batch
        self.order = order
        self.patches = patches
        keptCount = kept
        predictedCount = predicted ?? patches - kept
        self.mask = mask
        self.noise = noise
    }

    /// A masking that all models of a plan share.
    ///
    /// - Parameter predicted: number of removed patches that the decoder predicts; nil: all.
    package convenience init(batch: Int, patches: Int, kept: Int, predicted: Int? = nil, plan: MemoryPlan) {
        self.init(
            batch: batch, patches: patches, kept: kept, predicted: predicted,
            mask: plan.reserve("mask", batch, patches, .batch), noise: plan.reserve("noise", 1, patches, .batch))
    }

    /// A masking for the model with these weights alone.
    convenience init(batch: Int, patches: Int, kept: Int, in parameters: Parameters) {
        self.init(
            batch: batch, patches: patches, kept: kept, predicted: nil,
            mask: parameters.buffer("mask", batch, patches, .batch, alive: .always),
            noise: parameters.buffer("noise", 1, patches, .batch, alive: .always))
    }

    /// A masking that keeps more patches of the same order, so that its kept patches begin with those of `other`. It
    /// follows the selections of `other`, which also has the mask.
    convenience init(keeping kept: Int, inTheOrderOf other: Masking) {
        precondition(kept >= other.keptCount, "it must keep the patches that the other one keeps")
        self.init(
            batch: other.batch, patches: other.patches, kept: kept, predicted: nil, mask: other.mask,
            noise: other.noise, order: other.order)
    }

    /// The patch at kept place `place` of image `image`.
    @inline(__always) package func keptPatch(_ image: Int, _ place: Int) -> Int {
        Int(order.patchAtPlace[image * patches + place])
    }

    /// The patch at removed place `place`, below `removedCount`, of image `image`.
    @inline(__always) package func removedPatch(_ image: Int, _ place: Int) -> Int {
        Int(order.patchAtPlace[image * patches + keptCount + place])
    }

    /// The place of patch `patch` of image `image` in the order of its image.
    @inline(__always) package func place(_ image: Int, ofPatch patch: Int) -> Int {
        Int(order.placeOfPatch[image * patches + patch])
    }

    /// The decoded patch number `index`, below `decodedCount`, of image `image`, in ascending order of patches.
    @inline(__always) package func decodedPatch(_ image: Int, _ index: Int) -> Int {
        patchAtDecoded.isEmpty ? index : Int(patchAtDecoded[image * decodedCount + index])
    }

    /// The number of the decoded patch `patch` among those of image `image`.
    @inline(__always) package func decodedIndex(_ image: Int, ofPatch patch: Int) -> Int {
        decodedOfPatch.isEmpty ? patch : Int(decodedOfPatch[image * patches + patch])
    }

    /// Keeps every patch, in its place; the order is computed once.
    func keepAll() {
        if !keepsAll { select(.all) { $0 } }
        keepsAll = true
    }

    /// Orders the patches of all images.
    ///
    /// - Parameter sample: the position of an image of the batch in the stream of all samples.
    package func select(_ selection: PatchSelection, sample: (Int) -> Int) {
        keepsAll = false
        if order.patchAtPlace.isEmpty {
            // Allocated at the first use: by then a plan that does not fit the machine has been refused.
            order.patchAtPlace = Array(repeating: 0, count: batch * patches)
            order.placeOfPatch = order.patchAtPlace
            if decodedCount < patches {
                patchAtDecoded = Array(repeating: 0, count: batch * decodedCount)
                decodedOfPatch = order.patchAtPlace
            }
        }
        let row = noise.elements
        for image in 0..<batch {
            switch selection {
            case .all:
                precondition(keptCount == patches)
                for patch in 0..<patches { put(patch, at: patch, of: image) }
            case .random(let seed):
                var random = CounterRandom(seed: seed, purpose: .mask, index: sample(image))
                for patch in 0..<patches { row[patch] = random.uniform() }
                rank(row, of: image)
            case .removed(let removed):
                precondition(removed.count == patches && removed.lazy.filter { $0 }.count == removedCount)
                var (kept, last) = (0, keptCount)
                for patch in 0..<patches {
                    put(patch, at: removed[patch] ? last : kept, of: image)
                    if removed[patch] { last += 1 } else { kept += 1 }
                }
            case .noise(let noise):
                precondition(noise.count == batch * patches)
                for patch in 0..<patches { row[patch] = noise[image * patches + patch] }
                rank(row, of: image)
            }
            if decodedCount < patches { numberDecodedPatches(of: image) }
        }
    }

    /// The patches at the first K+P places, in ascending order.
    private func numberDecodedPatches(of image: Int) {
        var index = 0
        for patch in 0..<patches where place(image, ofPatch: patch) < decodedCount {
            patchAtDecoded[image * decodedCount + index] = Int32(patch)
            decodedOfPatch[image * patches + patch] = Int32(index)
            index += 1
        }
    }

    /// Puts each patch at the rank of its number. The rank is a count of smaller numbers: O(L²), but branch-free and
    /// without temporary memory.
    private func rank(_ row: UnsafeMutableBufferPointer<Float>, of image: Int) {
        for patch in 0..<patches {
            let value = row[patch]
            var rank = 0
            for other in 0..<patch where row[other] <= value { rank += 1 }
            for other in patch + 1..<max(patches, patch + 1) where row[other] < value { rank += 1 }
            put(patch, at: rank, of: image)
        }
    }

    private func put(_ patch: Int, at place: Int, of image: Int) {
        order.patchAtPlace[image * patches + place] = Int32(patch)
        order.placeOfPatch[image * patches + patch] = Int32(place)
        mask.pointer[image * patches + patch] = place < keptCount ? 0 : 1
    }
}
