import Glibc
import Reporting

/// The loss of a run in characters, for a terminal.
package struct TerminalChart {
    /// What the terminal shows.
    package struct Terminal {
        package let columns: Int
        package let hasUnicode, hasColor: Bool

        package init(columns: Int, hasUnicode: Bool, hasColor: Bool) {
            self.columns = columns
            self.hasUnicode = hasUnicode
            self.hasColor = hasColor
        }
    }

    private static let rows = 12
    private static let blocks: [Character] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]

    /// Draws the total loss of `run` as columns, each the mean of a stretch of steps. Without Unicode a column ends with
    /// "." in its lower half, ":" in its upper.
    package static func draw(_ run: ReportedRun, _ terminal: Terminal) -> String {
        let name = visible(run.name).replacing("\n", with: "\\n").replacing("\t", with: "\\t")
        var head = "\(name): \(run.state.word)"
        if let step = run.log.steps.steps.last, let epoch = run.log.steps.epochs.last {
            head += ", step \(Format.grouped(step))" + (run.totalSteps.map { " of \(Format.grouped($0))" } ?? "")
            head += ", epoch \(Format.fixed(epoch, 2))"
        }
        let values = run.log.steps["loss"] ?? []
        guard values.contains(where: \.isFinite) else { return head + "\nno loss in the log yet" }
        let all = Stretch(values, 0..<values.count)
        // Spikes would flatten the rest: the axis spans the means.
        let margin = 11
        let stretches = Stretch.thinned(values, to: max(1, min(terminal.columns, 400) - margin - 1))
        let means = stretches.map(\.mean), finite = means.filter(\.isFinite)
        let low = finite.min()!, high = finite.max()!
        let isLogarithmic = low > 0 && high / low >= 8
        func place(_ value: Double) -> Double { isLogarithmic ? log(value) : value }
        let bottom = place(low), top = place(high), space = top > bottom ? top - bottom : 1
        // In eighths of a row; the lowest value is seen, too.
        let heights = means.map { mean -> Int in
            guard mean.isFinite else { return 0 }
            return 1 + Int(((place(mean) - bottom) / space * Double(8 * rows - 1)).rounded())
        }
        var lines: [String] = []
        for row in (0..<rows).reversed() {
            let fraction = (Double(row) + 0.5) / Double(rows)
            let value = isLogarithmic ? exp(bottom + space * fraction) : bottom + space * fraction
            let label = row == rows - 1 ? high : row == 0 ? low : value
            let isLabelled = row == rows - 1 || row == 0 || row % 3 == 0
            let text = isLabelled ? Format.fixed(label, 4) : ""
            var line = String(repeating: " ", count: max(0, margin - 2 - text.count)) + text
            line += terminal.hasUnicode ? (isLabelled ? " ┤" : " │") : (isLabelled ? " +" : " |")
            let bars = String(
                heights.map { height -> Character in
                    let level = min(max(height - 8 * row, 0), 8)
                    if terminal.hasUnicode { return blocks[level] }
                    return level == 8 ? "#" : level >= 4 ? ":" : level > 0 ? "." : " "
                })
            lines.append(line + (terminal.hasColor ? "\u{1B}[36m\(bars)\u{1B}[0m" : bars))
        }
        let first = Format.grouped(run.log.steps.steps[0]), last = "step " + Format.grouped(run.log.steps.steps.last!)
        let gap = max(1, stretches.count - first.count - last.count)
        lines.append(String(repeating: " ", count: margin) + first + String(repeating: " ", count: gap) + last)
        var facts = "loss \(Format.fixed(values.last { $0.isFinite }!, 4)), lowest \(Format.fixed(all.minimum, 4))"
        if isLogarithmic { facts += ", logarithmic scale" }
        let evaluations = run.log.evaluations
        for key in evaluations.keys.prefix(3) {
            let quantity = Quantity(key: key, isEvaluation: true, among: evaluations.keys)
            guard let value = evaluations[key]?.last(where: \.isFinite) else { continue }
            facts += "; \(visible(quantity.name)) \(quantity.text(value))"
        }
        if run.log.damagedLines > 0 { facts += "; \(Format.counted(run.log.damagedLines, "damaged line")) left out" }
        if let machine = run.ofProcesses(\.machine) { facts += "; \(visible(machine))" }
        if let peak = run.peakResidentBytes { facts += "; at most \(Format.bytes(peak)) of memory" }
        return ([head] + lines + [Format.filled(facts, columns: max(40, terminal.columns - 1))]).joined(separator: "\n")
    }
}
