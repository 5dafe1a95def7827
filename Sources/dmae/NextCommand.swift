import Images
import Training

extension TrainingConfiguration {
    /// The command that makes sense after a finished run in the folder `run`. Words in capitals are the user's to fill
    /// in.
    func nextCommand(run: String) -> String {
        func words(_ places: ImagePlaces) -> String { places.paths.map(shellQuoted).joined(separator: " ") }
        func file(_ name: String) -> String { shellQuoted("\(run)/\(name)") }
        // A classifier is judged on its own validation images, class by class.
        if classifier != nil, let validation {
            return "dmae evaluate --weights \(file("best.safetensors")) --data \(words(validation))"
        }
        guard let neighbors else {
            return "dmae knn --weights \(file("model.safetensors")) --train LABELLED-FOLDER --val LABELLED-FOLDER"
        }
        var folder = run[...]
        while folder.count > 1, folder.hasSuffix("/") { folder.removeLast() }
        return "dmae finetune --weights \(file("model.safetensors")) --train \(words(neighbors.train)) "
            + "--val \(words(neighbors.validation)) --output \(shellQuoted(folder + "-finetuned"))"
    }
}

/// `word` as a shell reads it: in quotation marks where it holds more than letters, digits and the signs of plain paths.
private func shellQuoted(_ word: some StringProtocol) -> String {
    let isPlain = word.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), 0x80...0xFF:
            true
        default: "/._-+,:@%".utf8.contains(byte)
        }
    }
    guard !isPlain || word.isEmpty else { return String(word) }
    return "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
}
