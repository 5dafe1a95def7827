import Reporting

/// Reads any bytes as a tar archive of images. The only error allowed is a refusal; an index that is read lies in the
/// archive, and is the same once it was written to a file.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    do {
        let index = try ArchiveIndex(ArchiveBytes(path: "input", bytes: bytes))
        for unit in index.units {
            for image in 0..<unit.paths.count {
                precondition(unit.offsets[image] >= 0 && unit.sizes[image] >= 0)
                precondition(unit.offsets[image] + unit.sizes[image] <= count)
                precondition(image == 0 || unit.paths[image - 1].lexicographicallyPrecedes(unit.paths[image]))
            }
        }
        let stamp = FileStamp(size: count, seconds: 1, nanoseconds: 2)
        precondition(ArchiveIndex(index.encoded(path: "p", stamp: stamp), path: "p", stamp: stamp) == index)
    } catch {
        guard let failure = error as? Failure, failure.code == .badData else { fatalError("\(error)") }
    }
    return 0
}
