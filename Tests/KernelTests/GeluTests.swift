import CKernels
import Foundation
import XCTest

/// GELU and its derivative, as the epilogue of a matmul computes them. Forward: the value is a bias, beside a product
/// of depth zero. Backward: the product is 1·1, so that C is the derivative itself. Both are exact in every precision.
final class GeluTests: KernelTestCase {
    private let memory = (0..<5).map { _ in GuardedMemory(floats: 1 << 18) }
    private let workspaces = GuardedMemory(floats: 1 << 20)
    private let operations = [("gemm_f32", DMAE_PRECISION_F32), ("gemm_bf16", DMAE_PRECISION_BF16)]

    private func gelu(_ x: Double) -> Double { 0.5 * x * erfc(-x / 2.0.squareRoot()) }
    private func slope(_ x: Double) -> Double {
        0.5 * erfc(-x / 2.0.squareRoot()) + x * exp(-x * x / 2) / (2 * Double.pi).squareRoot()
    }

    private func run(_ arguments: inout dmae_gemm_arguments) {
        arguments.workspace = workspaces.workspace(
            bytes: dmae_gemm_workspace(arguments.precision, arguments.m, arguments.n, arguments.k, DMAE_TYPE_F32))
        dmae_gemm(&arguments)
    }

    /// y[n] = gelu(x[n]) for each of m rows; d[m, n] = gelu'(before[m, n]), recomputed[m, n] = gelu(before[m, n]).
    private func forward(
        _ precision: dmae_precision, m: Int, n: Int, x: UnsafePointer<Float>, y: UnsafeMutableRawPointer
    ) {
        var arguments = dmae_gemm_arguments()
        (arguments.precision, arguments.m, arguments.n, arguments.bias) = (precision, m, n, x)
        (arguments.activation, arguments.ldactivation) = (y, n)
        run(&arguments)
    }
    private func backward(
        _ precision: dmae_precision, m: Int, n: Int, before: UnsafePointer<Float>, d: UnsafeMutableRawPointer,
        recomputed: UnsafeMutableRawPointer
    ) {
        let ones = memory[4].floats(max(m, n))
        for i in 0..<max(m, n) { ones[i] = 1 }
        var arguments = dmae_gemm_arguments()
        (arguments.precision, arguments.m, arguments.n, arguments.k) = (precision, m, n, 1)
        (arguments.a, arguments.lda) = (UnsafeRawPointer(ones), 1)
        (arguments.b, arguments.ldb) = (UnsafeRawPointer(ones), n)
        (arguments.before_gelu, arguments.ldbefore) = (UnsafeRawPointer(before), n)
        (arguments.c, arguments.ldc, arguments.activation, arguments.ldactivation) = (d, n, recomputed, n)
        run(&arguments)
    }

    /// The contract: within 2 ulp of the rounded value or 1e-7. The derivative, in scalar: Φ to 1e-7 and x·φ, below
    /// 0.25 in magnitude, to a few ulp; in vectors: 5.8e-8 of the polynomial, and a few roundings of numbers below
    /// 1.13.
    private func check(_ x: Float, gelu y: Float, derivative d: Float, _ variant: Variant) -> Bool {
        if x.isNaN {
            XCTAssertTrue(y.isNaN && d.isNaN, "\(variant.name): NaN became \(y) and \(d)")
            return y.isNaN && d.isNaN
        }
        let exact = x == -.infinity ? 0 : gelu(Double(x)), rounded = Float(exact)
        let bound = x.isInfinite ? 0 : max(1e-7, 2 * Double(rounded.ulp))
        if y != rounded && !(abs(Double(y) - Double(rounded)) <= bound) {
            XCTFail("\(variant.name): gelu(\(x)) is \(y), not \(exact)")
            return false
        }
        let wanted = x.isInfinite ? x > 0 ? 1 : 0 : slope(Double(x))
        if !(abs(Double(d) - wanted) <= 4e-7) {
            XCTFail("\(variant.name): gelu'(\(x)) is \(d), not \(wanted)")
            return false
        }
        return true
    }

    func testSweep() {
        var values: [Float] = [
            0, -0.0, 1e-38, -1e-38, 1e-45, 50, -50, 1e30, -1e30, .greatestFiniteMagnitude, .infinity, -.infinity, .nan,
            Float(bitPattern: 0xffff_ffff),
        ]
        for i in 0...200_000 { values.append(-15 + 30 * Float(i) / 200_000) }
        for i in -20_000...20_000 { values.append(Float(i) * 1e-6) }
        let count = values.count
        let x = memory[0].floats(count), y = memory[1].floats(count), d = memory[2].floats(count),
            recomputed = memory[3].floats(count)
        x.update(from: values, count: count)
        for (operation, precision) in operations {
            forEachVariant(of: operation) { variant in
                forward(precision, m: 1, n: count, x: x, y: y)
                backward(precision, m: 1, n: count, before: x, d: d, recomputed: recomputed)
                for i in 0..<count {
                    guard check(values[i], gelu: y[i], derivative: d[i], variant) else { return }
                    if recomputed[i].bitPattern != y[i].bitPattern && !(recomputed[i].isNaN && y[i].isNaN) && y[i] != 0
                    {
                        return XCTFail("\(variant.name): the backward pass writes \(recomputed[i]), not \(y[i])")
                    }
                }
            }
        }
    }

    /// Every part of a tile.
    func testEveryWidth() {
        for (operation, precision) in operations {
            forEachVariant(of: operation) { variant in
                var random = Random("gelu widths")
                for m in [1, 2, 5, 13, 14, 31, 33] {
                    for n in 1...70 {
                        let count = m * n, before = memory[0].floats(count)
                        for i in 0..<count { before[i] = 6 * random.float() }
                        let d = memory[2].floats(count), recomputed = memory[3].floats(count)
                        backward(precision, m: m, n: n, before: before, d: d, recomputed: recomputed)
                        for i in 0..<count {
                            guard check(before[i], gelu: recomputed[i], derivative: d[i], variant) else { return }
                        }
                    }
                }
            }
        }
    }
}
