import Foundation
import Images
import Interchange
import Models
import Tensors
import TestSupport
import Training
import Weights
import XCTest

/// LARS against PyTorch's record (Fixtures/probe).
final class LARSTests: XCTestCase {
    /// Parameters of the recorded names and shapes, and LARS's state.
    private final class Recorded {
        let file: SafeTensorsFile
        let plan = MemoryPlan()
        let parameters: Parameters
        let state: OptimizerState
        let rates: [Float]

        init() throws {
            file = try SafeTensorsFile(path: Fixtures.path("probe/lars.safetensors"))
            rates = try file.floats("rates")
            parameters = Parameters(trainedIn: plan, owner: "test", keepsGradients: true)
            let phase = plan.phase("test")
            for entry in file.entries where entry.name.hasPrefix("before.") {
                _ = parameters.add(
                    String(entry.name.dropFirst("before.".count)), entry.shape, .zero, gradient: phase...phase)
            }
            state = OptimizerState(of: parameters, .lars, plan: plan)
            try plan.commit()
            try parameters.load(from: file, prefix: "before.")
        }

        func run(step: Int) throws {
            for parameter in parameters.all {
                try file.copyFloats("gradient.\(parameter.name).\(step)", into: parameter.gradient!.elements)
            }
            state.update(parameters.all.indices, .lars, learningRate: rates[step], step: step + 1)
        }
    }

    /// Momentum and weights of every step. Each step rounds norms, factor, product and sums, fewer than 8 times, and
    /// keeps the errors of the steps before: 8·(step + 1)·u of the largest value.
    func testAgreesWithPyTorch() throws {
        let recorded = try Recorded()
        XCTAssertEqual(recorded.parameters.all.count, 5)
        var comparison = TensorComparison()
        for step in recorded.rates.indices {
            try recorded.run(step: step)
            for parameter in recorded.parameters.all {
                let momentum = try XCTUnwrap(recorded.state[parameter.name, .momentum])
                for (kind, tensor) in [("momentum", momentum), ("after", parameter.weight)] {
                    let name = "\(kind).\(parameter.name).\(step)"
                    comparison.compare(
                        name, expected: try recorded.file.floats(name), found: tensor.values,
                        relative: 8 * Double(step + 1) * 0x1p-24)
                }
            }
        }
        XCTAssertEqual(comparison.failures, [])
        print("LARS: \(comparison.summary)")
    }

    /// A probe that LARS trains, from batch to weights: losses, statistics and weights of every step.
    ///
    /// A gradient is off by some 32·u of its largest value, a step of LARS adds 8·u, and later steps begin with the
    /// errors of earlier ones. The bias is not scaled, so that its momentum sums up gradients times rates up to 6.4.
    func testTrainsAProbeAsPyTorchDoes() throws {
        let file = try SafeTensorsFile(path: Fixtures.path("probe/probe.safetensors"))
        let shape = try file.entry("features").shape, (steps, batch, width) = (shape[0], shape[1], shape[2])
        let encoder = EncoderConfiguration(
            width: width, depth: 1, heads: 1, patchSize: 4, imageHeight: 4, imageWidth: 4)
        let plan = MemoryPlan()
        let probe = try LinearProbe(
            ClassifierConfiguration(encoder: encoder, classes: 7, pool: .class), batch: batch, plan: plan, .features,
            keepsGradients: false)
        let loop = StepLoop(probe, .lars, accumulation: 1, plan: plan)
        try plan.commit()
        probe.parameters.initialize(seed: 1)
        func parameter(_ name: String) -> Tensor { probe.parameters.all.first { $0.name == name }!.weight }
        try file.copyFloats("weight", into: parameter("head.1.weight").elements)
        try file.copyFloats("bias", into: parameter("head.1.bias").elements)
        let features = try file.floats("features"), rates = try file.floats("rates"), losses = try file.floats("loss")
        let labels = try file.withBytes("labels") { bytes in
            (0..<steps * batch).map { Int(bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self)) }
        }
        var comparison = TensorComparison()
        for step in 0..<steps {
            let outcome = try loop.run(step: step + 1, learningRate: rates[step]) {
                for index in 0..<batch * width {
                    probe.images.pointer[index] = features[step * batch * width + index]
                }
                let samples = Array(step * batch..<(step + 1) * batch)
                return Batch(
                    samples: samples, images: samples, labels: Array(labels[step * batch..<(step + 1) * batch]))
            }
            guard case .finished = outcome else { return XCTFail("\(outcome)") }
            let tolerance = 40 * Double(step + 1) * 0x1p-24
            comparison.compare("loss \(step)", expected: [losses[step]], found: loop.losses, relative: tolerance)
            for (name, own) in [
                ("running_mean", "head.0.running_mean"), ("running_var", "head.0.running_var"),
                ("weight", "head.1.weight"), ("bias", "head.1.bias"),
            ] {
                let found = parameter(own).values
                let expected = try file.floats("after.\(name)")[step * found.count..<(step + 1) * found.count]
                comparison.compare("\(own) \(step)", expected: Array(expected), found: found, relative: tolerance)
            }
        }
        XCTAssertEqual(comparison.failures, [])
        print("probe: \(comparison.summary)")
    }

    /// A matrix is scaled by trust·‖w‖/‖g‖; the same values as a vector are not. Without a momentum before, the first
    /// step moves a matrix by trust·rate of its norm, whatever the gradient's size.
    func testOnlyMatricesAreScaled() throws {
        let plan = MemoryPlan(), phase = plan.phase("test")
        let parameters = Parameters(trainedIn: plan, owner: "test", keepsGradients: true)
        let matrix = parameters.add("matrix", [2, 2], .zero, gradient: phase...phase)
        let vector = parameters.add("vector", [4], .zero, gradient: phase...phase)
        let state = OptimizerState(of: parameters, .lars, plan: plan)
        try plan.commit()
        for parameter in [matrix, vector] {
            // Norms 6 and 1500.
            for (index, value) in [Float(4), 4, 0, 2].enumerated() { parameter.weight.elements[index] = value }
            for (index, value) in [Float(0), 900, 1200, 0].enumerated() {
                parameter.gradient!.elements[index] = value
            }
        }
        state.update(
            0..<2, Optimizer(algorithm: .lars, weightDecay: 0, trust: 0.5), learningRate: 0.25, step: 1)
        // 0.25 · 0.5 · 6/1500 · 900 = 0.45.
        let expected: [Float] = [4, 3.55, -0.6, 2]
        for (found, expected) in zip(matrix.weight.values, expected) {
            XCTAssertEqual(found, expected, accuracy: 4 * 0x1p-24 * 4)
        }
        XCTAssertEqual(vector.weight.values, [4, 4 - 225, -300, 2])
    }

    /// The same bits for any number of threads, on a tensor of several units of work.
    func testBitsDependOnNoThreads() throws {
        func result(threads: Int) throws -> [UInt32] {
            try withThreads(threads) {
                let plan = MemoryPlan(), phase = plan.phase("test")
                let parameters = Parameters(trainedIn: plan, owner: "test", keepsGradients: true)
                let matrix = parameters.add("matrix", [301, 211], .zero, gradient: phase...phase)
                let state = OptimizerState(of: parameters, .lars, plan: plan)
                try plan.commit()
                var random = CounterRandom(seed: 71, purpose: .test)
                for index in 0..<matrix.weight.count {
                    matrix.weight.pointer[index] = Float(random.normal())
                    matrix.gradient!.pointer[index] = Float(random.normal())
                }
                for step in 1...3 { state.update(0..<1, .lars, learningRate: 3, step: step) }
                return matrix.weight.values.bits
            }
        }
        let expected = try result(threads: 1)
        for threads in [2, 3, 5] { XCTAssertEqual(try result(threads: threads), expected, "\(threads) threads") }
    }
}
