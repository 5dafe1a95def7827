import Reporting
import Glibc
import Models
import Synchronization
import Weights

/// The progress of a run on standard error: one line that overwrites itself at a terminal, otherwise a plain line every
/// ten seconds, with the time of day and the time since the start.
///
/// Steps of several batches also show the batches that are done. Where the run waits for images, the line says so, with
/// the remedy.
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
        /// The time of day, as plain lines show it.
        package var timeOfDay: @Sendable () -> String
        package var residentBytes: @Sendable () -> Int
        package var write: @Sendable (String) -> Void

        package init(
            isTerminal: Bool, hasColor: Bool, width: @escaping @Sendable () -> Int,
            clock: @escaping @Sendable () -> Double, timeOfDay: @escaping @Sendable () -> String,
            residentBytes: @escaping @Sendable () -> Int, write: @escaping @Sendable (String) -> Void
        ) {
            self.isTerminal = isTerminal
            self.hasColor = hasColor
            self.width = width
            self.clock = clock
            self.timeOfDay = timeOfDay
            self.residentBytes = residentBytes
            self.write = write
        }
    }

    private struct State {
        /// The newest record, and its time.
        var last: (record: StepRecord, time: Double)?
        /// Where this process began: steps done, batches done of the next one, and the time.
        var begun: (step: Int, batch: Int, time: Double)?
        /// Batches that are done of the step after the newest record.
        var batch = 0
        /// Since when the run waits for a batch; nil while it does not, as far as the line knows.
        var waitsSince: Double?
        /// The start of the time over which `waitingShare` is measured next, and the seconds waited before.
        var waitingStart: (time: Double, waited: Double)?
        /// The fraction of the time that the run waits for images.
        var waitingShare = 0.0
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
    /// Seconds over which the share of waiting is measured, and the share from which on it is shown.
    package static let waitingInterval = 5.0, shownWaiting = 0.2

    private let total: Int
    private let terms: [LossTerm]
    private let batches: Int
    private let batchImages: Int
    private let remedy: String?
    private let surroundings: Surroundings
    private let start: Double
    private let state = Mutex(State())

    /// For a run of `totalSteps` optimiser steps, those before a resumption included.
    ///
    /// - Parameters:
    ///   - batches: batches of a step.
    ///   - batchImages: images of a batch.
    ///   - remedy: what helps a run that waits for images, in a few words; nil if nothing is known.
    public convenience init(
        totalSteps: Int, terms: [LossTerm], batches: Int = 1, batchImages: Int = 1, remedy: String? = nil
    ) {
        let noColor = getenv("NO_COLOR").map { $0.pointee != 0 } ?? false
        self.init(
            totalSteps: totalSteps, terms: terms, batches: batches, batchImages: batchImages, remedy: remedy,
            surroundings: Surroundings(
                isTerminal: Self.isAtTerminal, hasColor: !noColor, width: Self.terminalWidth,
                clock: { monotonicSeconds() }, timeOfDay: { localTime() },
                residentBytes: Self.residentBytes, write: Self.writeToStandardError))
    }

    package init(
        totalSteps: Int, terms: [LossTerm], batches: Int = 1, batchImages: Int = 1, remedy: String? = nil,
        surroundings: Surroundings
    ) {
        total = totalSteps
        self.terms = terms
        self.batches = batches
        self.batchImages = batchImages
        self.remedy = remedy
        self.surroundings = surroundings
        start = surroundings.clock()
    }

    /// Whether standard error is a terminal on which a line can overwrite itself.
    static var isAtTerminal: Bool {
        let isDumb = getenv("TERM").map { String(cString: $0) == "dumb" } ?? true
        return isatty(2) != 0 && !isDumb
    }

    /// Shows where this process begins: after `step` steps, and after `batch` batches of the next one.
    public func begin(step: Int, batch: Int) {
        guard step < total else { return }
        state.withLock { state in
            let now = surroundings.clock()
            state.begun = (step, batch, now)
            state.batch = batch
            state.waitsSince = now
            draw(&state, now)
        }
    }

    /// Stores that `batch` batches of the step after the newest record are done, and shows that if an interval has
    /// passed.
    ///
    /// - Parameter waited: seconds that the process has waited for images.
    public func update(batch: Int, waited: Double) {
        state.withLock { state in
            let now = surroundings.clock()
            state.batch = batch
            state.waitsSince = nil
            if let start = state.waitingStart {
                if now - start.time >= Self.waitingInterval {
                    state.waitingShare = min(1, (waited - start.waited) / (now - start.time))
                    state.waitingStart = (now, waited)
                }
            } else {
                // Not before the first batch: it is always waited for.
                state.waitingStart = (now, waited)
            }
            guard batch < batches, isDue(state, now) else { return }
            draw(&state, now)
        }
    }

    /// Called a few times a second while the run waits for a batch. Says so after a second, if an interval has passed.
    public func waitsForImages() {
        state.withLock { state in
            let now = surroundings.clock()
            let since = state.waitsSince ?? now
            state.waitsSince = since
            // A moment's waiting is part of the share alone.
            guard state.begun != nil, now - since >= 1, isDue(state, now) else { return }
            draw(&state, now)
        }
    }

    private func isDue(_ state: State, _ now: Double) -> Bool {
        let interval = surroundings.isTerminal ? Self.terminalInterval : Self.plainInterval
        return state.lastDrawn.map { now - $0.time >= interval } ?? true
    }

    /// Stores a step and shows it if it is the first or the last, or if an interval has passed since the last drawing.
    public func update(_ record: StepRecord) {
        state.withLock { state in
            let now = surroundings.clock()
            let isFirst = state.last == nil
            state.last = (record, now)
            state.batch = 0
            state.waitsSince = nil
            if state.start == nil { state.start = (record.step, now) }
            if isFirst || isDue(state, now) || record.step >= total { draw(&state, now) }
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
            let values = record.values.filter(\.term.isShown).map(\.named)
            surroundings.write(
                surroundings.timeOfDay() + "  evaluation  epoch \(Format.fixed(record.epoch, 2))  "
                    + values.joined(separator: "  ") + "\n")
        }
    }

    /// Prints `text` as a line above the progress line.
    ///
    /// - Parameter isTimed: whether a plain line begins with the time of day.
    public func message(_ text: String, isTimed: Bool = false) {
        state.withLock { state in
            let time = isTimed && !surroundings.isTerminal ? surroundings.timeOfDay() + "  " : ""
            surroundings.write((state.isOpen ? "\r\u{1B}[K" : "") + time + escaped(text) + "\n")
            state.isOpen = false
            if surroundings.isTerminal { draw(&state, surroundings.clock()) }
        }
    }

    /// Shows the last step, if it was not shown, and ends the line.
    public func finish() {
        state.withLock { state in
            if let last = state.last, state.lastDrawn?.step != last.record.step { draw(&state, surroundings.clock()) }
            if state.isOpen { surroundings.write("\n") }
            state.isOpen = false
            state.last = nil
            state.begun = nil
        }
    }

    private func draw(_ state: inout State, _ now: Double) {
        guard let step = state.last?.record.step ?? state.begun?.step else { return }
        state.lastDrawn = (step, now)
        let fields = fields(state, step: step, now)
        if surroundings.isTerminal {
            // The last column stays free: some terminals wrap as soon as it is written.
            surroundings.write("\r" + fitted(fields, columns: surroundings.width() - 1) + "\u{1B}[K")
            state.isOpen = true
        } else {
            surroundings.write(([surroundings.timeOfDay()] + fields.map(\.text)).joined(separator: "  ") + "\n")
        }
    }

    // MARK: Text

    private struct Field {
        let text: String
        /// On a narrow terminal the field with the highest value is dropped first.
        let dispensability: Int
        var isDim = false
    }

    private func fields(_ state: State, step: Int, _ now: Double) -> [Field] {
        var fields = [Field(text: "step \(step)/\(total)", dispensability: 0)]
        if batches > 1, step < total, state.batch > 0 || state.last == nil {
            fields.append(Field(text: "batch \(state.batch)/\(batches)", dispensability: 3))
        }
        // Since this process began, until there is the record of a step.
        var speed: Double?
        if let begun = state.begun, step == begun.step, state.batch > begun.batch, now > begun.time {
            speed = Double((state.batch - begun.batch) * batchImages) / (now - begun.time)
        }
        if let record = state.last?.record {
            fields += losses(of: record)
            if surroundings.isTerminal { fields += evaluations(state.evaluated) }
            speed = Double(record.imagesPerSecond)
        }
        if let since = state.waitsSince, now - since >= 1 {
            fields.append(Field(text: "waiting for images", dispensability: 1))
        } else if state.waitingShare >= Self.shownWaiting {
            let remedy = remedy.map { " (\($0))" } ?? ""
            fields.append(
                Field(
                    text: "waiting for images \(Format.fixed(100 * state.waitingShare, 0)) %\(remedy)",
                    dispensability: 2))
        }
        if let speed { fields.append(Field(text: "\(Format.fixed(speed, 1)) images/s", dispensability: 3)) }
        // 0 where it is not known.
        let resident = surroundings.residentBytes()
        if resident > 0 {
            fields.append(
                Field(text: "\(Format.fixed(Double(resident) / 1e9, 2)) GB", dispensability: 5, isDim: true))
        }
        if !surroundings.isTerminal {
            fields.append(Field(text: "\(Format.countdown(now - start)) elapsed", dispensability: 6))
        }
        if let left = secondsLeft(state, step: step, now) {
            fields.append(Field(text: "\(Format.countdown(left)) left", dispensability: 2))
        }
        return fields
    }

    /// The epoch and the losses of a step: the total, then the other terms, with the name and the values of each.
    private func losses(of record: StepRecord) -> [Field] {
        var values = record.losses[...]
        let parts = terms.filter { $0.valueCount > 0 }.map { term in
            let numbers = values.prefix(term.valueCount).map { Format.fixed(Double($0), 4) }
            values.removeFirst(term.valueCount)
            return ([term.name] + numbers).joined(separator: " ")
        }
        var fields = [
            Field(text: "epoch \(Format.fixed(record.epoch, 2))", dispensability: 4),
            Field(text: parts[0], dispensability: 1),
        ]
        // A total of one term is that term.
        if parts.count > 1, record.losses.count != 2 || record.losses[0] != record.losses[1] {
            fields.append(
                Field(text: "(\(parts.dropFirst().joined(separator: ", ")))", dispensability: 6, isDim: true))
        }
        return fields
    }

    /// The first value and the first fraction of the evaluations.
    private func evaluations(_ evaluated: [(value: EvaluationRecord.Value, epoch: Double)]) -> [Field] {
        let firstFraction = evaluated.firstIndex { $0.value.term.isFraction }
        return evaluated.enumerated().filter { $0.offset == 0 || $0.offset == firstFraction }.map { _, evaluation in
            let (value, epoch) = evaluation
            return Field(
                text: "\(value.named) (epoch \(Format.fixed(epoch, epoch < 10 ? 1 : 0)))",
                dispensability: 1)
        }
    }

    /// The estimated rest of the run: from the time of the steps since the first one of this process, before that from
    /// the time of its batches.
    private func secondsLeft(_ state: State, step: Int, _ now: Double) -> Double? {
        guard step < total else { return nil }
        if let last = state.last, let start = state.start, step > start.step {
            let perStep = (last.time - start.time) / Double(step - start.step)
            return (Double(total - step) - Double(state.batch) / Double(batches)) * perStep
        }
        guard let begun = state.begun else { return nil }
        let done = (step - begun.step) * batches + state.batch - begun.batch
        // A single batch is no measure: the first one is waited for, and touches its memory for the first time.
        guard batches > 1, done > 1 else { return nil }
        return Double((total - step) * batches - state.batch) * (now - begun.time) / Double(done)
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
