import FoundationEssentials
import Glibc
import Ranks
import Tensors
import Training

/// What the system says of the machine.
enum Machine {
    /// The processor's name; nil where /proc does not say it.
    static var processor: String? { values(of: "/proc/cpuinfo")["model name"] }

    /// "key : value" lines; of equal keys the first.
    static func values(of path: String) -> [String: String] {
        guard let data = try? Data(contentsOf: URL(filePath: path)) else { return [:] }
        var values: [String: String] = [:]
        for line in String(decoding: data, as: UTF8.self).split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let key = String(parts[0]).trimmingSpaces
            if values[key] == nil { values[key] = String(parts[1]).trimmingSpaces }
        }
        return values
    }

    /// The name of the machine, and its kernel: "Linux 6.1.0 x86_64".
    fileprivate static var names: (host: String, system: String)? {
        var name = utsname()
        guard uname(&name) == 0 else { return nil }
        func text<Field>(_ field: Field) -> String {
            withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        }
        return (text(name.nodename), "\(text(name.sysname)) \(text(name.release)) \(text(name.machine))")
    }

    fileprivate static var workingFolder: String? {
        guard let path = getcwd(nil, 0) else { return nil }
        defer { free(path) }
        return String(cString: path)
    }
}

extension RunStart {
    /// This process, which goes on with a run after `step`.
    init(after step: Int, workers: Int) {
        let names = Machine.names, limit = MemoryLimits().all.first
        self.init(
            step: step, version: Dmae.version, commit: Build.commit, build: Build.kind, processor: Machine.processor,
            instructionSet: InstructionSet.selected.name, threads: Threads.count, workers: workers,
            processes: Ranks.current.isAlone ? nil : Ranks.current.count,
            memoryLimitBytes: limit?.bytes, memoryLimit: limit?.name, host: names?.host, system: names?.system,
            folder: Machine.workingFolder, command: CommandLine.arguments)
    }
}

extension String {
    fileprivate var trimmingSpaces: String {
        var part = Substring(self)
        while let first = part.first, first.isWhitespace { part.removeFirst() }
        while let last = part.last, last.isWhitespace { part.removeLast() }
        return String(part)
    }
}
