import Glibc
import Reporting

/// The values of a run's `log.jsonl`, a column for each key.
///
/// Damaged lines are counted and left out, as is a last line that is still being written. Lines whose steps do not rise
/// are sorted; of two of one step the later one counts.
package struct RunLogTable {
    /// Lines of one kind: those of optimiser steps, or those of evaluations.
    package struct Rows {
        package fileprivate(set) var steps: [Int] = []
        package fileprivate(set) var epochs: [Double] = []
        /// Seconds of training up to each line, over all processes of the run.
        package fileprivate(set) var seconds: [Double] = []
        /// When each line was written, as the log says; empty where it does not.
        package fileprivate(set) var times: [String] = []
        /// The columns in the order in which their keys came first; a list's values are columns called KEY_0, KEY_1, …
        package fileprivate(set) var keys: [String] = []
        /// [column][line]; NaN for a value that is missing or not finite.
        package fileprivate(set) var columns: [[Double]] = []

        package var count: Int { steps.count }

        /// The values under `key`; nil where no line has it.
        package subscript(key: String) -> [Double]? { keys.firstIndex(of: key).map { columns[$0] } }
    }

    package private(set) var steps = Rows()
    package private(set) var evaluations = Rows()
    /// Number of lines that are not of a run's log.
    package private(set) var damagedLines = 0

    /// Maximum number of columns; a log with more is another program's.
    private static let maximumKeys = 4096

    /// Reads the log at `path`.
    ///
    /// - Throws: `Failure.inputOutput` if it cannot be read.
    package init(path: String) throws {
        // Not mapped: a run that is resumed cuts its log.
        self.init(try Self.contents(path))
    }

    package init(_ bytes: [UInt8]) {
        var reader = LineReader(), base = 0.0, last = 0.0
        // A byte after the last one, where a number ends.
        let padded = bytes + [0]
        padded.withUnsafeBufferPointer { all in
            var start = 0
            while start < bytes.count {
                let feed = memchr(all.baseAddress! + start, 0x0A, bytes.count - start)
                let end = feed.map { UnsafeRawPointer($0) - UnsafeRawPointer(all.baseAddress!) } ?? bytes.count
                defer { start = end + 1 }
                guard end > start else { continue }
                guard reader.read(all, start..<end), reader.keys.count <= Self.maximumKeys else {
                    if feed != nil { damagedLines += 1 }
                    continue
                }
                // Each process counts its own seconds from 0.
                if reader.elapsed < last { base += last }
                last = reader.elapsed
                let isStep = reader.isStep
                if isStep {
                    Self.add(reader, base + last, to: &steps)
                } else {
                    Self.add(reader, base + last, to: &evaluations)
                }
            }
        }
        Self.finish(&steps, reader.keys)
        Self.finish(&evaluations, reader.keys)
    }

    private static func add(_ line: LineReader, _ seconds: Double, to rows: inout Rows) {
        for (key, value) in line.values {
            while rows.columns.count <= key { rows.columns.append([]) }
            while rows.columns[key].count < rows.count { rows.columns[key].append(.nan) }
            // A key that comes twice has its first value.
            if rows.columns[key].count == rows.count { rows.columns[key].append(value) }
        }
        rows.steps.append(line.step)
        rows.epochs.append(line.epoch)
        rows.seconds.append(seconds)
        rows.times.append(line.time)
    }

    /// Fills columns up, removes those of other lines, and sorts.
    private static func finish(_ rows: inout Rows, _ keys: [String]) {
        let used = rows.columns.indices.filter { !rows.columns[$0].isEmpty }
        rows.keys = used.map { keys[$0] }
        rows.columns = used.map {
            rows.columns[$0] + [Double](repeating: .nan, count: rows.count - rows.columns[$0].count)
        }
        let steps = rows.steps
        guard zip(steps, steps.dropFirst()).contains(where: { $0 >= $1 }) else { return }
        let sorted = steps.indices.sorted { (steps[$0], $0) < (steps[$1], $1) }
        let order = sorted.indices.filter { $0 + 1 == sorted.count || steps[sorted[$0]] != steps[sorted[$0 + 1]] }
            .map { sorted[$0] }
        rows.steps = order.map { steps[$0] }
        rows.epochs = order.map { rows.epochs[$0] }
        rows.seconds = order.map { rows.seconds[$0] }
        rows.times = order.map { rows.times[$0] }
        rows.columns = rows.columns.map { column in order.map { column[$0] } }
    }

    private static func contents(_ path: String) throws -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw Failure.cannotOpen(quoted(path: path), errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw Failure(.inputOutput, "cannot read \(quoted(path: path)): it is not a regular file; name a run")
        }
        let length = Int(status.st_size)
        var number: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
            while count < length {
                let got = Glibc.read(descriptor, buffer.baseAddress! + count, length - count)
                if got < 0, errno == EINTR { continue }
                if got < 0 { number = errno }
                guard got > 0 else { return }
                count += got
            }
        }
        guard number == 0 else {
            throw Failure(
                .inputOutput, "cannot read \(quoted(path: path)): \(errorText(number)); check the disk it is on")
        }
        return bytes
    }
}

/// Reads one line after another: a flat object of numbers, lists of numbers and strings without escapes.
private struct LineReader {
    /// The keys of all lines so far.
    private(set) var keys: [String] = []
    private var places: [String: Int] = [:]
    private(set) var step = 0
    private(set) var epoch = 0.0
    private(set) var time = ""
    private(set) var elapsed = 0.0
    private(set) var isStep = false
    /// By the index of their key.
    private(set) var values: [(key: Int, value: Double)] = []

    private var bytes = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
    private var place = 0, end = 0

    /// Returns false for a line that is no such object, or has no step or epoch.
    mutating func read(_ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> Bool {
        (self.bytes, place, end) = (bytes, range.lowerBound, range.upperBound)
        values.removeAll(keepingCapacity: true)
        (time, elapsed, isStep) = ("", 0, false)
        var hasStep = false, hasEpoch = false
        guard take("{") else { return false }
        repeat {
            guard let key = string(), take(":") else { return false }
            if key == "time" {
                guard let text = string() else { return false }
                time = text
            } else if take("[") {
                var index = 0
                if take("]") { continue }
                repeat {
                    guard let value = number() else { return false }
                    add("\(key)_\(index)", value)
                    index += 1
                } while take(",")
                guard take("]") else { return false }
            } else {
                guard let value = number() else { return false }
                switch key {
                case "step":
                    guard value >= 0, value < 1e15, value == value.rounded() else { return false }
                    (step, hasStep) = (Int(value), true)
                case "epoch":
                    guard value.isFinite else { return false }
                    (epoch, hasEpoch) = (value, true)
                case "elapsed_seconds": elapsed = value.isFinite && value >= 0 ? value : 0
                default:
                    if key == "learning_rate" { isStep = true }
                    add(key, value)
                }
            }
        } while take(",")
        guard take("}") else { return false }
        return place == end && hasStep && hasEpoch
    }

    private mutating func add(_ key: String, _ value: Double) {
        let index =
            places[key]
            ?? {
                keys.append(key)
                places[key] = keys.count - 1
                return keys.count - 1
            }()
        values.append((index, value.isFinite ? value : .nan))
    }

    /// Consumes `character`, and the spaces around it, if it comes next.
    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        skip()
        guard place < end, bytes[place] == UInt8(ascii: character) else { return false }
        place += 1
        skip()
        return true
    }

    private mutating func skip() {
        while place < end, bytes[place] == 0x20 || bytes[place] == 0x0D || bytes[place] == 0x09 { place += 1 }
    }

    private mutating func string() -> String? {
        guard take("\"") else { return nil }
        let start = place
        while place < end, bytes[place] != 0x22, bytes[place] != 0x5C, bytes[place] >= 0x20 { place += 1 }
        guard place < end, bytes[place] == 0x22, place - start <= 200 else { return nil }
        place += 1
        return String(validating: bytes[start..<place - 1], as: UTF8.self)
    }

    /// A number, or NaN for null.
    private mutating func number() -> Double? {
        let start = place
        while place < end, Self.isInWord(bytes[place]) { place += 1 }
        guard place > start else { return nil }
        if place - start == 4, bytes[start..<place].elementsEqual("null".utf8) { return .nan }
        // strtod reads more: hexadecimal numbers, infinity.
        let isPlain = bytes[start..<place].allSatisfy { $0 < 0x3A || $0 | 0x20 == 0x65 }
        guard isPlain, bytes[start] == 0x2D || (0x30...0x39).contains(bytes[start]) else { return nil }
        let text = UnsafeRawPointer(bytes.baseAddress! + start).assumingMemoryBound(to: CChar.self)
        var stop: UnsafeMutablePointer<CChar>?
        let value = strtod(text, &stop)
        guard stop.map({ UnsafePointer($0) - text }) == place - start else { return nil }
        return value
    }

    private static func isInWord(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20) || byte == 0x2B || byte == 0x2D
            || byte == 0x2E
    }
}
