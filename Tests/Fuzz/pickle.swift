import Reporting

/// Reads any bytes as the pickle of a PyTorch archive whose other members are valid: storages 0, 1 and 2 of 64 bytes
/// each.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let storage = [UInt8](0..<64)
    let archive = zip([
        ("x/data.pkl", Array(UnsafeBufferPointer(start: start, count: count))), ("x/version", Array("3\n".utf8)),
        ("x/data/0", storage), ("x/data/1", storage), ("x/data/2", storage),
    ])
    // In an allocation of its own, so that AddressSanitizer detects reading past its end.
    archive.withUnsafeBytes { bytes in attempt { try TorchArchive(MappedFile(bytes: bytes, path: "input")) } }
    return 0
}

/// A zip archive of stored members without checksums.
private func zip(_ members: [(name: String, content: [UInt8])]) -> [UInt8] {
    func word16(_ value: Int) -> [UInt8] { withUnsafeBytes(of: UInt16(value).littleEndian, Array.init) }
    func word32(_ value: Int) -> [UInt8] { withUnsafeBytes(of: UInt32(value).littleEndian, Array.init) }
    var (bytes, directory): ([UInt8], [UInt8]) = ([], [])
    for (name, content) in members {
        // The fields from the version to the lengths, the same in both headers.
        var common = [UInt8](repeating: 0, count: 14)
        common += word32(content.count)
        common += word32(content.count)
        common += word16(name.utf8.count)
        common += word16(0)
        directory += word32(0x0201_4B50)
        directory += word16(0)
        directory += common
        directory += [UInt8](repeating: 0, count: 10)
        directory += word32(bytes.count)
        directory += Array(name.utf8)
        bytes += word32(0x0403_4B50)
        bytes += common
        bytes += Array(name.utf8)
        bytes += content
    }
    let start = bytes.count
    bytes += directory
    bytes += word32(0x0605_4B50)
    bytes += word32(0)
    bytes += word16(members.count)
    bytes += word16(members.count)
    bytes += word32(directory.count)
    bytes += word32(start)
    bytes += word16(0)
    return bytes
}
