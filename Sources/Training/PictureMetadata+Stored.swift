import FoundationEssentials
import Interchange
import Weights

extension PictureMetadata {
    /// How the run in `folder` reads and prepares pictures, as its configuration says; nil where there is no run of this
    /// format.
    package init?(ofRunIn folder: String) {
        guard let text = try? MappedFile.contents(RunDirectory.configurationPath(in: folder), wanted: "a run") else {
            return nil
        }
        self.init(configuration: Data(text))
    }

    /// How the run of the checkpoint at `path` does; nil where it is no checkpoint of this format.
    package init?(ofCheckpoint path: String) {
        guard let file = try? SafeTensorsFile(path: path), let text = file.metadata[Trainer.Key.training] else {
            return nil
        }
        self.init(configuration: Data(text.utf8))
    }

    private init?(configuration: Data) {
        guard let stored = try? JSONDecoder().decode(PictureMetadata.self, from: configuration), stored.reading != nil
        else { return nil }
        self = stored
    }
}
