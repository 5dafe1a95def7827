import Reporting

/// Reads any bytes as a safetensors file.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    attempt {
        try SafeTensorsFile(MappedFile(bytes: UnsafeRawBufferPointer(start: start, count: count), path: "input"))
    }
    return 0
}
