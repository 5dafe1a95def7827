import FoundationEssentials
import Glibc
import Reporting
import Weights

/// A process that trains a run: what computed it, and by which command. `starts.jsonl` of the run's folder has a line for
/// each, and lines of its memory after it.
public struct RunStart: Codable, Equatable, Sendable {
    /// The number of the process in the run, from 1.
    public internal(set) var start: Int
    /// When it began to train, RFC 3339, UTC.
    public internal(set) var time: String
    /// Optimiser steps done before it.
    public let step: Int
    /// The version of the program, its commit where it is known, and "release" or "debug".
    public let version: String
    public let commit: String?
    public let build: String
    /// The processor's name, where the system says it.
    public let processor: String?
    /// As `DMAE_ISA` names it.
    public let instructionSet: String
    /// Threads of the kernels, and those that decode images.
    public let threads, workers: Int
    /// Processes that share the run, each with such threads; nil for one.
    public let processes: Int?
    /// The limit of the memory that leaves the least, and its name.
    public let memoryLimitBytes: Int?
    public let memoryLimit: String?
    public let host, system: String?
    /// The folder that relative paths of the command began in.
    public let folder: String?
    /// The words of the command line, as they were given.
    public let command: [String]

    public init(
        step: Int, version: String, commit: String?, build: String, processor: String?, instructionSet: String,
        threads: Int, workers: Int, processes: Int? = nil, memoryLimitBytes: Int?, memoryLimit: String?, host: String?,
        system: String?,
        folder: String?, command: [String]
    ) {
        start = 0
        time = ""
        self.step = step
        self.version = version
        self.commit = commit
        self.build = build
        self.processor = processor
        self.instructionSet = instructionSet
        self.threads = threads
        self.workers = workers
        self.processes = processes
        self.memoryLimitBytes = memoryLimitBytes
        self.memoryLimit = memoryLimit
        self.host = host
        self.system = system
        self.folder = folder
        self.command = command
    }
}

/// How far the process of a `RunStart` came, and the memory that it took.
public struct RunProgress: Codable, Equatable, Sendable {
    /// `RunStart.start`.
    public let start: Int
    /// RFC 3339, UTC.
    public let time: String
    /// Optimiser steps done.
    public let step: Int
    public let state: RunStatus.State
    /// The most memory that was resident at once since the process was started.
    public let peakResidentBytes: Int
}

/// The file `starts.jsonl`. It is only added to, and the run does not depend on it: what fails is reported once.
final class RunStarts {
    static let name = "starts.jsonl"
    /// A line is added where the memory has grown by this factor.
    private static let growth = 1.01

    private let path: String
    private let report: (Message) -> Void
    private let number: Int
    private var descriptor: Int32
    private var noted = 0

    /// Adds the line of `start`, with number and time. Returns nil if that fails.
    init?(_ start: RunStart, in folder: String, report: @escaping (Message) -> Void) {
        path = "\(folder)/\(Self.name)"
        self.report = report
        descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o666)
        do {
            guard descriptor >= 0 else { throw Self.failure(path, errno) }
            let bytes = try Self.contents(of: descriptor, path)
            let lines = bytes.split(separator: 0x0A)
            let earlier = lines.compactMap { Self.decoded(RunStart.self, $0) }
            guard lines.isEmpty || !earlier.isEmpty || bytes.allSatisfy({ $0 == 0 }) else {
                throw Failure(.inputOutput, "\(quoted(path: path)) is another program's file: move it away")
            }
            // A damaged number may be any.
            number = 1 + (earlier.map(\.start).filter { (0..<1_000_000_000).contains($0) }.max() ?? 0)
            var start = start
            start.start = number
            start.time = Self.now()
            // A line that a kill or a full disk has cut stays alone.
            try append(start, after: bytes.isEmpty || bytes.last == 0x0A ? [] : [0x0A])
        } catch {
            if descriptor >= 0 { close(descriptor) }
            report("\((error as? Failure)?.sentence ?? "\(error)"); the run goes on without it")
            return nil
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Adds a line at the end of the process, and before it where the memory has grown.
    func note(_ status: RunStatus) {
        guard descriptor >= 0 else { return }
        let peak = ResidentMemory.peakBytes
        guard status.state != .running || Double(peak) > Self.growth * Double(noted) else { return }
        noted = peak
        do {
            try append(
                RunProgress(
                    start: number, time: Self.now(), step: status.step, state: status.state, peakResidentBytes: peak))
        } catch {
            report("\((error as? Failure)?.sentence ?? "\(error)"); the run goes on without it")
            close(descriptor)
            descriptor = -1
        }
    }

    private func append(_ line: some Encodable, after before: [UInt8] = []) throws {
        let bytes = before + (try line.sortedJSON(isSnakeCase: true)) + [0x0A]
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + written, $0.count - written) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Self.failure(path, errno) }
            written += count
        }
    }

    private static func contents(of descriptor: Int32, _ path: String) throws -> [UInt8] {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(path, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw Failure(.inputOutput, "\(quoted(path: path)) is not a regular file: move it away")
        }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size)), count = 0
        while count < bytes.count {
            let read = bytes.withUnsafeMutableBytes {
                pread(descriptor, $0.baseAddress! + count, $0.count - count, count)
            }
            if read < 0, errno == EINTR { continue }
            guard read >= 0 else { throw failure(path, errno) }
            if read == 0 { break }
            count += read
        }
        return Array(bytes.prefix(count))
    }

    private static func failure(_ path: String, _ number: Int32) -> Failure {
        .system("cannot write \(quoted(path: path))", number, .writing)
    }

    private static func now() -> String {
        var now = time(nil), parts = tm()
        gmtime_r(&now, &parts)
        var text = [CChar](repeating: 0, count: 32)
        strftime(&text, text.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    fileprivate static func decoded<Line: Decodable>(_ type: Line.Type, _ line: ArraySlice<UInt8>) -> Line? {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try? decoder.decode(type, from: Data(line))
    }
}

/// A process of a run as `starts.jsonl` tells of it.
public struct RecordedStart: Equatable, Sendable {
    public let start: RunStart
    /// How far it is known to have come; nil where it was killed before it said so.
    public internal(set) var last: RunProgress?

    /// What `starts.jsonl` of the run in the folder at `path` says, in order; lines that cannot be read are left out.
    public static func all(ofRunIn path: String) -> [RecordedStart] {
        guard let bytes = try? MappedFile.contents("\(path)/\(RunStarts.name)", wanted: "a run") else { return [] }
        var all: [RecordedStart] = []
        for line in Array(bytes).split(separator: 0x0A) {
            if let start = RunStarts.decoded(RunStart.self, line) {
                all.append(RecordedStart(start: start, last: nil))
            } else if let progress = RunStarts.decoded(RunProgress.self, line),
                let place = all.lastIndex(where: { $0.start.start == progress.start })
            {
                all[place].last = progress
            }
        }
        return all
    }
}
