import Reporting

/// What reading many images found, as sentences for a person: about the first images as they come, and with numbers at
/// the end.
public struct PictureTally {
    private let reading: PictureReading
    private var transparent: Set<Int> = []
    /// By image, the fraction of its pixels that were clipped.
    private var clipped: [Int: Double] = [:]
    private var wrongChecksums: Set<Int> = []

    /// Images with a wrong checksum that are named, and clipped ones.
    private static let named = 3

    public init(_ reading: PictureReading) {
        self.reading = reading
    }

    /// Counts an image once, and returns what is to be said about it now.
    ///
    /// - Parameters:
    ///   - image: any number that tells it from other images.
    ///   - path: its name in the sentences.
    mutating func add(_ findings: PictureFindings, image: Int, path: @autoclosure () -> String) -> [Message] {
        var sentences: [Message] = []
        if findings.isTransparent { transparent.insert(image) }
        if findings.clippedFraction > 0, clipped.updateValue(findings.clippedFraction, forKey: image) == nil,
            clipped.count <= Self.named
        {
            sentences.append(Self.clipping(path(), findings.clippedFraction))
        }
        if findings.hasWrongChecksum, wrongChecksums.insert(image).inserted, wrongChecksums.count <= Self.named {
            sentences.append(
                "\(path()) is damaged: its pixels have a wrong checksum; they are used as they are, as Pillow does")
        }
        return sentences
    }

    /// What is to be said at the end: the numbers of images.
    ///
    /// - Parameters:
    ///   - total: number of images that were read.
    ///   - place: what holds them, such as a folder; nil where they come from several places.
    public func summary(of total: Int, in place: String?) -> [Message] {
        let images = "of \(Format.counted(total, "image"))" + (place.map { " in \($0)" } ?? "")
        var sentences: [Message] = []
        if !transparent.isEmpty {
            sentences.append(
                "\(Format.grouped(transparent.count)) \(images) \(transparent.count == 1 ? "has" : "have") transparent "
                    + "pixels, which are composited over \(reading.background): \(.background) sets the colour")
        }
        if clipped.count > Self.named {
            let mean = clipped.values.sorted().reduce(0, +) / Double(clipped.count)
            sentences.append(
                "\(Format.grouped(clipped.count)) \(images) are 16-bit grey with values above 255: on average "
                    + "\(Self.percent(mean)) of their pixels became white; \(.grey16, "scale") keeps their differences")
        }
        if wrongChecksums.count > Self.named {
            sentences.append(
                "\(Format.grouped(wrongChecksums.count)) \(images) are damaged: their pixels have a wrong checksum, and "
                    + "are used as they are")
        }
        return sentences
    }

    /// What is said of an image of 16-bit grey, a fraction of whose pixels became white.
    static func clipping(_ path: String, _ fraction: Double) -> Message {
        "\(path) is 16-bit grey, and \(percent(fraction)) of its pixels are above 255, which makes them white: "
            + "\(.grey16, "scale") keeps their differences"
    }

    /// A percentage with one digit, but never 0.
    private static func percent(_ fraction: Double) -> String {
        fraction < 0.001 ? "less than 0.1 %" : Format.fixed(100 * fraction, 1) + " %"
    }
}
