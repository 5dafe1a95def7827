/// The mean and standard deviation of each channel, for pixel values 0 to 1, that pictures are normalised with.
public struct Normalisation: Equatable, Sendable {
    public let mean: [Float]
    public let deviation: [Float]

    public init(mean: [Float], deviation: [Float]) {
        precondition(mean.count == deviation.count && !mean.isEmpty)
        self.mean = mean
        self.deviation = deviation
    }

    /// ImageNet's: the customary values for RGB, their averages for grey.
    public static func imageNet(channels: Int) -> Normalisation {
        channels == 3
            ? Normalisation(mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225])
            : Normalisation(mean: [0.449], deviation: [0.226])
    }

    /// What a mean may be.
    public static let means: ClosedRange<Float> = -1000...1000
    /// What a deviation may be: a smaller one is none.
    public static let deviations: ClosedRange<Float> = 1e-6...Float.greatestFiniteMagnitude

    /// A stated mean and deviation; nil if they are not those of 1 or 3 channels, or not among `means` and `deviations`.
    public init?(statedMean mean: [Float], deviation: [Float]) {
        guard mean.count == deviation.count, mean.count == 1 || mean.count == 3,
            mean.allSatisfy(Self.means.contains), deviation.allSatisfy(Self.deviations.contains)
        else { return nil }
        self.init(mean: mean, deviation: deviation)
    }

    /// The same for another number of channels: the averages for grey, the one number of each three times for RGB.
    public func adapted(channels: Int) -> Normalisation {
        guard channels != mean.count else { return self }
        guard self != .imageNet(channels: mean.count) else { return .imageNet(channels: channels) }
        func adapted(_ values: [Float]) -> [Float] {
            Array(repeating: values.reduce(0, +) / Float(values.count), count: channels)
        }
        return Normalisation(mean: adapted(mean), deviation: adapted(deviation))
    }

    /// The mean colour in bytes, rounded, halves to even; ImageNet's is (124, 116, 104).
    public var meanBytes: [UInt8] {
        mean.map { UInt8(min(max((Double($0) * 255).rounded(.toNearestOrEven), 0), 255)) }
    }

    /// The normalised value of each byte: [channels, 256], (byte / 255 - mean) / deviation computed in float32.
    var table: [Float] {
        zip(mean, deviation).flatMap { mean, deviation in
            (0..<256).map { (Float($0) / 255 - mean) / deviation }
        }
    }

    /// Writes `picture`, normalised, to `target`[channels, height, width].
    public func write(_ picture: Pixels, to target: UnsafeMutablePointer<Float>) {
        precondition(picture.channels == mean.count)
        let table = table
        picture.bytes.withUnsafeBufferPointer {
            Self.write(
                $0.baseAddress!, count: picture.width * picture.height, channels: picture.channels, table, to: target)
        }
    }

    /// Looks up `count` interleaved pixels in `table` and writes them to `target`[channels, count].
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

    /// The picture of normalised `values`[channels, height, width]: the inverse of `write`, rounded to the nearest
    /// byte and clamped to 0...255; NaN becomes 0.
    public func pixels(_ values: UnsafePointer<Float>, width: Int, height: Int) -> Pixels {
        let channels = mean.count, count = width * height
        return Pixels(width: width, height: height, channels: channels) { target in
            for channel in 0..<channels {
                for pixel in 0..<count {
                    let value = (values[channel * count + pixel] * deviation[channel] + mean[channel]) * 255
                    // A NaN fails the comparison.
                    target[pixel * channels + channel] = value > 0 ? UInt8(min(value, 255).rounded()) : 0
                }
            }
        }
    }
}
