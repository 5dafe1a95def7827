import ArgumentParser
import Training

/// Evaluations while a masked autoencoder trains, for `dmae distill` and `dmae pretrain`.
struct EvaluationOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Folder of validation images: their losses, under fixed masks, after each epoch.", valueName: "folder"),
        completion: .directory)
    var val: String?

    @Option(
        help: ArgumentHelp(
            "Folder of images, one folder per class, for k-NN with the student as it is; see `dmae knn`.",
            valueName: "folder"),
        completion: .directory)
    var knnTrain: String?

    @Option(
        help: ArgumentHelp("Folder of images that k-NN classifies, with the same class folders.", valueName: "folder"),
        completion: .directory)
    var knnVal: String?

    @Option(help: ArgumentHelp("Epochs between two k-NN evaluations. Default: 10.", valueName: "epochs"))
    var knnEvery: Double?

    func validate() throws {
        if (knnTrain == nil) != (knnVal == nil) {
            throw ValidationError("--knn-train and --knn-val belong together: give both, or neither")
        }
        if knnEvery != nil, knnTrain == nil {
            throw ValidationError("--knn-every is for k-NN: give --knn-train and --knn-val, too")
        }
    }

    /// Adds the evaluations to a run.
    func apply(to configuration: inout TrainingConfiguration) throws {
        configuration.validation = val
        configuration.evaluateEvery = val == nil ? nil : 1
        if let knnTrain, let knnVal {
            configuration.neighbors = NeighborSettings(
                train: knnTrain, validation: knnVal, everyEpochs: knnEvery ?? 10)
        }
        try configuration.validate()
    }
}
