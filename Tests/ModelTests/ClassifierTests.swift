import Images
import Models
import Reporting
import Tensors
import TestSupport
import XCTest

/// The classifier's passes beside its gradients.
final class ClassifierTests: XCTestCase {
    /// Names and shapes of the trained tensors are those of the layout, in both pools.
    func testParametersAreThoseOfTheLayout() throws {
        for pool in ClassifierPool.allCases {
            let configuration = ClassifierConfiguration.small(pool: pool)
            let layout = ModelLayout(configuration)
            for isTrained in [true, false] {
                let model = try Classifier(
                    configuration, batch: 2, seed: 0, plan: MemoryPlan(), .init(isTrained: isTrained))
                XCTAssertEqual(
                    model.parameters.all.map { "\($0.name) \($0.shape)" }.sorted(),
                    layout.entries.map { "\($0.name) \($0.shape)" }.sorted())
                XCTAssertTrue(model.parameters.all.allSatisfy { $0.isTrained == isTrained })
            }
            XCTAssertEqual(layout["norm.weight"] == nil, pool == .mean)
        }
    }

    /// Layer-wise decay and weight decay of each tensor of a model of three blocks.
    func testUpdates() throws {
        let model = try Classifier(.small(layerDecay: 0.5), batch: 2, seed: 0, plan: MemoryPlan())
        let scales: [(String, Float)] = [
            ("cls_token", 0.0625), ("pos_embed", 0.0625), ("patch_embed.proj.weight", 0.0625),
            ("patch_embed.proj.bias", 0.0625), ("blocks.0.attn.qkv.weight", 0.125), ("blocks.2.norm1.bias", 0.5),
            ("fc_norm.weight", 1), ("head.weight", 1), ("head.bias", 1),
        ]
        for (name, scale) in scales {
            let parameter = try XCTUnwrap(model.parameters.all.first { $0.name == name })
            XCTAssertEqual(parameter.rateScale, scale, name)
        }
        for parameter in model.parameters.all {
            XCTAssertEqual(
                parameter.decays, parameter.name.hasSuffix("weight") && !parameter.name.contains("norm"),
                parameter.name)
        }
        // The scales of a ViT-B: ids up to 13.
        var base = ClassifierConfiguration.small(layerDecay: 0.65)
        base.encoder.depth = 12
        XCTAssertEqual(base.layer(of: "blocks.11.mlp.fc1.weight"), 12)
        XCTAssertEqual(Double(base.update(of: "cls_token", [1, 1, 12]).rateScale), pow(0.65, 13), accuracy: 1e-9)
    }

    /// The head begins as normal numbers of deviation 2e-5, its bias at 0.
    func testHeadBeginsSmall() throws {
        var configuration = ClassifierConfiguration.small(classes: 500)
        configuration.encoder.width = 48
        let plan = MemoryPlan()
        let model = try Classifier(configuration, batch: 1, seed: 0, plan: plan)
        try plan.commit()
        model.parameters.initialize(seed: testSeed(51))
        let head = model.parameters.all.first { $0.name == "head.weight" }!.weight.values
        let square = head.reduce(0) { $0 + Double($1) * Double($1) } / Double(head.count)
        // The relative deviation of a variance of n normal numbers is √(2/n); five of them.
        XCTAssertEqual(square / 4e-10, 1, accuracy: 5 * (2 / Double(head.count)).squareRoot())
        XCTAssertEqual(model.parameters.all.last?.name, "head.bias")
        XCTAssertTrue(model.parameters.all.last!.weight.values.allSatisfy { $0 == 0 })
    }

    /// Frozen, packed weights give the logits of trained ones. The sums are over the same terms, but a class token's
    /// query may be computed among others: a few roundings of sums of 48 products, through three blocks.
    func testFrozenWeightsGiveTheSameLogits() throws {
        let seed = testSeed(52)
        for pool in ClassifierPool.allCases {
            let configuration = ClassifierConfiguration.small(pool: pool, dropPath: 0.5)
            let ran = try withEachInstructionSet { set in
                let trained = try RandomClassifier(configuration, batch: 3, seed: seed)
                trained.classifier.forward()
                let frozen = try RandomClassifier(configuration, batch: 3, seed: seed, .init(isTrained: false))
                frozen.classifier.forward()
                var comparison = TensorComparison()
                comparison.compare(
                    "logits", expected: trained.classifier.logits.values, found: frozen.classifier.logits.values,
                    relative: 2 * 0x1p-24 * (9.0 * 3 * 48).squareRoot())
                XCTAssertEqual(comparison.failures, [], "\(pool), \(set.name)")
                XCTAssertGreaterThan(TensorComparison.largest(trained.classifier.logits.values), 0.1)
            }
            XCTAssertFalse(ran.isEmpty)
        }
    }

    /// `evaluate` is the mean cross-entropy with the labels: no drop path, no smoothing, no mixture, no teacher; of the
    /// first rows alone if the batch is short.
    func testEvaluation() throws {
        let seed = testSeed(53)
        let configuration = ClassifierConfiguration.small(
            dropPath: 0.9, smoothing: 0.3, teacher: LogitDistillation(weight: 0.5, temperature: 2))
        let model = try RandomClassifier(configuration, batch: 4, seed: seed)
        for count in [4, 3, 1] {
            let labels = Array(model.batch.labels!.prefix(count))
            let batch = Batch(samples: Array(0..<count), images: Array(0..<count), labels: labels)
            let losses = model.classifier.evaluate(batch)
            XCTAssertEqual(losses.values.count, 3)
            XCTAssertEqual(Array(losses.values[1...]), [0, 0])
            var expected = 0.0
            for (row, label) in labels.enumerated() {
                let logits = (0..<7).map { Double(model.classifier.logits.pointer[row * 7 + $0]) }
                expected += log(logits.reduce(0) { $0 + exp($1) }) - logits[label]
            }
            XCTAssertEqual(Double(losses.total), expected / Double(count), accuracy: 1e-6 * expected)
        }
        XCTAssertEqual(model.classifier.lossTerms.map(\.key), ["loss", "loss_classification", "loss_distillation"])
        // Without anything that training adds, a step's loss is that of `evaluate`, but for the rounding of each image's.
        let plain = try RandomClassifier(.small(), batch: 3, seed: seed)
        plain.step()
        XCTAssertEqual(
            plain.losses.total, plain.classifier.evaluate(plain.batch).total, accuracy: 2 * plain.losses.total.ulp)
        XCTAssertEqual(plain.classifier.lossTerms.map(\.key), ["loss"])
        XCTAssertGreaterThan(plain.losses.total, 0)
    }

    /// Mixed and smoothed targets, against the targets written down: λ of a row's own, 1 - λ of that of the reversed
    /// batch, off = s/C, on = 1 - s + s/C.
    func testTargetsOfAMixedBatch() throws {
        let seed = testSeed(54), (count, classes, smoothing) = (4, 7, 0.1)
        let model = try RandomClassifier(.small(smoothing: smoothing), batch: count, seed: seed)
        for (labels, lambda) in [
            ([0, 3, 6, 3], Float(0.3)), ([1, 2, 2, 5], 0.8), ([4, 4, 4, 4], 0.5), ([0, 1, 2, 3], 1),
        ] {
            model.batch = Batch(
                samples: Array(0..<count), images: Array(0..<count), labels: labels, mixture: Mixture(lambda: lambda))
            model.classifier.targets = .labels
            model.step()
            let (loss, gradients) = (model.losses.total, model.gradients())
            let off = smoothing / Double(classes)
            var targets: [Float] = []
            for row in 0..<count {
                for index in 0..<classes {
                    func one(_ label: Int) -> Double { off + (label == index ? 1 - smoothing : 0) }
                    let own = Double(lambda)
                    targets.append(Float(own * one(labels[row]) + (1 - own) * one(labels[count - 1 - row])))
                }
            }
            model.classifier.targets = .given(targets)
            model.step()
            XCTAssertEqual(model.losses.total, loss, accuracy: 4 * 0x1p-24 * loss)
            var comparison = TensorComparison()
            for (name, values) in model.gradients() {
                comparison.compare(name, expected: values, found: gradients[name]!, relative: 1e-5)
            }
            XCTAssertEqual(comparison.failures, [])
        }
    }

    /// The frequencies of dropped branches are the rates of the blocks, drawn anew for each sample and branch; a
    /// sample's draws do not depend on the batch it is in.
    func testDropPathIsDrawnBySample() throws {
        let seed = testSeed(55)
        // The loss of a sample at a place of the batch, by position in the stream.
        func losses(_ samples: [Int], seed other: UInt64) throws -> [Float] {
            let model = try RandomClassifier(.small(dropPath: 0.5), batch: samples.count, seed: seed)
            model.classifier.dropPathSelection = .random(seed: other)
            let pixels = model.classifier.images.columns
            for row in 0..<samples.count {
                for i in 0..<pixels { model.classifier.images.pointer[row * pixels + i] = Float(i % 7) - 3 }
            }
            model.batch = Batch(
                samples: samples, images: samples, labels: Array(repeating: 2, count: samples.count))
            model.step()
            return (0..<samples.count).map { model.classifier.logits.pointer[$0 * 7] }
        }
        let many = try losses(Array(0..<64), seed: 1)
        // Three blocks of rates 0, .25 and .5: 2⁴ sets of branches, of which 64 samples draw most.
        XCTAssertGreaterThan(Set(many).count, 8)
        XCTAssertLessThanOrEqual(Set(many).count, 16)
        XCTAssertEqual(try losses([40, 7, 21], seed: 1), [many[40], many[7], many[21]])
        XCTAssertNotEqual(try losses(Array(0..<64), seed: 2), many)
    }

    /// Of two blocks only the second has a rate above 0: a sample has one of four sets of branches. Which one shows in
    /// its logits, and how often follows from the rate.
    func testDropPathRates() throws {
        let seed = testSeed(56), (samples, rate) = (600, 0.3)
        let configuration = ClassifierConfiguration.small(
            channels: 1, imageHeight: 4, imageWidth: 8, depth: 2, dropPath: rate)
        let model = try RandomClassifier(configuration, batch: samples, seed: seed)
        let pixels = model.classifier.images.columns
        for i in 0..<samples * pixels { model.classifier.images.pointer[i] = Float(i % pixels) / 8 }
        func logits() -> [Float] {
            model.step()
            return (0..<samples).map { model.classifier.logits.pointer[$0 * 7] }
        }
        let drawn = logits()
        for (attention, mlp) in [(true, true), (true, false), (false, true), (false, false)] {
            let kept = [true, true, attention, mlp].flatMap { Array(repeating: $0, count: samples) }
            model.classifier.dropPathSelection = .given(kept)
            let own = logits()
            XCTAssertEqual(Set(own).count, 1)
            // A factor of 1 is a rounding elsewhere.
            let found = drawn.filter { ($0 - own[0]).magnitude < 1e-5 }.count
            let probability = (attention ? 1 - rate : rate) * (mlp ? 1 - rate : rate)
            // Five standard deviations of a binomial count.
            XCTAssertEqual(
                Double(found), probability * Double(samples),
                accuracy: 5 * (probability * (1 - probability) * Double(samples)).squareRoot())
        }
    }

    /// A block of a ViT-B keeps, for each token: residual stream, residual stream after attention, queries, keys, values,
    /// attention's output and the MLP's pre-activation, 2 · 4D bytes and 8 · D elements; and a few statistics. Nothing
    /// else of a step grows with depth.
    func testMemoryOfAViTBase() throws {
        let base = try XCTUnwrap(Preset.encoder("vit-base", imageHeight: 224, imageWidth: 224))
        for precision in [Precision.f32, .bf16] {
            func bytes(depth: Int, _ purpose: MemoryPlan.Purpose?) throws -> Int {
                var size = base
                size.depth = depth
                let plan = MemoryPlan()
                _ = try Classifier(
                    ClassifierConfiguration(encoder: size, classes: 1000, pool: .mean, dropPath: 0.1), batch: 32,
                    seed: 0,
                    plan: plan, .init(precision: precision, keepsGradients: false))
                return purpose.map { plan.bytes(of: $0) } ?? plan.totalBytes
            }
            let perToken = 2 * 4 * 768 + 8 * 768 * precision.activations.size
            let block = try bytes(depth: 12, .activations) - bytes(depth: 11, .activations)
            XCTAssertEqual(Double(block) / Double(32 * 197 * perToken), 1, accuracy: 0.01, "\(precision)")
            // The gradients of one block are alive at a time: 12·D² weights of four bytes, and little else.
            XCTAssertEqual(
                Double(try bytes(depth: 12, .gradients)) / Double(4 * 12 * 768 * 768), 1, accuracy: 0.12)
            XCTAssertLessThan(try bytes(depth: 12, nil), precision == .f32 ? 2800 << 20 : 1900 << 20)
        }
    }

    /// Configurations that do not fit are refused with a sentence.
    func testRefusals() throws {
        func refused(_ change: (inout ClassifierConfiguration) -> Void) -> String {
            var configuration = ClassifierConfiguration.small(
                teacher: LogitDistillation(weight: 0.5, temperature: 1))
            change(&configuration)
            let failure = failure { try configuration.validate() }
            XCTAssertEqual(failure?.code, .usage)
            return failure?.message ?? "accepted"
        }
        XCTAssertNoThrow(try ClassifierConfiguration.small().validate())
        XCTAssertEqual(refused { $0.classes = 0 }, "a classifier needs 1 to 1048576 classes, not 0")
        XCTAssertEqual(refused { $0.dropPath = 1 }, "drop path must be at least 0 and below 1, not 1.0")
        XCTAssertEqual(refused { $0.layerDecay = 0 }, "layer decay must be above 0 and at most 1, not 0.0")
        XCTAssertEqual(refused { $0.smoothing = .nan }, "smoothing must be at least 0 and below 1, not nan")
        XCTAssertEqual(refused { $0.teacher!.weight = 1.5 }, "teacher weight must be from 0 to 1, not 1.5")
        XCTAssertEqual(refused { $0.teacher!.temperature = 0 }, "temperature must be above 0, not 0.0")
        XCTAssertTrue(refused { $0.teacher!.encoder.channels = 1 }.contains("must see the same images"))
        XCTAssertTrue(refused { $0.encoder.heads = 5 }.contains("encoder: 5 heads do not divide"))
    }
}
