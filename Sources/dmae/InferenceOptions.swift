import ArgumentParser
import Images
import Inference
import Ranks
import Reporting

/// How a frozen model runs over images: the options of `dmae embed`, `knn`, `evaluate` and `predict`.
struct InferenceOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Maximum number of images per pass.", valueName: "images"))
    var batch = 32

    @Option(
        help: ArgumentHelp(
            "Fraction of unreadable images above which the command fails; above 0 it always allows one.",
            valueName: "fraction"))
    var unreadableLimit = UnreadableLimit.standard

    @OptionGroup var pictures: PictureOptions
    @OptionGroup var preprocessing: PreprocessingOptions

    @Option(
        help: ArgumentHelp(
            "Threads that decode images, beside those of the kernels; the result does not depend on it.",
            valueName: "count"))
    var workers: Int = 1

    @Option(help: ArgumentHelp("Attention heads, if the weights do not say.", valueName: "heads"))
    var heads: Int?

    @Flag(name: .shortAndLong, help: "Print results, warnings and errors only, no progress.")
    var quiet = false

    /// Images of a pass over `count` images, which several processes share.
    func batch(for count: Int) -> Int {
        let processes = Ranks.current.count
        return Embedding.batch(for: (count + processes - 1) / processes, most: batch)
    }

    func validate() throws {
        try ValidationError.check { try Field.batch.requireAtLeast(1, batch) }
        if !(1...1024).contains(workers) { throw ValidationError("--workers must be 1 to 1024") }
        if !(0...1).contains(unreadableLimit) { throw ValidationError("--unreadable-limit must be 0 to 1") }
    }
}
