import Tensors
import TestSupport
import XCTest

final class InPlaceActivationTests: XCTestCase {
    /// The step back through GELU may leave GELU's output where its input was: the same bits as with memory of its own.
    /// Sizes past one block of every dimension, types as they come in a step.
    func testActivationInPlaceOfItsInput() throws {
        let seed = testSeed(42)
        let ran = try withEachInstructionSet { set in
            for (rows, inputs, outputs) in [(3, 5, 2), (37, 70, 33), (150, 96, 1700)] {
                for (precision, type) in [(Precision.f32, ElementType.f32), (.bf16, .bf16), (.bf16, .f32)] {
                    let plan = MemoryPlan()
                    let dY = plan.reserve("dY", rows, outputs, .activations)
                    let weight = plan.reserve("weight", outputs, inputs, .weights)
                    // Float32 memory, to be looked into, and the same as the type in question.
                    let memory = (0..<5).map { plan.reserve("memory \($0)", rows * inputs, 1, .activations) }
                    let tensors = memory.map { $0.prefix(rows: rows, columns: inputs, as: type) }
                    // Every thread has its own part of it.
                    let workspace = withThreads(3) {
                        plan.workspace(
                            "kernel workspace",
                            bytes: Kernels.linearWorkspaceBytes(
                                rows: rows, inputs: inputs, outputs: outputs, precision: precision, activations: type),
                            alive: .always)
                    }
                    try plan.commit()
                    var random = CounterRandom(seed: seed, purpose: .test)
                    for tensor in [dY, weight] {
                        for i in 0..<tensor.count { tensor.pointer[i] = Float(random.normal()) }
                    }
                    // A normal number in either type: two of bf16 in the bits of one float32.
                    for i in 0..<rows * inputs {
                        let upper = Float(2 * random.normal()).bitPattern, lower = Float(2 * random.normal()).bitPattern
                        memory[0].pointer[i] = Float(bitPattern: upper & 0xFFFF_0000 | lower >> 16)
                    }
                    for threads in [1, 2, 3] {
                        withThreads(threads) {
                            for apart in memory[1...] { apart.copy(from: memory[0]) }
                            let (before, activation, dX, inPlace, dXInPlace) = (
                                tensors[0], tensors[1], tensors[2], tensors[3], tensors[4]
                            )
                            Kernels.linearInputGradient(
                                dY, weight: weight, preActivation: before, activation: activation, dX: dX,
                                precision: precision,
                                workspace: workspace)
                            Kernels.linearInputGradient(
                                dY, weight: weight, preActivation: inPlace, activation: inPlace, dX: dXInPlace,
                                precision: precision,
                                workspace: workspace)
                            let what =
                                "\(rows) × \(inputs) × \(outputs), \(precision), \(type), \(set.name), \(threads) "
                                + "threads"
                            let bits = memory.map(\.values.bits)
                            XCTAssertEqual(bits[3], bits[1], what)
                            XCTAssertEqual(bits[4], bits[2], what)
                            XCTAssertNotEqual(bits[1], bits[0], what)
                            XCTAssertNotEqual(bits[2], bits[0], what)
                        }
                    }
                }
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }
}
