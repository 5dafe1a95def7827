import Images
import Models
import Reporting
import Tensors
import TestSupport
import Weights
import XCTest

/// The linear probe's head, and the frozen encoder before it.
final class LinearProbeTests: XCTestCase {
    private static func configuration(pool: ClassifierPool = .class, classes: Int = 7, width: Int = 20)
        -> ClassifierConfiguration
    {
        ClassifierConfiguration(
            encoder: EncoderConfiguration(
                width: width, depth: 2, heads: 2, patchSize: 4, imageHeight: 8, imageWidth: 12),
            classes: classes, pool: pool)
    }

    /// A probe with its memory.
    private final class Made {
        let plan = MemoryPlan()
        let probe: LinearProbe

        init(
            _ configuration: ClassifierConfiguration, batch: Int, _ input: LinearProbe.Input, seed: UInt64,
            keepsGradients: Bool = true
        ) throws {
            probe = try LinearProbe(configuration, batch: batch, plan: plan, input, keepsGradients: keepsGradients)
            try plan.commit()
            plan.poisonsDeadMemory = true
            probe.parameters.initialize(seed: seed)
            probe.frozenParameters?.initialize(seed: seed)
        }

        subscript(name: String) -> Parameters.Parameter { probe.parameters.all.first { $0.name == name }! }

        func fillImages(seed: UInt64) {
            var random = CounterRandom(seed: seed, purpose: .test, epoch: 1)
            for index in probe.images.elements.indices { probe.images.pointer[index] = Float(random.normal()) }
        }
    }

    private static func batch(_ labels: [Int]) -> Batch {
        Batch(samples: Array(labels.indices), images: Array(labels.indices), labels: labels)
    }

    // MARK: The head

    /// First step, running statistics and evaluation against PyTorch's record (Fixtures/probe).
    ///
    /// A normalised value is rounded once. A logit sums 20 products and a bias; a gradient sums 12 products of factors
    /// with errors of some roundings: 32·u of the largest value covers each.
    func testAgreesWithPyTorch() throws {
        let file = try SafeTensorsFile(path: Fixtures.path("probe/probe.safetensors"))
        let steps = try file.entry("features").shape[0], batch = try file.entry("features").shape[1]
        let made = try Made(Self.configuration(), batch: batch, .features, seed: 1)
        let features = try file.floats("features"), labels = try Self.integers(file, "labels")
        try file.copyFloats("weight", into: made["head.1.weight"].weight.elements)
        try file.copyFloats("bias", into: made["head.1.bias"].weight.elements)
        var comparison = TensorComparison()
        let tolerance = 32 * 0x1p-24
        for step in 0..<steps {
            let count = batch * 20
            for index in 0..<count { made.probe.images.pointer[index] = features[step * count + index] }
            if step > 0 {
                // The weights that PyTorch's step began with.
                for name in ["weight", "bias"] {
                    let tensor = made["head.1.\(name)"].weight, after = try file.floats("after.\(name)")
                    for index in 0..<tensor.count { tensor.pointer[index] = after[(step - 1) * tensor.count + index] }
                }
            }
            let losses = made.probe.step(
                Self.batch(Array(labels[step * batch..<(step + 1) * batch])), scale: 1, sink: ClosureSink())
            XCTAssertEqual(
                Double(losses.total), Double(try file.floats("loss")[step]), accuracy: 3 * tolerance)
            if step == 0 {
                comparison.compare(
                    "logits", expected: try file.floats("logits"), found: made.probe.logits.values, relative: tolerance)
                for name in ["weight", "bias"] {
                    comparison.compare(
                        "gradient.\(name)", expected: try file.floats("gradient.\(name)"),
                        found: made["head.1.\(name)"].gradient!.values, relative: tolerance)
                }
            }
            for name in ["running_mean", "running_var"] {
                let expected = try file.floats("after.\(name)")[step * 20..<(step + 1) * 20]
                // Column by column, as they differ by orders of magnitude; each step rounds once.
                comparison.compare(
                    "\(name) \(step)", expected: Array(expected), found: made["head.0.\(name)"].weight.values
                ) { Double(step + 2) * 0x1p-24 * Double(expected[expected.startIndex + $0].magnitude) + 1e-9 }
            }
        }
        for name in ["weight", "bias"] {
            let tensor = made["head.1.\(name)"].weight, after = try file.floats("after.\(name)")
            for index in 0..<tensor.count { tensor.pointer[index] = after[(steps - 1) * tensor.count + index] }
        }
        try file.copyFloats("held_out", into: made.probe.images.elements)
        let losses = made.probe.evaluate(Self.batch(try Self.integers(file, "held_out.labels")))
        comparison.compare(
            "held_out.logits", expected: try file.floats("held_out.logits"), found: made.probe.logits.values,
            relative: 2 * tolerance)
        XCTAssertEqual(
            Double(losses.total), Double(try file.floats("held_out.loss")[0]), accuracy: 6 * tolerance)
        XCTAssertEqual(comparison.failures, [])
        print("probe: \(comparison.summary)")
    }

    /// The values of an int32 tensor.
    private static func integers(_ file: SafeTensorsFile, _ name: String) throws -> [Int] {
        try file.withBytes(name) { bytes in
            (0..<bytes.count / 4).map { Int(bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self)) }
        }
    }

    /// The gradient of the loss by central differences of the loss itself, in steps of a few thousandths: the loss is
    /// smooth, so that the truncation is h² of a third derivative below 1, and a loss near 2 is rounded by 2⁻²³.
    func testGradientIsTheLosssSlope() throws {
        let seed = testSeed(81)
        let made = try Made(Self.configuration(pool: .mean), batch: 5, .images(.f32), seed: seed)
        made.fillImages(seed: seed)
        let batch = Self.batch([0, 6, 3, 3, 1])
        _ = made.probe.step(batch, scale: 1, sink: ClosureSink())
        let step: Float = 1 / 256
        for name in ["head.1.weight", "head.1.bias"] {
            let parameter = made[name], gradient = parameter.gradient!.values
            var checked = 0
            for index in stride(from: 0, to: gradient.count, by: 3) {
                let value = parameter.weight.pointer[index]
                func loss(_ change: Float) -> Double {
                    parameter.weight.pointer[index] = value + change
                    return Double(made.probe.step(batch, scale: 1, sink: ClosureSink()).total)
                }
                let slope = (loss(step) - loss(-step)) / Double(2 * step)
                parameter.weight.pointer[index] = value
                XCTAssertEqual(Double(gradient[index]), slope, accuracy: 1e-4, "\(name)[\(index)]")
                checked += 1
            }
            XCTAssertGreaterThan(checked, 2)
            XCTAssertGreaterThan(gradient.map(\.magnitude).max()!, 0.01)
        }
    }

    /// Two micro-batches add up, each scaled.
    func testGradientsAccumulate() throws {
        let seed = testSeed(82)
        let made = try Made(Self.configuration(), batch: 4, .features, seed: seed)
        func gradients(_ epoch: UInt64, scale: Float, accumulates: Bool) -> [Float] {
            made.fillImages(seed: seed &+ epoch)
            _ = made.probe.step(Self.batch([1, 2, 0, 6]), scale: scale, sink: ClosureSink(accumulates: accumulates))
            return made.probe.parameters.all.flatMap { $0.gradient?.values ?? [] }
        }
        let first = gradients(1, scale: 0.5, accumulates: false)
        let second = gradients(2, scale: 0.5, accumulates: false)
        _ = gradients(1, scale: 0.5, accumulates: false)
        let both = gradients(2, scale: 0.5, accumulates: true)
        XCTAssertEqual(both.count, 7 * 20 + 7)
        let largest = TensorComparison.largest(both)
        for index in both.indices {
            XCTAssertEqual(both[index], first[index] + second[index], accuracy: Float(8 * 0x1p-24 * largest))
        }
    }

    /// Statistics are stored, not trained; the head begins as MAE's: N(0, 0.01) and zero.
    func testParameters() throws {
        let made = try Made(Self.configuration(classes: 200), batch: 2, .images(.f32), seed: 3)
        XCTAssertEqual(
            made.probe.parameters.all.map(\.name),
            ["head.0.running_mean", "head.0.running_var", "head.1.weight", "head.1.bias"])
        XCTAssertEqual(made.probe.parameters.all.map(\.isTrained), [false, false, true, true])
        XCTAssertTrue(made["head.0.running_mean"].weight.values.allSatisfy { $0 == 0 })
        XCTAssertTrue(made["head.0.running_var"].weight.values.allSatisfy { $0 == 1 })
        XCTAssertTrue(made["head.1.bias"].weight.values.allSatisfy { $0 == 0 })
        let weight = made["head.1.weight"].weight.values
        let deviation = (weight.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(weight.count)).squareRoot()
        // 4,000 numbers: the deviation's own is 0.01/√8000.
        XCTAssertEqual(deviation, 0.01, accuracy: 5 * 0.01 / 8000.0.squareRoot())
        for pool in ClassifierPool.allCases {
            let configuration = Self.configuration(pool: pool)
            let made = try Made(configuration, batch: 2, .images(.f32), seed: 3)
            let names = made.probe.frozenParameters!.all + made.probe.parameters.all
            let layout = ModelLayout(probing: configuration)
            XCTAssertEqual(names.map(\.name), layout.entries.map(\.name))
            XCTAssertEqual(names.map(\.shape), layout.entries.map(\.shape))
        }
    }

    func testASingleImageIsRefused() {
        let failure = failure {
            _ = try LinearProbe(Self.configuration(), batch: 1, plan: MemoryPlan(), .features)
        }
        XCTAssertEqual(failure?.code, .usage)
        XCTAssertEqual(failure?.message, "batch must be at least 2: BatchNorm needs the variance of a batch")
    }

    // MARK: The encoder

    /// Features are those of a feature extractor with the same weights, whatever the batch, also where a batch takes
    /// several passes.
    func testFeaturesAreTheEncoders() throws {
        let seed = testSeed(83)
        for (pool, place, extracted) in [
            (ClassifierPool.class, FeaturePlace.norm, FeaturePool.class), (.mean, .meanNorm, .mean),
        ] {
            let configuration = Self.configuration(pool: pool)
            let plan = MemoryPlan()
            let extractor = try FeatureExtractor(
                configuration.encoder, at: place, pool: extracted, batch: 70, plan: plan)
            try plan.commit()
            extractor.parameters.initialize(seed: seed)
            for batch in [2, 32, 33, 70] {
                let made = try Made(configuration, batch: batch, .images(.f32), seed: seed)
                made.fillImages(seed: seed)
                extractor.images.clear()
                extractor.images.rows(0..<batch).copy(from: made.probe.images)
                extractor.forward()
                for count in [batch, 1, batch / 2] where count > 0 {
                    made.probe.features.clear()
                    _ = made.probe.evaluate(Self.batch(Array(repeating: 0, count: count)))
                    XCTAssertEqual(
                        made.probe.features.rows(0..<count).values.bits,
                        extractor.features.rows(0..<count).values.bits, "\(pool), \(count) of \(batch)")
                }
            }
        }
    }

    /// A step on images is a step on their features, to the bit, whatever the number of threads.
    func testAStepOnImagesIsAStepOnTheirFeatures() throws {
        let seed = testSeed(84)
        let labels = (0..<37).map { $0 % 7 }
        func values(_ probe: LinearProbe) -> [UInt32] {
            probe.parameters.all.flatMap { $0.weight.values.bits + ($0.gradient?.values.bits ?? []) }
        }
        let (expected, features) = try withThreads(1) {
            let made = try Made(Self.configuration(), batch: 37, .images(.f32), seed: seed)
            made.fillImages(seed: seed)
            _ = made.probe.step(Self.batch(labels), scale: 0.5, sink: ClosureSink())
            return (values(made.probe), made.probe.features.values)
        }
        for threads in [1, 2, 3] {
            try withThreads(threads) {
                let images = try Made(Self.configuration(), batch: 37, .images(.f32), seed: seed)
                images.fillImages(seed: seed)
                _ = images.probe.step(Self.batch(labels), scale: 0.5, sink: ClosureSink())
                XCTAssertEqual(values(images.probe), expected, "\(threads) threads")
                let stored = try Made(Self.configuration(), batch: 37, .features, seed: seed, keepsGradients: false)
                for index in features.indices { stored.probe.images.pointer[index] = features[index] }
                _ = stored.probe.step(
                    Self.batch(labels), scale: 0.5,
                    sink: ClosureSink { range in
                        XCTAssertEqual(range, 0..<4)
                        XCTAssertEqual(values(stored.probe), expected, "\(threads) threads, features")
                    })
            }
        }
    }

    /// A loss that is not finite passes no gradient on.
    func testNonFiniteFeatures() throws {
        let made = try Made(Self.configuration(), batch: 3, .features, seed: 5)
        made.fillImages(seed: 5)
        made.probe.images.pointer[4] = .infinity
        let losses = made.probe.step(
            Self.batch([0, 1, 2]), scale: 1, sink: ClosureSink { _ in XCTFail("a gradient was passed on") })
        XCTAssertFalse(losses.total.isFinite)
        XCTAssertFalse(made.probe.frozenOutputsAreFinite)
    }
}
