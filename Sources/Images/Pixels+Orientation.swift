extension Pixels {
    /// The picture with EXIF orientation 1 to 8 applied; another number leaves it unchanged.
    ///
    /// 2 flips left to right, 3 rotates by 180°, 4 flips top to bottom, 5 transposes, 6 rotates clockwise by 90°, 7
    /// transposes along the other diagonal, 8 rotates counter-clockwise by 90°.
    public func oriented(_ orientation: Int) -> Pixels {
        guard (2...8).contains(orientation) else { return self }
        let transposed = orientation >= 5
        let columns = transposed ? height : width, rows = transposed ? width : height
        let fromRight = [2, 3, 7, 8].contains(orientation), fromBottom = [3, 4, 6, 7].contains(orientation)
        return Pixels(width: columns, height: rows, channels: channels) { target in
            bytes.withUnsafeBufferPointer { source in
                var next = target
                for y in 0..<rows {
                    for x in 0..<columns {
                        // The pixel of the stored picture for column x of row y of the result.
                        let (across, down) = transposed ? (y, x) : (x, y)
                        let column = fromRight ? width - 1 - across : across
                        let row = fromBottom ? height - 1 - down : down
                        let pixel = source.baseAddress! + (row * width + column) * channels
                        for channel in 0..<channels { next[channel] = pixel[channel] }
                        next += channels
                    }
                }
            }
        }
    }
}

/// The orientation (1 to 8) in the EXIF block of a JPEG or PNG file; 1 where there is none or it cannot be parsed.
func exifOrientation(of file: [UInt8]) -> Int {
    func big(_ offset: Int, _ count: Int) -> Int? {
        guard offset >= 0, offset + count <= file.count else { return nil }
        return file[offset..<offset + count].reduce(0) { $0 << 8 | Int($1) }
    }
    if file.starts(with: [0xFF, 0xD8]) {
        // Segments: FF, a marker, and a 2-byte length that includes itself.
        var offset = 2
        while let mark = big(offset, 1) {
            guard mark == 0xFF, let marker = big(offset + 1, 1) else { return 1 }
            if marker == 0xFF {  // fill byte
                offset += 1
                continue
            }
            if marker == 0xDA || marker == 0xD9 { return 1 }
            if marker == 0x01 || (0xD0...0xD8).contains(marker) {
                offset += 2
                continue
            }
            guard let length = big(offset + 2, 2), length >= 2 else { return 1 }
            let end = min(offset + 2 + length, file.count)
            if marker == 0xE1, end - offset >= 10, file[(offset + 4)...].starts(with: [0x45, 0x78, 0x69, 0x66, 0, 0]) {
                return tiffOrientation(file[(offset + 10)..<end])
            }
            offset += 2 + length
        }
        return 1
    }
    // Chunks: length of the data, type, data, checksum.
    var offset = 8
    while let length = big(offset, 4), let type = big(offset + 4, 4), length <= file.count {
        if type == 0x6558_4966 {  // eXIf
            return tiffOrientation(file[min(offset + 8, file.count)..<min(offset + 8 + length, file.count)])
        }
        offset += 12 + length
    }
    return 1
}

/// The orientation in the first directory of a TIFF structure, or 1.
private func tiffOrientation(_ tiff: ArraySlice<UInt8>) -> Int {
    let start = tiff.startIndex
    let little: Bool
    if tiff.starts(with: [0x49, 0x49, 0x2A, 0]) {
        little = true
    } else if tiff.starts(with: [0x4D, 0x4D, 0, 0x2A]) {
        little = false
    } else {
        return 1
    }
    func number(_ offset: Int, _ count: Int) -> Int? {
        guard offset >= 0, offset + count <= tiff.count else { return nil }
        let bytes = tiff[start + offset..<start + offset + count]
        return little ? bytes.reversed().reduce(0) { $0 << 8 | Int($1) } : bytes.reduce(0) { $0 << 8 | Int($1) }
    }
    guard let directory = number(4, 4), let entries = number(directory, 2) else { return 1 }
    for entry in 0..<entries {
        let offset = directory + 2 + 12 * entry
        guard let tag = number(offset, 2), let type = number(offset + 2, 2) else { return 1 }
        guard tag == 0x0112 else { continue }
        let value = type == 3 ? number(offset + 8, 2) : type == 4 ? number(offset + 8, 4) : nil
        return value.map { (1...8).contains($0) ? $0 : 1 } ?? 1
    }
    return 1
}
