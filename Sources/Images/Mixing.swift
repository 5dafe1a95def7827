import Tensors

/// Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) of the samples of a batch, as timm applies them to a batch:
/// one λ and one box for all samples, each of which is mixed with its partner in the reversed batch.
///
/// Where both are on, each is taken with probability ½. λ is drawn from Beta(α, α).
public struct Mixing: Codable, Equatable, Sendable {
    /// α of mixup; 0 switches it off.
    public var mixupAlpha: Double
    /// α of CutMix; 0 switches it off.
    public var cutmixAlpha: Double

    /// At least one α must be above 0; none may be below.
    public init(mixupAlpha: Double = 0.8, cutmixAlpha: Double = 1) {
        precondition(mixupAlpha >= 0 && cutmixAlpha >= 0 && mixupAlpha + cutmixAlpha > 0)
        self.mixupAlpha = mixupAlpha
        self.cutmixAlpha = cutmixAlpha
    }

    /// How the batch that starts at position `firstSample` of the stream is mixed, drawn for (`seed`, `firstSample`).
    /// `width` and `height` are a sample's, in pixels.
    public func mixture(seed: UInt64, firstSample: Int, width: Int, height: Int) -> Mixture {
        var draw = CounterRandom(seed: seed, purpose: .mixing, index: firstSample)
        let coin = draw.uniform(0, 1)
        guard cutmixAlpha > 0, mixupAlpha == 0 || coin < 0.5 else {
            return Mixture(lambda: Float(draw.beta(mixupAlpha)))
        }
        let ratio = (1 - draw.beta(cutmixAlpha)).squareRoot()
        let y = draw.below(height), x = draw.below(width)
        return Mixture(ratio: ratio, centre: (x, y), width: width, height: height)
    }
}

/// How the samples of a batch were mixed: sample r with its partner, sample B-1-r of B. The target of row r is
/// λ · its own + (1 - λ) · its partner's.
public struct Mixture: Equatable, Sendable {
    /// λ, the weight of a sample's own target: 0 to 1.
    public let lambda: Float
    /// CutMix: the part of the picture that shows the partner, which may be empty. Mixup: nil, every value is
    /// λ · its own + (1 - λ) · the partner's.
    public let box: Rectangle?

    /// Mixup with weight `lambda`.
    public init(lambda: Float) {
        self.lambda = lambda
        box = nil
    }

    /// CutMix with a box of `ratio` times the sides of the picture around the pixel `centre`, cut off at the picture's
    /// edges. λ is the fraction of the picture outside the box.
    ///
    /// As in timm, the box has an even number of pixels along a side that is not cut off.
    public init(ratio: Double, centre: (x: Int, y: Int), width: Int, height: Int) {
        let halfWidth = Int(Double(width) * ratio) / 2, halfHeight = Int(Double(height) * ratio) / 2
        let left = max(centre.x - halfWidth, 0), right = min(centre.x + halfWidth, width)
        let top = max(centre.y - halfHeight, 0), bottom = min(centre.y + halfHeight, height)
        box = Rectangle(left: left, top: top, width: right - left, height: bottom - top)
        lambda = Float(1 - Double((bottom - top) * (right - left)) / Double(width * height))
    }

    /// Mixes the first `count` rows of `samples`[≥ count, channels·height·width] in place.
    public func apply(to samples: Tensor, count: Int, width: Int, height: Int) {
        precondition(count <= samples.rows && samples.columns % (width * height) == 0)
        for row in 0..<count / 2 {
            let first = samples.pointer + row * samples.stride
            let second = samples.pointer + (count - 1 - row) * samples.stride
            if let box {
                exchange(first, second, box, planes: samples.columns / (width * height), width: width, height: height)
            } else {
                blend(first, second, samples.columns)
            }
        }
    }

    private func blend(_ first: UnsafeMutablePointer<Float>, _ second: UnsafeMutablePointer<Float>, _ count: Int) {
        let own = lambda, other = 1 - lambda
        for i in 0..<count {
            let (a, b) = (first[i], second[i])
            first[i] = a * own + b * other
            second[i] = b * own + a * other
        }
    }

    private func exchange(
        _ first: UnsafeMutablePointer<Float>, _ second: UnsafeMutablePointer<Float>, _ box: Rectangle, planes: Int,
        width: Int, height: Int
    ) {
        for plane in 0..<planes {
            for y in box.top..<box.top + box.height {
                let start = (plane * height + y) * width + box.left
                for i in start..<start + box.width { swap(&first[i], &second[i]) }
            }
        }
    }
}
