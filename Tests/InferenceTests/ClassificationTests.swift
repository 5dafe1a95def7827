import Foundation
import Images
import Inference
import Interchange
import Models
import Reporting
import Tensors
import TestSupport
import Weights
import XCTest

/// Logits compared with those of timm and transformers for the same weights and picture files (Fixtures/classifiers).
final class ClassificationTests: XCTestCase {
    private let folder = TemporaryFolder()
    /// Without a config.json, which would tell of the weights beside it.
    private let other = TemporaryFolder()
    private static let names = ["ant", "bee", "cat", "dog", "emu"]

    private func path(_ name: String) -> String { Fixtures.path("classifiers/" + name) }

    private func classification(
        _ weights: ModelWeights, pool: FeaturePool? = nil, size: ImageSize? = nil, batch: Int = 4
    ) throws -> Classification {
        try Classification(
            weights: weights, configuration: weights.runnableEncoder(heads: 4, imageSize: size, resampling: true),
            pool: pool, batch: batch)
    }

    private func logits(_ classification: Classification, over source: any ImageSource) throws -> [Float] {
        var all: [Float] = []
        try classification.run(over: source, report: { XCTFail("\($0)") }) { batch, logits in
            XCTAssertEqual(batch.images.first, all.count / classification.classes)
            all += Array(logits)
        }
        return all
    }

    /// timm's model with another `global_pool` in its config.json.
    private func averaged(_ pool: String) throws -> String {
        for name in ["config.json", "model.safetensors"] {
            var content = try Data(contentsOf: URL(fileURLWithPath: path("timm/" + name)))
            if name == "config.json" {
                let text = String(decoding: content, as: UTF8.self)
                content = Data(
                    text.replacingOccurrences(of: "\"global_pool\": \"token\"", with: "\"global_pool\": \"\(pool)\"")
                        .utf8)
            }
            folder.write(content, name)
        }
        return folder.file("model.safetensors")
    }

    /// A linear probe on the encoder of timm's model, with the tensors recorded for it.
    private func probe() throws -> String {
        let encoder = try SafeTensorsFile(path: path("timm/model.safetensors"))
        let recorded = try SafeTensorsFile(path: path("expected.safetensors"))
        var writer = SafeTensorsWriter(metadata: ModelWeights.metadata(classNames: Self.names))
        for (file, isWanted) in [
            (encoder, { (name: String) in !name.hasPrefix("head.") }), (recorded, { $0.hasPrefix("head.") }),
        ] {
            for entry in file.entries where isWanted(entry.name) {
                writer.add(
                    TensorSource(name: entry.name, type: entry.type, shape: entry.shape) {
                        try file.withBytes(entry.name, $0)
                    })
            }
        }
        try writer.write(to: other.file("probe.safetensors"))
        return other.file("probe.safetensors")
    }

    /// From the pictures' files to the logits, with every instruction set: to 1e-4 of the largest, as asked; and closer,
    /// to what float32 explains.
    func testLogitsAgreeWithTimmAndTransformers() throws {
        let expected = try SafeTensorsFile(path: path("expected.safetensors"))
        let images = try ImageFolder(path("images"))
        XCTAssertEqual(images.count, 9)
        let cases: [(name: String, weights: String, pool: FeaturePool?, size: ImageSize?)] = [
            ("timm", path("timm/model.safetensors"), nil, nil), ("timm-average", try averaged("avg"), nil, nil),
            ("timm-average", path("timm/model.safetensors"), .mean, nil),
            ("timm-48", path("timm/model.safetensors"), nil, ImageSize("48")),
            ("timm-mean", path("timm-mean/model.safetensors"), nil, nil), ("probe", try probe(), nil, nil),
            ("transformers", path("transformers"), nil, nil),
        ]
        let ran = try withEachInstructionSet { set in
            var comparison = TensorComparison()
            for (name, weights, pool, size) in cases {
                let model = try ModelWeights(path: weights)
                let found = try logits(classification(model, pool: pool, size: size), over: images)
                comparison.compare(
                    name, expected: try expected.floats(name + ".logits"), found: found, relative: 1e-4)
            }
            XCTAssertEqual(comparison.failures, [], set.name)
            print("\(set.name): \(comparison.summary)")
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// A probe whose BatchNorm was folded into one linear layer, for tools without one, has the probe's logits and names.
    func testFoldedProbes() throws {
        let weights = try ModelWeights(path: probe())
        let expected = try SafeTensorsFile(path: path("expected.safetensors")).floats("probe.logits")
        let images = try ImageFolder(path("images"))
        var comparison = TensorComparison()
        for (target, name, head) in [
            (Conversion.Target.timm, "timm.safetensors", "head"), (.timm, "timm.pth", "model.head"),
            (.huggingFace, "hugging", "classifier"),
        ] {
            let conversion = try Conversion(weights, to: target, heads: 4)
            XCTAssertTrue(conversion.notes.contains { $0.contains("as one linear layer") }, "\(conversion.notes)")
            XCTAssertFalse(conversion.notes.contains { $0.contains("left out") }, "\(conversion.notes)")
            try conversion.write(to: other.file(name))
            let file = try WeightFiles.open(other.file(name))
            XCTAssertEqual(file[head + ".weight"]?.shape, [5, weights.encoder.width], name)
            XCTAssertEqual(file[head + ".bias"]?.shape, [5], name)
            XCTAssertFalse(file.names.contains { $0.contains("head.0") || $0.contains("head.1") }, "\(file.names)")
            let model = try ModelWeights(path: other.file(name))
            XCTAssertEqual(model.classNames, Self.names, name)
            let found = try logits(classification(model), over: images)
            comparison.compare(name, expected: expected, found: found, relative: 1e-4)
        }
        XCTAssertEqual(comparison.failures, [])
        print(comparison.summary)
        // MAE's names keep both layers; without the head neither is left.
        XCTAssertTrue(try Conversion(weights, to: .mae).tensors.contains { $0.name == "head.0.running_var" })
        for target in [Conversion.Target.timm, .huggingFace] {
            let encoder = try Conversion(weights, to: target, encoderOnly: true, heads: 4)
            XCTAssertFalse(encoder.tensors.contains { $0.name.contains("head") || $0.name.contains("classifier") })
            XCTAssertTrue(encoder.notes.contains { $0.hasPrefix("left out: the class head") }, "\(encoder.notes)")
        }
    }

    /// The logits are the same bits for any number of threads, workers and images per pass.
    func testBitsDependOnNeitherThreadsNorBatch() throws {
        let images = try ImageFolder(path("images"))
        var expected: [Float]?
        for (threads, batch) in [(1, 1), (2, 4), (3, 9)] {
            try withThreads(threads) {
                let weights = try ModelWeights(path: path("timm-mean/model.safetensors"))
                let found = try logits(classification(weights, batch: batch), over: images)
                XCTAssertEqual(found, expected ?? found, "\(threads) threads, batches of \(batch)")
                expected = found
            }
        }
    }

    func testRefusals() throws {
        func refusal(_ weights: String, pool: FeaturePool? = nil) -> Failure? {
            failure { _ = try classification(ModelWeights(path: weights), pool: pool) }
        }
        let headless = refusal(Fixtures.path("weights/mae/mae.safetensors"))
        XCTAssertEqual(headless?.code, .badData)
        XCTAssertTrue(
            headless?.message.contains("holds no class head: fine-tune the encoder first") == true, "\(headless as Any)"
        )
        let pooled = refusal(path("timm-mean/model.safetensors"), pool: .class)
        XCTAssertEqual(pooled?.code, .usage)
        XCTAssertTrue(pooled?.message.contains("pool class does not fit") == true, "\(pooled as Any)")
        let map = refusal(try averaged("map"))
        XCTAssertEqual(map?.code, .badData)
        XCTAssertTrue(map?.message.contains("asks for the pooling \"map\"") == true, "\(map as Any)")
    }

    /// The most probable classes: a softmax in double; of equal ones the lower index first.
    func testPredictions() {
        func best(_ count: Int, _ logits: [Float]) -> [Prediction] {
            logits.withUnsafeBufferPointer { Prediction.best(count, of: $0) }
        }
        let found = best(3, [1, 3, -2, 3, 0.5])
        XCTAssertEqual(found.map(\.index), [1, 3, 0])
        let sum = exp(1.0) + 2 * exp(3.0) + exp(-2.0) + exp(0.5)
        for (prediction, logit) in zip(found, [3.0, 3, 1]) {
            XCTAssertEqual(prediction.probability, exp(logit) / sum, accuracy: 1e-15)
        }
        XCTAssertEqual(best(5, [0, 0]).map(\.index), [0, 1])
        // Far apart, without overflow.
        XCTAssertEqual(best(2, [1000, -1000]).map(\.probability), [1, 0])
        var random = CounterRandom(seed: 3, purpose: .test, epoch: 0)
        for _ in 0..<100 {
            let logits = (0..<20).map { _ in Float(random.below(8)) }
            let sorted = logits.indices.sorted { (-logits[$0], $0) < (-logits[$1], $1) }
            XCTAssertEqual(best(5, logits).map(\.index), Array(sorted.prefix(5)))
        }
    }
}
