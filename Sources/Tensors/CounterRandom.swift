#if canImport(Glibc)
    import Glibc
#endif

/// Counter-based random numbers (Philox 4×32-10, Salmon et al., SC 2011): a number depends on the purpose of its
/// stream, not on the time of drawing, so masks, crops and flips are the same for any number of threads and after any
/// resumption.
public struct CounterRandom: RandomNumberGenerator {
    /// The purpose of a stream. Runs are reproducible only if raw values never change.
    public enum Purpose: UInt32, Sendable {
        case weights = 1, order = 2, crop = 3, flip = 4, mask = 5, benchmark = 6, test = 7
        case randAugment = 8, erasing = 9, mixing = 10, dropPath = 11
    }

    private var counter: SIMD4<UInt32>
    private let key: SIMD2<UInt32>
    private var block = SIMD4<UInt32>()
    private var used = 4

    /// The stream for `purpose`, `epoch` and `index` (a sample, a parameter, a step) under `seed`. A stream has 2³²
    /// blocks of four 32-bit numbers.
    ///
    /// `epoch` keeps its low 24 bits and `index` its low 64 bits.
    public init(seed: UInt64, purpose: Purpose, epoch: Int = 0, index: Int = 0) {
        key = SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
        let index = UInt64(bitPattern: Int64(index))
        counter = SIMD4(
            0, purpose.rawValue << 24 | UInt32(truncatingIfNeeded: epoch) & 0xFF_FFFF,
            UInt32(truncatingIfNeeded: index), UInt32(truncatingIfNeeded: index >> 32))
    }

    /// The stream for `purpose` and a name, such as a tensor's. Its index is the name's 64-bit FNV-1a hash, so the
    /// stream does not depend on which other tensors exist.
    public init(seed: UInt64, purpose: Purpose, name: String) {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        self.init(seed: seed, purpose: purpose, index: Int(truncatingIfNeeded: hash))
    }

    /// One Philox 4×32-10 block.
    package static func philox(counter: SIMD4<UInt32>, key: SIMD2<UInt32>) -> SIMD4<UInt32> {
        var c = counter
        var k = key
        for _ in 0..<10 {
            let p0 = UInt64(0xD251_1F53) * UInt64(c[0])
            let p1 = UInt64(0xCD9E_8D57) * UInt64(c[2])
            c = SIMD4(
                UInt32(p1 >> 32) ^ c[1] ^ k[0], UInt32(truncatingIfNeeded: p1),
                UInt32(p0 >> 32) ^ c[3] ^ k[1], UInt32(truncatingIfNeeded: p0))
            k &+= SIMD2(0x9E37_79B9, 0xBB67_AE85)
        }
        return c
    }

    /// Skips `blocks` blocks; must be called at a block boundary. A block is four numbers of `uniform()` or two of
    /// `next()`.
    public mutating func skip(blocks: Int) {
        precondition(used == 4, "a block was begun")
        counter[0] &+= UInt32(truncatingIfNeeded: blocks)
    }

    private mutating func next32() -> UInt32 {
        if used == 4 {
            block = Self.philox(counter: counter, key: key)
            counter[0] &+= 1
            used = 0
        }
        defer { used += 1 }
        return block[used]
    }

    /// The next 64 random bits.
    public mutating func next() -> UInt64 {
        let low = UInt64(next32())
        return UInt64(next32()) << 32 | low
    }

    /// Uniform in [0, 1) on the grid of 2⁻²⁴.
    public mutating func uniform() -> Float {
        Float(next32() >> 8) * 0x1p-24
    }

    /// Uniform in [low, high), on 53 bits.
    public mutating func uniform(_ low: Double, _ high: Double) -> Double {
        low + (high - low) * (Double(next() >> 11) * 0x1p-53)
    }

    /// Uniform in 0..<bound without bias (Lemire's multiply-and-reject). `bound` > 0.
    public mutating func below(_ bound: Int) -> Int {
        precondition(bound > 0, "no number is below \(bound)")
        // Not from Swift's library: its algorithm may change from version to version, and with it the order of a
        // resumed run.
        let bound = UInt64(bound)
        var product = next().multipliedFullWidth(by: bound)
        if product.low < bound {
            let rejected = (0 &- bound) % bound
            while product.low < rejected { product = next().multipliedFullWidth(by: bound) }
        }
        return Int(product.high)
    }

    /// Normal with mean 0 and standard deviation 1 (Box–Muller).
    public mutating func normal() -> Double {
        let radius = (-2 * log(1 - uniform(0, 1))).squareRoot()
        return radius * cos(2 * Double.pi * uniform(0, 1))
    }

    /// Two independent normal numbers with mean 0 and standard deviation 1 (both of Box–Muller's).
    public mutating func normalPair() -> (Double, Double) {
        let radius = (-2 * log(1 - uniform(0, 1))).squareRoot(), angle = 2 * Double.pi * uniform(0, 1)
        return (radius * cos(angle), radius * sin(angle))
    }

    /// Beta(`alpha`, `alpha`), in [0, 1]: X / (X + Y) of two gamma numbers of shape `alpha`. `alpha` > 0.
    public mutating func beta(_ alpha: Double) -> Double {
        precondition(alpha > 0, "a beta distribution's parameter is above 0")
        let x = logarithmOfGamma(alpha), y = logarithmOfGamma(alpha)
        return 1 / (1 + exp(y - x))
    }

    /// The logarithm of a gamma number of shape `alpha` and scale 1 (Marsaglia and Tsang, ACM TOMS 26, 2000). Gamma
    /// numbers of a small shape underflow; their logarithms do not.
    private mutating func logarithmOfGamma(_ alpha: Double) -> Double {
        // The method needs a shape of at least 1. Gamma(alpha) = Gamma(alpha + 1) · uniform^(1 / alpha).
        let boost = log(1 - uniform(0, 1)) / alpha
        let d = alpha + 1 - 1.0 / 3, c = 1 / (9 * d).squareRoot()
        while true {
            let x = normal(), root = 1 + c * x
            guard root > 0 else { continue }
            let v = root * root * root
            if log(1 - uniform(0, 1)) < 0.5 * x * x + d - d * v + d * log(v) { return log(d * v) + boost }
        }
    }

    /// The numbers 0..<count in an order that depends on the stream alone (Fisher–Yates).
    public mutating func permutation(_ count: Int) -> [Int] {
        var order = Array(0..<count)
        for last in stride(from: count - 1, to: 0, by: -1) { order.swapAt(last, below(last + 1)) }
        return order
    }
}
