import Reporting

/// Pictures with more pixels are refused here, so that a run is short.
private let maximumCount = 1 << 18

/// Reads any bytes as an image file in every way that a command does. The only error allowed is a refusal in one line.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = UnsafeRawBufferPointer(start: start, count: count)
    attempt {
        let kind = try FileKind(bytes, named: "input")
        // Also of a file whose pixels are damaged.
        let orientation = storedOrientation(of: bytes, kind)
        precondition((1...8).contains(orientation))
        if kind == .jpeg { _ = OtherFile(unusualJPEG: bytes) }
        if kind == .png { _ = Transparency(png: bytes, .init(UInt32(orientation))) }
        let file = Array(bytes)
        for background in [Background.white, .none] {
            guard
                let header = try? file.withUnsafeBytes({ file in
                    try kind.decoder(of: file, hasAlpha: background != .none).header
                })
            else { break }
            guard header.width <= maximumCount, header.height <= maximumCount,
                header.width * header.height <= maximumCount
            else { return }
            for channels in [1, 3] {
                attempt {
                    let picture = try Pixels(
                        decoding: file, named: "input", channels: channels,
                        as: PictureReading(background: background, grey16: background == .none ? .scale : .clip))
                    precondition(picture.bytes.count == picture.width * picture.height * channels)
                }
            }
        }
    }
    return 0
}

private func attempt(_ read: () throws -> Void) {
    do { try read() } catch {
        guard let failure = error as? Failure, failure.code == .badData else { fatalError("\(error)") }
        precondition(!failure.message.utf8.contains(0x0A), failure.message)
    }
}
