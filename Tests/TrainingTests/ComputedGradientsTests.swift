import Models
import Tensors
import TestSupport
import Training
import XCTest

/// Gradients that go to the optimiser block by block, in memory that they share, make the same step as gradients that
/// all exist at once.
final class ComputedGradientsTests: XCTestCase {
    private let optimizer = Optimizer()

    private struct Outcome: Equatable {
        var values: [String: [UInt32]] = [:]
        var norms: [UInt32] = []
        var losses: [[UInt32]] = []

        mutating func add(_ norm: Float, _ losses: Losses) {
            norms.append(norm.bitPattern)
            self.losses.append(([losses.total, losses.reconstruction] + losses.alignments).bits)
        }

        mutating func add(_ state: OptimizerState) {
            for parameter in state.parameters.all {
                values[parameter.name] = parameter.weight.values.bits
                values["first moment of " + parameter.name] = state[parameter.name, .firstMoment]?.values.bits
                values["second moment of " + parameter.name] = state[parameter.name, .secondMoment]?.values.bits
            }
        }
    }

    private static let pairs = [
        AlignedPair(studentBlock: 0, teacherBlock: 1), AlignedPair(studentBlock: 1, teacherBlock: 2),
    ]
    /// Every kind of step; the wide one has weights, sums and rows past every size at which work is cut into pieces,
    /// and a decoder that shares rows.
    private static let cases: [(name: String, configuration: ModelConfiguration, batch: Int, minimumDecoderRows: Int)] =
        {
            var wide = ModelConfiguration.small(
                imageHeight: 32, imageWidth: 40, studentWidth: 132, teacherWidth: 148, pairs: pairs, distance: .l1,
                projection: .mlp,
                maskRatio: 0.9, normalizePixels: true)
            wide.decoder = DecoderConfiguration(width: 96, depth: 3, heads: 4)
            return [
                ("wide", wide, 6, 162), ("middle blocks", .small(pairs: pairs), 4, 26),
                (
                    "last block, raw",
                    .small(teacherWidth: 12, pairs: [AlignedPair(studentBlock: 2, teacherBlock: 2)], projection: .none),
                    1,
                    1
                ),
                ("no teacher", .small(channels: 1, teacherWidth: nil), 2, 1536),
            ]
        }()

    /// Three steps with gradients of their own memory each, as they have been since before they could share it.
    private func accumulated(
        _ configuration: ModelConfiguration, batch: Int, minimumDecoderRows: Int, precision: Precision, seed: UInt64
    ) throws -> Outcome {
        var state: OptimizerState!
        let model = try RandomModel(
            configuration, batch: batch, seed: seed, precision: precision, minimumDecoderRows: minimumDecoderRows
        ) { state = OptimizerState(of: $0.parameters, plan: $1) }
        var outcome = Outcome()
        for step in 1...3 {
            model.fillInputs(seed: seed &+ UInt64(step))
            model.step()
            outcome.add(gradientNorm(model.parameters), model.observed.losses)
            state.update(model.parameters.all.indices, optimizer, learningRate: 1e-2, step: step)
        }
        outcome.add(state)
        return outcome
    }

    /// The same steps block by block. Memory whose values do not count is filled with NaN wherever a phase begins.
    private func computed(
        _ configuration: ModelConfiguration, batch: Int, minimumDecoderRows: Int, precision: Precision, seed: UInt64,
        accumulates: Bool
    ) throws -> Outcome {
        var state: OptimizerState!
        let model = try RandomModel(
            configuration, batch: batch, seed: seed, accumulates: accumulates, precision: precision,
            minimumDecoderRows: minimumDecoderRows
        ) { state = OptimizerState(of: $0.parameters, plan: $1) }
        model.plan.poisonsDeadMemory = true
        let parameters = model.parameters
        var outcome = Outcome(), norm = GradientNorm(parameters)
        for step in 1...3 {
            model.fillInputs(seed: seed &+ UInt64(step))
            var seen: [Range<Int>] = []
            model.observed.differentiate { range in
                seen.append(range)
                norm.add(parameters, range)
                state.update(range, self.optimizer, learningRate: 1e-2, step: step)
            }
            // The decoder, the student's blocks, the last first, twelve tensors each, then what is before, between and
            // behind them; every place once.
            XCTAssertEqual(seen.flatMap { $0 }.sorted(), Array(parameters.all.indices))
            XCTAssertEqual(seen.count, 1 + configuration.student.depth + 3)
            XCTAssertTrue(
                seen[0].allSatisfy {
                    parameters.all[$0].name.hasPrefix("decoder_") || parameters.all[$0].name == "mask_token"
                })
            for (range, block) in zip(seen.dropFirst(), (0..<configuration.student.depth).reversed()) {
                XCTAssertEqual(range.count, 12)
                XCTAssertTrue(range.allSatisfy { parameters.all[$0].name.hasPrefix("blocks.\(block).") })
            }
            outcome.add(norm.value, model.observed.losses)
        }
        outcome.add(state)
        return outcome
    }

    func testSameBitsAsGradientsThatAllExist() throws {
        let seed = testSeed(71)
        let ran = try withEachInstructionSet { set in
            for (name, configuration, batch, rows) in Self.cases {
                for precision in [Precision.f32, .bf16] {
                    for threads in [1, 2, 3] {
                        try withThreads(threads) {
                            let expected = try accumulated(
                                configuration, batch: batch, minimumDecoderRows: rows, precision: precision, seed: seed)
                            XCTAssertTrue(expected.norms.allSatisfy { Float(bitPattern: $0) > 0 })
                            for accumulates in [false, true] {
                                let found = try computed(
                                    configuration, batch: batch, minimumDecoderRows: rows, precision: precision,
                                    seed: seed,
                                    accumulates: accumulates)
                                let what =
                                    "\(name), \(precision), \(set.name), \(threads) threads, accumulates: "
                                    + "\(accumulates)"
                                XCTAssertEqual(found.norms, expected.norms, what)
                                XCTAssertEqual(found.losses, expected.losses, what)
                                XCTAssertEqual(Set(found.values.keys), Set(expected.values.keys))
                                let different = expected.values.keys.filter { found.values[$0] != expected.values[$0] }
                                XCTAssertEqual(different.sorted(), [], what)
                            }
                        }
                    }
                }
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// With gradients that add up, too, nothing is read in a phase that an earlier one did not leave for it: losses,
    /// gradients and what is left to look at.
    func testNothingDeadIsRead() throws {
        let seed = testSeed(72)
        for (name, configuration, batch, rows) in Self.cases {
            for predictsEveryPatch in [false, true] {
                func outcome(poisoned: Bool) throws -> [String: [UInt32]] {
                    let model = try RandomModel(
                        configuration, batch: batch, seed: seed, predictsEveryPatch: predictsEveryPatch,
                        minimumDecoderRows: rows)
                    model.plan.poisonsDeadMemory = poisoned
                    for micro in 0..<2 {
                        model.fillInputs(seed: seed &+ UInt64(micro))
                        model.observed.addGradients(scale: 0.5, isFirst: micro == 0)
                    }
                    var result = model.gradients().mapValues(\.bits)
                    result["losses"] = ([model.observed.losses.total] + model.observed.losses.alignments).bits
                    result["prediction"] = model.observed.decoder.prediction.values.bits
                    result["latent"] = model.observed.encoder.latent!.values.bits
                    for (index, alignment) in model.observed.alignments.enumerated() {
                        result["teacher feature \(index)"] = alignment.teacherFeature.values.bits
                        result["feature \(index)"] =
                            model.observed.encoder.feature(afterBlock: alignment.pair.studentBlock).values.bits
                    }
                    return result
                }
                let expected = try outcome(poisoned: false), found = try outcome(poisoned: true)
                XCTAssertEqual(expected.keys.filter { found[$0] != expected[$0] }.sorted(), [], name)
                XCTAssertTrue(expected["losses"]!.allSatisfy { Float(bitPattern: $0).isFinite })
            }
        }
    }

    /// Where the loss is not finite, be it the decoder's or an alignment's, nothing is handed over and nothing changes.
    func testNothingChangesWhereTheLossIsNotFinite() throws {
        let seed = testSeed(73)
        for spoilt in ["decoder_pred.bias", "teacher", "blocks.0.norm1.bias"] {
            for accumulates in [false, true] {
                var state: OptimizerState!
                let model = try RandomModel(
                    .small(pairs: Self.pairs), batch: 2, seed: seed, accumulates: accumulates
                ) { state = OptimizerState(of: $0.parameters, plan: $1) }
                let parameters = model.parameters
                func step(_ number: Int) -> Int {
                    var calls = 0
                    model.observed.differentiate { range in
                        calls += 1
                        state.update(range, self.optimizer, learningRate: 1e-2, step: number)
                    }
                    return calls
                }
                XCTAssertEqual(step(1), 7)
                let weights = spoilt == "teacher" ? model.observed.teacherParameters! : parameters
                let name = spoilt == "teacher" ? "blocks.1.norm1.bias" : spoilt
                weights.all.first { $0.name == name }!.weight.pointer[0] = .infinity
                var before = Outcome()
                before.add(state)
                XCTAssertEqual(step(2), 0, spoilt)
                XCTAssertFalse(model.observed.losses.total.isFinite)
                var after = Outcome()
                after.add(state)
                XCTAssertEqual(after, before, spoilt)
            }
        }
    }

    /// The norm does not depend on the order in which the gradients are seen, and is that of all of them at once.
    func testNormInAnyOrder() throws {
        let model = try RandomModel(.small(pairs: Self.pairs), batch: 2, seed: testSeed(74))
        model.step()
        let count = model.parameters.all.count
        var norm = GradientNorm(model.parameters)
        for _ in 0..<2 {
            for index in (0..<count).reversed() { norm.add(model.parameters, index..<index + 1) }
            XCTAssertEqual(norm.value.bitPattern, gradientNorm(model.parameters).bitPattern)
            XCTAssertGreaterThan(norm.value, 0)
        }
    }
}
