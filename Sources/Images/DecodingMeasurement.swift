import Reporting
import Tensors

/// The time that one thread takes to read, decode and augment images of a source, measured on some of them.
public struct DecodingMeasurement: Sendable {
    /// Images that were decoded.
    public private(set) var images = 0
    /// Mean time of an image.
    public private(set) var secondsPerImage = 0.0
    /// Mean number of pixels of the images that were decoded.
    public private(set) var pixelsPerImage = 0.0

    /// Decodes random images, one after another, on the calling thread.
    ///
    /// - Parameters:
    ///   - most: the number of images.
    ///   - seconds: time after which no other image is begun.
    /// - Parameter report: called with a sentence about each image that cannot be decoded.
    /// - Returns: nil if none of them can be decoded.
    /// - Throws: `Failure.inputOutput` where the system failed, not an image.
    public init?(
        of source: any ImageSource, as augmentation: Augmentation, seed: UInt64, most: Int = 200, seconds: Double = 4,
        report: (Message) -> Void = { _ in }
    ) throws {
        let buffers = AugmentationBuffers(), start = monotonicSeconds()
        let target = UnsafeMutablePointer<UInt8>.allocate(capacity: augmentation.sampleCount)
        defer { target.deallocate() }
        var pixels = 0, total = 0.0
        var random = CounterRandom(seed: seed, purpose: .benchmark, epoch: 2)
        for index in 0..<most where monotonicSeconds() - start < seconds {
            // Every image once, if there are no more.
            let image = source.count <= most ? index : random.below(source.count)
            guard image < source.count else { break }
            let begin = monotonicSeconds()
            do {
                var findings = PictureFindings.nothing
                let picture = try Pixels(
                    decoding: source.bytes(image), named: source.title(image), channels: augmentation.channels,
                    as: augmentation.reading, &findings)
                augmentation.apply(to: picture, seed: seed, epoch: 0, index: image, with: buffers, into: target)
                pixels += picture.width * picture.height
            } catch let failure as Failure where failure.code == .badData {
                report(failure.sentence)
                continue
            }
            total += monotonicSeconds() - begin
            images += 1
        }
        guard images > 0 else { return nil }
        secondsPerImage = total / Double(images)
        pixelsPerImage = Double(pixels) / Double(images)
    }

    /// The mean time of images with so many pixels on average: the time of an image is about proportional to its pixels,
    /// and a few giants, which a sample may lack or have too many of, may take most of it.
    public func secondsPerImage(ofPixels pixels: Double) -> Double {
        pixelsPerImage > 0 ? secondsPerImage * pixels / pixelsPerImage : secondsPerImage
    }
}
