// Operations that map each byte by itself, with the arithmetic of Pillow's ImageOps.

extension PixelView {
    /// Replaces each byte by its entry in `table`[channels, 256].
    private func look(upIn table: [UInt8]) {
        precondition(table.count == channels * 256)
        table.withUnsafeBufferPointer {
            let table = $0.baseAddress!
            if channels == 3 {
                for pixel in 0..<width * height {
                    let pixel = bytes + 3 * pixel
                    pixel[0] = table[Int(pixel[0])]
                    pixel[1] = table[256 + Int(pixel[1])]
                    pixel[2] = table[512 + Int(pixel[2])]
                }
            } else {
                for pixel in 0..<width * height { bytes[pixel] = table[Int(bytes[pixel])] }
            }
        }
    }

    /// Replaces each byte by `value` of it, in all channels.
    func mapBytes(_ value: (UInt8) -> UInt8) {
        let table = (0..<256).map { value(UInt8($0)) }
        look(upIn: [[UInt8]](repeating: table, count: channels).flatMap { $0 })
    }

    /// Number of pixels of each value: [channels, 256].
    private var histogram: [Int] {
        var counts = [Int](repeating: 0, count: channels * 256)
        counts.withUnsafeMutableBufferPointer {
            let counts = $0.baseAddress!
            for pixel in 0..<width * height {
                for channel in 0..<channels { counts[256 * channel + Int(bytes[channels * pixel + channel])] += 1 }
            }
        }
        return counts
    }

    /// Stretches the range of each channel to 0...255, linearly; Pillow's autocontrast. A channel of one value stays.
    func stretchContrast() {
        let histogram = histogram
        var table: [UInt8] = []
        for channel in 0..<channels {
            let used = (0..<256).filter { histogram[256 * channel + $0] > 0 }
            let low = used.first!, high = used.last!
            // A scale of exactly 1 changes nothing.
            let scale = high > low ? 255 / Double(high - low) : 1
            let offset = high > low ? Double(-low) * scale : 0
            table += (0..<256).map { UInt8(min(max(Double($0) * scale + offset, 0), 255)) }
        }
        look(upIn: table)
    }

    /// Makes the histogram of each channel nearly flat; Pillow's equalize. A channel stays where its pixels, without
    /// those of its highest value, are fewer than 255.
    func equalize() {
        let histogram = histogram
        var table: [UInt8] = []
        for channel in 0..<channels {
            let counts = histogram[256 * channel..<256 * (channel + 1)]
            let step = (width * height - counts.last { $0 > 0 }!) / 255
            var sum = step / 2
            for (value, count) in counts.enumerated() {
                table.append(step > 0 ? UInt8(min(sum / step, 255)) : UInt8(value))
                sum += count
            }
        }
        look(upIn: table)
    }

    /// Keeps the highest `bits` bits of each byte, 0 to 8.
    func posterize(bits: Int) {
        let mask = UInt8(truncatingIfNeeded: 0xFF00 >> bits)
        mapBytes { $0 & mask }
    }

    /// Inverts the bytes from `threshold` on.
    func solarize(threshold: Int) {
        mapBytes { Int($0) < threshold ? $0 : 255 - $0 }
    }

    /// Adds `amount` to the bytes below 128, up to 255.
    func solarize(adding amount: Int) {
        mapBytes { $0 < 128 ? UInt8(min(Int($0) + amount, 255)) : $0 }
    }
}
