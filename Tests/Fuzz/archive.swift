import Reporting

/// Reads any bytes as a PyTorch archive.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    attempt { try TorchArchive(MappedFile(bytes: UnsafeRawBufferPointer(start: start, count: count), path: "input")) }
    return 0
}
