import CKernels
import Foundation
import XCTest

final class AdamWTests: KernelTestCase {
    private let memory = (0..<4).map { _ in GuardedMemory(floats: 1 << 16) }

    /// Against the formula in double, over several steps, each step starting from the kernel's own numbers. Moments:
    /// three roundings of terms no larger than their bound. The weight: three of w, and eight (products, root,
    /// quotient) of the update.
    func testStepsAndCounts() {
        var random = Random("adamw")
        for count in Array(1...35) + [8191, 8192, 8193, 20_000] {
            let start = (0..<4).map { index in
                (0..<count).map { _ in index == 3 ? abs(random.float()) * 0.1 : random.float() }
            }
            forEachVariant(of: "adamw_f32") { variant in
                var bits: [[Float]]?
                for threads: Int32 in [1, 2, 3] {
                    dmae_set_threads(threads)
                    let g = memory[0].floats(count), w = memory[1].floats(count), m = memory[2].floats(count),
                        v = memory[3].floats(count)
                    for (index, pointer) in [g, w, m, v].enumerated() {
                        pointer.update(from: start[index], count: count)
                    }
                    for step: UInt64 in [1, 2, 1000] {
                        let s = dmae_adamw_f32_settings(
                            learning_rate: 1.5e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.05,
                            gradient_scale: 0.37,
                            step: step)
                        let before = [array(w, count), array(m, count), array(v, count)]
                        withUnsafePointer(to: s) { dmae_adamw_f32(count, $0, g, w, m, v) }
                        let (b1, b2, lr) = (Double(s.beta1), Double(s.beta2), Double(s.learning_rate))
                        for i in 0..<count {
                            let gradient = Double(g[i]) * Double(s.gradient_scale)
                            let m1 = b1 * Double(before[1][i]) + (1 - b1) * gradient
                            let v1 = b2 * Double(before[2][i]) + (1 - b2) * gradient * gradient
                            let kept = Double(before[0][i]) * (1 - lr * Double(s.weight_decay))
                            let root = v1.squareRoot() / (1 - pow(b2, Double(step))).squareRoot() + Double(s.epsilon)
                            let change = lr / (1 - pow(b1, Double(step))) * m1 / root
                            // m's absolute error divided by the root is part of the update's.
                            let mError = 4 * u * (b1 * abs(Double(before[1][i])) + (1 - b1) * abs(gradient))
                            let wBound =
                                3 * u * abs(kept) + 10 * u * abs(change) + lr / (1 - pow(b1, Double(step))) * mError
                                / root
                            let place = "\(variant.name) count \(count) step \(step) [\(i)]"
                            if !(abs(Double(m[i]) - m1) <= mError) { return XCTFail("\(place): m \(m[i]), not \(m1)") }
                            if !(abs(Double(v[i]) - v1) <= 6 * u * v1) {
                                return XCTFail("\(place): v \(v[i]), not \(v1)")
                            }
                            if !(abs(Double(w[i]) - (kept - change)) <= wBound) {
                                return XCTFail("\(place): w \(w[i]), not \(kept - change)")
                            }
                        }
                    }
                    let now = [array(w, count), array(m, count), array(v, count)]
                    XCTAssertTrue(bits == nil || bits! == now, "\(variant.name): other bits with \(threads) threads")
                    bits = now
                }
            }
        }
    }

    /// No gradient ever: the weight decays, and 0/(√0 + epsilon) is 0.
    func testZeroGradient() {
        forEachVariant(of: "adamw_f32") { variant in
            var w: [Float] = [2, -3], m: [Float] = [0, 0], v: [Float] = [0, 0]
            var s = dmae_adamw_f32_settings(
                learning_rate: 0.5, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.5, gradient_scale: 1,
                step: 1)
            dmae_adamw_f32(2, &s, [0, 0], &w, &m, &v)
            XCTAssertEqual(w, [1.5, -2.25], variant.name)
            XCTAssertEqual(m + v, [0, 0, 0, 0], variant.name)
        }
    }
}
