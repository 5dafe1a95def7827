import FoundationEssentials
import Interchange

extension PictureMetadata {
    /// How a run reads and prepares pictures, as its configuration says; nil where that is not of this format.
    package init?(_ configuration: StoredConfiguration) {
        guard let stored = try? JSONDecoder().decode(PictureMetadata.self, from: configuration.json),
            stored.reading != nil
        else { return nil }
        self = stored
    }
}
