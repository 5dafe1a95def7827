import CKernels
import Foundation
import XCTest

/// Unit roundoff of bf16, whose significands have eight bits.
private let bf16Unit = 0x1p-8

/// The relative error of rounding a matmul's operand, or a stored value, to the type.
private func rounding(_ type: dmae_type) -> Double { type == DMAE_TYPE_BF16 ? bf16Unit : 0 }

private func bf16(_ x: Float) -> UInt16 {
    UInt16(truncatingIfNeeded: (x.bitPattern + 0x7fff + (x.bitPattern >> 16 & 1)) >> 16)
}

/// One head in float64, by the contract's formulas, and bounds of a kernel's errors, to first order in u and in the
/// type's rounding error e:
///
/// - Score, a sum of `size` products: (size + 2)·u·scale·Σ|q·k|.
/// - Probability, relative: r (relativeError), twice the score's error plus those of exp and of the sum over tokens.
/// - Output, a mean: (r + tokens·u + e)·Σp|V| for the operands, and e·|O| for storing it.
/// - dP: size·u·Σ|dO·V|. delta = Σ dO·O: ((size + 2 + tokens)·u + r)·Σ|dO|·Σp|V|, and Σ|dO|·e·(Σp|V| + |O|) for O's
///   roundings.
/// - dQ and dK, with p's error and the sum over tokens or queries: (2r + (2·size + 2·sum + 8)·u)·(Σ|dO·V| +
///   Σ|dO|·Σp|V|) times the term's factor p·scale·|k|, and e·|dS| for dS as an operand.
/// - dV: (r + queries·u + e)·Σp|dO|.
/// - e of every stored value. Second-order terms are below a hundredth of these.
private struct Reference {
    let type: dmae_type
    let queries: Int, tokens: Int, size: Int
    let q: [Double]  // [queries, size]
    let k: [Double], v: [Double]  // [tokens, size]

    var scale: Double { 1 / Double(size).squareRoot() }

    struct Forward { var output: [Double], bound: [Double], logSumExp: [Double], probability: [Double] }
    struct Backward { var gradient: [[Double]], bound: [[Double]] }

    func forward() -> Forward {
        let e = rounding(type), r = relativeError
        var output = [Double](repeating: 0, count: queries * size), magnitude = output
        var logSumExp = [Double](repeating: 0, count: queries),
            probability = [Double](repeating: 0, count: queries * tokens)
        for i in 0..<queries {
            var score = [Double](repeating: 0, count: tokens)
            for j in 0..<tokens {
                for x in 0..<size { score[j] += q[i * size + x] * k[j * size + x] * scale }
            }
            let most = score.max()!
            let sum = score.reduce(0) { $0 + exp($1 - most) }
            logSumExp[i] = most + log(sum)
            for j in 0..<tokens {
                let p = exp(score[j] - most) / sum
                probability[i * tokens + j] = p
                for x in 0..<size {
                    output[i * size + x] += p * v[j * size + x]
                    magnitude[i * size + x] += p * abs(v[j * size + x])
                }
            }
        }
        let bound = output.indices.map {
            1.01 * ((r + Double(tokens) * u + e) * magnitude[$0] + (e + 2 * u) * abs(output[$0]))
        }
        return Forward(output: output, bound: bound, logSumExp: logSumExp, probability: probability)
    }

    func backward(_ d: [Double], _ forward: Forward) -> Backward {
        let e = rounding(type), r = relativeError
        let zeros = [Double](repeating: 0, count: queries * size),
            keyZeros = [Double](repeating: 0, count: tokens * size)
        var dq = zeros, bq = zeros, dk = keyZeros, dv = keyZeros, bk = keyZeros, bv = keyZeros
        let relative = 2 * r + Double(2 * size + 2 * max(tokens, queries) + 8) * u
        for i in 0..<queries {
            var delta = 0.0, deltaMagnitude = 0.0, deltaRounding = 0.0
            for x in 0..<size {
                let gradient = d[i * size + x], output = forward.output[i * size + x]
                var magnitude = 0.0
                for j in 0..<tokens { magnitude += abs(v[j * size + x]) * forward.probability[i * tokens + j] }
                delta += gradient * output
                deltaMagnitude += abs(gradient) * magnitude
                deltaRounding += abs(gradient) * e * (magnitude + abs(output))
            }
            for j in 0..<tokens {
                let p = forward.probability[i * tokens + j]
                var dp = 0.0, magnitude = deltaMagnitude
                for x in 0..<size {
                    dp += d[i * size + x] * v[j * size + x]
                    magnitude += abs(d[i * size + x] * v[j * size + x])
                }
                let ds = p * (dp - delta) * scale,
                    bound = p * (magnitude * relative + deltaRounding) * scale + e * abs(ds)
                for x in 0..<size {
                    dq[i * size + x] += ds * k[j * size + x]
                    dk[j * size + x] += ds * q[i * size + x]
                    dv[j * size + x] += p * d[i * size + x]
                    bq[i * size + x] += bound * abs(k[j * size + x])
                    bk[j * size + x] += bound * abs(q[i * size + x])
                    bv[j * size + x] += p * abs(d[i * size + x]) * (r + Double(queries + 2) * u + e)
                }
            }
        }
        func whole(_ bound: [Double], _ value: [Double]) -> [Double] {
            bound.indices.map { 1.01 * (bound[$0] + e * abs(value[$0])) }
        }
        return Backward(gradient: [dq, dk, dv], bound: [whole(bq, dq), whole(bk, dk), whole(bv, dv)])
    }

    /// The relative error of a probability. exp is good to 4u, in bf16 to 2^-17: it appears above and, in the sum,
    /// below the line.
    var relativeError: Double {
        var most = 0.0
        for i in 0..<queries {
            for j in 0..<tokens {
                var magnitude = 0.0
                for x in 0..<size { magnitude += abs(q[i * size + x] * k[j * size + x]) }
                most = max(most, magnitude)
            }
        }
        return 2 * Double(size + 2) * u * scale * most + Double(tokens + 8) * u + (type == DMAE_TYPE_BF16 ? 0x1p-16 : 0)
    }
}

/// Q, K, V and dO of a batch, with what lies between rows a sentinel.
private struct Inputs {
    let type: dmae_type
    let batch: Int, queries: Int, tokens: Int, heads: Int, size: Int
    let qStride: Int, kvStride: Int, outputStride: Int
    let q: UnsafeMutableRawPointer, kv: UnsafeMutableRawPointer, d: UnsafeMutableRawPointer
    var width: Int { heads * size }
    var element: Int { type == DMAE_TYPE_BF16 ? 2 : 4 }
    static func extent(_ rows: Int, _ stride: Int, _ width: Int) -> Int { (rows - 1) * stride + width }

    func reference(_ b: Int, _ h: Int) -> Reference {
        Reference(
            type: type, queries: queries, tokens: tokens, size: size, q: head(q, b, queries, qStride, h),
            k: head(kv, b, tokens, kvStride, h), v: head(kv + width * element, b, tokens, kvStride, h))
    }
    /// [rows, size] of one head.
    func head(_ tensor: UnsafeRawPointer, _ b: Int, _ rows: Int, _ stride: Int, _ h: Int) -> [Double] {
        (0..<rows * size).map { read(tensor, (b * rows + $0 / size) * stride + h * size + $0 % size) }
    }
    func read(_ tensor: UnsafeRawPointer, _ i: Int) -> Double {
        type == DMAE_TYPE_BF16
            ? Double(Float(bitPattern: UInt32(tensor.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)) << 16))
            : Double(tensor.loadUnaligned(fromByteOffset: 4 * i, as: Float.self))
    }
}

final class AttentionTests: KernelTestCase {
    private let memory = (0..<7).map { _ in GuardedMemory(floats: 1 << 18) }
    private let workspaces = GuardedMemory(floats: 1 << 21)
    private let types = [(DMAE_TYPE_F32, "attention_f32"), (DMAE_TYPE_BF16, "attention_bf16")]

    private struct Result: Equatable {
        var output: [UInt8], logSumExp: [Float], dQ: [UInt8], dKV: [UInt8]
    }

    private func matrix(
        _ memory: GuardedMemory, _ type: dmae_type, rows: Int, width: Int, ld: Int, _ random: inout Random
    )
        -> UnsafeMutableRawPointer
    {
        let count = Inputs.extent(rows, ld, width)
        let floats = (0..<count).map { $0 % ld < width ? random.float() : GuardedMemory.sentinel }
        let place = memory.bytes(count * (type == DMAE_TYPE_BF16 ? 2 : 4))
        for i in 0..<count {
            if type == DMAE_TYPE_BF16 {
                place.storeBytes(of: bf16(floats[i]), toByteOffset: 2 * i, as: UInt16.self)
            } else {
                place.storeBytes(of: floats[i], toByteOffset: 4 * i, as: Float.self)
            }
        }
        return place
    }

    private func inputs(
        _ type: dmae_type, batch: Int, queries: Int, tokens: Int, heads: Int, size: Int, gap: Int,
        _ random: inout Random
    ) -> Inputs {
        let width = heads * size
        return Inputs(
            type: type, batch: batch, queries: queries, tokens: tokens, heads: heads, size: size, qStride: width + gap,
            kvStride: 2 * width + gap, outputStride: width + gap,
            q: matrix(memory[0], type, rows: batch * queries, width: width, ld: width + gap, &random),
            kv: matrix(memory[1], type, rows: batch * tokens, width: 2 * width, ld: 2 * width + gap, &random),
            d: matrix(memory[2], type, rows: batch * queries, width: width, ld: width + gap, &random))
    }

    /// Forward and backward of `count` queries from `first` on of each of the inputs' images (all of them unless batch
    /// is 1).
    private func run(_ s: Inputs, first: Int = 0, count: Int? = nil) -> Result {
        let queries = count ?? s.queries, rows = s.batch * queries
        let outputBytes = Inputs.extent(rows, s.outputStride, s.width) * s.element
        let qBytes = Inputs.extent(rows, s.qStride, s.width) * s.element
        let kvBytes = Inputs.extent(s.batch * s.tokens, s.kvStride, 2 * s.width) * s.element
        let output = memory[3].bytes(outputBytes), dQ = memory[4].bytes(qBytes), dKV = memory[5].bytes(kvBytes)
        // A NaN in either type: what is not written shows, and what is written between the rows too.
        for (place, bytes) in [(output, outputBytes), (dQ, qBytes), (dKV, kvBytes)] { memset(place, 0xff, bytes) }
        let logs = memory[6].floats(s.batch * s.heads * queries)
        logs.update(repeating: .nan, count: s.batch * s.heads * queries)
        let workspaceBytes = dmae_attention_workspace(s.type, queries, s.tokens, s.size)
        var arguments = dmae_attention_arguments()
        arguments.type = s.type
        (arguments.batch, arguments.queries, arguments.tokens, arguments.heads) = (s.batch, queries, s.tokens, s.heads)
        arguments.head_size = s.size
        arguments.q = UnsafeRawPointer(s.q + first * s.qStride * s.element)
        arguments.k = UnsafeRawPointer(s.kv)
        arguments.v = UnsafeRawPointer(s.kv + s.width * s.element)
        (arguments.q_stride, arguments.kv_stride, arguments.output_stride) = (s.qStride, s.kvStride, s.outputStride)
        arguments.output = output
        arguments.log_sum_exp = logs
        arguments.workspace = workspaces.workspace(bytes: workspaceBytes)
        dmae_attention_forward(&arguments)
        func copy(_ place: UnsafeRawPointer, _ bytes: Int) -> [UInt8] {
            [UInt8](UnsafeRawBufferPointer(start: place, count: bytes))
        }
        var result = Result(
            output: copy(output, outputBytes), logSumExp: array(logs, s.batch * s.heads * queries), dQ: [], dKV: [])
        arguments.d_output = UnsafeRawPointer(s.d + first * s.outputStride * s.element)
        (arguments.d_q, arguments.d_k, arguments.d_v) = (dQ, dKV, dKV + s.width * s.element)
        arguments.workspace = workspaces.workspace(bytes: workspaceBytes)
        dmae_attention_backward(&arguments)
        result.dQ = copy(dQ, qBytes)
        result.dKV = copy(dKV, kvBytes)
        arguments.log_sum_exp = nil
        arguments.workspace = workspaces.workspace(bytes: workspaceBytes)
        dmae_attention_forward(&arguments)
        XCTAssertEqual(copy(output, outputBytes), result.output, "without log_sum_exp")
        return result
    }

    /// Every element within its bound, and nothing written between the rows.
    private func compare(
        _ s: Inputs, _ bytes: [UInt8], offset: Int = 0, rows: Int, stride: Int, _ b: Int, _ h: Int,
        _ wanted: [Double], _ bound: [Double], _ place: String
    ) -> Bool {
        bytes.withUnsafeBytes { raw in
            let got = s.head(raw.baseAddress! + offset * s.element, b, rows, stride, h)
            for i in wanted.indices where !(abs(got[i] - wanted[i]) <= bound[i]) {
                XCTFail(
                    "\(place)[\(i / s.size), \(i % s.size)] of image \(b) head \(h): \(got[i]), not \(wanted[i]) ± "
                        + "\(bound[i])"
                )
                return false
            }
            return true
        }
    }
    private func checkGaps(_ s: Inputs, _ bytes: [UInt8], stride: Int, width: Int, _ place: String) {
        let touched = bytes.indices.first { $0 / s.element % stride >= width && bytes[$0] != 0xff }
        XCTAssertNil(touched, "\(place): written between the rows")
    }

    private func check(
        batch: Int, queries: Int? = nil, tokens: Int, heads: Int, size: Int, gap: Int = 3, threads: [Int32] = [2],
        _ random: inout Random
    ) {
        for (type, operation) in types {
            let s = inputs(
                type, batch: batch, queries: queries ?? tokens, tokens: tokens, heads: heads, size: size, gap: gap,
                &random)
            let references = (0..<batch * heads).map { s.reference($0 / heads, $0 % heads) }
            let forwards = references.map { $0.forward() }, errors = references.map(\.relativeError)
            let backwards = references.indices.map {
                references[$0].backward(s.head(s.d, $0 / heads, s.queries, s.outputStride, $0 % heads), forwards[$0])
            }
            forEachVariant(of: operation) { variant in
                var first: Result?
                for count in threads {
                    dmae_set_threads(count)
                    let result = run(s)
                    let place =
                        "\(variant.name) batch \(batch) queries \(s.queries) tokens \(tokens) heads \(heads) size "
                        + "\(size): "
                    for index in 0..<batch * heads {
                        let (b, h) = (index / heads, index % heads), forward = forwards[index],
                            backward = backwards[index]
                        guard
                            compare(
                                s, result.output, rows: s.queries, stride: s.outputStride, b, h, forward.output,
                                forward.bound,
                                place + "output"),
                            compare(
                                s, result.dQ, rows: s.queries, stride: s.qStride, b, h, backward.gradient[0],
                                backward.bound[0],
                                place + "dQ"),
                            compare(
                                s, result.dKV, rows: tokens, stride: s.kvStride, b, h, backward.gradient[1],
                                backward.bound[1],
                                place + "dK"),
                            compare(
                                s, result.dKV, offset: s.width, rows: tokens, stride: s.kvStride, b, h,
                                backward.gradient[2],
                                backward.bound[2], place + "dV")
                        else { return }
                        for i in 0..<s.queries {
                            let got = Double(result.logSumExp[index * s.queries + i]), wanted = forward.logSumExp[i]
                            if !(abs(got - wanted) <= errors[index] + 4 * u * max(1, abs(wanted))) {
                                return XCTFail(
                                    "\(place)log_sum_exp[\(i)] of image \(b) head \(h): \(got), not \(wanted)")
                            }
                        }
                    }
                    checkGaps(s, result.output, stride: s.outputStride, width: s.width, place + "output")
                    checkGaps(s, result.dQ, stride: s.qStride, width: s.width, place + "dQ")
                    checkGaps(s, result.dKV, stride: s.kvStride, width: 2 * s.width, place + "dK, dV")
                    if let first {
                        XCTAssertTrue(
                            first == result, "\(place)other bits with \(count) than with \(threads[0]) threads")
                    } else {
                        first = result
                    }
                }
            }
        }
    }

    func testEveryCountOfTokens() {
        var random = Random("attention tokens")
        for tokens in Array(1...70) + [80, 127, 128, 129] {
            check(batch: 1, tokens: tokens, heads: 2, size: [64, 32, 80, 7][tokens % 4], &random)
        }
    }
    func testEveryHeadSize() {
        var random = Random("attention sizes")
        for size in Array(1...80) + [96, 128, 130] {
            check(batch: 1, tokens: [4, 10, 17, 33][size % 4], heads: size % 3 + 1, size: size, gap: size % 2, &random)
        }
    }
    func testQueriesApartFromKeys() {
        var random = Random("attention queries")
        for (queries, tokens) in [
            (1, 1), (1, 2), (2, 1), (1, 197), (5, 50), (33, 16), (16, 33), (50, 13), (64, 3), (70, 15), (148, 197),
        ] {
            for size in [32, 64, 9] { check(batch: 2, queries: queries, tokens: tokens, heads: 1, size: size, &random) }
        }
    }
    func testLongRows() {
        var random = Random("attention long")
        check(batch: 1, tokens: 197, heads: 2, size: 64, threads: [1, 2], &random)
        check(batch: 1, tokens: 197, heads: 2, size: 32, gap: 0, &random)
        check(batch: 1, tokens: 577, heads: 1, size: 32, &random)
    }
    func testTheSameBitsForAnyThreads() {
        var random = Random("attention threads")
        for tokens in [4, 10, 50, 70] {
            check(batch: 3, tokens: tokens, heads: 3, size: 64, threads: [1, 2, 3], &random)
        }
    }

    /// What a query gives does not depend on the queries beside it.
    func testQueriesAreIndependent() {
        var random = Random("attention independence")
        for (tokens, size) in [(197, 32), (50, 64), (71, 19)] {
            for (type, operation) in types {
                let s = inputs(type, batch: 1, queries: tokens, tokens: tokens, heads: 1, size: size, gap: 0, &random)
                forEachVariant(of: operation) { variant in
                    let all = run(s), row = size * s.element
                    for (first, count) in [(0, 1), (0, tokens - 3), (1, tokens - 1), (17, 33), (tokens - 1, 1)] {
                        let some = run(s, first: first, count: count), bytes = first * row..<(first + count) * row
                        XCTAssertTrue(
                            some.output == Array(all.output[bytes]) && some.dQ == Array(all.dQ[bytes])
                                && some.logSumExp == Array(all.logSumExp[first..<first + count]),
                            "\(variant.name) tokens \(tokens) size \(size): queries \(first)..<\(first + count) alone "
                                + "give other bits"
                        )
                    }
                }
            }
        }
    }

    /// The kernels' gradient against central differences of the forward pass in double: with h = 1e-4 these are off by
    /// h²/6 times the third derivative, of order 1 here, plus rounding of 1e-16/h: together below 1e-8.
    func testFiniteDifferences() {
        var random = Random("attention differences")
        for (queries, tokens, size) in [(1, 1, 3), (4, 4, 8), (7, 7, 5), (3, 6, 4)] {
            for (type, operation) in types {
                let s = inputs(type, batch: 1, queries: queries, tokens: tokens, heads: 1, size: size, gap: 0, &random)
                let reference = s.reference(0, 0), d = s.head(s.d, 0, queries, size, 0)
                func loss(_ x: [[Double]]) -> Double {
                    let moved = Reference(
                        type: type, queries: queries, tokens: tokens, size: size, q: x[0], k: x[1], v: x[2])
                    return zip(moved.forward().output, d).reduce(0) { $0 + $1.0 * $1.1 }
                }
                let x = [reference.q, reference.k, reference.v],
                    bound = reference.backward(d, reference.forward()).bound
                forEachVariant(of: operation) { variant in
                    let result = run(s)
                    for part in 0..<3 {
                        for i in x[part].indices {
                            var (more, less) = (x, x)
                            more[part][i] += 1e-4
                            less[part][i] -= 1e-4
                            let wanted = (loss(more) - loss(less)) / 2e-4
                            let got = (part == 0 ? result.dQ : result.dKV).withUnsafeBytes {
                                s.read(
                                    $0.baseAddress!, part == 0 ? i : i / size * 2 * size + (part - 1) * size + i % size)
                            }
                            if !(abs(got - wanted) <= bound[part][i] + 1e-8) {
                                return XCTFail(
                                    "\(variant.name) tokens \(tokens) size \(size): \(part)[\(i)] \(got), not \(wanted)"
                                )
                            }
                        }
                    }
                }
            }
        }
    }

    /// Scores of hundreds: exp must neither overflow nor divide by zero.
    func testLargeScores() {
        let tokens = 20, size = 16
        var random = Random("attention large")
        for (type, operation) in types {
            let s = inputs(type, batch: 1, queries: tokens, tokens: tokens, heads: 1, size: size, gap: 0, &random)
            func enlarge(_ place: UnsafeMutableRawPointer, _ i: Int) {
                let x = Float(20 * s.read(place, i))
                if type == DMAE_TYPE_BF16 {
                    place.storeBytes(of: bf16(x), toByteOffset: 2 * i, as: UInt16.self)
                } else {
                    place.storeBytes(of: x, toByteOffset: 4 * i, as: Float.self)
                }
            }
            for i in 0..<tokens * size {
                enlarge(s.q, i)
                enlarge(s.kv, i / size * 2 * size + i % size)
            }
            forEachVariant(of: operation) { variant in
                let result = run(s)
                func all(_ bytes: [UInt8], _ holds: (Double) -> Bool) -> Bool {
                    bytes.withUnsafeBytes { raw in
                        (0..<bytes.count / s.element).allSatisfy { holds(s.read(raw.baseAddress!, $0)) }
                    }
                }
                XCTAssertTrue(all(result.output) { abs($0) <= 1 + 4 * bf16Unit }, variant.name)
                XCTAssertTrue(all(result.dQ, \.isFinite) && all(result.dKV, \.isFinite), variant.name)
            }
        }
    }

    /// Without queries nothing flows back into the keys; without keys nothing comes out.
    func testNothing() {
        var random = Random("attention nothing")
        for (type, operation) in types {
            let s = inputs(type, batch: 1, queries: 3, tokens: 5, heads: 2, size: 4, gap: 0, &random)
            forEachVariant(of: operation) { variant in
                let output = memory[3].bytes(24 * s.element), dKV = memory[5].bytes(80 * s.element)
                memset(output, 0xff, 24 * s.element)
                memset(dKV, 0xff, 80 * s.element)
                var arguments = dmae_attention_arguments()
                arguments.type = type
                (arguments.batch, arguments.heads, arguments.head_size) = (1, 2, 4)
                (arguments.q_stride, arguments.kv_stride, arguments.output_stride) = (8, 16, 8)
                (arguments.q, arguments.k, arguments.v) = (
                    UnsafeRawPointer(s.q), UnsafeRawPointer(s.kv), UnsafeRawPointer(s.kv)
                )
                (arguments.output, arguments.d_output) = (output, UnsafeRawPointer(s.d))
                (arguments.d_q, arguments.d_k, arguments.d_v) = (output, dKV, dKV + 8 * s.element)
                arguments.tokens = 5
                dmae_attention_forward(&arguments)
                dmae_attention_backward(&arguments)
                XCTAssertTrue(
                    UnsafeRawBufferPointer(start: dKV, count: 80 * s.element).allSatisfy { $0 == 0 }, variant.name)
                XCTAssertTrue(
                    UnsafeRawBufferPointer(start: output, count: 24 * s.element).allSatisfy { $0 == 0xff }, variant.name
                )
                (arguments.queries, arguments.tokens) = (3, 0)
                dmae_attention_forward(&arguments)
                XCTAssertTrue(
                    UnsafeRawBufferPointer(start: output, count: 24 * s.element).allSatisfy { $0 == 0 }, variant.name)
            }
        }
    }
}
