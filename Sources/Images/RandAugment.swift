import Tensors

/// RandAugment (arXiv 1909.13719) with timm's "increasing" operations, `rand-m9-mstd0.5-inc1` of timm 0.3.2: a few
/// operations, drawn with replacement from fifteen, each applied with a probability and a random magnitude.
public struct RandAugment: Codable, Equatable, Sendable {
    /// Operations drawn for a sample.
    public var operations: Int
    /// Mean of the magnitude, which is cut off at 0 and 10.
    public var magnitude: Double
    /// Standard deviation of the magnitude.
    public var deviation: Double
    /// Probability that a drawn operation is applied.
    public var probability: Double

    public init(operations: Int = 2, magnitude: Double = 9, deviation: Double = 0.5, probability: Double = 0.5) {
        precondition(operations >= 0 && deviation >= 0 && probability >= 0 && probability <= 1)
        self.operations = operations
        self.magnitude = magnitude
        self.deviation = deviation
        self.probability = probability
    }

    /// The operations, by timm's names and in timm's order.
    public enum Operation: String, CaseIterable, Sendable {
        /// Stretches each channel's range to 0 to 255.
        case autoContrast = "AutoContrast"
        /// Makes each channel's histogram flat.
        case equalize = "Equalize"
        /// Subtracts each byte from 255.
        case invert = "Invert"
        /// Rotates by up to 30 degrees around the centre.
        case rotate = "Rotate"
        /// Keeps the highest 4 to 0 bits of each byte.
        case posterize = "PosterizeIncreasing"
        /// Inverts the bytes from a threshold on, which falls from 256 to 0.
        case solarize = "SolarizeIncreasing"
        /// Adds up to 110 to the bytes below 128.
        case solarizeAdd = "SolarizeAdd"
        /// Moves from or to the grey picture: factor 0.1 to 1.9.
        case color = "ColorIncreasing"
        /// Moves from or to the mean grey: factor 0.1 to 1.9.
        case contrast = "ContrastIncreasing"
        /// Moves from or to black: factor 0.1 to 1.9.
        case brightness = "BrightnessIncreasing"
        /// Moves from or to the smoothed picture: factor 0.1 to 1.9.
        case sharpness = "SharpnessIncreasing"
        /// Shifts row y by up to 0.3·y pixels.
        case shearX = "ShearX"
        /// Shifts column x by up to 0.3·x pixels.
        case shearY = "ShearY"
        /// Shifts by up to 0.45 of the width.
        case translateX = "TranslateXRel"
        /// Shifts by up to 0.45 of the height.
        case translateY = "TranslateYRel"
    }

    /// An operation to apply.
    public struct Change: Equatable, Sendable {
        public let operation: Operation
        /// How strong, 0 to 10.
        public let magnitude: Double
        /// The direction, for the operations that have two.
        public let isNegative: Bool

        public init(_ operation: Operation, magnitude: Double, isNegative: Bool = false) {
            precondition(magnitude >= 0 && magnitude <= 10)
            self.operation = operation
            self.magnitude = magnitude
            self.isNegative = isNegative
        }
    }

    /// The operations to apply to a sample, in their order, drawn for (`seed`, `epoch`, `index`).
    public func changes(seed: UInt64, epoch: Int, index: Int) -> [Change] {
        var draw = CounterRandom(seed: seed, purpose: .randAugment, epoch: epoch, index: index)
        var changes: [Change] = []
        for _ in 0..<operations {
            // All numbers are drawn whether they are used or not, so that a probability changes no other draw.
            let operation = Operation.allCases[draw.below(Operation.allCases.count)]
            let isApplied = draw.uniform(0, 1) < probability
            let magnitude = min(max(self.magnitude + deviation * draw.normal(), 0), 10)
            let isNegative = draw.uniform(0, 1) >= 0.5
            if isApplied { changes.append(Change(operation, magnitude: magnitude, isNegative: isNegative)) }
        }
        return changes
    }
}

extension Pixels {
    /// The picture after `change`, bit for bit as timm 0.3.2 and Pillow make it.
    ///
    /// `fill`[channels] is the colour of pixels that a geometric operation moves in from outside the picture.
    public func changed(by change: RandAugment.Change, fill: [UInt8]) -> Pixels {
        precondition(fill.count == channels)
        var result = self, scratch: [UInt8] = []
        result.withView { $0.apply(change, fill: fill, &scratch) }
        return result
    }
}

extension PixelView {
    /// Applies `change` in place; `scratch` is grown to the size it needs.
    func apply(_ change: RandAugment.Change, fill: [UInt8], _ scratch: inout [UInt8]) {
        // timm's arithmetic, in its order: the last bit of an argument can decide a byte.
        let level = change.magnitude / 10, sign: Double = change.isNegative ? -1 : 1
        let enhancement = Float(1 + sign * (level * 0.9))
        switch change.operation {
        case .autoContrast: stretchContrast()
        case .equalize: equalize()
        case .invert: mapBytes { 255 - $0 }
        case .rotate: rotate(degrees: sign * (level * 30), fill, &scratch)
        case .posterize: posterize(bits: 4 - Int(level * 4))
        case .solarize: solarize(threshold: 256 - Int(level * 256))
        case .solarizeAdd: solarize(adding: Int(level * 110))
        case .color: adjustColor(enhancement)
        case .contrast: adjustContrast(enhancement)
        case .brightness: adjustBrightness(enhancement)
        case .sharpness: adjustSharpness(enhancement, &scratch)
        case .shearX: transform(AffineMap(b: sign * (level * 0.3)), fill, &scratch)
        case .shearY: transform(AffineMap(d: sign * (level * 0.3)), fill, &scratch)
        case .translateX: transform(AffineMap(c: sign * (level * 0.45) * Double(width)), fill, &scratch)
        case .translateY: transform(AffineMap(f: sign * (level * 0.45) * Double(height)), fill, &scratch)
        }
    }
}
