import FoundationEssentials
import Tensors
import Weights

/// The configuration that a run has written, as JSON.
package struct StoredConfiguration {
    package let json: Data

    /// That of the run in `folder`; nil where there is no run.
    package init?(ofRunIn folder: String) {
        guard let text = try? MappedFile.contents(RunDirectory.configurationPath(in: folder), wanted: "a run") else {
            return nil
        }
        json = Data(text)
    }

    /// That of the run of the checkpoint at `path`; nil where it is no checkpoint.
    package init?(ofCheckpoint path: String) {
        guard let file = try? SafeTensorsFile(path: path), let text = file.metadata[Trainer.Key.training] else {
            return nil
        }
        json = Data(text.utf8)
    }

    /// The groups of a step of the run; nil where the text is not that of a run.
    package var groups: Int? {
        struct Part: Decodable { let groups: Int? }
        return (try? JSONDecoder().decode(Part.self, from: json)).map { $0.groups ?? 1 }
    }

    /// The precision of the run; nil where the text is not that of a run.
    package var precision: Precision? {
        struct Part: Decodable { let precision: Precision }
        return (try? JSONDecoder().decode(Part.self, from: json))?.precision
    }
}
