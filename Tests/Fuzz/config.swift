import Glibc
import Interchange
import Reporting

private let names = ["config.json", "preprocessor_config.json", "model.safetensors.index.json"]
private let source = "Fixtures/weights/huggingface/vitmae-sharded"
private let usual = names.map { read("\(source)/\($0)") }
/// A folder with the shards of a tiny model, and none of the files that describe it.
private let folder: String = {
    let folder = makeFolder()
    for number in 1...3 {
        let shard = "model-0000\(number)-of-00003.safetensors"
        guard let bytes = read("\(source)/\(shard)") else { fatalError("run this in the project's folder") }
        bytes.withUnsafeBytes { write($0, to: "\(folder)/\(shard)") }
    }
    return folder
}()

/// Reads a folder of weights in which one of the files that describe them has any content. The first byte chooses the
/// file; another of its bits, whether the others are there.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard count > 0, let start else { return 0 }
    let chosen = Int(start[0] & 0x0F) % names.count
    for (index, name) in names.enumerated() {
        let path = "\(folder)/\(name)"
        // Without the index there are no weights.
        let isThere = index == 2 || start[0] & 0x10 != 0
        if index == chosen {
            write(UnsafeRawBufferPointer(start: start + 1, count: count - 1), to: path)
        } else if isThere, let bytes = usual[index] {
            bytes.withUnsafeBytes { write($0, to: path) }
        } else {
            unlink(path)
        }
    }
    attempt {
        let weights = try ModelWeights(path: folder)
        precondition(weights.encoder.width > 0)
        if let stated = weights.statedPreprocessing { precondition(!stated.origin.isEmpty) }
    }
    return 0
}
