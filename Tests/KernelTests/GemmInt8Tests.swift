import CKernels
import Foundation
import XCTest

/// The reference is the contract's own arithmetic: quantise in float32 as gemm/quantisation.h says, sum integers in 64
/// bits, then one float32 operation after another. Without GELU every variant must give these bits.
///
/// The reference itself is compared with the product of the unrounded values. With the scales sa of A's row and sb of
/// B's column, the error of a value is at most half a step, also where the rounded zero clamps the end of the range,
/// plus the roundings of scale, inverse and their product, each within u: |q·s - x| <= s/2 + 4·u·|x|. So the error of
/// an element is at most Σ (|a|·eb + |b|·ea + ea·eb), ea = sa/2 + 4u·|a|, eb likewise, plus its own four roundings.
final class GemmInt8Tests: KernelTestCase {
    private let memory = (0..<8).map { GuardedMemory(floats: $0 == 6 ? 1 << 21 : 1 << 19) }
    private let workspaces = GuardedMemory(floats: 1 << 24)

    private struct Quantised {
        var scale: Float
        var whole: [Int64]

        /// Weights have 127 steps on both sides of zero; activations have 255 in all, which include zero.
        init(_ row: [Float], weights: Bool) {
            guard row.allSatisfy(\.isFinite) else {
                (scale, whole) = (.nan, row.map { _ in 0 })
                return
            }
            let lowest = min(0, row.min() ?? 0), highest = max(0, row.max() ?? 0)
            scale = weights ? max(highest, -lowest) / 127 : highest / 255 - lowest / 255
            scale = max(scale, 0x1p-108)
            let inverse = 1 / scale, zero = weights ? 0 : Int64((-lowest * inverse).rounded(.toNearestOrEven))
            whole = row.map {
                let nearest = Int64(($0 * inverse).rounded(.toNearestOrEven))
                return weights ? min(127, max(-127, nearest)) : min(255 - zero, max(-zero, nearest))
            }
        }
    }

    private enum Epilogue: CaseIterable {
        case none, bias, residual, biasAndInPlace, gelu, biasAndGELU, geluAlone, factor
        var hasBias: Bool {
            self == .bias || self == .biasAndInPlace || self == .biasAndGELU || self == .geluAlone || self == .factor
        }
        var hasResidual: Bool { self == .residual || self == .biasAndInPlace || self == .factor }
        var hasActivation: Bool { self == .gelu || self == .biasAndGELU || self == .geluAlone }
        var keeps: Bool { self != .geluAlone }
    }

    private func variants() -> [Variant] {
        var found: [Variant] = []
        forEachVariant(of: "gemm_int8") { found.append($0) }
        return found
    }

    /// `change` alters A [m, k] and the weight [n, k] before anything is computed.
    private func check(
        _ variants: [Variant], m: Int, n: Int, k: Int, _ epilogue: Epilogue, threads: [Int32] = [2],
        _ random: inout Random,
        change: (inout [Float], inout [Float]) -> Void = { _, _ in }
    ) {
        func type() -> dmae_type { random.next() % 2 == 0 ? DMAE_TYPE_BF16 : DMAE_TYPE_F32 }
        func ld(_ width: Int) -> Int { max(1, width + Int(random.next() % 4)) }
        let (aType, bType, yType) = (type(), type(), type()),
            cType = epilogue == .biasAndInPlace ? DMAE_TYPE_F32 : type()
        let lda = ld(k), ldb = ld(k), ldc = ld(n), ldr = epilogue == .biasAndInPlace ? ldc : ld(n), ldy = ld(n)
        var a = (0..<m * k).map { _ in random.float() }, b = (0..<n * k).map { _ in random.float() }
        change(&a, &b)
        if aType == DMAE_TYPE_BF16 { a = a.map { $0.isFinite ? bf16($0) : $0 } }
        if bType == DMAE_TYPE_BF16 { b = b.map { $0.isFinite ? bf16($0) : $0 } }
        func spread(_ values: [Float], _ rows: Int, _ width: Int, _ ld: Int) -> [Float] {
            rows == 0 || width == 0
                ? []
                : (0..<(rows - 1) * ld + width).map {
                    $0 % ld < width ? values[$0 / ld * width + $0 % ld] : GuardedMemory.sentinel
                }
        }
        let aMemory = memory[0].store(spread(a, m, k, lda), aType),
            bMemory = memory[1].store(spread(b, n, k, ldb), bType)
        let bias = memory[2].matrix(rows: 1, width: n, ld: n, &random),
            residual = memory[3].matrix(rows: m, width: n, ld: ldr, &random)
        let start = array(memory[4].matrix(rows: m, width: n, ld: ldc, &random), (m - 1) * ldc + n)
        let empty = [Float](repeating: GuardedMemory.sentinel, count: (m - 1) * ldy + n)

        let rowsPerFactor = 1 + Int(random.next() % UInt64(m))
        let factorCount = (m + rowsPerFactor - 1) / rowsPerFactor, factors = memory[7].floats(factorCount)
        for i in 0..<factorCount { factors[i] = [0, 1.25, random.float()][i % 3] }
        let aRows = (0..<m).map { Quantised(Array(a[$0 * k..<($0 + 1) * k]), weights: false) }
        let bRows = (0..<n).map { Quantised(Array(b[$0 * k..<($0 + 1) * k]), weights: true) }
        var expected = [Float](repeating: 0, count: m * n)
        for i in 0..<m {
            for j in 0..<n {
                var sum: Int64 = 0, exact = 0.0, bound = 0.0
                let (sa, sb) = (aRows[i].scale, bRows[j].scale)
                for p in 0..<k {
                    sum += aRows[i].whole[p] * bRows[j].whole[p]
                    let x = Double(a[i * k + p]), y = Double(b[j * k + p])
                    let ex = Double(sa) / 2 + 4 * u * abs(x), ey = Double(sb) / 2 + 4 * u * abs(y)
                    exact += x * y
                    bound += abs(x) * ey + abs(y) * ex + ex * ey
                }
                var value = Float(Int32(sum)) * sa * sb
                if value.isFinite, exact.isFinite {
                    XCTAssertLessThanOrEqual(
                        abs(Double(value) - exact), (bound + 4 * u * abs(exact)) * (1 + 4 * u), "m \(m) n \(n) k \(k)")
                }
                if epilogue == .factor { value = (value + bias[j]) * factors[i / rowsPerFactor] }
                if epilogue.hasResidual {
                    value += epilogue == .biasAndInPlace ? start[i * ldc + j] : residual[i * ldr + j]
                }
                if epilogue.hasBias, epilogue != .factor { value += bias[j] }
                expected[i * n + j] = value
            }
        }
        for variant in variants {
            dmae_isa_use(variant.isa)
            var first: [Float]?
            for count in threads {
                dmae_set_threads(count)
                let c = memory[4].store(start, cType), y = memory[5].store(empty, yType)
                var arguments = dmae_gemm_arguments()
                arguments.precision = DMAE_PRECISION_INT8
                (arguments.m, arguments.n, arguments.k) = (m, n, k)
                (arguments.a, arguments.a_type, arguments.lda) = (UnsafeRawPointer(aMemory), aType, lda)
                let packed = memory[6].workspace(bytes: dmae_gemm_packed_bytes(DMAE_PRECISION_INT8, k, n))
                dmae_gemm_pack(DMAE_PRECISION_INT8, k, n, bType, bMemory, ldb, true, packed)
                arguments.b_packed = UnsafeRawPointer(packed)
                (arguments.c, arguments.c_type, arguments.ldc) = (epilogue.keeps ? c : nil, cType, ldc)
                if epilogue.hasBias { arguments.bias = UnsafePointer(bias) }
                if epilogue.hasResidual {
                    let inPlace = UnsafePointer(c.assumingMemoryBound(to: Float.self))
                    (arguments.residual, arguments.ldr) = (
                        epilogue == .biasAndInPlace ? inPlace : UnsafePointer(residual), ldr
                    )
                }
                if epilogue == .factor {
                    (arguments.row_factor, arguments.rows_per_factor) = (UnsafePointer(factors), rowsPerFactor)
                }
                if epilogue.hasActivation {
                    (arguments.activation, arguments.activation_type, arguments.ldactivation) = (y, yType, ldy)
                }
                let output = epilogue.keeps ? cType : yType
                arguments.workspace = workspaces.workspace(
                    bytes: dmae_gemm_workspace(DMAE_PRECISION_INT8, m, n, k, output))
                dmae_gemm(&arguments)
                let place = "\(variant.name) m \(m) n \(n) k \(k) \(epilogue) threads \(count)"
                let gotC = read(c, start.count, cType), gotY = read(y, empty.count, yType)
                for i in 0..<m {
                    for j in 0..<n {
                        let value = expected[i * n + j]
                        if epilogue.keeps {
                            let wanted = cType == DMAE_TYPE_BF16 && value.isFinite ? bf16(value) : value,
                                got = gotC[i * ldc + j]
                            if got.bitPattern != wanted.bitPattern, !(got.isNaN && wanted.isNaN),
                                !(got == 0 && wanted == 0)
                            {
                                return XCTFail("\(place): C[\(i),\(j)] \(got), not \(wanted)")
                            }
                        }
                        if epilogue.hasActivation {
                            // Of what C holds, or would hold if it were kept as the activation is.
                            let isRounded = (epilogue.keeps ? cType : yType) == DMAE_TYPE_BF16 && value.isFinite
                            let x = Double(isRounded ? bf16(value) : value)
                            let wanted = x * 0.5 * erfc(-x / 2.0.squareRoot()), got = gotY[i * ldy + j]
                            // The contract is about the rounded value, which is half a unit off at most; then bf16's
                            // half unit of what came.
                            let ulp = Double(Float(wanted).ulp), gelu = max(1e-7, 2 * ulp) + ulp / 2
                            let slack = yType == DMAE_TYPE_BF16 ? gelu + 0x1p-8 * (abs(wanted) + gelu) : gelu
                            if value.isNaN ? !got.isNaN : !(abs(Double(got) - wanted) <= slack) {
                                return XCTFail("\(place): GELU[\(i),\(j)] \(got), not \(wanted)")
                            }
                        }
                    }
                    for j in n..<max(n, ldc) where i < m - 1 && epilogue.keeps {
                        let before = start[i * ldc + j]
                        if gotC[i * ldc + j] != (cType == DMAE_TYPE_BF16 ? bf16(before) : before) {
                            return XCTFail("\(place): wrote outside C")
                        }
                    }
                    for j in n..<max(n, ldy) where i < m - 1 {
                        let before = yType == DMAE_TYPE_BF16 ? bf16(GuardedMemory.sentinel) : GuardedMemory.sentinel
                        if gotY[i * ldy + j] != before { return XCTFail("\(place): wrote outside the activation") }
                    }
                }
                let bits = epilogue.hasActivation ? gotY : gotC
                if let first {
                    XCTAssertTrue(
                        zip(first, bits).allSatisfy { $0.bitPattern == $1.bitPattern },
                        "\(place): other bits than with \(threads[0]) threads")
                } else {
                    first = bits
                }
            }
        }
    }

    /// Every height up to two of the tallest tiles and one, widths around the widest, every remainder of k by four.
    func testEveryEdge() {
        let variants = variants()
        var random = Random("int8 edges"), turn = 0
        for m in 1...29 {
            for n in [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 65] {
                for k in [0, 1, 2, 3, 4, 5, 15, 16, 17, 33, 63, 64, 65, 66, 67] where (m + n + k) % 3 == 0 || m < 3 {
                    check(variants, m: m, n: n, k: k, Epilogue.allCases[turn % Epilogue.allCases.count], &random)
                    turn += 1
                }
            }
        }
    }

    /// Shapes of several tasks, with either operand as the shared one.
    func testTheSameBitsForAnyThreadsAndVariant() {
        let variants = variants()
        var random = Random("int8 threads")
        for (m, n, k) in [
            (130, 300, 700), (300, 130, 64), (1, 1000, 100), (1000, 1, 101), (257, 129, 1030), (20, 70, 4099),
            (70, 20, 4099),
        ] {
            for epilogue in Epilogue.allCases {
                check(variants, m: m, n: n, k: k, epilogue, threads: [1, 2, 3, 5], &random)
            }
        }
    }

    /// The largest sums, the largest and smallest values of float32, rows of zeros.
    func testExtremes() {
        let variants = variants()
        var random = Random("int8 extremes")
        let most = Float.greatestFiniteMagnitude
        func fill(_ value: Float, _ row: Int, _ k: Int, _ matrix: inout [Float]) {
            for p in 0..<k { matrix[row * k + p] = value }
        }
        for k in [7, 64, 4096] {
            check(variants, m: 15, n: 33, k: k, .none, &random) { a, b in
                let values: [Float] = [
                    1, -1, 0, most / 2, 1e-30, Float.leastNonzeroMagnitude, -Float.leastNormalMagnitude,
                ]
                for (row, value) in values.enumerated() { fill(value, row, k, &a) }
                for (row, value) in ([1, -1, 0, 1e-36, -Float.leastNonzeroMagnitude] as [Float]).enumerated() {
                    fill(value, row, k, &b)
                }
                // The range of one row overflows float32.
                (a[9 * k], a[9 * k + 1], a[10 * k], a[10 * k + 1]) = (most / 2, -most / 2, most, -most)
            }
        }
    }

    /// The deepest sum: every product is 255·127.
    func testTheDeepestSumDoesNotOverflow() {
        var random = Random("int8 depth")
        check(variants(), m: 1, n: 1, k: 65_536, .none, &random) { a, b in
            for p in a.indices { (a[p], b[p]) = (1, -1) }
        }
    }

    /// A row that is not finite gives NaN, and no other row changes.
    func testRowsThatAreNotFiniteGiveNaN() {
        let variants = variants()
        var random = Random("int8 not finite")
        for value in [Float.nan, .infinity, -.infinity] {
            for place in [0, 13, 66] {
                check(variants, m: 17, n: 35, k: 67, .bias, &random) { a, _ in a[3 * 67 + place] = value }
                check(variants, m: 17, n: 35, k: 67, .gelu, &random) { _, b in b[34 * 67 + place] = value }
            }
        }
    }

    /// A row's bits do not depend on the rows around it.
    func testARowDependsOnNoOther() {
        var random = Random("int8 rows")
        let (m, n, k) = (40, 50, 90)
        let a = memory[0].matrix(rows: m, width: k, ld: k, &random),
            b = memory[1].matrix(rows: n, width: k, ld: k, &random)
        for variant in variants() {
            dmae_isa_use(variant.isa)
            let packed = memory[6].workspace(bytes: dmae_gemm_packed_bytes(DMAE_PRECISION_INT8, k, n))
            dmae_gemm_pack(DMAE_PRECISION_INT8, k, n, DMAE_TYPE_F32, b, k, true, packed)
            func product(_ begin: Int, _ count: Int) -> [Float] {
                let c = memory[4].floats(count * n)
                var arguments = dmae_gemm_arguments()
                arguments.precision = DMAE_PRECISION_INT8
                (arguments.m, arguments.n, arguments.k) = (count, n, k)
                (arguments.a, arguments.lda, arguments.b_packed) = (
                    UnsafeRawPointer(a + begin * k), k, UnsafeRawPointer(packed)
                )
                (arguments.c, arguments.ldc) = (UnsafeMutableRawPointer(c), n)
                arguments.workspace = workspaces.workspace(
                    bytes: dmae_gemm_workspace(DMAE_PRECISION_INT8, count, n, k, DMAE_TYPE_F32))
                dmae_gemm(&arguments)
                return array(c, count * n)
            }
            let whole = product(0, m)
            for (begin, count) in [(0, 1), (7, 3), (39, 1), (5, 30)] {
                XCTAssertEqual(
                    product(begin, count), Array(whole[begin * n..<(begin + count) * n]),
                    "\(variant.name) from row \(begin)")
            }
        }
    }
}
