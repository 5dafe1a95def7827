import Models
import Reporting
import Training

/// One page about one run or several: HTML that needs no network, no other file, and hardly any script.
package struct ReportPage {
    /// What the page begins with: by it a report is known, and replaced by a newer one.
    package static let mark = "<!DOCTYPE html>\n<!-- report of dmae -->\n"

    package let runs: [ReportedRun]
    /// Reconstructed pictures, by run.
    package var reconstructions: [Reconstructions?]
    /// Judged classifiers, by run.
    package var judgements: [Judgement?]
    /// What the page says at its foot: when and by which version it was made.
    package let origin: String
    /// What a reader may do for pictures of a run, or for a judgement by class, where the page has none: plain text.
    package let remedies: (pictures: (ReportedRun) -> String, classes: (ReportedRun) -> String)
    /// Seconds after which a browser reads the page again; nil for never.
    package let refresh: Int?

    /// Points of a curve, fewer where many runs are laid over each other.
    private var most: Int { max(60, 600 / (1 + runs.count)) }

    package init(
        _ runs: [ReportedRun], reconstructions: [Reconstructions?] = [], judgements: [Judgement?] = [], origin: String,
        remedies: (pictures: (ReportedRun) -> String, classes: (ReportedRun) -> String), refresh: Int? = nil
    ) {
        precondition(!runs.isEmpty)
        self.runs = runs
        self.reconstructions = reconstructions
        self.judgements = judgements
        self.origin = origin
        self.remedies = remedies
        self.refresh = refresh
    }

    /// The whole page.
    ///
    /// - Throws: `Failure.inputOutput` where memory for pictures runs out.
    package func html() throws -> String {
        let title = "dmae: " + runs.map(\.name).joined(separator: ", ")
        var text = Self.mark + "<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        text += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        text +=
            "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n"
        // Keeps a browser from asking for an icon.
        text += "<link rel=\"icon\" href=\"data:,\">\n"
        if let refresh { text += "<meta http-equiv=\"refresh\" content=\"\(refresh)\">\n" }
        text += "<title>\(HTML.escaped(title))</title>\n<style>\n\(Self.style)</style>\n</head>\n<body>\n"
        text += switches()
        text += "<header><p class=\"kind\">Training report</p><h1>"
        text += runs.map { "<span>\(HTML.escaped($0.name))</span>" }.joined(separator: " ") + "</h1>\n"
        for (index, run) in runs.enumerated() { text += "<p class=\"state\">\(state(run, index))</p>\n" }
        text += "</header>\n" + labels() + "<main>\n"
        text += curves()
        text += section("Summary", id: "summary", HTML.table(summary(), class: runs.count == 1 ? "facts" : "compare"))
        if runs.count > 1 { text += section("What differs", id: "differences", differences()) }
        text += evaluations()
        text += try pictures()
        text += try classes()
        text += processes()
        text += settings()
        text += files()
        text +=
            "</main>\n<footer><p>\(HTML.escaped(origin))</p></footer>\n<script>\n\(Self.script)</script>\n</body>\n</html>\n"
        return text
    }

    private func section(_ title: String, id: String, _ content: String) -> String {
        "<section id=\"\(id)\"><h2>\(HTML.escaped(title))</h2>\n\(content)</section>\n"
    }

    private func state(_ run: ReportedRun, _ index: Int) -> String {
        let swatch =
            runs.count > 1
            ? "<svg class=\"swatch\" viewBox=\"0 0 24 8\" aria-hidden=\"true\"><path class=\"c\(index % Chart.colors)\" d=\"M0 4h24\"/></svg><b>\(HTML.escaped(run.name))</b> "
            : ""
        var progress = ""
        if let step = run.log.steps.steps.last {
            progress = ", step \(Format.grouped(step))" + (run.totalSteps.map { " of \(Format.grouped($0))" } ?? "")
        }
        return "\(swatch)<span class=\"badge \(run.state.word)\">\(run.state.word)</span>\(progress): "
            + HTML.escaped(run.reason)
    }

    // MARK: Switches

    private var acrosses: [Chart.Across] { runs.count > 1 ? [.steps, .epochs, .time] : [.steps, .time] }

    /// Before everything that they switch: CSS can look forward only.
    private func switches() -> String {
        var text = ""
        for (index, across) in acrosses.enumerated() {
            text += "<input type=\"radio\" name=\"x\" id=\"x-\(across.name)\"\(index == 0 ? " checked" : "")>"
        }
        for (index, name) in ["auto", "lin", "log"].enumerated() {
            text += "<input type=\"radio\" name=\"y\" id=\"y-\(name)\"\(index == 0 ? " checked" : "")>"
        }
        return text + "<input type=\"checkbox\" id=\"smooth\" checked>\n"
    }

    private func labels() -> String {
        var text = "<nav aria-label=\"How curves are drawn\"><div><span>Over</span>"
        for across in acrosses {
            let name = across == .time ? "time" : across == .steps ? "steps" : "epochs"
            text += "<label for=\"x-\(across.name)\">\(name)</label>"
        }
        text += "</div><div><span>Scale</span>"
        for (id, name) in [("auto", "automatic"), ("lin", "linear"), ("log", "logarithmic")] {
            text += "<label for=\"y-\(id)\">\(name)</label>"
        }
        return text + "</div><div><label for=\"smooth\">smoothed</label></div></nav>\n"
    }

    // MARK: Curves

    private func curves() -> String {
        let charts = charts()
        guard !charts.isEmpty else {
            return section("Curves", id: "curves", "<p>The log holds no step yet.</p>")
        }
        var text = "<div class=\"charts\">\n" + charts.map { $0.html(acrosses) }.joined() + "</div>\n"
        let thinned = runs.filter { $0.log.steps.count > most }
        if !thinned.isEmpty {
            let steps = thinned.map { Format.grouped(($0.log.steps.count + most - 1) / most) }
            text +=
                "<p class=\"note\">Curves have at most \(most) points: each is the mean of up to "
                + "\(Set(steps).count == 1 ? steps[0] : steps.joined(separator: ", ")) steps, and the band reaches from "
                + "their minimum to their maximum. The smooth line weighs neighbouring points by a Gaussian.</p>\n"
        }
        for run in runs where run.log.damagedLines > 0 {
            text +=
                "<p class=\"note warning\">\(HTML.escaped(run.name)): \(Format.counted(run.log.damagedLines, "line")) of "
                + "log.jsonl cannot be read and \(run.log.damagedLines == 1 ? "is" : "are") left out.</p>\n"
        }
        return section("Curves", id: "curves", text)
    }

    /// The quantities of all runs, in the order in which their logs have them.
    private func quantities(evaluations: Bool) -> [Quantity] {
        var keys: [String] = []
        for run in runs {
            for key in (evaluations ? run.log.evaluations : run.log.steps).keys where !keys.contains(key) {
                keys.append(key)
            }
        }
        // Of five classes each image's is among the first five.
        func isAlwaysOne(_ key: String) -> Bool {
            evaluations && key.contains("top5")
                && runs.allSatisfy { $0.log.evaluations[key]?.allSatisfy { $0 == 1 || !$0.isFinite } ?? true }
        }
        return keys.filter { !isAlwaysOne($0) }.map { Quantity(key: $0, isEvaluation: evaluations, among: keys) }
    }

    private func charts() -> [Chart] {
        let steps = quantities(evaluations: false), evaluations = quantities(evaluations: true)
        let all = runs.count == 1 ? groups(steps, evaluations) : (steps + evaluations).map { [$0] }
        let charts = all.compactMap { chart($0) }
        func rank(_ chart: Chart) -> Int {
            switch chart.kind {
            case .loss: chart.title == "Loss" ? 0 : 2
            case .fraction: 1
            case .learningRate: 3
            case .gradientNorm: 4
            case .speed: 5
            case .other: 6
            }
        }
        return charts.enumerated().sorted { (rank($0.1), $0.0) < (rank($1.1), $1.0) }.map(\.1)
    }

    /// What belongs into one figure of a single run: a loss and its validation's, values of a list, accuracies.
    private func groups(_ steps: [Quantity], _ evaluations: [Quantity]) -> [[Quantity]] {
        func family(_ quantity: Quantity) -> String {
            if quantity.kind == .fraction { return quantity.key.hasPrefix("knn_") ? "knn" : "accuracy" }
            var key = quantity.key
            if quantity.isEvaluation, key.hasPrefix("val_") { key.removeFirst(4) }
            if key.hasPrefix("loss_align_") { return "loss_align" }
            return key
        }
        var order: [String] = [], groups: [String: [Quantity]] = [:]
        for quantity in steps + evaluations {
            let name = family(quantity)
            if groups[name] == nil { order.append(name) }
            groups[name, default: []].append(quantity)
        }
        return order.map { groups[$0]! }
    }

    private func chart(_ quantities: [Quantity]) -> Chart? {
        var curves: [Chart.Curve] = []
        for (index, run) in runs.enumerated() {
            for (place, quantity) in quantities.enumerated() {
                let rows = quantity.isEvaluation ? run.log.evaluations : run.log.steps
                guard let values = rows[quantity.key], values.contains(where: \.isFinite) else { continue }
                // Evaluations of one kind need not come with those of another.
                let isNoisy = !quantity.isEvaluation && quantity.kind != .learningRate
                let name =
                    runs.count > 1
                    ? run.name
                    : quantities.count > 1 && place == 0 && !quantity.isEvaluation && quantities[1].isEvaluation
                        ? "training" : quantity.name
                curves.append(
                    Chart.Curve(
                        name, values, of: rows, color: runs.count > 1 ? index : place, most: most,
                        isMarked: quantity.isEvaluation, isSmoothed: isNoisy))
            }
        }
        guard let first = quantities.first, !curves.isEmpty else { return nil }
        var (title, meaning) = (first.title, first.meaning)
        if quantities.count > 1 {
            if first.kind == .fraction {
                title = first.key.hasPrefix("knn_") ? "k-NN accuracy" : "Validation accuracy"
                meaning = "fraction of the validation images whose class is found"
            } else if first.key.hasPrefix("loss_align_") {
                title = "Alignment"
            }
        }
        return Chart(
            title: title, meaning: meaning, kind: first.kind, curves: curves,
            hasLegend: runs.count > 1 || curves.count > 1)
    }

    // MARK: Tables

    /// Rows of the summary: a name, and a value for each run.
    private func summary() -> [[String]] {
        var rows: [[String]] = []
        func add(_ name: String, _ value: (ReportedRun) -> String?) {
            let values = runs.map { value($0) }
            guard values.contains(where: { $0 != nil }) else { return }
            rows.append([HTML.escaped(name)] + values.map { $0.map(HTML.escaped) ?? "–" })
        }
        rows.append([runs.count == 1 ? "" : "run"] + runs.map { HTML.escaped($0.name) })
        add("state") { $0.state.word }
        add("method") { $0.configuration?.method.rawValue ?? $0.settings.first { $0.key == "method" }?.value }
        add("recipe") { $0.configuration?.recipe ?? $0.settings.first { $0.key == "recipe" }?.value }
        add("trained model") { $0.configuration.map { Self.text($0.trainedEncoder) } }
        add("teacher") { run in
            guard let configuration = run.configuration else { return nil }
            return (configuration.model?.teacher ?? configuration.classifier?.teacher?.encoder).map(Self.text)
        }
        add("parameters") { run in
            run.configuration.map { Format.count($0.layout.count()) + " (\(Format.grouped($0.layout.count())))" }
        }
        add("precision") { $0.configuration?.precision.rawValue }
        add("training images") { run in run.images.map(Format.grouped) }
        add("images per step") { run in
            run.configuration.map {
                "\($0.effectiveBatch)" + ($0.accumulation > 1 ? " (\($0.accumulation) × \($0.batch))" : "")
            }
        }
        add("steps") { run in
            run.log.steps.steps.last.map {
                Format.grouped($0) + (run.totalSteps.map { " of \(Format.grouped($0))" } ?? "")
            }
        }
        add("epochs") { run in
            run.log.steps.epochs.last.map { epoch in
                Format.fixed(epoch, 2) + (run.configuration.map { " of \(Format.shortest($0.epochs))" } ?? "")
            }
        }
        for quantity in quantities(evaluations: false) where quantity.kind == .loss {
            add("\(quantity.name), last step") { run in
                run.log.steps[quantity.key]?.last.map(quantity.text)
            }
            guard quantity.key == "loss" else { continue }
            add("\(quantity.name), mean of the last tenth") { run in
                guard let values = run.log.steps[quantity.key], !values.isEmpty else { return nil }
                let count = max(1, values.count / 10)
                return quantity.text(Stretch(values, values.count - count..<values.count).mean)
            }
            add("\(quantity.name), lowest") { run in
                guard let values = run.log.steps[quantity.key] else { return nil }
                let all = Stretch(values, 0..<values.count)
                guard let place = values.firstIndex(of: all.minimum) else { return nil }
                return "\(quantity.text(all.minimum)) (step \(Format.grouped(run.log.steps.steps[place])))"
            }
        }
        for quantity in quantities(evaluations: true) {
            add("\(quantity.name), last") { run in
                run.log.evaluations[quantity.key]?.last(where: \.isFinite).map(quantity.text)
            }
            add("\(quantity.name), best") { run in
                guard let (place, value) = Self.best(quantity, run.log.evaluations) else { return nil }
                return "\(quantity.text(value)) (step \(Format.grouped(run.log.evaluations.steps[place])))"
            }
        }
        add("images per second, median") { run in
            let values = (run.log.steps["images_per_second"] ?? []).filter(\.isFinite).sorted()
            return values.isEmpty ? nil : Format.fixed(values[values.count / 2], 1)
        }
        add("time of training") { run in
            max(run.log.steps.seconds.last ?? 0, run.log.evaluations.seconds.last ?? 0).nonzero.map(Format.duration)
        }
        add("memory, peak") { $0.peakResidentBytes.map(Format.bytes) }
        add("memory limit") { run in run.ofProcesses(\.memoryLimit) }
        add("machine") { run in run.ofProcesses(\.machine) }
        add("version of dmae") { run in run.ofProcesses(\.version) }
        add("first step") { run in run.log.steps.times.first { !$0.isEmpty }.map(Self.time) }
        add("last step") { run in run.log.steps.times.last { !$0.isEmpty }.map(Self.time) }
        add("folder") { $0.path }
        return rows
    }

    /// The best value of an evaluation, the earlier of equals, and its place.
    private static func best(_ quantity: Quantity, _ rows: RunLogTable.Rows) -> (Int, Double)? {
        guard let values = rows[quantity.key] else { return nil }
        let all = Stretch(values, 0..<values.count)
        let value = quantity.kind == .fraction ? all.maximum : all.minimum
        return values.firstIndex(of: value).map { ($0, value) }
    }

    private static func text(_ encoder: EncoderConfiguration) -> String {
        "ViT of width \(encoder.width), \(encoder.depth) blocks, \(encoder.heads) heads, patches of \(encoder.patchSize), "
            + "images of \(encoder.imageHeight) × \(encoder.imageWidth) × \(encoder.channels)"
    }

    static func time(_ text: String) -> String {
        text.replacing("T", with: " ").replacing("Z", with: " UTC")
    }

    private func differences() -> String {
        let keys = allKeys()
        let rows = keys.compactMap { key -> [String]? in
            let values = runs.map { run in run.settings.first { $0.key == key }?.value }
            guard Set(values).count > 1 else { return nil }
            return ["<code>\(HTML.escaped(key))</code>"] + values.map { HTML.escaped($0 ?? "–") }
        }
        guard !rows.isEmpty else { return "<p>The configurations are the same.</p>" }
        return HTML.table([["setting"] + runs.map { HTML.escaped($0.name) }] + rows, class: "compare")
    }

    private func allKeys() -> [String] {
        var seen: Set<String> = []
        return runs.flatMap(\.settings).map(\.key).filter { seen.insert($0).inserted }.sorted()
    }

    private func settings() -> String {
        let keys = allKeys()
        guard !keys.isEmpty else { return "" }
        let rows = keys.map { key in
            ["<code>\(HTML.escaped(key))</code>"]
                + runs.map { run in HTML.escaped(run.settings.first { $0.key == key }?.value ?? "–") }
        }
        let table = HTML.table([["setting"] + runs.map { HTML.escaped($0.name) }] + rows, class: "compare")
        return section(
            "Configuration", id: "configuration",
            "<details><summary>All \(keys.count) settings of configuration.json</summary>\(table)</details>\n")
    }

    /// Evaluations shown in a table; of more, the newest.
    private static let shownEvaluations = 20

    private func evaluations() -> String {
        var text = ""
        for run in runs where run.log.evaluations.count > 0 {
            let rows = run.log.evaluations
            let quantities = rows.keys.map { Quantity(key: $0, isEvaluation: true, among: rows.keys) }
            let best = quantities.map { Self.best($0, rows)?.0 }
            let first = max(0, rows.count - Self.shownEvaluations)
            let places = (Set(first..<rows.count).union(best.compactMap { $0 })).sorted()
            let body = places.map { place in
                ["\(Format.grouped(rows.steps[place]))", Format.fixed(rows.epochs[place], 2)]
                    + quantities.indices.map { column in
                        let value = rows.columns[column][place], text = quantities[column].text(value)
                        return place == best[column] ? "<strong>\(text)</strong>" : text
                    }
            }
            let head = ["step", "epoch"] + quantities.map { HTML.escaped($0.name) }
            let more = places.count < rows.count
            let caption =
                (runs.count > 1 ? run.name + ": " : "")
                + (more
                    ? "the newest and the best of \(Format.counted(rows.count, "evaluation"))"
                    : Format.counted(rows.count, "evaluation")) + "; the best values are bold"
            text += HTML.table([head] + body, class: "numbers", caption: caption)
        }
        return text.isEmpty ? "" : section("Evaluations", id: "evaluations", text)
    }

    private func files() -> String {
        var text = ""
        for run in runs where !run.files.isEmpty {
            let total = run.files.reduce(0) { $0 + $1.bytes }
            let rows = run.files.map { [HTML.escaped($0.name), Format.bytes($0.bytes)] }
            text +=
                "<details><summary>\(HTML.escaped(run.path)): \(Format.counted(run.files.count, "file")), "
                + "\(Format.bytes(total))</summary>\(HTML.table([["file", "size"]] + rows, class: "numbers"))</details>\n"
        }
        return text.isEmpty ? "" : section("Files", id: "files", text)
    }
}

extension Double {
    fileprivate var nonzero: Double? { self > 0 ? self : nil }
}
