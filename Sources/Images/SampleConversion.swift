import CCodecs

/// Transparency without an alpha channel: a PNG file's chunk tRNS, a GIF file's transparent entry.
enum Transparency {
    /// Pixels of this colour are transparent; of grey, the three numbers are equal. 16 bits, as in the file.
    case colour(red: UInt16, green: UInt16, blue: UInt16)
    /// The alpha of each entry of the palette, 256 of them.
    case palette([UInt8])

    /// That of a PNG file; nil where it has none that fits its samples.
    init?(png: UnsafeRawBufferPointer, _ samples: dmae_samples) {
        var data: UnsafeRawBufferPointer?
        for chunk in PNGChunks(png) {
            if chunk.type == PNGChunks.pixels { break }
            if chunk.type == PNGChunks.transparency { data = UnsafeRawBufferPointer(rebasing: png[chunk.data]) }
        }
        guard let data else { return nil }
        func number(_ index: Int) -> UInt16 { UInt16(data[2 * index]) << 8 | UInt16(data[2 * index + 1]) }
        switch samples {
        case DMAE_SAMPLES_PALETTE:
            let alpha = Array(data.prefix(256))
            self = .palette(alpha + Array(repeating: 255, count: 256 - alpha.count))
        case DMAE_SAMPLES_GREY, DMAE_SAMPLES_GREY16:
            guard data.count >= 2 else { return nil }
            let grey = number(0)
            self = .colour(red: grey, green: grey, blue: grey)
        case DMAE_SAMPLES_RGB:
            guard data.count >= 6 else { return nil }
            self = .colour(red: number(0), green: number(1), blue: number(2))
        default:
            return nil
        }
    }
}

/// Converts decoded samples of any kind to RGB or grey.
struct SampleConversion {
    /// Whether a pixel was not opaque.
    private(set) var isTransparent = false
    /// Pixels of 16-bit grey that were above 255 and became 255.
    private(set) var clippedCount = 0

    private let kind: dmae_samples
    private let bytesPerPixel: Int
    private let grey16: Grey16
    /// Red, green and blue of the palette.
    private let palette: [UInt8]
    /// The alpha of each entry of the palette; empty where all are opaque.
    private let paletteAlpha: [UInt8]
    /// The colour whose pixels are transparent, as decoded samples have it; nil for none.
    private let transparent: (red: UInt8, green: UInt8, blue: UInt8)?
    /// The same of 16-bit grey.
    private let transparentGrey: UInt16?
    private let background: (red: UInt8, green: UInt8, blue: UInt8)

    init(_ header: PictureHeader, _ transparency: Transparency?, _ reading: PictureReading) {
        kind = header.samples
        bytesPerPixel = header.bytesPerPixel
        grey16 = reading.grey16
        palette = header.palette
        if case .colour(let red, let green, let blue) = reading.background {
            background = (red, green, blue)
        } else {
            background = (0, 0, 0)  // not used
        }
        if case .palette(let alpha) = transparency { paletteAlpha = alpha } else { paletteAlpha = [] }
        if case .colour(let red, let green, let blue) = transparency {
            // Pillow compares the decoded 8-bit samples with the low bytes of the file's numbers, of any bit depth;
            // only of black and white it expands them as it does the samples.
            transparent =
                header.bitDepth == 1
                ? (red > 0 ? (255, 255, 255) : (0, 0, 0))
                : (UInt8(truncatingIfNeeded: red), UInt8(truncatingIfNeeded: green), UInt8(truncatingIfNeeded: blue))
            transparentGrey = red
        } else {
            transparent = nil
            transparentGrey = nil
        }
    }

    /// Writes `count` pixels of `samples` to `target`[count, channels].
    mutating func convert(
        _ samples: UnsafePointer<UInt8>, count: Int, channels: Int, to target: UnsafeMutablePointer<UInt8>
    ) {
        switch kind {
        case DMAE_SAMPLES_GREY:
            write(samples, count, channels, to: target) { sample in (sample[0], sample[0], sample[0], 255) }
        case DMAE_SAMPLES_GREY16 where grey16 == .scale:
            let transparentGrey = transparentGrey
            write(samples, count, channels, isKeyed: false, to: target) { sample in
                let isTransparent = transparentGrey == UInt16(sample[0]) << 8 | UInt16(sample[1])
                return (sample[0], sample[0], sample[0], isTransparent ? 0 : 255)
            }
        case DMAE_SAMPLES_GREY16:
            var clipped = 0
            write(samples, count, channels, to: target) { sample in
                let isClipped = sample[0] > 0
                if isClipped { clipped += 1 }
                let grey = isClipped ? 255 : sample[1]
                return (grey, grey, grey, 255)
            }
            clippedCount = clipped
        case DMAE_SAMPLES_GREY_ALPHA:
            write(samples, count, channels, to: target) { sample in (sample[0], sample[0], sample[0], sample[1]) }
        case DMAE_SAMPLES_RGB_ALPHA:
            write(samples, count, channels, to: target) { sample in (sample[0], sample[1], sample[2], sample[3]) }
        case DMAE_SAMPLES_CMYK:
            write(samples, count, channels, to: target) { sample in
                (
                    colour(sample[0], sample[3]), colour(sample[1], sample[3]), colour(sample[2], sample[3]), 255
                )
            }
        case DMAE_SAMPLES_PALETTE:
            palette.withUnsafeBufferPointer { palette in
                paletteAlpha.withUnsafeBufferPointer { alpha in
                    write(samples, count, channels, to: target) { sample in
                        let entry = 3 * Int(sample[0])
                        return (
                            palette[entry], palette[entry + 1], palette[entry + 2],
                            alpha.isEmpty ? 255 : alpha[Int(sample[0])]
                        )
                    }
                }
            }
        default:
            write(samples, count, channels, to: target) { sample in (sample[0], sample[1], sample[2], 255) }
        }
    }

    /// Writes the pixels whose red, green, blue and alpha `value` gives.
    ///
    /// - Parameter isKeyed: whether pixels of the transparent colour become transparent.
    @inline(__always)
    private mutating func write(
        _ samples: UnsafePointer<UInt8>, _ count: Int, _ channels: Int, isKeyed: Bool = true,
        to target: UnsafeMutablePointer<UInt8>, _ value: (UnsafePointer<UInt8>) -> (UInt8, UInt8, UInt8, UInt8)
    ) {
        let key = isKeyed ? transparent : nil
        for pixel in 0..<count {
            var (red, green, blue, alpha) = value(samples + pixel * bytesPerPixel)
            if let key, red == key.red, green == key.green, blue == key.blue { alpha = 0 }
            if alpha < 255 {
                isTransparent = true
                red = composited(red, over: background.red, alpha)
                green = composited(green, over: background.green, alpha)
                blue = composited(blue, over: background.blue, alpha)
            }
            if channels == 3 {
                target[3 * pixel] = red
                target[3 * pixel + 1] = green
                target[3 * pixel + 2] = blue
            } else {
                target[pixel] = luma(red, green, blue)
            }
        }
    }
}

/// The colour of a pixel over an opaque background: (value·alpha + background·(255 - alpha)) / 255, rounded. Pillow's
/// alpha_composite computes the same number with more bits.
@inline(__always)
private func composited(_ value: UInt8, over background: UInt8, _ alpha: UInt8) -> UInt8 {
    let sum = UInt32(value) * UInt32(alpha) + UInt32(background) * UInt32(255 - alpha) + 128
    return UInt8(truncatingIfNeeded: ((sum >> 8) + sum) >> 8)
}

/// The RGB value of a CMYK component and black, both stored as 255 - ink. With `light` the stored black, the value is
/// light - ink·light / 255, the quotient rounded, as in Pillow.
@inline(__always)
private func colour(_ stored: UInt8, _ storedBlack: UInt8) -> UInt8 {
    let light = Int32(storedBlack)
    let product = (255 - Int32(stored)) * light + 128
    return UInt8(truncatingIfNeeded: max(0, light - ((product >> 8) + product) >> 8))
}
