import Glibc
import Reporting
import Synchronization

/// The files that this process has opened as inputs: weights, their shards, indexes and configurations, lists of classes,
/// recorded steps. `MappedFile` adds each file that it opens, so that none is forgotten.
public enum InputFiles {
    /// A file, whatever path leads to it.
    fileprivate struct Identity: Hashable {
        let device: dev_t
        let file: ino_t

        init(_ status: stat) { (device, file) = (status.st_dev, status.st_ino) }
    }

    /// What changes when a file is written: its size and its time of modification.
    fileprivate struct Stamp: Equatable {
        let size: off_t
        let seconds, nanoseconds: Int

        init(_ status: stat) {
            (size, seconds, nanoseconds) = (status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec)
        }
    }

    /// A path of each file.
    private static let opened = Mutex<[Identity: String]>([:])

    /// A file that is mapped, and what it was like when it was opened.
    struct Mapping {
        fileprivate let path: String
        fileprivate let identity: Identity
        fileprivate let stamp: Stamp
    }

    /// The files that are mapped, by numbers that `open` gives.
    private static let mapped = Mutex<(next: Int, files: [Int: Mapping])>((0, [:]))

    /// Adds a file that was opened.
    ///
    /// - Returns: a number for `close`.
    static func open(_ status: stat, at path: String) -> Int {
        opened.withLock { files in
            if files[Identity(status)] == nil { files[Identity(status)] = path }
        }
        return mapped.withLock { mapped in
            mapped.next += 1
            mapped.files[mapped.next] = Mapping(path: path, identity: Identity(status), stamp: Stamp(status))
            return mapped.next
        }
    }

    /// Forgets that a file is mapped. It stays an input.
    static func close(_ number: Int) { mapped.withLock { $0.files[number] = nil } }

    /// Requires that no file that is mapped was written since it was opened: what was read of it would be partly old and
    /// partly new. A file that another one has replaced under its name is still whole.
    ///
    /// - Throws: `Failure.badData`.
    public static func requireUnchanged() throws {
        for file in mapped.withLock({ $0.files.values.sorted { $0.path < $1.path } }) {
            var status = stat()
            guard stat(file.path, &status) == 0, Identity(status) == file.identity, Stamp(status) != file.stamp else {
                continue
            }
            throw Failure(
                .badData,
                "\(quoted(path: file.path)) was written by another program while it was read, and nothing was written "
                    + "from it: run the command again when that program is done")
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
