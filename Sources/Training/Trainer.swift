import Interchange
import Reporting
import Images
import Models
import Tensors
import Weights

/// Runs a training from data to final weights, with schedule, optimiser, checkpoints and log. All objectives use this
/// trainer.
///
/// Samples form one endless stream of epochs, each in its own order. Optimiser step s takes samples s·E ..< (s+1)·E of
/// the stream, E being the effective batch, so the remainder of an epoch goes into the next.
public final class Trainer {
    public let configuration: TrainingConfiguration
    /// The training images.
    public let source: any ImageSource
    /// The objective that is trained.
    public let objective: any Objective
    /// The memory of objective and optimiser.
    public let plan = MemoryPlan()
    /// Optimiser steps of the whole run.
    public let totalSteps: Int

    /// Optimiser steps done.
    public internal(set) var step = 0
    package let loop: StepLoop
    /// The newest good checkpoint: first the one that this run was resumed from, then those that it wrote.
    var lastCheckpoint: String?
    /// XXH64 of the names of the source's images, in their order.
    private(set) lazy var namesChecksum = Self.checksum(of: source)
    /// `Parameters.Loading.checksum` of the teacher; nil without one.
    private(set) var teacherChecksum: String?
    private let schedule: LearningRateSchedule

    /// How a run ended.
    public enum Outcome: Sendable {
        /// All steps are done; the file at this path holds the weights.
        case finished(weights: String)
        /// A signal stopped it; this checkpoint resumes it.
        case interrupted(signal: String, checkpoint: String)
    }

    /// Checks the configuration, opens the image folder and plans all memory, without mapping it.
    ///
    /// - Throws: `Failure.usage` if values do not fit together or there is not a single step; the failures of
    ///   `ImageFolder.init`.
    public convenience init(_ configuration: TrainingConfiguration) throws {
        try self.init(configuration) { plan in
            try configuration.model.objective(
                batch: configuration.batch, seed: configuration.seed, plan: plan,
                .init(
                    precision: configuration.precision, teacherPrecision: configuration.teacherPrecision,
                    keepsGradients: configuration.accumulation > 1))
        }
    }

    /// As above, for the objective that `makeObjective` returns. If a step accumulates several micro-batches, its
    /// parameters must keep their gradients.
    public init(_ configuration: TrainingConfiguration, makeObjective: (MemoryPlan) throws -> any Objective) throws {
        try configuration.validate()
        self.configuration = configuration
        source = try ImageFolder(configuration.data)
        totalSteps = configuration.steps(images: source.count)
        guard totalSteps >= 1 else {
            throw Failure(
                .usage,
                "nothing would be trained: \(configuration.epochs) epochs of \(source.count) images hold less than one "
                    + "effective batch of \(configuration.effectiveBatch); raise \(.epochs) or lower \(.effectiveBatch)"
            )
        }
        objective = try makeObjective(plan)
        loop = StepLoop(
            objective, configuration.optimizer, accumulation: configuration.accumulation, plan: plan)
        schedule = LearningRateSchedule(
            peakLearningRate: configuration.peakLearningRate, minimumLearningRate: configuration.minimumLearningRate,
            warmupEpochs: configuration.warmupEpochs, epochs: configuration.epochs)
    }

    /// Notes for the user before the run starts, a sentence each.
    public var notes: [String] {
        var notes: [String] = []
        let images = source.count
        if images < configuration.effectiveBatch {
            notes.append(
                "an epoch of \(images) images holds less than one effective batch of \(configuration.effectiveBatch): "
                    + "the "
                    + "rest of an epoch is carried over into the next; \(totalSteps) steps in total")
        }
        notes += source.notes
        return notes
    }

    /// Maps the memory and sets the initial weights and the teacher's weights.
    ///
    /// - Parameter weights: the teacher's; nil without a teacher.
    /// - Returns: how the teacher's weights compare with the tensors the run needs, and how they were adapted; nil
    ///   without a teacher.
    /// - Throws: `Failure.failure` if memory cannot be mapped, `Failure.badData` if the teacher's weights do not fit.
    @discardableResult
    public func prepare(teacher weights: ModelWeights? = nil) throws -> Parameters.Loading? {
        let frozen = objective.frozenParameters
        precondition(weights != nil || frozen == nil, "a run with a teacher needs its weights")
        try plan.commit()
        objective.parameters.initialize(seed: configuration.seed)
        guard let frozen, let sizes = configuration.model.teacher, let weights else { return nil }
        frozen.initializePositions()
        let loading = try frozen.load(from: weights, for: sizes, checksummed: true)
        teacherChecksum = loading.checksum
        return loading
    }

    private static func checksum(of source: any ImageSource) -> String {
        var hash = XXHash64()
        for index in 0..<source.count {
            var name = source.name(index) + "\0"
            name.withUTF8 { hash.update(UnsafeRawBufferPointer($0)) }
        }
        return hash.text
    }

    /// Micro-batches that `estimateSeconds` times after a step to warm up.
    public static let timedBatches = 4

    /// Estimated seconds of one optimiser step and of the whole run, without decoding: medians of a few timed steps on
    /// random images, after one to warm up. Changes the optimiser's moments, so it is for a dry run only. Throws
    /// `Failure.failure` if the loss is not finite.
    public func estimateSeconds() throws -> (run: Double, step: Double) {
        objective.fillRandomImages(seed: configuration.seed)
        // Two micro-batches represent a step of more: the first overwrites gradients, the second accumulates and
        // updates the weights.
        let (batch, accumulation) = (configuration.batch, configuration.accumulation)
        let timed = StepLoop(loop, accumulation: min(accumulation, 2))
        var gradients: [Double] = [], optimizer: [Double] = [], sample = 0
        for step in 0...Self.timedBatches / timed.accumulation {
            let outcome = timed.run(step: step + 1, learningRate: 0) {
                defer { sample += batch }
                return Batch(samples: Array(sample..<sample + batch), images: Array(0..<batch))
            }
            guard case .finished(let result) = outcome else {
                throw Failure(
                    .failure, "the loss of a step on random images is not finite: look at the teacher's weights")
            }
            guard step > 0 else { continue }
            gradients.append(result.gradientSeconds / Double(timed.accumulation))
            optimizer.append(result.optimizerSeconds)
        }
        let seconds =
            StepBenchmark.median(gradients) * Double(accumulation) + StepBenchmark.median(optimizer)
        return (seconds * Double(totalSteps), seconds)
    }

    /// Trains from the current step to the last one and writes all files into `directory`.
    ///
    /// - Parameters:
    ///   - workers: decoding threads in addition to the kernels' threads; their number does not change the result.
    ///   - progress: line that shows each step; nil shows none.
    ///   - message: called with a sentence about each unreadable image.
    ///   - isInterrupted: called after each micro-batch; returns the name of the signal that requests a stop, or nil.
    /// - Throws: `Failure.failure` if the loss or the weights are not finite; `Failure.badData` if too many images are
    ///   unreadable or the teacher's features are not finite; `Failure.inputOutput`.
    public func run(
        in directory: RunDirectory, workers: Int, progress: ProgressLine?, message: @escaping (String) -> Void,
        isInterrupted: () -> String? = { Signals.requested }
    ) throws -> Outcome {
        let store = CheckpointStore(directory: directory.path, keep: configuration.keep)
        let log = try RunLog(path: directory.logPath, after: step, terms: objective.lossTerms)
        let images = source.count
        let size = configuration.batch
        let loader = BatchLoader(
            source: source, augmentation: augmentation, batchSize: size, seed: configuration.seed,
            firstSample: (step * configuration.accumulation + loop.pending) * size,
            lastSample: totalSteps * configuration.effectiveBatch, workers: workers,
            unreadableLimit: configuration.unreadableLimit, report: message)
        defer { loader.stop() }
        let every =
            configuration.checkpointEvery > 0
            ? configuration.checkpointEvery : max(1, images / configuration.effectiveBatch)
        var stepStart = monotonicSeconds()
        while step < totalSteps {
            let rate = schedule.rate(epoch: configuration.epoch(step: step, images: images))
            var signal: String?
            let imagesOfStep = (configuration.accumulation - loop.pending) * size
            // Signals are polled between micro-batches, as a step of many micro-batches can take an hour.
            let outcome = try loop.run(
                step: step + 1, learningRate: Float(rate),
                next: {
                    guard let batch = try loader.next(into: objective.images), batch.count == size else {
                        preconditionFailure("the stream of samples ended before the run")
                    }
                    return batch
                },
                isInterrupted: {
                    signal = isInterrupted()
                    return signal != nil
                })
            let result: StepLoop.Result
            switch outcome {
            case .nonFinite(let losses): throw nonFinite(losses)
            case .interrupted:
                try log.synchronize()
                return .interrupted(signal: signal!, checkpoint: try save(to: store))
            case .finished(let finished): result = finished
            }
            step += 1
            let now = monotonicSeconds()
            let speed = Double(imagesOfStep) / max(1e-9, now - stepStart)
            stepStart = now
            let record = StepRecord(
                step: step, epoch: configuration.epoch(step: step, images: images), losses: loop.losses,
                learningRate: rate, gradientNorm: result.gradientNorm, imagesPerSecond: Float(speed))
            try log.append(record)
            progress?.update(record)
            signal = isInterrupted()
            if step % every == 0 || step == totalSteps || signal != nil {
                try log.synchronize()
                let checkpoint = try save(to: store)
                lastCheckpoint = checkpoint
                if let signal, step < totalSteps { return .interrupted(signal: signal, checkpoint: checkpoint) }
            }
        }
        try writeWeights(to: directory.weightsPath)
        return .finished(weights: directory.weightsPath)
    }

    private func nonFinite(_ losses: Losses) -> Failure {
        // A frozen teacher does not change, so a lower learning rate would not help.
        guard objective.frozenOutputsAreFinite else {
            return Failure(
                .badData,
                "\(configuration.teacher ?? "the teacher"): its features are not finite at step \(step + 1); "
                    + "\(lastGood); compare its weights "
                    + "with their source by dmae inspect \(.compare)")
        }
        return Failure(
            .failure,
            "the loss is not finite at step \(step + 1): \(objective.describe(losses)); "
                + "\(lastGood); start again in another \(.output) folder with a lower \(.baseLearningRate), or look at "
                + "the images of that step"
        )
    }

    /// The failure of values that are not finite after an update. The next step's loss would show it, but after the
    /// last step there is none.
    func ruined(_ name: String) -> Failure {
        Failure(
            .failure,
            "\(name) is not finite after step \(step), and nothing was written; \(lastGood); start again in another "
                + "\(.output) "
                + "folder with a lower \(.baseLearningRate), or look at the images since then")
    }

    private var lastGood: String {
        lastCheckpoint.map { "the last good checkpoint is \($0)" } ?? "no checkpoint was written yet"
    }

    private var augmentation: Augmentation {
        let size = configuration.model.student
        return Augmentation(
            width: size.imageWidth, height: size.imageHeight, channels: size.channels,
            framing: .random(
                area: configuration.minimumCropArea...configuration.maximumCropArea, aspect: 3.0 / 4...4.0 / 3,
                flip: 0.5),
            orienting: configuration.appliesOrientation)
    }
}
