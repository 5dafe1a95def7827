import Reporting
import Glibc
import Models
import Synchronization
import Weights

/// The progress of a run on standard error: one line that overwrites itself at a terminal, otherwise a plain line every
/// ten seconds.
///
/// Safe to use from several threads.
public final class ProgressLine: Sendable {
    /// The output, terminal, clock and memory that the line uses; replaced in tests.
    package struct Surroundings: Sendable {
        package var isTerminal: Bool
        package var hasColor: Bool
        /// Columns of the terminal.
        package var width: @Sendable () -> Int
        /// Seconds since any fixed moment.
        package var clock: @Sendable () -> Double
        package var residentBytes: @Sendable () -> Int
        package var write: @Sendable (String) -> Void

        package init(
            isTerminal: Bool, hasColor: Bool, width: @escaping @Sendable () -> Int,
            clock: @escaping @Sendable () -> Double,
            residentBytes: @escaping @Sendable () -> Int, write: @escaping @Sendable (String) -> Void
        ) {
            self.isTerminal = isTerminal
            self.hasColor = hasColor
            self.width = width
            self.clock = clock
            self.residentBytes = residentBytes
            self.write = write
        }
    }

    private struct State {
        /// The newest record, and its time.
        var last: (record: StepRecord, time: Double)?
        var lastDrawn: (step: Int, time: Double)?
        /// The newest value of each evaluation's term, in the order in which they came first, and its epoch.
        var evaluated: [(value: EvaluationRecord.Value, epoch: Double)] = []
        /// The time of the last plain line of an evaluation.
        var lastEvaluation: Double?
        /// The start of the speed measurement: the first record of this process.
        var start: (step: Int, time: Double)?
        /// Whether the cursor is in a drawn line.
        var isOpen = false
    }

    /// Seconds between two drawings at a terminal, and between two plain lines.
    package static let terminalInterval = 0.1, plainInterval = 10.0

    private let total: Int
    private let terms: [LossTerm]
    private let surroundings: Surroundings
    private let state = Mutex(State())

    /// For a run of `totalSteps` optimiser steps, those before a resumption included.
    public convenience init(totalSteps: Int, terms: [LossTerm]) {
        let isDumb = getenv("TERM").map { String(cString: $0) == "dumb" } ?? true
        let noColor = getenv("NO_COLOR").map { $0.pointee != 0 } ?? false
        self.init(
            totalSteps: totalSteps, terms: terms,
            surroundings: Surroundings(
                isTerminal: isatty(2) != 0 && !isDumb, hasColor: !noColor, width: Self.terminalWidth,
                clock: { monotonicSeconds() },
                residentBytes: Self.residentBytes, write: Self.writeToStandardError))
    }

    package init(totalSteps: Int, terms: [LossTerm], surroundings: Surroundings) {
        total = totalSteps
        self.terms = terms
        self.surroundings = surroundings
    }

    /// Stores a step and shows it if it is the first or the last, or if an interval has passed since the last drawing.
    public func update(_ record: StepRecord) {
        state.withLock { state in
            let now = surroundings.clock()
            state.last = (record, now)
            if state.start == nil { state.start = (record.step, now) }
            let interval = surroundings.isTerminal ? Self.terminalInterval : Self.plainInterval
            if let last = state.lastDrawn, now - last.time < interval, record.step < total { return }
            draw(&state, now)
        }
    }

    /// Stores an evaluation. At a terminal the line shows its first value, and its first fraction, from now on.
    /// Otherwise it gets a plain line, if ten seconds have passed since the last one, if it has a value that no earlier
    /// one had, or if it is the last.
    public func update(_ record: EvaluationRecord) {
        state.withLock { state in
            var hasNew = false
            for value in record.values {
                if let index = state.evaluated.firstIndex(where: { $0.value.term == value.term }) {
                    state.evaluated[index] = (value, record.epoch)
                } else {
                    state.evaluated.append((value, record.epoch))
                    hasNew = true
                }
            }
            let now = surroundings.clock()
            guard !surroundings.isTerminal else {
                if state.last != nil { draw(&state, now) }
                return
            }
            if let last = state.lastEvaluation, now - last < Self.plainInterval, !hasNew, record.step < total { return }
            state.lastEvaluation = now
            let values = record.values.map { "\($0.term.name) \($0.text)" }
            surroundings.write(
                "evaluation  epoch \(Format.fixed(record.epoch, 2))  " + values.joined(separator: "  ") + "\n")
        }
    }

    /// Prints `text` as a line above the progress line.
    public func message(_ text: String) {
        state.withLock { state in
            surroundings.write((state.isOpen ? "\r\u{1B}[K" : "") + visible(text) + "\n")
            state.isOpen = false
            if surroundings.isTerminal, state.last != nil { draw(&state, surroundings.clock()) }
        }
    }

    /// Shows the last step, if it was not shown, and ends the line.
    public func finish() {
        state.withLock { state in
            if let last = state.last, state.lastDrawn?.step != last.record.step { draw(&state, surroundings.clock()) }
            if state.isOpen { surroundings.write("\n") }
            state.isOpen = false
            state.last = nil
        }
    }

    private func draw(_ state: inout State, _ now: Double) {
        guard let (record, time) = state.last else { return }
        state.lastDrawn = (record.step, now)
        var perStep: Double?
        if let start = state.start, record.step > start.step {
            perStep = (time - start.time) / Double(record.step - start.step)
        }
        let fields = fields(record, surroundings.isTerminal ? state.evaluated : [], secondsPerStep: perStep)
        if surroundings.isTerminal {
            // The last column stays free: some terminals wrap as soon as it is written.
            surroundings.write("\r" + fitted(fields, columns: surroundings.width() - 1) + "\u{1B}[K")
            state.isOpen = true
        } else {
            surroundings.write(fields.map(\.text).joined(separator: "  ") + "\n")
        }
    }

    // MARK: Text

    private struct Field {
        let text: String
        /// On a narrow terminal the field with the highest value is dropped first.
        let dispensability: Int
        var isDim = false
    }

    private func fields(
        _ record: StepRecord, _ evaluated: [(value: EvaluationRecord.Value, epoch: Double)], secondsPerStep: Double?
    ) -> [Field] {
        // The total, then the other terms: the name and the values of each.
        var values = record.losses[...]
        let parts = terms.filter { $0.valueCount > 0 }.map { term in
            let numbers = values.prefix(term.valueCount).map { Format.fixed(Double($0), 4) }
            values.removeFirst(term.valueCount)
            return ([term.name] + numbers).joined(separator: " ")
        }
        var fields = [
            Field(text: "step \(record.step)/\(total)", dispensability: 0),
            Field(text: "epoch \(Format.fixed(record.epoch, 2))", dispensability: 4),
            Field(text: parts[0], dispensability: 1),
            Field(text: "\(Format.fixed(Double(record.imagesPerSecond), 1)) images/s", dispensability: 3),
            Field(
                text: "\(Format.fixed(Double(surroundings.residentBytes()) / 1e9, 2)) GB", dispensability: 5,
                isDim: true),
        ]
        if parts.count > 1 {
            fields.insert(
                Field(text: "(\(parts.dropFirst().joined(separator: ", ")))", dispensability: 6, isDim: true), at: 3)
        }
        // Behind the losses.
        var place = fields.count - 2
        let firstFraction = evaluated.firstIndex { $0.value.term.isFraction }
        for (index, (value, epoch)) in evaluated.enumerated() where index == 0 || index == firstFraction {
            let text = "\(value.term.name) \(value.text) (epoch \(Format.fixed(epoch, epoch < 10 ? 1 : 0)))"
            fields.insert(Field(text: text, dispensability: 1), at: place)
            place += 1
        }
        if let secondsPerStep, record.step < total {
            fields.append(
                Field(text: "\(Format.countdown(Double(total - record.step) * secondsPerStep)) left", dispensability: 2)
            )
        }
        return fields
    }

    private func fitted(_ fields: [Field], columns: Int) -> String {
        var fields = fields
        while fields.count > 1, fields.reduce(-2, { $0 + $1.text.utf8.count + 2 }) > columns {
            let victim = fields.indices.max { fields[$0].dispensability < fields[$1].dispensability }!
            fields.remove(at: victim)
        }
        if fields.count == 1 { return String(fields[0].text.prefix(max(0, columns))) }
        return fields.map { $0.isDim && surroundings.hasColor ? "\u{1B}[2m\($0.text)\u{1B}[0m" : $0.text }.joined(
            separator: "  ")
    }

    // MARK: Terminal and process

    private static let terminalWidth: @Sendable () -> Int = {
        var size = winsize()
        return ioctl(2, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
    }

    /// The second number of /proc/self/statm, in pages.
    private static let residentBytes: @Sendable () -> Int = {
        let descriptor = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return 0 }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 128)
        let count = read(descriptor, &buffer, buffer.count)
        let fields = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self).split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
    }

    private static let writeToStandardError: @Sendable (String) -> Void = { text in
        // A failed write is ignored. A single call keeps the line in one piece.
        _ = Glibc.write(2, text, text.utf8.count)
    }
}
