import ArgumentParser
import Images
import Training

/// Evaluations while a masked autoencoder trains, for `dmae distill` and `dmae pretrain`.
struct EvaluationOptions: ParsableArguments {
    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Validation images: their losses, under fixed masks, after each epoch.", valueName: "folder|tar|list"),
        completion: .file())
    var val: [String] = []

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Images with classes, for k-NN with the student as it is; see `dmae knn`.", valueName: "folder|tar|list"),
        completion: .file())
    var knnTrain: [String] = []

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Images that k-NN classifies, with the same classes.", valueName: "folder|tar|list"),
        completion: .file())
    var knnVal: [String] = []

    @Option(help: ArgumentHelp("Epochs between two k-NN evaluations. Default: 10.", valueName: "epochs"))
    var knnEvery: Double?

    func validate() throws {
        for (paths, flag) in [(val, "--val"), (knnTrain, "--knn-train"), (knnVal, "--knn-val")] where !paths.isEmpty {
            try ValidationError.requirePlaces(paths, flag)
        }
        if knnTrain.isEmpty != knnVal.isEmpty {
            throw ValidationError("--knn-train and --knn-val belong together: give both, or neither")
        }
        if knnEvery != nil, knnTrain.isEmpty {
            throw ValidationError("--knn-every is for k-NN: give --knn-train and --knn-val, too")
        }
    }

    /// The paths of this command line.
    var paths: [GivenPaths.Given] { [("--val", val), ("--knn-train", knnTrain), ("--knn-val", knnVal)] }

    /// Adds the evaluations to a run.
    func apply(to configuration: inout TrainingConfiguration) throws {
        configuration.validation = .optional(val)
        configuration.evaluateEvery = val.isEmpty ? nil : 1
        configuration.neighbors = neighbors()
        try configuration.validate()
    }

    /// The k-NN of this command line; nil without one.
    ///
    /// - Parameter every: epochs between two evaluations if it does not say; nil for the default.
    func neighbors(every: Double? = nil) -> NeighborSettings? {
        guard let train = ImagePlaces.optional(knnTrain), let validation = ImagePlaces.optional(knnVal) else {
            return nil
        }
        return NeighborSettings(train: train, validation: validation, everyEpochs: knnEvery ?? every ?? 10)
    }
}
