import Images
import Inference
import Interchange
import Models
import Reporting
import Training
import Weights

/// Held-out pictures as the checkpoints of a run reconstruct them.
package struct Reconstructions {
    /// One picture.
    struct Row {
        let path: String
        let original, masked: Pixels
        /// By checkpoint: the picture and the mean squared error over the removed patches.
        let reconstructions: [(picture: Pixels, error: Float)]
    }

    /// The steps of the checkpoints, ascending; nil for the weights of a finished run without checkpoints.
    let steps: [Int?]
    let rows: [Row]
    let removedPatches, patches: Int

    /// Checkpoints that are shown; of more, as many at equal distances, with the newest.
    private static let shownCheckpoints = 4
    /// Maximum side of a picture on the page.
    private static let maximumSide = 128

    /// Reconstructs `count` pictures of `source`, spread evenly over it, each under the same random mask by all
    /// checkpoints.
    ///
    /// - Parameter report: called with a sentence for each picture or checkpoint that cannot be read.
    /// - Returns: nil where the run has no decoder, no weights yet, or no picture that can be read.
    /// - Throws: `Failure` where weights do not fit.
    package init?(
        _ run: ReportedRun, of source: any ImageSource, count: Int, report: (Message) -> Void
    ) throws {
        guard let configuration = run.configuration, var model = configuration.model, model.hasDecoder else {
            return nil
        }
        (model.teacher, model.alignment.pairs) = (nil, [])
        var files: [(step: Int?, path: String)] = run.files.compactMap { file in
            CheckpointName.step(of: file.name).map { ($0, "\(run.path)/\(file.name)") }
        }
        files.sort { $0.step! < $1.step! }
        if files.isEmpty, run.files.contains(where: { $0.name == "model.safetensors" }) {
            files = [(nil, "\(run.path)/model.safetensors")]
        }
        if files.count > Self.shownCheckpoints {
            let last = files.count - 1
            files = (0..<Self.shownCheckpoints).map { files[$0 * last / (Self.shownCheckpoints - 1)] }
        }
        let images = ImageSubset.spread(count, of: source.count)
        var steps: [Int?] = [], columns: [[Int: Reconstruction.Pictures]] = [], removed = 0
        for file in files {
            do {
                let reconstruction = try Reconstruction(
                    weights: ModelWeights(path: file.path), configuration: model, reading: configuration.reading,
                    preprocessing: configuration.preprocessing)
                removed = reconstruction.removedPatches
                var tally = PictureTally(configuration.reading), pictures: [Int: Reconstruction.Pictures] = [:]
                for (number, image) in images.enumerated() {
                    do {
                        pictures[image] = try reconstruction.pictures(
                            of: source, at: image, mask: .random(seed: 0, sample: number), in: &tally, number: number)
                    } catch let failure as Failure where failure.code == .badData {
                        if columns.isEmpty { report(failure.sentence) }
                    }
                }
                columns.append(pictures)
                steps.append(file.step)
            } catch let failure as Failure where failure.code == .inputOutput && run.state == .running {
                // The run has removed an old checkpoint meanwhile.
                report(failure.sentence)
            }
        }
        guard !columns.isEmpty else { return nil }
        let readable = images.filter { image in columns.allSatisfy { $0[image] != nil } }
        guard !readable.isEmpty else { return nil }
        self.steps = steps
        removedPatches = removed
        patches = model.student.patches
        rows = readable.map { image in
            Row(
                path: source.path(image), original: Self.small(columns[0][image]!.original),
                masked: Self.small(columns[0][image]!.masked),
                reconstructions: columns.map { (Self.small($0[image]!.reconstruction), $0[image]!.loss) })
        }
    }

    private static func small(_ picture: Pixels) -> Pixels {
        let side = max(picture.width, picture.height)
        guard side > maximumSide else { return picture }
        return picture.resized(
            width: max(1, picture.width * maximumSide / side), height: max(1, picture.height * maximumSide / side))
    }

    /// - Throws: `Failure.inputOutput` where memory runs out.
    func html() throws -> String {
        var table = [["", "original", "masked"] + steps.map { $0.map { "step \(Format.grouped($0))" } ?? "finished" }]
        for row in rows {
            let name = String(row.path.split(separator: "/").last ?? "")
            // Pictures of 64 pixels are hard to judge.
            let width = max(row.original.width, 112)
            let pictures = try row.reconstructions.enumerated().map { index, one in
                try HTML.image(one.picture, alt: "\(name), reconstruction \(index + 1)", width: width)
                    + "<small>error \(Format.fixed(Double(one.error), 4))</small>"
            }
            table.append(
                [
                    HTML.escaped(name), try HTML.image(row.original, alt: "\(name), original", width: width),
                    try HTML.image(row.masked, alt: "\(name), masked", width: width),
                ] + pictures)
        }
        return HTML.table(table, class: "reconstructed")
            + "<p class=\"note\">\(removedPatches) of \(patches) patches are removed at random, the same for all "
            + "checkpoints. The error is the mean squared error over them, in the units of training.</p>\n"
    }
}

extension ReportPage {
    func pictures() throws -> String {
        var text = ""
        for (run, made) in zip(runs, reconstructions + [Reconstructions?](repeating: nil, count: runs.count)) {
            guard run.configuration?.model?.hasDecoder == true else { continue }
            if runs.count > 1 { text += "<h3>\(HTML.escaped(run.name))</h3>\n" }
            if let made {
                text += try made.html()
            } else {
                text += "<p class=\"note\">No pictures: \(HTML.escaped(remedies.pictures(run)))</p>\n"
            }
        }
        return text.isEmpty
            ? "" : "<section id=\"pictures\"><h2>Reconstructions</h2>\n\(text)</section>\n"
    }
}
