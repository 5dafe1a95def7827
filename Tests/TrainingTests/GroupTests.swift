import Images
import Models
import Tensors
import TestSupport
import Training
import XCTest

/// Effective batches whose gradients are summed in groups.
final class GroupTests: XCTestCase {
    private static let batch = 3, pixels = 50

    /// Keeps the gradients where the objective leaves them.
    private final class Recorder: GradientSink {
        var accumulates = false
        func complete(_ tensors: Range<Int>) {}
    }

    private func regression() throws -> (objective: LinearRegression, plan: MemoryPlan) {
        let plan = MemoryPlan()
        return (LinearRegression(batch: Self.batch, pixels: Self.pixels, keepsGradients: true, plan: plan), plan)
    }

    private func setWeights(_ objective: LinearRegression) {
        var random = CounterRandom(seed: 71, purpose: .test, index: 0)
        for parameter in objective.parameters.all {
            for index in 0..<parameter.weight.count { parameter.weight.pointer[index] = Float(random.normal()) }
        }
    }

    private func fill(_ images: Tensor, microBatch: Int) -> Batch {
        var random = CounterRandom(seed: 72, purpose: .test, index: microBatch)
        for index in 0..<images.count { images.pointer[index] = Float(random.normal()) }
        let samples = microBatch * Self.batch..<(microBatch + 1) * Self.batch
        return Batch(samples: Array(samples), images: Array(samples), labels: nil)
    }

    /// Adds neighbours, then neighbouring sums.
    private func added<Number: FloatingPoint>(_ parts: [[Number]]) -> [Number] {
        guard parts.count > 1 else { return parts[0] }
        let half = parts.count / 2
        return zip(added(Array(parts[..<half])), added(Array(parts[half...]))).map { $0 + $1 }
    }

    /// Gradients and losses of a step are, to the bit, those of the groups, each computed alone, added pairwise.
    func testSumsAreThoseOfATree() throws {
        var ofSixteen: [Int: [Float]] = [:]
        for groups in [1, 2, 4, 8, 16] {
            for ofGroup in [1, 3, 16 / groups] {
                let accumulation = groups * ofGroup
                let (alone, alonePlan) = try regression()
                try alonePlan.commit()
                setWeights(alone)
                var sums: [[Float]] = [], losses: [[Double]] = []
                for group in 0..<groups {
                    let sink = Recorder()
                    var lossSums = [0.0, 0.0]
                    for index in 0..<ofGroup {
                        sink.accumulates = index > 0
                        let batch = fill(alone.images, microBatch: group * ofGroup + index)
                        let values = alone.step(batch, scale: 1 / Float(accumulation), sink: sink).values
                        for (place, value) in values.enumerated() { lossSums[place] += Double(value) }
                    }
                    sums.append(alone.parameters.all.flatMap { $0.gradient!.values })
                    losses.append(lossSums)
                }

                let (objective, plan) = try regression()
                let loop = StepLoop(objective, Optimizer(), accumulation: accumulation, groups: groups, plan: plan)
                try plan.commit()
                setWeights(objective)
                var microBatch = 0
                let outcome = try loop.run(step: 1, learningRate: 0) {
                    defer { microBatch += 1 }
                    return fill(objective.images, microBatch: microBatch)
                }
                guard case .finished(let result) = outcome else { return XCTFail("not finished") }
                let found = objective.parameters.all.flatMap { $0.gradient!.values }
                XCTAssertEqual(found, added(sums), "\(groups) groups of \(ofGroup)")
                XCTAssertEqual(
                    loop.losses, added(losses).map { Float($0 * (1 / Double(accumulation))) },
                    "\(groups) groups of \(ofGroup)")
                let norm = objective.parameters.all.reduce(0.0) { sum, parameter in
                    sum + parameter.gradient!.values.reduce(0.0) { $0 + Double($1) * Double($1) }
                }.squareRoot()
                XCTAssertEqual(Double(result.gradientNorm), norm, accuracy: 1e-6 * norm)
                if accumulation == 16 { ofSixteen[groups] = found }
            }
        }
        // The same 16 micro-batches: the order of addition shows in the last bits.
        let together = try XCTUnwrap(ofSixteen[1])
        for groups in [2, 4, 8, 16] {
            XCTAssertNotEqual(try XCTUnwrap(ofSixteen[groups]), together, "\(groups) groups")
        }
    }

    /// Rounded to bf16, sums are those of a tree whose every addition rounds its operands; losses are not rounded.
    func testRoundedSumsAreThoseOfATree() throws {
        func rounded(_ value: Float) -> Float {
            // Half of the distance of two neighbours, ties to even, as IEEE's round to a significand of eight bits.
            guard value != 0 else { return value }
            let unit = value.ulp * 65_536
            return (value / unit).rounded(.toNearestOrEven) * unit
        }
        func added(_ parts: [[Float]]) -> [Float] {
            guard parts.count > 1 else { return parts[0] }
            let half = parts.count / 2
            return zip(added(Array(parts[..<half])), added(Array(parts[half...]))).map { rounded($0) + rounded($1) }
        }
        for groups in [1, 2, 4, 8] {
            let (alone, alonePlan) = try regression()
            try alonePlan.commit()
            setWeights(alone)
            let sums = (0..<groups).map { group in
                _ = alone.step(fill(alone.images, microBatch: group), scale: 1 / Float(groups), sink: Recorder())
                return alone.parameters.all.flatMap { $0.gradient!.values }
            }
            let (objective, plan) = try regression()
            let loop = StepLoop(
                objective, Optimizer(), accumulation: groups, groups: groups, exchange: .bf16, plan: plan)
            try plan.commit()
            setWeights(objective)
            var microBatch = 0
            _ = try loop.run(step: 1, learningRate: 0) {
                defer { microBatch += 1 }
                return fill(objective.images, microBatch: microBatch)
            }
            let found = objective.parameters.all.flatMap { $0.gradient!.values }
            XCTAssertEqual(found, added(sums), "\(groups) groups")
            if groups > 1 { XCTAssertNotEqual(found, self.added(sums), "\(groups) groups: nothing is rounded") }
        }
    }

    /// One sum of gradients more for each doubling of the groups.
    func testMemory() throws {
        var bytes: [Int] = []
        for groups in [1, 2, 4, 8] {
            let (objective, plan) = try regression()
            _ = StepLoop(objective, Optimizer(), accumulation: 8, groups: groups, plan: plan)
            bytes.append(plan.totalBytes)
        }
        let differences = zip(bytes.dropFirst(), bytes).map { $0 - $1 }
        XCTAssertGreaterThanOrEqual(differences[0], (Self.pixels + 1) * 4)
        XCTAssertEqual(Set(differences).count, 1, "\(bytes)")
    }
}
