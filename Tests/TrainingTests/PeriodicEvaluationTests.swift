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

/// Held-out losses and k-NN while a masked autoencoder trains: their values, and that they leave no trace in the run.
final class PeriodicEvaluationTests: XCTestCase {
    private let folder = TemporaryFolder()

    override func tearDown() { Signals.reset() }

    // MARK: A small run

    /// Writes pictures of three classes, each with random squares in a shade of its own; returns their folder.
    private func pictures(_ name: String, perClass count: Int) throws -> String {
        for (label, group) in ["a", "b", "c"].enumerated() {
            let path = "\(name)/\(group)"
            try FileManager.default.createDirectory(
                atPath: folder.file(path), withIntermediateDirectories: true)
            for index in 0..<count {
                var random = CounterRandom(seed: 61, purpose: .test, epoch: name.utf8.count, index: label * 100 + index)
                let colours = (0..<48).map { UInt8((($0 % 3 == label ? 120 : 0) + random.below(136))) }
                var bytes: [UInt8] = []
                for y in 0..<20 {
                    for x in 0..<24 {
                        let square = x / 6 + y / 5 * 4
                        bytes += colours[3 * square..<3 * square + 3]
                    }
                }
                folder.write(
                    try PNGWriter.encode(Pixels(width: 24, height: 20, channels: 3, bytes: bytes)),
                    "\(path)/\(index).png")
            }
        }
        return folder.file(name)
    }

    /// Distillation with two pairs, or pre-training; effective batches of 8 in two micro-batches; 12 steps.
    private func smallRun(teacher: Bool = true, accumulation: Int = 2) throws -> TrainingConfiguration {
        let pairs = [AlignedPair(studentBlock: 1, teacherBlock: 0), AlignedPair(studentBlock: 2, teacherBlock: 2)]
        let model = ModelConfiguration.small(teacherWidth: teacher ? 20 : nil, pairs: pairs, distance: .l1)
        return TrainingConfiguration(
            method: teacher ? .distill : .pretrain, recipe: "test", model: model,
            data: ImagePlaces(try pictures("images", perClass: 8)),
            teacher: teacher ? try self.teacher(for: model) : nil,
            batch: 8 / accumulation, accumulation: accumulation, epochs: 4, warmupEpochs: 1, baseLearningRate: 0.1,
            minimumLearningRate: 0, optimizer: Optimizer(), seed: 53)
    }

    /// The same with both evaluations: held-out losses each epoch, k-NN every other one.
    private func evaluated(_ configuration: TrainingConfiguration) throws -> TrainingConfiguration {
        var configuration = configuration
        configuration.validation = ImagePlaces(try pictures("val", perClass: 3))
        configuration.neighbors = NeighborSettings(
            train: configuration.data, validation: configuration.validation!, everyEpochs: 2)
        return configuration
    }

    /// Writes random weights for the teacher of `model`.
    private func teacher(for model: ModelConfiguration) throws -> String {
        let random = try RandomModel(
            ModelConfiguration(student: model.teacher!, decoder: model.decoder, maskRatio: 0.5), batch: 1, seed: 52)
        var writer = SafeTensorsWriter()
        for parameter in random.parameters.all {
            writer.add(parameter.name, shape: parameter.shape, floats: UnsafeBufferPointer(parameter.weight.elements))
        }
        try withExtendedLifetime(random) { try writer.write(to: folder.file("teacher.safetensors")) }
        return folder.file("teacher.safetensors")
    }

    private func trainer(_ configuration: TrainingConfiguration) throws -> Trainer {
        let trainer = try Trainer(configuration)
        try trainer.prepare(teacher: configuration.teacher.map { try ModelWeights(path: $0, role: .teacher) })
        return trainer
    }

    /// Every tensor of a run's weights.
    private func weights(_ name: String) throws -> [String: [UInt32]] {
        let file = try SafeTensorsFile(path: folder.file(name + "/model.safetensors"))
        return Dictionary(uniqueKeysWithValues: try file.names.map { ($0, try file.floats($0).bits) })
    }

    /// The lines of a run's log without the measured values: those of steps, and those of evaluations.
    private func log(_ name: String) throws -> (steps: [NSDictionary], evaluations: [NSDictionary]) {
        let lines = try String(contentsOfFile: folder.file(name) + "/log.jsonl", encoding: .utf8).split(separator: "\n")
            .map { line in
                var object = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
                for key in RunLog.measuredKeys { object[key] = nil }
                return object as NSDictionary
            }
        return (lines.filter { $0["learning_rate"] != nil }, lines.filter { $0["learning_rate"] == nil })
    }

    @discardableResult
    private func train(
        _ configuration: TrainingConfiguration, _ name: String, workers: Int = 1, poisoning: Bool = false,
        message: @escaping (Message) -> Void = { XCTFail("\($0)") }, isInterrupted: () -> String? = { nil }
    ) throws -> Trainer.Outcome {
        let trainer = try trainer(configuration)
        trainer.plan.poisonsDeadMemory = poisoning
        let directory = try RunDirectory(path: folder.file(name), resuming: true)
        if let checkpoint = try CheckpointStore(directory: directory.path, keep: 2).newestValid(report: {
            XCTFail("\($0)")
        }) {
            try trainer.restore(checkpoint)
        }
        return try trainer.run(
            in: directory, workers: workers, progress: nil, message: message, isInterrupted: isInterrupted)
    }

    // MARK: No trace

    /// A run with evaluations has the weights and the step's log lines of a run without, to the bit; with gradients
    /// that are kept or not, and in memory that is overwritten as soon as it is dead.
    func testTheRunIsTheSame() throws {
        for (accumulation, teacher) in [(1, true), (2, true), (1, false)] {
            let plain = try smallRun(teacher: teacher, accumulation: accumulation), name = "\(accumulation)\(teacher)"
            try train(plain, name + "plain")
            let expected = (try weights(name + "plain"), try log(name + "plain").steps)
            XCTAssertEqual(expected.1.count, 12)
            var evaluations: [NSDictionary]?
            for (threads, workers, poisoning) in [(1, 1, false), (3, 2, true)] {
                let other = "\(name) \(threads)"
                try withThreads(threads) {
                    try train(evaluated(plain), other, workers: workers, poisoning: poisoning)
                }
                XCTAssertEqual(try weights(other), expected.0, other)
                let log = try log(other)
                XCTAssertEqual(log.steps, expected.1, other)
                XCTAssertEqual(log.evaluations, evaluations ?? log.evaluations, other)
                evaluations = log.evaluations
            }
            // Three steps are an epoch.
            let lines = try XCTUnwrap(evaluations)
            XCTAssertEqual(lines.map { $0["step"] as? Int }, [3, 6, 9, 12])
            let losses =
                ["val_loss", "val_loss_reconstruction"] + (teacher ? ["val_loss_align_0", "val_loss_align_1"] : [])
            let neighbors = ["knn_top1_k10", "knn_top5_k10", "knn_top1_k20", "knn_top5_k20"]
            for (index, line) in lines.enumerated() {
                XCTAssertEqual(
                    Set(line.allKeys as! [String]),
                    Set(["step", "epoch"] + losses + (index % 2 == 1 ? neighbors : [])))
                for key in losses { XCTAssertTrue((line[key] as! Double).isFinite && line[key] as! Double > 0, key) }
                if index % 2 == 1 { XCTAssertEqual(line["knn_top5_k10"] as? Double, 1, "three classes") }
            }
            XCTAssertLessThan(lines[3]["val_loss"] as! Double, lines[0]["val_loss"] as! Double)
        }
    }

    /// Stopped after any number of polls, in evaluations too, and resumed each time, a run has the same bytes.
    func testKillAndResume() throws {
        let configuration = try evaluated(smallRun())
        try train(configuration, "whole")
        for patience in [2, 7] {
            let name = "stopped \(patience)"
            var stops = 0, isFinished = false
            // Each process polls a few more times than the one before: an evaluation must be done in one go.
            while !isFinished, stops < 200 {
                var polls = 0
                let outcome = try train(configuration, name) {
                    polls += 1
                    return polls > patience + stops / 4 ? "SIGTERM" : nil
                }
                if case .finished = outcome { isFinished = true } else { stops += 1 }
            }
            XCTAssertTrue(isFinished)
            XCTAssertGreaterThan(stops, 3)
            print("\(name): \(stops) stops")
            XCTAssertEqual(try weights(name), try weights("whole"), name)
            let (found, expected) = (try log(name), try log("whole"))
            XCTAssertEqual(found.steps, expected.steps, name)
            XCTAssertEqual(found.evaluations, expected.evaluations, name)
        }
    }

    // MARK: Values

    /// Held-out losses are the means over the images of the losses of each alone, under masks for its index, also where
    /// the last batch is not full. Each loss is a sum in double, rounded once; a product of float32 sums depends on the
    /// batch only by its rounding.
    func testHeldOutLosses() throws {
        for teacher in [true, false] {
            let configuration = try evaluated(smallRun(teacher: teacher))
            let trainer = try trainer(configuration)
            let evaluation = try XCTUnwrap(trainer.evaluations.first as? HeldOutLosses)
            let found = try XCTUnwrap(
                evaluation.evaluate(workers: 1, report: { XCTFail("\($0)") }, isInterrupted: { false }))

            var single = configuration
            single.batch = 1
            single.accumulation = 8
            let alone = try self.trainer(single).objective
            let source = try ImageCollection(configuration.validation!)
            XCTAssertEqual(source.count, 9, "two batches of four, and one image")
            var sums = [Double](repeating: 0, count: found.count)
            for index in 0..<source.count {
                let picture = configuration.validationAugmentation.apply(
                    to: try Pixels(contentsOf: source.path(index), channels: 3), seed: 0, epoch: 0, index: index)
                configuration.validationAugmentation.normalisation.write(picture, to: alone.images.pointer)
                let losses = alone.evaluate(Batch(samples: [index], images: [0]))
                for (term, value) in losses.values.enumerated() { sums[term] += Double(value) }
            }
            XCTAssertEqual(evaluation.terms.count, teacher ? 4 : 2)
            for (index, term) in evaluation.terms.enumerated() {
                let expected = sums[index] / 9
                XCTAssertEqual(found[index], expected, accuracy: 4 * 0x1p-24 * expected, term.key)
            }
            // Nothing changed: the same values again.
            XCTAssertEqual(
                try evaluation.evaluate(workers: 2, report: { XCTFail("\($0)") }, isInterrupted: { false }), found)
            XCTAssertNil(try evaluation.evaluate(workers: 1, report: { XCTFail("\($0)") }, isInterrupted: { true }))
        }
    }

    /// k-NN is that of the features of an extractor with a copy of the weights.
    func testNeighbors() throws {
        let configuration = try evaluated(smallRun())
        let trainer = try trainer(configuration)
        let evaluation = try XCTUnwrap(trainer.evaluations.last as? PeriodicNeighbors)
        let found = try XCTUnwrap(
            evaluation.evaluate(workers: 1, report: { XCTFail("\($0)") }, isInterrupted: { false }))
        XCTAssertNil(try evaluation.evaluate(workers: 1, report: { XCTFail("\($0)") }, isInterrupted: { true }))

        let student = configuration.trainedEncoder, plan = MemoryPlan()
        let extractor = try FeatureExtractor(student, at: .norm, pool: .class, batch: 5, plan: plan)
        let neighbors = NearestNeighbors(queries: 9, width: student.width, classes: 3, counts: [10, 20], plan: plan)
        try plan.commit()
        extractor.parameters.fill { parameter in
            let own = trainer.objective.parameters.all.first { $0.name == parameter.name }!
            parameter.weight.copy(from: own.weight)
        }
        func encode(_ places: ImagePlaces, _ add: (UnsafePointer<Float>, Int) -> Void) throws {
            let loader = BatchLoader(
                once: try ImageCollection(places), augmentation: configuration.validationAugmentation, batchSize: 5,
                workers: 1, report: { XCTFail("\($0)") })
            defer { loader.stop() }
            while let batch = try loader.next(into: extractor.images) {
                extractor.forward()
                for row in 0..<batch.count {
                    add(extractor.features.pointer + row * student.width, batch.labels![row])
                }
            }
        }
        try encode(configuration.neighbors!.validation) { neighbors.addQuery($0, label: $1) }
        try encode(configuration.neighbors!.train) { neighbors.addReference($0, label: $1) }
        XCTAssertEqual(found, neighbors.scores().flatMap { [$0.top1, $0.top5] })
        XCTAssertEqual(evaluation.terms.map(\.key), ["knn_top1_k10", "knn_top5_k10", "knn_top1_k20", "knn_top5_k20"])
    }

    /// Validation images that are copies of training images are not counted, as in `dmae knn`, whoever finds them; where all
    /// are, they are. The baselines leave them out, too.
    func testCopies() throws {
        let configuration = try evaluated(smallRun())
        func values(leavingOut: Bool = false) throws -> [Double] {
            let trainer = try trainer(configuration)
            let evaluation = try XCTUnwrap(trainer.evaluations.last as? PeriodicNeighbors)
            let sources = (try ImageCollection(configuration.neighbors!.train), evaluation.imagesRead - 24)
            var found: [CopiedImages] = []
            evaluation.foundCopies = { found.append($0) }
            if leavingOut {
                let validation = try ImageCollection(configuration.neighbors!.validation)
                XCTAssertEqual(sources.1, validation.count)
                evaluation.leaveOut(try CopiedImages(of: sources.0, in: validation, workers: 1))
            }
            let values = try XCTUnwrap(
                evaluation.evaluate(workers: 1, report: { XCTFail("\($0)") }, isInterrupted: { false }))
            XCTAssertEqual(
                try evaluation.evaluate(workers: 2, report: { XCTFail("\($0)") }, isInterrupted: { false }), values)
            XCTAssertEqual(found.count, leavingOut ? 0 : 1, "one search for both")
            let copies = try XCTUnwrap(evaluation.copied)
            let baselines = try XCTUnwrap(evaluation.baselines(workers: 1))
            XCTAssertEqual(
                baselines.validationImages, copies.areAll ? copies.images : copies.images - copies.copies.count)
            return values
        }
        let alone = try values()
        for (index, group) in ["a", "b", "c"].enumerated() {
            folder.write(folder.read("images/\(group)/\(index).png"), "val/\(group)/0copy.png")
        }
        XCTAssertEqual(try values(), alone)
        XCTAssertEqual(try values(leavingOut: true), alone)
        for group in ["a", "b", "c"] {
            for index in 0..<3 { try FileManager.default.removeItem(atPath: folder.file("val/\(group)/\(index).png")) }
        }
        // Three images, each with a vote of its own kind: a fraction of three.
        let all = try values()
        XCTAssertEqual((all[0] * 3).rounded(), all[0] * 3, accuracy: 1e-9)
        XCTAssertEqual(try values(leavingOut: true), all)
    }

    /// With too many unreadable images an evaluation ends the run, which loses no step: it continues once they are
    /// repaired, to the same bytes. Below the limit each is reported once.
    func testUnreadableImages() throws {
        var configuration = try evaluated(smallRun())
        (configuration.checkpointEvery, configuration.unreadableLimit) = (100, 0)
        try train(configuration, "whole")
        let picture = folder.read("val/b/1.png")
        folder.write("no picture".utf8, "val/b/1.png")
        var reports: [String] = []
        let failure = failure { try train(configuration, "broken", message: { reports.append("\($0)") }) }
        XCTAssertEqual(reports.count, 1, "\(reports)")
        XCTAssertEqual(failure?.code, .badData)
        for words in [
            "1 of the 9 images in \(configuration.validation!) cannot be read",
            "resume auto continues from \(folder.file("broken/checkpoint-00000003.safetensors"))",
        ] { XCTAssertTrue(failure?.message.contains(words) == true, "\(failure as Any)") }
        folder.write(picture, "val/b/1.png")
        try train(configuration, "broken")
        XCTAssertEqual(try weights("broken"), try weights("whole"))
        XCTAssertEqual(try log("broken").steps, try log("whole").steps)
        XCTAssertEqual(try log("broken").evaluations, try log("whole").evaluations)

        folder.write("no picture".utf8, "val/b/1.png")
        configuration.unreadableLimit = 0.2
        reports = []
        try train(configuration, "tolerant", message: { reports.append("\($0)") })
        XCTAssertEqual(reports.count, 1, "once, not by each of six evaluations: \(reports)")
    }

    // MARK: Memory

    /// Activations of the evaluations share memory with those of a step, and weights are not copied.
    func testMemory() throws {
        let plain = try smallRun(), bytes = try Trainer(plain).plan.totalBytes
        let evaluated = try Trainer(evaluated(plain)).plan
        let weights = try Trainer(plain).plan.bytes(of: .weights)
        XCTAssertEqual(evaluated.bytes(of: .weights), weights)
        print("\(bytes) bytes without evaluations, \(evaluated.totalBytes) with")
        XCTAssertLessThan(evaluated.totalBytes, bytes + bytes / 2)
    }

    func testRefusals() throws {
        let configuration = try smallRun()
        func refusal(_ change: (inout TrainingConfiguration) throws -> Void) throws -> Failure? {
            var changed = try evaluated(configuration)
            try change(&changed)
            return failure { _ = try Trainer(changed) }
        }
        let few = try pictures("few", perClass: 6), flat = few + "/a"
        for (code, words, change) in [
            (.badData, "knn train \(flat) has no classes", { $0.neighbors?.train = ImagePlaces(flat) }),
            (.badData, "knn val \(flat) has no classes", { $0.neighbors?.validation = ImagePlaces(flat) }),
            (.usage, "knn train needs at least 20 images", { $0.neighbors?.train = ImagePlaces(few) }),
            (.usage, "knn every must be above 0", { $0.neighbors?.everyEpochs = 0 }),
            (.inputOutput, "gone", { $0.validation = ImagePlaces(self.folder.file("gone")) }),
        ] as [(Failure.Code, String, (inout TrainingConfiguration) -> Void)] {
            let failure = try refusal(change)
            XCTAssertEqual(failure?.code, code, words)
            XCTAssertTrue(failure?.message.contains(words) == true, "\(words): \(failure as Any)")
        }
    }
}
