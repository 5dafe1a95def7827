/// Reads any bytes as the EXIF data of a JPEG, a PNG and a WebP file: the orientation lies between 1 and 8.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let content = Array(UnsafeBufferPointer(start: start, count: min(count, 60_000)))
    let exif = Array("Exif\0\0".utf8) + content
    let jpeg = [0xFF, 0xD8, 0xFF, 0xE1] + big(exif.count + 2, 2) + exif + [0xFF, 0xD9]
    check(jpeg, .jpeg)
    // Checksums are not compared when metadata are read.
    let header = big(13, 4) + Array("IHDR".utf8) + big(1, 4) + big(1, 4) + [8, 0, 0, 0, 0] + big(0, 4)
    let end = big(0, 4) + Array("IEND".utf8) + big(0xAE42_6082, 4)
    check([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A] + header + chunk("eXIf", content) + end, .png)
    check([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A] + header + chunk("iTXt", content) + end, .png)
    let extended = Array("VP8X".utf8) + little(10) + [0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    let chunks = extended + Array("EXIF".utf8) + little(content.count) + content + (content.count % 2 == 0 ? [] : [0])
    check(Array("RIFF".utf8) + little(chunks.count + 4) + Array("WEBP".utf8) + chunks, .webp)
    return 0
}

private func check(_ file: [UInt8], _ kind: FileKind) {
    file.withUnsafeBytes { precondition((1...8).contains(storedOrientation(of: $0, kind))) }
}

private func chunk(_ name: String, _ content: [UInt8]) -> [UInt8] {
    big(content.count, 4) + Array(name.utf8) + content + big(0, 4)
}

private func big(_ value: Int, _ count: Int) -> [UInt8] {
    (0..<count).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}

private func little(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
