import FoundationEssentials
import Glibc
import Models
import Reporting
import Training
import Weights

/// A run as its folder shows it: what a report is made of. Nothing is locked or written.
package struct ReportedRun {
    /// How a run stands.
    package enum State {
        case running, killed, finished, stopped, failed, unknown

        /// In a word.
        package var word: String {
            switch self {
            case .running: "running"
            case .killed: "killed"
            case .finished: "finished"
            case .stopped: "stopped"
            case .failed: "failed"
            case .unknown: "unknown"
            }
        }
    }

    /// The folder, without a slash at its end.
    package let path: String
    /// What the run is called beside the others of a report.
    package internal(set) var name: String
    package let state: State
    /// Why, as a sentence or a part of one.
    package let reason: String
    package let log: RunLogTable
    /// Nil where this version cannot read it.
    package let configuration: TrainingConfiguration?
    /// Every value of configuration.json by its key path, in their order; empty without the file.
    package let settings: [(key: String, value: String)]
    /// What evaluation.json holds: step and values of the best and of the last evaluation.
    package let ranking: Ranking?
    /// The processes that trained it, as far as they are recorded.
    package let starts: [RecordedStart]
    /// The run's files and their sizes in bytes, sorted by name; those of its folders come after them.
    package let files: [(name: String, bytes: Int)]

    /// The contents of evaluation.json.
    package struct Ranking: Decodable {
        package struct Entry: Decodable {
            package let step: Int
            package let epoch: Double
            package let values: [String: Double]
        }
        package let best, last: Entry?
    }

    /// Reads the run in the folder at `path`, of any format.
    ///
    /// - Throws: `Failure`: `.inputOutput` where there is no such folder or it cannot be read; `.usage` where it holds no
    ///   run.
    package init(path: String) throws {
        var path = path
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        self.path = path
        name = path
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR,
            access("\(path)/log.jsonl", F_OK) == 0 || access("\(path)/configuration.json", F_OK) == 0
        else {
            // Says why, and names the remedy.
            _ = try RunDirectory.configuration(in: path)
            throw Failure(.usage, "\(quoted(path: path)) is not the folder of a run: name another")
        }
        log = access("\(path)/log.jsonl", F_OK) == 0 ? try RunLogTable(path: "\(path)/log.jsonl") : RunLogTable([])
        configuration = try? RunDirectory.configuration(in: path)
        let text = StoredConfiguration(ofRunIn: path)?.json
        // The file has the values of every optimiser.
        let unused: Set<String> =
            configuration?.optimizer.algorithm == .adamW
            ? ["optimizer.momentum", "optimizer.trust"]
            : configuration == nil
                ? [] : ["optimizer.beta1", "optimizer.beta2", "optimizer.epsilon", "optimizer.weightDecay"]
        settings = (text.flatMap { try? JSONDecoder().decode(JSONValue.self, from: $0) }?.leaves() ?? []).filter {
            !unused.contains($0.key)
        }
        ranking = (try? MappedFile.contents("\(path)/evaluation.json", wanted: "a run")).flatMap {
            try? JSONDecoder().decode(Ranking.self, from: Data($0))
        }
        starts = RecordedStart.all(ofRunIn: path)
        func files(in folder: String) throws -> [(name: String, bytes: Int)] {
            try FolderNames.sorted("\(path)/\(folder)").compactMap { name in
                var status = stat()
                guard stat("\(path)/\(folder)\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
                    return nil
                }
                return (folder + name, Int(status.st_size))
            }
        }
        self.files =
            try files(in: "").filter { $0.name != "lock" }
            + RunDirectory.folderNames.flatMap { (try? files(in: $0 + "/")) ?? [] }
        (state, reason) = Self.state(path, self.files.map(\.name))
    }

    private static func state(_ path: String, _ names: [String]) -> (State, String) {
        guard let status = RunStatus(ofRunIn: path) else {
            return names.contains("model.safetensors")
                ? (.finished, "it holds the weights of its end")
                : (.unknown, "there is no status.json that can be read")
        }
        switch status.state {
        case .finished: return (.finished, status.reason)
        case .failed: return (.failed, status.reason)
        case .resumable: return (.stopped, "\(status.reason); `dmae resume` continues")
        case .running:
            guard RunStatus.isLocked(path) else {
                return (
                    .killed,
                    "its process is gone, and left a checkpoint of step \(status.step); `dmae resume` continues"
                )
            }
            return (.running, status.reason)
        }
    }

    /// Names for several runs: the last parts of their paths, as few as tell them apart.
    package static func name(_ runs: inout [ReportedRun]) {
        for parts in 1...8 {
            let names = runs.map { run in run.path.split(separator: "/").suffix(parts).joined(separator: "/") }
            guard Set(names).count == runs.count, !names.contains("."), !names.contains("..") else { continue }
            for (index, name) in names.enumerated() { runs[index].name = name }
            return
        }
        for index in runs.indices { runs[index].name = runs[index].path }
    }

    /// Images of the training, as the epochs of the log say; nil where they do not.
    package var images: Int? {
        guard let batch = configuration?.effectiveBatch, let step = log.steps.steps.last,
            let epoch = log.steps.epochs.last, epoch > 0
        else { return nil }
        let count = (Double(step) * Double(batch) / epoch).rounded()
        return count >= 1 && count < 1e15 ? Int(count) : nil
    }

    /// Steps of the whole run; nil where nothing says it.
    package var totalSteps: Int? {
        guard let configuration, let images else { return nil }
        return configuration.steps(images: images)
    }
}

/// Any JSON value.
private indirect enum JSONValue: Decodable {
    case leaf(String)
    case list([JSONValue])
    case object([String: JSONValue])

    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    init(from decoder: any Swift.Decoder) throws {
        if let object = try? decoder.container(keyedBy: Key.self) {
            var values: [String: JSONValue] = [:]
            for key in object.allKeys { values[key.stringValue] = try object.decode(JSONValue.self, forKey: key) }
            self = .object(values)
            return
        }
        if var list = try? decoder.unkeyedContainer() {
            var values: [JSONValue] = []
            while !list.isAtEnd { values.append(try list.decode(JSONValue.self)) }
            self = .list(values)
            return
        }
        let value = try decoder.singleValueContainer()
        if value.decodeNil() {
            self = .leaf("null")
        } else if let flag = try? value.decode(Bool.self) {
            self = .leaf(flag ? "true" : "false")
        } else if let number = try? value.decode(Int.self) {
            self = .leaf("\(number)")
        } else if let number = try? value.decode(UInt64.self) {
            self = .leaf("\(number)")
        } else if let number = try? value.decode(Double.self) {
            self = .leaf(Format.shortest(number))
        } else {
            self = .leaf(try value.decode(String.self))
        }
    }

    /// Every value without parts by its key path, sorted; lists of such values are one.
    func leaves(_ path: String = "") -> [(key: String, value: String)] {
        switch self {
        case .leaf(let text): return [(path, text)]
        case .object(let values):
            return values.keys.sorted().flatMap { values[$0]!.leaves(path.isEmpty ? $0 : "\(path).\($0)") }
        case .list(let values):
            let texts = values.compactMap { if case .leaf(let text) = $0 { text } else { nil } }
            if texts.count == values.count { return [(path, texts.joined(separator: ", "))] }
            return values.enumerated().flatMap { $1.leaves("\(path).\($0)") }
        }
    }
}
