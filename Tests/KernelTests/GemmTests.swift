import CKernels
import Foundation
import XCTest

/// m, n, k as in the contract. Bound of an element: the error of a sum of k products and up to three more terms, in any
/// order, fused or not, is at most (k + 3)·u/(1 - (k + 3)·u) times the sum of magnitudes (Higham, Accuracy and
/// Stability, §3.1); k + 4 covers the denominator, and a row's factor rounds once more. bf16: the reference multiplies
/// the rounded operands. Products of two of them are exact in f32; if pairs are added at a time, a sum may be rounded
/// once more per product, so the bound is twice as wide. A result stored as bf16 has a further error of 2⁻⁸ of itself.
/// float32 in three parts of bf16: the parts are at most 1, 2⁻⁸ and 2⁻¹⁶ of a value, so the omitted products are 2⁻²³
/// (2·u) of a product; the sum of the largest products has float32's error, the other five a fiftieth of it: three
/// times as wide in all. GELU's slope is below 1.13; its own error is at most 2 ulp or 1e-7 (contract). In the backward
/// pass the slope has an error of at most 4e-7 (GeluTests) and its product is rounded once, u·1.13: 5e-7 of the value.
final class GemmTests: KernelTestCase {
    private static func hasParts(_ variant: Variant) -> Bool { variant.name.hasPrefix("gemm_f32_amx") }

    private struct Epilogue: CaseIterable {
        var accumulate = false, bias = false, residual = false, inPlace = false, activation = false, keep = true,
            backward = false
        var streamed = false, factor = false
        static let allCases: [Epilogue] = [
            .init(), .init(bias: true), .init(residual: true), .init(bias: true, residual: true), .init(inPlace: true),
            .init(bias: true, inPlace: true), .init(accumulate: true), .init(accumulate: true, bias: true),
            .init(accumulate: true, residual: true), .init(accumulate: true, bias: true, residual: true),
            .init(activation: true), .init(bias: true, activation: true), .init(activation: true, keep: false),
            .init(bias: true, activation: true, keep: false), .init(backward: true),
            .init(activation: true, backward: true),
            .init(streamed: true), .init(factor: true), .init(residual: true, factor: true),
            .init(bias: true, residual: true, factor: true), .init(bias: true, inPlace: true, factor: true),
        ]
    }

    private let memory = (0..<9).map { _ in GuardedMemory(floats: 1 << 19) }
    private let workspaces = GuardedMemory(floats: 1 << 22)

    private func check(
        _ variants: [Variant], m: Int, n: Int, k: Int, transposed: (Bool, Bool), _ epilogue: Epilogue,
        threads: [Int32] = [2], _ random: inout Random
    ) {
        let (ta, tb) = transposed
        let isRounded = variants[0].operation == "gemm_bf16"
        func operand(_ x: Float) -> Double { Double(isRounded ? bf16(x) : x) }
        func ld(_ width: Int) -> Int { max(1, width + Int(random.next() % 4)) }
        func type() -> dmae_type { isRounded && random.next() % 2 == 0 ? DMAE_TYPE_BF16 : DMAE_TYPE_F32 }
        let aType = type(), bType = type(), yType = type(), xType = type()
        let cType = epilogue.accumulate || epilogue.inPlace || epilogue.streamed ? DMAE_TYPE_F32 : type()
        let isPacked = random.next() % 3 == 0
        // Where n is a multiple of 16, too, C then lies in whole lines, which are streamed.
        let ldc = epilogue.streamed && random.next() % 4 != 0 ? (n + 15) / 16 * 16 : ld(n)
        let lda = ld(ta ? m : k), ldb = ld(tb ? k : n), ldr = epilogue.inPlace ? ldc : ld(n), ldy = ld(n), ldx = ld(n)
        func matrix(_ place: Int, rows: Int, width: Int, ld: Int) -> [Float] {
            array(
                memory[place].matrix(rows: rows, width: width, ld: ld, &random), rows == 0 ? 0 : (rows - 1) * ld + width
            )
        }
        let aValues = matrix(0, rows: ta ? k : m, width: ta ? m : k, ld: lda)
        let bValues = matrix(1, rows: tb ? n : k, width: tb ? k : n, ld: ldb)
        let a = memory[0].store(aValues, aType), b = memory[1].store(bValues, bType)
        let bias = memory[2].matrix(rows: 1, width: n, ld: n, &random)
        let residual = memory[3].matrix(rows: m, width: n, ld: ldr, &random)
        // A factor for every so many rows: of dropped images, of kept ones, and others.
        let rowsPerFactor = 1 + Int(random.next() % UInt64(m))
        let factors = memory[8].floats((m + rowsPerFactor - 1) / rowsPerFactor)
        for i in 0..<(m + rowsPerFactor - 1) / rowsPerFactor { factors[i] = [0, 1.25, random.float()][i % 3] }
        let before = matrix(6, rows: m, width: n, ld: ldx).map { xType == DMAE_TYPE_BF16 ? bf16(4 * $0) : 4 * $0 }
        let x = memory[6].store(before, xType)
        let start = matrix(4, rows: m, width: n, ld: ldc),
            empty = [Float](repeating: GuardedMemory.sentinel, count: (m - 1) * ldy + n)
        var expected = [Double](repeating: 0, count: m * n), bound = expected
        for i in 0..<m {
            for j in 0..<n {
                var sum = 0.0, magnitude = 0.0
                for p in 0..<k {
                    let product =
                        operand(ta ? aValues[p * lda + i] : aValues[i * lda + p])
                        * operand(tb ? bValues[j * ldb + p] : bValues[p * ldb + j])
                    sum += product
                    magnitude += abs(product)
                }
                func add(_ x: Float) { sum += Double(x); magnitude += abs(Double(x)) }
                if epilogue.bias { add(bias[j]) }
                if epilogue.factor {
                    sum *= Double(factors[i / rowsPerFactor])
                    magnitude *= Double(abs(factors[i / rowsPerFactor]))
                }
                if epilogue.accumulate || epilogue.inPlace { add(start[i * ldc + j]) }
                if epilogue.residual { add(residual[i * ldr + j]) }
                expected[i * n + j] = sum
                bound[i * n + j] = Double(k + (epilogue.factor ? 5 : 4)) * (isRounded ? 2 * u : u) * magnitude
            }
        }
        for variant in variants {
            dmae_isa_use(variant.isa)
            let widening = Self.hasParts(variant) ? 3.0 : 1
            var first: ([Float], [Float])?
            for count in threads {
                dmae_set_threads(count)
                let c = memory[4].store(start, cType), y = memory[5].store(empty, yType)
                var arguments = dmae_gemm_arguments()
                arguments.precision = isRounded ? DMAE_PRECISION_BF16 : DMAE_PRECISION_F32
                (arguments.m, arguments.n, arguments.k) = (m, n, k)
                (arguments.a, arguments.a_type, arguments.lda, arguments.a_transposed) = (
                    UnsafeRawPointer(a), aType, lda, ta
                )
                if isPacked {
                    let packed = memory[7].workspace(bytes: dmae_gemm_packed_bytes(arguments.precision, k, n))
                    dmae_gemm_pack(arguments.precision, k, n, bType, b, ldb, tb, packed)
                    arguments.b_packed = UnsafeRawPointer(packed)
                } else {
                    (arguments.b, arguments.b_type, arguments.ldb, arguments.b_transposed) = (
                        UnsafeRawPointer(b), bType, ldb, tb
                    )
                }
                (arguments.c, arguments.c_type, arguments.ldc) = (epilogue.keep ? c : nil, cType, ldc)
                (arguments.accumulate, arguments.stream_c) = (epilogue.accumulate, epilogue.streamed)
                arguments.bias = epilogue.bias ? UnsafePointer(bias) : nil
                if epilogue.residual || epilogue.inPlace {
                    let inPlace = UnsafePointer(c.assumingMemoryBound(to: Float.self))
                    (arguments.residual, arguments.ldr) = (epilogue.inPlace ? inPlace : UnsafePointer(residual), ldr)
                }
                if epilogue.factor {
                    (arguments.row_factor, arguments.rows_per_factor) = (UnsafePointer(factors), rowsPerFactor)
                }
                if epilogue.activation {
                    (arguments.activation, arguments.activation_type, arguments.ldactivation) = (y, yType, ldy)
                }
                if epilogue.backward {
                    (arguments.before_gelu, arguments.before_gelu_type, arguments.ldbefore) = (
                        UnsafeRawPointer(x), xType, ldx
                    )
                }
                arguments.workspace = workspaces.workspace(
                    bytes: dmae_gemm_workspace(arguments.precision, m, n, k, epilogue.keep ? cType : yType))
                dmae_gemm(&arguments)
                let place =
                    "\(variant.name) m \(m) n \(n) k \(k) transposed \(transposed) \(epilogue) threads \(count) packed "
                    + "\(isPacked)"
                let gotC = read(c, start.count, cType), gotY = read(y, empty.count, yType)
                for i in 0..<m {
                    for j in 0..<n {
                        let value = expected[i * n + j], allowed = widening * bound[i * n + j]
                        func check(_ got: Float, _ wanted: Double, _ slack: Double, _ type: dmae_type, _ what: String)
                            -> Bool
                        {
                            // Half a unit of bf16's last place (7 bits after the point) when the result is stored as
                            // bf16.
                            let stored = type == DMAE_TYPE_BF16 ? slack + 0x1p-8 * (abs(wanted) + slack) : slack
                            if abs(Double(got) - wanted) <= stored { return true }
                            XCTFail("\(place): \(what)[\(i),\(j)] \(got), not \(wanted)")
                            return false
                        }
                        let z = Double(before[i * ldx + j])
                        if epilogue.keep {
                            let slope =
                                0.5 * erfc(-z / 2.0.squareRoot()) + z * exp(-z * z / 2) / (2 * Double.pi).squareRoot()
                            let wanted = epilogue.backward ? value * slope : value
                            let slack = epilogue.backward ? 1.13 * allowed + 5e-7 * abs(value) : allowed
                            if !check(gotC[i * ldc + j], wanted, slack, cType, "C") { return }
                        }
                        if epilogue.activation {
                            // Of what C holds, the way forward as well as back; or of the value, rounded as the
                            // activation is.
                            let x = epilogue.backward ? z : epilogue.keep ? Double(gotC[i * ldc + j]) : value
                            let gelu = x * 0.5 * erfc(-x / 2.0.squareRoot())
                            let rounding = yType == DMAE_TYPE_BF16 ? 0x1p-8 * (abs(value) + allowed) : 0
                            let slack =
                                (epilogue.backward || epilogue.keep ? 0 : 1.13 * (allowed + rounding))
                                + max(1e-7, 2 * Double(Float(gelu).ulp))
                            if !check(gotY[i * ldy + j], gelu, slack, yType, "GELU") { return }
                        }
                    }
                    for j in n..<max(n, ldc)
                    where i < m - 1 && epilogue.keep && gotC[i * ldc + j] != stored(start[i * ldc + j], as: cType) {
                        return XCTFail("\(place): wrote outside C")
                    }
                    for j in n..<max(n, ldy)
                    where i < m - 1 && gotY[i * ldy + j] != stored(GuardedMemory.sentinel, as: yType) {
                        return XCTFail("\(place): wrote outside the activation")
                    }
                }
                if let first {
                    XCTAssertTrue(
                        first.0 == gotC && first.1 == gotY, "\(place): other bits than with \(threads[0]) threads")
                } else {
                    first = (gotC, gotY)
                }
            }
        }
    }

    /// What comes back of a value that is stored as `type`.
    private func stored(_ value: Float, as type: dmae_type) -> Float { type == DMAE_TYPE_BF16 ? bf16(value) : value }

    private func variants(of operation: String) -> [Variant] {
        var found: [Variant] = []
        forEachVariant(of: operation) { found.append($0) }
        return found
    }
    private let forms = [(false, false), (false, true), (true, false), (true, true)]

    /// Every height up to two of the tallest tiles and one, widths around the widest, in all four forms.
    func testEveryEdge() { everyEdge("gemm_f32") }
    func testEveryEdgeOfBF16() { everyEdge("gemm_bf16") }
    private func everyEdge(_ operation: String) {
        let variants = variants(of: operation)
        var random = Random("gemm edges"), turn = 0
        for m in 1...29 {
            for n in [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 65] {
                for k in [0, 1, 2, 7, 15, 16, 17, 33] {
                    for form in forms where (m + n + k + turn) % 2 == 0 || m < 3 {
                        check(
                            variants, m: m, n: n, k: k, transposed: form,
                            Epilogue.allCases[turn % Epilogue.allCases.count],
                            &random)
                        turn += 1
                    }
                    turn += 1
                }
            }
        }
    }

    /// Every epilogue in every form, over one block of k, several, and blocks of unlike depth; and the same bits for
    /// any threads.
    func testEveryEpilogueAcrossBlocks() { everyEpilogueAcrossBlocks("gemm_f32") }
    func testEveryEpilogueAcrossBlocksOfBF16() { everyEpilogueAcrossBlocks("gemm_bf16") }
    private func everyEpilogueAcrossBlocks(_ operation: String) {
        let variants = variants(of: operation)
        var random = Random("gemm epilogues")
        for epilogue in Epilogue.allCases {
            for form in forms {
                for (m, n, k) in [(15, 33, 29), (20, 70, 1025), (33, 17, 2050), (43, 100, 1024), (20, 70, 4099)] {
                    check(variants, m: m, n: n, k: k, transposed: form, epilogue, threads: [1, 2, 3], &random)
                }
            }
        }
    }

    /// Shapes of several tasks.
    func testTheSameBitsForAnyThreads() { theSameBitsForAnyThreads("gemm_f32") }
    func testTheSameBitsForAnyThreadsOfBF16() { theSameBitsForAnyThreads("gemm_bf16") }
    private func theSameBitsForAnyThreads(_ operation: String) {
        let variants = variants(of: operation)
        var random = Random("gemm threads")
        for (m, n, k) in [
            (130, 300, 700), (260, 270, 700), (300, 130, 64), (1, 1000, 100), (1000, 1, 100), (257, 513, 40),
            (257, 512, 40), (330, 530, 9), (530, 800, 9),
        ] {
            for form in forms {
                check(
                    variants, m: m, n: n, k: k, transposed: form, Epilogue(bias: true), threads: [1, 2, 3, 5], &random)
                check(
                    variants, m: m, n: n, k: k, transposed: form, Epilogue(accumulate: true), threads: [1, 2], &random)
                check(variants, m: m, n: n, k: k, transposed: form, Epilogue(streamed: true), threads: [1, 2], &random)
            }
        }
    }

    /// The backward pass of GELU recomputes the activation of the forward pass, to the bit, whatever type the
    /// pre-activation is rounded to.
    func testBackwardPassRecomputesTheActivation() {
        let (m, n, k) = (31, 67, 40), count = m * n
        var random = Random("gelu recomputed")
        for operation in ["gemm_f32", "gemm_bf16"] {
            for variant in variants(of: operation) {
                dmae_isa_use(variant.isa)
                for type in [DMAE_TYPE_F32, DMAE_TYPE_BF16] {
                    let a = memory[0].matrix(rows: m, width: k, ld: k, &random),
                        b = memory[1].matrix(rows: k, width: n, ld: n, &random)
                    let zeros = [Float](repeating: 0, count: count)
                    let before = memory[2].store(zeros, type), forward = memory[3].store(zeros, type)
                    let gradient = memory[4].store(zeros, type), recomputed = memory[5].store(zeros, type)
                    var arguments = dmae_gemm_arguments()
                    arguments.precision = operation == "gemm_bf16" ? DMAE_PRECISION_BF16 : DMAE_PRECISION_F32
                    (arguments.m, arguments.n, arguments.k) = (m, n, k)
                    (arguments.a, arguments.lda, arguments.b, arguments.ldb) = (
                        UnsafeRawPointer(a), k, UnsafeRawPointer(b), n
                    )
                    (arguments.c, arguments.c_type, arguments.ldc) = (before, type, n)
                    (arguments.activation, arguments.activation_type, arguments.ldactivation) = (forward, type, n)
                    arguments.workspace = workspaces.workspace(
                        bytes: dmae_gemm_workspace(arguments.precision, m, n, k, type))
                    dmae_gemm(&arguments)
                    (arguments.before_gelu, arguments.before_gelu_type, arguments.ldbefore) = (
                        UnsafeRawPointer(before), type, n
                    )
                    (arguments.c, arguments.activation) = (gradient, recomputed)
                    dmae_gemm(&arguments)
                    let first = read(forward, count, type)
                    XCTAssertTrue(
                        first.contains { $0 > 0.1 } && first.contains { $0 < -0.1 }, "\(variant.name): nothing to see")
                    XCTAssertTrue(first == read(recomputed, count, type), "\(variant.name), kept as \(type)")
                }
            }
        }
    }

    /// NaN and infinity survive the rounding of operands, so that a run notices a loss that is not finite. With float32
    /// in three parts an infinity becomes NaN.
    func testValuesThatAreNotFinite() {
        for operation in ["gemm_f32", "gemm_bf16"] {
            for variant in variants(of: operation) {
                dmae_isa_use(variant.isa)
                for value in [Float.nan, Float(bitPattern: 0x7fff_ffff), -.infinity] {
                    let a = memory[0].floats(3), b = memory[1].floats(3), c = memory[4].floats(1)
                    for i in 0..<3 { (a[i], b[i]) = (i == 1 ? value : 1, 2) }
                    var arguments = dmae_gemm_arguments()
                    arguments.precision = operation == "gemm_bf16" ? DMAE_PRECISION_BF16 : DMAE_PRECISION_F32
                    (arguments.m, arguments.n, arguments.k) = (1, 1, 3)
                    (arguments.a, arguments.lda, arguments.b, arguments.ldb) = (
                        UnsafeRawPointer(a), 3, UnsafeRawPointer(b), 1
                    )
                    (arguments.c, arguments.ldc) = (UnsafeMutableRawPointer(c), 1)
                    arguments.workspace = workspaces.workspace(
                        bytes: dmae_gemm_workspace(arguments.precision, 1, 1, 3, DMAE_TYPE_F32))
                    dmae_gemm(&arguments)
                    XCTAssertEqual(c[0].isNaN, Self.hasParts(variant) || value.isNaN, "\(variant.name) \(value)")
                    XCTAssertFalse(c[0].isFinite, "\(variant.name) \(value)")
                }
            }
        }
    }

    /// The workspace of a layer's largest product serves all smaller ones, although blocks of a smaller k may be deeper
    /// and the other operand may be the shared one.
    func testAWorkspaceServesSmallerProducts() {
        var random = Random("gemm workspaces")
        let edges = [0, 1, 15, 16, 17, 99, 100, 1024, 1025, 1536, 1600, 2048, 2049, 2080, 4096, 4097]
        for precision in [DMAE_PRECISION_F32, DMAE_PRECISION_BF16, DMAE_PRECISION_INT8] {
            for output in [DMAE_TYPE_F32, DMAE_TYPE_BF16] {
                for _ in 0..<20_000 {
                    func size() -> (less: Int, more: Int) {
                        func one() -> Int {
                            random.next() % 2 == 0
                                ? edges[Int(random.next() % UInt64(edges.count))] : Int(random.next() % 5000)
                        }
                        let (a, b) = (one(), one())
                        return (min(a, b), max(a, b))
                    }
                    let (m, n, k) = (size(), size(), size())
                    let less = dmae_gemm_workspace(precision, m.less, n.less, k.less, output)
                    let more = dmae_gemm_workspace(precision, m.more, n.more, k.more, output)
                    guard less <= more else {
                        return XCTFail("\(precision) \(output) \(m) \(n) \(k): \(less) and \(more)")
                    }
                }
            }
        }
    }

    func testNothingToDo() {
        var arguments = dmae_gemm_arguments()
        var c: Float = 7
        withUnsafeMutablePointer(to: &c) { pointer in
            arguments.c = UnsafeMutableRawPointer(pointer)
            arguments.ldc = 1
            arguments.n = 1
            dmae_gemm(&arguments)
        }
        XCTAssertEqual(c, 7)
    }
}
