import Images
import Reporting
import Training

extension TrainingConfiguration {
    /// The commands that make sense after a finished run in the folder `run`, each with the word before it. Words in
    /// capitals are the user's to fill in.
    ///
    /// - Parameter labelled: the number of the images with classes that k-NN learned from; nil without k-NN.
    func nextCommands(run: String, labelled: Int? = nil) -> [(word: String, command: String)] {
        let judged = ("next", nextCommand(run: run, labelled: labelled))
        guard method == .pretrain else { return [judged] }
        var folder = run
        while folder.count > 1, folder.hasSuffix("/") { folder.removeLast() }
        let data = data.paths.map(Shell.word).joined(separator: " ")
        return [
            judged,
            (
                "or",
                "dmae distill --teacher \(Shell.word("\(run)/model.safetensors")) --data \(data) "
                    + "--output \(Shell.word(folder + "-student"))"
            ),
        ]
    }

    private func nextCommand(run: String, labelled: Int?) -> String {
        func words(_ places: ImagePlaces) -> String { places.paths.map(Shell.word).joined(separator: " ") }
        func file(_ name: String) -> String { Shell.word("\(run)/\(name)") }
        // A classifier is judged on its own validation images, class by class.
        if classifier != nil, let validation {
            return "dmae evaluate --weights \(file("best.safetensors")) --data \(words(validation))"
        }
        guard let neighbors else {
            return "dmae knn --weights \(file("model.safetensors")) --train LABELLED-FOLDER --val LABELLED-FOLDER"
        }
        var folder = run
        while folder.count > 1, folder.hasSuffix("/") { folder.removeLast() }
        // The default recipe is for ImageNet.
        let isSmall = labelled.map { $0 < FineTuningRecipe.smallDataImages } ?? false
        return "dmae finetune --weights \(file("model.safetensors")) "
            + (isSmall ? "--recipe \(FineTuningRecipe.smallData.name) " : "") + "--train \(words(neighbors.train)) "
            + "--val \(words(neighbors.validation)) --output \(Shell.word(folder + "-finetuned"))"
    }
}
