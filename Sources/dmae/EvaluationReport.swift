import Inference
import Models
import Reporting

/// What `dmae evaluate` prints: as JSON, the keys of the documentation; as text, tables.
struct EvaluationReport: Encodable {
    /// One class of the data.
    struct Class: Encodable {
        let name: String
        let images: Int
        /// Nil without images.
        let top1: Double?

        private enum Key: String, CodingKey { case name, images, top1 }

        func encode(to encoder: any Swift.Encoder) throws {
            var container = encoder.container(keyedBy: Key.self)
            try container.encode(name, forKey: .name)
            try container.encode(images, forKey: .images)
            try container.encode(top1, forKey: .top1)
        }
    }

    let top1, top5, loss, chance: Double
    let images: Int
    let classes: [Class]
    private let evaluation: Evaluation
    private let names: [String]

    private enum CodingKeys: String, CodingKey { case top1, top5, loss, chance, images, classes }

    /// - Parameter names: of all classes of the head.
    init(_ evaluation: Evaluation, names: [String]) {
        self.evaluation = evaluation
        self.names = names
        let scores = evaluation.scores
        (top1, top5, loss, images) = (scores.top1, scores.top5, scores.loss, scores.images)
        chance = scores.chance
        classes = evaluation.classes.map { index in
            let count = scores.byClass[index]
            return Class(name: names[index], images: count.images, top1: count.images == 0 ? nil : count.top1)
        }
    }

    /// The counts [class of the images][predicted class], of the classes of the data.
    var matrix: [[Int]] {
        evaluation.classes.map { label in
            evaluation.classes.map { evaluation.scores.confusion(label: label, prediction: $0) }
        }
    }

    /// Classes that the table shows; of more, those with the lowest top-1.
    private static let shownClasses = 50

    /// For a person: the scores, the classes, the confusions.
    var text: String {
        let hits = evaluation.scores.byClass.reduce(0) { $0 + $1.hits }
        var figures = [
            ("top-1", "\(Self.percent(top1))  \(Format.grouped(hits)) of \(Format.counted(images, "image"))"),
            (
                "chance",
                "\(Self.percent(chance))  always \(quoted(names[evaluation.scores.mostFrequent])), the most "
                    + "frequent class of these images"
            ),
        ]
        // Of five classes each image's is among the first five.
        if names.count > 5 { figures.append(("top-5", Self.percent(top5))) }
        figures.append(("loss", Format.fixed(loss, 4)))
        if evaluation.unreadable > 0 {
            figures.append(("left out", Format.counted(evaluation.unreadable, "unreadable image")))
        }
        var parts = [Format.lines(figures)]
        var shown = zip(evaluation.classes, classes).map { ($0, $1) }
        var header = "class"
        if shown.count > Self.shownClasses {
            shown = Array(
                shown.filter { $0.1.top1 != nil }.sorted { ($0.1.top1!, $0.0) < ($1.1.top1!, $1.0) }
                    .prefix(Self.shownClasses))
            header = "the \(shown.count) classes of \(classes.count) with the lowest top-1"
        }
        let rows = shown.map { index, row in
            [visible(row.name), "\(index)", Format.grouped(row.images), row.top1.map(Self.percent) ?? "–"]
        }
        parts.append(Format.table([[header, "index", "images", "top-1"]] + rows))
        let confusions = evaluation.scores.mostConfused(10)
        if !confusions.isEmpty {
            let rows = confusions.map { pair in
                [
                    visible(names[pair.label]), visible(names[pair.prediction]), Format.grouped(pair.images),
                    Self.percent(Double(pair.images) / Double(evaluation.scores.byClass[pair.label].images)),
                ]
            }
            parts.append(
                Format.table(
                    [["most confused: class", "predicted as", "images", "fraction of the class"]] + rows, left: 2))
        }
        return parts.joined(separator: "\n\n")
    }

    private static func percent(_ fraction: Double) -> String { Format.fixed(100 * fraction, 2) + " %" }
}
