import Glibc
import Reporting
import Synchronization

/// The files that this process has opened as inputs: weights, their shards, indexes and configurations, lists of classes,
/// recorded steps. `MappedFile` adds each file that it opens, so that none is forgotten.
public enum InputFiles {
    /// A file, whatever path leads to it.
    private struct Identity: Hashable {
        let device: dev_t
        let file: ino_t

        init(_ status: stat) { (device, file) = (status.st_dev, status.st_ino) }
    }

    /// A path of each file.
    private static let opened = Mutex<[Identity: String]>([:])

    /// Adds a file that was opened.
    static func add(_ status: stat, at path: String) {
        opened.withLock { files in
            if files[Identity(status)] == nil { files[Identity(status)] = path }
        }
    }

    /// Refuses an output that is the same file as an input, under any path, as writing it would destroy the input.
    ///
    /// - Parameters:
    ///   - outputs: the paths of files.
    ///   - others: inputs beside those that were opened, such as images; only asked for where an output exists.
    /// - Throws: `Failure.usage`.
    public static func requireOther(than outputs: [String], _ others: @autoclosure () -> [String] = []) throws {
        var existing: [Identity: String] = [:]
        for output in outputs {
            if let status = try fileStatus(output) { existing[Identity(status)] = output }
        }
        guard !existing.isEmpty else { return }
        func refuse(_ output: String, _ input: String) throws {
            throw Failure(
                .usage,
                "the output \(quoted(path: output)) is the input \(quoted(path: input)) itself: name another output")
        }
        let opened = opened.withLock { $0 }
        for (identity, output) in existing.sorted(by: { $0.value < $1.value }) {
            if let input = opened[identity] { try refuse(output, input) }
        }
        for input in others() {
            var status = stat()
            if stat(input, &status) == 0, let output = existing[Identity(status)] { try refuse(output, input) }
        }
    }
}
