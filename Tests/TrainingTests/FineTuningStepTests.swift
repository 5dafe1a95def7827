import Models
import Tensors
import TestSupport
import Training
import XCTest

/// Gradients that go to the optimiser part by part, in memory that they share, make the same step as gradients that all
/// exist at once.
final class FineTuningStepTests: XCTestCase {
    private let optimizer = Optimizer(beta2: 0.999)

    /// Weights after three steps, and the norm of each, by the step loop. `isPoisoned`: memory whose values are dead is
    /// filled with NaN wherever a phase begins.
    private func outcome(
        _ configuration: ClassifierConfiguration, batch: Int, precision: Precision, keepsGradients: Bool,
        isPoisoned: Bool
    ) throws -> [String: [UInt32]] {
        var loop: StepLoop!
        let model = try RandomClassifier(
            configuration, batch: batch, seed: testSeed(81), .init(precision: precision, keepsGradients: keepsGradients)
        ) { loop = StepLoop($0, optimizer, accumulation: 1, plan: $1) }
        model.plan.poisonsDeadMemory = isPoisoned
        var result: [String: [UInt32]] = [:]
        for step in 1...3 {
            model.fillInputs(seed: UInt64(step))
            guard case .finished(let finished) = try loop.run(step: step, learningRate: 1e-2, next: { model.batch })
            else {
                XCTFail("the loss is not finite")
                return [:]
            }
            XCTAssertGreaterThan(finished.gradientNorm, 0)
            result["norm \(step)"] = [finished.gradientNorm.bitPattern]
            result["losses \(step)"] = loop.losses.bits
        }
        for parameter in model.classifier.parameters.all { result[parameter.name] = parameter.weight.values.bits }
        return result
    }

    func testSameBitsAsGradientsThatAllExist() throws {
        let teacher = LogitDistillation(weight: 0.5, temperature: 2)
        let cases: [(ClassifierConfiguration, Int)] = [
            (.small(dropPath: 0.4, layerDecay: 0.65, smoothing: 0.1), 4),
            (.small(width: 36, pool: .class, dropPath: 0.4, layerDecay: 0.75, teacher: teacher), 3),
        ]
        let ran = try withEachInstructionSet { set in
            for (configuration, batch) in cases {
                for precision in [Precision.f32, .bf16] {
                    let expected = try outcome(
                        configuration, batch: batch, precision: precision, keepsGradients: true, isPoisoned: false)
                    let found = try outcome(
                        configuration, batch: batch, precision: precision, keepsGradients: false, isPoisoned: true)
                    XCTAssertEqual(
                        expected.keys.filter { found[$0] != expected[$0] }.sorted(), [],
                        "\(configuration.pool), \(set.name), \(precision)")
                }
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// The sink gets the head first, then the blocks from the last, then what is before the blocks and the norm: every
    /// tensor once. If the loss is not finite, it gets nothing.
    func testGradientsAreCompleteOnce() throws {
        let model = try RandomClassifier(.small(), batch: 2, seed: testSeed(82), .init(keepsGradients: false))
        var seen: [Range<Int>] = []
        model.step { seen.append($0) }
        let all = model.classifier.parameters.all
        XCTAssertEqual(seen.flatMap { $0 }.sorted(), Array(all.indices))
        XCTAssertEqual(seen.count, 1 + 3 + 2)
        XCTAssertEqual(seen[0].map { all[$0].name }, ["head.weight", "head.bias"])
        for (range, block) in zip(seen[1...], [2, 1, 0]) {
            XCTAssertEqual(range.count, 12)
            XCTAssertTrue(range.allSatisfy { all[$0].name.hasPrefix("blocks.\(block).") })
        }
        XCTAssertEqual(seen[5].map { all[$0].name }, ["fc_norm.weight", "fc_norm.bias"])
        seen = []
        all.first { $0.name == "head.bias" }!.weight.pointer[0] = .infinity
        model.step { seen.append($0) }
        XCTAssertEqual(seen, [])
        XCTAssertFalse(model.losses.total.isFinite)
    }

    /// One AdamW step with a small rate: each tensor moves by its rate scale times what it would move by without.
    func testRateScales() throws {
        func moved(_ decay: Double) throws -> [String: Double] {
            let seed = testSeed(83)
            var state: OptimizerState!
            let model = try RandomClassifier(.small(layerDecay: decay), batch: 2, seed: seed) {
                state = OptimizerState(of: $0.parameters, plan: $1)
            }
            let parameters = model.classifier.parameters
            let before = parameters.all.map { $0.weight.values }
            model.step()
            state.update(
                parameters.all.indices, Optimizer(epsilon: 1e-3, weightDecay: 0), learningRate: 0.0625, step: 1)
            var result: [String: Double] = [:]
            for (parameter, before) in zip(parameters.all, before) {
                result[parameter.name] = zip(parameter.weight.values, before).reduce(0) {
                    $0 + Double(($1.0 - $1.1).magnitude)
                }
            }
            return result
        }
        let whole = try moved(1), decayed = try moved(0.5)
        for (name, distance) in whole {
            let scale = pow(0.5, Double(4 - ClassifierConfiguration.small().layer(of: name)))
            // Each weight of the sum is rounded twice.
            XCTAssertEqual(decayed[name]! / distance, scale, accuracy: 1e-3 * scale, name)
        }
    }

    /// The step that `dmae bench finetune` times.
    func testBenchmark() throws {
        let benchmark = try StepBenchmark(.small(dropPath: 0.1, smoothing: 0.1), batch: 4, steps: 2)
        XCTAssertEqual(benchmark.stepSeconds.count, 2)
        XCTAssertGreaterThan(benchmark.imagesPerSecond, 0)
        // Three blocks of width 12 over 13 tokens, the patches, and the head of seven classes.
        let block = 3 * 2.0 * 13 * 12 * 12 * 12 + 3.5 * 2 * 2 * 13 * 13 * 12
        let expected = 3 * block + 2 * 2 * 12 * 48 * 12 + 3 * 2 * 7 * 12
        XCTAssertEqual(benchmark.operations.total, expected * 1e-9, accuracy: 1e-15)
    }
}
