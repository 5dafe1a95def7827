import CKernels
import Foundation
import XCTest

/// One head in double: what the contract says, with no thought for speed.
private struct Reference {
    let tokens: Int, size: Int
    let q: [Double], k: [Double], v: [Double]  // [tokens, size]

    var scale: Double { 1 / Double(size).squareRoot() }

    func forward() -> (output: [Double], logSumExp: [Double], probability: [Double]) {
        var output = [Double](repeating: 0, count: tokens * size), logSumExp = [Double](repeating: 0, count: tokens)
        var probability = [Double](repeating: 0, count: tokens * tokens)
        for i in 0..<tokens {
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
                for x in 0..<size { output[i * size + x] += p * v[j * size + x] }
            }
        }
        return (output, logSumExp, probability)
    }

    /// The gradient, and the bound of each of its elements.
    func backward(_ d: [Double]) -> (gradient: [[Double]], bound: [[Double]]) {
        let (output, _, probability) = forward(), r = relativeError
        let zeros = [Double](repeating: 0, count: tokens * size)
        var dq = zeros, dk = zeros, dv = zeros, bq = zeros, bk = zeros, bv = zeros
        let relative = 2 * r + Double(2 * size + 2 * tokens + 8) * u
        for i in 0..<tokens {
            var delta = 0.0, deltaMagnitude = 0.0
            for x in 0..<size {
                delta += d[i * size + x] * output[i * size + x]
                for j in 0..<tokens { deltaMagnitude += abs(d[i * size + x] * v[j * size + x]) * probability[i * tokens + j] }
            }
            for j in 0..<tokens {
                let p = probability[i * tokens + j]
                var dp = 0.0, magnitude = deltaMagnitude
                for x in 0..<size {
                    dp += d[i * size + x] * v[j * size + x]
                    magnitude += abs(d[i * size + x] * v[j * size + x])
                }
                let ds = p * (dp - delta) * scale, bound = p * magnitude * scale * relative
                for x in 0..<size {
                    dq[i * size + x] += ds * k[j * size + x]
                    dk[j * size + x] += ds * q[i * size + x]
                    dv[j * size + x] += p * d[i * size + x]
                    bq[i * size + x] += bound * abs(k[j * size + x])
                    bk[j * size + x] += bound * abs(q[i * size + x])
                    bv[j * size + x] += p * abs(d[i * size + x]) * (r + Double(tokens) * u)
                }
            }
        }
        return ([dq, dk, dv], [bq, bk, bv])
    }

    /// The relative error of a probability: twice a score's, the exponential's (4u) and that of a sum over tokens.
    var relativeError: Double {
        var most = 0.0
        for i in 0..<tokens {
            for j in 0..<tokens {
                var magnitude = 0.0
                for x in 0..<size { magnitude += abs(q[i * size + x] * k[j * size + x]) }
                most = max(most, magnitude)
            }
        }
        return 2 * Double(size + 2) * u * scale * most + Double(tokens + 8) * u
    }
}

/// Bounds, to first order in u. A score, a sum of `size` products, is off by (size + 2)·u·scale·Σ|q·k|; a probability relatively by r
/// (relativeError); an output, a mean of values below 1, by r + tokens·u. A term of dQ or dK is p·(dP - delta)·scale·k: dP is off by
/// size·u·Σ|dO·V|, delta by (size + 2 + tokens)·u + r of Σ|dO|·Σp|V|; with p's own error and the sum over tokens, 2r + (2·size +
/// 2·tokens + 8)·u of the term's magnitude covers it. dV: r + tokens·u of Σp|dO|.
final class AttentionTests: KernelTestCase {
    private let memory = (0..<5).map { _ in GuardedMemory(floats: 1 << 20) }
    private let workspaces = GuardedMemory(floats: 1 << 21)

    private struct Result { var output: [Float], logSumExp: [Float], gradient: [Float] }

    private func run(batch: Int, tokens: Int, heads: Int, size: Int, qkv: UnsafeMutablePointer<Float>,
                     d: UnsafeMutablePointer<Float>) -> Result {
        let width = heads * size, count = batch * tokens * width
        let output = memory[2].floats(count), logSumExp = memory[3].floats(batch * heads * tokens)
        let gradient = memory[4].floats(3 * count), bytes = dmae_attention_f32_workspace(tokens, size)
        output.update(repeating: .nan, count: count)
        logSumExp.update(repeating: .nan, count: batch * heads * tokens)
        gradient.update(repeating: .nan, count: 3 * count)
        dmae_attention_f32_forward(batch, tokens, heads, size, qkv, output, logSumExp, workspaces.workspace(bytes: bytes))
        let kept = array(output, count)
        dmae_attention_f32_backward(
            batch, tokens, heads, size, qkv, output, logSumExp, d, gradient, workspaces.workspace(bytes: bytes))
        let result = Result(
            output: kept, logSumExp: array(logSumExp, batch * heads * tokens),
            gradient: array(gradient, 3 * count))
        dmae_attention_f32_forward(batch, tokens, heads, size, qkv, output, nil, workspaces.workspace(bytes: bytes))
        XCTAssertEqual(array(output, count), kept, "without log_sum_exp")
        return result
    }

    private func check(batch: Int, tokens: Int, heads: Int, size: Int, threads: [Int32] = [2], _ random: inout Random) {
        let width = heads * size
        let qkv = memory[0].matrix(rows: batch * tokens, width: 3 * width, ld: 3 * width, &random)
        let d = memory[1].matrix(rows: batch * tokens, width: width, ld: width, &random)
        func part(_ pointer: UnsafePointer<Float>, _ b: Int, _ h: Int, _ third: Int, _ thirds: Int) -> [Double] {
            (0..<tokens * size).map {
                Double(pointer[((b * tokens + $0 / size) * thirds + third) * width + h * size + $0 % size])
            }
        }
        let references = (0..<batch * heads).map { head -> Reference in
            let (b, h) = (head / heads, head % heads)
            return Reference(
                tokens: tokens, size: size, q: part(qkv, b, h, 0, 3), k: part(qkv, b, h, 1, 3), v: part(qkv, b, h, 2, 3))
        }
        let gradients = references.indices.map { references[$0].backward(part(d, $0 / heads, $0 % heads, 0, 1)) }
        let errors = references.map(\.relativeError)
        let forwards = references.map { $0.forward() }
        forEachVariant(of: "attention_f32") { variant in
            var first: Result?
            for count in threads {
                dmae_set_threads(count)
                let result = run(batch: batch, tokens: tokens, heads: heads, size: size, qkv: qkv, d: d)
                let place = "\(variant.name) batch \(batch) tokens \(tokens) heads \(heads) size \(size) threads \(count)"
                for head in 0..<batch * heads {
                    let (b, h) = (head / heads, head % heads)
                    let output = part(result.output, b, h, 0, 1), r = errors[head], outputBound = r + Double(tokens) * u
                    for i in 0..<tokens * size {
                        let wanted = forwards[head].output[i]
                        if !(abs(output[i] - wanted) <= outputBound) { return XCTFail("\(place): output \(output[i]), not \(wanted)") }
                    }
                    for i in 0..<tokens {
                        let got = Double(result.logSumExp[head * tokens + i]), wanted = forwards[head].logSumExp[i]
                        if !(abs(got - wanted) <= r + 4 * u * max(1, abs(wanted))) {
                            return XCTFail("\(place): log_sum_exp \(got), not \(wanted)")
                        }
                    }
                    for third in 0..<3 {
                        let got = part(result.gradient, b, h, third, 3)
                        let wanted = gradients[head].gradient[third], bound = gradients[head].bound[third]
                        for i in 0..<tokens * size where !(abs(got[i] - wanted[i]) <= bound[i]) {
                            return XCTFail("\(place): gradient \(third)[\(i)] \(got[i]), not \(wanted[i]), bound \(bound[i])")
                        }
                    }
                }
                if let first {
                    XCTAssertTrue(
                        first.output == result.output && first.logSumExp == result.logSumExp && first.gradient == result.gradient,
                        "\(place): other bits than with \(threads[0]) threads")
                } else {
                    first = result
                }
            }
        }
    }

    func testEveryCountOfTokens() {
        var random = Random("attention tokens")
        for tokens in Array(1...35) + [47, 48, 49, 50, 63, 64, 65, 66, 80, 127, 128, 129] {
            check(batch: 1, tokens: tokens, heads: 2, size: [64, 32, 80, 7][tokens % 4], &random)
        }
    }
    func testEveryHeadSize() {
        var random = Random("attention sizes")
        for size in Array(1...34) + [40, 47, 48, 49, 63, 64, 65, 72, 80, 96, 128] {
            check(batch: 1, tokens: [4, 10, 17, 33][size % 4], heads: 3, size: size, &random)
        }
    }
    func testLongRows() {
        var random = Random("attention long")
        check(batch: 1, tokens: 197, heads: 2, size: 64, threads: [1, 2], &random)
        check(batch: 1, tokens: 577, heads: 1, size: 32, &random)
    }
    func testTheSameBitsForAnyThreads() {
        var random = Random("attention threads")
        for tokens in [4, 10, 50, 70] { check(batch: 3, tokens: tokens, heads: 3, size: 64, threads: [1, 2, 3], &random) }
    }

    /// The kernels' gradient against central differences of the forward pass in double: with h = 1e-4 these are off by h²/6 times the
    /// third derivative, of order 1 here, plus rounding of 1e-16/h: together below 1e-8. The kernels' own bound for these sizes, from
    /// the derivation above with every factor at its largest: magnitudes 2·size·scale, r <= 2·(size + 2)·u·√size + (tokens + 8)·u.
    func testFiniteDifferences() {
        var random = Random("attention differences")
        for (tokens, size) in [(1, 3), (4, 8), (7, 5)] {
            let qkv = memory[0].matrix(rows: tokens, width: 3 * size, ld: 3 * size, &random)
            let d = memory[1].matrix(rows: tokens, width: size, ld: size, &random)
            func loss(_ x: [Double]) -> Double {
                func third(_ t: Int) -> [Double] { (0..<tokens * size).map { x[($0 / size * 3 + t) * size + $0 % size] } }
                let output = Reference(tokens: tokens, size: size, q: third(0), k: third(1), v: third(2)).forward().output
                return zip(output, 0..<tokens * size).reduce(0) { $0 + $1.0 * Double(d[$1.1]) }
            }
            let x = (0..<3 * tokens * size).map { Double(qkv[$0]) }
            let differences = x.indices.map { i -> Double in
                var (more, less) = (x, x)
                more[i] += 1e-4
                less[i] -= 1e-4
                return (loss(more) - loss(less)) / 2e-4
            }
            let e = Double(size + 2) * u * Double(size).squareRoot(), r = 2 * e + Double(tokens + 8) * u
            let relative = 2 * r + Double(2 * size + 2 * tokens + 8) * u
            let bound = Double(tokens) * 2 * Double(size).squareRoot() * relative + 1e-8
            forEachVariant(of: "attention_f32") { variant in
                let gradient = run(batch: 1, tokens: tokens, heads: 1, size: size, qkv: qkv, d: d).gradient
                for i in x.indices where !(abs(Double(gradient[i]) - differences[i]) <= bound) {
                    return XCTFail("\(variant.name) tokens \(tokens) size \(size): [\(i)] \(gradient[i]), not \(differences[i])")
                }
            }
        }
    }

    /// Scores of hundreds: exp must neither overflow nor divide by zero.
    func testLargeScores() {
        let tokens = 20, size = 16
        let qkv = memory[0].floats(tokens * 3 * size), d = memory[1].floats(tokens * size)
        var random = Random("attention large")
        for i in 0..<tokens * 3 * size { qkv[i] = i / size % 3 == 2 ? random.float() : 20 * random.float() }
        for i in 0..<tokens * size { d[i] = random.float() }
        forEachVariant(of: "attention_f32") { variant in
            let result = run(batch: 1, tokens: tokens, heads: 1, size: size, qkv: qkv, d: d)
            XCTAssertTrue(result.output.allSatisfy { abs($0) <= 1 + 1e-5 }, variant.name)
            XCTAssertTrue(result.gradient.allSatisfy(\.isFinite), variant.name)
        }
    }
}
