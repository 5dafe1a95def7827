/// The mean and spread, per channel and in units of full brightness, that pictures are standardised with.
public struct Normalisation: Equatable, Sendable {
    public let mean: [Float]
    public let deviation: [Float]

    public init(mean: [Float], deviation: [Float]) {
        precondition(mean.count == deviation.count && !mean.isEmpty)
        self.mean = mean
        self.deviation = deviation
    }

    /// ImageNet's: for RGB the customary figures, for grey their averages.
    public static func imageNet(channels: Int) -> Normalisation {
        channels == 3
            ? Normalisation(mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225])
            : Normalisation(mean: [0.449], deviation: [0.226])
    }

    /// Standardised values of the 256 bytes of each channel: [channels][256], the rounding of (byte / 255 - mean) /
    /// deviation in f32.
    var table: [Float] {
        zip(mean, deviation).flatMap { mean, deviation in
            (0..<256).map { (Float($0) / 255 - mean) / deviation }
        }
    }

    /// Writes `picture`, standardised, to `target`[channels, height, width].
    public func write(_ picture: Pixels, to target: UnsafeMutablePointer<Float>) {
        precondition(picture.channels == mean.count)
        let table = table
        picture.bytes.withUnsafeBufferPointer {
            Self.write(
                $0.baseAddress!, count: picture.width * picture.height, channels: picture.channels, table, to: target)
        }
    }

    /// Writes `count` interleaved pixels, looked up in `table`, to `target`[channels, count].
    static func write(
        _ pixels: UnsafePointer<UInt8>, count: Int, channels: Int, _ table: [Float],
        to target: UnsafeMutablePointer<Float>
    ) {
        table.withUnsafeBufferPointer { table in
            let table = table.baseAddress!
            if channels == 3 {
                let red = target, green = target + count, blue = target + 2 * count
                for pixel in 0..<count {
                    red[pixel] = table[Int(pixels[3 * pixel])]
                    green[pixel] = table[256 + Int(pixels[3 * pixel + 1])]
                    blue[pixel] = table[512 + Int(pixels[3 * pixel + 2])]
                }
            } else {
                for pixel in 0..<count { target[pixel] = table[Int(pixels[pixel])] }
            }
        }
    }

    /// The picture that `values`[channels, height, width], standardised, stand for: rounded to the nearest byte, cut
    /// off at 0 and 255; what is not a number becomes 0.
    public func pixels(_ values: UnsafePointer<Float>, width: Int, height: Int) -> Pixels {
        let channels = mean.count, count = width * height
        return Pixels(width: width, height: height, channels: channels) { target in
            for channel in 0..<channels {
                for pixel in 0..<count {
                    let value = (values[channel * count + pixel] * deviation[channel] + mean[channel]) * 255
                    // Written so that a NaN fails the comparison.
                    target[pixel * channels + channel] = value > 0 ? UInt8(min(value, 255).rounded()) : 0
                }
            }
        }
    }
}
