import Reporting

/// Reads any bytes, with the right checksum, as a kept index of an archive, which may be damaged in any way.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let stamp = FileStamp(size: 1 << 20, seconds: 1, nanoseconds: 2)
    let title = ArchiveIndex().encoded(path: "p", stamp: stamp)
    // The title and the archive; then any units and tallies.
    var bytes = Array(title.prefix(title.count - 8 * 14)) + UnsafeBufferPointer(start: start, count: count)
    withUnsafeBytes(of: NameHash.of(bytes).littleEndian) { bytes += $0 }
    guard let index = ArchiveIndex(bytes, path: "p", stamp: stamp) else { return 0 }
    for unit in index.units {
        for image in 0..<unit.paths.count { precondition(unit.offsets[image] + unit.sizes[image] <= stamp.size) }
    }
    precondition(ArchiveIndex(index.encoded(path: "p", stamp: stamp), path: "p", stamp: stamp) == index)
    return 0
}
