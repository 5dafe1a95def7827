import FoundationEssentials
import Reporting

/// The number that a run's `configuration.json` and checkpoints carry. A run is resumed by versions of the same number
/// only: it rises when a seed or a saved state means something else.
///
/// 1: runs without a number; an initial weight's random stream is chosen by the place of its tensor.
/// 2: that stream is chosen by the name of the tensor.
/// 3: pictures are turned upright and composited over a background, unless the configuration says otherwise; XMP and PNG
///    files have orientations, too; files with a wrong checksum, which were replaced by others, are read. The model's
///    settings say how many of the removed patches are predicted, how much the reconstruction loss weighs, and what the
///    teacher sees.
public enum RunFormat {
    /// The number that this version writes and resumes.
    public static let current = 3

    /// The part of a `TrainingConfiguration` that every format has.
    private struct Header: Decodable {
        let format: Int?
    }

    /// Refuses a run of another number. Text that is not a JSON object is accepted; reading it finds the fault.
    ///
    /// - Parameters:
    ///   - configuration: JSON of a `TrainingConfiguration`, of any format.
    ///   - path: the folder or the checkpoint that holds it.
    /// - Throws: `Failure.badData`.
    static func requireCurrent(_ configuration: Data, in path: String) throws {
        guard let header = try? JSONDecoder().decode(Header.self, from: configuration) else { return }
        let format = header.format ?? 1
        guard format != current else { return }
        let version = format < current ? "an earlier" : "a later"
        throw Failure(
            .badData,
            "\(quoted(path: path)) is of a run that \(version) version of dmae started (format \(format); this version "
                + "resumes "
                + "format \(current)): finish it with that version, or start again in another \(.output) folder, where "
                + "\(.initialStudent) or \(.weights) takes its weights")
    }
}
