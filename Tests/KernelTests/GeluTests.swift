import CKernels
import Foundation
import XCTest

final class GeluTests: KernelTestCase {
    private let memory = (0..<4).map { _ in GuardedMemory(floats: 1 << 18) }

    private func gelu(_ x: Double) -> Double { 0.5 * x * erfc(-x / 2.0.squareRoot()) }
    private func slope(_ x: Double) -> Double {
        0.5 * erfc(-x / 2.0.squareRoot()) + x * exp(-x * x / 2) / (2 * Double.pi).squareRoot()
    }

    /// The contract: within 2 ulp of the rounded value or 1e-7. The derivative, in scalar: Φ to 1e-7 and x·φ, below
    /// 0.25 in magnitude, to a few ulp; in vectors: 5.8e-8 of the polynomial, and a few roundings of numbers below
    /// 1.13.
    func testSweep() {
        var values: [Float] = [
            0, -0.0, 1e-38, -1e-38, 1e-45, 50, -50, 1e30, -1e30, .greatestFiniteMagnitude, .infinity, -.infinity,
        ]
        for i in 0...200_000 { values.append(-15 + 30 * Float(i) / 200_000) }
        for i in -20_000...20_000 { values.append(Float(i) * 1e-6) }
        let count = values.count
        let x = memory[0].floats(count), y = memory[1].floats(count), d = memory[2].floats(count),
            again = memory[3].floats(count)
        forEachVariant(of: "gelu_f32") { variant in
            x.update(from: values, count: count)
            dmae_gelu_f32_forward(count, x, y)
            d.update(repeating: 1, count: count)
            dmae_gelu_f32_backward(count, x, d, d, again)
            for i in 0..<count {
                let exact = values[i] == -.infinity ? 0 : gelu(Double(values[i])), rounded = Float(exact)
                let bound = values[i].isInfinite ? 0 : max(1e-7, 2 * Double(rounded.ulp))
                if y[i] != rounded && !(abs(Double(y[i]) - Double(rounded)) <= bound) {
                    return XCTFail("\(variant.name): gelu(\(values[i])) is \(y[i]), not \(exact)")
                }
                let wanted = values[i].isInfinite ? values[i] > 0 ? 1 : 0 : slope(Double(values[i]))
                if !(abs(Double(d[i]) - wanted) <= 4e-7) {
                    return XCTFail("\(variant.name): gelu'(\(values[i])) is \(d[i]), not \(wanted)")
                }
                if again[i] != y[i] {
                    return XCTFail("\(variant.name): the backward pass writes \(again[i]), not \(y[i])")
                }
            }
            dmae_gelu_f32_forward(count, x, x)
            for i in 0..<count where x[i] != y[i] { return XCTFail("\(variant.name): differs in place") }
        }
    }

    func testNotANumber() {
        forEachVariant(of: "gelu_f32") { variant in
            var x = [Float](repeating: 1, count: 37), d = x, y = x
            x[5] = .nan
            x[36] = .nan
            dmae_gelu_f32_forward(37, x, &y)
            dmae_gelu_f32_backward(37, x, d, &d, nil)
            for i in 0..<37 {
                XCTAssertEqual(y[i].isNaN, i == 5 || i == 36, variant.name)
                XCTAssertEqual(d[i].isNaN, i == 5 || i == 36, variant.name)
            }
        }
    }

    func testEveryCountAndThreads() {
        var random = Random("gelu counts")
        for count in Array(0...40) + [4095, 4096, 4097, 50_000] {
            let x = memory[0].matrix(rows: 1, width: max(1, count), ld: max(1, count), &random)
            forEachVariant(of: "gelu_f32") { variant in
                var first: [Float]?
                for threads: Int32 in [1, 2, 3] {
                    dmae_set_threads(threads)
                    let y = memory[1].floats(count), d = memory[2].floats(count)
                    dmae_gelu_f32_forward(count, x, y)
                    for i in 0..<count where !(abs(Double(y[i]) - gelu(Double(x[i]))) <= 1.5e-7) {
                        return XCTFail("\(variant.name) count \(count): \(y[i]) at \(i)")
                    }
                    d.update(from: x, count: count)
                    dmae_gelu_f32_backward(count, x, d, d, nil)
                    for i in 0..<count where !(abs(Double(d[i]) - Double(x[i]) * slope(Double(x[i]))) <= 4e-7) {
                        return XCTFail("\(variant.name) count \(count): derivative \(d[i]) at \(i)")
                    }
                    let bits = array(y, count) + array(d, count)
                    XCTAssertTrue(first == nil || first! == bits, "\(variant.name): other bits with \(threads) threads")
                    first = bits
                }
            }
        }
    }
}
