import CKernels
import Foundation
import XCTest

final class ReductionTests: KernelTestCase {
    private let memory = (0..<2).map { _ in GuardedMemory(floats: 1 << 21) }
    private let workspaces = GuardedMemory(floats: 1 << 18)

    /// A sum of `rows` + 1 numbers below 1 is off by at most rows·u times the sum of their magnitudes.
    func testColumnSum() {
        var random = Random("column sum")
        let shapes = (1...70).map { ([1, 3, 32, 33, 65][$0 % 5], $0) } + [(0, 5), (1000, 48), (200, 129), (70, 1000)]
        for (rows, n) in shapes {
            let ld = n + Int(random.next() % 3)
            let type = n % 2 == 0 ? DMAE_TYPE_BF16 : DMAE_TYPE_F32
            let count = rows == 0 ? 0 : (rows - 1) * ld + n
            let values = array(memory[0].matrix(rows: rows, width: n, ld: ld, &random), count)
            let stored = memory[0].store(values, type), x = read(stored, count, type)
            forEachVariant(of: "reduction_f32") { variant in
                var bits: [Float]?
                for threads: Int32 in [1, 2, 3] {
                    dmae_set_threads(threads)
                    let sum = memory[1].floats(n)
                    sum.update(repeating: 0.5, count: n)
                    dmae_column_sum_f32(
                        rows, n, type, stored, ld, sum,
                        workspaces.workspace(bytes: dmae_layernorm_f32_backward_workspace(rows, n)))
                    for j in 0..<n {
                        var wanted = 0.5, magnitude = 0.5
                        for i in 0..<rows { wanted += Double(x[i * ld + j]); magnitude += abs(Double(x[i * ld + j])) }
                        if !(abs(Double(sum[j]) - wanted) <= Double(rows + 1) * u * magnitude) {
                            return XCTFail("\(variant.name) rows \(rows) n \(n): sum[\(j)] \(sum[j]), not \(wanted)")
                        }
                    }
                    let now = array(sum, n)
                    XCTAssertTrue(bits == nil || bits! == now, "\(variant.name): other bits with \(threads) threads")
                    bits = now
                }
            }
        }
    }

    /// Products of two floats are exact in double; `count` additions of positive numbers are off by count·2⁻⁵³ of the
    /// sum.
    func testSumOfSquares() {
        var random = Random("sum of squares")
        for count in Array(0...70) + [8191, 8192, 8193, 100_001, 1_500_000] {
            let x = memory[0].floats(count)
            for i in 0..<count { x[i] = random.float() }
            let wanted = (0..<count).reduce(0.0) { $0 + Double(x[$1]) * Double(x[$1]) }
            forEachVariant(of: "reduction_f32") { variant in
                var bits: Double?
                for threads: Int32 in [1, 2, 3] {
                    dmae_set_threads(threads)
                    let sum = dmae_sum_of_squares_f32(count, x)
                    XCTAssertEqual(
                        sum, wanted, accuracy: 2 * Double(count) * 0x1p-53 * wanted, "\(variant.name) count \(count)")
                    XCTAssertTrue(bits == nil || bits! == sum, "\(variant.name): other bits with \(threads) threads")
                    bits = sum
                }
            }
        }
    }
}
