import Images
import Reporting
import Tensors

/// An image source that is not a folder: images in memory.
struct MemorySource: ImageSource {
    /// Of each image: its name, its class, and its bytes or the error of reading it.
    var images: [(name: String, label: Int?, bytes: Result<[UInt8], Failure>)] = []
    var classes: [String] = []
    var place: String? = "memory"

    var count: Int { images.count }
    func name(_ index: Int) -> String { images[index].name }
    func label(_ index: Int) -> Int? { images[index].label }
    func bytes(_ index: Int) throws -> [UInt8] { try images[index].bytes.get() }
}

/// Memory for batches of at most `batch` samples.
final class Destination {
    private let plan = MemoryPlan()
    let tensor: Tensor

    init(_ batch: Int, _ augmentation: Augmentation) {
        tensor = plan.reserve("images", batch, augmentation.sampleCount, .batch)
        try! plan.commit()
        tensor.elements.update(repeating: .nan)
    }

    /// The values of the first `count` samples.
    func values(_ count: Int) -> ArraySlice<Float> { ArraySlice(tensor.rows(0..<count).elements) }
}
