import Glibc

/// A filter that pictures are resized with, by the name it has in Pillow and timm.
public enum Interpolation: String, CaseIterable, Codable, Sendable {
    case bicubic, bilinear, box, hamming, lanczos

    /// Half of the filter's width, in pixels, where nothing is reduced.
    var support: Double {
        switch self {
        case .bicubic: 2
        case .bilinear, .hamming: 1
        case .box: 0.5
        case .lanczos: 3
        }
    }

    /// The filter's value at `distance` from its centre, in pixels of the smaller picture: Pillow's formulas.
    @inline(__always)
    func weight(_ distance: Double) -> Double {
        let x = abs(distance)
        switch self {
        case .bicubic:
            let a = -0.5
            if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
            if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
            return 0
        case .bilinear:
            return x < 1 ? 1 - x : 0
        case .box:
            return distance > -0.5 && distance <= 0.5 ? 1 : 0
        case .hamming:
            guard x < 1 else { return 0 }
            // Pillow's two constants are float32.
            return x == 0 ? 1 : Self.sinc(x) * (Double(Float(0.54)) + Double(Float(0.46)) * cos(x * Double.pi))
        case .lanczos:
            return distance >= -3 && distance < 3 ? Self.sinc(distance) * Self.sinc(distance / 3) : 0
        }
    }

    private static func sinc(_ x: Double) -> Double {
        guard x != 0 else { return 1 }
        return sin(x * Double.pi) / (x * Double.pi)
    }
}
