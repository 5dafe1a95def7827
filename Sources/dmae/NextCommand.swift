import Images
import Training

extension TrainingConfiguration {
    /// The command that makes sense after a finished run in the folder `run`. Words in capitals are the user's to fill
    /// in.
    func nextCommand(run: String) -> String {
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
