import Models
import Tensors
import TestSupport
import XCTest

/// A step gives the same bits for any number of threads.
final class ThreadInvarianceTests: XCTestCase {
    /// Everything that a step computes: losses, features, prediction, gradients and the square of their norm.
    private func outcome(
        _ configuration: ModelConfiguration, batch: Int, threads: Int, seed: UInt64, precision: Precision = .f32,
        teacherPrecision: TeacherPrecision = .same
    ) throws -> [String: [UInt32]] {
        try withThreads(threads) {
            XCTAssertEqual(Threads.observed, threads)
            var moments: [String: (Tensor, Tensor)] = [:]
            let model = try RandomModel(
                configuration, batch: batch, seed: seed, precision: precision, teacherPrecision: teacherPrecision
            ) { objective, plan in
                for parameter in objective.parameters.all where parameter.isTrained {
                    let (rows, columns) = (parameter.weight.rows, parameter.weight.columns)
                    moments[parameter.name] = (
                        plan.reserve("m \(parameter.name)", rows, columns, .moments),
                        plan.reserve("v \(parameter.name)", rows, columns, .moments)
                    )
                }
            }
            var result: [String: [UInt32]] = [:]
            // Accumulates over two micro-batches, then takes the optimiser's step, twice.
            for step in 1...2 {
                for micro in 0..<2 {
                    model.fillInputs(seed: seed &+ UInt64(2 * step + micro))
                    model.observed.addGradients(scale: 0.5, isFirst: micro == 0)
                }
                let losses = model.observed.losses
                result["losses \(step)"] = ([losses.reconstruction, losses.total] + losses.alignments).bits
                result["prediction \(step)"] = model.observed.decoder.prediction.values.bits
                result["latent \(step)"] = model.observed.encoder.latent!.values.bits
                for (index, alignment) in model.observed.alignments.enumerated() {
                    result["teacher feature \(index) \(step)"] = alignment.teacherFeature.values.bits
                }
                var square = 0.0
                for parameter in model.parameters.all {
                    guard let gradient = parameter.gradient else { continue }
                    result["gradient of \(parameter.name) \(step)"] = gradient.values.bits
                    square += Kernels.sumOfSquares(gradient)
                    let (first, second) = moments[parameter.name]!
                    Kernels.adamW(
                        weight: parameter.weight, gradient: gradient, firstMoment: first, secondMoment: second,
                        Kernels.AdamWSettings(
                            learningRate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8,
                            weightDecay: parameter.decays ? 0.05 : 0,
                            gradientScale: 1, step: step))
                    result["\(parameter.name) \(step)"] = parameter.weight.values.bits
                    result["first moment of \(parameter.name) \(step)"] = first.values.bits
                    result["second moment of \(parameter.name) \(step)"] = second.values.bits
                }
                result["gradient norm \(step)"] = [
                    UInt32(truncatingIfNeeded: square.bitPattern), UInt32(square.bitPattern >> 32),
                ]
            }
            return result
        }
    }

    func testAStepHasTheSameBitsForAnyThreads() throws {
        let seed = testSeed(21)
        let pairs = [AlignedPair(studentBlock: 1, teacherBlock: 0), AlignedPair(studentBlock: 2, teacherBlock: 2)]
        // The wide one has weights, sums and rows past every size at which work is cut into pieces.
        var wide = ModelConfiguration.small(
            imageHeight: 32, imageWidth: 40, studentWidth: 132, teacherWidth: 148, pairs: pairs, distance: .l1,
            projection: .mlp,
            normalizePixels: true)
        wide.decoder = DecoderConfiguration(width: 96, depth: 2, heads: 4)
        var fewer = wide
        (fewer.maskRatio, fewer.predictRatio, fewer.reconstructionWeight, fewer.teacherMaskRatio) = (0.9, 0.5, 0.3, 0.2)
        let cases: [(name: String, configuration: ModelConfiguration, batch: Int)] = [
            ("wide", wide, 7), ("small", .small(pairs: pairs), 3),
            ("raw", .small(teacherWidth: 12, projection: .none), 1),
            ("no teacher", .small(channels: 1, teacherWidth: nil), 2), ("fewer tokens", fewer, 7),
        ]
        let ran = try withEachInstructionSet { set in
            for (name, configuration, batch) in cases {
                let one = try outcome(configuration, batch: batch, threads: 1, seed: seed)
                XCTAssertGreaterThan(one.count, 400)
                for threads in [2, 3] {
                    let other = try outcome(configuration, batch: batch, threads: threads, seed: seed)
                    XCTAssertEqual(Set(other.keys), Set(one.keys))
                    let different = one.keys.filter { other[$0] != one[$0] }.sorted()
                    XCTAssertEqual(different, [], "\(name), \(set.name), \(threads) threads")
                }
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// The same with a teacher in int8, in a step of either precision.
    func testAnInt8TeacherHasTheSameBitsForAnyThreads() throws {
        let seed = testSeed(23)
        let pairs = [AlignedPair(studentBlock: 1, teacherBlock: 0), AlignedPair(studentBlock: 2, teacherBlock: 2)]
        let configuration = ModelConfiguration.small(
            imageHeight: 32, imageWidth: 40, studentWidth: 36, teacherWidth: 148, pairs: pairs)
        let ran = try withEachInstructionSet { set in
            for precision in [Precision.f32, .bf16] {
                let outcomes = try [1, 2, 3].map {
                    try outcome(
                        configuration, batch: 7, threads: $0, seed: seed, precision: precision, teacherPrecision: .int8)
                }
                for other in outcomes[1...] {
                    XCTAssertEqual(
                        outcomes[0].keys.filter { other[$0] != outcomes[0][$0] }.sorted(), [],
                        "\(set.name), \(precision)")
                }
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// The decoder's last block multiplies fewer rows than its layers are planned for, 1,536 of 2,080, over which k is
    /// cut into longer blocks with AVX-512; eight threads' own panels must still be inside the planned memory.
    func testManyThreadsOverFewerRowsThanPlanned() throws {
        let seed = testSeed(24)
        var configuration = ModelConfiguration.small(
            imageHeight: 32, imageWidth: 32, teacherWidth: nil, maskRatio: 0.75)
        configuration.decoder = DecoderConfiguration(width: 128, depth: 1, heads: 4)
        let ran = try withEachInstructionSet { set in
            let outcomes = try [1, 8].map { threads in
                try withThreads(threads) {
                    let model = try RandomModel(configuration, batch: 32, seed: seed)
                    model.step()
                    return (model.observed.losses.total, model.gradients().mapValues(\.bits))
                }
            }
            XCTAssertEqual(outcomes[1].0, outcomes[0].0, set.name)
            XCTAssertEqual(outcomes[0].1.keys.filter { outcomes[1].1[$0] != outcomes[0].1[$0] }.sorted(), [], set.name)
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// A step depends on nothing that an earlier one left behind: the same inputs give the same bits again.
    func testAStepLeavesNothingBehind() throws {
        let seed = testSeed(22)
        let model = try RandomModel(
            .small(distance: .l1, projection: .mlp, normalizePixels: true), batch: 2, seed: seed)
        model.step()
        let (loss, first) = (model.observed.losses.total, model.gradients())
        model.fillInputs(seed: seed &+ 1)
        model.step()
        XCTAssertNotEqual(model.observed.losses.total, loss)
        model.fillInputs(seed: seed)
        model.step()
        XCTAssertEqual(model.observed.losses.total, loss)
        for (name, gradient) in model.gradients() { XCTAssertEqual(gradient.bits, first[name]?.bits, name) }
    }
}
