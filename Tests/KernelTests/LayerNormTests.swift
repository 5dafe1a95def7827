import CKernels
import Foundation
import XCTest

/// Bounds, with N = width and x̂ the normalised values, all to first order in u. The mean is off by N·u·mean|x|, the
/// variance relatively by (N + 3)·u plus what the mean brings, so x̂ is off by (N + 4)·u·(|x̂| + max|x|·rstd). Inputs
/// lie in [-1, 3). The terms of d_x = rstd·(g - mean(g) - x̂·mean(g·x̂)) add up: sums of N terms are off by N·u of
/// their magnitude, x̂ by the above wherever it stands.
final class LayerNormTests: KernelTestCase {
    private let memory = (0..<10).map { _ in GuardedMemory(floats: 1 << 19) }
    private let workspaces = GuardedMemory(floats: 1 << 20)
    private let epsilon: Float = 1e-6

    private func check(rows: Int, width: Int, threads: [Int32] = [2], _ random: inout Random) {
        let count = rows * width
        let x = memory[0].matrix(rows: rows, width: width, ld: width, &random)
        for i in 0..<count { x[i] = 1 + 2 * x[i] }
        let gamma = memory[1].matrix(rows: 1, width: width, ld: width, &random)
        let beta = memory[2].matrix(rows: 1, width: width, ld: width, &random)
        let dy = memory[3].matrix(rows: rows, width: width, ld: width, &random)
        let start = (0..<count).map { _ in random.float() }
        let gammaStart = (0..<width).map { _ in random.float() }, betaStart = (0..<width).map { _ in random.float() }

        // In double, with the rows' rstd for the bounds.
        var y = [Double](repeating: 0, count: count), dx = y, rstd = [Double](repeating: 0, count: rows)
        var dGamma = gammaStart.map(Double.init), dBeta = betaStart.map(Double.init),
            slack = [Double](repeating: 0, count: width), dxBound = dx
        for r in 0..<rows {
            let row = (0..<width).map { Double(x[r * width + $0]) }, n = Double(width)
            let mean = row.reduce(0, +) / n
            let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n
            rstd[r] = 1 / (variance + Double(epsilon)).squareRoot()
            let normal = row.map { ($0 - mean) * rstd[r] }
            let g = (0..<width).map { Double(dy[r * width + $0]) * Double(gamma[$0]) }
            let meanAbsG = g.reduce(0) { $0 + abs($1) } / n,
                meanAbsProduct = zip(g, normal).reduce(0) { $0 + abs($1.0 * $1.1) } / n
            let c = (n + 4) * u, meanNormalError = c * (1 + 3 * rstd[r])
            let meanG = g.reduce(0, +) / n, meanProduct = zip(g, normal).reduce(0) { $0 + $1.0 * $1.1 } / n
            for i in 0..<width {
                let at = r * width + i
                y[at] = normal[i] * Double(gamma[i]) + Double(beta[i])
                dx[at] = rstd[r] * (g[i] - meanG - normal[i] * meanProduct)
                let normalError = c * (abs(normal[i]) + 3 * rstd[r])
                dxBound[at] =
                    c * abs(dx[at]) + rstd[r]
                    * (4 * u * abs(g[i]) + c * meanAbsG + normalError * abs(meanProduct)
                        + abs(normal[i]) * (c * meanAbsProduct + meanNormalError)) + u * (1 + abs(dx[at]))
                dGamma[i] += Double(dy[at]) * normal[i]
                dBeta[i] += Double(dy[at])
                slack[i] += Double(width + rows + 8) * u * (abs(normal[i]) + 3 * rstd[r])
            }
        }
        forEachVariant(of: "layernorm_f32") { variant in
            var first: [[Float]]?
            for count_ in threads {
                dmae_set_threads(count_)
                let place = "\(variant.name) rows \(rows) width \(width) threads \(count_)"
                let out = memory[4].floats(count), means = memory[5].floats(rows), rstds = memory[6].floats(rows)
                dmae_layernorm_f32_forward(rows, width, x, gamma, beta, epsilon, DMAE_TYPE_F32, out, means, rstds)
                let forward = array(out, count)
                for i in 0..<count {
                    let s = rstd[i / width]
                    let bound = Double(width + 6) * u * (abs(y[i]) + 1 + 4 * s)
                    if !(abs(Double(forward[i]) - y[i]) <= bound) {
                        return XCTFail("\(place): y \(forward[i]), not \(y[i])")
                    }
                }
                out.update(repeating: .nan, count: count)
                dmae_layernorm_f32_apply(rows, width, x, gamma, beta, means, rstds, DMAE_TYPE_F32, out)
                XCTAssertEqual(array(out, count), forward, "\(place): apply")
                out.update(repeating: .nan, count: count)
                dmae_layernorm_f32_forward(rows, width, x, gamma, beta, epsilon, DMAE_TYPE_F32, out, nil, nil)
                XCTAssertEqual(array(out, count), forward, "\(place): without statistics")
                for again in [false, true] {
                    let rounded = memory[4].store([Float](repeating: .nan, count: count), DMAE_TYPE_BF16)
                    if again {
                        dmae_layernorm_f32_apply(rows, width, x, gamma, beta, means, rstds, DMAE_TYPE_BF16, rounded)
                    } else {
                        dmae_layernorm_f32_forward(
                            rows, width, x, gamma, beta, epsilon, DMAE_TYPE_BF16, rounded, nil, nil)
                    }
                    XCTAssertEqual(read(rounded, count, DMAE_TYPE_BF16), forward.map(bf16), "\(place): bf16")
                }

                let gradient = memory[7].floats(count), toGamma = memory[8].floats(width),
                    toBeta = memory[9].floats(width)
                var results = [forward]
                for mode in 0..<3 {  // d_x =, d_x +=, d_x in d_y's memory
                    let bytes = dmae_layernorm_f32_backward_workspace(rows, width)
                    gradient.update(from: mode == 2 ? array(dy, count) : start, count: count)
                    toGamma.update(from: gammaStart, count: width)
                    toBeta.update(from: betaStart, count: width)
                    dmae_layernorm_f32_backward(
                        rows, width, x, gamma, means, rstds, mode == 2 ? UnsafePointer(gradient) : UnsafePointer(dy),
                        mode == 1,
                        gradient, toGamma, toBeta, workspaces.workspace(bytes: bytes))
                    for i in 0..<count {
                        let wanted = dx[i] + (mode == 1 ? Double(start[i]) : 0)
                        if !(abs(Double(gradient[i]) - wanted) <= dxBound[i]) {
                            return XCTFail("\(place): d_x[\(i)] \(gradient[i]), not \(wanted), mode \(mode)")
                        }
                    }
                    for i in 0..<width {
                        if !(abs(Double(toGamma[i]) - dGamma[i]) <= slack[i] + 2 * u) {
                            return XCTFail("\(place): d_gamma[\(i)] \(toGamma[i]), not \(dGamma[i])")
                        }
                        if !(abs(Double(toBeta[i]) - dBeta[i]) <= Double((rows + 2) * (rows + 1)) * u) {
                            return XCTFail("\(place): d_beta[\(i)] \(toBeta[i]), not \(dBeta[i])")
                        }
                    }
                    results.append(array(gradient, count))
                    results.append(array(toGamma, width))
                    results.append(array(toBeta, width))
                }
                XCTAssertTrue(first == nil || first! == results, "\(place): other bits than with \(threads[0]) threads")
                first = results
            }
        }
    }

    func testEveryWidth() {
        var random = Random("layernorm widths")
        for width in Array(2...70) + [100, 127, 128, 129, 255, 256, 257] { check(rows: 3, width: width, &random) }
    }
    func testRows() {
        var random = Random("layernorm rows")
        for rows in [1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 130] {
            check(rows: rows, width: 50, threads: [1, 2, 3], &random)
        }
        for width in [512, 768, 1024] { check(rows: 70, width: width, threads: [1, 2, 3], &random) }
    }
    /// A row without variance: rstd is 1/√epsilon and x̂ zero.
    func testConstantRow() {
        forEachVariant(of: "layernorm_f32") { variant in
            var y = [Float](repeating: 0, count: 20), mean: Float = 0, rstd: Float = 0
            let x = [Float](repeating: 0.5, count: 20), ones = [Float](repeating: 1, count: 20)
            dmae_layernorm_f32_forward(1, 20, x, ones, ones, 1e-6, DMAE_TYPE_F32, &y, &mean, &rstd)
            XCTAssertEqual(y, ones, variant.name)
            XCTAssertEqual(mean, 0.5, variant.name)
            XCTAssertEqual(rstd, 1000, accuracy: 0.001, variant.name)
        }
    }
    /// d_x and d_gamma against central differences, in double, of Σ d_y·y: h = 1e-5 leaves errors below 1e-8, and the
    /// kernels' own bound for these sizes is below 1e-5.
    func testFiniteDifferences() {
        var random = Random("layernorm differences")
        let width = 11
        let x = (0..<width).map { _ in random.float() }, gamma = (0..<width).map { _ in random.float() }
        let beta = (0..<width).map { _ in random.float() }, dy = (0..<width).map { _ in random.float() }
        let epsilon = epsilon
        func loss(_ x: [Double], _ gamma: [Double]) -> Double {
            let mean = x.reduce(0, +) / Double(width)
            let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(width)
            let s = 1 / (variance + Double(epsilon)).squareRoot()
            return (0..<width).reduce(0) { $0 + Double(dy[$1]) * ((x[$1] - mean) * s * gamma[$1] + Double(beta[$1])) }
        }
        let (wideX, wideGamma) = (x.map(Double.init), gamma.map(Double.init))
        forEachVariant(of: "layernorm_f32") { variant in
            var y = x, mean: Float = 0, rstd: Float = 0, dx = x, dGamma = [Float](repeating: 0, count: width),
                dBeta = dGamma
            dmae_layernorm_f32_forward(1, width, x, gamma, beta, epsilon, DMAE_TYPE_F32, &y, &mean, &rstd)
            dmae_layernorm_f32_backward(
                1, width, x, gamma, &mean, &rstd, dy, false, &dx, &dGamma, &dBeta,
                workspaces.workspace(bytes: dmae_layernorm_f32_backward_workspace(1, width)))
            let h = 1e-5
            for i in 0..<width {
                var (more, less) = (wideX, wideX)
                more[i] += h
                less[i] -= h
                XCTAssertEqual(
                    Double(dx[i]), (loss(more, wideGamma) - loss(less, wideGamma)) / (2 * h),
                    accuracy: 2e-5 * Double(max(1, rstd)))
                (more, less) = (wideGamma, wideGamma)
                more[i] += h
                less[i] -= h
                XCTAssertEqual(
                    Double(dGamma[i]), (loss(wideX, more) - loss(wideX, less)) / (2 * h), accuracy: 1e-5, variant.name)
            }
        }
    }
}
