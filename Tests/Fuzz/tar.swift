import Reporting

/// Reads any bytes as a tar archive of images: as they are, and with the right checksum in every block, so that the
/// checksums are not in the way. The only error allowed is a refusal; an index that is read lies in the archive, and is
/// the same once it was written to a file.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var bytes = Array(UnsafeBufferPointer(start: start, count: count))
    attempt(bytes)
    for block in stride(from: 0, to: count - 511, by: 512) where bytes[block..<block + 512].contains(where: { $0 != 0 })
    {
        for index in 148..<156 { bytes[block + index] = 0x20 }
        var sum = bytes[block..<block + 512].reduce(0) { $0 + Int($1) }
        for index in (148..<154).reversed() {
            bytes[block + index] = UInt8(0x30 + sum & 7)
            sum >>= 3
        }
    }
    attempt(bytes)
    return 0
}

private func attempt(_ bytes: [UInt8]) {
    do {
        let index = try ArchiveIndex(ArchiveBytes(path: "input", bytes: bytes))
        for unit in index.units {
            for image in 0..<unit.paths.count {
                precondition(unit.offsets[image] >= 0 && unit.sizes[image] >= 0)
                precondition(unit.offsets[image] + unit.sizes[image] <= bytes.count)
                precondition(image == 0 || unit.paths[image - 1].lexicographicallyPrecedes(unit.paths[image]))
            }
        }
        let stamp = FileStamp(size: bytes.count, seconds: 1, nanoseconds: 2)
        precondition(ArchiveIndex(index.encoded(path: "p", stamp: stamp), path: "p", stamp: stamp) == index)
    } catch {
        guard let failure = error as? Failure, failure.code == .badData else { fatalError("\(error)") }
    }
}
