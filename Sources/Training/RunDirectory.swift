import Reporting
import FoundationEssentials
import Glibc
import Tensors
import Weights

/// The folder of one run: `configuration.json`, `status.json`, `images.json`, `log.jsonl`, `starts.jsonl`, the
/// checkpoints, the final weights, those with the best evaluation, `evaluation.json`, the folder `tensorboard` of event
/// files, and `lock`, which is held while a process writes here.
public final class RunDirectory {
    /// The path of the folder.
    public let path: String
    /// Whether the folder held the configuration and log of a run that left no checkpoint and no weights, which starts
    /// again.
    public let startsAgain: Bool
    private var lock: Int32
    private var starts: RunStarts?
    /// What was in the folder before.
    private let earlier: Set<String>
    /// What a new run found in its folder that is no run's, sorted.
    public var otherFiles: [String] {
        guard !Self.isRun(Array(earlier)) else { return [] }
        return earlier.filter { name in
            !Self.outputNames.contains(name) && !Self.folderNames.contains(name) && !Self.isLeftover(name)
                && ![Self.statusName, ".", ".."].contains(name)
        }.sorted()
    }
    /// The folders that were made, outermost first.
    private let made: [String]

    /// The path of the resolved configuration.
    public var configurationPath: String { Self.configurationPath(in: path) }
    static func configurationPath(in path: String) -> String { "\(path)/\(configurationName)" }
    static let configurationName = "configuration.json"
    /// The path of a finished run's weights.
    public var weightsPath: String { "\(path)/\(Self.weightsName)" }
    static let weightsName = "model.safetensors"
    /// The path of the weights with the best evaluation.
    public var bestWeightsPath: String { "\(path)/\(Self.bestWeightsName)" }
    private static let bestWeightsName = "best.safetensors"
    /// The path of the last weights themselves, where `weightsPath` holds their average.
    public var rawWeightsPath: String { "\(path)/\(Self.rawWeightsName)" }
    private static let rawWeightsName = "raw.safetensors"
    /// The path of the best and the last evaluation.
    public var evaluationPath: String { "\(path)/\(Self.evaluationName)" }
    private static let evaluationName = "evaluation.json"
    /// The path of what the check of the run's images found; see `ImageCheck`.
    var imagesPath: String { Self.imagesPath(in: path) }
    static func imagesPath(in path: String) -> String { "\(path)/\(imagesName)" }
    private static let imagesName = "images.json"
    /// The path of the `RunStatus`.
    public var statusPath: String { "\(path)/\(Self.statusName)" }
    static let statusName = "status.json"
    /// The path of the log: one JSON object per optimiser step.
    public var logPath: String { "\(path)/log.jsonl" }
    /// The path of the folder of the `EventLog`.
    var eventsPath: String { "\(path)/\(EventLog.folderName)" }

    /// Whether a folder with files of these names is the folder of a run.
    private static func isRun(_ names: [String]) -> Bool {
        names.contains { $0 == "configuration.json" || $0 == "log.jsonl" || CheckpointStore.step(of: $0) != nil }
    }

    /// Throws `Failure.usage` if the folder at `path` holds a run: writing a `model.safetensors` there would replace
    /// the run's weights.
    public static func requireNoRun(in path: String) throws {
        guard let names = try? names(in: path), isRun(names) else { return }
        throw Failure(
            .usage, "\(quoted(path: path)) holds a run, whose \(weightsName) would be replaced: name another folder")
    }

    /// The paths of the files that a run writes in the folder at `path` under fixed names, but for its configuration, which
    /// a resumed run reads and writes.
    public static func outputs(in path: String) -> [String] {
        outputNames.map { "\(path)/\($0)" }
    }
    private static let outputNames = [
        weightsName, bestWeightsName, rawWeightsName, evaluationName, imagesName, "log.jsonl", RunStarts.name, "lock",
    ]

    /// The folders in that of a run.
    package static let folderNames = ["archives", EventLog.folderName]

    /// Whether the file at `path` is one that a run has written, in that run's folder.
    public static func isFileOfRun(_ path: String) -> Bool {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        let name = String(parts[parts.count - 1])
        let isEvents = parts.dropLast().last ?? "" == EventLog.folderName && EventLog.isOwn(name)
        let before = parts.dropLast(isEvents ? 2 : 1)
        let folder = before.isEmpty ? "." : before.joined(separator: "/") + "/"
        let isNamed =
            isEvents || outputNames.contains(name) || name == configurationName || CheckpointName.step(of: name) != nil
        return isNamed && access(path, F_OK) == 0 && access(configurationPath(in: folder), F_OK) == 0
    }

    /// Creates the folder and its parents, locks it for the life of `self`, and removes partial files that a killed
    /// process left.
    ///
    /// A folder that already holds a run is refused unless `resuming`, or unless that run left nothing but its configuration
    /// and log; resuming in an empty folder is allowed. After a failure the folder is as it was before. Throws
    /// `Failure`: `.usage` if a run is there, `.badData` if it is a run of another `RunFormat`, with nothing touched,
    /// `.inputOutput` if the folder cannot be created, written or locked.
    public init(path: String, resuming: Bool) throws {
        precondition(!path.isEmpty, "a run needs a folder")
        self.path = path
        earlier = Set((try? Self.names(in: path)) ?? [])
        // Before the lock: a run of another format is left untouched, and no advice to resume it is given.
        if resuming || Self.isRun(Array(earlier)) { try Self.requireFormat(of: path) }
        made = try Self.makeFolder(path)
        do { lock = try Self.lock(path, resuming: resuming) } catch {
            Self.remove(newerThan: earlier, in: path, made)
            throw error
        }
        do {
            let names = try Self.names(in: path)
            startsAgain = try !resuming && Self.startsAgain(names, in: path)
            for name in names where Self.isLeftover(name) { unlink("\(path)/\(name)") }
        } catch {
            Self.remove(newerThan: earlier, in: path, made)
            close(lock)
            throw error
        }
    }

    /// Refuses a folder that holds a run, or its weights, with nothing touched: what `init` would say of a new run there.
    ///
    /// - Throws: `Failure`: `.usage` if a run is there, `.badData` if it is a run of another `RunFormat`.
    public static func requireFree(_ path: String) throws {
        guard let names = try? names(in: path) else { return }
        if isRun(names) { try requireFormat(of: path) }
        _ = try startsAgain(names, in: path)
    }

    /// Whether a new run in a folder with these files takes the place of one that left nothing but its configuration and
    /// log.
    ///
    /// - Throws: `Failure.usage` where it would replace more.
    private static func startsAgain(_ names: [String], in path: String) throws -> Bool {
        let startsAgain =
            names.contains(configurationName) && !holdsState(names) && (try? configuration(in: path)) != nil
        if isRun(names), !startsAgain {
            throw Failure(
                .usage,
                "\(quoted(path: path)) already holds a run; resume it with `dmae resume` or \(.resume, "auto"), or name another "
                    + "\(.output) folder"
            )
        }
        guard !names.contains(weightsName) else {
            throw Failure(
                .usage,
                "\(quoted(path: path)) holds a \(weightsName), which the run would replace; name another \(.output) folder"
            )
        }
        return startsAgain
    }

    /// Undoes a start that failed: removes what was written into the folder, and the folders that were made. Leaves a
    /// folder with a new checkpoint, new weights or a new line in the log as it is.
    ///
    /// - Parameter hasTrained: whether training had begun. Then nothing is removed from the folder of an earlier run.
    public func undoStart(hasTrained: Bool) {
        guard !hasTrained || !Self.isRun(Array(earlier)), let names = try? Self.names(in: path) else { return }
        let new = names.filter { !earlier.contains($0) }
        var log = stat()
        let isLogged = new.contains("log.jsonl") && stat(logPath, &log) == 0 && log.st_size > 0
        guard !isLogged, !Self.holdsState(new) else { return }
        Self.remove(newerThan: earlier, in: path, made)
    }

    /// Whether one of the names is of a state of training: a checkpoint, also one that was set aside, or weights.
    private static func holdsState(_ names: [String]) -> Bool {
        names.contains { name in
            [weightsName, bestWeightsName, rawWeightsName].contains(name) || CheckpointStore.step(of: name) != nil
                || name.hasPrefix("checkpoint-") && name.contains(CheckpointStore.abandonedMark)
        }
    }

    /// Removes from the folder the files of a run that were not there `earlier`, and then the folders `made`, if they are
    /// empty: what others have put there meanwhile stays. Must hold the lock, if there is one.
    private static func remove(newerThan earlier: Set<String>, in path: String, _ made: [String]) {
        func remove(_ name: String, in folder: String) {
            let place = "\(folder)/\(name)"
            guard folderNames.contains(name) else {
                unlink(place)
                return
            }
            for inner in (try? names(in: place)) ?? [] where inner.contains(".index") || EventLog.isOwn(inner) {
                unlink("\(place)/\(inner)")
            }
            rmdir(place)
        }
        let own =
            [configurationName, statusName, imagesName, evaluationName, "log.jsonl", RunStarts.name, "lock"]
            + folderNames
        for name in (try? names(in: path)) ?? [] where !earlier.contains(name) && own.contains(name) {
            remove(name, in: path)
        }
        for folder in made.reversed() { rmdir(folder) }
    }

    deinit {
        close(lock)
    }

    /// Requires that the file `lock` in the folder is still the one that this process holds. Where it was removed or
    /// replaced, the present one is locked.
    ///
    /// - Throws: `Failure.inputOutput` where another process has locked it: it writes the same run.
    public func requireLock() throws {
        var own = stat(), present = stat()
        guard fstat(lock, &own) == 0, lstat("\(path)/lock", &present) == 0, own.st_dev == present.st_dev,
            own.st_ino == present.st_ino
        else {
            let new = try Self.lock(path)
            close(lock)
            lock = new
            return
        }
    }

    /// Refuses to train from the beginning if that would overwrite results of an earlier training: weights, checkpoints
    /// that were set aside, or checkpoints that are all damaged. A log alone may be overwritten.
    ///
    /// Throws `Failure`: `.usage` if there are weights or checkpoints that were set aside, `.badData` if there are
    /// damaged checkpoints.
    public func requireNothingToLose() throws {
        let names = try Self.names(in: path)
        if names.contains(where: { CheckpointStore.step(of: $0) != nil }) {
            throw Failure(
                .badData,
                "no checkpoint in \(quoted(path: path)) is whole; remove them to start from the beginning, or name "
                    + "another "
                    + "\(.output) folder")
        }
        if let name = names.last(where: { $0.hasPrefix("checkpoint-") && $0.contains(CheckpointStore.abandonedMark) }) {
            throw Failure(
                .usage,
                "\(quoted(path: path)) holds no checkpoint but those that an earlier run set aside; resume one of them "
                    + "with "
                    + "\(.resume, quoted(path: path + "/" + name)), or remove them to start from the beginning")
        }
        if names.contains(Self.weightsName) {
            throw Failure(
                .usage,
                "\(quoted(path: path)) holds the weights of a finished run and no checkpoint to resume from; name "
                    + "another "
                    + "\(.output) folder, or move \(Self.weightsName) away to start from the beginning")
        }
    }

    /// - Throws: `Failure.badData` if the folder holds a run of another `RunFormat`.
    private static func requireFormat(of path: String) throws {
        let place = configurationPath(in: path)
        guard try fileStatus(place) != nil else { return }
        let text = Data(try MappedFile.contents(place, wanted: "another \(.output) folder"))
        try RunFormat.requireCurrent(text, in: path)
    }

    // The files of a run replace symbolic links of their names: what these lead to is not the run's.

    /// Writes `configuration.json`, indented and with sorted keys; a failure leaves no partial file. Throws
    /// `Failure(.inputOutput)`.
    public func writeConfiguration(_ configuration: some Encodable) throws {
        try AtomicFile.write(
            configuration.sortedJSON(indented: true) + [0x0A], to: configurationPath, replacesLink: true)
    }

    /// Writes `evaluation.json` like `writeConfiguration`.
    func writeEvaluation(_ ranking: WeightRanking) throws {
        try AtomicFile.write(ranking.sortedJSON(indented: true) + [0x0A], to: evaluationPath, replacesLink: true)
    }

    /// Adds this process to `starts.jsonl`, to which `writeStatus` then adds its memory.
    ///
    /// - Parameter report: called once, if that fails.
    public func record(_ start: RunStart, report: @escaping (Message) -> Void) {
        starts = RunStarts(start, in: path, report: report)
    }

    /// Writes `status.json`, whole or not at all, and prepares the one that a second SIGINT leaves of a run that goes on.
    /// Throws `Failure(.inputOutput)`.
    public func writeStatus(_ status: RunStatus) throws {
        defer { starts?.note(status) }
        // Before the file: from then on it would be wrong.
        if status.state != .running { Signals.leaveNothing() }
        try AtomicFile.write(status.sortedJSON() + [0x0A], to: statusPath, replacesLink: true)
        guard status.state == .running else { return }
        let end = RunStatus(.resumable, reason: "ended at once by a second SIGINT", step: status.step)
        let resume = "`dmae resume \(Shell.word(path))`"
        Signals.leave(
            try end.sortedJSON() + [0x0A], at: statusPath,
            saying: status.step > 0
                ? "ended at once: the steps since step \(status.step) are lost; \(resume) continues from its checkpoint"
                : "ended at once, before the first checkpoint; \(resume) begins again")
    }

    // MARK: The folder

    /// Makes the folder and its parents. Returns those that were not there.
    private static func makeFolder(_ path: String) throws -> [String] {
        var made: [String] = []
        var prefix = path.hasPrefix("/") ? "/" : ""
        for part in path.split(separator: "/") {
            prefix += part
            defer { prefix += "/" }
            if mkdir(prefix, 0o777) == 0 {
                made.append(prefix)
                // Best effort: a parent without read permission cannot be synchronised, which does not harm the run.
                try? AtomicFile.synchronizeFolder(of: prefix)
            } else if errno != EEXIST, errno != EISDIR {
                let number = errno
                for folder in made.reversed() { rmdir(folder) }
                throw Failure.system("cannot create folder \(quoted(path: path))", number, .makingFolder)
            }
        }
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw Failure(
                .inputOutput,
                "cannot create folder \(quoted(path: path)): something else has that name; choose another name")
        }
        return made
    }

    /// - Parameter resuming: whether the run in the folder is meant, and no other folder would do.
    private static func lock(_ path: String, resuming: Bool = false) throws -> Int32 {
        let place = "\(path)/lock"
        func foreign(_ what: String) -> Failure {
            Failure(
                .inputOutput,
                "\(quoted(path: place)) is \(what), not the lock of a run: move it away, or name another \(.output) folder"
            )
        }
        // Non-blocking: opening a FIFO must not hang.
        let descriptor = open(place, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o666)
        guard descriptor >= 0 else {
            guard errno != ELOOP else { throw foreign("a symbolic link") }
            throw Failure.system(
                "cannot write in \(quoted(path: path))", errno, .writing,
                otherwise: "choose a folder that can be written")
        }
        var status = stat()
        var buffer = [UInt8](repeating: 0, count: 32)
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw foreign("not a regular file")
        }
        let count = max(0, pread(descriptor, &buffer, buffer.count, 0))
        let digits = buffer.prefix(count).prefix { (0x30...0x39).contains($0) }
        // A power failure may leave zeros in place of what was written last.
        guard count < buffer.count, buffer[digits.count..<count].allSatisfy({ $0 == 0x0A || $0 == 0 }) else {
            close(descriptor)
            throw foreign("another program's file")
        }
        var locked: Int32
        repeat { locked = flock(descriptor, LOCK_EX | LOCK_NB) } while locked != 0 && errno == EINTR
        if locked != 0 {
            let number = errno
            defer { close(descriptor) }
            guard number == EWOULDBLOCK else {
                throw Failure.system("cannot lock \(quoted(path: place))", number, .locking)
            }
            let holder = digits.isEmpty ? "another process" : "process \(String(decoding: digits, as: UTF8.self))"
            let remedy: Message =
                resuming
                ? "the run goes on there: wait for its end, or end that process first, and `dmae resume \(Shell.word(path))` "
                    + "continues from its checkpoint"
                : "wait for its end or name another \(.output) folder"
            throw Failure(.inputOutput, "\(quoted(path: path)) is being written by \(holder); \(remedy)")
        }
        // A process whose start failed has removed its lock meanwhile: what is locked here is no file any more.
        var current = stat()
        guard lstat(place, &current) == 0, (current.st_dev, current.st_ino) == (status.st_dev, status.st_ino) else {
            close(descriptor)
            return try lock(path, resuming: resuming)
        }
        let text = "\(getpid())\n"
        if ftruncate(descriptor, 0) != 0 || pwrite(descriptor, text, text.utf8.count, 0) != text.utf8.count {
            let number = errno
            close(descriptor)
            throw Failure.system("cannot write \(quoted(path: place))", number, .writing)
        }
        return descriptor
    }

    /// Names in a folder, sorted; none if there is no such folder.
    static func names(in folder: String) throws -> [String] {
        if access(folder, F_OK) != 0, errno == ENOENT { return [] }
        return try FolderNames.sorted(folder)
    }

    /// Whether the name is that of a partial file of a run.
    private static func isLeftover(_ name: String) -> Bool {
        guard let mark = name.firstRange(of: AtomicFile.partMark) else { return false }
        let whole = String(name[..<mark.lowerBound])
        let files = [
            "configuration.json", statusName, imagesName, evaluationName, weightsName, bestWeightsName, rawWeightsName,
        ]
        return files.contains(whole) || CheckpointStore.step(of: whole) != nil
    }
}
