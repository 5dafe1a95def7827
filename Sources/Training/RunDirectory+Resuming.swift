import FoundationEssentials
import Glibc
import Reporting
import Weights

extension RunDirectory {
    /// The configuration of the run in the folder at `path`. Nothing is locked or written.
    ///
    /// - Throws: `Failure`: `.inputOutput` if there is no such folder or the file cannot be read, `.usage` if it holds no
    ///   run, `.badData` if the run is of another `RunFormat` or its configuration is damaged.
    public static func configuration(in path: String) throws -> TrainingConfiguration {
        let place = configurationPath(in: path)
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw Failure.system(
                "cannot open \(quoted(path: path))", errno, .opening, otherwise: "name the folder of a run")
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            let folder = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
            throw Failure(
                .usage,
                "\(quoted(path: path)) is a file, not the folder of a run: name its folder"
                    + (folder.isEmpty ? "" : ", \(quoted(path: folder))"))
        }
        guard try fileStatus(place) != nil else {
            throw Failure(
                .usage,
                "\(quoted(path: path)) is not the folder of a run: there is no \(configurationName) in it; name the "
                    + "folder that the run was started with")
        }
        let text = Data(try MappedFile.contents(place, wanted: "the folder of a run"))
        try RunFormat.requireCurrent(text, in: path)
        do {
            return try JSONDecoder().decode(TrainingConfiguration.self, from: text)
        } catch {
            throw Failure(
                .badData,
                "\(quoted(path: place)) is damaged: it is not the configuration of a run; restore it, or start the run "
                    + "again in another folder")
        }
    }

    /// A run that has no step left.
    public struct Finished: Equatable, Sendable {
        /// Its steps and the number of its images; nil where no checkpoint is left to say it.
        public let steps, images: Int?
    }

    /// What the run of `configuration` in the folder at `path` has done, if it has written its last weights; nil if
    /// something is left to do.
    ///
    /// - Throws: `Failure.inputOutput` if the folder cannot be listed.
    public static func finished(_ configuration: TrainingConfiguration, in path: String) throws -> Finished? {
        guard try names(in: path).contains(weightsName) else { return nil }
        let store = CheckpointStore(directory: path, keep: 1)
        guard let last = try store.steps().last else { return Finished(steps: nil, images: nil) }
        // A damaged checkpoint is found, and named, when the run is taken up.
        guard let file = try? SafeTensorsFile(path: store.path(step: last)),
            let images = file.metadata[Trainer.Key.images].flatMap({ Int($0) }),
            last == configuration.steps(images: images)
        else { return nil }
        return Finished(steps: last, images: images)
    }

    /// Corrects the `status.json` of a finished run whose process ended before it could write that: job scripts would
    /// start it again for ever.
    ///
    /// - Throws: `Failure.inputOutput` if the file cannot be written, or if another process still writes the run.
    public static func correctStatus(of finished: Finished, in path: String) throws {
        let place = "\(path)/\(statusName)"
        let bytes = try? MappedFile.contents(place, wanted: "the folder of a run")
        let status = bytes.flatMap { try? JSONDecoder().decode(RunStatus.self, from: Data($0)) }
        guard status?.state != .finished else { return }
        let reason = finished.steps.map { "all \($0) steps are done" } ?? "its weights are written"
        try RunDirectory(path: path, resuming: true).writeStatus(
            RunStatus(.finished, reason: reason, step: finished.steps ?? status?.step ?? 0))
    }

    /// The number of images of the run in the folder at `path`; nil where no whole checkpoint says it.
    ///
    /// - Throws: `Failure.inputOutput` if the folder cannot be listed.
    public static func imageCount(in path: String) throws -> Int? {
        let store = CheckpointStore(directory: path, keep: 1)
        for step in try store.steps().reversed() {
            if let file = try? SafeTensorsFile(path: store.path(step: step)) {
                return file.metadata[Trainer.Key.images].flatMap { Int($0) }
            }
        }
        return nil
    }

    /// Whether the folder at `path` holds checkpoints.
    ///
    /// - Throws: `Failure.inputOutput` if it cannot be listed.
    public static func hasCheckpoints(in path: String) throws -> Bool {
        try !CheckpointStore(directory: path, keep: 1).steps().isEmpty
    }
}
