import FoundationEssentials
import Glibc
import Images
import Interchange
import Models
import Ranks
import Reporting
import Tensors
import Training

extension TrainingOptions {
    /// Prints the plan of a run: all its settings, its memory, and how long it will take.
    ///
    /// - Parameter comparisons: those of whose images copies are looked for.
    func printPlan(of trainer: Trainer, from weights: StartingWeights, comparisons: [Comparison]) throws {
        // First of all, as a run does it: with too many images that cannot be decoded there is none to plan.
        let load = ProcessorLoad.ofOthers()
        warnOfRefusal(of: trainer.configuration)
        let ranks = Ranks.current
        let headers: [ImageHeaders]? = try ranks.meet { process.noCheck ? nil : try self.headers(of: trainer) }
        if !process.noCheck { try warnOfCopies(of: trainer, comparisons) }
        try trainer.shareMemory()
        var plan = RunPlan(trainer, workers: process.workers)
        if !json {
            print(plan.text)
            // Timing may take minutes and must be interruptible.
            fflush(stdout)
        }
        try ranks.meet { try prepare(trainer, from: weights) }
        if !quiet {
            Terminal.note("timing \(Trainer.timedBatches) batches of \(trainer.configuration.batch) images …")
        }
        let start = monotonicSeconds()
        var said = start
        let time = try trainer.estimateSeconds { done in
            let now = monotonicSeconds(), total = trainer.timedSteps
            // A large model takes minutes for a batch.
            guard !quiet, done < total, now - said >= 5 else { return }
            said = now
            let left = (now - start) / Double(done) * Double(total - done)
            Terminal.note("timing: step \(done) of \(total), about \(Format.duration(left)) left")
        }
        let features = trainer.estimateFeatureSeconds()
        // Steps and weights are in memory now as they will be.
        let resident = ResidentMemory.peak
        // What their headers say was reported.
        let known = Set((headers ?? []).flatMap(\.undecodable).map(\.reason))
        var damaged: [String] = []
        let decoding = try DecodingMeasurement(
            of: trainer.source, as: trainer.configuration.augmentation, seed: trainer.configuration.seed
        ) { sentence in
            let text = sentence.text(in: Flags())
            if !known.contains(text), !damaged.contains(text) { damaged.append(text) }
        }
        warn(of: damaged, among: (decoding?.images ?? 0) + damaged.count, of: trainer)
        plan.add(time: time, features: features, decoding: decoding, headers: headers, trainer: trainer)
        if let resident {
            plan.add(resident: resident, headers: headers, trainer: trainer)
        } else {
            plan.leftOut.append("the peak resident memory, as /proc is not mounted")
        }
        if let load, let note = load.note(threads: Threads.count), !quiet { Terminal.note(note) }
        if json {
            print(String(decoding: try plan.sortedJSON(), as: UTF8.self))
        } else {
            print("\n" + plan.estimates)
        }
    }

    /// Warns where the run of this plan would be refused for its folder.
    private func warnOfRefusal(of configuration: TrainingConfiguration) {
        guard let output, !output.isEmpty, !goesOn else { return }
        do {
            try requireFolder(output, for: configuration)
            try RunDirectory.requireFree(output)
        } catch let failure as Failure {
            let sentence: Message = "the run would be refused: \(failure.sentence)"
            Terminal.warning(sentence)
        } catch {}
    }

    /// Refuses a folder of a new run that is no place for it.
    func requireFolder(_ output: String, for configuration: TrainingConfiguration) throws {
        try Outputs.requireFolderName(output, "--output", of: "a run")
        try Outputs.check(RunDirectory.outputs(in: output), force: true)
        try Outputs.requireApart(output, from: configuration.imagePaths)
    }

    /// Warns of images that are damaged behind their headers, which a plan meets by chance: it decodes some only.
    private func warn(of damaged: [String], among decoded: Int, of trainer: Trainer) {
        guard !damaged.isEmpty else { return }
        damaged.prefix(3).forEach { Terminal.warning($0) }
        let limit = trainer.configuration.unreadableLimit
        let isExceeded = UnreadableLimit.isExceeded(by: damaged.count, of: decoded, limit)
        let places = trainer.configuration.data.paths.map { "`dmae inspect \(Shell.word($0))`" }.joined(separator: ", ")
        Terminal.warning(
            "\(damaged.count) of the \(Format.counted(decoded, "image")) that were decoded for the timing cannot be read"
                + (isExceeded
                    ? ": a run would stop, as more than the fraction \(limit) that it allows (--unreadable-limit)" : "")
                + "; \(places) decodes all images and names each")
    }

    /// Warns of images that judge and are copies of those that are learned. Of many images the run tells it.
    private func warnOfCopies(of trainer: Trainer, _ comparisons: [Comparison]) throws {
        let sources = trainer.sources
        guard sources.reduce(0, { $0 + $1.count }) <= ImageCheck.mostBefore else { return }
        let copies = try comparisons.map {
            try CopiedImages(
                of: sources[$0.places.learned], in: sources[$0.places.judged], workers: Threads.recommended)
        }
        Self.report(copies, comparisons: comparisons) { Terminal.warning($1) }
    }

    /// The headers of the images of each source; of many images, those of some of them.
    private func headers(of trainer: Trainer) throws -> [ImageHeaders] {
        let text: @Sendable (Message) -> String = { $0.text(in: Flags()) }
        var said: Set<String> = []
        let headers = try trainer.sources.map { source in
            let progress = ImageProgress(total: min(source.count, ImageCheck.mostBefore), isQuiet: quiet)
            let isWhole = source.count <= ImageCheck.mostBefore
            if !isWhole, !quiet {
                Terminal.note(
                    "the headers of \(Format.grouped(ImageCheck.mostBefore)) of \(Format.grouped(source.count)) images are "
                        + "read; the run reads all")
            }
            let read: any ImageSource =
                isWhole ? source : ImageSubset(source, ImageSubset.spread(ImageCheck.mostBefore, of: source.count))
            let headers = try ImageHeaders(
                of: read, workers: Threads.recommended, text: text, progress: progress.update)
            for sentence in try headers.clipping(in: read, as: trainer.configuration.reading) {
                let text = sentence.text(in: Flags())
                // The same images may be those of several evaluations.
                if said.insert(text).inserted { Terminal.warning(text) }
            }
            return headers
        }
        try report(
            headers, of: trainer, note: { if !quiet { Terminal.note($0) } }, warn: { Terminal.warning($0) })
        return headers
    }
}

/// The memory of this process.
private enum ResidentMemory {
    /// The most bytes that were resident at once, since the program was started: getrusage would count its parent, too.
    static var peak: Int? {
        guard let text = try? Data(contentsOf: URL(filePath: "/proc/self/status")) else { return nil }
        let line = String(decoding: text, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
    }
}

/// What a run will be: its settings, its memory, and how long it will take. `dmae COMMAND --dry-run` prints it as text, and
/// with --json as an object.
struct RunPlan: Encodable {
    /// Measured and estimated times, in seconds.
    struct Seconds: Encodable {
        /// Of an optimiser step without decoding.
        var step: Double
        /// Of the whole run.
        var run: Double
        /// Of features that are computed once; nil unless there are any.
        var features: Double?
        /// Of all evaluations; nil without any.
        var evaluations: Double?
    }

    /// A step that several processes share.
    struct Sharing: Encodable {
        var processes: Int
        /// Seconds of computing, of the exchange alone, and of waiting for it.
        var computeSeconds: Double
        var exchangeSeconds: Double
        var waitingSeconds: Double
        var bytesSent: Int
        var efficiency: Double
        /// Planned bytes of the process with the most.
        var mostMemory: Int

        private enum CodingKeys: String, CodingKey {
            case processes, efficiency
            case computeSeconds = "compute_seconds"
            case exchangeSeconds = "exchange_seconds"
            case waitingSeconds = "waiting_seconds"
            case bytesSent = "bytes_sent"
            case mostMemory = "most_memory"
        }

        init(_ sharing: Trainer.Sharing) {
            processes = sharing.processes
            computeSeconds = sharing.computeSeconds
            exchangeSeconds = sharing.exchangeSeconds
            waitingSeconds = sharing.waitingSeconds
            bytesSent = sharing.bytesSent
            efficiency = sharing.efficiency
            mostMemory = sharing.mostMemory
        }
    }

    /// Images per second.
    struct Speed: Encodable {
        /// Of the computation alone.
        var computation: Double
        /// Of the decoding threads alone; nil if no image could be decoded.
        var decoding: Double?
        /// Of both beside one another.
        var run: Double
    }

    /// What reading and decoding images costs one thread.
    struct Decoding: Encodable {
        /// Images that were timed.
        var images: Int
        var secondsPerImage: Double
        /// Whether the kernels wait for images.
        var isLimiting: Bool
        /// Decoding threads with which they would not; nil if they do not, or more would not help.
        var workers: Int?

        private enum CodingKeys: String, CodingKey {
            case images, workers
            case secondsPerImage = "seconds_per_image"
            case isLimiting = "is_limiting"
        }
    }

    struct Memory: Encodable {
        /// Bytes of the plan by purpose; their sum may be more than the total, as buffers share memory.
        var purposes: [String: Int]
        /// Bytes of the plan; without those that processes share.
        var planned: Int
        /// Bytes that the processes of a machine share, so that they are there once; nil without any.
        var shared: Int?
        /// Bytes that the processes of this machine have planned together; nil for one.
        var machine: Int?
        /// Bytes of the encoder's plan until the features of a probe are computed.
        var features: Int?
        /// Estimated peak of the process's resident memory; without what processes share.
        var resident: Int?
        /// The part of `resident` that decoded batches and pictures take.
        var images: Int?
    }

    let configuration: TrainingConfiguration
    let images: Int
    /// Names of the classes.
    let classes: [String]
    let effectiveBatch: Int
    let optimizerSteps: Int
    let peakLearningRate: Double
    let threads: Int
    let workers: Int
    let parameters: [String: Int]
    var memory: Memory
    let gflopPerImage: [String: Double]
    private(set) var seconds: Seconds?
    private(set) var imagesPerSecond: Speed?
    private(set) var decoding: Decoding?
    /// How several processes share a step; nil for one.
    private(set) var sharing: Sharing?
    /// The number of processes of this machine.
    private let processesOfMachine: Int
    /// Images of features that are computed once.
    private var featureImages = 0
    /// What the estimates do not count.
    fileprivate(set) var leftOut: [String] = []

    /// The rows of parameters and GFLOP in their order, which a dictionary loses.
    private let parameterRows: [(name: String, count: Int)]
    private let operationRows: [(name: String, count: Double)]

    private enum CodingKeys: String, CodingKey {
        case configuration, images, classes, threads, workers, parameters, memory, seconds, decoding, sharing
        case effectiveBatch = "effective_batch"
        case optimizerSteps = "optimizer_steps"
        case peakLearningRate = "peak_learning_rate"
        case gflopPerImage = "gflop_per_image"
        case imagesPerSecond = "images_per_second"
        case leftOut = "left_out"
    }

    init(_ trainer: Trainer, workers: Int) {
        let configuration = trainer.configuration
        self.configuration = configuration
        self.workers = workers
        images = trainer.source.count
        classes = trainer.source.classes
        effectiveBatch = configuration.effectiveBatch
        optimizerSteps = trainer.totalSteps
        peakLearningRate = configuration.peakLearningRate
        threads = Threads.count
        parameterRows = Self.parameters(of: trainer)
        parameters = Dictionary(uniqueKeysWithValues: parameterRows.map { ($0.name, $0.count) })
        operationRows = Self.operations(of: trainer)
        gflopPerImage = Dictionary(uniqueKeysWithValues: operationRows.map { ($0.name, $0.count) })
        let purposes = MemoryPlan.Purpose.allCases.map { ($0.rawValue, trainer.plan.bytes(of: $0)) }
        memory = Memory(
            purposes: Dictionary(uniqueKeysWithValues: purposes.filter { $0.1 > 0 }), planned: trainer.plan.totalBytes,
            features: trainer.extraction?.plan.totalBytes)
        processesOfMachine = trainer.machineMemory?.processes ?? 1
        if let together = trainer.machineMemory, together.processes > 1 {
            memory.shared = together.shared?.bytes
            memory.machine = together.bytes
        }
    }

    private static func parameters(of trainer: Trainer) -> [(name: String, count: Int)] {
        let configuration = trainer.configuration, layout = configuration.layout
        let isProbe = configuration.method == .probe
        func row(_ name: String, _ isCounted: (ModelPart) -> Bool) -> (name: String, count: Int) {
            (name, layout.count(where: isCounted))
        }
        var rows: [(name: String, count: Int)]
        if configuration.model == nil {
            rows = [row("encoder\(isProbe ? ", frozen" : "")", \.isEncoder), row("class head") { $0 == .classHead }]
        } else {
            rows = [row("student", \.isEncoder), row("decoder") { $0 == .decoder }]
        }
        if !isProbe, let teacher = trainer.objective.frozenParameters {
            if configuration.model != nil {
                rows.append(row("projection heads") { $0 == .projectionHeads })
                rows.append(("teacher, to its last aligned block", teacher.count()))
            } else {
                rows.append(("teacher", teacher.count()))
            }
        }
        return rows
    }

    private static func operations(of trainer: Trainer) -> [(name: String, count: Double)] {
        let operations = trainer.objective.operations, isProbe = trainer.configuration.method == .probe
        return [
            (isProbe ? "encoder" : "teacher", operations.teacher),
            (
                isProbe ? "class head" : trainer.configuration.model == nil ? "classifier" : "student",
                operations.student
            ),
            ("decoder", operations.decoder), ("projection heads", operations.alignment), ("total", operations.total),
        ].filter { $0.1 > 0 }
    }

    /// Adds the time of the run.
    ///
    /// - Parameters:
    ///   - time: that of the computation.
    ///   - features: that of features that are computed once.
    ///   - decoding: nil if no image could be decoded.
    ///   - headers: of all images; nil if they were not read.
    mutating func add(
        time: (run: Double, step: Double), features: (images: Int, seconds: Double)?, decoding: DecodingMeasurement?,
        headers: [ImageHeaders]?, trainer: Trainer
    ) {
        sharing = trainer.sharing.map(Sharing.init)
        // Each process decodes its part of the images; one evaluates.
        let processes = Double(sharing?.processes ?? 1)
        let header = headers?[0], decodable = header.map { $0.images - $0.undecodable.count } ?? 0
        let ofOne =
            decodable > 0
            ? decoding?.secondsPerImage(ofPixels: Double(header!.pixels) / Double(decodable))
            : decoding?.secondsPerImage
        let perImage = ofOne.map { $0 / processes }
        func throughput(_ compute: Double) -> Throughput {
            Throughput(
                compute: compute, decoding: perImage ?? 0, threads: threads, workers: workers,
                processors: Threads.recommended)
        }
        // Features that are computed once need no decoding afterwards.
        let isOnce = configuration.probeAugmentation == ProbeAugmentation.none
        let compute = time.step / Double(effectiveBatch)
        let run = isOnce ? nil : throughput(compute)
        let once = features.map { throughput($0.seconds / Double($0.images)) }
        // Images of evaluations are taken to be as large as those of the training.
        let evaluations = trainer.evaluationWork(secondsPerImage: compute * processes).reduce(0) {
            $0 + Double($1.images) * throughput($1.secondsPerImage).seconds
        }
        featureImages = features?.images ?? 0
        let featureSeconds = features.map { once!.seconds * Double($0.images) }
        seconds = Seconds(
            step: time.step,
            run: (run?.seconds ?? compute) * Double(optimizerSteps * effectiveBatch) + (featureSeconds ?? 0)
                + evaluations,
            features: featureSeconds, evaluations: evaluations > 0 ? evaluations : nil)
        imagesPerSecond = Speed(
            computation: 1 / compute, decoding: perImage.map { Double(min(workers, Threads.recommended)) / $0 },
            run: 1 / (run?.seconds ?? compute))
        if let decoding, let perImage, let limit = run ?? once {
            self.decoding = Decoding(
                images: decoding.images, secondsPerImage: perImage, isLimiting: limit.isLimitedByDecoding,
                workers: limit.workers)
        } else {
            leftOut.append("the time of decoding, as no image could be decoded")
        }
        // On a disk that takes 100 MB a second; less than a second, or a hundredth of the run, is not worth a word.
        let checkpoints = trainer.checkpoints
        if Double(checkpoints.count * checkpoints.bytes) / 1e8 > max(1, seconds!.run / 100) {
            leftOut.append(
                "the time of writing \(Format.counted(checkpoints.count, "checkpoint")) of "
                    + "\(Format.bytes(checkpoints.bytes))\(checkpoints.count == 1 ? "" : " each"), which depends on the disk"
            )
        }
        if headers == nil {
            leftOut.append(
                "images that cannot be decoded and the memory of the largest ones, as --no-check reads no headers")
        }
    }

    /// Adds the memory of the process: what was resident when steps were timed, and what images will take beside it.
    mutating func add(resident: Int, headers: [ImageHeaders]?, trainer: Trainer) {
        let size = configuration.augmentation.sampleCount * configuration.batch
        // Of the training and of the evaluation, which has a loader of its own.
        let loaders = trainer.evaluations.isEmpty ? 1 : 2
        // The memory of pictures that the threads of one loader decode stays with them while the other one works.
        func pictures(_ headers: some Sequence<ImageHeaders>, images: Int) -> Int {
            let largest = headers.flatMap(\.largest).sorted(by: >)
            return (0..<min(workers, images)).reduce(0) { sum, worker in
                sum + (largest.isEmpty ? 0 : largest[min(worker, largest.count - 1)])
            }
        }
        let headers = headers ?? []
        memory.images =
            loaders * BatchLoader.defaultBatchesAhead * size + pictures(headers.prefix(1), images: images)
            + pictures(headers.dropFirst(), images: headers.dropFirst().map(\.images).max() ?? 0)
        memory.resident = resident - (memory.shared ?? 0) + memory.images!
    }

    // MARK: Text

    /// Settings, parameters, memory of the plan, and operations.
    var text: String {
        let encoder = configuration.trainedEncoder
        var rows = [["images", "\(images)"]]
        if !classes.isEmpty { rows.append(["classes", "\(classes.count)"]) }
        rows += [
            [
                "epochs",
                "\(Format.shortest(configuration.epochs)), \(Format.shortest(configuration.warmupEpochs)) of warm-up",
            ],
            [
                "effective batch",
                "\(effectiveBatch) (\(configuration.accumulation) × \(configuration.batch)"
                    + (configuration.groups.map { ", \($0) groups)" } ?? ")"),
            ],
            ["optimiser steps", "\(optimizerSteps)"],
            ["peak learning rate", "\(Float(peakLearningRate))"],
            ["precision", Self.text(configuration)],
            ["threads", "\(threads) of the kernels, \(workers) of decoding"],
            [""],
            [configuration.model == nil ? "encoder" : "student", Self.text(encoder)],
            [
                "images and patches",
                "\(encoder.imageWidth)×\(encoder.imageHeight)×\(encoder.channels), \(encoder.patchSize) a side",
            ],
        ]
        if let model = configuration.model {
            rows.append([
                "visible patches",
                "\(model.keptPatches) of \(model.student.patches), mask ratio \(Format.shortest(model.maskRatio))",
            ])
            if model.hasDecoder {
                let decoder = model.decoder
                rows.append([
                    "decoder", "width \(decoder.width), depth \(decoder.depth), heads \(decoder.heads)",
                ])
            }
        }
        if let teacher = configuration.model?.teacher ?? configuration.classifier?.teacher?.encoder {
            rows.append(["teacher", Self.text(teacher)])
        }
        if let pairs = configuration.model?.alignment.pairs, !pairs.isEmpty {
            rows.append(["aligned blocks", pairs.map { "\($0)" }.joined(separator: " ")])
        }
        rows.append([""])
        rows += parameterRows.map { ["parameters: \($0.name)", Format.count($0.count)] }
        rows.append([""])
        for purpose in MemoryPlan.Purpose.allCases {
            if let bytes = memory.purposes[purpose.rawValue] {
                rows.append(["memory: \(purpose.rawValue)", Format.bytes(bytes)])
            }
        }
        let shared = memory.purposes.values.reduce(0, +) - memory.planned
        if shared > 0 { rows.append(["memory: shared, never needed at the same moment", "-" + Format.bytes(shared)]) }
        rows.append(["memory: total", Format.bytes(memory.planned)])
        if let shared = memory.shared {
            rows.append([
                "memory: the teacher's packed weights, once for the \(processesOfMachine) processes of a machine",
                Format.bytes(shared),
            ])
        }
        if let machine = memory.machine {
            rows.append(["memory: the \(processesOfMachine) processes of this machine together", Format.bytes(machine)])
        }
        if let features = memory.features {
            rows.append(["memory: encoder, until the features are computed", Format.bytes(features)])
        }
        rows.append([""])
        rows += operationRows.map { ["GFLOP per image: \($0.name)", Format.fixed($0.count, $0.count < 1 ? 4 : 2)] }
        return Format.table(rows) + "\n\n"
            + Format.filled(
                "every value that decides the result, most of them as flags (\"no\" before what is off; --print-config "
                    + "prints all for --config): " + settings, columns: 100)
    }

    /// Every value that decides the result, as flags and words, without those that this run does not use.
    private var settings: String {
        let isAdamW = configuration.optimizer.algorithm == .adamW
        let hasTeacher = configuration.model?.teacher != nil
        func isUsed(_ key: String) -> Bool {
            switch key {
            case "optimizer.momentum", "optimizer.trust": !isAdamW
            case "optimizer.beta1", "optimizer.beta2", "optimizer.epsilon", "optimizer.weightDecay": isAdamW
            case "preprocessing.cropRoundsDown": false
            case "teacherPrecision": hasTeacher
            default: hasTeacher || !(key.hasPrefix("model.teacher") || key.hasPrefix("model.alignment"))
            }
        }
        var texts: [String] = []
        for value in configuration.decisiveValues where isUsed(value.key) {
            // A flag and its value, or the words of one setting, stay on a line.
            let text = value.setting.text(in: Flags(namesFile: false)).replacing(" ", with: "\u{A0}")
            if !texts.contains(text) { texts.append(text) }
        }
        return texts.joined(separator: ", ")
    }

    /// Speed, times and the memory of the process.
    var estimates: String {
        guard let seconds, let imagesPerSecond else { return "" }
        var rows: [[String]] = []
        if let resident = memory.resident, let images = memory.images {
            let shared = memory.shared.map { "; beside it \(Format.bytes($0)) that the processes share" } ?? ""
            rows.append([
                "peak resident memory", "\(Format.bytes(resident)), \(Format.bytes(images)) of it for images\(shared)",
            ])
        }
        rows += [
            ["images per second", Format.fixed(imagesPerSecond.computation, 2)],
            ["one optimiser step", Format.duration(seconds.step)],
        ]
        if let sharing {
            let exchange = Format.duration(sharing.exchangeSeconds)
            let hidden = sharing.exchangeSeconds - sharing.waitingSeconds
            rows += [
                ["of it computing", Format.duration(sharing.computeSeconds)],
                [
                    "of it waiting for gradients and weights",
                    "\(Format.duration(sharing.waitingSeconds)); the exchange alone takes \(exchange)"
                        + (hidden > 0 ? ", \(Format.duration(hidden)) of it beside the last backward pass" : ""),
                ],
                [
                    "sent by each process in a step",
                    "\(Format.bytes(sharing.bytesSent)), \(Format.bytes(Int(Double(sharing.bytesSent) / max(1e-9, sharing.exchangeSeconds)))) a second",
                ],
                [
                    "efficiency of \(sharing.processes) processes",
                    "\(Format.fixed(100 * sharing.efficiency, 1)) % of so many times the speed of one",
                ],
                ["memory of a process, planned", "at most \(Format.bytes(sharing.mostMemory))"],
            ]
        }
        if let decoding, let speed = imagesPerSecond.decoding {
            rows.append([
                "images decoded per second", "\(Format.fixed(speed, 1)), by \(Format.counted(workers, "thread"))",
            ])
            let remedy = decoding.workers.map { "--workers \($0) helps" } ?? "smaller files help"
            rows.append(["limited by", decoding.isLimiting ? "decoding: \(remedy)" : "computation"])
        }
        if let features = seconds.features {
            rows.append(["features of \(Format.counted(featureImages, "image")), once", Format.duration(features)])
        }
        if let evaluations = seconds.evaluations { rows.append(["all evaluations", Format.duration(evaluations)]) }
        rows.append(["the whole run", Format.duration(seconds.run)])
        return Format.table(rows) + leftOut.map { "\nnot counted: \($0)" }.joined()
    }

    private static func text(_ encoder: EncoderConfiguration) -> String {
        "width \(encoder.width), depth \(encoder.depth), heads \(encoder.heads)"
    }

    private static func text(_ configuration: TrainingConfiguration) -> String {
        let teacher =
            configuration.teacherPrecision == .same ? "" : ", teacher \(configuration.teacherPrecision.rawValue)"
        return configuration.precision.rawValue + teacher
    }
}
