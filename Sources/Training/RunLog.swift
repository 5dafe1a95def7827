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
///     {"step":1,"epoch":0.02,"loss":…,"loss_reconstruction":…,"loss_align":[…],
///      "learning_rate":…,"gradient_norm":…,"images_per_second":…}
///
/// The losses are the objective's, under the keys of its terms. Numbers have the fewest digits that read back to the
/// same bits; numbers that are not finite are null. `step` comes first: a resumed run finds the end of its log by it.
public final class RunLog {
    private static let firstKey = Array("{\"step\":".utf8)

    /// The path of the log.
    public let path: String
    private let terms: [LossTerm]
    private let descriptor: Int32
    /// Reused for every line, so that only the digits of long numbers are allocated.
    private var line: [UInt8] = []

    /// Opens the log for a run that continues after `step` (0: from the start). Lines of later steps and an incomplete
    /// last line are removed.
    ///
    /// Throws `Failure(.inputOutput)`.
    public init(path: String, after step: Int, terms: [LossTerm]) throws {
        self.path = path
        self.terms = terms
        descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw failure(errno) }
        do {
            let kept = try lengthKept(after: step)
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
        line.removeAll(keepingCapacity: true)
        line.append(contentsOf: Self.firstKey)
        text("\(record.step)")
        text(",\"epoch\":")
        number(record.epoch)
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

    private func number(_ value: some BinaryFloatingPoint & CustomStringConvertible) {
        text(value.isFinite ? value.description : "null")
    }

    private func failure(_ number: Int32) -> Failure {
        Failure(
            .inputOutput,
            "cannot write \(quoted(path: path)): \(errorText(number)); check the folder and the space on its disk")
    }

    /// The length up to and including the last whole line of a step ≤ `step`.
    private func lengthKept(after step: Int) throws -> Int {
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
            if let found = Self.step(of: bytes[start..<end]), found <= step { return end }
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
}
