import Interchange
import Reporting
import Images
import Models
import Tensors
import Weights

/// Runs a whole training: data, schedule, optimiser, checkpoints, log. One trainer for every method.
///
/// Samples form one endless stream, epoch after epoch, each in an order of its own. Optimiser step s takes samples
/// s·E ..< (s+1)·E of it, E being the effective batch, so an epoch's remainder is carried over into the next.
public final class Trainer {
    public let configuration: TrainingConfiguration
    public let source: any ImageSource
    public let distiller: Distiller
    public let plan = MemoryPlan()
    public let operations: Operations
    /// Optimiser steps of the whole run.
    public let totalSteps: Int

    /// Optimiser steps done.
    public internal(set) var step = 0
    /// Micro-batches of the next step whose gradients are already summed; above 0 only after an interruption.
    var pending = 0
    /// Sums over those micro-batches: reconstruction, total, then each alignment.
    var lossSums: [Double]
    /// The newest good checkpoint: what this run goes on from, then what it wrote.
    var lastCheckpoint: String?
    /// XXH64 of the names of the source's images, in their order.
    private(set) lazy var namesChecksum = Self.checksum(of: source)
    /// `Parameters.Loading.checksum` of the teacher; nil without one.
    private(set) var teacherChecksum: String?
    private let schedule: LearningRateSchedule
    private var memoryIsMapped = false

    /// How a run ended.
    public enum Outcome: Sendable {
        /// All steps are done; the weights alone are in the file at this path.
        case finished(weights: String)
        /// A signal stopped it; it goes on from this checkpoint.
        case interrupted(signal: String, checkpoint: String)
    }

    /// Checks the configuration against the data and plans all memory; maps none.
    ///
    /// - Throws: `Failure.usage` where values do not fit together or nothing would be trained; `Failure` from the image
    ///   folder.
    public init(_ configuration: TrainingConfiguration) throws {
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
        distiller = try Distiller(
            configuration.model, batch: configuration.batch, plan: plan, accumulates: configuration.accumulation > 1,
            precision: configuration.precision, teacherPrecision: configuration.teacherPrecision)
        operations = distiller.operations
        schedule = LearningRateSchedule(
            peakLearningRate: configuration.peakLearningRate, minimumLearningRate: configuration.minimumLearningRate,
            warmupEpochs: configuration.warmupEpochs, epochs: configuration.epochs)
        lossSums = Array(repeating: 0, count: 2 + distiller.alignments.count)
    }

    /// What a person should know before the run starts, a sentence each.
    public var notes: [String] {
        var notes: [String] = []
        let images = source.count
        if images < configuration.effectiveBatch {
            notes.append(
                "an epoch of \(images) images holds less than one effective batch of \(configuration.effectiveBatch): what is "
                    + "left of an epoch is carried over into the next, \(totalSteps) steps in all")
        }
        notes += source.notes
        return notes
    }

    /// Maps the memory and sets the starting weights, teacher included.
    ///
    /// - Parameter weights: the teacher's; nil without a teacher.
    /// - Returns: how the teacher's weights compare with the tensors the run needs, and how they were adapted; nil
    ///   without a teacher.
    /// - Throws: `Failure` where memory cannot be mapped or the teacher's weights do not fit.
    @discardableResult
    public func prepare(teacher weights: ModelWeights? = nil) throws -> Parameters.Loading? {
        precondition(!memoryIsMapped, "a trainer is prepared once")
        precondition(weights != nil || distiller.teacherParameters == nil, "a run with a teacher needs its weights")
        try plan.commit()
        memoryIsMapped = true
        distiller.parameters.initialize(seed: configuration.seed)
        guard let teacher = distiller.teacherParameters, let sizes = configuration.model.teacher, let weights else {
            return nil
        }
        teacher.initializePositions()
        let loading = try teacher.load(from: weights, for: sizes, checksummed: true)
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

    /// Seconds that the whole run would take: the median of `steps` timed micro-batches on random images, after one to
    /// warm up, and of the optimiser. Spoils the weights: only for a dry run.
    public func estimateSeconds(steps: Int) -> (run: Double, step: Double) {
        var random = CounterRandom(seed: configuration.seed, purpose: .benchmark)
        for index in distiller.images.elements.indices { distiller.images.pointer[index] = 4 * random.uniform() - 2 }
        let parameters = distiller.parameters
        var norm = GradientNorm(parameters)
        var micro: [Double] = []
        var update: [Double] = []
        for step in 0...steps {
            for image in 0..<configuration.batch {
                distiller.masking.draw(image, seed: 0, sample: step * configuration.batch + image)
            }
            let start = monotonicSeconds()
            var optimizing = 0.0
            func optimize(_ range: Range<Int>) {
                let start = monotonicSeconds()
                norm.add(parameters, range)
                configuration.optimizer.update(parameters, range, learningRate: 0, step: step + 1)
                optimizing += monotonicSeconds() - start
            }
            if configuration.accumulation > 1 {
                distiller.accumulateGradients()
                optimize(parameters.all.indices)
                // Before the next step's first micro-batch.
                let start = monotonicSeconds()
                parameters.clearGradients()
                optimizing += monotonicSeconds() - start
            } else {
                distiller.computeGradients(whenComplete: optimize)
            }
            let seconds = monotonicSeconds() - start
            if step > 0 {
                micro.append(seconds - optimizing)
                update.append(optimizing)
            }
        }
        let seconds =
            StepBenchmark.median(micro) * Double(configuration.accumulation) + StepBenchmark.median(update)
        return (seconds * Double(totalSteps), seconds)
    }

    /// Trains from where the weights stand to the last step, writing everything under `directory`.
    ///
    /// - Parameters:
    ///   - workers: decoding threads beside the kernels'; they never change the result.
    ///   - progress: shown to a person; nil stays silent.
    ///   - message: told what a person should know: unreadable images, checkpoints passed over.
    /// - Throws: `Failure.failure` on a non-finite loss, `Failure.badData` on too many unreadable images or a teacher's
    ///   features that are not finite, `Failure.inputOutput`.
    public func run(
        in directory: RunDirectory, workers: Int, progress: ProgressLine?, message: @escaping (String) -> Void
    ) throws -> Outcome {
        let store = CheckpointStore(directory: directory.path, keep: configuration.keep)
        let log = try RunLog(path: directory.logPath, after: step)
        let images = source.count
        let loader = BatchLoader(
            source: source, augmentation: augmentation, batchSize: configuration.batch, seed: configuration.seed,
            firstSample: (step * configuration.accumulation + pending) * configuration.batch,
            lastSample: totalSteps * configuration.effectiveBatch, workers: workers,
            unreadableLimit: configuration.unreadableLimit, report: message)
        defer { loader.stop() }
        let every =
            configuration.checkpointEvery > 0
            ? configuration.checkpointEvery : max(1, images / configuration.effectiveBatch)
        var stepStart = monotonicSeconds()
        var imagesThisStep = 0
        let parameters = distiller.parameters
        var norm = GradientNorm(parameters)
        while step < totalSteps {
            let rate = schedule.rate(epoch: configuration.epoch(step: step, images: images))
            let number = step + 1
            func optimize(_ range: Range<Int>) {
                norm.add(parameters, range)
                configuration.optimizer.update(parameters, range, learningRate: Float(rate), step: number)
            }
            if pending == 0 {
                if configuration.accumulation > 1 { parameters.clearGradients() }
                for index in lossSums.indices { lossSums[index] = 0 }
            }
            while pending < configuration.accumulation {
                guard let batch = try loader.next(into: distiller.images) else {
                    preconditionFailure("the stream ends with the last step")
                }
                for image in 0..<batch.count {
                    distiller.masking.draw(image, seed: configuration.seed, sample: batch.samples[image])
                }
                if configuration.accumulation > 1 {
                    distiller.accumulateGradients(scale: 1 / Float(configuration.accumulation))
                } else {
                    // No weight changes where the loss is not finite.
                    distiller.computeGradients(whenComplete: optimize)
                }
                guard distiller.losses.total.isFinite else { throw nonFinite() }
                addLosses()
                pending += 1
                imagesThisStep += configuration.batch
                // A step of many micro-batches can take an hour; nobody who sends SIGTERM waits that long.
                if pending < configuration.accumulation, let signal = Signals.requested {
                    try log.synchronize()
                    return .interrupted(signal: signal, checkpoint: try save(to: store))
                }
            }
            if configuration.accumulation > 1 { optimize(parameters.all.indices) }
            step += 1
            pending = 0
            let now = monotonicSeconds()
            let speed = Double(imagesThisStep) / max(1e-9, now - stepStart)
            stepStart = now
            imagesThisStep = 0
            let scale = 1 / Double(configuration.accumulation)
            let record = StepRecord(
                step: step, epoch: configuration.epoch(step: step, images: images), loss: Float(lossSums[1] * scale),
                lossReconstruction: Float(lossSums[0] * scale),
                lossAlign: lossSums.dropFirst(2).map { Float($0 * scale) },
                learningRate: rate, gradientNorm: norm.value, imagesPerSecond: Float(speed))
            try log.append(record)
            progress?.update(record)
            let signal = Signals.requested
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

    private func addLosses() {
        let losses = distiller.losses
        lossSums[0] += Double(losses.reconstruction)
        lossSums[1] += Double(losses.total)
        for pair in distiller.alignments.indices { lossSums[2 + pair] += Double(losses.alignments[pair]) }
    }

    private func nonFinite() -> Failure {
        let losses = distiller.losses
        let parts = losses.alignments.enumerated().map { ", alignment \($0.offset) \($0.element)" }.joined()
        // A teacher never changes.
        if distiller.alignments.contains(where: { !$0.teacherFeature.elements.allSatisfy(\.isFinite) }) {
            return Failure(
                .badData,
                "\(configuration.teacher ?? "the teacher"): its features are not finite at step \(step + 1); \(lastGood); compare its weights "
                    + "with their source by dmae inspect \(.compare)")
        }
        return Failure(
            .failure,
            "the loss is not finite at step \(step + 1): reconstruction \(losses.reconstruction)\(parts), total \(losses.total); "
                + "\(lastGood); start again in another \(.output) folder with a lower \(.baseLearningRate), or look at the images of that step"
        )
    }

    /// What the last update has ruined is seen in a loss one step later, or never after the last step.
    func ruined(_ name: String) -> Failure {
        Failure(
            .failure,
            "\(name) is not finite after step \(step), and nothing was written; \(lastGood); start again in another \(.output) "
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
