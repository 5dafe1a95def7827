import Reporting
import Training

extension RecordedStart {
    /// "0.1.0, commit 0123456789ab, release build".
    var version: String {
        start.version + (start.commit.map { ", commit \($0)" } ?? "") + ", \(start.build) build"
    }

    /// The processor and what of it was used: "Intel Xeon, avx512bf16, 2 threads".
    var machine: String {
        [start.processor, start.instructionSet, Format.counted(start.threads, "thread")].compactMap { $0 }
            .joined(separator: ", ")
    }

    var memoryLimit: String? {
        start.memoryLimitBytes.map { Format.bytes($0) + (start.memoryLimit.map { ", \($0)" } ?? "") }
    }

    /// The words of the command line, as a shell takes them; lines break within no flag.
    ///
    /// - Parameter most: characters that are shown; the words behind them are counted.
    func command(most: Int = 3000) -> String {
        var words: [String] = [], length = 0
        for word in start.command {
            let text = Shell.word(word)
            length += text.unicodeScalars.count + 1
            guard length <= most else {
                words.append("… (\(Format.grouped(start.command.count - words.count)) more words)")
                break
            }
            words.append(word.hasPrefix("-") ? "<span>\(HTML.escaped(text))</span>" : HTML.escaped(text))
        }
        return words.joined(separator: " ")
    }
}

extension ReportedRun {
    /// The most memory that a process of the run took, as far as it is recorded.
    var peakResidentBytes: Int? { starts.compactMap { $0.last?.peakResidentBytes }.max() }

    /// The different values of all processes, in order; nil where none is recorded.
    func ofProcesses(_ value: (RecordedStart) -> String?) -> String? {
        var values: [String] = []
        for start in starts { if let value = value(start), !values.contains(value) { values.append(value) } }
        return values.isEmpty ? nil : values.joined(separator: "; then ")
    }
}

extension ReportPage {
    /// Processes shown in a table; of more, the newest.
    private static let shownProcesses = 20

    /// The processes that trained each run, and their commands.
    func processes() -> String {
        var text = ""
        for run in runs where !run.starts.isEmpty {
            let shown = run.starts.suffix(Self.shownProcesses)
            let hasHost = shown.contains { $0.start.host != nil }
            let head = ["", "began", "steps", "threads", "peak memory"] + (hasHost ? ["host"] : [])
            let rows = shown.map { process -> [String] in
                let start = process.start, end = process.last.map { Format.grouped($0.step) } ?? "?"
                return [
                    "\(start.start)", HTML.escaped(Self.time(start.time)), "\(Format.grouped(start.step))–\(end)",
                    (start.processes.map { "\($0) × (" } ?? "") + "\(start.threads) + \(start.workers)"
                        + (start.processes == nil ? "" : ")"),
                    process.last.map { Format.bytes($0.peakResidentBytes) } ?? "–",
                ] + (hasHost ? [HTML.escaped(start.host ?? "–")] : [])
            }
            let more = shown.count < run.starts.count ? "the newest of " : ""
            let caption =
                (runs.count > 1 ? run.name + ": " : "") + more
                + "\(Format.grouped(run.starts.count)) process\(run.starts.count == 1 ? "" : "es")"
            text += HTML.table([head] + rows, class: "processes", caption: caption)
            // Long lines, which a table would make scroll.
            text += "<ol class=\"commands\" start=\"\(shown.first!.start.start)\">"
            for process in shown {
                text += "<li value=\"\(process.start.start)\"><code>\(process.command())</code></li>"
            }
            text += "</ol>\n"
        }
        guard !text.isEmpty else { return "" }
        text +=
            "<p class=\"note\">Threads are those of the kernels and those that decode images. A process that was killed "
            + "did not say how far it came: its steps and its memory are those of its last checkpoint, if it says them.</p>\n"
        return "<section id=\"processes\"><h2>Processes</h2>\n\(text)</section>\n"
    }
}
