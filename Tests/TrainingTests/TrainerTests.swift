import Reporting
import Foundation
import Images
import Interchange
import Models
import Tensors
import TestSupport
import Training
import Weights
import XCTest

final class TrainerTests: XCTestCase {
    private let folder = TemporaryFolder()

    override func tearDown() { Signals.reset() }

    // MARK: A small run

    /// Writes `count` pictures of random colours, and gives the folder they are in.
    private func pictures(_ count: Int, _ name: String = "images") throws -> String {
        let path = folder.file(name)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        for index in 0..<count {
            var random = CounterRandom(seed: 51, purpose: .test, index: index)
            // A few large squares: noise would be the same everywhere once it is resized.
            let colours = (0..<48).map { _ in UInt8(random.below(256)) }
            var bytes: [UInt8] = []
            for y in 0..<20 {
                for x in 0..<24 {
                    let square = x / 6 + y / 5 * 4
                    bytes += colours[3 * square..<3 * square + 3]
                }
            }
            folder.write(
                try PNGWriter.encode(Pixels(width: 24, height: 20, channels: 3, bytes: bytes)), "\(name)/\(index).png")
        }
        return path
    }

    /// Writes random weights for the teacher of `model`; `change` may spoil one.
    private func teacher(for model: ModelConfiguration, _ name: String = "teacher.safetensors", spoiling: String? = nil)
        throws -> String
    {
        let random = try RandomModel(
            ModelConfiguration(student: model.teacher!, decoder: model.decoder, maskRatio: 0.5), batch: 1, seed: 52)
        let parameters = random.parameters
        var writer = SafeTensorsWriter()
        for parameter in parameters.all {
            if parameter.name == spoiling { parameter.weight.pointer[0] = .nan }
            writer.add(parameter.name, shape: parameter.shape, floats: UnsafeBufferPointer(parameter.weight.elements))
        }
        try withExtendedLifetime(random) { try writer.write(to: folder.file(name)) }
        return folder.file(name)
    }

    /// Two pairs, L1, effective batches of 6 in three micro-batches.
    private func smallRun(images: Int = 10, epochs: Double = 3, batch: Int = 2, accumulation: Int = 3) throws
        -> TrainingConfiguration
    {
        let pairs = [AlignedPair(studentBlock: 1, teacherBlock: 0), AlignedPair(studentBlock: 2, teacherBlock: 2)]
        let model = ModelConfiguration.small(pairs: pairs, distance: .l1)
        return TrainingConfiguration(
            method: .distill, recipe: "test", model: model, data: ImagePlaces(try pictures(images)),
            teacher: try teacher(for: model), batch: batch,
            accumulation: accumulation, epochs: epochs, warmupEpochs: 1, baseLearningRate: 0.1, minimumLearningRate: 0,
            optimizer: Optimizer(), seed: 53)
    }

    private func prepare(_ trainer: Trainer) throws {
        let teacher = trainer.configuration.teacher
        try trainer.prepare(teacher: teacher.map { try ModelWeights(path: $0, role: .teacher) })
    }

    private func run(
        _ configuration: TrainingConfiguration, _ name: String, workers: Int = 1,
        from checkpoint: CheckpointStore.Checkpoint? = nil
    ) throws -> Trainer.Outcome {
        let trainer = try Trainer(configuration)
        try prepare(trainer)
        if let checkpoint { try trainer.restore(checkpoint) }
        let directory = try RunDirectory(path: folder.file(name), resuming: true)
        return try trainer.run(in: directory, workers: workers, progress: nil, message: { XCTFail("\($0)") })
    }

    private func weights(_ outcome: Trainer.Outcome) throws -> Data {
        guard case .finished(let path) = outcome else {
            XCTFail("the run did not finish: \(outcome)")
            return Data()
        }
        return try Data(contentsOf: URL(fileURLWithPath: path))
    }

    /// The lines of a run's log, without the measured values, which alone may differ between two runs.
    private func log(_ name: String) throws -> [NSDictionary] {
        try String(contentsOfFile: folder.file(name) + "/log.jsonl", encoding: .utf8).split(separator: "\n").map {
            line in
            var object = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            XCTAssertEqual(object["images_per_second"] == nil, object["learning_rate"] == nil)
            for key in RunLog.measuredKeys { object[key] = nil }
            return object as NSDictionary
        }
    }

    private func checkpoints(_ name: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.file(name)).filter { $0.hasPrefix("checkpoint-") }
            .sorted()
    }

    // MARK: The run

    /// The log has a line per step, the losses add up, the weights are those of the last checkpoint, and two
    /// checkpoints are kept.
    func testAWholeRun() throws {
        var configuration = try smallRun()
        configuration.checkpointEvery = 2
        let outcome = try run(configuration, "run")
        let lines = try log("run")
        XCTAssertEqual(lines.count, 5)
        for (index, line) in lines.enumerated() {
            XCTAssertEqual(line["step"] as? Int, index + 1)
            XCTAssertEqual(line["epoch"] as! Double, 0.6 * Double(index + 1), accuracy: 1e-12)
            let alignments = try XCTUnwrap(line["loss_align"] as? [Double])
            XCTAssertEqual(alignments.count, 2)
            let sum = line["loss_reconstruction"] as! Double + alignments.reduce(0, +)
            // Four roundings to float on the way.
            XCTAssertEqual(line["loss"] as! Double, sum, accuracy: 4 * 0x1p-24 * sum)
            // Warm-up in the first epoch of three, then half a cosine; the top is base · 6 / 256.
            let epoch = 0.6 * Double(index)
            let top = 0.1 * 6 / 256
            let rate = epoch < 1 ? top * epoch : top / 2 * (1 + cos(.pi * (epoch - 1) / 2))
            XCTAssertEqual(line["learning_rate"] as! Double, rate, accuracy: 1e-12)
            XCTAssertGreaterThan(line["gradient_norm"] as! Double, 0)
        }
        XCTAssertEqual(try checkpoints("run"), ["checkpoint-00000004.safetensors", "checkpoint-00000005.safetensors"])
        let last = try CheckpointStore.open(folder.file("run/checkpoint-00000005.safetensors")).file
        guard case .finished(let path) = outcome else { return XCTFail("\(outcome)") }
        let file = try SafeTensorsFile(path: path)
        // Three blocks and one of the decoder, twelve tensors each; encoder and decoder besides, 14; two linear heads.
        XCTAssertEqual(file.entries.count, 4 * 12 + 14 + 2 * 2)
        for name in file.names { XCTAssertEqual(try file.floats(name).bits, try last.floats(name).bits, name) }
        XCTAssertNotNil(file.metadata["dmae.configuration"])
    }

    /// Neither decoding threads nor the kernels' change a byte.
    func testThreadsAndWorkersDoNotChangeTheResult() throws {
        let configuration = try smallRun()
        let one = try withThreads(1) { try weights(run(configuration, "one", workers: 1)) }
        let more = try withThreads(3) { try weights(run(configuration, "more", workers: 3)) }
        XCTAssertEqual(one, more)
        XCTAssertEqual(try log("one"), try log("more"))
    }

    /// Two micro-batches of four are a batch of eight, here over three epochs of five images each.
    ///
    /// A step of β₁ = 0.9 leaves a tenth of the gradient in the first moment. The rows of a gradient's sum are the same
    /// ones, added in another order: 4·u·√rows of the tensor's largest value. With ε = 1 and lr = 1 the weights take
    /// the gradient's error at most once, and round three times.
    func testAccumulationIsALargerBatch() throws {
        func outcome(_ batch: Int, _ accumulation: Int) throws -> (checkpoint: SafeTensorsFile, log: [NSDictionary]) {
            var configuration = try smallRun(images: 5, epochs: 2, batch: batch, accumulation: accumulation)
            configuration.warmupEpochs = 0
            configuration.optimizer.epsilon = 1
            configuration.baseLearningRate = 32
            let name = "batch \(batch)"
            _ = try run(configuration, name)
            return (
                try CheckpointStore.open(folder.file(name) + "/checkpoint-00000001.safetensors").file, try log(name)
            )
        }
        let (whole, halves) = (try outcome(8, 1), try outcome(4, 2))
        let rows = Double(8 * 13)
        var comparison = TensorComparison()
        for name in whole.checkpoint.names where !name.hasSuffix("pos_embed") {
            let expected = try whole.checkpoint.floats(name)
            let found = try halves.checkpoint.floats(name)
            let base = name.replacingOccurrences(of: CheckpointStore.firstMomentPrefix, with: "")
                .replacingOccurrences(of: CheckpointStore.secondMomentPrefix, with: "")
            let first = try TensorComparison.largest(whole.checkpoint.floats(CheckpointStore.firstMomentPrefix + base))
            let relative = 4 * 0x1p-24 * rows.squareRoot()
            if name.hasPrefix(CheckpointStore.firstMomentPrefix) {
                comparison.compare(name, expected: expected, found: found, relative: relative)
            } else if name.hasPrefix(CheckpointStore.secondMomentPrefix) {
                // A square has twice the error.
                comparison.compare(name, expected: expected, found: found, relative: 2 * relative)
            } else {
                let largest = TensorComparison.largest(expected)
                comparison.compare(name, expected: expected, found: found) { _ in
                    relative * 10 * first + 3 * 0x1p-24 * largest
                }
            }
        }
        XCTAssertEqual(comparison.failures, [])
        XCTAssertGreaterThan(comparison.tensors, 3 * 60)
        print("accumulation: \(comparison.summary)")
        XCTAssertEqual(whole.log.count, 1)
        for key in ["loss", "loss_reconstruction", "gradient_norm"] {
            let (expected, found) = (whole.log[0][key] as! Double, halves.log[0][key] as! Double)
            XCTAssertEqual(found, expected, accuracy: 4 * 0x1p-24 * rows.squareRoot() * expected, key)
        }
    }

    /// The run is the loop of the paper's program, written out here: which images, framed how, under which masks, and
    /// what AdamW is told.
    func testARunIsItsParts() throws {
        let configuration = try smallRun()
        _ = try run(configuration, "run")
        let found = try SafeTensorsFile(path: folder.file("run/model.safetensors"))
        let hand = try Trainer(configuration)
        try prepare(hand)
        let (objective, images) = (hand.objective, 10.0)
        let loader = BatchLoader(
            source: try ImageCollection(configuration.data),
            augmentation: Augmentation(
                width: 16, height: 12, channels: 3,
                framing: .random(area: 0.2...1, aspect: 3.0 / 4...4.0 / 3, flip: 0.5)),
            batchSize: 2, seed: 53, firstSample: 0, lastSample: 30, workers: 1, unreadableLimit: 0,
            report: { XCTFail("\($0)") })
        defer { loader.stop() }
        for step in 0..<5 {
            for pass in 0..<3 {
                XCTAssertEqual(try loader.next(into: objective.images)?.count, 2)
                let first = 6 * step + 2 * pass
                _ = objective.step(
                    Batch(samples: [first, first + 1], images: [0, 0]), scale: 1 / Float(3),
                    sink: ClosureSink(accumulates: pass > 0))
            }
            // One epoch of warm-up, then half a cosine over the other two, from 0.1 · 6 / 256 to 0.
            let epoch = Double(step) * 6 / images, peak = 0.1 * 6 / 256
            let rate = epoch < 1 ? peak * epoch : peak * 0.5 * (1 + cos(Double.pi * (epoch - 1) / 2))
            for parameter in objective.parameters.all {
                guard let gradient = parameter.gradient,
                    let first = hand.loop.state[parameter.name, .firstMoment],
                    let second = hand.loop.state[parameter.name, .secondMoment]
                else { continue }
                Kernels.adamW(
                    weight: parameter.weight, gradient: gradient, firstMoment: first, secondMoment: second,
                    Kernels.AdamWSettings(
                        learningRate: Float(rate), beta1: 0.9, beta2: 0.95, epsilon: 1e-8,
                        weightDecay: parameter.shape.count > 1 ? 0.05 : 0,
                        gradientScale: 1, step: step + 1))
            }
        }
        // The rate's last bit may differ, by which the moves of five steps of at most the peak differ.
        for parameter in objective.parameters.all {
            let (expected, values) = (parameter.weight.values, try found.floats(parameter.name))
            XCTAssertEqual(values.count, expected.count)
            let largest = zip(expected, values).map { abs($0 - $1) }.max()!
            XCTAssertLessThanOrEqual(Double(largest), 1e-6 * TensorComparison.largest(expected), parameter.name)
        }
    }

    // MARK: Resuming

    /// From the checkpoint of any step the run ends in the same bytes: weights, log and last checkpoint.
    func testResumesFromEveryStepToTheBit() throws { try resumesFromEveryStep(smallRun()) }
    func testResumesFromEveryStepToTheBitWhereNothingIsAccumulated() throws {
        try resumesFromEveryStep(smallRun(batch: 6, accumulation: 1))
    }
    func testResumesFromEveryStepToTheBitWithFewerTokens() throws {
        var configuration = try smallRun(batch: 6, accumulation: 1)
        (configuration.model!.predictRatio, configuration.model!.teacherMaskRatio) = (0.5, 0.2)
        try resumesFromEveryStep(configuration)
    }
    func testResumesFromEveryStepToTheBitWithoutADecoder() throws {
        var configuration = try smallRun()
        configuration.model!.reconstructionWeight = 0
        try resumesFromEveryStep(configuration)
        let trained = try SafeTensorsFile(path: folder.file("whole/model.safetensors"))
        XCTAssertEqual(Set(trained.names), Set(ModelLayout(configuration.model!).entries.map(\.name)))
        XCTAssertFalse(trained.names.contains { $0.contains("decoder") })
        XCTAssertNil(try ModelWeights(path: folder.file("whole/model.safetensors")).decoder)
    }

    func testResumesFromEveryStepToTheBitInGroups() throws {
        var configuration = try smallRun(batch: 1, accumulation: 6)
        let together = try weights(run(configuration, "together"))
        configuration.groups = 2
        try resumesFromEveryStep(configuration)
        let apart = try Data(contentsOf: URL(fileURLWithPath: folder.file("whole/model.safetensors")))
        XCTAssertNotEqual(apart, together, "two groups are added in another order than six batches")
    }

    private func resumesFromEveryStep(_ configuration: TrainingConfiguration) throws {
        var configuration = configuration
        configuration.checkpointEvery = 1
        configuration.keep = 100
        let whole = try weights(run(configuration, "whole"))
        let names = try checkpoints("whole")
        XCTAssertEqual(names.count, 5)
        for (index, name) in names.enumerated() {
            let part = "from \(index + 1)"
            let directory = folder.file(part)
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: folder.file("whole/log.jsonl"), toPath: directory + "/log.jsonl")
            let checkpoint = try CheckpointStore.open(folder.file("whole/" + name))
            XCTAssertEqual(checkpoint.step, index + 1)
            XCTAssertEqual(try weights(run(configuration, part, from: checkpoint)), whole, part)
            XCTAssertEqual(try log(part), try log("whole"), part)
            if index + 1 < names.count {
                XCTAssertEqual(folder.read(part + "/" + names.last!), folder.read("whole/" + names.last!), part)
            }
        }
    }

    /// Stopped after every single micro-batch, within effective batches too, a run ends in the same bytes.
    func testStoppedAfterEveryMicroBatch() throws {
        let configuration = try smallRun()
        let whole = try weights(run(configuration, "whole"))
        Signals.install()
        defer { for number in [SIGTERM, SIGINT, SIGUSR1, SIGPIPE, SIGXFSZ] { signal(number, SIG_DFL) } }
        raise(SIGTERM)
        var stops = 0
        var last: Trainer.Outcome?
        var checkpoint: CheckpointStore.Checkpoint?
        let store = CheckpointStore(directory: folder.file("parts"), keep: 2)
        while stops < 100 {
            let outcome = try run(configuration, "parts", from: checkpoint)
            last = outcome
            guard case .interrupted(let signal, let path) = outcome else { break }
            XCTAssertEqual(signal, "SIGTERM")
            stops += 1
            checkpoint = try store.newestValid { XCTFail($0) }
            XCTAssertEqual(checkpoint?.file.path, path)
            XCTAssertEqual(checkpoint?.step, stops / 3)
            // Gradients are kept only where a step is under way.
            XCTAssertEqual(
                checkpoint?.file.names.contains { $0.hasPrefix(CheckpointStore.gradientPrefix) }, stops % 3 != 0,
                "stop \(stops)")
        }
        XCTAssertEqual(stops, 5 * 3 - 1)
        XCTAssertEqual(try weights(XCTUnwrap(last)), whole)
        XCTAssertEqual(try log("parts"), try log("whole"))
        XCTAssertEqual(
            folder.read("parts/checkpoint-00000005.safetensors"), folder.read("whole/checkpoint-00000005.safetensors"))
    }

    /// Stopped within a step of several groups, a run keeps the last whole step, and repeats the other one to the same
    /// bytes.
    func testStoppedWithinAStepOfGroups() throws {
        var configuration = try smallRun(batch: 1, accumulation: 6)
        configuration.groups = 2
        let whole = try weights(run(configuration, "whole"))
        // The 14th batch is the second of the third step, the 18th its last.
        for (stop, step) in [(14, 2), (17, 2), (18, 3)] {
            let name = "stopped at \(stop)"
            let trainer = try Trainer(configuration)
            try prepare(trainer)
            var polls = 0
            let outcome = try trainer.run(
                in: RunDirectory(path: folder.file(name), resuming: true), workers: 1, progress: nil,
                message: { XCTFail("\($0)") },
                isInterrupted: {
                    polls += 1
                    return polls == stop ? "SIGTERM" : nil
                })
            guard case .interrupted(_, let path) = outcome else { return XCTFail("not interrupted") }
            let checkpoint = try CheckpointStore.open(path)
            XCTAssertEqual(checkpoint.step, step, name)
            XCTAssertFalse(checkpoint.file.names.contains { $0.hasPrefix(CheckpointStore.gradientPrefix) })
            XCTAssertEqual(try weights(run(configuration, name, from: checkpoint)), whole, name)
            XCTAssertEqual(try log(name), try log("whole"), name)
        }
    }

    /// Batches that never come.
    private final class StuckBatches: BatchSource {
        let secondsWaited = 0.0
        func next(into destination: Tensor, whileWaiting: () throws -> Void) throws -> Batch? {
            while true { try whileWaiting() }
        }
        func stop() {}
    }

    /// A signal that comes while a batch is waited for stops the run without that batch, and the run goes on to the same
    /// bytes.
    func testStoppedWhileWaitingForImages() throws {
        let configuration = try smallRun()
        let whole = try weights(run(configuration, "whole"))
        Signals.install()
        defer { for number in [SIGTERM, SIGINT, SIGUSR1, SIGPIPE, SIGXFSZ] { signal(number, SIG_DFL) } }
        raise(SIGTERM)
        let stuck = try Trainer(
            configuration, source: ImageCollection(configuration.data), makeBatches: { _, _, _ in StuckBatches() }
        ) {
            try configuration.model!.objective(
                batch: configuration.batch, seed: configuration.seed, plan: $0, .init(keepsGradients: true))
        }
        try prepare(stuck)
        let outcome = try stuck.run(
            in: RunDirectory(path: folder.file("stuck"), resuming: false), workers: 1, progress: nil,
            message: { XCTFail("\($0)") })
        guard case .interrupted("SIGTERM", let checkpoint) = outcome else { return XCTFail("\(outcome)") }
        Signals.reset()
        XCTAssertEqual(try weights(run(configuration, "stuck", from: CheckpointStore.open(checkpoint))), whole)
    }

    /// A run that is over stays as it is when it is taken up again.
    func testResumingAFinishedRun() throws {
        let configuration = try smallRun()
        let whole = try weights(run(configuration, "run"))
        let lines = try log("run")
        let checkpoint = try CheckpointStore(directory: folder.file("run"), keep: 2).newestValid { XCTFail($0) }
        XCTAssertEqual(try weights(run(configuration, "run", from: checkpoint)), whole)
        XCTAssertEqual(try log("run"), lines)
    }

    /// The teacher's precision is stored; a run without a teacher has none to choose.
    func testTeacherPrecisionInConfigurations() throws {
        var configuration = try smallRun()
        configuration.teacherPrecision = .int8
        let json = try configuration.sortedJSON()
        XCTAssertEqual(try JSONDecoder().decode(TrainingConfiguration.self, from: Data(json)), configuration)
        XCTAssertTrue(String(decoding: json, as: UTF8.self).contains(#""teacherPrecision":"int8""#))

        configuration.model!.teacher = nil
        configuration.model!.alignment.pairs = []
        XCTAssertEqual(
            failure { try configuration.validate() }?.message,
            "teacher precision is for a run with a teacher: leave it out")
        configuration.teacherPrecision = .same
        try configuration.validate()
        configuration.precision = .int8
        XCTAssertTrue(failure { try configuration.validate() }?.message.contains("precision is f32 or bf16") == true)
    }

    /// What decides the result may not change on the way; where things lie, and what is kept of them, may.
    func testChangedConfigurationsAreRefusedByName() throws {
        let configuration = try smallRun()
        _ = try run(configuration, "run")
        let checkpoint = try XCTUnwrap(
            CheckpointStore(directory: folder.file("run"), keep: 2).newestValid { XCTFail($0) })
        func attempt(_ change: (inout TrainingConfiguration) throws -> Void) throws -> Failure? {
            var changed = configuration
            try change(&changed)
            let trainer = try Trainer(changed)
            try prepare(trainer)
            return failure { try trainer.restore(checkpoint) }
        }
        // The command's tests go through all flags.
        let attempts: [(String, String, (inout TrainingConfiguration) throws -> Void)] = [
            ("seed 53", "seed 54", { $0.seed = 54 }),
            ("teacher precision same", "teacher precision int8", { $0.teacherPrecision = .int8 }),
            ("epochs 3", "epochs 4", { $0.epochs = 4 }),
            ("effective batch 6", "effective batch 2", { $0.accumulation = 1 }),
            ("base learning rate 0.1", "base learning rate 0.2", { $0.baseLearningRate = 0.2 }),
            ("weight decay 0.05", "weight decay 0", { $0.optimizer.weightDecay = 0 }),
            ("minimum crop area 0.2", "minimum crop area 0.5", { $0.minimumCropArea = 0.5 }),
            ("mask ratio 0.5", "mask ratio 0.75", { $0.model!.maskRatio = 0.75 }),
            ("no normalize pixels", "normalize pixels", { $0.model!.normalizePixels = true }),
            ("heads 3", "heads 4", { $0.model!.student.heads = 4 }),
            ("alignment weight 1", "alignment weight 2", { $0.model!.alignment.weight = 2 }),
            ("alignment distance L1", "alignment distance L2", { $0.model!.alignment.distance = .l2 }),
            ("align 1:0 align 2:2", "align 1:1 align 2:2", { $0.model!.alignment.pairs[0].teacherBlock = 1 }),
        ]
        for (saved, wanted, change) in attempts {
            let failure = try attempt(change)
            XCTAssertEqual(failure?.code, .usage, saved)
            let words = "was taken with \(saved), not \(wanted)"
            XCTAssertTrue(
                failure?.message.contains(words) == true, "\(failure?.message ?? "accepted") says nothing of: \(words)")
            XCTAssertTrue(failure?.message.contains(checkpoint.file.path) == true)
        }

        XCTAssertNil(
            try attempt {
                $0.keep = 7
                $0.checkpointEvery = 3
                $0.data = ImagePlaces(try pictures(10, "moved"))
                $0.teacher = try teacher(for: $0.model!, "moved.safetensors")
            })
        let fewer = try attempt { $0.data = ImagePlaces(try pictures(11, "more")) }
        XCTAssertEqual(fewer?.code, .badData)
        XCTAssertTrue(
            fewer?.message.contains("holds 11 images, but 10 when the run was started") == true,
            "\(String(describing: fewer))")
        let renamed = try pictures(10, "renamed")
        try FileManager.default.moveItem(atPath: renamed + "/4.png", toPath: renamed + "/04.png")
        let others = try attempt { $0.data = ImagePlaces(renamed) }
        XCTAssertEqual(others?.code, .badData)
        XCTAssertTrue(
            others?.message.hasPrefix("\(renamed): holds images of other names than when the run was started") == true,
            "\(String(describing: others))")
        let changed = try teacher(for: configuration.model!, "other.safetensors", spoiling: "blocks.1.attn.qkv.weight")
        let other = try attempt { $0.teacher = changed }
        XCTAssertEqual(other?.code, .badData)
        XCTAssertTrue(
            other?.message.hasPrefix("\(changed): has other weights than the teacher the run was started with") == true,
            "\(String(describing: other))")
    }

    // MARK: What must not happen silently

    /// A run that would train nothing is refused; an epoch that is smaller than the effective batch is carried over,
    /// and said so.
    func testEpochsSmallerThanTheEffectiveBatch() throws {
        let refused = try failure { _ = try Trainer(try smallRun(images: 5, epochs: 1)) }
        XCTAssertEqual(refused?.code, .usage)
        XCTAssertTrue(refused?.message.contains("nothing would be trained") == true, "\(String(describing: refused))")

        let configuration = try smallRun(images: 5, epochs: 3)
        let trainer = try Trainer(configuration)
        XCTAssertEqual(trainer.totalSteps, 2)
        XCTAssertTrue(
            trainer.notes.contains { $0.contains("an epoch of 5 images") && $0.contains("carried over") },
            "\(trainer.notes)")
        _ = try run(configuration, "carried")
        XCTAssertEqual(try log("carried").map { $0["epoch"] as? Double }, [1.2, 2.4])
        XCTAssertEqual(try Trainer(smallRun()).notes, ["\(folder.file("images")): 10 images"])
        var classes = try smallRun()
        classes.data = ImagePlaces(folder.file("classes"))
        _ = try pictures(12, "classes/first")
        _ = try pictures(2, "classes")
        let notes = try Trainer(classes).notes
        XCTAssertEqual(notes.count, 2)
        XCTAssertTrue(notes.last?.hasSuffix("12 images, 1 class (first)") == true, "\(notes)")
        XCTAssertTrue(
            notes.first?.contains("left out") == true && notes.first?.contains("images: 2") == true, "\(notes)")
    }

    /// A teacher that gives NaN stops the run at its first step: it is named, not the learning rate, and no checkpoint
    /// is made up.
    func testNonFiniteLossOfTheTeacher() throws {
        var configuration = try smallRun()
        configuration.teacher = try teacher(
            for: configuration.model!, "spoilt.safetensors", spoiling: "blocks.0.mlp.fc2.bias")
        let failure = failure { _ = try run(configuration, "run") }
        XCTAssertEqual(failure?.code, .badData)
        for words in [
            "spoilt.safetensors: its features are not finite at step 1", "no checkpoint",
            "compare its weights with their source",
        ] {
            XCTAssertTrue(
                failure?.message.contains(words) == true, "\(failure?.message ?? "finished") says nothing of: \(words)")
        }
        XCTAssertEqual(try checkpoints("run"), [])
    }

    /// A student that breaks later on stops the run, and the last good checkpoint is named and left alone.
    func testNonFiniteLossAfterACheckpoint() throws {
        var configuration = try smallRun()
        configuration.checkpointEvery = 2
        configuration.keep = 9
        _ = try run(configuration, "whole")
        let checkpoint = try CheckpointStore.open(folder.file("whole/checkpoint-00000002.safetensors"))
        let trainer = try Trainer(configuration)
        try prepare(trainer)
        try trainer.restore(checkpoint)
        let weight = trainer.objective.parameters.all.first { $0.name == "decoder_pred.bias" }!.weight
        weight.pointer[0] = .infinity
        let directory = try RunDirectory(path: folder.file("broken"), resuming: true)
        let failure = failure {
            _ = try trainer.run(in: directory, workers: 1, progress: nil) { message in
                // The folder is new, and so is its log.
                XCTAssertTrue("\(message)".contains("log.jsonl has no lines of steps 1 to 2"), "\(message)")
            }
        }
        XCTAssertEqual(failure?.code, .failure)
        for words in ["not finite at step 3:", "reconstruction inf", "loss inf", checkpoint.file.path] {
            XCTAssertTrue(
                failure?.message.contains(words) == true, "\(failure?.message ?? "finished") says nothing of: \(words)")
        }
        XCTAssertEqual(try checkpoints("broken"), [])
    }

    /// Weights that the last update has ruined are not written, neither as a checkpoint nor as the run's result.
    func testRuinedWeightsAreNotWritten() throws {
        // The learning rate is a float32; divided by a bias correction of 0.1 it is not.
        var configuration = try smallRun(images: 6, epochs: 1)
        (configuration.warmupEpochs, configuration.baseLearningRate) = (0, 4e39)
        let failure = failure { _ = try run(configuration, "run") }
        XCTAssertEqual(failure?.code, .failure)
        for words in [
            " is not finite after step 1, and nothing was written", "no checkpoint was written yet",
            "lower base learning rate",
        ] {
            XCTAssertTrue(
                failure?.message.contains(words) == true, "\(failure?.message ?? "finished") says nothing of: \(words)")
        }
        XCTAssertEqual(
            try FileManager.default.contentsOfDirectory(atPath: folder.file("run")).sorted(), ["lock", "log.jsonl"])
    }

    /// The trainer knows nothing of autoencoders: it trains linear regression, logs its losses under their own names,
    /// and resumes it in the middle of an optimiser step to the bit.
    func testAnotherObjective() throws {
        var configuration = try smallRun(images: 12, epochs: 100)
        configuration.method = .pretrain
        configuration.model!.teacher = nil
        configuration.model!.alignment.pairs = []
        configuration.teacher = nil
        configuration.baseLearningRate = 0.2
        configuration.optimizer.weightDecay = 0
        func trainer() throws -> Trainer {
            let trainer = try Trainer(configuration, source: ImageCollection(configuration.data)) { plan in
                LinearRegression(batch: 2, pixels: 12 * 16 * 3, keepsGradients: true, plan: plan)
            }
            try trainer.prepare()
            return trainer
        }
        func directory(_ name: String) throws -> RunDirectory {
            try RunDirectory(path: folder.file(name), resuming: true)
        }
        let whole = try weights(
            try trainer().run(in: directory("regression"), workers: 1, progress: nil, message: { XCTFail("\($0)") }))
        let lines = try log("regression")
        XCTAssertEqual(lines.count, 200)
        XCTAssertEqual(
            Set(lines[0].allKeys.map { "\($0)" }),
            ["step", "epoch", "loss", "largest_error", "learning_rate", "gradient_norm"])
        let (first, last) = (lines[0]["loss"] as! Double, lines[199]["loss"] as! Double)
        XCTAssertLessThan(last, first / 10, "from \(first) to \(last)")

        let stopped = try trainer()
        var batches = 0
        let interrupted = try directory("stopped")
        let outcome = try stopped.run(
            in: interrupted, workers: 1, progress: nil, message: { XCTFail("\($0)") },
            isInterrupted: {
                batches += 1
                return batches == 50 ? "SIGTERM" : nil
            })
        guard case .interrupted(_, let checkpoint) = outcome else { return XCTFail("\(outcome)") }
        XCTAssertNotEqual(stopped.loop.pending, 0, "between two micro-batches of a step")
        let resumed = try trainer()
        try resumed.restore(try CheckpointStore.open(checkpoint))
        XCTAssertEqual(
            try weights(resumed.run(in: interrupted, workers: 1, progress: nil, message: { XCTFail("\($0)") })), whole)
        XCTAssertEqual(try log("stopped"), lines)
    }

    // MARK: Evaluations

    /// The sum of the weights, as an evaluation that ranks them.
    private final class WeightSum: PeriodicEvaluation {
        let everyEpochs: Double, ranksWeights: Bool
        let terms: [EvaluationTerm]
        private let objective: any Objective
        private(set) var count = 0

        init(_ objective: any Objective, key: String, everyEpochs: Double, ranksWeights: Bool) {
            (self.objective, self.everyEpochs, self.ranksWeights) = (objective, everyEpochs, ranksWeights)
            terms = [EvaluationTerm(key: key, name: key, meaning: "", isFraction: false)]
        }

        func evaluate(workers: Int, report: @escaping (Message) -> Void, isInterrupted: () -> Bool) throws -> [Double]?
        {
            count += 1
            if isInterrupted() { return nil }
            // As another evaluation would: what the objective needs between two steps must be elsewhere.
            objective.images.clear()
            let weights = objective.parameters.all[0].weight.elements
            // Rises, then falls, so that the best is in the middle.
            return [-abs(weights.reduce(0) { $0 + Double($1) } - 1)]
        }
    }

    private func regression(
        _ configuration: TrainingConfiguration, evaluated: Bool = true
    ) throws -> (trainer: Trainer, ranking: WeightSum?) {
        let trainer = try Trainer(configuration, source: ImageCollection(configuration.data)) { plan in
            LinearRegression(batch: 2, pixels: 12 * 16 * 3, keepsGradients: true, plan: plan)
        }
        var ranking: WeightSum?
        if evaluated {
            ranking = WeightSum(trainer.objective, key: "val_top1", everyEpochs: 1, ranksWeights: true)
            trainer.add(ranking!)
            trainer.add(WeightSum(trainer.objective, key: "other", everyEpochs: 2.5, ranksWeights: false))
        }
        try trainer.prepare()
        return (trainer, ranking)
    }

    private func regressionRun(epochs: Double = 8) throws -> TrainingConfiguration {
        var configuration = try smallRun(images: 12, epochs: epochs)
        configuration.method = .pretrain
        configuration.model!.teacher = nil
        configuration.model!.alignment.pairs = []
        configuration.teacher = nil
        configuration.baseLearningRate = 0.5
        return configuration
    }

    private func files(_ name: String, _ files: [String]) throws -> [Data] {
        try files.map { try Data(contentsOf: URL(fileURLWithPath: folder.file("\(name)/\($0)"))) }
    }

    /// Evaluations run at the ends of their epochs, change nothing of the run, and the best weights are kept. A signal
    /// in an evaluation stops the run before it; the resumed run makes it up, and every file is the same.
    func testEvaluationsAndResume() throws {
        var configuration = try regressionRun()
        configuration.averageDecay = 0.9
        func directory(_ name: String) throws -> RunDirectory {
            try RunDirectory(path: folder.file(name), resuming: true)
        }
        func run(_ trainer: Trainer, _ name: String, isInterrupted: () -> String? = { nil }) throws -> Trainer.Outcome {
            try trainer.run(
                in: directory(name), workers: 1, progress: nil, message: { XCTFail("\($0)") },
                isInterrupted: isInterrupted)
        }
        let (plain, _) = try regression(configuration, evaluated: false)
        let plainWeights = try weights(run(plain, "plain"))
        let (whole, _) = try regression(configuration)
        let results = ["model.safetensors", "raw.safetensors", "best.safetensors", "evaluation.json"]
        XCTAssertEqual(try weights(run(whole, "whole")), plainWeights)
        XCTAssertNotEqual(try files("whole", ["model.safetensors"]), try files("whole", ["raw.safetensors"]))
        let lines = try log("whole")
        let isEvaluation = { (line: NSDictionary) in line["learning_rate"] == nil }
        XCTAssertEqual(lines.filter { !isEvaluation($0) }, try log("plain"))
        let evaluations = lines.filter(isEvaluation)
        // Two steps are one epoch.
        let ranked = evaluations.filter { $0["val_top1"] != nil }
        XCTAssertEqual(ranked.map { $0["step"] as! Int }, Array(stride(from: 2, through: 16, by: 2)))
        XCTAssertEqual(evaluations.filter { $0["other"] != nil }.map { $0["step"] as! Int }, [5, 10, 15, 16])
        let ranks = ranked.map { $0["val_top1"] as! Double }
        let best = ranked[ranks.firstIndex(of: ranks.max()!)!]
        XCTAssertNotEqual(best["step"] as! Int, 16, "the best weights are not the last")
        let report = try XCTUnwrap(
            JSONSerialization.jsonObject(with: files("whole", ["evaluation.json"])[0]) as? [String: Any])
        XCTAssertEqual((report["best"] as! [String: Any])["step"] as! Int, best["step"] as! Int)
        XCTAssertEqual((report["last"] as! [String: Any])["step"] as! Int, 16)

        for stopAt in [2, 5, 8] {
            let name = "stopped \(stopAt)"
            let (stopped, ranking) = try regression(configuration)
            let outcome = try run(stopped, name, isInterrupted: { ranking!.count == stopAt ? "SIGTERM" : nil })
            guard case .interrupted(_, let checkpoint) = outcome else { return XCTFail("\(outcome)") }
            XCTAssertEqual(stopped.step, 2 * stopAt)
            XCTAssertEqual(
                try log(name).filter(isEvaluation), evaluations.filter { ($0["step"] as! Int) < 2 * stopAt })
            let (resumed, _) = try regression(configuration)
            try resumed.restore(try CheckpointStore.open(checkpoint))
            _ = try run(resumed, name)
            XCTAssertEqual(try log(name), lines)
            XCTAssertEqual(try files(name, results), try files("whole", results))
        }
    }

    /// Ranks weights by a value that is not finite, as weights that are not finite do.
    private final class Ruined: PeriodicEvaluation {
        let everyEpochs = 1.0, ranksWeights = true
        let terms = [EvaluationTerm(key: "val_loss", name: "", meaning: "", isFraction: false)]

        func evaluate(workers: Int, report: @escaping (Message) -> Void, isInterrupted: () -> Bool) -> [Double]? {
            [.nan]
        }
    }

    /// Weights whose evaluation is not finite are not kept as the best.
    func testAnEvaluationThatIsNotFinite() throws {
        let (trainer, _) = try regression(regressionRun(), evaluated: false)
        trainer.add(Ruined())
        let directory = try RunDirectory(path: folder.file("ruined"), resuming: true)
        let failure = failure {
            _ = try trainer.run(in: directory, workers: 1, progress: nil, message: { XCTFail("\($0)") })
        }
        XCTAssertEqual(failure?.code, .failure)
        XCTAssertTrue(
            failure?.message.contains("the validation loss is not finite after step 2") == true, "\(failure as Any)")
        XCTAssertFalse(FileManager.default.fileExists(atPath: directory.bestWeightsPath))
    }

    /// The average is that of the weights after every step, as timm's ModelEma computes it.
    func testTheAverageOfWeights() throws {
        var configuration = try regressionRun(epochs: 1)
        configuration.averageDecay = 0.75
        configuration.checkpointEvery = 1
        configuration.keep = 10
        let (trainer, _) = try regression(configuration, evaluated: false)
        let start = Array(trainer.objective.parameters.all[0].weight.elements)
        let directory = try RunDirectory(path: folder.file("average"), resuming: true)
        _ = try trainer.run(in: directory, workers: 1, progress: nil, message: { XCTFail("\($0)") })
        var average = start
        for step in 1...2 {
            let store = CheckpointStore(directory: directory.path, keep: 10)
            let weights = try CheckpointStore.open(store.path(step: step)).file.floats("regression.weight")
            for index in average.indices { average[index] = 0.75 * average[index] + 0.25 * weights[index] }
        }
        XCTAssertNotEqual(average, start)
        XCTAssertEqual(try SafeTensorsFile(path: directory.weightsPath).floats("regression.weight"), average)
    }

    /// Clipped gradients have the asked-for norm: with SGD-like equality, the first moment after one step is
    /// (1 - β₁) · factor · gradient.
    func testClippedGradients() throws {
        func firstMoments(_ clip: Float?) throws -> (moments: [Float], norm: Double) {
            var configuration = try regressionRun(epochs: 0.5)
            configuration.warmupEpochs = 0
            configuration.clipGradient = clip
            let name = "clip \(clip ?? 0)"
            let (trainer, _) = try regression(configuration, evaluated: false)
            let directory = try RunDirectory(path: folder.file(name), resuming: true)
            _ = try trainer.run(in: directory, workers: 1, progress: nil, message: { XCTFail("\($0)") })
            let norm = try log(name)[0]["gradient_norm"] as! Double
            let moments = ["regression.weight", "regression.bias"].flatMap {
                Array(trainer.loop.state[$0, .firstMoment]!.elements)
            }
            return (moments, norm)
        }
        let (free, norm) = try firstMoments(nil)
        let (clipped, reported) = try firstMoments(Float(norm / 4))
        XCTAssertEqual(reported, norm, "the log has the norm before clipping")
        for (value, other) in zip(clipped, free) { XCTAssertEqual(value, other / 4, accuracy: 1e-5 * abs(other)) }
        XCTAssertEqual(try firstMoments(Float(norm * 2)).moments, free)
    }

    /// No weight and no moment is touched by the step whose loss is not finite, where that step would have gone block
    /// by block, too.
    func testANonFiniteLossChangesNothing() throws {
        for (name, configuration) in try [("added", smallRun()), ("alone", smallRun(batch: 6, accumulation: 1))] {
            for spoilt in ["decoder_pred.bias", "aligned_feature_projection_heads.1.bias"] {
                let trainer = try Trainer(configuration)
                try prepare(trainer)
                let parameters = trainer.objective.parameters
                parameters.all.first { $0.name == spoilt }!.weight.pointer[0] = .infinity
                func bits() -> [[UInt32]] {
                    parameters.all.flatMap {
                        [
                            $0.weight.values.bits, trainer.loop.state[$0.name, .firstMoment]?.values.bits ?? [],
                            trainer.loop.state[$0.name, .secondMoment]?.values.bits ?? [],
                        ]
                    }
                }
                let before = bits()
                let directory = try RunDirectory(path: folder.file("\(name) \(spoilt)"), resuming: true)
                let failure = failure {
                    _ = try trainer.run(in: directory, workers: 1, progress: nil, message: { XCTFail("\($0)") })
                }
                XCTAssertTrue(
                    failure?.message.contains("not finite at step 1:") == true, "\(failure?.message ?? "finished")")
                XCTAssertEqual(bits(), before, "\(name), \(spoilt)")
            }
        }
    }

    /// Writes the newest checkpoint of the run called `name` again, whole, with other metadata and tensors.
    private func changedCheckpoint(
        of name: String, metadata change: (inout [String: String]) -> Void = { _ in },
        shape: (TensorEntry) -> [Int] = { $0.shape }
    ) throws -> CheckpointStore.Checkpoint {
        let file = try CheckpointStore.open(folder.file("\(name)/" + XCTUnwrap(checkpoints(name).last))).file
        let changed = folder.file("changed.safetensors")
        var metadata = file.metadata.filter { !$0.key.contains("checksum") }
        change(&metadata)
        try withBuffers(file.names.map { try file.floats($0) }) { buffers in
            var writer = SafeTensorsWriter(metadata: metadata)
            for (entry, buffer) in zip(file.entries, buffers) {
                let shape = shape(entry), part = UnsafeBufferPointer(rebasing: buffer[..<shape.reduce(1, *)])
                writer.add(entry.name, shape: shape, floats: part)
            }
            try writer.write(to: changed, checksummed: true)
        }
        return try CheckpointStore.open(changed)
    }

    /// A checkpoint that is whole, but whose moments are another model's.
    func testMomentsOfAnotherShape() throws {
        let configuration = try smallRun(images: 6, epochs: 1)
        _ = try run(configuration, "run")
        let name = CheckpointStore.firstMomentPrefix + "norm.bias"
        let checkpoint = try changedCheckpoint(of: "run") { $0.name == name ? [$0.count / 2] : $0.shape }
        let trainer = try Trainer(configuration)
        try prepare(trainer)
        let failure = failure { try trainer.restore(checkpoint) }
        XCTAssertEqual(failure?.code, .badData)
        XCTAssertTrue(failure?.message.contains("\"\(name)\" has shape [") == true, "\(failure as Any)")
    }

    /// Whole checkpoints of which something is missing, or that were taken with other images, are refused.
    func testCheckpointsThatLackSomething() throws {
        let configuration = try smallRun(images: 6, epochs: 1)
        _ = try run(configuration, "run")
        let incomplete = "is not a checkpoint that a training run can resume from"
        for (key, value, words) in [
            ("dmae.training", nil, incomplete), ("dmae.training", "{}", "(format 1; this version"),
            ("dmae.training", #"{"format":3}"#, incomplete), ("dmae.images", nil, incomplete),
            ("dmae.pending", "3", incomplete),
            (
                "dmae.image_order", "xxh64:0",
                "\(configuration.data): holds the images in another order than when the run was started"
            ),
            (
                "dmae.validation_names", "xxh64:0",
                "the validation images: holds other images than when the run was started"
            ),
            ("dmae.step", "2", "is of step 2, but the run has 1 steps: resume from an earlier checkpoint"),
            ("dmae.loss_sums", nil, "lacks the losses of its unfinished step; resume from another checkpoint"),
            ("dmae.loss_sums", "1,2", "lacks the losses of its unfinished step; resume from another checkpoint"),
            ("dmae.ranking", "{", "its evaluations cannot be read; resume from another checkpoint"),
        ] as [(String, String?, String)] {
            let checkpoint = try changedCheckpoint(of: "run") { $0[key] = value }
            let trainer = try Trainer(configuration)
            try prepare(trainer)
            let failure = failure { try trainer.restore(checkpoint) }
            XCTAssertEqual(failure?.code, .badData, key)
            XCTAssertTrue(failure?.message.contains(words) == true, "\(key): \(failure as Any)")
            XCTAssertEqual(trainer.step, 0, key)
        }
        // What earlier versions did not write is not missed.
        let trainer = try Trainer(configuration)
        try prepare(trainer)
        try trainer.restore(
            changedCheckpoint(of: "run") {
                $0["dmae.evaluated_step"] = nil
                $0["dmae.ranking"] = nil
            })
        XCTAssertEqual(trainer.step, 1)
    }

    /// A run that goes on from a checkpoint of another folder begins with a copy of it, and sets later ones aside; in
    /// its own folder the checkpoint stays where it is.
    func testTakesOverAFolderOfCheckpoints() throws {
        var configuration = try smallRun()
        configuration.checkpointEvery = 2
        _ = try run(configuration, "run")
        func restored() throws -> Trainer {
            let trainer = try Trainer(configuration)
            try prepare(trainer)
            try trainer.restore(try CheckpointStore.open(folder.file("run/checkpoint-00000004.safetensors")))
            return trainer
        }
        let fourth = folder.read("run/checkpoint-00000004.safetensors")
        let fifth = folder.read("run/checkpoint-00000005.safetensors")
        mkdir(folder.file("other"), 0o700)
        let other = CheckpointStore(directory: folder.file("other"), keep: 9)
        for step in [3, 4, 7] { try other.write(step: step, tensors: [], metadata: [:]) }
        let foreign = folder.read("other/checkpoint-00000004.safetensors")
        XCTAssertEqual(
            try restored().takeOver(other),
            [4, 7].map { folder.file("other/checkpoint-0000000\($0).safetensors.abandoned") })
        XCTAssertEqual(try other.steps(), [3, 4])
        XCTAssertEqual(folder.read("other/checkpoint-00000004.safetensors"), fourth)
        XCTAssertEqual(folder.read("other/checkpoint-00000004.safetensors.abandoned"), foreign)

        let own = CheckpointStore(directory: folder.file("run"), keep: 9)
        XCTAssertEqual(
            try restored().takeOver(own), [folder.file("run/checkpoint-00000005.safetensors.abandoned")])
        XCTAssertEqual(try own.steps(), [4])
        XCTAssertEqual(folder.read("run/checkpoint-00000004.safetensors"), fourth)
        XCTAssertEqual(folder.read("run/checkpoint-00000005.safetensors.abandoned"), fifth)
    }

    /// A checkpoint of another format is refused, whatever else its configuration holds.
    func testCheckpointsOfOtherFormats() throws {
        let configuration = try smallRun(images: 6, epochs: 1)
        _ = try run(configuration, "run")
        let trainer = try Trainer(configuration)
        try prepare(trainer)
        for (written, format) in [("", 1), (#""format":2,"#, 2), (#""format":4,"#, 4)] {
            let checkpoint = try changedCheckpoint(
                of: "run",
                metadata: {
                    let text = $0["dmae.training"]!
                    $0["dmae.training"] = text.replacingOccurrences(of: #""format":3,"#, with: written)
                    XCTAssertNotEqual($0["dmae.training"], text)
                })
            let failure = failure { try trainer.restore(checkpoint) }
            XCTAssertEqual(failure?.code, .badData)
            XCTAssertTrue(failure?.message.contains("(format \(format); this version") == true, "\(failure as Any)")
            XCTAssertTrue(failure?.message.contains(checkpoint.file.path) == true, "\(failure as Any)")
        }
        let metadata = try SafeTensorsFile(path: folder.file("run/model.safetensors")).metadata
        XCTAssertTrue(metadata["dmae.training"]?.contains(#""format":3,"#) == true)
    }

    /// MAE's pre-training is the same trainer without a teacher.
    func testPretrainingWithoutATeacher() throws {
        let configuration = TrainingConfiguration(
            method: .pretrain, recipe: "test", model: .small(teacherWidth: nil, normalizePixels: true),
            data: ImagePlaces(try pictures(6)),
            teacher: nil, batch: 3, accumulation: 1, epochs: 30, warmupEpochs: 3, baseLearningRate: 0.4,
            minimumLearningRate: 0,
            optimizer: Optimizer(), seed: 54)
        _ = try run(configuration, "run")
        let lines = try log("run")
        XCTAssertEqual(lines.count, 60)
        let losses = lines.map { $0["loss"] as! Double }
        XCTAssertEqual(lines.map { $0["loss_reconstruction"] as! Double }, losses)
        // It learns: the last ten steps are better than the first ten by far more than they differ among themselves.
        let (start, end) = (losses.prefix(10).reduce(0, +) / 10, losses.suffix(10).reduce(0, +) / 10)
        XCTAssertLessThan(end, 0.9 * start)
    }
}
