import Interchange
import Reporting
import Images
import Models
import Ranks
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
    /// The processes that share the run. Process 0 calls `run`, the others `follow`.
    let ranks = Ranks.current
    /// The memory of the processes of this machine together; nil until `shareMemory`, and where the process is alone.
    public internal(set) var machineMemory: Ranks.MachineMemory?
    /// Optimiser steps of the whole run.
    public let totalSteps: Int

    /// Optimiser steps done.
    public internal(set) var step = 0
    package let loop: StepLoop
    /// The newest good checkpoint: first the one that this run was resumed from, then those that it wrote.
    var lastCheckpoint: String?
    /// Evaluations that run at the ends of epochs, in the order of their values in log and table.
    public private(set) var evaluations: [any PeriodicEvaluation] = []
    /// The average of the weights; nil unless the configuration asks for one, and in all processes but process 0.
    let average: WeightAverage?
    /// The last step whose due evaluations are done.
    var evaluatedStep = 0
    /// Sentences about images of the evaluations, each of which is reported once in a run.
    var evaluationReports: Set<Message> = []
    /// The evaluation of the best weights so far, and the newest one.
    var ranking = WeightRanking()
    /// XXH64 of the names of the source's images, in their order.
    private(set) lazy var namesChecksum = Self.checksum(of: source)
    /// XXH64 of the order in which the images lie, where windows of them are shuffled; nil where the order of samples
    /// does not depend on it.
    private(set) lazy var orderChecksum: String? = {
        guard let window = configuration.shuffleWindow, window < source.count else { return nil }
        var hash = XXHash64()
        for index in source.storedOrder {
            withUnsafeBytes(of: UInt64(index).littleEndian) { hash.update($0) }
        }
        return hash.text
    }()
    /// The same as `namesChecksum` of the images whose evaluation ranks the weights; nil without any.
    private(set) lazy var validationChecksum = evaluations.lazy.compactMap(\.rankingImages).first.map {
        Self.checksum(of: $0)
    }
    /// `Parameters.Loading.checksum` of the frozen weights; nil without any.
    private(set) var teacherChecksum: String?
    /// The name of the instruction set that computed the steps before the restored checkpoint; nil where it does not say.
    var formerInstructionSet: String?
    let schedule: LearningRateSchedule
    private let makeBatches: MakeBatches?
    /// Computes the features of a probe without augmentation before the first step; nil for other runs, and afterwards.
    public internal(set) var extraction: FeatureExtraction?
    /// Memory for the optimiser state of a parameter that another process owns; nil in all processes but process 0.
    let stateOfOthers: Tensor?
    /// Tensors that files of weights hold before the trained ones: a probed encoder's.
    var writtenTensors: [TensorSource] = []

    /// Makes the batches of a stream's positions: `BatchLoader` from the source's images, unless a caller brings its
    /// own.
    ///
    /// - Parameters:
    ///   - samples: positions in the stream; whole batches.
    ///   - workers: threads that prepare batches ahead of their use.
    ///   - report: called with a sentence about each unreadable image.
    public typealias MakeBatches = (
        _ samples: Range<Int>, _ workers: Int, _ report: @escaping (Message) -> Void
    ) -> any BatchSource

    /// How a run ended.
    public enum Outcome: Sendable {
        /// All steps are done; the file at this path holds the weights.
        case finished(weights: String)
        /// A signal stopped it; this checkpoint resumes it.
        case interrupted(signal: String, checkpoint: String)
    }

    /// Checks the configuration, opens the images and plans all memory, without mapping it.
    ///
    /// - Parameters:
    ///   - images: the training images, where they are open already.
    ///   - indexes: where the indexes of tar archives are kept.
    /// - Throws: `Failure.usage` if values do not fit together or there is not a single step; the failures of
    ///   `ImageCollection.init`.
    public convenience init(
        _ configuration: TrainingConfiguration, images: ImageCollection? = nil,
        indexes: ArchiveIndexes = ArchiveIndexes(.memory)
    ) throws {
        let source =
            try images
            ?? ImageCollection(configuration.data, usesLabels: configuration.classifier != nil, indexes: indexes)
        if configuration.method == .probe {
            try self.init(
                probing: configuration, source, validation: ImageCollection(configuration.validation!, indexes: indexes)
            )
            return
        }
        try self.init(configuration, source: source) { try configuration.objective(plan: $0) }
        try addEvaluations(indexes)
    }

    /// Adds the evaluations that the configuration asks for.
    private func addEvaluations(_ indexes: ArchiveIndexes) throws {
        if let places = configuration.validation {
            let validation = try ImageCollection(
                places, usesLabels: configuration.classifier != nil, indexes: indexes)
            evaluationSources.append(validation)
            if let classifier = objective as? any ClassifyingObjective {
                try validate(classifier, on: validation)
            } else {
                add(
                    HeldOutLosses(
                        of: objective, on: validation, augmentation: configuration.validationAugmentation,
                        everyEpochs: configuration.evaluateEvery ?? 1, unreadableLimit: configuration.unreadableLimit))
            }
        }
        if let neighbors = configuration.neighbors {
            let train = try ImageCollection(neighbors.train, indexes: indexes)
            let validation = try ImageCollection(neighbors.validation, indexes: indexes)
            evaluationSources += [train, validation] as [any ImageSource]
            add(
                try PeriodicNeighbors(
                    of: objective.parameters, configuration.trainedEncoder, train: train, validation: validation,
                    augmentation: configuration.validationAugmentation,
                    batch: configuration.batch, everyEpochs: neighbors.everyEpochs,
                    unreadableLimit: configuration.unreadableLimit, plan: plan))
        }
    }

    /// Adds the evaluation of `classifier`, the objective, on validation images.
    ///
    /// - Throws: `Failure.badData` if the training images have fewer than two classes, or the validation images other
    ///   ones.
    public func validate(_ classifier: any ClassifyingObjective, on validation: any ImageSource) throws {
        try Self.requireClasses(of: source, and: validation)
        add(
            ClassifierValidation(
                of: classifier, on: validation, augmentation: configuration.validationAugmentation,
                classes: classifier.classes, everyEpochs: configuration.evaluateEvery ?? 1,
                unreadableLimit: configuration.unreadableLimit))
    }

    /// As above, for the objective that `makeObjective` returns and the images of `source`. If a step accumulates
    /// several micro-batches, or gradients are clipped, the objective's parameters must keep their gradients.
    ///
    /// - Parameter makeBatches: see `MakeBatches`; nil: batches of the source's images.
    public init(
        _ configuration: TrainingConfiguration, source: any ImageSource, makeBatches: MakeBatches? = nil,
        makeObjective: (MemoryPlan) throws -> any Objective
    ) throws {
        try configuration.validate()
        self.configuration = configuration
        self.source = source
        self.makeBatches = makeBatches
        totalSteps = configuration.steps(images: source.count)
        guard totalSteps >= 1 else {
            throw Failure(
                .usage,
                "nothing would be trained: \(Format.shortest(configuration.epochs)) epochs of \(source.count) images hold "
                    + "less than one effective batch of \(configuration.effectiveBatch); raise \(.epochs) or lower \(.effectiveBatch)"
            )
        }
        objective = try makeObjective(plan)
        loop = StepLoop(
            objective, configuration.optimizer, accumulation: configuration.accumulation,
            groups: configuration.groups ?? 1, exchange: configuration.exchange ?? .f32,
            clipGradient: configuration.clipGradient, ranks: ranks, plan: plan)
        average =
            ranks.isFirst
            ? configuration.averageDecay.map { [objective, plan] decay in
                WeightAverage(of: objective.parameters, decay: decay, plan: plan)
            } : nil
        let others = zip(objective.parameters.all, loop.shards.owners).filter { $0.isTrained && $1 != 0 }
        stateOfOthers =
            ranks.isFirst
            ? others.map(\.0.weight.count).max().map { [plan] in
                plan.reserve("optimizer state of another process", 1, $0, .scratch)
            } : nil
        schedule = LearningRateSchedule(
            peakLearningRate: configuration.peakLearningRate, minimumLearningRate: configuration.minimumLearningRate,
            warmupEpochs: configuration.warmupEpochs, epochs: configuration.epochs)
    }

    /// The evaluation of the best weights so far, and their rank by its first term; nil without one that ranks them.
    public var bestEvaluation: (epoch: Double, value: EvaluationRecord.Value)? {
        guard let best = ranking.best, let term = evaluations.first(where: \.ranksWeights)?.terms[0],
            let value = best.values[term.key]
        else { return nil }
        return (best.epoch, EvaluationRecord.Value(term: term, value: value))
    }

    /// Adds an evaluation. All its memory must be planned, in `plan` or elsewhere, before `prepare` maps `plan`.
    public func add(_ evaluation: any PeriodicEvaluation) {
        precondition(
            !evaluation.ranksWeights || !evaluations.contains(where: \.ranksWeights), "one evaluation ranks the weights"
        )
        evaluations.append(evaluation)
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

    /// Warnings for the user before the run starts, a sentence each.
    public var warnings: [String] { sources.distinctWarnings }

    /// Bytes of the decoded images beside the plan: of the training, and of evaluations, which have a loader of their own.
    private var bytesBeside: Int {
        (evaluations.isEmpty ? 1 : 2) * BatchLoader.defaultBatchesAhead * configuration.augmentation.sampleCount
            * configuration.batch
    }

    /// Bytes that the run will take: its plans, and decoded images; without what processes share.
    public var plannedBytes: Int { plan.totalBytes + (extraction?.plan.totalBytes ?? 0) + bytesBeside }

    /// The instruction set that computed the steps before the restored checkpoint, if this process computes the same steps
    /// with other bits.
    public var otherInstructionSet: String? {
        guard let name = formerInstructionSet else { return nil }
        var precisions: Set<Precision> = [.f32, configuration.precision]
        if configuration.teacherPrecision == .int8 { precisions.insert(.int8) }
        let isSame = InstructionSet(named: name)?.computes(like: .selected, in: precisions) == true
        return isSame ? nil : name
    }

    /// The images of the run and those of its evaluations.
    public var sources: [any ImageSource] { [source] + evaluationSources }
    var evaluationSources: [any ImageSource] = []
    /// Of each evaluation, the places in `sources` of the images that are learned and of those that then judge. That on the
    /// validation images of the run comes first, if there is one, then k-NN's.
    public var comparisons: [(learned: Int, judged: Int)] {
        let last = sources.count - 1
        return (configuration.validation == nil ? [] : [(0, 1)])
            + (configuration.neighbors == nil ? [] : [(last - 1, last)])
    }
    /// Images that are not trained on, where evaluations have some: those of the losses, else those of k-NN.
    private var heldOutSource: (any ImageSource)? {
        configuration.validation == nil ? evaluationSources.last : evaluationSources.first
    }

    /// How the weights of files compare with the tensors that the run needs, and how they were adapted.
    public struct Preparation: Sendable {
        /// Of the frozen weights; nil without any.
        public var frozen: Parameters.Loading?
        /// Of the initial weights; nil without a file.
        public var initial: Parameters.Loading?
    }

    /// Maps the memory and sets the initial weights and the frozen weights.
    ///
    /// - Parameters:
    ///   - weights: the frozen weights: a teacher's, or those of a probed encoder; nil if the objective has none.
    ///   - initial: initial values of the trained weights; nil to draw them at random.
    ///   - isOptional: whether the trained weight of that name may be missing in `initial`; it is then drawn at random.
    ///   - isIgnored: whether the trained weight of that name is drawn at random even if `initial` holds it.
    /// - Throws: `Failure.failure` if memory cannot be mapped, `Failure.badData` if weights do not fit.
    @discardableResult
    public func prepare(
        teacher weights: ModelWeights? = nil, initial: ModelWeights? = nil,
        isOptional: (String) -> Bool = ModelLayout.isPositionTable, isIgnored: (String) -> Bool = { _ in false }
    ) throws -> Preparation {
        let frozen = frozenParameters
        precondition(weights != nil || frozen == nil, "a run with a teacher needs its weights")
        plan.bytesBeside = bytesBeside
        try plan.commit()
        try extraction?.plan.commit()
        var preparation = Preparation()
        objective.parameters.initialize(seed: configuration.seed)
        if let initial {
            preparation.initial = try objective.parameters.load(
                from: initial, for: configuration.trainedEncoder, optional: isOptional, ignored: isIgnored)
            for parameter in objective.parameters.all where !Kernels.sumOfSquares(parameter.weight).isFinite {
                throw Failure(
                    .badData,
                    "\(initial.path): \(parameter.name) holds values that are not finite: name other weights")
            }
        }
        average?.start()
        if let frozen, let sizes = configuration.frozenEncoder, let weights {
            frozen.initializeConstants()
            let isProbe = configuration.method == .probe
            let loading = try frozen.load(
                from: weights, for: sizes, optional: isProbe ? weights.mayLack : ModelLayout.isPositionTable,
                checksummed: true)
            // Of its own file, also where another process packs the weights.
            teacherChecksum = loading.checksum
            if let shared = machineMemory?.shared, shared.isWritable { shared.finish() }
            preparation.frozen = loading
            if isProbe, let pool = configuration.classifier?.pool {
                writtenTensors = weights.encoderTensors(sizes, pool: pool)
            }
        }
        return preparation
    }

    /// Frozen weights, to be set by `prepare`: the objective's, or those that compute its input; nil without any.
    public var frozenParameters: Parameters? { objective.frozenParameters ?? extraction?.encoder.parameters }

    /// XXH64 of the names of the images of `source`, in their order.
    public static func checksum(of source: any ImageSource) -> String {
        checksum(of: (0..<source.count).lazy.map(source.name))
    }

    /// The same of the names themselves.
    static func checksum(of names: some Sequence<String>) -> String {
        var hash = XXHash64()
        for var name in names {
            name += "\0"
            name.withUTF8 { hash.update(UnsafeRawBufferPointer($0)) }
        }
        return hash.text
    }

    /// How several processes share a step; set by `estimateSeconds`.
    public private(set) var sharing: Sharing?

    /// Micro-batches that `estimateSeconds` times after a step to warm up.
    public static let timedBatches = 4
    /// The steps that `estimateSeconds` runs: one that warms up, and those that it times.
    public var timedSteps: Int { 1 + Self.timedBatches / min(configuration.accumulation, 2) }

    /// Estimated seconds of one optimiser step and of the whole run, without decoding: medians of a few timed steps on
    /// random images, after one to warm up. Changes the optimiser's moments, so it is for a dry run only. Throws
    /// `Failure.failure` if the loss is not finite.
    ///
    /// - Parameter progress: called after each of `timedSteps` steps with their number so far.
    public func estimateSeconds(progress: (Int) -> Void = { _ in }) throws -> (run: Double, step: Double) {
        objective.fillRandomImages(seed: configuration.seed)
        // Two micro-batches represent a step of more: the first overwrites gradients, the second accumulates and
        // updates the weights.
        let (batch, accumulation) = (configuration.batch, configuration.accumulation)
        let timed = StepLoop(loop, accumulation: min(accumulation, 2))
        var gradients: [Double] = [], optimizer: [Double] = [], sample = 0
        for step in 0...Self.timedBatches / timed.accumulation {
            let outcome = try timed.run(step: step + 1, learningRate: 0) {
                defer { sample += batch }
                return Batch(
                    samples: Array(sample..<sample + batch), images: Array(0..<batch),
                    labels: source.classes.isEmpty ? nil : Array(repeating: 0, count: batch))
            }
            guard case .finished(let result) = outcome else {
                throw Failure(
                    .failure, "the loss of a step on random images is not finite: look at the teacher's weights")
            }
            progress(step + 1)
            guard step > 0 else { continue }
            gradients.append(result.gradientSeconds / Double(timed.accumulation))
            optimizer.append(result.optimizerSeconds)
        }
        var seconds =
            StepBenchmark.median(gradients) * Double(accumulation) + StepBenchmark.median(optimizer)
        if !ranks.isAlone {
            let sharing = try measureSharing(
                of: StepBenchmark.median(gradients), StepBenchmark.median(optimizer))
            self.sharing = sharing
            seconds = sharing.stepSeconds
        }
        return (seconds * Double(totalSteps), seconds)
    }

    /// Trains from the current step to the last one and writes all files into `directory`. Process 0 calls it, while the
    /// others `follow`.
    ///
    /// - Parameters:
    ///   - workers: decoding threads in addition to the kernels' threads; their number does not change the result.
    ///   - progress: line that shows each step; nil shows none.
    ///   - message: called with a sentence about each unreadable image, and about faults of a resumed run's log.
    ///   - isInterrupted: called after each micro-batch; returns the name of the signal that requests a stop, or nil.
    /// - Throws: `Failure.failure` if the loss or the weights are not finite; `Failure.badData` if too many images are
    ///   unreadable or the teacher's features are not finite; `Failure.inputOutput`; `Ranks.LostPeer`.
    public func run(
        in directory: RunDirectory, workers: Int, progress: ProgressLine?, message: @escaping (Message) -> Void,
        isInterrupted: () -> String? = { Signals.requested }
    ) throws -> Outcome {
        let store = CheckpointStore(directory: directory.path, keep: configuration.keep)
        let log = try ranks.lead {
            try RunLog(
                path: directory.logPath, after: step, keepsEvaluation: evaluatedStep == step,
                terms: objective.lossTerms)
        }
        log.notes.forEach(message)
        let events =
            configuration.tensorboard == true
            ? EventLog(
                in: directory.eventsPath, after: step, keepsEvaluation: evaluatedStep == step,
                terms: objective.lossTerms, report: message) : nil
        func saveCheckpoint() throws -> String {
            try directory.requireLock()
            return try save(to: store)
        }
        let images = source.count
        // A run that is resumed at its end needs no features.
        if let extraction, step < totalSteps || evaluatedStep < step {
            var signal: String?
            let isWhole = try extraction.run(
                configuration.validationAugmentation, workers: workers, unreadableLimit: configuration.unreadableLimit,
                progress: progress, report: message,
                isInterrupted: {
                    signal = isInterrupted()
                    return signal != nil
                })
            guard isWhole else { return .interrupted(signal: signal!, checkpoint: try saveCheckpoint()) }
            self.extraction = nil
        }
        let batches = batches(workers: workers, report: message)
        defer { batches.stop() }
        let every = checkpointEvery
        let pictures =
            events == nil
            ? nil
            : CheckpointPictures(
                of: objective, source: heldOutSource ?? source, augmentation: configuration.validationAugmentation,
                checkpoints: totalSteps / every)
        /// Runs the evaluations that are due after the current step; returns the signal that interrupted them.
        func evaluate() throws -> String? {
            var lost: (any Error)?
            do {
                let signal = try self.evaluate(
                    log: log, events: events, directory: directory, workers: workers, progress: progress,
                    report: message,
                    isInterrupted: {
                        do { return try ranks.ask(isInterrupted()) } catch {
                            lost = error
                            return "a process that is lost"
                        }
                    })
                if let lost { throw lost }
                return signal
            } catch let failure as Failure {
                // The steps since the last checkpoint must not be lost with images of an evaluation.
                try log.synchronize()
                guard let checkpoint = try? saveCheckpoint() else { throw failure }
                throw Failure(
                    failure.code, "\(failure.sentence); \(.resume, "auto") continues from \(checkpoint)",
                    unreadable: failure.unreadable)
            }
        }
        /// What process 0 does alone ends a run for all where it returns an outcome.
        func lead(_ work: () throws -> Outcome?) throws -> Outcome? {
            try ranks.lead(code: { $0 == nil ? 0 : Failure.Code.interrupted.rawValue }, work)
        }
        // A signal may have interrupted the evaluations of the step that this run was resumed from.
        let early = try lead {
            try evaluate().map { .interrupted(signal: $0, checkpoint: try saveCheckpoint()) }
        }
        if let early { return early }
        progress?.begin(step: step, batch: loop.pending)
        var stepStart = monotonicSeconds()
        while step < totalSteps {
            let rate = schedule.rate(epoch: configuration.epoch(step: step, images: images))
            let imagesOfStep = (loop.ownAccumulation - loop.pending) * ranks.count * configuration.batch
            let (outcome, signal) = try runStep(
                rate, batches, progress: progress, isInterrupted: isInterrupted)
            let result: StepLoop.Result
            switch outcome {
            case .nonFinite(let losses): throw try ranks.failed(nonFinite(losses))
            case .interrupted:
                let end = try lead {
                    try log.synchronize()
                    return .interrupted(signal: signal!, checkpoint: try saveCheckpoint())
                }
                return end!
            case .finished(let finished): result = finished
            }
            step += 1
            average?.update()
            let now = monotonicSeconds()
            let speed = Double(imagesOfStep) / max(1e-9, now - stepStart)
            let record = StepRecord(
                step: step, epoch: configuration.epoch(step: step, images: images), losses: loop.losses,
                learningRate: rate, gradientNorm: result.gradientNorm, imagesPerSecond: Float(speed))
            let end: Outcome? = try lead {
                try log.append(record)
                events?.append(record)
                progress?.update(batch: loop.ownAccumulation, waited: batches.secondsWaited)
                progress?.update(record)
                let evaluationSignal = try evaluate()
                // The speed leaves evaluations out.
                stepStart = evaluatedStep == step ? monotonicSeconds() : now
                let signal = try evaluationSignal ?? ranks.ask(isInterrupted())
                guard step % every == 0 || step == totalSteps || signal != nil else { return nil }
                try log.synchronize()
                events?.synchronize()
                let checkpoint = try saveCheckpoint()
                lastCheckpoint = checkpoint
                if signal == nil, let pictures, step == totalSteps || pictures.areDue(at: step / every) {
                    events?.append(pictures.draw(), step: step)
                }
                if let signal, step < totalSteps || evaluationSignal != nil {
                    return .interrupted(signal: signal, checkpoint: checkpoint)
                }
                try directory.writeStatus(.running(step: step))
                return nil
            }
            if let end { return end }
        }
        try ranks.lead { try writeWeights(to: directory) }
        return .finished(weights: directory.weightsPath)
    }

    /// Batches of the rest of the run, of this process.
    func batches(workers: Int, report: @escaping (Message) -> Void) -> any BatchSource {
        let size = configuration.batch, ofStep = loop.ownAccumulation
        let samples = (step * ofStep + loop.pending) * size..<totalSteps * ofStep * size
        return makeBatches?(samples, workers, report) ?? loader(samples, workers: workers, report: report)
    }

    /// Runs the micro-batches of this process in the next step.
    ///
    /// - Returns: how it ended, and the signal that interrupted it.
    /// - Throws: what the batches throw, after the other processes were told; `Ranks.LostPeer`, `Ranks.Stopped`.
    func runStep(
        _ rate: Double, _ batches: any BatchSource, progress: ProgressLine?, isInterrupted: () -> String?
    ) throws -> (StepLoop.Outcome, signal: String?) {
        var signal: String?
        // Signals are polled between micro-batches, as a step of many micro-batches can take an hour, and while the
        // next one is waited for.
        do {
            let outcome = try loop.run(
                step: step + 1, learningRate: Float(rate),
                next: {
                    do {
                        var waits = 0
                        let batch = try batches.next(into: objective.images) {
                            progress?.waitsForImages()
                            // After most of a second: until then the batch may come.
                            waits += 1
                            signal = waits > 3 ? Signals.requested : nil
                            if signal != nil { throw StopWhileWaiting() }
                        }
                        guard let batch, batch.count == configuration.batch else {
                            preconditionFailure("the stream of samples ended before the run")
                        }
                        return batch
                    } catch let stop as StopWhileWaiting { throw stop } catch { throw try ranks.failed(error) }
                },
                isInterrupted: { isLast in
                    progress?.update(batch: loop.pending, waited: batches.secondsWaited)
                    let stop = try ranks.poll(isInterrupted())
                    signal = stop?.signal
                    // After the last micro-batch the step is finished first, unless one process cannot.
                    return stop.map { !isLast || $0.dropsStep } ?? false
                })
            // The sums of several groups are not kept: a resumed run repeats the step.
            if case .interrupted = outcome, loop.hasGroups { loop.dropStep() }
            return (outcome, signal)
        } catch is StopWhileWaiting {
            signal = try ranks.poll(signal, dropsStep: true)?.signal
            if loop.hasGroups { loop.dropStep() }
            return (.interrupted, signal)
        }
    }

    /// A signal came while a batch was waited for.
    private struct StopWhileWaiting: Error {}

    private func loader(_ samples: Range<Int>, workers: Int, report: @escaping (Message) -> Void) -> BatchLoader {
        BatchLoader(
            source: source, augmentation: configuration.augmentation, batchSize: configuration.batch,
            seed: configuration.seed, firstSample: samples.lowerBound, lastSample: samples.upperBound,
            share: StreamShare(part: ranks.rank, of: ranks.count, block: configuration.effectiveBatch),
            workers: workers, unreadableLimit: configuration.unreadableLimit,
            shuffleWindow: configuration.shuffleWindow, mixing: configuration.mixing, report: report)
    }

    func nonFinite(_ losses: Losses) -> Failure {
        // A frozen teacher does not change, so a lower learning rate would not help.
        guard objective.frozenOutputsAreFinite else {
            return Failure(
                .badData,
                "\(configuration.teacher ?? configuration.weights ?? "the teacher"): its features are not finite at "
                    + "step \(step + 1); \(lastGood); compare its weights with their source by dmae inspect \(.compare)"
            )
        }
        // Before the first update no learning rate has had an effect.
        let remedy: Message =
            step == 0
            ? "look at the images of that step, and at the weights that the run starts from"
            : "start again in another \(.output) folder with a lower \(.baseLearningRate), or look at the images of that "
                + "step"
        return Failure(
            .failure,
            "the loss is not finite at step \(step + 1): \(objective.describe(losses)); \(lastGood); \(remedy)")
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

    var lastGood: String {
        lastCheckpoint.map { "the last good checkpoint is \($0)" } ?? "no checkpoint was written yet"
    }
}
