import Images
import Models
import Tensors
import TestSupport
import XCTest

/// The backward pass of fine-tuning, held against central differences of the loss.
final class ClassifierGradientTests: XCTestCase {
    /// The share of the gradient's norm that a check may be unsure of; a check that is less sharp fails.
    private static let sharpness = 0.01

    /// The slope along each tensor's gradient, and along a random direction, is what the gradient says.
    ///
    /// As in FiniteDifferenceTests: the extrapolated slope (4·D(h) - D(2h))/3 is bounded by |D(h) - D(2h)| and by the
    /// rounding of one loss, r, over h. A logit loses u·√(stages·terms) of the largest one (see GoldenTests), and the
    /// loss is a mean over the images of the batch: r = u·(loss + largest logit·√(stages·terms/B)). h is the smallest
    /// that keeps this part below a third of the sharpness.
    private func check(
        _ name: String, _ configuration: ClassifierConfiguration, seed: UInt64, batch: Int = 4,
        _ computation: Classifier.Computation = .init(), _ prepare: (RandomClassifier) -> Void = { _ in }
    ) throws {
        let ran = try withEachInstructionSet { set in
            try withThreads(1) {
                let model = try RandomClassifier(configuration, batch: batch, seed: seed, computation)
                prepare(model)
                try check("\(name), \(set.name)", model, seed: seed)
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    private func check(_ name: String, _ model: RandomClassifier, seed: UInt64) throws {
        let configuration = model.classifier.configuration, size = configuration.encoder
        model.step()
        let gradients = model.gradients()
        let terms = max(4 * size.width, size.patchElements, configuration.classes), stages = 9 * size.depth + 4
        let largest = TensorComparison.largest(model.classifier.logits.values)
        let noise =
            0x1p-24
            * (Double(model.losses.total)
                + largest * (Double(stages * terms) / Double(model.classifier.batch)).squareRoot())
        var worst = (share: 0.0, text: "")
        for (index, parameter) in model.classifier.parameters.all.enumerated() {
            let gradient = try XCTUnwrap(gradients[parameter.name], "\(parameter.name) is trained")
            let norm = gradient.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
            XCTAssertGreaterThan(norm, 0, "\(name): \(parameter.name) has no gradient")
            var random = CounterRandom(seed: seed, purpose: .test, epoch: 3, index: index)
            let start = parameter.weight.values
            defer { parameter.weight.elements.baseAddress!.update(from: start, count: start.count) }
            for (kind, values) in [
                ("its gradient", gradient.map(Double.init)),
                ("a random direction", gradient.map { _ in random.normal() }),
            ] {
                let length = values.reduce(0) { $0 + $1 * $1 }.squareRoot(), direction = values.map { $0 / length }
                /// The loss at start + h·direction, and what the gradient says it has changed by.
                func loss(_ h: Double) -> (found: Double, predicted: Double) {
                    var predicted = 0.0
                    for i in start.indices {
                        let value = Float(Double(start[i]) + h * direction[i])
                        parameter.weight.pointer[i] = value
                        predicted += (Double(value) - Double(start[i])) * Double(gradient[i])
                    }
                    model.step()
                    return (Double(model.losses.total), predicted)
                }
                func slope(_ h: Double) -> (found: Double, predicted: Double) {
                    let (up, down) = (loss(h), loss(-h))
                    return ((up.found - down.found) / (2 * h), (up.predicted - down.predicted) / (2 * h))
                }
                let h = 1.5 * noise / (Self.sharpness / 3 * norm)
                let (near, far) = (slope(h), slope(2 * h))
                let found = (4 * near.found - far.found) / 3
                let predicted = (4 * near.predicted - far.predicted) / 3
                let tolerance = (near.found - far.found).magnitude + 1.5 * noise / h
                XCTAssertLessThanOrEqual(
                    tolerance, Self.sharpness * norm,
                    "\(name): the check of \(parameter.name) along \(kind) is not sharp")
                XCTAssertLessThanOrEqual(
                    (found - predicted).magnitude, tolerance,
                    "\(name): \(parameter.name) along \(kind): slope \(found), gradient says \(predicted), h \(h), norm "
                        + "\(norm)")
                let share = (found - predicted).magnitude / tolerance
                if share > worst.share { worst = (share, "\(parameter.name) along \(kind)") }
            }
        }
        let count = model.classifier.parameters.all.count
        XCTAssertEqual(count, 4 + 12 * size.depth + 4)
        print("\(name): \(count) tensors; the worst used \(Int(100 * worst.share)) % of its tolerance: \(worst.text)")
    }

    /// Branches of every block dropped and kept, mixed and smoothed targets, non-square images.
    func testMeanWithDropPath() throws {
        let configuration = ClassifierConfiguration.small(dropPath: 0.4, smoothing: 0.1)
        try check("mean, drop path", configuration, seed: testSeed(41)) { model in
            let kept = (0..<2 * 3 * 4).map { $0 % 5 != 1 }
            model.classifier.dropPathSelection = .given(kept)
            XCTAssertNotNil(model.batch.mixture)
        }
    }

    func testClassTokenWithDropPath() throws {
        try check("class token, drop path", .small(pool: .class, dropPath: 0.3), seed: testSeed(42)) {
            $0.classifier.dropPathSelection = .given((0..<2 * 3 * 4).map { $0 % 7 != 2 })
        }
    }

    /// One block that is the first and the last, and an odd batch, which is not mixed.
    func testOneBlock() throws {
        for pool in ClassifierPool.allCases {
            try check("one block, \(pool)", .small(channels: 1, depth: 1, pool: pool), seed: testSeed(43), batch: 3)
        }
    }

    func testDistillation() throws {
        for isHard in [false, true] {
            let teacher = LogitDistillation(weight: 0.7, temperature: 3, isHard: isHard)
            try check(
                "a teacher, \(isHard ? "hard" : "soft")", .small(smoothing: 0.1, teacher: teacher), seed: testSeed(44))
        }
    }

    /// Targets and logits that are given need not sum to 1.
    func testGivenTargetsAndLogits() throws {
        let seed = testSeed(45)
        try check(
            "given targets", .small(), seed: seed,
            .init(givenTeacherLogits: LogitDistillation(weight: 0.4, temperature: 0.5))
        ) { model in
            var random = CounterRandom(seed: seed, purpose: .test, epoch: 9)
            model.classifier.targets = .given((0..<4 * 7).map { _ in random.uniform() })
            let logits = model.classifier.teacherLogits!.elements
            for i in logits.indices { logits[i] = Float(random.normal()) }
        }
    }

    /// Two micro-batches, each with its gradients scaled by 1/2, leave the mean of their gradients. The bound is that
    /// of FiniteDifferenceTests.testAccumulationIsTheMean.
    func testAccumulationIsTheMean() throws {
        let seed = testSeed(46)
        for pool in ClassifierPool.allCases {
            let model = try RandomClassifier(.small(pool: pool, dropPath: 0.3), batch: 3, seed: seed)
            var whole: [[String: [Float]]] = []
            for batch in 0..<2 {
                model.fillInputs(seed: seed &+ UInt64(batch))
                model.step()
                whole.append(model.gradients())
            }
            XCTAssertNotEqual(whole[0], whole[1])
            for batch in 0..<2 {
                model.fillInputs(seed: seed &+ UInt64(batch))
                model.addGradients(scale: 0.5, isFirst: batch == 0)
            }
            var comparison = TensorComparison()
            for (name, found) in model.gradients() {
                let (first, second) = (whole[0][name]!, whole[1][name]!)
                let scale = max(TensorComparison.largest(first), TensorComparison.largest(second))
                comparison.compare(name, expected: zip(first, second).map { ($0 + $1) / 2 }, found: found) { _ in
                    2 * 0x1p-24 * (3.0 * 13).squareRoot() * scale
                }
            }
            XCTAssertEqual(comparison.tensors, 44)
            XCTAssertEqual(comparison.failures, [])
        }
    }
}
