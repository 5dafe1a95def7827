import Reporting
import Glibc
import Models
import Tensors
import Weights

/// The record of one optimiser step.
public struct StepRecord: Equatable, Sendable {
    /// Optimiser steps done, this one included.
    public var step: Int
    /// The epoch at the end of the step, with its fraction.
    public var epoch: Double
    /// Means over the step, in the order of the objective's loss values.
    public var losses: [Float]
    /// Learning rate of the step.
    public var learningRate: Double
    /// The Euclidean norm of the gradient over all trained parameters, before the update.
    public var gradientNorm: Float
    /// Images per second since the previous step, with loading and checkpoints.
    public var imagesPerSecond: Float

    public init(
        step: Int, epoch: Double, losses: [Float], learningRate: Double, gradientNorm: Float, imagesPerSecond: Float
    ) {
        self.step = step
        self.epoch = epoch
        self.losses = losses
        self.learningRate = learningRate
        self.gradientNorm = gradientNorm
        self.imagesPerSecond = imagesPerSecond
    }
}

/// The log of a run, one JSON object per optimiser step and line:
///
///     {"step":1,"epoch":0.02,"loss":…,"loss_reconstruction":…,"loss_align":[…],"learning_rate":…,
///      "gradient_norm":…,"images_per_second":…,"time":"2026-01-31T12:00:00Z","elapsed_seconds":…}
///
/// The losses are the objective's, under the keys of its terms. After the line of a step with evaluations, their values
/// have a line of their own:
///
///     {"step":50,"epoch":1.0,"val_top1":…,"val_top5":…,"val_loss":…,"time":…,"elapsed_seconds":…}
///
/// Numbers have the fewest digits that read back to the same bits; numbers that are not finite are null. `step` comes
/// first: a resumed run finds the end of its log by it.
public final class RunLog {
    private static let firstKey = Array("{\"step\":".utf8)
    private static let secondKey = Array(",\"epoch\":".utf8)
    /// Keys of values that are measured, and therefore differ between two runs of the same configuration. All other
    /// values have the same bytes after any kill and resume, and for any number of threads and workers.
    package static let measuredKeys = ["images_per_second", "time", "elapsed_seconds"]

    /// The key of a value that every line of a step has, and no other.
    static let learningRateKey = "learning_rate"

    /// The path of the log.
    public let path: String
    private let terms: [LossTerm]
    private let descriptor: Int32
    private var hasNameOnDisk = false
    /// What was wrong with the log that a resumed run found, a sentence each.
    package let notes: [Message]
    private let clock: Clock
    private let start: Double
    /// Reused for every line, so that only the digits of long numbers are allocated.
    private var line: [UInt8] = []

    /// Where the measured values come from; replaced in tests.
    package struct Clock {
        /// Seconds since 1970, UTC.
        package var time: () -> Int = { Glibc.time(nil) }
        /// Seconds since any fixed moment.
        package var seconds: () -> Double = { monotonicSeconds() }

        package init() {}
    }

    /// Opens the log for a run that continues after `step` (0: from the start). Lines of later steps and an incomplete
    /// last line are removed. Damaged lines before them are moved into a file of their own, which a note names; another
    /// note says which steps are missing.
    ///
    /// - Parameter keepsEvaluation: whether the line of evaluations after `step` stays, too.
    /// - Throws: `Failure.inputOutput`.
    public convenience init(path: String, after step: Int, keepsEvaluation: Bool = true, terms: [LossTerm]) throws {
        try self.init(path: path, after: step, keepsEvaluation: keepsEvaluation, terms: terms, clock: Clock())
    }

    package init(path: String, after step: Int, keepsEvaluation: Bool = true, terms: [LossTerm], clock: Clock) throws {
        self.path = path
        self.clock = clock
        start = clock.seconds()
        self.terms = terms
        let file = try Self.open(path)
        do {
            let bytes = try Self.contents(of: file, path)
            let kept = Self.lengthKept(bytes, after: step, keepsEvaluation: keepsEvaluation)
            let lines = bytes[..<kept].split(separator: 0x0A)
            let damaged = lines.filter { Self.step(of: $0) == nil }
            var notes: [Message] = []
            if damaged.isEmpty {
                guard ftruncate(file, kept) == 0 else { throw Self.failure(path, errno) }
                descriptor = file
            } else {
                let place = Self.damagedPath(path, after: step)
                try AtomicFile.write(Self.text(damaged), to: place, replacesLink: true)
                try AtomicFile.write(Self.text(lines.filter { Self.step(of: $0) != nil }), to: path)
                close(file)
                descriptor = try Self.open(path)
                notes.append(
                    "\(path): damaged lines were moved to \(place) (lines: \(damaged.count)); the run goes on without "
                        + "them")
            }
            self.notes = notes + Self.gap(lines, before: step, path)
        } catch {
            close(file)
            throw error
        }
    }

    private static func open(_ path: String) throws -> Int32 {
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o666)
        guard descriptor >= 0 else { throw errno == ELOOP ? foreign(path, "a symbolic link") : failure(path, errno) }
        return descriptor
    }

    /// The path of a file for the damaged lines that a run finds when it continues after `step`; of an earlier one the
    /// name is left alone.
    private static func damagedPath(_ path: String, after step: Int) -> String {
        let stem = path.hasSuffix(".jsonl") ? String(path.dropLast(6)) : path
        let names = (0...).lazy.map { "\(stem).damaged-\(step)\($0 == 0 ? "" : "-\($0)").jsonl" }
        return names.first { access($0, F_OK) != 0 }!
    }

    private static func text(_ lines: [ArraySlice<UInt8>]) -> [UInt8] { Array(lines.map { $0 + [0x0A] }.joined()) }

    /// A note where steps up to `step` have no line.
    private static func gap(_ lines: [ArraySlice<UInt8>], before step: Int, _ path: String) -> [Message] {
        var has = [Bool](repeating: false, count: step)
        for line in lines where isStep(line) {
            if let number = Self.step(of: line), (1...max(1, step)).contains(number), step > 0 {
                has[number - 1] = true
            }
        }
        guard let first = has.firstIndex(of: false) else { return [] }
        let end = has[first...].firstIndex(of: true) ?? step
        let missing = has.count { !$0 }
        let stretch = end == first + 1 ? "step \(end)" : "steps \(first + 1) to \(end)"
        let others = missing > end - first ? ", and of \(missing - (end - first)) others" : ""
        return ["\(path) has no lines of \(stretch)\(others): tables and curves lack them, the run itself does not"]
    }

    deinit {
        close(descriptor)
    }

    /// Adds the line of one step. Throws `Failure(.inputOutput)`.
    public func append(_ record: StepRecord) throws {
        begin(step: record.step, epoch: record.epoch)
        var values = record.losses[...]
        for term in terms {
            text(",\"\(term.key)\":")
            if term.listCount != nil { text("[") }
            for index in 0..<term.valueCount {
                if index > 0 { text(",") }
                number(values.removeFirst())
            }
            if term.listCount != nil { text("]") }
        }
        text(",\"\(Self.learningRateKey)\":")
        number(record.learningRate)
        text(",\"gradient_norm\":")
        number(record.gradientNorm)
        text(",\"images_per_second\":")
        number(record.imagesPerSecond)
        try write()
    }

    /// Adds the line of the evaluations after a step. Throws `Failure(.inputOutput)`.
    public func append(_ record: EvaluationRecord) throws {
        begin(step: record.step, epoch: record.epoch)
        for value in record.values {
            text(",\"\(value.term.key)\":")
            number(value.value)
        }
        try write()
    }

    private func begin(step: Int, epoch: Double) {
        line.removeAll(keepingCapacity: true)
        line.append(contentsOf: Self.firstKey)
        text("\(step)")
        text(",\"epoch\":")
        number(epoch)
    }

    /// Ends the line with its time and writes it.
    private func write() throws {
        var now = clock.time(), parts = tm()
        gmtime_r(&now, &parts)
        text(",\"time\":\"")
        digits(Int(parts.tm_year) + 1900, count: 4, "-")
        digits(Int(parts.tm_mon) + 1, count: 2, "-")
        digits(Int(parts.tm_mday), count: 2, "T")
        digits(Int(parts.tm_hour), count: 2, ":")
        digits(Int(parts.tm_min), count: 2, ":")
        digits(Int(parts.tm_sec), count: 2, "Z\"")
        text(",\"elapsed_seconds\":")
        number(((clock.seconds() - start) * 1000).rounded() / 1000)
        text("}\n")
        var written = 0
        while written < line.count {
            let count = line.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + written, $0.count - written) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Self.failure(path, errno) }
            written += count
        }
    }

    /// Syncs the log to disk, the first time with its name in the folder. Called before a checkpoint is written, so that the
    /// log never lacks steps of a checkpoint. Throws `Failure(.inputOutput)`.
    public func synchronize() throws {
        guard fdatasync(descriptor) == 0 || errno == EINVAL else { throw Self.failure(path, errno) }
        guard !hasNameOnDisk else { return }
        try AtomicFile.synchronizeFolder(of: path)
        hasNameOnDisk = true
    }

    private func text(_ text: String) {
        line.append(contentsOf: text.utf8)
    }

    /// Appends `value` with at least `count` digits, then `end`.
    private func digits(_ value: Int, count: Int, _ end: String) {
        let digits = "\(value)"
        for _ in 0..<max(0, count - digits.utf8.count) { line.append(UInt8(ascii: "0")) }
        text(digits)
        text(end)
    }

    private func number(_ value: some BinaryFloatingPoint & CustomStringConvertible) {
        text(value.isFinite ? value.description : "null")
    }

    private static func failure(_ path: String, _ number: Int32) -> Failure {
        .system("cannot write \(quoted(path: path))", number, .writing)
    }

    private static func foreign(_ path: String, _ what: String) -> Failure {
        Failure(
            .inputOutput,
            "\(quoted(path: path)) is \(what), not the log of a run: move it away, or name another \(.output) folder")
    }

    /// The file's bytes.
    ///
    /// - Throws: `Failure.inputOutput` for a file that is not empty and has no line of a run's log: it is not ours to cut.
    private static func contents(of descriptor: Int32, _ path: String) throws -> [UInt8] {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(path, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw foreign(path, "not a regular file") }
        let length = Int(status.st_size)
        var number: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
            while count < length {
                let read = pread(descriptor, buffer.baseAddress! + count, length - count, count)
                if read < 0, errno == EINTR { continue }
                if read < 0 { number = errno }
                guard read > 0 else { return }
                count += read
            }
        }
        guard number == 0 else { throw failure(path, number) }
        // A full disk may have cut the first line, and a power failure may leave zeros.
        let isOwn =
            bytes.split(separator: 0x0A).contains { step(of: $0) != nil } || bytes.allSatisfy { $0 == 0 }
            || isBeginning(bytes[..<(bytes.firstIndex(of: 0x0A) ?? bytes.count)])
        guard isOwn else { throw foreign(path, "another program's file") }
        return bytes
    }

    /// Whether bytes may be the beginning of a line, of any length.
    private static func isBeginning(_ bytes: ArraySlice<UInt8>) -> Bool {
        guard bytes.count > firstKey.count else { return bytes.elementsEqual(firstKey.prefix(bytes.count)) }
        guard bytes.starts(with: firstKey) else { return false }
        let rest = bytes.dropFirst(firstKey.count).drop { (0x30...0x39).contains($0) }
        return rest.prefix(secondKey.count).elementsEqual(secondKey.prefix(rest.count))
    }

    /// The length up to and including the last whole line of a step ≤ `step`; without evaluations after `step` unless
    /// `keepsEvaluation`.
    private static func lengthKept(_ bytes: [UInt8], after step: Int, keepsEvaluation: Bool) -> Int {
        guard step > 0 else { return 0 }
        var end = (bytes.lastIndex(of: 0x0A) ?? -1) + 1
        while end > 0 {
            let start = (bytes[..<(end - 1)].lastIndex(of: 0x0A) ?? -1) + 1
            let line = bytes[start..<(end - 1)]
            if let found = self.step(of: line), found <= step {
                let isEvaluation = found == step && !isStep(line)
                if keepsEvaluation || !isEvaluation { return end }
            }
            end = start
        }
        return 0
    }

    /// The step of a whole line, without its line feed; nil if it is not one of this log.
    private static func step(of line: ArraySlice<UInt8>) -> Int? {
        guard line.starts(with: firstKey), line.last == UInt8(ascii: "}"), !line.contains(0) else { return nil }
        let rest = line.dropFirst(firstKey.count), digits = rest.prefix { (0x30...0x39).contains($0) }
        guard rest.dropFirst(digits.count).starts(with: secondKey) else { return nil }
        return Int(String(decoding: digits, as: UTF8.self))
    }

    /// Whether a line is that of an optimiser step, not of evaluations.
    private static func isStep(_ line: ArraySlice<UInt8>) -> Bool {
        String(decoding: line, as: UTF8.self).contains(",\"\(learningRateKey)\":")
    }
}
