import Interchange
import Reporting
import ArgumentParser
import Glibc
import Images
import Models
import Ranks
import Tensors
import Training
import Weights

/// The images of `dmae distill` and `dmae pretrain`.
struct DataOptions: ParsableArguments {
    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Images: folders, with one folder per class or flat ones, tar archives and lists.",
            valueName: "folder|tar|list"),
        completion: .file())
    var data: [String]

    /// The places of the images.
    var places: ImagePlaces { ImagePlaces(data) }

    func validate() throws { try ValidationError.requirePlaces(data, "--data") }
}

extension ArchiveIndexes {
    /// Indexes that say so where making them takes time.
    convenience init(_ place: Place = .userCache, isQuiet: Bool) {
        self.init(place) { sentence in
            guard !isQuiet else { return }
            // Making an index takes long.
            Terminal.release()
            Terminal.note(sentence.text(in: Flags()))
        }
    }
}

extension ValidationError {
    /// Refuses an option for places of images that was given without a value.
    static func requirePlaces(_ paths: [String], _ flag: String) throws {
        guard !paths.isEmpty, !paths.contains("") else {
            throw ValidationError("\(flag) needs the path of a folder, tar archive or list")
        }
    }
}

/// Settings of AdamW that override the recipe's.
struct AdamWOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Decoupled weight decay of AdamW.", valueName: "decay"))
    var weightDecay: Float?

    @Option(help: ArgumentHelp("AdamW's decay of the first moment.", valueName: "beta"))
    var beta1: Float?

    @Option(help: ArgumentHelp("AdamW's decay of the second moment.", valueName: "beta"))
    var beta2: Float?

    @Option(help: ArgumentHelp("AdamW's epsilon.", valueName: "epsilon"))
    var epsilon: Float?

    /// The recipe's optimiser with the overrides of this command line.
    func applied(to optimizer: Optimizer) -> Optimizer {
        var optimizer = optimizer
        optimizer.beta1 = beta1 ?? optimizer.beta1
        optimizer.beta2 = beta2 ?? optimizer.beta2
        optimizer.epsilon = epsilon ?? optimizer.epsilon
        optimizer.weightDecay = weightDecay ?? optimizer.weightDecay
        return optimizer
    }
}

/// The options that all training commands share.
struct TrainingOptions: ParsableArguments {
    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "Folder of the run: configuration, log, checkpoints, weights. --dry-run needs none.", valueName: "folder"),
        completion: .directory)
    var output: String?

    @Option(
        help: ArgumentHelp(
            "Continue: auto takes the newest whole checkpoint in --output, a path that checkpoint.",
            valueName: "auto|file"),
        completion: .file())
    var resume: String?

    @Option(
        help: ArgumentHelp(
            "Values of the run, as configuration.json of a run holds them, whole or in part. They go over the recipe's, and "
                + "flags go over them.",
            valueName: "file"),
        completion: .file(extensions: ["json"]))
    var config: String?

    @Flag(help: "Print the values of the run as such a file, and stop.")
    var printConfig = false

    @Flag(help: "Print all settings, parameters, memory, GFLOP and the estimated time of the whole run, and stop.")
    var dryRun = false

    @Flag(help: "With --dry-run: print one JSON object instead of text.")
    var json = false

    @Option(help: ArgumentHelp("Images per forward and backward pass.", valueName: "images"))
    var batch: Int?

    @Option(help: ArgumentHelp("Images per optimiser step; a multiple of --batch.", valueName: "images"))
    var effectiveBatch: Int?

    @Option(
        help: ArgumentHelp(
            "Parts of an effective batch whose gradients are summed apart and added in a tree: a power of two. The result "
                + "depends on it. Default: those of the run that is resumed, else the number of processes.",
            valueName: "groups"))
    var groups: Int?

    @Option(
        help: ArgumentHelp(
            "With groups: what their sums of gradients are rounded to before two of them are added, f32 (nothing) or bf16, "
                + "which halves what processes send one another of them.", valueName: "precision"))
    var exchange: ExchangePrecision = .f32

    @Option(help: ArgumentHelp("Number of passes over the images.", valueName: "epochs"))
    var epochs: Double?

    @Option(
        help: ArgumentHelp("Epochs of linear warm-up, in which the learning rate rises from 0.", valueName: "epochs"))
    var warmupEpochs: Double?

    @Option(help: ArgumentHelp("Learning rate per 256 images of effective batch.", valueName: "rate"))
    var baseLearningRate: Double?

    @Option(help: ArgumentHelp("Learning rate at the end of the cosine schedule.", valueName: "rate"))
    var minimumLearningRate: Double?

    @Option(help: ArgumentHelp("Seed of all random numbers.", valueName: "number"))
    var seed: UInt64 = 0

    @Option(
        help: ArgumentHelp(
            "Shuffle in windows of so many images that lie near one another, for disks on which seeking is slow. "
                + "Default: all images at once.", valueName: "images"))
    var shuffleWindow: Int?

    @Option(help: ArgumentHelp("Minimum fraction of an image's area in a random crop.", valueName: "fraction"))
    var minimumCropArea: Double?

    @Option(help: ArgumentHelp("Maximum fraction of an image's area in a random crop.", valueName: "fraction"))
    var maximumCropArea: Double?

    @OptionGroup var pictures: PictureOptions
    @OptionGroup var preprocessing: PreprocessingOptions

    @OptionGroup var process: ProcessOptions

    func validate() throws {
        if json, !dryRun { throw ValidationError("--json is for --dry-run: add it, or read log.jsonl and status.json") }
    }

    var quiet: Bool { process.quiet }

    /// The configuration of a run of `recipe` with the overrides of this command line.
    ///
    /// - Parameters:
    ///   - isNamed: whether the recipe was named. Otherwise its schedule is fitted to the number of images, where no flag
    ///     says otherwise.
    ///   - images: number of training images; nil if the recipe's schedule follows it already.
    ///   - adamW: nil if the recipe's optimiser is another one.
    ///   - model: nil unless a masked autoencoder is trained.
    ///   - classifier: nil unless a classifier is fine-tuned.
    ///   - prepared: the weights whose preparation of pictures becomes the run's; nil without any.
    func configuration(
        _ recipe: some TrainingRecipe, isNamed: Bool = true, images: Int? = nil, adamW: AdamWOptions? = nil,
        model: ModelConfiguration? = nil,
        classifier: ClassifierConfiguration? = nil,
        data: ImagePlaces, teacher: String?, prepared: PreparedWeights? = nil, precision: Precision,
        teacherPrecision: TeacherPrecision = .same
    ) throws -> TrainingConfiguration {
        // Before anything is computed from them: sums of larger ones overflow.
        for (field, value) in [(Field.batch, batch), (.effectiveBatch, effectiveBatch), (.groups, groups)] {
            if let value, value > Self.largestBatch {
                throw Failure(.usage, "\(field) must be at most \(Self.largestBatch)")
            }
        }
        let fitted = images.flatMap {
            recipe.fitted(
                images: $0, batch: self.batch, effectiveBatch: effectiveBatch, epochs: epochs,
                baseLearningRate: baseLearningRate)
        }
        let schedule = isNamed ? nil : fitted
        // With --batch alone the recipe's effective batch stays if the batch divides it.
        let effective = effectiveBatch ?? schedule?.effectiveBatch ?? recipe.effectiveBatch
        let length = epochs ?? schedule?.epochs ?? recipe.epochs
        let batch = batch ?? min(recipe.batch, effective)
        try Field.effectiveBatch.requireAtLeast(1, effective)
        try Field.batch.requireAtLeast(1, batch)
        guard effective % batch == 0 else {
            throw Failure(
                .usage,
                "--effective-batch \(effective) is not a multiple of --batch \(batch): choose both so that whole "
                    + "batches add up to it"
            )
        }
        if let images {
            if let schedule, !quiet { notes(on: schedule, recipe, images: images).forEach(Terminal.note) }
            // A run that goes on has said so at its start.
            if !goesOn {
                (fewSteps(effective, length, of: recipe, isNamed: isNamed, images: images)
                    ?? (isNamed ? fitted.flatMap { rateWarning($0, recipe) } : nil)).map(Terminal.warning)
            }
        }
        var configuration = TrainingConfiguration(
            method: recipe.method, recipe: recipe.name, model: model, data: data, teacher: teacher, batch: batch,
            accumulation: effective / batch, epochs: length,
            warmupEpochs: warmupEpochs ?? warmup(of: recipe, epochs: length, isNamed: isNamed),
            baseLearningRate: baseLearningRate ?? schedule?.baseLearningRate ?? recipe.baseLearningRate,
            minimumLearningRate: minimumLearningRate ?? recipe.minimumLearningRate,
            optimizer: adamW?.applied(to: recipe.optimizer) ?? recipe.optimizer,
            precision: precision,
            teacherPrecision: teacherPrecision, seed: seed,
            minimumCropArea: minimumCropArea ?? recipe.cropArea.lowerBound,
            maximumCropArea: maximumCropArea ?? recipe.cropArea.upperBound,
            reading: pictures.reading(stored: storedPictures?.reading),
            unreadableLimit: process.unreadableLimit ?? UnreadableLimit.standard,
            checkpointEvery: process.checkpointEvery ?? 0,
            keep: process.keep ?? 2)
        configuration.tensorboard = process.tensorboard == true ? true : nil
        if let groups { try Field.groups.requireAtLeast(1, groups) }
        let groups = groups ?? (resume == nil ? nil : stored?.groups) ?? Ranks.current.count
        configuration.groups = groups > 1 ? groups : nil
        configuration.exchange = exchange == .f32 ? nil : exchange
        configuration.classifier = classifier
        configuration.preprocessing = try preprocessing(
            channels: configuration.trainedEncoder.channels, from: prepared)
        configuration.shuffleWindow = shuffleWindow
        return configuration
    }

    /// Weights that a run starts from, with their preparation of pictures.
    struct PreparedWeights {
        let weights: ModelWeights
        /// What they are in the run: "teacher", "weights".
        let role: String
        /// Whether their filter and crop become the run's as well as their mean and deviation: those of a frozen encoder,
        /// which goes on seeing what it was made for.
        var isWhole = false
    }

    /// How the run's pictures become samples: as the command line says, else as in the run that is resumed, else as the
    /// weights say, else as MAE does it. Says so, unless it is quiet.
    private func preprocessing(channels: Int, from prepared: PreparedWeights?) throws -> Preprocessing {
        let options = self.preprocessing
        var preprocessing = Preprocessing.imageNet(channels: channels)
        if let stored = storedPictures {
            // Runs that do not state it prepared pictures as MAE does.
            return try options.applied(to: stored.preprocessing?.adapted(channels: channels) ?? preprocessing)
        }
        let stated = prepared?.weights.statedPreprocessing
        if let stated {
            let own = stated.preprocessing.adapted(channels: channels)
            if prepared!.isWhole { preprocessing = own } else { preprocessing.normalisation = own.normalisation }
            for note in stated.notes where prepared!.isWhole { Terminal.warning(note.text(in: Flags())) }
        }
        preprocessing = try options.applied(to: preprocessing)
        if !quiet, prepared != nil || !options.given.isEmpty {
            let source = stated.map { stated in
                let part = prepared!.isWhole ? "" : "mean and std "
                return stated.origin == PictureMetadata.itsTraining
                    ? "\(part)as in the training of the \(prepared!.role)"
                    : "\(part)of the \(prepared!.role), \(stated.origin)"
            }
            // Of a trained encoder only mean and deviation are taken.
            .flatMap { prepared!.isWhole || options.mean == nil || options.std == nil ? $0 : nil }
            // Training samples are random crops.
            let pixels = "\(preprocessing.normalisation), \(preprocessing.interpolation.rawValue)"
            let crop = prepared?.isWhole == true ? "\(preprocessing.crop)" : "in evaluations \(preprocessing.crop)"
            Terminal.note("pixels: \(pixels), \(crop) (\(options.origin(of: source)))")
        }
        return preprocessing
    }

    /// How the resumed run reads and prepares images; nil for a new run.
    private var storedPictures: PictureMetadata? { stored.flatMap { PictureMetadata($0) } }

    /// The configuration of the resumed run; nil for a new run.
    var stored: StoredConfiguration? {
        guard let resume else { return nil }
        guard resume == "auto" else { return StoredConfiguration(ofCheckpoint: resume) }
        return output.flatMap { StoredConfiguration(ofRunIn: $0) }
    }

    /// Whether this command goes on with a run that was begun: --resume auto begins one where there is none.
    var goesOn: Bool { stored != nil }

    /// What was chosen for few images, a sentence each.
    private func notes(on schedule: FittedSchedule, _ recipe: some TrainingRecipe, images: Int) -> [String] {
        var notes: [String] = []
        let length = epochs ?? recipe.epochs, batch = effectiveBatch ?? recipe.effectiveBatch
        var chosen: [(text: String, flag: String)] = []
        if schedule.effectiveBatch != batch {
            chosen.append(("effective batch \(schedule.effectiveBatch)", "--effective-batch"))
        }
        if schedule.epochs != length { chosen.append((Format.epochs(schedule.epochs), "--epochs")) }
        if !chosen.isEmpty {
            let before = Int(length * Double(images) / Double(batch))
            let others =
                before > 0
                ? "in place of \(Format.grouped(before))"
                : "where \(effectiveBatch == nil ? "the recipe's " : "")effective batches of \(Format.grouped(batch)) make none"
            notes.append(
                "for \(Format.counted(images, "image")): \(chosen.map(\.text).joined(separator: ", ")), "
                    + "\(Format.counted(schedule.steps, "optimiser step")) \(others) "
                    + "(\(chosen.map(\.flag).joined(separator: ", ")))")
        }
        if baseLearningRate == nil, schedule.baseLearningRate != recipe.baseLearningRate {
            notes.append(
                "base learning rate \(Format.shortest(schedule.baseLearningRate)) for an effective batch of "
                    + "\(schedule.effectiveBatch): its peak falls with the root of the batch (--base-learning-rate)")
        }
        return notes
    }

    /// A warning where the run has few steps, with the flags that make enough of them when they are added to this command
    /// line; nil for other runs.
    ///
    /// - Parameters:
    ///   - effective, length: the effective batch and the epochs of the run.
    private func fewSteps(
        _ effective: Int, _ length: Double, of recipe: some TrainingRecipe, isNamed: Bool, images: Int
    ) -> String? {
        let steps = length * Double(images) / Double(effective)
        guard images > 0, length > 0, steps < 1000 else { return nil }
        let better = recipe.sufficient(images: images, batch: batch, effectiveBatch: effective, epochs: length)
        let typedBatch = better.effectiveBatch == effective ? effectiveBatch : better.effectiveBatch
        let typedEpochs = better.epochs == length ? epochs : better.epochs
        var flags: [String] = [], made = better.steps
        if better.effectiveBatch != effective { flags.append("--effective-batch \(better.effectiveBatch)") }
        if better.epochs != length { flags.append("--epochs \(Format.shortest(better.epochs))") }
        if !isNamed {
            // What is still not given is chosen for these epochs.
            made =
                recipe.fitted(images: images, batch: batch, effectiveBatch: typedBatch, epochs: typedEpochs)?.steps
                ?? Int((typedEpochs ?? recipe.epochs) * Double(images) / Double(typedBatch ?? recipe.effectiveBatch))
        } else if baseLearningRate == nil, better.baseLearningRate != recipe.baseLearningRate {
            flags.append("--base-learning-rate \(Format.shortest(better.baseLearningRate))")
        }
        return
            "\(Format.counted(Int(steps), "optimiser step")) of \(Format.counted(images, "image")) are few: "
            + "\(flags.joined(separator: " ")) would make \(Format.grouped(made))"
    }

    /// A warning where a recipe that was named has the learning rate of another effective batch than was given; nil where
    /// it fits.
    private func rateWarning(_ schedule: FittedSchedule, _ recipe: some TrainingRecipe) -> String? {
        guard effectiveBatch != nil, baseLearningRate == nil, schedule.baseLearningRate != recipe.baseLearningRate
        else { return nil }
        return
            "the base learning rate of recipe \(recipe.name), \(Format.shortest(recipe.baseLearningRate)), is for its "
            + "effective batch of \(Format.grouped(recipe.effectiveBatch)): --base-learning-rate "
            + "\(Format.shortest(schedule.baseLearningRate)) would be for \(schedule.effectiveBatch), as the peak falls "
            + "with the root of the batch"
    }

    /// The recipe's warm-up, in proportion to the length of the run. Of a recipe that was named it is shortened only for a
    /// run that is shorter than it.
    private func warmup(of recipe: some TrainingRecipe, epochs length: Double, isNamed: Bool) -> Double {
        guard length > 0, length.isFinite, length != recipe.epochs, recipe.warmupEpochs > 0 else {
            return recipe.warmupEpochs
        }
        let own = Format.shortest(recipe.warmupEpochs)
        let proportional = recipe.warmupEpochs * length / recipe.epochs,
            text = Format.shortest((100 * proportional).rounded() / 100)
        if !isNamed {
            if !quiet {
                Terminal.note(
                    "warm-up of \(Format.epochs(proportional)), the share of the run that the recipe's \(own) are (--warmup-epochs)"
                )
            }
            return proportional
        }
        guard recipe.warmupEpochs > length else {
            if !quiet, length < recipe.epochs {
                Terminal.note(
                    "the warm-up stays the recipe's \(own) epochs; --warmup-epochs \(text) would keep its share")
            }
            return recipe.warmupEpochs
        }
        if !quiet {
            Terminal.note(
                "the recipe's warm-up of \(own) epochs is longer than the run: it is shortened to \(text), as "
                    + "--warmup-epochs would")
        }
        return proportional
    }

    /// Refuses paths that lead nowhere, before images are listed, which may take minutes; those of `given`, and the
    /// checkpoint of --resume.
    func requirePaths(_ given: [GivenPaths.Given]) throws {
        var given = given
        if let resume, resume != "auto" {
            var status = stat()
            if stat(resume, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
                throw Failure(
                    .usage,
                    "--resume \(quoted(path: resume)) is a folder: auto takes the newest checkpoint of --output, and "
                        + "`dmae resume \(Shell.word(resume))` goes on with the run in that folder without its flags")
            }
            given.append(("--resume", [resume]))
        }
        try GivenPaths.require(given)
    }

    /// Images that are learned, and those that then judge.
    struct Comparison {
        let learned, judged: GivenPaths.Given
        /// Such as "the accuracy".
        let measure: String
        /// Where both are among the sources of the trainer.
        let places: (learned: Int, judged: Int)
        /// Whether copies are left out of the figures, as k-NN does.
        let leavesOut: Bool

        /// A warning where both are the same, by their paths.
        var warning: String? { GivenPaths.sharedWarning(learned, judged, measure) }

        /// A warning where some of the images that judge are copies.
        func warning(of copied: CopiedImages) -> String? {
            GivenPaths.copies(copied, of: learned.flag, in: judged.flag).map {
                leavesOut && !copied.areAll
                    ? "\($0): left out of k-NN's figures"
                    : "\($0): \(GivenPaths.remembered(measure)); take them out of \(judged.flag) or of \(learned.flag)"
            }
        }
    }

    /// What the run learns and what it is judged by.
    private func comparisons(of trainer: Trainer) -> [Comparison] {
        let configuration = trainer.configuration, isClassifier = configuration.classifier != nil
        var given: [(learned: GivenPaths.Given, judged: GivenPaths.Given, measure: String)] = []
        if let validation = configuration.validation {
            given.append(
                (
                    (isClassifier ? "--train" : "--data", configuration.data.paths), ("--val", validation.paths),
                    isClassifier ? "the accuracy" : "the loss"
                ))
        }
        if let neighbors = configuration.neighbors {
            given.append(
                (
                    ("--knn-train", neighbors.train.paths), ("--knn-val", neighbors.validation.paths), "the accuracy"
                ))
        }
        return zip(given, trainer.comparisons).map {
            Comparison(
                learned: $0.learned, judged: $0.judged, measure: $0.measure, places: $1,
                leavesOut: $0.judged.flag == "--knn-val")
        }
    }

    /// The indexes of tar archives: those of the run's folder.
    func makeIndexes() -> ArchiveIndexes {
        let place = output.flatMap { dryRun || $0.isEmpty ? nil : ArchiveIndexes.Place.run($0) } ?? .userCache
        return ArchiveIndexes(place, isQuiet: quiet)
    }

    /// Runs the training, or prints its plan.
    ///
    /// - Parameters:
    ///   - images: the training images, where the caller has opened them.
    ///   - indexes: those that the caller has read; nil for none.
    func run(
        _ configuration: TrainingConfiguration, from weights: StartingWeights = StartingWeights(),
        images: ImageCollection? = nil, indexes: ArchiveIndexes? = nil
    ) throws {
        let indexes = indexes ?? makeIndexes()
        let ranks = Ranks.current
        try configuration.validate()
        try requireShares(of: configuration, among: ranks.count)
        // The file's other values came as flags.
        try config.map { try ConfigurationFile($0, for: configuration.method).requireFixedValues(of: configuration) }
        if printConfig {
            Terminal.release()
            print(String(decoding: try configuration.sortedJSON(indented: true), as: UTF8.self))
            return
        }
        // Not in validate(): a misspelt flag is reported first.
        guard dryRun || output?.isEmpty == false else {
            throw Failure(.usage, "--output is needed: name a folder for the run")
        }
        if let output, !goesOn, !dryRun { try Outputs.requireFolderName(output, "--output", of: "a run") }
        let images = try withDrawnPictures(of: configuration, images, indexes: indexes) ?? images
        let trainer = try Trainer(configuration, images: images, indexes: indexes)
        trainer.warnings.forEach(Terminal.warningOnce)
        if !goesOn { warning(onImagesOf: trainer).map(Terminal.warning) }
        // A run that goes on has said so at its start.
        let comparisons = comparisons(of: trainer), shared = comparisons.map(\.warning)
        if !goesOn { shared.compactMap { $0 }.forEach { Terminal.warning($0) } }
        // Where the paths say it, nobody needs to compare the images.
        let unshared = zip(comparisons, shared).filter { $1 == nil }.map(\.0)
        if !quiet { trainer.notes.forEach(Terminal.note) }
        if dryRun {
            if resume != nil, !quiet {
                Terminal.note("--dry-run reads no checkpoint: what follows is of the whole run, from its beginning")
            }
            Terminal.release()
            try ranks.meet({ facts(of: trainer) }, {})
            return try printPlan(of: trainer, from: weights, comparisons: unshared)
        }

        Signals.install()
        try ranks.meet(
            { facts(of: trainer) },
            {
                // The weights that the run starts from are open by now.
                try Outputs.check(RunDirectory.outputs(in: output!), force: true)
                if !goesOn { try Outputs.requireApart(output!, from: configuration.imagePaths) }
            })
        guard ranks.isFirst else { return try follow(trainer, from: weights) }
        // Lock the folder, or refuse it, before reading the teacher, which may take minutes.
        let directory = try ranks.lead { try RunDirectory(path: output!, resuming: resume != nil) }
        var hasTrained = false
        defer { directory.undoStart(hasTrained: hasTrained) }
        Terminal.release()
        if !quiet {
            Terminal.note(
                "run in \(directory.path): checkpoints and log.jsonl, at the end model.safetensors"
                    + (resume == nil ? " (--output)" : ""))
        }
        let others = directory.otherFiles
        if !others.isEmpty, !quiet {
            Terminal.note(
                "\(directory.path) holds other files, which stay as they are (\(firstNames(others)); files and folders: "
                    + "\(others.count)): a folder of its own keeps the run apart from them")
        }
        if directory.startsAgain, !quiet {
            Terminal.note("\(directory.path): an earlier run left no checkpoint: it starts again")
        }
        try trainer.shareMemory()
        try ranks.meet({ _ in trainer.preparedFacts }, { try prepare(trainer, from: weights) })
        try ranks.lead { try takeUp(trainer, in: directory) }
        if !quiet { Processes.note(configuration.accumulation, groups: configuration.groups ?? 1).map(Terminal.note) }
        indexes.save(in: directory.path)
        let progress =
            quiet
            ? nil
            : ProgressLine(
                totalSteps: trainer.totalSteps, terms: trainer.objective.lossTerms,
                batches: configuration.accumulation / ranks.count, batchImages: configuration.batch * ranks.count,
                remedy: process.workers < Threads.recommended ? "more --workers" : "smaller files")
        // What the check of images has named, decoding does not name again.
        var named: [String] = []
        let isChecked = !process.noCheck
        let message: (Message) -> Void = { sentence in
            // The check says it of the whole folder; decoding only of the images that it met.
            if isChecked, sentence.names(.background) { return }
            let text = sentence.text(in: Flags())
            guard !named.contains(where: text.hasPrefix) else { return }
            // The images of an evaluation may be met in training, too.
            for end in BatchLoader.endings where text.hasSuffix(end) { named.append(String(text.dropLast(end.count))) }
            if let progress { progress.message("warning: " + text) } else { Terminal.warning(text) }
        }
        let neighbors = trainer.neighbors
        neighbors?.foundCopies = { copied in
            // Where the paths say that all are copies, the warning is there already.
            guard let comparison = comparisons.first(where: \.leavesOut),
                !copied.areAll || unshared.contains(where: \.leavesOut)
            else { return }
            comparison.warning(of: copied).map { message("\($0)") }
        }
        let check =
            process.noCheck
            ? nil
            : ImageCheck(trainer.sources, comparing: unshared.map(\.places), in: directory) { $0.text(in: Flags()) }
        defer { check?.stop() }
        let note: (String) -> Void = { text in
            if let progress { progress.message(text) } else if !quiet { Terminal.note(text) }
        }
        let warn: (String) -> Void = { text in
            message("\(text)")
            named.append(text)
        }
        try ranks.lead {
            do {
                if let check { try start(check, of: trainer, comparisons: unshared, note: note, warn: warn) }
            } catch { throw Self.advised(error, onRunIn: directory) }
            if !quiet, trainer.step == 0 { try sayBaselines(of: trainer, note: note) }
            if let signal = try ranks.ask(Signals.requested) {
                throw Failure(.interrupted, "stopped by \(signal) before the first step; the same command starts it")
            }
            // After the check: until then the folder holds no run, and the same command starts one when images are repaired.
            try directory.writeConfiguration(configuration)
            try directory.writeStatus(.running(step: trainer.step))
            directory.record(RunStart(after: trainer.step, workers: process.workers), report: message)
        }
        let first = (step: trainer.step, time: monotonicSeconds())
        let outcome: Trainer.Outcome
        var refusal: Failure?
        hasTrained = true
        Signals.trainingBegins()
        do {
            outcome = try trainer.run(in: directory, workers: process.workers, progress: progress, message: message) {
                do {
                    if let found = try check?.finished() {
                        try report(found.headers, of: trainer, note: note, warn: warn)
                        // The evaluation may have said it before.
                        let isKnown = neighbors?.copied != nil
                        Self.report(found.copies, comparisons: unshared) { if !$0.leavesOut || !isKnown { warn($1) } }
                        Self.leaveOut(found.copies, comparisons: unshared, of: neighbors)
                    }
                } catch {
                    refusal = error as? Failure ?? Failure(.failure, "\(error)")
                    return "the check of the images"
                }
                return Signals.requested
            }
            if let refusal { throw refusal }
        } catch {
            progress?.finish()
            let error = Self.advised(error, onRunIn: directory)
            let reason = ranks.describe(error).text
            // Another process is gone, and nothing is wrong with the run.
            let isResumable =
                error is Ranks.LostPeer && (try? RunDirectory.hasCheckpoints(in: directory.path)) == true
            // The failure itself matters more than that it cannot be noted, on a full disk for example.
            try? directory.writeStatus(
                RunStatus(isResumable ? .resumable : .failed, reason: reason, step: trainer.step))
            throw error
        }
        progress?.finish()
        switch outcome {
        case .finished(let weights):
            try directory.writeStatus(
                RunStatus(.finished, reason: "all \(trainer.totalSteps) steps are done", step: trainer.step))
            let terms = trainer.objective.lossTerms
            let summary = try RunSummary(log: directory.logPath, terms: terms)
            if summary.unreadableLines > 0 {
                Terminal.warning(
                    "\(directory.logPath): damaged lines are left out of the table (lines: \(summary.unreadableLines))")
            }
            print(Self.table(summary, terms: terms))
            if let first = summary.rows.first?.losses[0], let last = summary.rows.last?.losses[0],
                trainer.totalSteps >= 100,
                last > first
            {
                Terminal.warning(
                    "the loss is higher at the end (\(Format.fixed(last, 3))) than at the beginning (\(Format.fixed(first, 3))): the "
                        + "weights have learned nothing; try a lower --base-learning-rate (a third, a tenth)")
            }
            if !trainer.evaluations.isEmpty {
                print(
                    "\n"
                        + Self.evaluationTable(
                            summary, terms: trainer.evaluations.flatMap(\.terms), best: trainer.bestEvaluation?.epoch))
            }
            if configuration.probeAugmentation == ProbeAugmentation.none {
                print("features  computed once, without augmentation")
            }
            print("weights  \(escaped(weights))")
            if let best = trainer.bestEvaluation {
                print(
                    "best     \(escaped(directory.bestWeightsPath)), \(best.value.term.name) \(best.value.text) at epoch "
                        + Format.fixed(best.epoch, 1))
            }
            warnAboutChance(trainer)
            if first.step < trainer.step {
                let time = Format.duration(monotonicSeconds() - first.time)
                print("time     \(time)\(first.step > 0 ? ", from step \(first.step) on" : "")")
            }
            let labelled = trainer.neighbors?.trainImages
            for (word, command) in configuration.nextCommands(run: directory.path, labelled: labelled) {
                print("\(word)\(String(repeating: " ", count: 9 - word.count))\(command)")
            }
        case .interrupted(let signal, let checkpoint):
            try directory.writeStatus(RunStatus(.resumable, reason: "stopped by \(signal)", step: trainer.step))
            throw Failure(
                .interrupted,
                "stopped by \(signal) at step \(trainer.step) of \(trainer.totalSteps); "
                    + "`dmae resume \(Shell.word(directory.path))` continues from \(checkpoint)")
        }
    }

    /// The images of a run that an earlier version began with pictures that dmae drew among them; nil for other runs.
    private func withDrawnPictures(
        of configuration: TrainingConfiguration, _ images: ImageCollection?, indexes: ArchiveIndexes
    ) throws -> ImageCollection? {
        guard !dryRun, resume != nil, let output, let count = try? RunDirectory.imageCount(in: output) else {
            return nil
        }
        func open(_ keepsDrawn: Bool) throws -> ImageCollection {
            try ImageCollection(
                configuration.data, usesLabels: configuration.classifier != nil, indexes: indexes,
                keepsDrawn: keepsDrawn)
        }
        guard try (images ?? open(false)).count < count else { return nil }
        let all = try open(true)
        return all.count == count ? all : nil
    }

    /// What must be the same in all processes before the first step.
    private func facts(of trainer: Trainer) -> [Ranks.Fact] {
        trainer.facts(program: Processes.program, instructionSetMatters: !process.allowMixedIsa) {
            $0.text(in: Flags())
        }
    }

    /// The part of a process that is not process 0: its micro-batches, and what process 0 orders.
    private func follow(_ trainer: Trainer, from weights: StartingWeights) throws {
        let ranks = Ranks.current
        // The folder of the run.
        try ranks.serve()
        try trainer.shareMemory()
        try ranks.meet({ _ in trainer.preparedFacts }, { try prepare(trainer, from: weights) })
        // A checkpoint that the run is resumed from, and the check of the images.
        try trainer.serve()
        try trainer.serve()
        // From here on what this process says is its own.
        Terminal.isMuted = false
        Signals.trainingBegins()
        try trainer.follow(workers: process.workers) { Terminal.warning($0) }
    }

    /// Requires that every process has as many groups of a step as the others.
    private func requireShares(of configuration: TrainingConfiguration, among count: Int) throws {
        guard count > 1 else { return }
        let groups = configuration.groups ?? 1
        guard resume == nil || groups > 1 || stored == nil else {
            throw Failure(
                .usage,
                "the run was begun by one process, without groups that \(count) processes could share: go on with one process, "
                    + "or start a new run with \(.groups, count)")
        }
        guard count & (count - 1) == 0, groups % count == 0 else {
            var nearest = 1
            while 2 * nearest <= min(count, groups) { nearest *= 2 }
            throw Failure(
                .usage,
                "\(count) processes cannot share \(Format.counted(groups, "group")) of a step evenly: start \(nearest) of them"
                    + (count & (count - 1) == 0 ? ", or choose \(.groups, count)" : ""))
        }
    }

    /// `error`, with another remedy where too many images cannot be read and the run has a checkpoint: it goes on with the
    /// same list of images only, so that none may be removed.
    ///
    /// A file that cannot be written or read, on a full disk for example, ends a run that can go on.
    private static func advised(_ error: any Error, onRunIn directory: RunDirectory) -> any Error {
        guard let failure = error as? Failure, (try? RunDirectory.hasCheckpoints(in: directory.path)) == true
        else { return error }
        let resume = "dmae resume \(Shell.word(directory.path))"
        guard let unreadable = failure.unreadable else {
            guard failure.code == .inputOutput, !failure.sentence.names(.resume) else { return error }
            return Failure(failure.code, "\(failure.sentence); then `\(resume)` continues from the newest checkpoint")
        }
        let limit = Format.shortest(UnreadableLimit.sufficient(for: unreadable.count, of: unreadable.total))
        return Failure(
            failure.code,
            "\(unreadable.reason); repair them, or put others in their place under the same names, and `\(resume)` goes on; so does "
                + "`\(resume) --unreadable-limit \(limit)` with the images as they are; remove none, as a run that was "
                + "begun needs the same list of images")
    }

    /// Says what the figures of k-NN during the run are to be compared with: without that nobody can read them.
    private func sayBaselines(of trainer: Trainer, note: (String) -> Void) throws {
        guard let neighbors = trainer.neighbors,
            let baselines = try neighbors.baselines(
                workers: process.workers,
                isInterrupted: {
                    // A process that is lost is noticed by what follows.
                    (try? Ranks.current.askAtTimes(Signals.requested)) ?? Signals.requested != nil
                })
        else { return }
        func percent(_ fraction: Double) -> String { "\(Format.fixed(100 * fraction, 1)) %" }
        let start = trainer.configuration.weights == nil ? "random weights" : "the weights it starts from"
        note(
            "k-NN for comparison (top-1, k = \(baselines.weights.k)): \(percent(baselines.weights.top1)) by the student "
                + "before its first step, \(start); \(percent(baselines.pixels.top1)) by raw pixels; "
                + "\(percent(baselines.chance)) by always guessing the most frequent class "
                + "(\(Format.grouped(baselines.trainImages)) training and "
                + "\(Format.grouped(baselines.validationImages)) validation images)")
    }

    /// Warns where the best weights of a classifier are hardly better than a guess.
    private func warnAboutChance(_ trainer: Trainer) {
        guard let best = trainer.bestEvaluation, let classifier = trainer.configuration.classifier,
            let validation = trainer.evaluations.lazy.compactMap(\.rankingImages).first
        else { return }
        var counts = [Int](repeating: 0, count: classifier.classes)
        for image in 0..<validation.count { if let label = validation.label(image) { counts[label] += 1 } }
        let images = Double(max(1, validation.count)), chance = Double(counts.max() ?? 0) / images
        // Two standard errors of the fraction that a guess would have.
        guard best.value.value < chance + 2 * (chance * (1 - chance) / images).squareRoot() else { return }
        let isProbe = trainer.configuration.method == .probe
        Terminal.warning(
            "a \(best.value.term.name) of \(best.value.text) is hardly more than that of always predicting one class, "
                + "\(best.value.term.text(chance)): try another --base-learning-rate (3 times, a third), more --epochs or more "
                + "images; `dmae knn` says what the features of \(isProbe ? "these" : "the starting") weights are worth"
        )
    }

    /// A warning where a run has so few images that little can come of it; nil for others.
    private func warning(onImagesOf trainer: Trainer) -> String? {
        let count = trainer.source.count, images = Format.counted(count, "image")
        guard let classifier = trainer.configuration.classifier else {
            guard count < Self.fewestImages else { return nil }
            let weights =
                trainer.configuration.weights == nil ? ", or start from pre-trained weights (--init-student)" : ""
            return
                "\(images): a masked autoencoder learns from thousands, and of so few it learns little but themselves; add "
                + "images to --data\(weights)"
        }
        guard count < Self.fewestOfClass * classifier.classes else { return nil }
        return
            "\(images) of \(classifier.classes) classes: with fewer than \(Self.fewestOfClass) of "
            + "each, what comes out depends on which ones they are; add images to --train"
    }

    /// Images of the largest batch, and of the largest effective one.
    private static let largestBatch = 1 << 30

    /// Images below which a masked autoencoder, and images of each class below which a classifier, get a warning.
    private static let fewestImages = 100, fewestOfClass = 10

    /// Checks the headers of all images, or starts to if there are many, unless that was done before.
    private func start(
        _ check: ImageCheck, of trainer: Trainer, comparisons: [Comparison], note: (String) -> Void,
        warn: (String) -> Void
    ) throws {
        let total = trainer.sources.reduce(0) { $0 + $1.count }
        if let remembered = check.remembered() {
            // Of copies the start of the run has told.
            try report(remembered.headers, of: trainer, note: note, warn: warn)
            Self.leaveOut(remembered.copies, comparisons: comparisons, of: trainer.neighbors)
            // An earlier version counted them, which the log cannot tell.
            Self.report(remembered.copies, comparisons: comparisons.filter(\.leavesOut)) { warn($1) }
        } else if total > ImageCheck.mostBefore {
            note(
                "the headers of \(Format.grouped(total)) images are read beside the first steps; --no-check leaves that out"
            )
            try check.start()
        } else {
            let progress = ImageProgress(total: total, isQuiet: quiet)
            let found = try check.run(workers: Threads.recommended) { done in
                if let signal = try Ranks.current.askAtTimes(Signals.requested) {
                    throw Failure(
                        .interrupted, "stopped by \(signal) before the first step; the same command starts it")
                }
                progress.update(done)
            }
            try report(found.headers, of: trainer, note: note, warn: warn)
            Self.report(found.copies, comparisons: comparisons) { warn($1) }
            Self.leaveOut(found.copies, comparisons: comparisons, of: trainer.neighbors)
        }
    }

    /// Tells k-NN which of its images are copies.
    private static func leaveOut(_ copies: [CopiedImages], comparisons: [Comparison], of neighbors: PeriodicNeighbors?)
    {
        for (copied, comparison) in zip(copies, comparisons) where comparison.leavesOut { neighbors?.leaveOut(copied) }
    }

    /// Warns of images that judge and are copies of those that are learned.
    static func report(_ copies: [CopiedImages], comparisons: [Comparison], warn: (Comparison, String) -> Void) {
        for (copied, comparison) in zip(copies, comparisons) {
            comparison.warning(of: copied).map { warn(comparison, $0) }
        }
    }

    /// Says what the check of headers found. Throws `Failure.badData` if more images of a source than allowed cannot be
    /// decoded.
    func report(
        _ headers: [ImageHeaders], of trainer: Trainer, note: (String) -> Void, warn: (String) -> Void
    ) throws {
        let limit = trainer.configuration.unreadableLimit
        // The same images may be those of several evaluations.
        var said: Set<String> = []
        for (headers, source) in zip(headers, trainer.sources) {
            let place = source.place.map { " in \($0)" } ?? ""
            if !headers.formats.isEmpty {
                let text =
                    "checked\(place): \(headers.formatsText)\(Self.alpha(headers, trainer.configuration.reading))"
                if said.insert(text).inserted { note(text) }
            }
            let undecodable = headers.undecodable
            for image in undecodable.prefix(3) where said.insert(image.reason).inserted { warn(image.reason) }
            if undecodable.count > 3 {
                warn("\(Format.grouped(undecodable.count - 3)) more images\(place) cannot be decoded")
            }
            guard headers.exceeds(limit) || undecodable.count == headers.images else { continue }
            throw UnreadableLimit.failure(
                "\(Format.grouped(undecodable.count)) of the \(Format.grouped(headers.images)) images\(place) cannot be "
                    + "decoded, more than the allowed fraction of \(limit)", undecodable.count, of: headers.images)
        }
    }

    /// What becomes of the alpha channels that the headers tell of.
    private static func alpha(_ headers: ImageHeaders, _ reading: PictureReading) -> String {
        guard headers.withAlpha > 0 else { return "" }
        let have =
            "; \(Format.grouped(headers.withAlpha)) of them \(headers.withAlpha == 1 ? "has" : "have") an alpha channel"
        return reading.background == .none
            ? "\(have), which is dropped (--background)"
            : "\(have): transparent pixels are composited over \(reading.background) (--background)"
    }

    /// Maps the memory, sets the starting weights, and says which tensors of the files were used.
    func prepare(_ trainer: Trainer, from weights: StartingWeights) throws {
        let together = trainer.machineMemory
        let bytes = together?.bytes ?? trainer.plannedBytes
        if let available = together.map(\.available) ?? MemoryLimits.available, bytes > available {
            let takers =
                if let together, together.processes > 1 {
                    "the \(together.processes) processes of this machine take"
                } else {
                    "the run takes"
                }
            Terminal.warning(
                "\(takers) \(Format.bytes(bytes)) of memory, but the machine has "
                    + "\(Format.bytes(available)) left: end other programs\(Flags.resumedRun == nil ? ", or lower --batch or --image-size" : ""), or the "
                    + "system will end a program")
        }
        if let unshared = together?.unshared, !quiet {
            Terminal.note(
                "each of the \(unshared.processes) processes on the machine \(visible(unshared.machine)) has its own copy of "
                    + "the teacher's packed weights, \(Format.bytes(trainer.plan.shareableBytes)), as \(unshared.why.reason): "
                    + unshared.why.remedy)
        }
        let preparation = try trainer.prepare(
            teacher: weights.teacher, initial: weights.initial, isOptional: weights.isOptional,
            isIgnored: weights.isIgnored)
        guard !quiet else { return }
        if let loading = preparation.frozen, let parameters = trainer.frozenParameters {
            let (role, path) =
                trainer.configuration.teacher.map { ("teacher", $0) }
                ?? ("encoder", trainer.configuration.weights!)
            Terminal.note(Self.text(loading, role, of: path, into: parameters))
        }
        if let loading = preparation.initial {
            let isStudent = trainer.configuration.model != nil
            Terminal.note(
                Self.text(
                    loading, isStudent ? "student" : "initial weights", of: trainer.configuration.weights!,
                    into: trainer.objective.parameters, listsParts: isStudent))
        }
    }

    /// The tensors of a file that were used and those that were not, as a sentence for a person.
    ///
    /// - Parameter listsParts: whether to name the parts that were used, and those that begin at random.
    private static func text(
        _ loading: Parameters.Loading, _ role: String, of path: String, into parameters: Parameters,
        listsParts: Bool = false
    ) -> String {
        let matching = loading.matching
        let used = parameters.all.count - matching.missing.count
        var text = "\(role): \(used) tensors used of \(path)"
        var missing = matching.missing, random: [ModelPart] = []
        if listsParts {
            func part(_ name: String) -> ModelPart? { ModelLayout.isPositionTable(name) ? nil : ModelPart(of: name) }
            let lacking = Set(missing)
            let taken = Set(parameters.all.lazy.map(\.name).filter { !lacking.contains($0) }.compactMap(part))
            text += " (\(ModelPart.allCases.filter(taken.contains).map(\.description).joined(separator: ", ")))"
            random = [.decoder, .projectionHeads].filter { random in missing.contains { part($0) == random } }
            missing.removeAll { name in ModelPart(of: name).map(random.contains) ?? false }
        }
        if !missing.isEmpty { text += "; \(missing.count) not in the file, initialised anew (\(names(missing)))" }
        if !random.isEmpty { text += "; random: \(random.map(\.description).joined(separator: ", "))" }
        for adaptation in loading.adaptations { text += "; \(adaptation)" }
        // Distillation runs the embedding and the blocks up to the last aligned one; a classifier has no decoder.
        func unneededPart(_ name: String) -> ModelPart? { ModelPart(of: name).flatMap { $0 == .embedding ? nil : $0 } }
        let unneeded = matching.unexpected.compactMap(unneededPart)
        let unexpected = matching.unexpected.filter { unneededPart($0) == nil }
        if !unneeded.isEmpty {
            let parts = ModelPart.allCases.filter(unneeded.contains)
            let words = parts.map { $0 == .blocks ? "blocks after the last aligned one" : "\($0)" }
            text += "; \(unneeded.count) not needed (\(words.joined(separator: ", ")))"
        }
        if !unexpected.isEmpty { text += "; \(unexpected.count) unexpected (\(names(unexpected)))" }
        return text
    }

    private static func names(_ names: [String]) -> String {
        names.prefix(3).joined(separator: ", ") + (names.count > 3 ? ", …" : "")
    }

    /// Restores the checkpoint that --resume asks for.
    private func takeUp(_ trainer: Trainer, in directory: RunDirectory) throws {
        guard let resume else { return }
        let store = CheckpointStore(directory: directory.path, keep: trainer.configuration.keep)
        let checkpoint =
            resume == "auto" ? try store.newestValid(report: Terminal.warning) : try CheckpointStore.open(resume)
        guard let checkpoint else {
            try directory.requireNothingToLose()
            if !quiet { Terminal.note("no checkpoint in \(directory.path): starting from the beginning") }
            return
        }
        try trainer.restore(checkpoint)
        if let former = trainer.otherInstructionSet {
            let present = InstructionSet.selected.name
            let remedy =
                InstructionSet(named: former)?.runs == true
                ? "DMAE_ISA=\(former) keeps them" : "resume on a processor with \(visible(former)) to keep them"
            Terminal.warning(
                "the run was computed with \(former) so far and goes on with \(present): its bits will differ from those "
                    + "of a run with one instruction set; \(remedy)")
        }
        let aside = try trainer.takeOver(store)
        if let newest = aside.last {
            Terminal.warning(
                "the run continues from step \(checkpoint.step); set aside \(aside.count) of its later checkpoints, up "
                    + "to "
                    + "\(quoted(path: newest)): remove them, or name one to \(Flags().name(.resume))")
        }
        if !quiet {
            Terminal.note("continuing from \(checkpoint.file.path), step \(trainer.step) of \(trainer.totalSteps)")
        }
    }

    /// The loss curve as an aligned table.
    private static func table(_ summary: RunSummary, terms: [LossTerm]) -> String {
        let names = terms.flatMap(\.valueNames)
        // A total of one term is that term.
        let shown = names.count == 2 && summary.rows.allSatisfy { $0.losses[0] == $0.losses[1] } ? 1 : names.count
        var rows = [["step", "epoch"] + names.prefix(shown) + ["images/s"]]
        for row in summary.rows {
            rows.append(
                ["\(row.step)", Format.fixed(row.epoch, 1)] + row.losses.prefix(shown).map { Format.fixed($0, 5) }
                    + [Format.fixed(row.imagesPerSecond, 1)])
        }
        return Format.table(rows)
    }

    /// The evaluations as an aligned table: about twelve, evenly spaced, the best and the last one among them.
    ///
    /// - Parameter best: the epoch of the best weights, whose row is always shown.
    private static func evaluationTable(_ summary: RunSummary, terms: [EvaluationTerm], best: Double?) -> String {
        let all = summary.evaluations
        let shownTerms = terms.filter(\.isShown)
        func spread(_ indices: [Int], _ count: Int) -> [Int] {
            let count = min(count, indices.count)
            return count < 1 ? [] : (1...count).map { indices[$0 * indices.count / count - 1] }
        }
        // Rows with every value come first: some evaluations are rarer than others.
        let whole = all.indices.filter { all[$0].values.count == terms.count }
        var rows = Set(spread(whole, 12))
        rows.formUnion(spread(all.indices.filter { !rows.contains($0) }, 12 - rows.count))
        rows.formUnion(all.indices.filter { all[$0].epoch == best || $0 == all.count - 1 })
        let shown = rows.sorted().map { all[$0] }
        return Format.table(
            [["step", "epoch"] + shownTerms.map(\.name)]
                + shown.map { row in
                    ["\(row.step)", Format.fixed(row.epoch, 1)]
                        + shownTerms.map { term in row.values[term.key].map(term.text) ?? "" }
                })
    }
}
