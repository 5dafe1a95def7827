import Images
import Inference
import Interchange
import Models
import Reporting
import Training
import Weights

/// A classifier of a run, judged on labelled images: accuracy by class, confusions and the surest mistakes.
package struct Judgement {
    struct Mistake {
        let path: String
        let picture: Pixels?
        let label, prediction: Int
        let probability: Double
    }

    /// The file of weights.
    let weights: String
    let scores: ClassificationScores
    /// The classes that the images have, by their index in the head.
    let classes: [Int]
    let names: [String]
    let unreadable: Int
    /// The most probable wrong classes first.
    private(set) var mistakes: [Mistake]

    private static let shownMistakes = 12
    /// Maximum side of a mistake's picture.
    private static let maximumSide = 96
    /// Classes whose confusions are a table; of more they are a picture.
    private static let maximumTable = 20
    /// Classes that the table shows; of more, those with the lowest top-1.
    private static let shownClasses = 100

    /// Judges the best weights of `run`, else its last ones, in the precision of the run.
    ///
    /// - Parameters:
    ///   - place: of the images, for messages.
    ///   - progress: called with the number of images done.
    /// - Returns: nil where the run has no weights yet.
    /// - Throws: `Failure` where images and weights do not fit together, or too many images cannot be read.
    package init?(
        _ run: ReportedRun, of source: any ImageSource, place: String, workers: Int, progress: @escaping (Int) -> Void,
        report: @escaping (Message) -> Void
    ) throws {
        let names = Set(run.files.map(\.name))
        guard let configuration = run.configuration, configuration.classifier != nil,
            let name = ["best.safetensors", "model.safetensors"].first(where: names.contains)
        else { return nil }
        let path = "\(run.path)/\(name)", model = try ModelWeights(path: path)
        let head = try model.requireHead()
        let mapping = try ClassMapping(
            folder: source.classes, head: head, names: model.classNames, map: nil, canMap: false, place: place)
        let classification = try Classification(
            weights: model, configuration: model.runnableEncoder(heads: nil, imageSize: nil),
            batch: Embedding.batch(for: source.count, most: 32), precision: configuration.precision)
        var scores = ClassificationScores(classes: head), wrong: [(image: Int, label: Int, prediction: Prediction)] = []
        unreadable = try classification.run(
            over: source, reading: configuration.reading, preprocessing: configuration.preprocessing, workers: workers,
            report: report
        ) { batch, logits in
            for (row, label) in batch.labels!.enumerated() {
                let own = UnsafeBufferPointer(rebasing: logits[row * head..<(row + 1) * head])
                scores.add(logits: own.baseAddress!, label: mapping.indices[label])
                let best = Prediction.best(1, of: own)[0]
                guard best.index != mapping.indices[label] else { continue }
                wrong.append((batch.images[row], mapping.indices[label], best))
                guard wrong.count > 64 * Self.shownMistakes else { continue }
                wrong = Self.surest(wrong)
            }
            progress(scores.images)
        }
        self.scores = scores
        weights = path
        classes = Set(mapping.indices).sorted()
        var all = model.classNames ?? (0..<head).map(String.init)
        if model.classNames == nil {
            for (name, index) in zip(source.classes, mapping.indices).reversed() { all[index] = name }
        }
        self.names = all
        mistakes = Self.surest(wrong).map { image, label, prediction in
            let picture = (try? source.bytes(image)).flatMap {
                try? Pixels(decoding: $0, named: source.title(image), as: configuration.reading)
            }
            return Mistake(
                path: source.path(image), picture: picture.map(Self.small), label: label, prediction: prediction.index,
                probability: prediction.probability)
        }
    }

    /// The most probable ones, the earlier of equals first.
    private static func surest(
        _ mistakes: [(image: Int, label: Int, prediction: Prediction)]
    ) -> [(image: Int, label: Int, prediction: Prediction)] {
        Array(
            mistakes.sorted { ($1.prediction.probability, $0.image) < ($0.prediction.probability, $1.image) }
                .prefix(shownMistakes))
    }

    private static func small(_ picture: Pixels) -> Pixels {
        let side = max(picture.width, picture.height)
        guard side > maximumSide else { return picture }
        return picture.resized(
            width: max(1, picture.width * maximumSide / side), height: max(1, picture.height * maximumSide / side))
    }

    private static func percent(_ fraction: Double) -> String { Format.fixed(100 * fraction, 2) + " %" }

    /// - Throws: `Failure.inputOutput` where memory runs out.
    func html() throws -> String {
        let hits = scores.byClass.reduce(0) { $0 + $1.hits }
        var facts = [
            ["", ""], ["weights", HTML.escaped(weights)],
            [
                "top-1",
                "\(Self.percent(scores.top1)) (\(Format.grouped(hits)) of \(Format.counted(scores.images, "image")))",
            ],
            ["loss", Format.fixed(scores.loss, 4)],
            [
                "chance",
                "\(Self.percent(scores.chance)), always \(HTML.escaped(names[scores.mostFrequent])), the most frequent class",
            ],
        ]
        // Of five classes each image's is among the first five.
        if names.count > 5 { facts.insert(["top-5", Self.percent(scores.top5)], at: 3) }
        if unreadable > 0 { facts.append(["left out", Format.counted(unreadable, "unreadable image")]) }
        var text = HTML.table(facts, class: "facts")
        var shown = classes, caption = "Classes"
        if shown.count > Self.shownClasses {
            shown = Array(
                shown.filter { scores.byClass[$0].images > 0 }
                    .sorted { (scores.byClass[$0].top1, $0) < (scores.byClass[$1].top1, $1) }.prefix(Self.shownClasses))
            caption = "The \(shown.count) classes of \(Format.grouped(classes.count)) with the lowest top-1"
        }
        let rows = shown.map { index in
            let count = scores.byClass[index]
            return [
                HTML.escaped(names[index]), Format.grouped(count.images), Format.grouped(count.hits),
                count.images > 0 ? Self.percent(count.top1) : "–",
            ]
        }
        text += HTML.table([["class", "images", "right", "top-1"]] + rows, class: "numbers", caption: caption)
        text += try confusion()
        guard !mistakes.isEmpty else { return text + "<p class=\"note\">No image is classified wrongly.</p>\n" }
        text += "<h3>Surest mistakes</h3>\n<div class=\"pictures\">"
        for mistake in mistakes {
            let name = String(mistake.path.split(separator: "/").last ?? "")
            text += "<figure>"
            if let picture = mistake.picture {
                text += try HTML.image(picture, alt: name, width: max(96, picture.width))
            }
            text +=
                "<figcaption><b>\(HTML.escaped(names[mistake.prediction]))</b> \(Self.percent(mistake.probability))<br>"
            text +=
                "is \(HTML.escaped(names[mistake.label]))<br><small>\(HTML.escaped(name))</small></figcaption></figure>"
        }
        return text + "</div>\n"
    }

    private func confusion() throws -> String {
        guard classes.count > 1, classes.count <= 256 else { return "" }
        let caption = "Confusions: rows are the classes of the images, columns the predicted ones"
        if classes.count > Self.maximumTable {
            let picture = ConfusionPicture.draw(
                classes.map { label in classes.map { scores.confusion(label: label, prediction: $0) } },
                images: classes.map { scores.byClass[$0].images }, numbers: classes)
            return "<figure><figcaption>\(caption), by their index</figcaption>"
                + (try HTML.image(picture, alt: "Confusions of \(classes.count) classes")) + "</figure>\n"
        }
        var text =
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Confusions\"><table class=\"confusion\">"
        text += "<caption>\(caption)</caption><thead><tr><th scope=\"col\">class</th>"
        for index in classes { text += "<th scope=\"col\">\(HTML.escaped(names[index]))</th>" }
        text += "</tr></thead><tbody>"
        for label in classes {
            text += "<tr><th scope=\"row\">\(HTML.escaped(names[label]))</th>"
            let images = max(1, scores.byClass[label].images)
            for prediction in classes {
                let count = scores.confusion(label: label, prediction: prediction)
                let strength = Format.fixed((Double(count) / Double(images)).squareRoot(), 2)
                text +=
                    "<td\(label == prediction ? " class=\"own\"" : "") style=\"--A:\(strength)\">\(count == 0 ? "" : Format.grouped(count))</td>"
            }
            text += "</tr>"
        }
        return text + "</tbody></table></div>\n"
    }
}

extension ReportPage {
    func classes() throws -> String {
        var text = ""
        for (run, judged) in zip(runs, judgements + [Judgement?](repeating: nil, count: runs.count)) {
            guard run.configuration?.classifier != nil else { continue }
            if runs.count > 1 { text += "<h3>\(HTML.escaped(run.name))</h3>\n" }
            if let judged {
                text += try judged.html()
            } else {
                text +=
                    "<p class=\"note\">The run's folder holds no judgement by class: "
                    + "\(HTML.escaped(remedies.classes(run)))</p>\n"
            }
        }
        return text.isEmpty ? "" : "<section id=\"classes\"><h2>Classes</h2>\n\(text)</section>\n"
    }
}
