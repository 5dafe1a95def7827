import Foundation
import Tensors
import TestSupport
import Weights
import XCTest

/// Conversion of stored numbers to floats.
final class ConversionTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// All 65,536 bit patterns, after one byte that makes them unaligned.
    private func everyPattern(_ type: String) throws -> [Float] {
        let header =
            #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"#
            + #""x":{"dtype":"\#(type)","shape":[65536],"data_offsets":[1,131073]}}"#
        var bytes = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian, Array.init) + Array(header.utf8) + [0]
        for pattern in UInt16.min ... .max { withUnsafeBytes(of: pattern.littleEndian) { bytes += $0 } }
        return try SafeTensorsFile(path: folder.write(bytes, "\(type).safetensors")).floats("x")
    }

    /// The value of a sign, an exponent of `exponentBits` and a fraction, by the definition of IEEE 754, as a double.
    private func check(_ floats: [Float], exponentBits: Int) {
        let fractionBits = 15 - exponentBits
        let bias = 1 << (exponentBits - 1) - 1
        for (pattern, float) in floats.enumerated() {
            let fraction = pattern & (1 << fractionBits - 1)
            let exponent = pattern >> fractionBits & (1 << exponentBits - 1)
            let isNegative = pattern >> 15 == 1
            XCTAssertEqual(float.sign, isNegative ? .minus : .plus, "pattern \(pattern)")
            if exponent == 1 << exponentBits - 1 {
                if fraction == 0 {
                    XCTAssertTrue(float.isInfinite, "pattern \(pattern)")
                } else {
                    XCTAssertTrue(float.isNaN, "pattern \(pattern)")
                    XCTAssertEqual(
                        Int(float.bitPattern & 0x7F_FFFF), fraction << (23 - fractionBits), "pattern \(pattern)")
                }
                continue
            }
            let mantissa = Double(fraction) / Double(1 << fractionBits) + (exponent == 0 ? 0 : 1)
            let value = mantissa * pow(2, Double(max(exponent, 1) - bias))
            XCTAssertEqual(Double(float), isNegative ? -value : value, "pattern \(pattern)")
        }
    }

    func testEveryHalf() throws {
        let floats = try everyPattern("F16")
        check(floats, exponentBits: 5)
        XCTAssertEqual(floats[1], 0x1p-24)
        XCTAssertEqual(floats[0x3C01], 1 + 0x1p-10)
        XCTAssertEqual(floats[0x7BFF], 65504)
    }

    func testEveryBrainFloat() throws {
        let floats = try everyPattern("BF16")
        check(floats, exponentBits: 8)
        XCTAssertEqual(floats[1], 0x1p-133)
        XCTAssertEqual(floats[0xBF81], -(1 + 0x1p-7))
    }

    /// A file with one tensor, x.
    private func file<Stored>(_ type: TensorType, _ values: [Stored], _ name: String = "values") throws
        -> SafeTensorsFile
    {
        let path = folder.file("\(name).safetensors")
        try values.withUnsafeBytes { bytes in
            var writer = SafeTensorsWriter()
            writer.add("x", type: type, shape: [values.count], bytes: bytes)
            try writer.write(to: path)
        }
        return try SafeTensorsFile(path: path)
    }

    private func floats<Stored>(_ type: TensorType, _ values: [Stored]) throws -> [Float] {
        try file(type, values).floats("x")
    }

    /// Exact if a float can represent the value, else rounded to nearest (ties to even).
    func testIntegersAndDoubles() throws {
        XCTAssertEqual(try floats(.i8, [Int8.min, -1, 0, .max]), [-128, -1, 0, 127])
        XCTAssertEqual(try floats(.u8, [UInt8(0), 255]), [0, 255])
        XCTAssertEqual(try floats(.i16, [Int16.min, .max]), [-32768, 32767])
        XCTAssertEqual(try floats(.u16, [UInt16(0), .max]), [0, 65535])
        XCTAssertEqual(try floats(.i32, [Int32.min, 16_777_217, 16_777_219, -5]), [-0x1p31, 0x1p24, 16_777_220, -5])
        XCTAssertEqual(try floats(.u32, [UInt32.max, 7]), [0x1p32, 7])
        XCTAssertEqual(try floats(.i64, [Int64.min, 1 << 40, -3]), [-0x1p63, 0x1p40, -3])
        XCTAssertEqual(try floats(.u64, [UInt64.max, 1]), [0x1p64, 1])
        XCTAssertEqual(try floats(.bool, [UInt8(0), 1]), [0, 1])
        XCTAssertEqual(
            try floats(.f64, [1 + 0x1p-24, 1 + 0x1p-24 + 0x1p-52, 1e39, -0.0, 0x1p-149, 0x1p-151]).map(\.bitPattern),
            [1, 1 + 0x1p-23, Float.infinity, -0.0, 0x1p-149, 0].map(\.bitPattern))
        XCTAssertTrue(try floats(.f64, [Double.nan])[0].isNaN)
    }

    /// Stored values are compared, not the floats nearest to them.
    func testComparison() throws {
        func difference<First, Second>(
            _ type: TensorType, _ first: [First], _ other: TensorType, _ second: [Second]
        ) throws -> WeightComparison.Difference? {
            let comparison = try WeightComparison(file(type, first, "first"), file(other, second, "second"))
            XCTAssertEqual(comparison.identical + comparison.differences.count, 1)
            return comparison.differences.first
        }
        let small = try XCTUnwrap(difference(.f64, [Double(1), 2, -0.0], .f64, [1 + 1e-9, Double(2), 0]))
        XCTAssertEqual(small.count, 1)
        XCTAssertEqual(small.maximum, 1e-9, accuracy: 1e-15)
        XCTAssertEqual(small.relative, 0.5e-9, accuracy: 1e-15)
        let power = Int64(1) << 40
        XCTAssertEqual(try difference(.i64, [power, -3], .i64, [power + 1, -3])?.maximum, 1)
        XCTAssertEqual(try difference(.i64, [Int64.max], .i64, [Int64.max - 1])?.maximum, 1)
        XCTAssertEqual(try difference(.i64, [Int64.min], .i64, [Int64.min + 1])?.maximum, 1)
        XCTAssertEqual(try difference(.u64, [UInt64.max], .u64, [UInt64.max - 1])?.maximum, 1)
        XCTAssertEqual(try difference(.i32, [Int32(16_777_217)], .i32, [Int32(16_777_216)])?.maximum, 1)
        XCTAssertEqual(try difference(.u32, [UInt32.max], .u32, [UInt32.max - 1])?.maximum, 1)
        // Tensors of two types.
        XCTAssertEqual(try difference(.i64, [Int64(1) << 53 + 1], .f64, [Double(0x1p53)])?.maximum, 1)
        XCTAssertEqual(try difference(.f64, [0.1], .f32, [Float(0.1)])?.count, 1)
        XCTAssertNil(try difference(.i64, [Int64(-5), 1 << 33], .f32, [Float(-5), 0x1p33]))
        XCTAssertNil(try difference(.u64, [UInt64(1), 0], .bool, [UInt8(1), 0]))
        XCTAssertNil(
            try difference(.f64, [0.5, Double.nan, -Double.infinity], .f32, [0.5, Float.nan, -Float.infinity]))
        XCTAssertEqual(try difference(.f64, [Double.nan, 1], .f64, [Double(1), 1])?.maximum, .infinity)
        // Types that floats can represent.
        XCTAssertEqual(try difference(.f32, [Float(1), 2], .f32, [1, Float(2.5)])?.maximum, 0.5)
        XCTAssertNil(try difference(.i16, [Int16(-7)], .f32, [Float(-7)]))
    }

    func testMatching() throws {
        let path = folder.file("matching.safetensors")
        try withBuffers([[1, 2, 3, 4], [5], [6]]) { buffers in
            var writer = SafeTensorsWriter()
            writer.add("norm.weight", shape: [2, 2], floats: buffers[0])
            writer.add("head.bias", shape: [1], floats: buffers[1])
            writer.add("extra", shape: [], floats: buffers[2])
            try writer.write(to: path)
        }
        let file = try SafeTensorsFile(path: path)
        let partial = TensorMatching(
            wanted: [("norm.bias", [2]), ("norm.weight", [4]), ("head.bias", [1]), ("cls_token", [1])], file: file)
        XCTAssertEqual(partial.missing, ["norm.bias", "cls_token"])
        XCTAssertEqual(partial.unexpected, ["extra"])
        XCTAssertEqual(partial.differences.map(\.name), ["norm.weight"])
        XCTAssertEqual(partial.differences.map(\.wanted), [[4]])
        XCTAssertEqual(partial.differences.map(\.found), [[2, 2]])
        XCTAssertFalse(partial.isComplete)
        XCTAssertTrue(TensorMatching(wanted: [("head.bias", [1])], file: file).isComplete)
    }
}
