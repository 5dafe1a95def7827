import ArgumentParser
import Interchange
import Models

/// Weights that the student of `dmae distill` and `dmae pretrain` starts from.
struct InitialStudentOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Weights that the student starts from; `dmae convert --help` lists the formats. Default: random ones.",
            valueName: "file"),
        completion: .file())
    var initStudent: String?

    @Option(
        help: ArgumentHelp(
            "The words before the student's names in that file, if there are several models. Default: chosen and said.",
            valueName: "prefix"))
    var studentPrefix: String?

    func validate() throws {
        guard initStudent != nil || studentPrefix == nil else {
            throw ValidationError("--student-prefix chooses a model in the file of --init-student: leave it out")
        }
    }

    /// The weights; nil without any. Says what they are, unless `isQuiet`.
    ///
    /// - Throws: the failures of `ModelWeights.init`; `Failure.badData` for a model that is no MAE's ViT.
    func weights(isQuiet: Bool) throws -> ModelWeights? {
        guard let initStudent else { return nil }
        let weights = try ModelWeights(path: initStudent, prefix: studentPrefix)
        if !isQuiet { Terminal.note(weights.summary) }
        try weights.requireKnownParts()
        try weights.requireReadable()
        return weights
    }
}
