// Pillow's ImageEnhance: the picture and a degenerate version of it are blended with a factor. 0 gives the degenerate
// version, 1 the picture; above 1 the picture moves away from the degenerate version.

extension PixelView {
    /// Blends with black.
    func adjustBrightness(_ factor: Float) {
        mapBytes { blend(0, $0, factor) }
    }

    /// Blends with the mean of the grey picture, rounded.
    func adjustContrast(_ factor: Float) {
        var sum = 0
        if channels == 3 {
            for pixel in 0..<width * height { sum += Int(luma(of: bytes + 3 * pixel)) }
        } else {
            for pixel in 0..<width * height { sum += Int(bytes[pixel]) }
        }
        let mean = UInt8(Double(sum) / Double(width * height) + 0.5)
        mapBytes { blend(mean, $0, factor) }
    }

    /// Blends with the grey picture; a grey picture stays.
    func adjustColor(_ factor: Float) {
        guard channels == 3 else { return }
        for pixel in 0..<width * height {
            let pixel = bytes + 3 * pixel, grey = luma(of: pixel)
            for channel in 0..<3 { pixel[channel] = blend(grey, pixel[channel], factor) }
        }
    }

    /// Blends with the smoothed picture: each pixel the mean of its neighbourhood of 3×3 with weight 5 for itself, the
    /// border as it is.
    func adjustSharpness(_ factor: Float, _ scratch: inout [UInt8]) {
        guard width >= 3 && height >= 3 else { return }
        let pitch = width * channels, step = channels
        if scratch.count < count { scratch = [UInt8](repeating: 0, count: count) }
        scratch.withUnsafeMutableBufferPointer { scratch in
            let original = scratch.baseAddress!
            original.update(from: bytes, count: count)
            for y in 1..<height - 1 {
                let above = original + (y - 1) * pitch, row = above + pitch, below = row + pitch
                let target = bytes + y * pitch
                for i in step..<pitch - step {
                    let sum =
                        UInt32(above[i - step]) + UInt32(above[i]) + UInt32(above[i + step])
                        + UInt32(row[i - step]) + 5 * UInt32(row[i]) + UInt32(row[i + step])
                        + UInt32(below[i - step]) + UInt32(below[i]) + UInt32(below[i + step])
                    // Pillow computes sum / 13 + ½ in float32 and cuts off; its error is too small to reach the next
                    // integer, which is at least 1⁄26 away.
                    target[i] = blend(UInt8(truncatingIfNeeded: (sum + 6) / 13), row[i], factor)
                }
            }
        }
    }
}

/// degenerate + factor · (original - degenerate), in float32, cut off to a byte: Pillow's Image.blend.
@inline(__always)
private func blend(_ degenerate: UInt8, _ original: UInt8, _ factor: Float) -> UInt8 {
    let value = Float(degenerate) + factor * Float(Int32(original) - Int32(degenerate))
    return UInt8(min(max(value, 0), 255))
}

/// The grey value of an RGB pixel, as converting the picture to grey gives it.
@inline(__always)
private func luma(of pixel: UnsafePointer<UInt8>) -> UInt8 { luma(pixel[0], pixel[1], pixel[2]) }
