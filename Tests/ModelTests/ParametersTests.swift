import Models
import Tensors
import TestSupport
import XCTest

final class ParametersTests: XCTestCase {
    /// The names and shapes of an MAE file, written out from METHOD's list.
    private func expected(_ encoder: EncoderConfiguration, _ decoder: DecoderConfiguration) -> [String: [Int]] {
        var shapes: [String: [Int]] = [:]
        func add(_ name: String, _ outputs: Int, _ inputs: Int) {
            shapes[name + ".weight"] = [outputs, inputs]
            shapes[name + ".bias"] = [outputs]
        }
        func norm(_ name: String, _ width: Int) {
            shapes[name + ".weight"] = [width]
            shapes[name + ".bias"] = [width]
        }
        func block(_ name: String, _ width: Int) {
            norm(name + ".norm1", width)
            add(name + ".attn.qkv", 3 * width, width)
            add(name + ".attn.proj", width, width)
            norm(name + ".norm2", width)
            add(name + ".mlp.fc1", 4 * width, width)
            add(name + ".mlp.fc2", width, 4 * width)
        }
        let (d, e) = (encoder.width, decoder.width)
        shapes["cls_token"] = [1, 1, d]
        shapes["pos_embed"] = [1, encoder.patches + 1, d]
        shapes["patch_embed.proj.weight"] = [d, encoder.channels, encoder.patchSize, encoder.patchSize]
        shapes["patch_embed.proj.bias"] = [d]
        for i in 0..<encoder.depth { block("blocks.\(i)", d) }
        norm("norm", d)
        add("decoder_embed", e, d)
        shapes["mask_token"] = [1, 1, e]
        shapes["decoder_pos_embed"] = [1, encoder.patches + 1, e]
        for i in 0..<decoder.depth { block("decoder_blocks.\(i)", e) }
        norm("decoder_norm", e)
        add("decoder_pred", encoder.patchSize * encoder.patchSize * encoder.channels, e)
        return shapes
    }

    private func shapes(_ parameters: Parameters) -> [String: [Int]] {
        Dictionary(uniqueKeysWithValues: parameters.all.map { ($0.name, $0.shape) })
    }

    /// A full MAE file holds 254, 398 and 494 tensors, under these names and of these shapes. Nothing is mapped for it.
    func testNamesAndShapesOfFullFiles() throws {
        for (name, count) in [("vit-base", 254), ("vit-large", 398), ("vit-huge", 494)] {
            let encoder = try XCTUnwrap(Preset.encoder(name, imageHeight: 224, imageWidth: 224))
            let decoder = try XCTUnwrap(Preset.decoder("dec512d8"))
            let observed = try ObservedModel(
                ModelConfiguration(student: encoder, decoder: decoder), batch: 1, plan: MemoryPlan())
            XCTAssertEqual(observed.parameters.all.count, count, name)
            XCTAssertEqual(shapes(observed.parameters), expected(encoder, decoder), name)
        }
    }

    /// The encoders' sizes: 86M, 303M and 631M parameters with positions and norm, without a classifier.
    func testParameterCounts() throws {
        for (name, millions) in [("vit-base", 86), ("vit-large", 303), ("vit-huge", 631)] {
            let encoder = try XCTUnwrap(Preset.encoder(name, imageHeight: 224, imageWidth: 224))
            let decoder = try XCTUnwrap(Preset.decoder("dec512d2"))
            let parameters = try ObservedModel(
                ModelConfiguration(student: encoder, decoder: decoder), batch: 1, plan: MemoryPlan()
            ).parameters
            let count = parameters.all.reduce(0) {
                $0 + ($1.name.contains("decoder") || $1.name == "mask_token" ? 0 : $1.weight.count)
            }
            XCTAssertEqual((Double(count) / 1e6).rounded(), Double(millions), name)
            XCTAssertEqual(parameters.count(), parameters.all.reduce(0) { $0 + $1.shape.reduce(1, *) })
            let fixed = parameters.all.filter { $0.gradient == nil }
            XCTAssertEqual(Set(fixed.map(\.name)), ["pos_embed", "decoder_pos_embed"])
            XCTAssertEqual(
                parameters.count(trainedOnly: true), parameters.count() - fixed.reduce(0) { $0 + $1.weight.count })
        }
    }

    /// DMAE's heads, and a teacher that ends with its last aligned block and has neither norm, decoder nor gradients.
    func testHeadsAndTeacher() throws {
        let pairs = [AlignedPair(studentBlock: 0, teacherBlock: 1), AlignedPair(studentBlock: 2, teacherBlock: 0)]
        let head = "aligned_feature_projection_heads"
        let wanted: [(Projection, [String: [Int]])] = [
            (.none, [:]),
            (
                .linear,
                [
                    "\(head).0.weight": [20, 12], "\(head).0.bias": [20], "\(head).1.weight": [20, 12],
                    "\(head).1.bias": [20],
                ]
            ),
            (
                .mlp,
                [
                    "\(head).0.fc1.weight": [20, 12], "\(head).0.fc1.bias": [20], "\(head).0.fc2.weight": [20, 20],
                    "\(head).0.fc2.bias": [20], "\(head).1.fc1.weight": [20, 12], "\(head).1.fc1.bias": [20],
                    "\(head).1.fc2.weight": [20, 20], "\(head).1.fc2.bias": [20],
                ]
            ),
        ]
        for (projection, heads) in wanted {
            let configuration = ModelConfiguration.small(
                teacherWidth: projection == .none ? 12 : 20, pairs: pairs, projection: projection)
            let observed = try ObservedModel(configuration, batch: 1, plan: MemoryPlan())
            XCTAssertEqual(
                shapes(observed.parameters),
                expected(configuration.student, configuration.decoder).merging(heads) { first, _ in first })
            let teacher = try XCTUnwrap(observed.teacherParameters)
            let names = Set(teacher.all.map(\.name))
            XCTAssertTrue(
                names.isSuperset(of: ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.1.mlp.fc2.bias"]))
            XCTAssertFalse(
                names.contains { $0.hasPrefix("blocks.2") || $0.hasPrefix("norm") || $0.hasPrefix("decoder") })
            XCTAssertTrue(
                teacher.all.allSatisfy { !$0.isTrained })
        }
    }

    /// Weight decay is for everything but biases and 1-D tensors; class and mask token do decay.
    func testDecayRule() throws {
        let observed = try ObservedModel(.small(projection: .mlp), batch: 1, plan: MemoryPlan())
        var (decayed, spared) = (0, 0)
        for parameter in observed.parameters.all where parameter.gradient != nil {
            let isSpared = parameter.name.hasSuffix(".bias") || parameter.name.contains("norm")
            XCTAssertEqual(parameter.decays, !isSpared, parameter.name)
            if isSpared { spared += 1 } else { decayed += 1 }
        }
        XCTAssertGreaterThan(decayed, 18)
        XCTAssertGreaterThan(spared, 30)
    }

    /// Xavier-uniform matrices (qkv as one 3D×D, the patch projection as D×C·p·p), tokens N(0, 0.02), zeros and ones.
    ///
    /// Of n values of variance σ² the mean strays by σ/√n, and the variance by σ²·√((κ-1)/n), κ being 9/5 for a uniform
    /// and 3 for a normal distribution; six deviations of each are allowed.
    func testInitialStatistics() throws {
        let seed = testSeed(41)
        let encoder = try XCTUnwrap(Preset.encoder("vit-tiny", imageHeight: 32, imageWidth: 48))
        let plan = MemoryPlan()
        let parameters = try ObservedModel(
            ModelConfiguration(student: encoder, decoder: DecoderConfiguration(width: 256, depth: 1, heads: 4)),
            batch: 1, plan: plan
        ).parameters
        try plan.commit()
        parameters.initialize(seed: seed)
        var kinds: [String: Int] = [:]
        for parameter in parameters.all where parameter.gradient != nil {
            let values = parameter.weight.values.map(Double.init)
            let n = Double(values.count)
            let mean = values.reduce(0, +) / n
            let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n
            func check(_ deviation: Double, kurtosis: Double) {
                XCTAssertLessThan(mean.magnitude, 6 * deviation / n.squareRoot(), parameter.name)
                XCTAssertLessThan(
                    (variance / (deviation * deviation) - 1).magnitude, 6 * ((kurtosis - 1) / n).squareRoot(),
                    parameter.name)
            }
            if parameter.name.hasSuffix("token") {
                check(0.02, kurtosis: 3)
                kinds["token", default: 0] += 1
            } else if parameter.name.contains("norm"), parameter.name.hasSuffix(".weight") {
                XCTAssertTrue(values.allSatisfy { $0 == 1 }, parameter.name)
                kinds["norm", default: 0] += 1
            } else if parameter.name.hasSuffix(".bias") {
                XCTAssertTrue(values.allSatisfy { $0 == 0 }, parameter.name)
                kinds["bias", default: 0] += 1
            } else {
                let bound = (6 / Double(parameter.shape[0] + parameter.shape[1...].reduce(1, *))).squareRoot()
                // All threads draw, each from where in the parameter's stream its run of numbers begins.
                var random = CounterRandom(seed: seed, purpose: .weights, name: parameter.name)
                XCTAssertTrue(values.allSatisfy { $0 == Double(Float(random.uniform(-bound, bound))) }, parameter.name)
                XCTAssertLessThanOrEqual(values.map(\.magnitude).max()!, bound * (1 + 0x1p-23), parameter.name)
                check(bound / 3.0.squareRoot(), kurtosis: 1.8)
                kinds["xavier", default: 0] += 1
            }
        }
        XCTAssertEqual(kinds, ["token": 2, "norm": 28, "bias": 83, "xavier": 55])
    }

    /// Projection heads start as every linear layer does, not as PyTorch would leave them (±1/√columns, biases too):
    /// uniform in ±√(6/(rows + columns)), drawn in the order of their own streams by however many threads, and biases
    /// zero.
    func testInitialProjectionHeads() throws {
        let seed = testSeed(42)
        let pairs = [AlignedPair(studentBlock: 0, teacherBlock: 1), AlignedPair(studentBlock: 2, teacherBlock: 0)]
        for (projection, tensors) in [(Projection.linear, 4), (.mlp, 8)] {
            // 49,152 and 65,536 numbers a matrix: more than one thread draws at a time, 32,768.
            let configuration = ModelConfiguration.small(
                studentWidth: 192, teacherWidth: 256, pairs: pairs, projection: projection)
            for threads in 1...3 {
                try withThreads(threads) {
                    XCTAssertEqual(Threads.observed, threads)
                    let plan = MemoryPlan()
                    let parameters = try ObservedModel(configuration, batch: 1, plan: plan).parameters
                    try plan.commit()
                    parameters.initialize(seed: seed)
                    var checked = 0
                    for parameter in parameters.all {
                        guard parameter.name.hasPrefix("aligned_feature_projection_heads.") else { continue }
                        checked += 1
                        let expected: [Float]
                        if parameter.name.hasSuffix(".bias") {
                            expected = [Float](repeating: 0, count: 256)
                        } else {
                            let bound = (6 / Double(256 + (parameter.name.hasSuffix(".fc2.weight") ? 256 : 192)))
                                .squareRoot()
                            var random = CounterRandom(seed: seed, purpose: .weights, name: parameter.name)
                            expected = (0..<parameter.weight.count).map { _ in Float(random.uniform(-bound, bound)) }
                        }
                        XCTAssertTrue(
                            parameter.weight.values.bits == expected.bits,
                            "\(projection), \(threads) threads: \(parameter.name)")
                    }
                    XCTAssertEqual(checked, tensors)
                }
            }
        }
    }

    /// Each parameter has a stream of its own: another seed changes all random ones, the same seed none.
    func testInitialWeightsDependOnTheSeed() throws {
        func weights(_ seed: UInt64) throws -> [String: [UInt32]] {
            let plan = MemoryPlan()
            let parameters = try ObservedModel(.small(), batch: 1, plan: plan).parameters
            try plan.commit()
            parameters.initialize(seed: seed)
            return Dictionary(uniqueKeysWithValues: parameters.all.map { ($0.name, $0.weight.values.bits) })
        }
        let (first, again, other) = (try weights(7), try weights(7), try weights(8))
        XCTAssertEqual(first, again)
        for (name, bits) in first {
            let isFixed = name.hasSuffix(".bias") || name.contains("norm") || name.hasSuffix("pos_embed")
            XCTAssertEqual(bits == other[name], isFixed, name)
        }
        XCTAssertNotEqual(first["blocks.0.attn.qkv.weight"], first["blocks.1.attn.qkv.weight"])
    }
}
