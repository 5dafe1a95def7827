import ArgumentParser
import Glibc
import Images
import Reporting
import Training

struct Resume: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Go on with a run from its folder, without its flags.",
        discussion: """
            Everything that decides the result is taken from configuration.json in the run's folder, whichever command \
            started it; the newest whole checkpoint says where to go on. The result has the same bytes as that of a run \
            without interruption.

              dmae resume run
              dmae resume run --workers 4 --checkpoint-every 500

            What may change can be given: where files are, how and when results are stored and evaluated, and how many \
            threads work. Paths without a flag are those of the first start, seen from the present folder.

            For a run that has finished, the command says what more epochs would be, and prints the command of a new run \
            that starts from its weights.
            """)

    @Argument(help: ArgumentHelp("Folder of the run.", valueName: "folder"), completion: .directory)
    var folder: String

    @Option(
        help: ArgumentHelp("Go on from this checkpoint, not from the newest.", valueName: "file"), completion: .file())
    var checkpoint: String?

    @Option(
        name: [.customLong("data"), .customLong("train")], parsing: .upToNextOption,
        help: ArgumentHelp("The training images, where they have been moved.", valueName: "folder|tar|list"),
        completion: .file())
    var data: [String] = []

    @Option(
        help: ArgumentHelp("The teacher's weights, where they have been moved.", valueName: "file"),
        completion: .file())
    var teacher: String?

    @Option(
        help: ArgumentHelp("The weights that the run started from, where they have been moved.", valueName: "file"),
        completion: .file())
    var weights: String?

    @OptionGroup var process: ProcessOptions
    @OptionGroup(title: "Evaluation") var evaluation: EvaluationOptions
    @OptionGroup(title: "Compute") var compute: ComputeOptions

    func validate() throws {
        guard !folder.isEmpty else { throw ValidationError("name the folder of a run") }
    }

    func run() throws {
        Flags.resumedRun = folder
        try compute.apply()
        var folder = folder
        while folder.count > 1, folder.hasSuffix("/") { folder.removeLast() }
        var configuration = try RunDirectory.configuration(in: folder)
        if checkpoint == nil, let finished = try RunDirectory.finished(configuration, in: folder) {
            try RunDirectory.correctStatus(of: finished, in: folder)
            return report(finished, of: configuration, in: folder)
        }
        Signals.endBeforeTheRun()
        try change(&configuration)
        try requirePaths(of: configuration)
        if let checkpoint { try GivenPaths.require([("--checkpoint", [checkpoint])]) }
        var training = try TrainingOptions.parse([])
        (training.output, training.resume, training.process) = (folder, checkpoint ?? "auto", process)
        let indexes = training.makeIndexes()
        let classes =
            configuration.method == .finetune ? try ImageCollection(configuration.data, indexes: indexes).classes : []
        let isBegun = try checkpoint != nil || RunDirectory.hasCheckpoints(in: folder)
        let starting = try StartingWeights(of: configuration, classes: classes, isBegun: isBegun)
        if !process.quiet, let teacher = starting.teacher { Terminal.note(teacher.summary) }
        try training.run(configuration, from: starting, indexes: indexes)
    }

    /// Sets the values that this command line gives.
    private func change(_ configuration: inout TrainingConfiguration) throws {
        let method = configuration.method
        func require(_ condition: Bool, _ flag: String, _ reason: String) throws {
            guard condition else {
                throw Failure(.usage, "\(flag) is not for a run of `dmae \(method.rawValue)`, \(reason): leave it out")
            }
        }
        if !data.isEmpty {
            try ValidationError.requirePlaces(data, "--data")
            configuration.data = ImagePlaces(data)
        }
        if let teacher {
            try require(configuration.teacher != nil, "--teacher", "which has no teacher")
            (configuration.teacher, configuration.teacherPrefix) = (teacher, nil)
        }
        if let weights {
            try require(configuration.weights != nil, "--weights", "which did not start from weights")
            (configuration.weights, configuration.prefix) = (weights, nil)
        }
        if !evaluation.val.isEmpty {
            configuration.validation = ImagePlaces(evaluation.val)
            configuration.evaluateEvery = configuration.evaluateEvery ?? 1
        }
        if let neighbors = evaluation.neighbors(every: configuration.neighbors?.everyEpochs) {
            try require(configuration.model != nil, "--knn-train", "which is evaluated by its own classifier")
            configuration.neighbors = neighbors
        }
        configuration.unreadableLimit = process.unreadableLimit ?? configuration.unreadableLimit
        configuration.checkpointEvery = process.checkpointEvery ?? configuration.checkpointEvery
        configuration.keep = process.keep ?? configuration.keep
        if let tensorboard = process.tensorboard { configuration.tensorboard = tensorboard ? true : nil }
    }

    /// Refuses paths of the configuration that lead nowhere from the present folder, all in one sentence.
    private func requirePaths(of configuration: TrainingConfiguration) throws {
        let places: [(paths: [String], flag: String)] = [
            (configuration.data.paths, "--data"), (configuration.validation?.paths ?? [], "--val"),
            (configuration.neighbors?.train.paths ?? [], "--knn-train"),
            (configuration.neighbors?.validation.paths ?? [], "--knn-val"),
            (configuration.teacher.map { [$0] } ?? [], "--teacher"),
            (configuration.method == .probe ? [configuration.weights!] : [], "--weights"),
        ]
        var missing: [(path: String, flag: String)] = []
        for (paths, flag) in places {
            // Braces stand for several names.
            for path in paths where !path.contains("{") && access(path, F_OK) != 0 { missing.append((path, flag)) }
        }
        guard let first = missing.first else { return }
        let isRelative = missing.allSatisfy { !$0.path.hasPrefix("/") }, isOne = missing.count == 1
        let names = missing.map { quoted(path: $0.path) + (isOne ? "" : " (\($0.flag))") }
        let place = isRelative ? "in this folder: go to the folder that the run was started in, or say" : "there: say"
        let (verb, rest) = isOne ? ("is", "it is with \(first.flag)") : ("are", "they are with these flags")
        throw Failure(
            .inputOutput,
            "\(names.joined(separator: ", ")), which the run names, \(verb) not \(place) where \(rest)")
    }

    /// The command of a run like that of `configuration` in `folder`, that starts from its weights.
    private static func command(of configuration: TrainingConfiguration, in folder: String, from weights: String)
        -> String
    {
        var number = 2
        while access("\(folder)-\(number)", F_OK) == 0 { number += 1 }
        let output = "\(folder)-\(number)"
        var words = ["dmae", configuration.method.rawValue, "--config", "\(folder)/configuration.json"]
        switch configuration.method {
        case .distill, .pretrain: words += ["--init-student", weights]
        case .finetune: words += ["--weights", weights]
        // The head follows a BatchNorm: a probe cannot start from one.
        case .probe: break
        }
        words += [
            "--epochs", Format.shortest(configuration.epochs), "--warmup-epochs",
            Format.shortest(configuration.warmupEpochs), "--output", output,
        ]
        return words.map(Shell.word).joined(separator: " ")
    }

    /// Says what is left of a run that has finished: a new one.
    private func report(
        _ finished: RunDirectory.Finished, of configuration: TrainingConfiguration, in folder: String
    ) {
        let epochs = Format.epochs(configuration.epochs)
        let done =
            finished.steps.map { "all \(Format.grouped($0)) steps of its \(epochs) are done" }
            ?? "its \(epochs) are done, and it holds no checkpoint"
        let weights = "\(folder)/model.safetensors"
        Terminal.note(
            "\(folder) has finished: \(done), and its weights are \(weights). The learning rate has come down to "
                + "\(Format.shortest(configuration.minimumLearningRate)), so more epochs are a new run, with a warm-up and a "
                + "decay of its own, that starts \(configuration.method == .probe ? "anew" : "from these weights") (the warm-up must not be "
                + "longer than the run):")
        print(Self.command(of: configuration, in: folder, from: weights))
    }
}
