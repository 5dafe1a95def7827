import Images
import Reporting
import Training

extension TrainingConfiguration {
    /// The commands that make sense after a finished run in the folder `run`, each with the word before it. Words in
    /// capitals are the user's to fill in.
    func nextCommands(run: String) -> [(word: String, command: String)] {
        let judged = ("next", nextCommand(run: run))
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

    private func nextCommand(run: String) -> String {
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
        return "dmae finetune --weights \(file("model.safetensors")) --train \(words(neighbors.train)) "
            + "--val \(words(neighbors.validation)) --output \(Shell.word(folder + "-finetuned"))"
    }
}
