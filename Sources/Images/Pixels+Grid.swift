extension Pixels {
    /// One picture of the rows `tiles`, with `padding` pixels of `background` brightness around and between the tiles.
    ///
    /// A column is as wide and a row as high as its largest tile; smaller tiles are placed at the upper left of their
    /// cell. Rows may differ in length. The result is grey if all tiles are, otherwise RGB. There must be at least one
    /// tile.
    public static func grid(_ tiles: [[Pixels]], padding: Int = 2, background: UInt8 = 255) -> Pixels {
        precondition(tiles.contains { !$0.isEmpty } && padding >= 0)
        let columnCount = tiles.map(\.count).max()!
        let widths = (0..<columnCount).map { column in tiles.map { column < $0.count ? $0[column].width : 0 }.max()! }
        let heights = tiles.map { $0.map(\.height).max() ?? 0 }
        let channels = tiles.joined().contains { $0.channels == 3 } ? 3 : 1
        let width = widths.reduce(padding) { $0 + $1 + padding }, height = heights.reduce(padding) { $0 + $1 + padding }
        var bytes = [UInt8](repeating: background, count: width * height * channels)
        var top = padding
        for (row, rowHeight) in zip(tiles, heights) {
            var left = padding
            for (tile, columnWidth) in zip(row, widths) {
                for y in 0..<tile.height {
                    for x in 0..<tile.width {
                        for channel in 0..<channels {
                            bytes[((top + y) * width + left + x) * channels + channel] =
                                tile.bytes[(y * tile.width + x) * tile.channels + min(channel, tile.channels - 1)]
                        }
                    }
                }
                left += columnWidth + padding
            }
            top += rowHeight + padding
        }
        return Pixels(width: width, height: height, channels: channels, bytes: bytes)
    }

    /// The picture with every pixel repeated `factor` times in both directions; `factor` ≥ 1.
    public func enlarged(by factor: Int) -> Pixels {
        precondition(factor >= 1)
        if factor == 1 { return self }
        var enlarged: [UInt8] = []
        enlarged.reserveCapacity(bytes.count * factor * factor)
        for y in 0..<height {
            var line: [UInt8] = []
            for x in 0..<width {
                let pixel = bytes[(y * width + x) * channels..<(y * width + x + 1) * channels]
                for _ in 0..<factor { line += pixel }
            }
            for _ in 0..<factor { enlarged += line }
        }
        return Pixels(width: width * factor, height: height * factor, channels: channels, bytes: enlarged)
    }
}
