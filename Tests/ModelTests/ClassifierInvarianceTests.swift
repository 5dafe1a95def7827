import Models
import Tensors
import TestSupport
import XCTest

/// A fine-tuning step gives the same bits for any number of threads, and reads nothing that its plan calls dead.
final class ClassifierInvarianceTests: XCTestCase {
    private static let teacher = LogitDistillation(weight: 0.5, temperature: 2)
    /// The wide ones have weights, sums and rows past every size at which work is cut into pieces.
    private static let cases: [(name: String, configuration: ClassifierConfiguration, batch: Int)] = [
        (
            "wide, mean",
            .small(imageHeight: 16, imageWidth: 32, width: 132, depth: 2, classes: 70, dropPath: 0.4, smoothing: 0.1), 6
        ),
        (
            "wide, class token",
            .small(imageHeight: 16, imageWidth: 32, width: 132, depth: 2, pool: .class, dropPath: 0.4), 7
        ),
        ("a teacher", .small(pool: .class, teacher: teacher), 2),
        ("a teacher, mean", .small(depth: 1, dropPath: 0.5, teacher: teacher), 1),
    ]

    /// Losses, logits and gradients of two micro-batches that add up.
    private func outcome(
        _ configuration: ClassifierConfiguration, batch: Int, precision: Precision, seed: UInt64,
        isPoisoned: Bool = false
    ) throws -> [String: [UInt32]] {
        let model = try RandomClassifier(configuration, batch: batch, seed: seed, .init(precision: precision))
        model.plan.poisonsDeadMemory = isPoisoned
        var result: [String: [UInt32]] = [:]
        for micro in 0..<2 {
            model.fillInputs(seed: seed &+ UInt64(micro))
            model.addGradients(scale: 0.5, isFirst: micro == 0)
            result["losses \(micro)"] = model.losses.values.bits
            result["logits \(micro)"] = model.classifier.logits.values.bits
        }
        for (name, values) in model.gradients() { result[name] = values.bits }
        result["evaluation"] = model.classifier.evaluate(model.batch).values.bits
        return result
    }

    private func different(_ first: [String: [UInt32]], _ second: [String: [UInt32]]) -> [String] {
        XCTAssertEqual(Set(first.keys), Set(second.keys))
        return first.keys.filter { second[$0] != first[$0] }.sorted()
    }

    func testAStepHasTheSameBitsForAnyThreads() throws {
        let seed = testSeed(61)
        let ran = try withEachInstructionSet { set in
            for (name, configuration, batch) in Self.cases {
                for precision in [Precision.f32, .bf16] {
                    let outcomes = try [1, precision == .f32 ? 2 : 3].map { threads in
                        try withThreads(threads) {
                            XCTAssertEqual(Threads.observed, threads)
                            return try outcome(configuration, batch: batch, precision: precision, seed: seed)
                        }
                    }
                    for other in outcomes[1...] {
                        XCTAssertEqual(different(outcomes[0], other), [], "\(name), \(set.name), \(precision)")
                    }
                }
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    func testNothingDeadIsRead() throws {
        let seed = testSeed(62)
        for (name, configuration, batch) in Self.cases {
            for precision in [Precision.f32, .bf16] {
                let expected = try outcome(configuration, batch: batch, precision: precision, seed: seed)
                let found = try outcome(
                    configuration, batch: batch, precision: precision, seed: seed, isPoisoned: true)
                XCTAssertEqual(different(expected, found), [], "\(name), \(precision)")
                XCTAssertTrue(expected["losses 1"]!.allSatisfy { Float(bitPattern: $0).isFinite })
            }
        }
    }

    /// A frozen classifier's logits do not depend on threads, dead memory or the other images of the batch.
    func testFrozenForward() throws {
        let seed = testSeed(63)
        for pool in ClassifierPool.allCases {
            for precision in [Precision.f32, .bf16] {
                func logits(batch: Int, threads: Int, isPoisoned: Bool) throws -> [UInt32] {
                    try withThreads(threads) {
                        let model = try RandomClassifier(
                            .small(imageHeight: 16, imageWidth: 24, width: 36, pool: pool), batch: batch, seed: seed,
                            .init(precision: precision, isTrained: false))
                        model.plan.poisonsDeadMemory = isPoisoned
                        model.classifier.forward()
                        return Array(model.classifier.logits.values.prefix(7)).bits
                    }
                }
                let expected = try logits(batch: 1, threads: 1, isPoisoned: false)
                for (batch, threads, isPoisoned) in [(1, 2, true), (5, 3, false), (16, 2, true)] {
                    XCTAssertEqual(
                        try logits(batch: batch, threads: threads, isPoisoned: isPoisoned), expected,
                        "\(pool), \(precision), batch \(batch), \(threads) threads")
                }
            }
        }
    }
}
