import Models
import Tensors
import TestSupport
import Training
import XCTest

/// The norm of all gradients that are there.
func gradientNorm(_ parameters: Parameters) -> Float {
    var norm = GradientNorm(parameters)
    norm.add(parameters, parameters.all.indices)
    return norm.value
}

final class OptimizerTests: XCTestCase {
    /// With no gradient, weights shrink by lr·decay where they decay, and stay to the bit where they do not; positions
    /// are fixed.
    func testDecay() throws {
        var state: OptimizerState!
        let model = try RandomModel(.small(), batch: 1, seed: testSeed(61)) {
            state = OptimizerState(of: $0.parameters, plan: $1)
        }
        let before = Dictionary(uniqueKeysWithValues: model.parameters.all.map { ($0.name, $0.weight.values) })
        state.update(model.parameters.all.indices, Optimizer(weightDecay: 0.5), learningRate: 0.25, step: 1)
        for parameter in model.parameters.all {
            let decays = parameter.gradient != nil && parameter.decays
            // 1 - 0.25·0.5 is exact, and so the product is rounded once.
            let expected = before[parameter.name]!.map { decays ? $0 * 0.875 : $0 }
            XCTAssertEqual(parameter.weight.values.bits, expected.bits, parameter.name)
        }
        XCTAssertNotEqual(before["cls_token"]!, model.parameters.all.first { $0.name == "cls_token" }!.weight.values)
    }

    /// Three steps of AdamW in double. Each step rounds moments, quotient and weight a few times: 16·u of the largest
    /// value of each.
    func testAgreesWithTheFormulaInDouble() throws {
        let seed = testSeed(62)
        var state: OptimizerState!
        let model = try RandomModel(.small(projection: .mlp), batch: 1, seed: seed) {
            state = OptimizerState(of: $0.parameters, plan: $1)
        }
        let optimizer = Optimizer(beta1: 0.8, beta2: 0.9, epsilon: 1e-3, weightDecay: 0.1)
        let (rate, decay) = (Double(Float(0.01)), Double(Float(0.1)))
        let (beta1, beta2, epsilon) = (Double(Float(0.8)), Double(Float(0.9)), Double(Float(1e-3)))
        var weights: [[Double]] = model.parameters.all.map { $0.weight.values.map(Double.init) }
        var first = weights.map { $0.map { _ in 0.0 } }
        var second = first
        for step in 1...3 {
            for (index, parameter) in model.parameters.all.enumerated() {
                guard let gradient = parameter.gradient else { continue }
                var random = CounterRandom(seed: seed, purpose: .test, epoch: step, index: index)
                for i in 0..<gradient.count {
                    let g = Float(random.normal())
                    gradient.pointer[i] = g
                    first[index][i] = beta1 * first[index][i] + (1 - beta1) * Double(g)
                    second[index][i] = beta2 * second[index][i] + (1 - beta2) * Double(g) * Double(g)
                    let m = first[index][i] / (1 - pow(beta1, Double(step)))
                    let v = second[index][i] / (1 - pow(beta2, Double(step)))
                    if parameter.decays { weights[index][i] *= 1 - rate * decay }
                    weights[index][i] -= rate * m / (v.squareRoot() + epsilon)
                }
            }
            state.update(model.parameters.all.indices, optimizer, learningRate: 0.01, step: step)
        }
        var comparison = TensorComparison()
        for (index, parameter) in model.parameters.all.enumerated() {
            comparison.compare(
                parameter.name, expected: weights[index].map { Float($0) }, found: parameter.weight.values,
                relative: 16 * 0x1p-24)
            XCTAssertNil(state[parameter.name, .momentum])
            for (kind, expected) in [(OptimizerState.Kind.firstMoment, first), (.secondMoment, second)] {
                guard let tensor = state[parameter.name, kind] else { continue }
                comparison.compare(
                    "\(kind) \(parameter.name)", expected: expected[index].map { Float($0) }, found: tensor.values,
                    relative: 16 * 0x1p-24)
            }
        }
        XCTAssertEqual(comparison.failures, [])
        print("AdamW: \(comparison.summary)")
    }

    /// √Σg² over all tensors, summed in double and rounded once.
    func testGradientNorm() throws {
        let model = try RandomModel(.small(), batch: 2, seed: testSeed(63))
        model.step()
        var sum = 0.0
        for gradient in model.gradients().values { for value in gradient { sum += Double(value) * Double(value) } }
        let norm = Double(gradientNorm(model.parameters))
        XCTAssertEqual(norm, sum.squareRoot(), accuracy: 2 * 0x1p-24 * sum.squareRoot())
        model.parameters.all.first { $0.name == "norm.bias" }!.gradient!.pointer[0] = .nan
        XCTAssertTrue(gradientNorm(model.parameters).isNaN)
    }
}
