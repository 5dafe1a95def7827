import Glibc
import Tensors

/// Turns pictures of any size into samples of one size, as torchvision's transforms do.
public struct Augmentation: Equatable, Sendable {
    /// The part of the picture that a sample shows.
    public enum Framing: Equatable, Sendable {
        /// RandomResizedCrop and RandomHorizontalFlip: a rectangle at a random place, with `area` a fraction of the
        /// picture's (uniform) and `aspect` its width / height (log-uniform), flipped with probability `flip`.
        case random(area: ClosedRange<Double>, aspect: ClosedRange<Double>, flip: Double)
        /// The linear probe's crop of MAE: as `random`, but with one try, whose sides are cut to the picture's.
        case randomOnce(area: ClosedRange<Double>, aspect: ClosedRange<Double>, flip: Double)
        /// Resize and CenterCrop, as `Preprocessing.crop` says.
        case centre
        /// The whole picture resized to the sample's size, its aspect changed.
        case whole
    }

    /// Size of a sample, in pixels.
    public let width, height: Int
    /// 1 (grey) or 3 (RGB).
    public let channels: Int
    /// The part of the picture that a sample shows.
    public var framing: Framing
    /// Random changes of colours and geometry, after the framing; nil for none.
    public var randAugment: RandAugment?
    /// The rectangle of noise in a normalised sample; nil for none.
    public var erasing: RandomErasing?
    /// The filter of every framing, the centre framing's crop, and the mean and deviation that samples are normalised
    /// with.
    public var preprocessing: Preprocessing
    /// How image files become pictures before all that.
    public var reading: PictureReading

    /// The mean and deviation that samples are normalised with.
    public var normalisation: Normalisation { preprocessing.normalisation }

    /// The defaults are those of pre-training and distillation: area 0.2 to 1, aspect 3⁄4 to 4⁄3, flip ½, and
    /// `Preprocessing.imageNet`.
    public init(
        width: Int, height: Int, channels: Int = 3,
        framing: Framing = .random(area: 0.2...1, aspect: 3.0 / 4...4.0 / 3, flip: 0.5),
        randAugment: RandAugment? = nil, erasing: RandomErasing? = nil,
        preprocessing: Preprocessing? = nil, reading: PictureReading = PictureReading()
    ) {
        precondition(width > 0 && height > 0 && (channels == 1 || channels == 3))
        self.width = width
        self.height = height
        self.channels = channels
        self.framing = framing
        self.randAugment = randAugment
        self.erasing = erasing
        self.preprocessing = preprocessing ?? .imageNet(channels: channels)
        precondition(self.preprocessing.normalisation.mean.count == channels)
        self.reading = reading
    }

    /// Number of bytes of a sample before normalisation, and of floats after it.
    public var sampleCount: Int { width * height * channels }

    /// The sample made from `picture` at position `index` of `epoch`, before normalisation.
    ///
    /// The picture is converted to the sample's channels. The random framings and RandAugment draw numbers, for (`seed`,
    /// `epoch`, `index`).
    public func apply(to picture: Pixels, seed: UInt64, epoch: Int, index: Int) -> Pixels {
        let picture = picture.converted(channels: channels)
        return Pixels(width: width, height: height, channels: channels) { target in
            apply(to: picture, seed: seed, epoch: epoch, index: index, with: AugmentationBuffers(), into: target)
        }
    }

    /// Writes the same sample to `target`[height, width, channels]. `picture` must have `channels` channels.
    func apply(
        to picture: borrowing Pixels, seed: UInt64, epoch: Int, index: Int, with buffers: AugmentationBuffers,
        into target: UnsafeMutablePointer<UInt8>
    ) {
        precondition(picture.channels == channels)
        let resampler = buffers.resampler
        resampler.interpolation = preprocessing.interpolation
        let view = PixelView(bytes: target, width: width, height: height, channels: channels)
        switch framing {
        case .random(let area, let aspect, let flip), .randomOnce(let area, let aspect, let flip):
            var draw = CounterRandom(seed: seed, purpose: .crop, epoch: epoch, index: index)
            let isOnce = if case .randomOnce = framing { true } else { false }
            let crop = isOnce ? randomCropOnce : randomCrop
            let rectangle = crop(picture.width, picture.height, area, aspect, &draw)
            resampler.resample(picture, croppedTo: rectangle, width: width, height: height, into: target)
            var coin = CounterRandom(seed: seed, purpose: .flip, epoch: epoch, index: index)
            if coin.uniform(0, 1) < flip { view.flipHorizontally() }
        case .centre:
            let frame = centreFrame(width: picture.width, height: picture.height)
            resampler.resample(
                picture, width: frame.resized.width, height: frame.resized.height, window: frame.crop, into: target)
        case .whole:
            resampler.resample(picture, width: width, height: height, into: target)
        }
        if let randAugment {
            for change in randAugment.changes(seed: seed, epoch: epoch, index: index) {
                view.apply(change, fill: normalisation.meanBytes, &buffers.scratch)
            }
        }
    }

    /// Writes noise over a random rectangle of a normalised sample, `values`[channels, height, width], if `erasing` says
    /// so; drawn for (`seed`, `epoch`, `index`).
    public func erase(_ values: UnsafeMutablePointer<Float>, seed: UInt64, epoch: Int, index: Int) {
        erasing?.apply(
            to: values, width: width, height: height, channels: channels, seed: seed, epoch: epoch, index: index)
    }

    /// The size that the centre framing resizes a picture to, and the crop that it then takes; see `CentreCrop.frame`.
    public func centreFrame(width pictureWidth: Int, height pictureHeight: Int)
        -> (resized: (width: Int, height: Int), crop: Rectangle)
    {
        preprocessing.crop.frame(width: width, height: height, of: (pictureWidth, pictureHeight))
    }
}

/// The crop of torchvision's RandomResizedCrop.get_params, with random numbers from `draw`: up to ten tries, then the
/// largest centred rectangle of allowed aspect. Sizes are in pixels.
public func randomCrop(
    width: Int, height: Int, area: ClosedRange<Double>, aspect: ClosedRange<Double>, using draw: inout CounterRandom
) -> Rectangle {
    let whole = Double(width * height)
    for _ in 0..<10 {
        let target = whole * draw.uniform(area.lowerBound, area.upperBound)
        let ratio = exp(draw.uniform(log(aspect.lowerBound), log(aspect.upperBound)))
        // Python rounds halves to even.
        let cutWidth = Int((target * ratio).squareRoot().rounded(.toNearestOrEven))
        let cutHeight = Int((target / ratio).squareRoot().rounded(.toNearestOrEven))
        if 0 < cutWidth && cutWidth <= width && 0 < cutHeight && cutHeight <= height {
            let top = draw.below(height - cutHeight + 1)
            let left = draw.below(width - cutWidth + 1)
            return Rectangle(left: left, top: top, width: cutWidth, height: cutHeight)
        }
    }
    var cut = (width: width, height: height)
    let shape = Double(width) / Double(height)
    if shape < aspect.lowerBound {
        cut.height = Int((Double(width) / aspect.lowerBound).rounded(.toNearestOrEven))
    } else if shape > aspect.upperBound {
        cut.width = Int((Double(height) * aspect.upperBound).rounded(.toNearestOrEven))
    }
    return Rectangle(
        left: (width - cut.width) / 2, top: (height - cut.height) / 2, width: cut.width, height: cut.height)
}

/// The linear probe's crop in MAE: one rectangle, its sides rounded and cut to the picture's, at a random place. Sizes
/// are in pixels.
public func randomCropOnce(
    width: Int, height: Int, area: ClosedRange<Double>, aspect: ClosedRange<Double>, using draw: inout CounterRandom
) -> Rectangle {
    let target = Double(width * height) * draw.uniform(area.lowerBound, area.upperBound)
    let ratio = exp(draw.uniform(log(aspect.lowerBound), log(aspect.upperBound)))
    // Python rounds halves to even. A picture of a few pixels could give an empty rectangle.
    let cutWidth = min(max(Int((target * ratio).squareRoot().rounded(.toNearestOrEven)), 1), width)
    let cutHeight = min(max(Int((target / ratio).squareRoot().rounded(.toNearestOrEven)), 1), height)
    let top = draw.below(height - cutHeight + 1)
    let left = draw.below(width - cutWidth + 1)
    return Rectangle(left: left, top: top, width: cutWidth, height: cutHeight)
}

/// What a decoding thread reuses from sample to sample; only one thread at a time may use it.
final class AugmentationBuffers {
    let resampler = Resampler()
    /// The picture that an operation of RandAugment reads while it writes another.
    var scratch: [UInt8] = []
}
