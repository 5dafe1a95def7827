import Tensors
import TestSupport
import Weights
import XCTest

/// Rounding of stored numbers to narrower types: to nearest, ties to even.
final class RoundingTests: XCTestCase {
    private func round<From, To: FixedWidthInteger>(
        _ values: [From], _ from: TensorType, _ to: TensorType, as: To.Type
    ) -> (bits: [To], fits: Bool) {
        var result = [To](repeating: 0, count: values.count)
        let fits = values.withUnsafeBytes { source in
            result.withUnsafeMutableBytes { FloatConversion.round(source, from, to: to, into: $0) }
        }
        return (result, fits)
    }

    /// The value of a half, from the definition of the format.
    private func value(half bits: UInt16) -> Float {
        let exponent = Int(bits >> 10 & 0x1F), fraction = Float(bits & 0x3FF)
        let magnitude =
            exponent == 0
            ? fraction * 0x1p-24 : (1024 + fraction) * Float(sign: .plus, exponent: exponent - 25, significand: 1)
        return bits & 0x8000 == 0 ? magnitude : -magnitude
    }

    /// Every finite half is kept, a midpoint of two halves is rounded to the even one, and its neighbouring floats to
    /// the nearer one.
    func testHalves() {
        for sign in [UInt16(0), 0x8000] {
            for magnitude in UInt16(0)..<0x7BFF {
                let (low, high) = (magnitude | sign, magnitude + 1 | sign)
                let (a, b) = (value(half: low), value(half: high))
                let middle = (a + b) / 2
                let (under, over) = sign == 0 ? (middle.nextDown, middle.nextUp) : (middle.nextUp, middle.nextDown)
                let found = round([a, under, middle, over, b].map(\.bitPattern), .f32, .f16, as: UInt16.self)
                let even = magnitude & 1 == 0 ? low : high
                if found.bits != [low, low, even, high, high] || !found.fits { return XCTFail("at \(a): \(found)") }
            }
        }
    }

    /// The same for every finite bfloat16, which is the upper half of a float.
    func testBrainFloats() {
        for sign in [UInt32(0), 0x8000] {
            for magnitude in UInt32(0)..<0x7F7F {
                let low = magnitude | sign
                let bits = [low << 16, low << 16 | 0x7FFF, low << 16 | 0x8000, low << 16 | 0x8001, (low + 1) << 16]
                let found = round(bits, .f32, .bf16, as: UInt16.self)
                let (down, up) = (UInt16(low), UInt16(low + 1))
                if found.bits != [down, down, magnitude & 1 == 0 ? down : up, up, up] || !found.fits {
                    return XCTFail("\(magnitude): \(found)")
                }
            }
        }
    }

    func testLargeNumbers() {
        // 65504 is the largest finite half; 65520 is the midpoint to the next value of its spacing.
        XCTAssertTrue(
            round([Float(65504), 65519.996, -65519.996], .f32, .f16, as: UInt16.self) == (
                [0x7BFF, 0x7BFF, 0xFBFF], true
            ))
        for large in [Float(65520), -65520, 1e38] {
            XCTAssertFalse(round([1, large], .f32, .f16, as: UInt16.self).fits, "\(large)")
        }
        let most = Float(bitPattern: 0x7F7F_7FFF)
        XCTAssertTrue(round([most], .f32, .bf16, as: UInt16.self) == ([0x7F7F], true))
        XCTAssertFalse(round([most.nextUp], .f32, .bf16, as: UInt16.self).fits)
        XCTAssertFalse(round([1e39], .f64, .f32, as: UInt32.self).fits)
        XCTAssertFalse(round([1e39], .f64, .f16, as: UInt16.self).fits)
        XCTAssertTrue(round([Double(Float.greatestFiniteMagnitude)], .f64, .f32, as: UInt32.self).fits)
        // Infinities and NaNs are kept.
        let special: [Float] = [.infinity, -.infinity, .nan]
        let halves = round(special, .f32, .f16, as: UInt16.self), brains = round(special, .f32, .bf16, as: UInt16.self)
        XCTAssertTrue(halves.fits && brains.fits)
        XCTAssertEqual(halves.bits, [0x7C00, 0xFC00, 0x7E00])
        XCTAssertEqual(brains.bits, [0x7F80, 0xFF80, 0x7FC0])
        // A NaN whose nonzero fraction bits are all truncated.
        XCTAssertEqual(round([UInt32(0x7F80_0001)], .f32, .bf16, as: UInt16.self).bits, [0x7FC0])
        XCTAssertEqual(round([UInt32(0xFF80_0001)], .f32, .f16, as: UInt16.self).bits, [0xFE00])
    }

    /// A double just above a midpoint of two halves: rounded to a float first, it would be the midpoint and then be
    /// rounded down.
    func testDoublesAreRoundedOnce() {
        for (middle, up, down) in [(1 + 0x1p-11, UInt16(0x3C01), UInt16(0x3C00)), (-1 - 0x1p-11, 0xBC01, 0xBC00)] {
            let above = middle * (1 + 0x1p-40), below = middle * (1 - 0x1p-40)
            XCTAssertEqual(Float(above), Float(middle))
            XCTAssertEqual(round([above, middle, below], .f64, .f16, as: UInt16.self).bits, [up, down, down])
        }
        let middle = 1 + 0x1p-8
        XCTAssertEqual(round([middle * (1 + 0x1p-40), middle], .f64, .bf16, as: UInt16.self).bits, [0x3F81, 0x3F80])
        var random = CounterRandom(seed: testSeed(4), purpose: .test)
        for _ in 0..<2000 {
            let value = Double(bitPattern: random.next())
            guard value.isFinite, value.magnitude < 60000 else { continue }
            XCTAssertEqual(round([value], .f64, .f32, as: UInt32.self).bits, [Float(value).bitPattern])
        }
        XCTAssertEqual(round([5e-324, -5e-324], .f64, .f16, as: UInt16.self).bits, [0, 0x8000])
    }

    /// Wider types represent every value of narrower ones.
    func testWidening() {
        let halves = (0...UInt16.max).filter { $0 & 0x7FFF <= 0x7C00 }
        let widened = round(halves, .f16, .f32, as: UInt32.self)
        XCTAssertTrue(widened.fits)
        XCTAssertEqual(round(widened.bits, .f32, .f16, as: UInt16.self).bits, halves)
        let brains = (0...UInt16.max).filter { $0 & 0x7FFF <= 0x7F80 }
        XCTAssertEqual(round(brains, .bf16, .f32, as: UInt32.self).bits, brains.map { UInt32($0) << 16 })
    }
}
