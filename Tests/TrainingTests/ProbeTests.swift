import Foundation
import Images
import Interchange
import Models
import Reporting
import Tensors
import TestSupport
import Training
import Weights
import XCTest

/// Runs of the linear probe.
final class ProbeTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let encoder = EncoderConfiguration(
        width: 24, depth: 2, heads: 2, patchSize: 4, imageHeight: 12, imageWidth: 16)
    private let classes = ["a", "b", "c"]
    private let results = ["model.safetensors", "best.safetensors", "evaluation.json"]

    // MARK: A small run

    /// A folder of pictures in three classes, which differ in their mean colour.
    private func pictures(_ name: String, perClass: Int, seed: UInt64, broken: Set<Int> = []) throws -> String {
        for (index, label) in classes.enumerated() {
            try FileManager.default.createDirectory(
                atPath: folder.file("\(name)/\(label)"), withIntermediateDirectories: true)
            for number in 0..<perClass {
                var random = CounterRandom(seed: seed, purpose: .test, epoch: index, index: number)
                var bytes: [UInt8] = []
                for _ in 0..<20 * 24 {
                    for channel in 0..<3 { bytes.append(UInt8(random.below(140) + (channel == index ? 100 : 0))) }
                }
                let place = "\(name)/\(label)/\(number).png"
                if broken.contains(number) {
                    folder.write("no picture".utf8, place)
                } else {
                    folder.write(
                        try PNGWriter.encode(Pixels(width: 24, height: 20, channels: 3, bytes: bytes)), place)
                }
            }
        }
        return folder.file(name)
    }

    /// A file of random weights of the encoder, with a decoder's norm for a part that is not needed.
    private func weights(_ name: String = "encoder.safetensors", seed: UInt64 = 91, without: String? = nil) throws
        -> String
    {
        let plan = MemoryPlan()
        let extractor = try FeatureExtractor(encoder, at: .norm, pool: .class, batch: 1, plan: plan)
        // Packed weights cannot be read back: these are drawn again.
        try plan.commit()
        var writer = SafeTensorsWriter()
        extractor.parameters.initializeConstants()
        let values = extractor.parameters.all.filter { $0.name != without }.map { parameter in
            if parameter.name == "pos_embed" { return (parameter, Array(parameter.weight.elements)) }
            var random = CounterRandom(seed: seed, purpose: .test, name: parameter.name)
            let offset = parameter.name.hasPrefix("norm") && parameter.name.hasSuffix("weight") ? 1.0 : 0
            return (parameter, (0..<parameter.weight.count).map { _ in Float(offset + 0.2 * random.normal()) })
        }
        try withBuffers(values.map(\.1)) { buffers in
            for ((parameter, _), buffer) in zip(values, buffers) {
                writer.add(parameter.name, shape: parameter.shape, floats: buffer)
            }
            try writer.write(to: folder.file(name))
        }
        return folder.file(name)
    }

    private func withBuffers(_ values: [[Float]], _ body: ([UnsafeBufferPointer<Float>]) throws -> Void) rethrows {
        let buffers = values.map { value in
            let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: value.count)
            _ = buffer.initialize(from: value)
            return buffer
        }
        defer { buffers.forEach { $0.deallocate() } }
        try body(buffers.map { UnsafeBufferPointer($0) })
    }

    /// Effective batches of 8 in two micro-batches, of 21 images: an epoch leaves a remainder.
    private func configuration(
        _ augmentation: ProbeAugmentation, pool: ClassifierPool = .class, epochs: Double = 4, train: String? = nil,
        validation: String? = nil
    ) throws -> TrainingConfiguration {
        var configuration = TrainingConfiguration(
            method: .probe, recipe: "mae-probe", model: nil,
            data: ImagePlaces(try train ?? pictures("train", perClass: 7, seed: 1)), teacher: nil, batch: 4,
            accumulation: 2,
            epochs: epochs, warmupEpochs: 1, baseLearningRate: 30, minimumLearningRate: 0, optimizer: .lars, seed: 17,
            minimumCropArea: 0.08, maximumCropArea: 1)
        configuration.classifier = ClassifierConfiguration(encoder: encoder, classes: 3, pool: pool)
        configuration.probeAugmentation = augmentation
        configuration.validation = ImagePlaces(try validation ?? pictures("val", perClass: 5, seed: 2))
        configuration.weights = folder.file("encoder.safetensors")
        if !FileManager.default.fileExists(atPath: configuration.weights!) { _ = try weights() }
        return configuration
    }

    private func made(_ configuration: TrainingConfiguration) throws -> Trainer {
        let trainer = try Trainer(configuration)
        let preparation = try trainer.prepare(teacher: ModelWeights(path: configuration.weights!))
        XCTAssertNotNil(preparation.frozen)
        return trainer
    }

    @discardableResult
    private func run(
        _ trainer: Trainer, _ name: String, workers: Int = 1, isInterrupted: () -> String? = { nil },
        message: @escaping (Message) -> Void = { XCTFail("\($0)") }
    ) throws -> Trainer.Outcome {
        try trainer.run(
            in: RunDirectory(path: folder.file(name), resuming: true), workers: workers, progress: nil,
            message: message, isInterrupted: isInterrupted)
    }

    private func files(_ name: String) throws -> [Data] {
        try results.map { try Data(contentsOf: URL(fileURLWithPath: folder.file("\(name)/\($0)"))) }
    }

    /// The log without measured values.
    private func log(_ name: String) throws -> [NSDictionary] {
        try String(contentsOfFile: folder.file(name) + "/log.jsonl", encoding: .utf8).split(separator: "\n").map {
            var object = try XCTUnwrap(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
            for key in ["images_per_second", "time", "elapsed_seconds"] { object.removeValue(forKey: key) }
            return object as NSDictionary
        }
    }

    // MARK: The run

    /// Ten steps, an evaluation per epoch; the files hold encoder and probe, and name the classes.
    func testAWholeRun() throws {
        for augmentation in ProbeAugmentation.allCases {
            let name = "run \(augmentation)"
            var configuration = try configuration(augmentation)
            // MAE's trust coefficient is for runs of ten thousand steps.
            configuration.optimizer.trust = 0.2
            let trainer = try made(configuration)
            XCTAssertEqual(trainer.totalSteps, 10)
            XCTAssertEqual(trainer.extraction?.images, augmentation == .none ? 36 : nil)
            guard case .finished(let path) = try run(trainer, name) else { return XCTFail("not finished") }
            XCTAssertNil(trainer.extraction, "the encoder is freed")
            let lines = try log(name)
            let evaluations = lines.filter { $0["val_top1"] != nil }
            XCTAssertEqual(lines.filter { $0["loss"] != nil }.count, 10)
            XCTAssertEqual(evaluations.count, 4)
            // The classes differ in their mean colour; a probe of three classes learns that.
            XCTAssertGreaterThan(evaluations.last!["val_top1"] as! Double, 0.6)
            XCTAssertEqual(evaluations.last!["val_top5"] as! Double, 1)
            let file = try SafeTensorsFile(path: path)
            let layout = ModelLayout(probing: configuration.classifier!)
            XCTAssertEqual(file.entries.map(\.name), layout.entries.map(\.name))
            XCTAssertEqual(file.entries.map(\.shape), layout.entries.map(\.shape))
            let source = try SafeTensorsFile(path: configuration.weights!)
            for entry in source.entries {
                XCTAssertEqual(try file.floats(entry.name).bits, try source.floats(entry.name).bits, entry.name)
            }
            XCTAssertNotEqual(try file.floats("pos_embed")[encoder.width], 1, "computed")
            XCTAssertEqual(file.metadata["dmae.classes"], #"["a","b","c"]"#)
            let weights = try ModelWeights(path: path)
            XCTAssertEqual(weights.encoder, encoder)
            XCTAssertEqual(weights.classes, 3)
            // The statistics have moved, and so has the head.
            XCTAssertTrue(try file.floats("head.0.running_mean").allSatisfy { $0 != 0 })
            XCTAssertTrue(try file.floats("head.0.running_var").allSatisfy { $0 > 0 })
            XCTAssertTrue(try file.floats("head.1.bias").allSatisfy { $0 != 0 })
        }
    }

    /// The same bits as a loop written out: images prepared as for validation, in the stream's order, encoded in every
    /// step, LARS. So features are computed once without any difference.
    func testStoredFeaturesAreThoseOfEveryStep() throws {
        let configuration = try configuration(.none)
        guard case .finished(let path) = try run(made(configuration), "stored") else { return XCTFail("not finished") }
        let plan = MemoryPlan(), source = try ImageCollection(configuration.data)
        let probe = try LinearProbe(configuration.classifier!, batch: 4, plan: plan, .images(.f32))
        let loop = StepLoop(probe, .lars, accumulation: 2, plan: plan)
        try plan.commit()
        probe.parameters.initialize(seed: 17)
        let frozen = try XCTUnwrap(probe.frozenParameters)
        frozen.initializePositions()
        _ = try frozen.load(from: ModelWeights(path: configuration.weights!), for: encoder)
        let loader = BatchLoader(
            source: source, augmentation: Augmentation(width: 16, height: 12, framing: .centre), batchSize: 4, seed: 17,
            firstSample: 0, lastSample: 80, workers: 2, report: { XCTFail("\($0)") })
        defer { loader.stop() }
        for step in 0..<10 {
            let epoch = Double(step) * 8 / 21, peak = 30.0 * 8 / 256
            let rate = epoch < 1 ? peak * epoch : peak * 0.5 * (1 + cos(.pi * (epoch - 1) / 3))
            _ = try loop.run(step: step + 1, learningRate: Float(rate)) { try loader.next(into: probe.images)! }
        }
        let file = try SafeTensorsFile(path: path)
        for parameter in probe.parameters.all {
            let (found, expected) = (try file.floats(parameter.name), parameter.weight.values)
            // The rate's last bit may differ.
            let largest = TensorComparison.largest(expected)
            for (one, other) in zip(found, expected) { XCTAssertEqual(one, other, accuracy: Float(1e-6 * largest)) }
        }
    }

    /// MAE's pooling of the mean: `fc_norm` is the identity's LayerNorm where the weights have none.
    func testMeanPooling() throws {
        for augmentation in ProbeAugmentation.allCases {
            let name = "mean \(augmentation)"
            guard case .finished(let path) = try run(made(configuration(augmentation, pool: .mean)), name) else {
                return XCTFail("not finished")
            }
            let file = try SafeTensorsFile(path: path)
            XCTAssertNil(file["norm.weight"])
            XCTAssertEqual(try file.floats("fc_norm.weight"), Array(repeating: 1, count: 24))
            XCTAssertEqual(try file.floats("fc_norm.bias"), Array(repeating: 0, count: 24))
        }
    }

    // MARK: Reproducibility

    /// Interrupted after every micro-batch and every pass of an evaluation, resumed by another number of threads and
    /// workers: the same files and the same log.
    func testStoppedEverywhereAndResumed() throws {
        for augmentation in ProbeAugmentation.allCases {
            let configuration = try configuration(augmentation, epochs: 2), whole = "whole \(augmentation)"
            let name = "stopped \(augmentation)"
            try withThreads(1) { _ = try run(made(configuration), whole) }
            var attempt = 0, calls = 0
            while true {
                attempt += 1
                guard attempt < 60 else { return XCTFail("never ends") }
                let store = CheckpointStore(directory: folder.file(name), keep: 2)
                calls = 0
                let outcome = try withThreads(1 + attempt % 3) {
                    let trainer = try made(configuration)
                    if let checkpoint = try store.newestValid(report: { XCTFail("\($0)") }) {
                        try trainer.restore(checkpoint)
                    }
                    return try run(
                        trainer, name, workers: 1 + attempt % 2,
                        isInterrupted: {
                            calls += 1
                            // At once, while features are computed; then some way further each time, as they are
                            // computed anew.
                            return calls > (attempt == 1 ? 0 : 4 + attempt % 2) ? "SIGTERM" : nil
                        })
                }
                if case .finished = outcome { break }
            }
            XCTAssertGreaterThan(attempt, 2)
            XCTAssertEqual(try files(name), try files(whole))
            XCTAssertEqual(try log(name), try log(whole))
        }
    }

    /// A run that is resumed at its end computes no features again.
    func testResumingAFinishedRun() throws {
        let configuration = try configuration(.none, epochs: 2)
        _ = try run(made(configuration), "run")
        let before = try files("run")
        let trainer = try made(configuration)
        let store = CheckpointStore(directory: folder.file("run"), keep: 2)
        try trainer.restore(XCTUnwrap(store.newestValid(report: { XCTFail("\($0)") })))
        guard case .finished = try run(trainer, "run") else { return XCTFail("not finished") }
        XCTAssertNotNil(trainer.extraction)
        XCTAssertEqual(try files("run"), before)
    }

    /// Other weights of the encoder are not those that the run was started with.
    func testResumingWithOtherWeights() throws {
        for augmentation in ProbeAugmentation.allCases {
            var configuration = try configuration(augmentation, epochs: 2)
            _ = try run(made(configuration), "run")
            configuration.weights = try weights("other.safetensors", seed: 92)
            let trainer = try made(configuration)
            let store = CheckpointStore(directory: folder.file("run"), keep: 2)
            let checkpoint = try XCTUnwrap(store.newestValid(report: { XCTFail("\($0)") }))
            let failure = failure { try trainer.restore(checkpoint) }
            XCTAssertEqual(failure?.code, .badData)
            XCTAssertEqual(
                failure?.message,
                "\(folder.file("other.safetensors")): has other weights than the encoder the run was started with: "
                    + "name that one with weights, or name another output folder")
            try FileManager.default.removeItem(atPath: folder.file("run"))
        }
    }

    /// An unreadable image is named once, and replaced in the stream; of the validation images it is left out.
    func testUnreadableImages() throws {
        for augmentation in ProbeAugmentation.allCases {
            let train = try pictures("train \(augmentation)", perClass: 7, seed: 1, broken: [3])
            let validation = try pictures("val \(augmentation)", perClass: 5, seed: 2, broken: [0])
            var configuration = try configuration(augmentation, train: train, validation: validation)
            configuration.unreadableLimit = 0.3
            var messages: [String] = []
            _ = try run(made(configuration), "run \(augmentation)", message: { messages.append("\($0)") })
            XCTAssertEqual(messages.filter { $0.contains("/3.png") }.count, 3, "\(messages)")
            XCTAssertEqual(messages.filter { $0.contains("/0.png") }.count, 3, "\(messages)")
            let last = try XCTUnwrap(log("run \(augmentation)").last { $0["val_top1"] != nil })
            // Twelve images are left.
            let hits = (last["val_top1"] as! Double) * 12
            XCTAssertEqual(hits, hits.rounded(), accuracy: 1e-9)
        }
    }

    // MARK: What does not fit

    func testImagesWithoutClassesOrWithOtherOnes() throws {
        let flat = folder.file("train/a")
        for augmentation in ProbeAugmentation.allCases {
            let good = try configuration(augmentation)
            for (field, words) in [("train", "has no classes"), ("val", "has no classes")] {
                var configuration = good
                if field == "train" {
                    configuration.data = ImagePlaces(flat)
                } else {
                    configuration.validation = ImagePlaces(flat)
                }
                let failure = failure { _ = try Trainer(configuration) }
                XCTAssertEqual(failure?.code, .badData)
                XCTAssertTrue(failure?.message.contains(words) == true, "\(failure as Any)")
            }
        }
        try FileManager.default.moveItem(atPath: folder.file("val/b"), toPath: folder.file("val/d"))
        var configuration = try configuration(.none, train: folder.file("train"), validation: folder.file("val"))
        let different = failure { _ = try Trainer(configuration) }
        XCTAssertEqual(different?.code, .badData)
        XCTAssertTrue(different?.message.contains("\"b\"") == true, "\(different as Any)")
        XCTAssertTrue(different?.message.contains("\"d\"") == true, "\(different as Any)")
        for name in ["one", "one val"] {
            try FileManager.default.createDirectory(atPath: folder.file(name), withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: flat, toPath: folder.file(name + "/a"))
        }
        configuration.data = ImagePlaces(folder.file("one"))
        configuration.validation = ImagePlaces(folder.file("one val"))
        let single = failure { _ = try Trainer(configuration) }
        XCTAssertEqual(single?.code, .badData)
        XCTAssertTrue(single?.message.contains("only one class") == true, "\(single as Any)")
    }

    func testWeightsWithoutANorm() throws {
        var configuration = try configuration(.none)
        configuration.weights = try weights("bare.safetensors", without: "norm.weight")
        let trainer = try Trainer(configuration)
        let failure = failure { try trainer.prepare(teacher: ModelWeights(path: configuration.weights!)) }
        XCTAssertEqual(failure?.code, .badData)
        XCTAssertTrue(failure?.message.contains("norm.weight") == true, "\(failure as Any)")
    }

    // MARK: The recipe

    /// At most a tenth of the images, in whole micro-batches.
    func testEffectiveBatches() throws {
        let recipe = ProbeRecipe.mae(width: 768)
        XCTAssertEqual(recipe.epochs, 90)
        XCTAssertEqual(ProbeRecipe.mae(width: 1024).epochs, 50)
        for (images, batch, expected) in [
            (1_281_167, nil, (512, 32)), (163_840, nil, (512, 32)), (163_839, nil, (512, 31)), (60_000, nil, (512, 11)),
            (5515, nil, (512, 1)), (5119, nil, (511, 1)), (900, nil, (90, 1)), (9, nil, (2, 1)),
            (60_000, 100, (100, 60)),
            (900, 64, (64, 1)), (300, 64, (64, 1)),
        ] as [(Int, Int?, (Int, Int))] {
            let found = try recipe.batches(images: images, batch: batch, effectiveBatch: nil)
            XCTAssertEqual([found.batch, found.accumulation], [expected.0, expected.1], "\(images), \(batch ?? 0)")
        }
        let found = try recipe.batches(images: 100, batch: 8, effectiveBatch: 64)
        XCTAssertEqual([found.batch, found.accumulation], [8, 8])
        for (batch, effective) in [(1, nil), (7, 64), (nil, 1)] as [(Int?, Int?)] {
            let failure = failure { _ = try recipe.batches(images: 1000, batch: batch, effectiveBatch: effective) }
            XCTAssertEqual(failure?.code, .usage)
        }
    }
}
