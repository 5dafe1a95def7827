import FoundationEssentials
import Images
import Weights

extension PictureReading {
    /// The values of a `TrainingConfiguration` that say how image files become pictures.
    private struct Stored: Decodable {
        let appliesOrientation: Bool
        let background: Background
        let grey16: Grey16
    }

    /// How the run in `folder` reads image files, as its configuration says; nil where there is no run of this format.
    public init?(ofRunIn folder: String) {
        guard let text = try? MappedFile.contents(RunDirectory.configurationPath(in: folder), wanted: "a run") else {
            return nil
        }
        self.init(configuration: Data(text))
    }

    /// How the run of the checkpoint at `path` reads image files; nil where it is no checkpoint of this format.
    public init?(ofCheckpoint path: String) {
        guard let file = try? SafeTensorsFile(path: path) else { return nil }
        self.init(trainingIn: file.metadata)
    }

    /// How the run that wrote weights with this metadata reads image files; nil where they say nothing of a run of this
    /// format.
    public init?(trainingIn metadata: [String: String]) {
        guard let text = metadata[Trainer.Key.training] else { return nil }
        self.init(configuration: Data(text.utf8))
    }

    private init?(configuration: Data) {
        guard let stored = try? JSONDecoder().decode(Stored.self, from: configuration) else { return nil }
        self.init(
            appliesOrientation: stored.appliesOrientation, background: stored.background, grey16: stored.grey16)
    }
}
