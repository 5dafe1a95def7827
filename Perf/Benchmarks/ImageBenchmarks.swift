import CKernels
import Images
import Tensors

/// Decoding and augmentation as in training, from a JPEG file in memory to a normalised 224×224 sample, on all threads.
package func imageBenchmarks() -> [Benchmark] {
    let path =
        #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(2).joined(separator: "/")
        + "/picture-500x375.jpg"
    guard let file = Machine.contents(of: path) else { fail("cannot read \(path)") }
    let count = 64
    func each(_ body: @escaping (Int) -> Void) -> () -> Void {
        {
            withoutActuallyEscaping(body) { body in
                var body = body
                dmae_parallel_for(count, 1, &body) { context, begin, end in
                    let body = context!.assumingMemoryBound(to: ((Int) -> Void).self).pointee
                    for i in begin..<end { body(i) }
                }
            }
        }
    }
    let augmentation = Augmentation(width: 224, height: 224)
    let fineTuning = Augmentation(
        width: 224, height: 224, framing: .random(area: 0.08...1, aspect: 3.0 / 4...4.0 / 3, flip: 0.5),
        randAugment: RandAugment(), erasing: RandomErasing())
    return [
        Benchmark(name: "decode JPEG", shape: "500×375", work: .images(count)) {
            each { _ in _ = try! Pixels(decoding: file, named: path) }
        },
        Benchmark(name: "crop, flip, normalise", shape: "500×375 to 224", work: .images(count)) {
            let picture = try! Pixels(decoding: file, named: path), target = memory(count * augmentation.sampleCount)
            return each { i in
                augmentation.normalisation.write(
                    augmentation.apply(to: picture, seed: 1, epoch: 0, index: i),
                    to: target + i * augmentation.sampleCount)
            }
        },
        Benchmark(name: "crop, flip, RandAugment, normalise, erase", shape: "500×375 to 224", work: .images(count)) {
            let picture = try! Pixels(decoding: file, named: path), target = memory(count * augmentation.sampleCount)
            return each { i in
                let row = target + i * augmentation.sampleCount
                fineTuning.normalisation.write(fineTuning.apply(to: picture, seed: 1, epoch: 0, index: i), to: row)
                fineTuning.erase(row, seed: 1, epoch: 0, index: i)
            }
        },
        Benchmark(name: "decode to sample", shape: "500×375 to 224", work: .images(count)) {
            let target = memory(count * augmentation.sampleCount)
            return each { i in
                augmentation.normalisation.write(
                    augmentation.apply(to: try! Pixels(decoding: file, named: path), seed: 1, epoch: 0, index: i),
                    to: target + i * augmentation.sampleCount)
            }
        },
    ]
}
