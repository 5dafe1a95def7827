import Reporting
import Foundation
import Models
import Tensors
import TestSupport
import XCTest

/// Every hand-written backward pass, held against central differences of the loss.
final class FiniteDifferenceTests: XCTestCase {
    /// What the loss is worth along a line through a parameter's weights.
    private struct Line {
        let model: RandomModel
        let parameter: Parameters.Parameter
        let start: [Float]
        let gradient: [Float]
        /// Of length 1.
        let direction: [Double]

        /// The loss at start + h·direction; and what the gradient says it has changed by, for the step that the rounded
        /// weights really made.
        func loss(_ h: Double) -> (found: Double, predicted: Double) {
            var predicted = 0.0
            for i in start.indices {
                let value = Float(Double(start[i]) + h * direction[i])
                parameter.weight.pointer[i] = value
                predicted += (Double(value) - Double(start[i])) * Double(gradient[i])
            }
            model.observed.forward()
            return (Double(model.observed.losses.total), predicted)
        }

        /// (f(h) - f(-h))/2h: of the loss, and of what the gradient predicts.
        func slope(_ h: Double) -> (found: Double, predicted: Double) {
            let (up, down) = (loss(h), loss(-h))
            return ((up.found - down.found) / (2 * h), (up.predicted - down.predicted) / (2 * h))
        }

        func restore() { parameter.weight.elements.baseAddress!.update(from: start, count: start.count) }
    }

    /// The share of the gradient's norm that a check may be unsure of; a check that is less sharp fails.
    private static let sharpness = 0.01

    /// The slope along each trained tensor's gradient, and along a random direction, is what the gradient says.
    ///
    /// With D(h) = (f(h) - f(-h))/2h = f' + c₂h² + c₄h⁴ …, the extrapolated (4·D(h) - D(2h))/3 is off by -4c₄h⁴; the
    /// bound for it is |D(h) - D(2h)| = 3c₂h² + 15c₄h⁴. Rounding adds at most 3/2·r/h, r being the rounding of one
    /// loss: its own last bit, u·f, and the forward pass's noise, u·√(stages·terms)·f for a single output (see
    /// GoldenTests), averaged over all outputs of the loss: u·f·(1 + √(stages·terms/outputs)). h is the smallest that
    /// keeps this part below a third of the sharpness.
    private func check(_ name: String, _ configuration: ModelConfiguration, seed: UInt64, batch: Int = 2) throws {
        let ran = try withEachInstructionSet { set in
            try withThreads(1) { try check("\(name), \(set.name)", once: configuration, seed: seed, batch: batch) }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    private func check(_ name: String, once configuration: ModelConfiguration, seed: UInt64, batch: Int) throws {
        let model = try RandomModel(configuration, batch: batch, seed: seed)
        let hasKinks = configuration.alignment.distance == .l1
        if hasKinks { separate(model) }
        model.step()
        let signs = hasKinks ? Signs(model) : nil
        let gradients = model.gradients()
        let noise = rounding(configuration, batch: batch, loss: Double(model.observed.losses.total))
        var worst = (share: 0.0, text: "")
        var checked = 0
        for (index, parameter) in model.parameters.all.enumerated() {
            guard let gradient = gradients[parameter.name] else { continue }
            checked += 1
            let norm = gradient.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
            XCTAssertGreaterThan(norm, 0, "\(name): \(parameter.name) has no gradient")
            var random = CounterRandom(seed: seed, purpose: .test, epoch: 3, index: index)
            let directions: [(String, [Double])] = [
                ("its gradient", gradient.map(Double.init)),
                ("a random direction", gradient.map { _ in random.normal() }),
            ]
            for (kind, direction) in directions {
                let length = direction.reduce(0) { $0 + $1 * $1 }.squareRoot()
                let line = Line(
                    model: model, parameter: parameter, start: parameter.weight.values, gradient: gradient,
                    direction: direction.map { $0 / length })
                defer { line.restore() }
                let h = 1.5 * noise / (Self.sharpness / 3 * norm)
                let (near, far) = (line.slope(h), line.slope(2 * h))
                if let signs {
                    XCTAssertTrue(
                        signs.hold(along: line, h), "\(name): a kink of L1 lies on the way of \(parameter.name)")
                }
                let found = (4 * near.found - far.found) / 3
                let predicted = (4 * near.predicted - far.predicted) / 3
                let tolerance = (near.found - far.found).magnitude + 1.5 * noise / h
                let error = (found - predicted).magnitude
                XCTAssertLessThanOrEqual(
                    tolerance, Self.sharpness * norm,
                    "\(name): the check of \(parameter.name) along \(kind) is not sharp")
                XCTAssertLessThanOrEqual(
                    error, tolerance,
                    "\(name): \(parameter.name) along \(kind): slope \(found), gradient says \(predicted), h \(h), "
                        + "norm \(norm)"
                )
                let share = error / tolerance
                if share > worst.share { worst = (share, "\(parameter.name) along \(kind)") }
            }
        }
        XCTAssertGreaterThan(checked, 40)
        print("\(name): \(checked) tensors; the worst used \(Int(100 * worst.share)) % of its tolerance: \(worst.text)")
    }

    private func rounding(_ configuration: ModelConfiguration, batch: Int, loss: Double) -> Double {
        let rows = batch * (1 + configuration.student.patches)
        let terms = max(
            4 * configuration.student.width, 4 * configuration.decoder.width, configuration.student.patchElements)
        let stages = 9 * (configuration.student.depth + configuration.decoder.depth) + 6
        let outputs = rows * configuration.student.patchElements
        return 0x1p-24 * loss * (1 + (Double(stages * terms) / Double(outputs)).squareRoot())
    }

    // MARK: L1 and its kinks

    /// |x| has no derivative at 0. The last biases on both sides push the features apart, up in one column and down in
    /// the next, so that no difference is near 0; `Signs` then sees to it that none changes sign along a line.
    private func separate(_ model: RandomModel) {
        func push(_ parameters: Parameters, _ name: String, _ amount: Float) {
            let bias = parameters.all.first { $0.name == name }!.weight
            for i in 0..<bias.count { bias.pointer[i] += i % 3 == 0 ? amount : -amount }
        }
        let configuration = model.observed.configuration
        for (index, pair) in configuration.alignment.pairs.enumerated() {
            push(model.observed.teacherParameters!, "blocks.\(pair.teacherBlock).mlp.fc2.bias", 4)
            switch configuration.alignment.projection {
            case .none: push(model.parameters, "blocks.\(pair.studentBlock).mlp.fc2.bias", -4)
            case .linear: push(model.parameters, "aligned_feature_projection_heads.\(index).bias", -4)
            case .mlp: push(model.parameters, "aligned_feature_projection_heads.\(index).fc2.bias", -4)
            }
        }
    }

    /// The signs of all feature differences, from the method's formula in double.
    private struct Signs {
        private let model: RandomModel
        private let signs: [FloatingPointSign]

        init(_ model: RandomModel) {
            self.model = model
            signs = Self.read(model)
        }

        func hold(along line: Line, _ h: Double) -> Bool {
            for step in [-2 * h, -h, h, 2 * h] {
                _ = line.loss(step)
                if Self.read(model) != signs { return false }
            }
            return true
        }

        private static func read(_ model: RandomModel) -> [FloatingPointSign] {
            let observed = model.observed
            let projection = observed.configuration.alignment.projection
            func weight(_ name: String) -> Tensor { model.parameters.all.first { $0.name == name }!.weight }
            func linear(_ x: [Double], _ name: String) -> [Double] {
                let (matrix, bias) = (weight(name + ".weight"), weight(name + ".bias"))
                return (0..<matrix.rows).map { row in
                    (0..<matrix.columns).reduce(Double(bias.pointer[row])) {
                        $0 + Double(matrix.pointer[row * matrix.columns + $1]) * x[$1]
                    }
                }
            }
            var signs: [FloatingPointSign] = []
            for (index, alignment) in observed.alignments.enumerated() {
                let student = observed.encoder.feature(afterBlock: alignment.pair.studentBlock)
                let teacher = alignment.teacherFeature
                let head = "aligned_feature_projection_heads.\(index)"
                for row in 0..<student.rows {
                    var s = (0..<student.columns).map { Double(student.pointer[row * student.columns + $0]) }
                    var t = (0..<teacher.columns).map { Double(teacher.pointer[row * teacher.columns + $0]) }
                    switch projection {
                    case .none: break
                    case .linear: s = linear(s, head)
                    case .mlp:
                        s = linear(
                            linear(s, head + ".fc1").map { $0 / 2 * (1 + erf($0 / 2.0.squareRoot())) }, head + ".fc2")
                    }
                    if projection != .none {
                        func unit(_ x: [Double]) -> [Double] {
                            let norm = x.reduce(0) { $0 + $1 * $1 }.squareRoot()
                            return x.map { $0 / norm }
                        }
                        (s, t) = (unit(s), unit(t))
                    }
                    signs += zip(s, t).map { ($0 - $1).sign }
                }
            }
            return signs
        }
    }

    // MARK: Configurations

    func testL1WithLinearProjection() throws {
        try check("L1, linear", .small(distance: .l1, weight: 3), seed: testSeed(14))
    }

    func testL2WithLinearProjectionAndNormalisedPixels() throws {
        try check("L2, linear, normalised pixels", .small(weight: 3, normalizePixels: true), seed: testSeed(12))
    }

    /// Two teacher blocks pull on one student block, which is the last.
    func testMLPWithTwoPairsOnTheLastBlock() throws {
        let pairs = [AlignedPair(studentBlock: 2, teacherBlock: 0), AlignedPair(studentBlock: 2, teacherBlock: 2)]
        try check("L2, MLP, two pairs", .small(pairs: pairs, projection: .mlp, weight: 2), seed: testSeed(13))
    }

    func testL1WithMLPOnTheFirstBlock() throws {
        try check(
            "L1, MLP",
            .small(pairs: [AlignedPair(studentBlock: 0, teacherBlock: 1)], distance: .l1, projection: .mlp, weight: 3),
            seed: testSeed(14))
    }

    /// No projection, grey images.
    func testL2OfRawFeaturesOfGreyImages() throws {
        try check("L2, raw, grey", .small(channels: 1, teacherWidth: 12, projection: .none), seed: testSeed(15))
    }

    func testL1OfRawFeatures() throws {
        try check(
            "L1, raw", .small(teacherWidth: 12, distance: .l1, projection: .none, weight: 0.25), seed: testSeed(16))
    }

    /// One visible patch of 2 × 7, four channels.
    func testOneVisiblePatch() throws {
        let configuration = ModelConfiguration.small(channels: 4, imageHeight: 8, imageWidth: 28, maskRatio: 0.9)
        XCTAssertEqual(configuration.keptPatches, 1)
        try check("one visible patch", configuration, seed: testSeed(17), batch: 3)
    }

    func testWithoutTeacher() throws {
        try check("no teacher", .small(teacherWidth: nil, normalizePixels: true), seed: testSeed(18), batch: 1)
    }

    /// The decoder predicts some of the removed patches, and the teacher sees more than the student.
    func testFewerPredictedPatchesAndATeacherThatSeesMore() throws {
        var configuration = ModelConfiguration.small(weight: 3, maskRatio: 0.75)
        configuration.decoder = DecoderConfiguration(width: 16, depth: 2, heads: 2)
        (configuration.predictRatio, configuration.reconstructionWeight) = (0.4, 0.5)
        configuration.teacherMaskRatio = 0.25
        try check("fewer tokens", configuration, seed: testSeed(86))
    }

    /// The total that is minimised is the reconstruction's loss and the weighted sum of the others.
    func testWeightOfTheAlignments() throws {
        let pairs = [AlignedPair(studentBlock: 1, teacherBlock: 0), AlignedPair(studentBlock: 2, teacherBlock: 2)]
        let model = try RandomModel(.small(pairs: pairs, weight: 0.3), batch: 2, seed: testSeed(27))
        model.step()
        let losses = model.observed.losses
        XCTAssertGreaterThan(losses.alignments.min()!, 0)
        // Three roundings.
        let total = losses.reconstruction + 0.3 * losses.alignments.reduce(0, +)
        XCTAssertEqual(losses.total, total, accuracy: 3 * 0x1p-24 * total)
    }

    // MARK: Accumulation

    /// Two micro-batches, each with its gradients scaled by 1/2, leave the mean of their gradients.
    ///
    /// Halving is exact; what may differ is the order in which sums of at most `rows` terms are rounded, once more per
    /// gradient: u·√rows of the larger summand, and twice that as the bound.
    func testAccumulationIsTheMean() throws {
        let seed = testSeed(19)
        let pairs = [AlignedPair(studentBlock: 1, teacherBlock: 0), AlignedPair(studentBlock: 2, teacherBlock: 2)]
        for projection in [Projection.linear, .mlp] {
            let model = try RandomModel(
                .small(pairs: pairs, distance: .l1, projection: projection), batch: 3, seed: seed)
            var whole: [[String: [Float]]] = []
            for batch in 0..<2 {
                model.fillInputs(seed: seed &+ UInt64(batch))
                model.step()
                whole.append(model.gradients())
            }
            XCTAssertNotEqual(whole[0], whole[1])
            for batch in 0..<2 {
                model.fillInputs(seed: seed &+ UInt64(batch))
                model.observed.addGradients(scale: 0.5, isFirst: batch == 0)
            }
            let rows = Double(3 * 13)
            var comparison = TensorComparison()
            for (name, found) in model.gradients() {
                let (first, second) = (whole[0][name]!, whole[1][name]!)
                let scale = max(TensorComparison.largest(first), TensorComparison.largest(second))
                comparison.compare(name, expected: zip(first, second).map { ($0 + $1) / 2 }, found: found) { _ in
                    2 * 0x1p-24 * rows.squareRoot() * scale
                }
            }
            XCTAssertGreaterThan(comparison.tensors, 40)
            XCTAssertEqual(comparison.failures, [])
            print("accumulation, \(projection): \(comparison.summary)")
        }
    }
}
