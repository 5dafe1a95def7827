extension FloatConversion {
    /// Types that `round` converts from and to.
    package static let floating: Set<TensorType> = [.f64, .f32, .f16, .bf16]

    /// Rounds elements of one floating-point type to another, to nearest, ties to even. NaNs and infinities are kept.
    ///
    /// - Parameters:
    ///   - source: little-endian elements of type `from`, at any alignment.
    ///   - target: memory for as many elements of type `to`.
    /// - Returns: false if a finite number became infinite.
    package static func round(
        _ source: UnsafeRawBufferPointer, _ from: TensorType, to: TensorType, into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        let count = source.count / from.size
        precondition(floating.contains(from) && floating.contains(to) && target.count == count * to.size)
        var overflows: UInt32 = 0
        func map(_ float: (Int) -> UInt32, _ exceeds: (Int) -> UInt32) {
            switch to {
            case .f32:
                for i in 0..<count {
                    overflows |= exceeds(i)
                    target.storeBytes(of: float(i).littleEndian, toByteOffset: 4 * i, as: UInt32.self)
                }
            case .f16:
                for i in 0..<count {
                    let bits = float(i)
                    overflows |= exceeds(i) | isFinite(bits, from: 0x477F_F000)
                    target.storeBytes(of: half(bits).littleEndian, toByteOffset: 2 * i, as: UInt16.self)
                }
            case .bf16:
                for i in 0..<count {
                    let bits = float(i)
                    overflows |= exceeds(i) | isFinite(bits, from: 0x7F7F_8000)
                    target.storeBytes(of: brain(bits).littleEndian, toByteOffset: 2 * i, as: UInt16.self)
                }
            default: preconditionFailure("nothing is rounded to \(to.rawValue)")
            }
        }
        func load<Stored: FixedWidthInteger>(_ i: Int, _: Stored.Type) -> Stored {
            Stored(littleEndian: source.loadUnaligned(fromByteOffset: i * MemoryLayout<Stored>.size, as: Stored.self))
        }
        switch from {
        case .f32: map({ load($0, UInt32.self) }, { _ in 0 })
        case .bf16: map({ UInt32(load($0, UInt16.self)) << 16 }, { _ in 0 })
        case .f16: map({ Weights.float(halfBits: load($0, UInt16.self)).bitPattern }, { _ in 0 })
        default:
            // To f32 in one rounding; to f16 and bf16 by way of a float that is rounded to odd, which avoids double
            // rounding.
            func double(_ i: Int) -> Double { Double(bitPattern: load(i, UInt64.self)) }
            map(
                { to == .f32 ? Float(double($0)).bitPattern : roundedToOdd(double($0)) },
                { double($0).isFinite && !Float(double($0)).isFinite ? 1 : 0 })
        }
        return overflows == 0
    }

    /// 1 if the magnitude of a float is at least `limit` and finite, else 0.
    @inline(__always)
    private static func isFinite(_ bits: UInt32, from limit: UInt32) -> UInt32 {
        let magnitude = bits & 0x7FFF_FFFF
        return magnitude >= limit && magnitude < 0x7F80_0000 ? 1 : 0
    }

    /// The bits of the IEEE half nearest to a float given by its bits.
    @inline(__always)
    static func half(_ bits: UInt32) -> UInt16 {
        let sign = UInt16(truncatingIfNeeded: bits >> 16) & 0x8000
        let magnitude = bits & 0x7FFF_FFFF
        // Floats between 0.5 and 1 have the spacing of subnormal halves, so adding 0.5 rounds to a subnormal half.
        let small = (Float(bitPattern: magnitude) + 0.5).bitPattern &- 0x3F00_0000
        let normal = (magnitude &- 112 << 23 &+ 0xFFF &+ (magnitude >> 13 & 1)) >> 13
        let nan = 0x7E00 | (magnitude >> 13 & 0x3FF)
        let finite = magnitude < 113 << 23 ? small : normal
        let large = magnitude >= 0x477F_F000 ? 0x7C00 : finite
        return sign | UInt16(truncatingIfNeeded: magnitude > 0x7F80_0000 ? nan : large)
    }

    /// The bits of the bfloat16 nearest to a float given by its bits.
    @inline(__always)
    static func brain(_ bits: UInt32) -> UInt16 {
        let rounded = (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16
        let nan = bits >> 16 | 0x40
        return UInt16(truncatingIfNeeded: bits & 0x7FFF_FFFF > 0x7F80_0000 ? nan : rounded)
    }

    /// The bits of a double rounded to odd as a float: truncated, with the last bit set if the result is not exact.
    /// Rounding the result to at most 22 significant bits gives the same as rounding the double.
    private static func roundedToOdd(_ value: Double) -> UInt32 {
        let nearest = Float(value)
        guard value.isFinite, nearest.isFinite, Double(nearest) != value else { return nearest.bitPattern }
        let bits = nearest.bitPattern
        return (Double(nearest).magnitude > value.magnitude ? bits - 1 : bits) | 1
    }
}
