import Glibc
import Reporting

/// A figure of the page: curves over optimiser steps, epochs and time, on linear and logarithmic scales. All of these are
/// in the page; its switches, which are plain CSS, show one.
struct Chart {
    /// A place on the horizontal axes.
    enum Across: CaseIterable {
        case steps, epochs, time

        /// The class of what is drawn over it.
        var name: String {
            switch self {
            case .steps: "steps"
            case .epochs: "epochs"
            case .time: "time"
            }
        }
        var title: String {
            switch self {
            case .steps: "optimiser step"
            case .epochs: "epoch"
            case .time: "time of training"
            }
        }
    }

    /// One curve.
    struct Curve {
        let name: String
        /// Its place among the colours.
        let color: Int
        let stretches: [Stretch]
        /// The middle of each stretch on each axis.
        let steps, epochs, seconds: [Double]
        /// Whether each value is marked, as for evaluations.
        let isMarked: Bool
        let isSmoothed: Bool

        /// The curve of some values, in at most `most` stretches.
        init(
            _ name: String, _ values: [Double], of rows: RunLogTable.Rows, color: Int, most: Int, isMarked: Bool,
            isSmoothed: Bool
        ) {
            self.name = name
            self.color = color
            self.isMarked = isMarked
            self.isSmoothed = isSmoothed
            let thinned = Stretch.thinned(values, to: most)
            stretches = thinned
            func middles(_ places: [Double]) -> [Double] {
                thinned.map { $0.rows.reduce(0) { $0 + places[$1] } / Double($0.rows.count) }
            }
            steps = middles(rows.steps.map(Double.init))
            epochs = middles(rows.epochs)
            seconds = middles(rows.seconds)
        }

        func places(_ across: Across) -> [Double] {
            switch across {
            case .steps: steps
            case .epochs: epochs
            case .time: seconds
            }
        }

        var isThinned: Bool { stretches.contains { $0.rows.count > 1 } }
    }

    let title: String
    /// What is drawn, with its unit.
    let meaning: String
    let kind: Quantity.Kind
    let curves: [Curve]
    /// Whether each curve is named.
    let hasLegend: Bool

    /// The inside of a frame is drawn in these units, and stretched to the frame.
    private static let width = 2000.0, height = 1000.0

    private struct Heights {
        let axis: Axis
        /// Values outside the frame.
        let beyond: Int
    }

    private var values: [Double] { curves.flatMap { $0.stretches.map(\.mean) }.filter(\.isFinite) }

    /// Whether there is a logarithmic scale, and whether it is shown unless the reader chooses.
    private var logarithm: (isOffered: Bool, isFirst: Bool) {
        guard kind != .fraction, kind != .speed else { return (false, false) }
        let values = values
        let positive = values.filter { $0 > 0 }
        guard let low = positive.min(), let high = positive.max(), high > low * 1.01 else { return (false, false) }
        let isWide = high / low >= 8 && positive.count == values.count
        return (true, isWide && (kind == .loss || kind == .gradientNorm))
    }

    /// The vertical axis. Its ends hold all means; extremes of stretches, which spikes may push far away, as long as
    /// they leave half the height to the means.
    private func heights(_ scale: Axis.Scale) -> Heights {
        func shown(_ value: Double) -> Bool { value.isFinite && (scale == .linear || value > 0) }
        func place(_ value: Double) -> Double { scale == .linear ? value : log(value) }
        func value(_ place: Double) -> Double { scale == .linear ? place : exp(place) }
        let means = values.filter(shown).map(place)
        var low = means.min() ?? 0, high = means.max() ?? 1
        let space = max(high - low, 1e-12 * max(low.magnitude, high.magnitude))
        let stretches = curves.flatMap(\.stretches)
        let least = stretches.map(\.minimum).filter(shown).map(place).min() ?? low
        let most = stretches.map(\.maximum).filter(shown).map(place).max() ?? high
        low = max(least, low - space / 2)
        high = min(most, high + space / 2)
        let beyond = stretches.count {
            shown($0.maximum) && place($0.maximum) > high || shown($0.minimum) && place($0.minimum) < low
        }
        var margin = (high - low) * 0.04
        if scale == .linear, kind == .speed || kind == .learningRate, low >= 0 { low = 0 }
        if kind == .fraction {
            // A percentage is read against 0 and 1 where it comes near.
            if low < 0.3 { low = 0 }
            if high > 0.85 { high = 1 }
            if high == low { high = low + 0.1 }
            // Room for a dot.
            margin = (high - low) * 0.02
        }
        let bottom = low == 0 && scale == .linear ? 0 : low - margin
        return Heights(
            axis: Axis(
                scale, low: value(bottom), high: value(high + margin), most: 5, isFraction: kind == .fraction),
            beyond: beyond)
    }

    private func horizontal(_ across: Across) -> Axis {
        let all = curves.flatMap { $0.places(across) }
        // From the beginning: the first stretch's middle is not. The last dot has room for its right half.
        let room = curves.contains(where: \.isMarked) ? 1.01 : 1
        return Axis(across == .time ? .time : .linear, low: 0, high: (all.max() ?? 1) * room, most: 6)
    }

    // MARK: HTML

    /// The figure, with the axes of `across`.
    func html(_ across: [Across]) -> String {
        var text = "<figure class=\"chart\"><figcaption><h3>\(HTML.escaped(title))</h3>"
        text += "<p>\(HTML.escaped(meaning))</p></figcaption>\n"
        if hasLegend {
            text += "<ul class=\"legend\">"
            for curve in curves {
                text +=
                    "<li><svg viewBox=\"0 0 24 8\" aria-hidden=\"true\"><path class=\"\(style(curve))\" d=\"M0 4h24\"/></svg>"
                text += "\(HTML.escaped(curve.name))</li>"
            }
            text += "</ul>\n"
        }
        let (hasLogarithm, logarithmFirst) = logarithm
        let scales: [Axis.Scale] = hasLogarithm ? [.linear, .logarithmic] : [.linear]
        var beyond = 0
        for scale in scales {
            let heights = heights(scale), isLinear = scale == .linear
            var classes = [isLinear ? "lin" : "log"]
            if scales.count == 1 { classes.append("log") }
            if isLinear != logarithmFirst { classes.append("auto") }
            if isLinear { beyond = heights.beyond }
            for across in across {
                text += frame(
                    horizontal(across), heights.axis, across, (classes + [across.name]).joined(separator: " "))
            }
        }
        if beyond > 0, let most = curves.flatMap({ $0.stretches.map(\.maximum) }).filter(\.isFinite).max(),
            let least = curves.flatMap({ $0.stretches.map(\.minimum) }).filter(\.isFinite).min()
        {
            text +=
                "<p class=\"note\">Single values reach beyond the frame: from \(Quantity.significant(least)) to "
                + "\(Quantity.significant(most)).</p>\n"
        }
        return text + "</figure>\n"
    }

    private func style(_ curve: Curve) -> String {
        "c\(curve.color % Self.colors)"
            + (curve.color >= Self.colors ? " dash\(min(2, curve.color / Self.colors))" : "")
    }

    /// Number of colours; further curves have them again, and are dashed.
    static let colors = 7

    private func frame(_ x: Axis, _ y: Axis, _ across: Across, _ classes: String) -> String {
        var text = "<div class=\"plot \(classes)\"><div class=\"frame\">"
        text += "<svg viewBox=\"0 0 \(Int(Self.width)) \(Int(Self.height))\" preserveAspectRatio=\"none\" role=\"img\" "
        text +=
            "aria-label=\"\(HTML.escaped(description(across)))\" data-x=\"\(x.low) \(x.high)\" data-y=\"\(y.low) \(y.high)\" "
        text += "data-k=\"\(across.name) \(y.scale == .logarithmic ? "log" : "lin") \(kind == .fraction ? "%" : "")\">"
        text += "<path class=\"grid\" d=\""
        for tick in y.ticks { text += "M0 \(row(tick.value, y))h\(Int(Self.width))" }
        for tick in x.ticks { text += "M\(column(tick.value, x)) 0v\(Int(Self.height))" }
        text += "\"/>"
        for curve in curves { text += drawn(curve, x, y, across) }
        text += "</svg>"
        for tick in y.ticks {
            text += "<span class=\"y\" style=\"top:\(percent(1 - y.place(tick.value)))\">\(tick.label)</span>"
        }
        for tick in x.ticks {
            let place = x.place(tick.value)
            text += "<span class=\"x\" style=\"left:\(percent(place))\">\(tick.label)</span>"
        }
        return text + "</div><p class=\"across\">\(across.title)</p></div>\n"
    }

    /// For those who do not see the figure.
    private func description(_ across: Across) -> String {
        let texts = curves.prefix(8).compactMap { curve -> String? in
            let means = curve.stretches.map(\.mean).filter(\.isFinite)
            guard let first = means.first, let last = means.last else { return nil }
            func text(_ value: Double) -> String {
                kind == .fraction ? Format.fixed(100 * value, 2) + " %" : Quantity.significant(value)
            }
            let least = curve.stretches.map(\.minimum).filter(\.isFinite).min()!
            let most = curve.stretches.map(\.maximum).filter(\.isFinite).max()!
            return "\(curve.name) from \(text(first)) to \(text(last)), minimum \(text(least)), maximum \(text(most))"
        }
        return "\(title) over \(across.title): \(texts.joined(separator: "; "))"
    }

    private func percent(_ fraction: Double) -> String { Format.fixed(100 * fraction, 2) + "%" }

    private func column(_ value: Double, _ x: Axis) -> Int { Self.whole(Self.width * x.place(value)) }
    private func row(_ value: Double, _ y: Axis) -> Int { Self.whole(Self.height * (1 - y.place(value))) }

    /// Rounded, and not far outside the frame.
    private static func whole(_ value: Double) -> Int { Int(min(max(value.isNaN ? 0 : value, -3000), 5000).rounded()) }

    private func drawn(_ curve: Curve, _ x: Axis, _ y: Axis, _ across: Across) -> String {
        let isLogarithmic = y.scale == .logarithmic
        let columns = curve.places(across).map { column($0, x) }
        func rows(_ values: [Double]) -> [Int?] {
            values.map { $0.isFinite && (!isLogarithmic || $0 > 0) ? row($0, y) : nil }
        }
        var text = "<g class=\"\(style(curve))\">"
        let means = curve.stretches.map(\.mean)
        if curve.isThinned {
            // What a logarithm cannot show lies below the frame.
            let below = Int(Self.height) + 50
            let top = rows(curve.stretches.map(\.maximum))
            let bottom = curve.stretches.map { stretch -> Int? in
                guard stretch.minimum.isFinite else { return nil }
                return isLogarithmic && stretch.minimum <= 0 ? below : row(stretch.minimum, y)
            }
            text += "<path class=\"band\" d=\"\(band(columns, top, bottom))\"/>"
        }
        let smoothed = curve.isSmoothed && means.count >= 25
        text += "<path class=\"mean\(smoothed ? " raw" : "")\" d=\"\(line(columns, rows(means)))\"/>"
        if smoothed {
            // On a logarithmic scale a spike would raise the plain mean of all its neighbours.
            let places = isLogarithmic ? means.map { $0 > 0 ? log($0) : .nan } : means
            let values = Stretch.smoothed(places, deviation: max(1, Double(means.count) / 100))
            text += "<path class=\"smooth\" d=\"\(line(columns, rows(isLogarithmic ? values.map(exp) : values)))\"/>"
        }
        if curve.isMarked, means.count <= 60 {
            // A line without length, with round ends, is a dot that is not stretched with the frame.
            let dots = zip(columns, rows(means)).compactMap { x, y in y.map { "M\(x) \($0)h0" } }
            text += "<path class=\"dots\" d=\"\(dots.joined())\"/>"
        }
        return text + "</g>"
    }

    /// A path through the points that are there, by steps from one to the next.
    private func line(_ columns: [Int], _ rows: [Int?]) -> String {
        var text = "", last: (Int, Int)?
        for (column, row) in zip(columns, rows) {
            guard let row else {
                last = nil
                continue
            }
            if let from = last {
                text +=
                    "\(text.hasSuffix("l") ? "" : separator(column - from.0))\(column - from.0)\(separator(row - from.1))\(row - from.1)"
            } else {
                text += "M\(column) \(row)l"
            }
            last = (column, row)
        }
        // A lone point is a dot.
        return text.replacing("lM", with: "h0M") + (text.hasSuffix("l") ? "0 0" : "")
    }

    private func separator(_ next: Int) -> String { next < 0 ? "" : " " }

    /// Areas between two curves, one for each stretch of columns where both are.
    private func band(_ columns: [Int], _ top: [Int?], _ bottom: [Int?]) -> String {
        var text = "", group: [Int] = []
        func close() {
            guard !group.isEmpty else { return }
            let outline = group.map { (columns[$0], top[$0]!) } + group.reversed().map { (columns[$0], bottom[$0]!) }
            var last = outline[0]
            text += "M\(last.0) \(last.1)l"
            for point in outline.dropFirst() {
                text +=
                    "\(text.hasSuffix("l") ? "" : separator(point.0 - last.0))\(point.0 - last.0)\(separator(point.1 - last.1))\(point.1 - last.1)"
                last = point
            }
            if text.hasSuffix("l") { text += "0 0" }
            text += "z"
            group = []
        }
        for index in columns.indices {
            if top[index] != nil, bottom[index] != nil { group.append(index) } else { close() }
        }
        close()
        return text
    }
}
