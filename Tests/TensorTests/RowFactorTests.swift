import Tensors
import TestSupport
import XCTest

final class RowFactorTests: XCTestCase {
    /// A residual branch with a factor for each image. Zero leaves the residual. Others are as
    /// good as the branch multiplied afterwards.
    func testFactorsOfImages() throws {
        let seed = testSeed(43), (images, tokens, inputs, outputs) = (3, 5, 70, 33), rows = images * tokens
        let ran = try withEachInstructionSet { set in
            let plan = MemoryPlan()
            let x = plan.reserve("x", rows, inputs, .activations)
            let weight = plan.reserve("weight", outputs, inputs, .weights)
            let bias = plan.reserve("bias", outputs, 1, .weights)
            let factors = plan.reserve("factors", images, 1, .activations)
            let matrices = (0..<4).map { plan.reserve("matrix \($0)", rows, outputs, .activations) }
            let workspace = plan.workspace(
                "kernel workspace",
                bytes: Kernels.linearWorkspaceBytes(
                    rows: rows, inputs: inputs, outputs: outputs, precision: .f32, activations: .f32),
                alive: .always)
            try plan.commit()
            var random = CounterRandom(seed: seed, purpose: .test)
            let (residual, plain, branch, scaled) = (matrices[0], matrices[1], matrices[2], matrices[3])
            for tensor in [x, weight, bias, residual] {
                for i in 0..<tensor.count { tensor.pointer[i] = Float(random.normal()) }
            }
            func run(_ output: Tensor, _ epilogue: Kernels.Epilogue) {
                Kernels.linear(
                    x, weight: weight, bias: bias, output: output, epilogue, precision: .f32, workspace: workspace)
            }
            run(branch, .none)
            run(plain, .residual(residual))
            let values: [Float] = [1, 0, 1.25]
            // A few roundings of sums of 70 products of normal numbers.
            let slack = 4 * Float(32).ulp
            for i in 0..<images { factors.pointer[i] = values[i] }
            run(scaled, .residual(residual, scaledBy: factors))
            for i in 0..<rows * outputs {
                let factor = values[i / (tokens * outputs)], got = scaled.pointer[i]
                let wanted = residual.pointer[i] + factor * branch.pointer[i]
                if factor == 0 { XCTAssertEqual(got, wanted, set.name) }
                if factor == 1 { XCTAssertEqual(got, plain.pointer[i], accuracy: slack, set.name) }
                XCTAssertEqual(got, wanted, accuracy: slack, set.name)
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }
}
