import CKernels
import Tensors
import TestSupport
import XCTest

/// Recording kernel calls: what is noted, and that nothing is computed meanwhile.
final class KernelCallTests: XCTestCase {
    func testCallsAreNotedInsteadOfRun() throws {
        let plan = MemoryPlan()
        let x = plan.reserve("tensor 1", 3, 5, .activations), weight = plan.reserve("tensor 2", 4, 5, .weights)
        let y = plan.reserve("tensor 3", 3, 4, .activations)
        let workspace = plan.workspace(
            "workspace",
            bytes: Kernels.linearWorkspaceBytes(rows: 3, inputs: 5, outputs: 4, precision: .f32, activations: .f32),
            alive: .always)
        try plan.commit()
        func multiply() {
            Kernels.linear(x, weight: weight, bias: nil, output: y, precision: .f32, workspace: workspace)
        }
        for tensor in [x, weight, y] { tensor.elements.update(repeating: 1) }
        Profile.part = "student"
        defer { Profile.part = "" }
        let calls = Profile.recordCalls {
            multiply()
            XCTAssertEqual(Kernels.sumOfSquares(x), 0)
            x.clear()
        }
        XCTAssertEqual(Array(y.elements), Array(repeating: 1, count: 12), "a recorded call computes nothing")
        XCTAssertEqual(Array(x.elements), Array(repeating: 1, count: 15), "nor does a row loop")
        XCTAssertEqual(calls.map(\.part), ["student", "student"])
        XCTAssertEqual(calls[0].flop, 2 * 3 * 4 * 5)
        XCTAssertEqual(calls[0].bytes, 4 * (15 + 20 + 12))
        guard case .gemm(let arguments) = calls[0].arguments else { return XCTFail("not a GEMM") }
        XCTAssertEqual([arguments.m, arguments.n, arguments.k], [3, 4, 5])
        guard case .sumOfSquares(count: 15) = calls[1].arguments else { return XCTFail("not a sum of squares") }
        multiply()
        XCTAssertEqual(Array(y.elements), Array(repeating: 5, count: 12), "computed again after the recording")
        XCTAssertEqual(Profile.recordCalls {}.count, 0)
    }
}
