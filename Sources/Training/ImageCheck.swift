import FoundationEssentials
import Glibc
import Images
import Reporting
import Synchronization
import Weights

/// The check of all images of a run by their headers, before the first step or beside the first ones, and the search for
/// images that are learned and judge at the same time. What it finds is kept in the folder of the run, so that a resumed
/// run with the same files does not read them again.
public final class ImageCheck {
    /// With more images than these, the headers are read beside the first steps.
    public static let mostBefore = 100_000

    /// What was found.
    public struct Findings: Codable, Equatable, Sendable {
        /// Of the images of each source.
        public let headers: [ImageHeaders]
        /// Of each comparison.
        public let copies: [CopiedImages]
    }

    private let sources: [any ImageSource]
    private let comparisons: [(learned: Int, judged: Int)]
    private let directory: RunDirectory
    private let text: @Sendable (Message) -> String
    private let checksum: String
    private var thread: WorkerThreads?
    private let result = Mutex<Result<Findings, any Error>?>(nil)
    private let isStopped = Atomic(false)

    /// The findings, as they are kept.
    private struct Kept: Codable {
        /// `ImageCheck.checksum`.
        let files: String
        let findings: Findings
        /// The names of the images of each source, from which a refused resumption tells the one that differs; nil where
        /// there are more than `mostBefore`, and in runs of earlier versions.
        var names: [[String]]?
    }

    /// The names of the images of each source of the run in the folder at `path`, as they were checked last; nil where
    /// nothing says them.
    static func names(ofRunIn path: String) -> [[String]]? {
        guard let bytes = try? MappedFile.contents(RunDirectory.imagesPath(in: path), wanted: "the images of a run")
        else { return nil }
        return (try? JSONDecoder().decode(Kept.self, from: Data(bytes)))?.names
    }

    private struct Stopped: Error {}

    /// - Parameters:
    ///   - sources: the images of the run, those of its evaluations included.
    ///   - comparisons: places in `sources` of images that are learned and of those among which copies of them are looked
    ///     for.
    ///   - text: the words of sentences about images.
    public init(
        _ sources: [any ImageSource], comparing comparisons: [(learned: Int, judged: Int)] = [],
        in directory: RunDirectory, text: @escaping @Sendable (Message) -> String
    ) {
        self.sources = sources
        self.comparisons = comparisons
        self.directory = directory
        self.text = text
        checksum = Self.checksum(of: sources)
    }

    deinit { stop() }

    /// What an earlier check of the same files found; nil without one. A file is the same while its path, its size and
    /// its time of modification are; the images that could not be decoded are looked at again.
    public func remembered() -> Findings? {
        guard let bytes = try? MappedFile.contents(directory.imagesPath, wanted: "the images of a run"),
            let kept = try? JSONDecoder().decode(Kept.self, from: Data(bytes)), kept.files == checksum,
            kept.findings.headers.count == sources.count, kept.findings.copies.count == comparisons.count,
            zip(kept.findings.headers, sources).allSatisfy({ $0.hold(for: $1) })
        else { return nil }
        return kept.findings
    }

    /// Reads all headers now.
    ///
    /// - Parameters:
    ///   - workers: threads that read.
    ///   - progress: called about once a second with the number of images so far.
    /// - Throws: `Failure.inputOutput` where the system failed, not an image; what `progress` throws.
    public func run(workers: Int, progress: (Int) throws -> Void) throws -> Findings {
        let findings = try read(workers: workers, progress: progress)
        try keep(findings)
        return findings
    }

    /// Starts to read all headers on a thread of its own.
    public func start() throws {
        let check = Unchecked(self)
        thread = try WorkerThreads(1) {
            let result = Result {
                try check.value.read(workers: 1) { _ in
                    if check.value.isStopped.load(ordering: .relaxed) { throw Stopped() }
                }
            }
            check.value.result.withLock { $0 = result }
        }
    }

    /// What the check that was started has found, once, when it has come to its end.
    public func finished() throws -> Findings? {
        guard thread != nil, let result = result.withLock({ $0 }) else { return nil }
        thread?.join()
        thread = nil
        let findings = try result.get()
        try keep(findings)
        return findings
    }

    /// Ends the check that was started.
    public func stop() {
        isStopped.store(true, ordering: .relaxed)
        thread?.join()
        thread = nil
    }

    private func read(workers: Int, progress: (Int) throws -> Void) throws -> Findings {
        var done = 0
        let headers = try sources.map { source in
            defer { done += source.count }
            return try ImageHeaders(of: source, workers: workers, text: text) { try progress(done + $0) }
        }
        let copies = try comparisons.map { comparison in
            try CopiedImages(of: sources[comparison.learned], in: sources[comparison.judged], workers: workers) {
                try progress(done)
            }
        }
        return Findings(headers: headers, copies: copies)
    }

    private func keep(_ findings: Findings) throws {
        let isSmall = sources.reduce(0) { $0 + $1.count } <= Self.mostBefore
        let kept = Kept(
            files: checksum, findings: findings,
            names: isSmall ? sources.map { source in (0..<source.count).map(source.name) } : nil)
        try AtomicFile.write(try kept.sortedJSON() + [0x0A], to: directory.imagesPath, replacesLink: true)
    }

    /// A checksum of the paths, sizes and times of modification of all files.
    private static func checksum(of sources: [any ImageSource]) -> String {
        var hash = XXHash64()
        for source in sources {
            for path in source.files {
                var status = stat()
                _ = stat(path, &status)
                let stamp = FileStamp(status)
                var line = "\(path)\0\(stamp.size) \(stamp.seconds) \(stamp.nanoseconds)\n"
                line.withUTF8 { hash.update(UnsafeRawBufferPointer($0)) }
            }
        }
        return hash.text
    }
}

/// A value that is handed to a thread: what it has for several threads is behind a mutex.
private struct Unchecked<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) { self.value = value }
}
