import Images
import Interchange
import Models
import Reporting
import Weights

/// The logits of a labelled data set held against its labels.
public struct Evaluation {
    /// The scores, by the classes of the head.
    public let scores: ClassificationScores
    /// The classes that the data set has, by their index in the head, ascending.
    public let classes: [Int]
    /// Images that could not be read; they count in no score.
    public let unreadable: Int

    /// Computes the logits of every readable image of `source` and scores them.
    ///
    /// - Parameters:
    ///   - mapping: the head's class of each class directory.
    ///   - logits: where to write the logits and labels; nil for nowhere. A safetensors file with the tensors
    ///     `logits`[images, classes], float32, and `labels`[images], int32, indices in the head; the paths are listed
    ///     in a file beside it.
    ///   - progress: called after every pass with the number of images done.
    /// - Throws: as `Classification.run`; `Failure.inputOutput` if a file cannot be written. No file is left then.
    public init(
        _ classification: Classification, over source: any ImageSource, mapping: ClassMapping,
        logits output: String? = nil, metadata: [String: String] = [:], reading: PictureReading = PictureReading(),
        preprocessing: Preprocessing? = nil,
        workers: Int = 1,
        unreadableLimit: Double = UnreadableLimit.standard, progress: (Int) -> Void = { _ in },
        report: @escaping (Message) -> Void = { _ in }
    ) throws {
        precondition(source.classes.count == mapping.indices.count)
        var scores = ClassificationScores(classes: classification.classes)
        var unreadable = 0
        func score(_ append: (UnsafeBufferPointer<Float>, _ labels: [Int], Batch) throws -> Void) throws {
            unreadable = try classification.run(
                over: source, reading: reading, preprocessing: preprocessing, workers: workers,
                unreadableLimit: unreadableLimit, report: report
            ) { batch, logits in
                let labels = batch.labels!.map { mapping.indices[$0] }
                for (row, label) in labels.enumerated() {
                    scores.add(logits: logits.baseAddress! + row * classification.classes, label: label)
                }
                try append(logits, labels, batch)
                progress(scores.images)
            }
        }
        if let output {
            let list = try Self.list(beside: output)
            try ImageList.requireLines(source, for: list)
            var labels: [Int32] = []
            var written: [Int] = []
            try FileGroup.write(to: [list, output]) { files in
                try RowFile.write(
                    into: files[1], .safetensors(name: "logits", metadata: metadata),
                    rowShape: [classification.classes],
                    maximumRows: source.count, labels: ("labels", { labels })
                ) { append in
                    try score { logits, found, batch in
                        try append(logits)
                        labels += found.map(Int32.init)
                        written += batch.images
                    }
                }
                try ImageList.write(written, of: source, into: files[0])
            }
        } else {
            try score { _, _, _ in }
        }
        self.scores = scores
        self.unreadable = unreadable
        classes = Set(mapping.indices).sorted()
    }

    /// The path of the list of images beside the logits at `output`.
    ///
    /// - Throws: `Failure.usage` for an ending other than .safetensors.
    public static func list(beside output: String) throws -> String {
        guard output.hasSuffix(".safetensors"), output.count > ".safetensors".count else {
            throw Failure(.usage, "\(.logits, output): end it in .safetensors, the form logits are written in")
        }
        return ImageList.path(beside: output)
    }
}
