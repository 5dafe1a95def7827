import Glibc
import Tensors

/// Random erasing (arXiv 1708.04896) of normalised samples, as timm's RandomErasing in its mode "pixel": a rectangle of
/// 2 % to ⅓ of the picture and aspect 0.3 to 1 / 0.3, at a random place, becomes normal noise.
public struct RandomErasing: Codable, Equatable, Sendable {
    /// Fraction of the samples that a rectangle is drawn for.
    public var probability: Double

    public init(probability: Double = 0.25) {
        precondition(probability >= 0 && probability <= 1)
        self.probability = probability
    }

    /// The rectangle to erase in a sample of `width` × `height` pixels, with random numbers from `draw`; nil for none.
    ///
    /// Up to ten tries, until a rectangle is narrower and lower than the picture. One of a very small picture may be
    /// empty.
    public func rectangle(width: Int, height: Int, using draw: inout CounterRandom) -> Rectangle? {
        guard draw.uniform(0, 1) < probability else { return nil }
        let limit = log(0.3)
        for _ in 0..<10 {
            let area = draw.uniform(0.02, 1.0 / 3) * Double(width * height)
            let aspect = exp(draw.uniform(limit, -limit))
            // Python rounds halves to even.
            let cutHeight = Int((area * aspect).squareRoot().rounded(.toNearestOrEven))
            let cutWidth = Int((area / aspect).squareRoot().rounded(.toNearestOrEven))
            if cutWidth < width && cutHeight < height {
                let top = draw.below(height - cutHeight + 1)
                let left = draw.below(width - cutWidth + 1)
                return Rectangle(left: left, top: top, width: cutWidth, height: cutHeight)
            }
        }
        return nil
    }

    /// Erases a rectangle of `values`[channels, height, width], drawn for (`seed`, `epoch`, `index`). Each channel of
    /// each pixel becomes a normal number of its own, mean 0 and standard deviation 1.
    func apply(
        to values: UnsafeMutablePointer<Float>, width: Int, height: Int, channels: Int, seed: UInt64, epoch: Int,
        index: Int
    ) {
        var draw = CounterRandom(seed: seed, purpose: .erasing, epoch: epoch, index: index)
        guard let rectangle = rectangle(width: width, height: height, using: &draw) else { return }
        for channel in 0..<channels {
            for y in rectangle.top..<rectangle.top + rectangle.height {
                let row = values + (channel * height + y) * width + rectangle.left
                var x = 0
                while x < rectangle.width {
                    let pair = draw.normalPair()
                    row[x] = Float(pair.0)
                    if x + 1 < rectangle.width { row[x + 1] = Float(pair.1) }
                    x += 2
                }
            }
        }
    }
}
