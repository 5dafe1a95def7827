/// How a picture becomes the input of an encoder where nothing is drawn at random: the part that is shown, the filter
/// that resizes it, and the mean and deviation it is normalised with. They belong to the weights.
public struct Preprocessing: Equatable, Sendable {
    public var normalisation: Normalisation
    public var interpolation: Interpolation
    public var crop: CentreCrop

    public init(
        normalisation: Normalisation, interpolation: Interpolation = .bicubic, crop: CentreCrop = CentreCrop()
    ) {
        self.normalisation = normalisation
        self.interpolation = interpolation
        self.crop = crop
    }

    /// MAE's, which is assumed where nothing is known: ImageNet's normalisation, bicubic, and the centre crop of 0.875.
    public static func imageNet(channels: Int) -> Preprocessing {
        Preprocessing(normalisation: .imageNet(channels: channels))
    }

    /// The same for pictures of `channels` channels; see `Normalisation.adapted(channels:)`.
    public func adapted(channels: Int) -> Preprocessing {
        var adapted = self
        adapted.normalisation = normalisation.adapted(channels: channels)
        return adapted
    }
}

/// The part of a picture that an encoder is shown where nothing is drawn at random.
public struct CentreCrop: Equatable, Sendable {
    /// The fractions that a crop may have: a smaller one shows a speck of the picture, and its size would overflow.
    public static let fractions = 0.01...1.0
    /// The largest side that a picture is resized to by a stated size.
    public static let largestSide = 65_535

    /// Side of the crop divided by that of the resized picture, one of `fractions`. Nil for MAE's rule: 0.875 for
    /// samples of up to 224 pixels, 1 for larger ones.
    public var fraction: Double?
    /// Whether both sides are resized, which changes the aspect; otherwise the short side is, and the aspect stays.
    public var squashes: Bool
    /// Whether the upper left corner of a margin that is not even is rounded down, as transformers does. torchvision
    /// rounds a half to the even number.
    public var roundsDown: Bool

    public init(fraction: Double? = nil, squashes: Bool = false, roundsDown: Bool = false) {
        precondition(fraction.map(Self.fractions.contains) ?? true)
        self.fraction = fraction
        self.squashes = squashes
        self.roundsDown = roundsDown
    }

    /// The largest fraction with which samples of `side` pixels are cropped from pictures of `resized` pixels: side /
    /// resized, or the number below it if its quotient would be rounded to the next lower pixel. Nil if the crop is larger
    /// than the picture, or the sizes are outside `fractions` and `largestSide`.
    public init?(side: Int, of resized: Int, squashes: Bool = false, roundsDown: Bool = false) {
        guard side > 0, resized >= side, resized <= Self.largestSide else { return nil }
        var fraction = Double(side) / Double(resized)
        while Int(Double(side) / fraction) < resized { fraction = fraction.nextDown }
        guard Self.fractions.contains(fraction) else { return nil }
        self.init(fraction: fraction, squashes: squashes, roundsDown: roundsDown)
    }

    /// The fraction for samples of this size.
    public func fraction(width: Int, height: Int) -> Double { fraction ?? (max(width, height) <= 224 ? 0.875 : 1) }

    /// The size that a picture is resized to, and the crop that is then taken, for samples of `width` × `height`.
    ///
    /// A square sample without `squashes` is torchvision's Resize(int(size / fraction)) and CenterCrop(size). For
    /// another shape the resized picture just covers the sample and its margin.
    public func frame(width: Int, height: Int, of picture: (width: Int, height: Int))
        -> (resized: (width: Int, height: Int), crop: Rectangle)
    {
        let fraction = fraction(width: width, height: height)
        let target = (width: Int(Double(width) / fraction), height: Int(Double(height) / fraction))
        var resized = target
        if !squashes {
            if picture.width * target.height <= picture.height * target.width {
                resized.height = target.width * picture.height / picture.width
            } else {
                resized.width = target.height * picture.width / picture.height
            }
        }
        func corner(_ margin: Int) -> Int {
            // Python rounds halves to even.
            roundsDown ? margin / 2 : Int((Double(margin) / 2).rounded(.toNearestOrEven))
        }
        return (
            resized,
            Rectangle(
                left: corner(resized.width - width), top: corner(resized.height - height), width: width, height: height)
        )
    }
}

extension Preprocessing: Codable {
    private enum CodingKeys: String, CodingKey {
        case mean, std, interpolation, cropFraction, squashes, cropRoundsDown
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let mean = try container.decode([Float].self, forKey: .mean)
        let deviation = try container.decode([Float].self, forKey: .std)
        guard let normalisation = Normalisation(statedMean: mean, deviation: deviation) else {
            throw DecodingError.dataCorruptedError(
                forKey: .std, in: container, debugDescription: "no mean and deviation of 1 or 3 channels")
        }
        let fraction = try container.decodeIfPresent(Double.self, forKey: .cropFraction)
        guard fraction.map(CentreCrop.fractions.contains) ?? true else {
            throw DecodingError.dataCorruptedError(
                forKey: .cropFraction, in: container, debugDescription: "not from 0.01 to 1")
        }
        self.init(
            normalisation: normalisation,
            interpolation: try container.decode(Interpolation.self, forKey: .interpolation),
            crop: CentreCrop(
                fraction: fraction, squashes: try container.decode(Bool.self, forKey: .squashes),
                roundsDown: try container.decode(Bool.self, forKey: .cropRoundsDown)))
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(normalisation.mean, forKey: .mean)
        try container.encode(normalisation.deviation, forKey: .std)
        try container.encode(interpolation, forKey: .interpolation)
        try container.encodeIfPresent(crop.fraction, forKey: .cropFraction)
        try container.encode(crop.squashes, forKey: .squashes)
        try container.encode(crop.roundsDown, forKey: .cropRoundsDown)
    }
}

extension Normalisation: CustomStringConvertible {
    /// "mean 0.485 0.456 0.406, std 0.229 0.224 0.225"; a number that all channels share is written once.
    public var description: String { "mean \(Self.text(mean)), std \(Self.text(deviation))" }

    /// The numbers, separated by spaces; one number if all are equal.
    public static func text(_ values: [Float], separator: String = " ") -> String {
        Set(values).count == 1 ? "\(values[0])" : values.map { "\($0)" }.joined(separator: separator)
    }
}

extension CentreCrop: CustomStringConvertible {
    /// "crop 0.9", "crop 0.875 (1 for models above 224 pixels)", "squash", or "squash, crop 0.875".
    public var description: String {
        func text(_ fraction: Double) -> String {
            // Six digits tell 224 / 248 from 0.9.
            var text = "\((fraction * 1e6).rounded() / 1e6)"
            if text.hasSuffix(".0") { text.removeLast(2) }
            return text
        }
        guard squashes else {
            return fraction.map { "crop \(text($0))" } ?? "crop 0.875 (1 for models above 224 pixels)"
        }
        return fraction == 1 ? "squash" : "squash, \(CentreCrop(fraction: fraction))"
    }
}

extension Preprocessing: CustomStringConvertible {
    /// "mean 0.5, std 0.5, bicubic, crop 0.9".
    public var description: String { "\(normalisation), \(interpolation.rawValue), \(crop)" }
}
