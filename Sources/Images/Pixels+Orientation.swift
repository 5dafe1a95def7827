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
