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
    /// Keys of values that are measured, and therefore differ between two runs of the same configuration. All other
    /// values have the same bytes after any kill and resume, and for any number of threads and workers.
    package static let measuredKeys = ["images_per_second", "time", "elapsed_seconds"]

    /// The path of the log.
    public let path: String
    private let terms: [LossTerm]
    private let descriptor: Int32
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
    /// last line are removed.
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
        descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o666)
        guard descriptor >= 0 else { throw errno == ELOOP ? foreign("a symbolic link") : failure(errno) }
        do {
            try requireOwn()
            let kept = try lengthKept(after: step, keepsEvaluation: keepsEvaluation)
            guard ftruncate(descriptor, kept) == 0 else { throw failure(errno) }
        } catch {
            close(descriptor)
            throw error
        }
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
        text(",\"learning_rate\":")
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
            guard count >= 0 else { throw failure(errno) }
            written += count
        }
    }

    /// Syncs the log to disk. Called before a checkpoint is written, so that the log never lacks steps of a checkpoint.
    /// Throws `Failure(.inputOutput)`.
    public func synchronize() throws {
        guard fdatasync(descriptor) == 0 || errno == EINVAL else { throw failure(errno) }
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

    private func failure(_ number: Int32) -> Failure {
        Failure(
            .inputOutput,
            "cannot write \(quoted(path: path)): \(errorText(number)); check the folder and the space on its disk")
    }

    private func foreign(_ what: String) -> Failure {
        Failure(
            .inputOutput,
            "\(quoted(path: path)) is \(what), not the log of a run: move it away, or name another \(.output) folder")
    }

    /// Requires that the file is empty or begins as a log does: anything else is not ours to cut.
    private func requireOwn() throws {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw foreign("not a regular file") }
        var head = [UInt8](repeating: 0, count: Self.firstKey.count)
        let count = pread(descriptor, &head, head.count, 0)
        guard count >= 0 else { throw failure(errno) }
        // A full disk may have cut the first line, and a power failure may leave zeros.
        let isOwn = head.prefix(count).elementsEqual(Self.firstKey.prefix(count))
        guard isOwn || head.allSatisfy({ $0 == 0 }) else {
            throw foreign("another program's file")
        }
    }

    /// The length up to and including the last whole line of a step ≤ `step`; without evaluations after `step` unless
    /// `keepsEvaluation`.
    private func lengthKept(after step: Int, keepsEvaluation: Bool) throws -> Int {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(errno) }
        let length = Int(status.st_size)
        guard length > 0, step > 0 else { return 0 }
        guard let base = mmap(nil, length, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else {
            throw failure(errno)
        }
        defer { munmap(base, length) }
        let bytes = UnsafeRawBufferPointer(start: base, count: length)
        // From the end backwards, so that only the lines to be removed are read.
        var end = length
        while end > 0 {
            var start = end - 1
            while start > 0, bytes[start - 1] != 0x0A { start -= 1 }
            if let found = Self.step(of: bytes[start..<end]), found <= step {
                let isEvaluation = found == step && !Self.isStep(bytes[start..<end])
                if keepsEvaluation || !isEvaluation { return end }
            }
            end = start
        }
        return 0
    }

    /// The step of a complete line, its line feed included; nil if the line is incomplete or not of this log.
    private static func step(of line: Slice<UnsafeRawBufferPointer>) -> Int? {
        guard line.starts(with: firstKey), line.suffix(2).elementsEqual([0x7D, 0x0A]) else { return nil }
        let digits = line.dropFirst(firstKey.count).prefix { (0x30...0x39).contains($0) }
        return Int(String(decoding: digits, as: UTF8.self))
    }

    /// Whether a line is that of an optimiser step, not of evaluations.
    private static func isStep(_ line: Slice<UnsafeRawBufferPointer>) -> Bool {
        String(decoding: line, as: UTF8.self).contains(",\"learning_rate\":")
    }
}
