import Foundation
import Images
import Inference
import Interchange
import Models
import Reporting
import Tensors
import TestSupport
import Weights
import XCTest

/// k-NN of folders of pictures: figures compared with a plain rendering on the features that embed writes.
final class NeighborEvaluationTests: XCTestCase {
    private static let pictures = Fixtures.path("demo/images")
    private static let classes = ["buildings", "computer", "decorations", "education", "electronics", "geography"]
    private let folder = TemporaryFolder()

    /// Folders of links to the demo's pictures: every third one of a class for validation, the others for training.
    override func setUp() {
        for part in ["train", "val"] {
            for name in Self.classes {
                try! FileManager.default.createDirectory(
                    atPath: folder.file("\(part)/\(name)"), withIntermediateDirectories: true)
            }
        }
        for name in Self.classes {
            let files = try! FileManager.default.contentsOfDirectory(atPath: "\(Self.pictures)/\(name)").sorted()
            for (index, file) in files.enumerated() {
                try! FileManager.default.createSymbolicLink(
                    atPath: folder.file("\(index % 3 == 2 ? "val" : "train")/\(name)/\(file)"),
                    withDestinationPath: "\(Self.pictures)/\(name)/\(file)")
            }
        }
    }

    private var train: String { folder.file("train") }
    private var validation: String { folder.file("val") }

    private func embedding(batch: Int = 16, pool: FeaturePool? = nil) throws -> Embedding {
        let weights = try ModelWeights(path: Fixtures.path("demo/teacher.safetensors"))
        return try Embedding(
            file: weights.tensors, configuration: weights.runnableEncoder(heads: nil, imageSize: nil), block: nil,
            pool: pool, batch: batch)
    }

    /// Features as embed writes them, with their classes, in the order of the source.
    private func features(_ embedding: Embedding, _ source: any ImageSource) throws -> [([Float], Int)] {
        _ = try embedding.run(
            over: source, to: FeatureFiles(folder.file("x.safetensors")), report: { XCTFail("\($0)") })
        let values = try SafeTensorsFile(path: folder.file("x.safetensors")).floats("features")
        let width = embedding.configuration.width
        return (0..<source.count).map { (Array(values[$0 * width..<($0 + 1) * width]), source.label($0)!) }
    }

    /// Top-1 and top-5 hits in double, by sorting everything.
    private func hits(_ k: Int, _ train: [([Float], Int)], _ validation: [([Float], Int)]) -> [Int] {
        func unit(_ feature: [Float]) -> [Double] {
            let norm = feature.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
            return feature.map { Double($0) / norm }
        }
        let references = train.map { (unit($0.0), $0.1) }
        var hits = [0, 0]
        for (feature, label) in validation {
            let query = unit(feature)
            let similar = references.enumerated().map { index, reference in
                (zip(query, reference.0).reduce(0) { $0 + $1.0 * $1.1 }, index, reference.1)
            }.sorted { ($1.0, $0.1) < ($0.0, $1.1) }
            var votes = [Double](repeating: 0, count: Self.classes.count)
            for (similarity, _, label) in similar.prefix(k) { votes[label] += exp(similarity / 0.07) }
            let ranked = votes.indices.sorted { (votes[$1], $0) < (votes[$0], $1) }
            if ranked[0] == label { hits[0] += 1 }
            if ranked.prefix(5).contains(label) { hits[1] += 1 }
        }
        return hits
    }

    private func hits(_ figures: NeighborEvaluation.Figures) -> [[Int]] {
        figures.scores.map { [$0.top1Hits, $0.top5Hits] }
    }

    /// The trained encoder, on all images and on the part that the baselines use, and the encoder with random weights.
    func testFiguresOfTheFeaturesOfEmbed() throws {
        let train = try ImageFolder(train), validation = try ImageFolder(validation)
        XCTAssertEqual([train.count, validation.count], [40, 17])
        let counts = [1, 3, 10]
        let embedding = try embedding()
        var progress: [Int] = []
        let evaluation = try NeighborEvaluation(
            embedding, train: train, validation: validation, counts: counts, hasBaselines: true,
            baselineImages: (train: 20, validation: 9), progress: { progress.append($0) }, report: { XCTFail("\($0)") })
        let result = try evaluation.run()
        XCTAssertEqual(evaluation.passes, 1)
        XCTAssertEqual(evaluation.totalImages, 40 + 17 + 2 * (20 + 9))
        XCTAssertEqual(progress.last, evaluation.totalImages)
        XCTAssertEqual(progress, progress.sorted())
        let comparison = try XCTUnwrap(result.comparison)
        for figures in [comparison.encoder, comparison.random, comparison.pixels] {
            XCTAssertEqual([figures.trainImages, figures.validationImages], [20, 9])
        }
        XCTAssertEqual([result.figures.trainImages, result.figures.validationImages], [40, 17])
        XCTAssertEqual(result.figures.scores.map(\.k), counts)

        let parts = (
            ImageSubset(train, ImageSubset.spread(20, of: 40)), ImageSubset(validation, ImageSubset.spread(9, of: 17))
        )
        let trained = try self.embedding()
        for (source, figures) in [
            ((train as any ImageSource, validation as any ImageSource), result.figures),
            ((parts.0, parts.1), comparison.encoder),
        ] {
            let (references, queries) = (try features(trained, source.0), try features(trained, source.1))
            XCTAssertEqual(hits(figures), counts.map { hits($0, references, queries) })
        }
        trained.setRandomWeights(seed: 0)
        let (references, queries) = (try features(trained, parts.0), try features(trained, parts.1))
        XCTAssertEqual(hits(comparison.random), counts.map { hits($0, references, queries) })
    }

    /// Raw pixels are the pictures at 16×16, prepared like the encoder's and normalised.
    func testRawPixels() throws {
        let train = try ImageFolder(train), validation = try ImageFolder(validation)
        let result = try NeighborEvaluation(
            embedding(), train: train, validation: validation, counts: [2, 5], hasBaselines: true
        ).run()
        let augmentation = Augmentation(width: 16, height: 16, framing: .centre)
        func pixels(_ source: ImageFolder) throws -> [([Float], Int)] {
            try (0..<source.count).map { index in
                let picture = augmentation.apply(
                    to: try Pixels(contentsOf: source.path(index), channels: 3), seed: 0, epoch: 0, index: index)
                var values = [Float](repeating: 0, count: augmentation.sampleCount)
                values.withUnsafeMutableBufferPointer {
                    augmentation.normalisation.write(picture, to: $0.baseAddress!)
                }
                return (values, source.label(index)!)
            }
        }
        let (references, queries) = (try pixels(train), try pixels(validation))
        let comparison = try XCTUnwrap(result.comparison)
        XCTAssertEqual(hits(comparison.pixels), [2, 5].map { hits($0, references, queries) })
        // The sets are small: the baselines use all of it.
        XCTAssertEqual(comparison.encoder, result.figures)
        // 12 of the 40 training images, and 5 of 17 validation images, are buildings.
        XCTAssertEqual(result.chance.top1, 5.0 / 17)
    }

    /// The result depends on neither threads, workers, batch nor the number of passes.
    func testOneResult() throws {
        let train = try ImageFolder(train), validation = try ImageFolder(validation)
        var expected: NeighborEvaluation.Result?
        for (threads, workers, batch, bytes, passes) in [
            (1, 1, 16, 1 << 30, 1), (2, 2, 5, 4 * 6 * (128 + 2 * 10), 3), (3, 1, 40, 4 * 9 * (128 + 2 * 10), 2),
        ] {
            let result = try withThreads(threads) {
                let embedding = try embedding(batch: batch)
                XCTAssertEqual(embedding.configuration.width, 128)
                let evaluation = try NeighborEvaluation(
                    embedding, train: train, validation: validation, counts: [1, 10], hasBaselines: true,
                    workers: workers, keptBytes: bytes, baselineImages: (train: 20, validation: 9))
                XCTAssertEqual(evaluation.passes, passes)
                return try evaluation.run()
            }
            XCTAssertEqual(result, expected ?? result, "\(threads) threads, batch \(batch), \(passes) passes")
            expected = result
        }
    }

    /// An image that cannot be read is reported once and left out.
    func testUnreadableImages() throws {
        let validation = try ImageFolder(validation)
        folder.write("no picture".utf8, "train/computer/0.jpg")
        let train = try ImageFolder(train)
        var reports: [String] = []
        XCTAssertEqual(train.count, 41)
        let result = try NeighborEvaluation(
            embedding(), train: train, validation: validation, counts: [1], hasBaselines: true, unreadableLimit: 0.1,
            keptBytes: 4 * 9 * 130, report: { reports.append("\($0)") }
        ).run()
        XCTAssertEqual(reports.count, 1, "\(reports)")
        XCTAssertEqual(result.figures.trainImages, 40)
        XCTAssertEqual(result.comparison?.random.trainImages, 40)
    }

    func testChance() {
        let (top1, top5) = NeighborEvaluation.chance(
            train: [3, 9, 9, 1, 2, 0, 5], validation: [10, 20, 30, 1, 7, 9, 3])
        XCTAssertEqual(top1, 20.0 / 80)
        XCTAssertEqual(top5, (20.0 + 30 + 3 + 10 + 7) / 80)
        XCTAssertEqual(NeighborEvaluation.chance(train: [1], validation: [4]).top5, 1)
    }

    func testRefusals() throws {
        let train = try ImageFolder(train), validation = try ImageFolder(validation)
        func evaluate(_ train: ImageFolder, _ validation: ImageFolder, k: Int = 1, baselines: Bool = false) -> Failure?
        {
            failure {
                _ = try NeighborEvaluation(
                    embedding(), train: train, validation: validation, counts: [k], hasBaselines: baselines,
                    baselineImages: (train: 10, validation: 10))
            }
        }
        XCTAssertNil(evaluate(train, validation, k: 40))
        for (k, baselines, words) in [
            (41, false, "k 41 is more than the 40 images of train"), (11, true, "10 training"),
        ] {
            let failure = evaluate(train, validation, k: k, baselines: baselines)
            XCTAssertEqual(failure?.code, .usage)
            XCTAssertTrue(failure?.message.contains(words) == true, "\(failure as Any)")
        }
        let flat = try ImageFolder(Self.pictures + "/geography"), all = try ImageFolder(Self.pictures)
        for (train, validation, words) in [
            (flat, validation, ["train \(Self.pictures)/geography has no classes"]),
            (train, flat, ["val \(Self.pictures)/geography has no classes"]),
            (
                train, all,
                [
                    "train and val have different classes: \"animals\", \"containers\", \"food\"",
                    "and 6 more are in val only;",
                ]
            ),
            (all, train, ["are in train only;"]),
        ] {
            let failure = evaluate(train, validation)
            XCTAssertEqual(failure?.code, .badData)
            for word in words { XCTAssertTrue(failure?.message.contains(word) == true, "\(failure as Any)") }
        }
    }

    /// The sentence follows the figures at one k; a difference within two standard errors is no difference.
    func testExplanation() {
        typealias Relation = NeighborEvaluation.Comparison.Relation
        func figures(_ hits: Int, images: Int = 400, counts: [Int] = [5, 20, 50]) -> NeighborEvaluation.Figures {
            NeighborEvaluation.Figures(
                trainImages: 1000, validationImages: images,
                // At other k all is right.
                scores: counts.map {
                    NeighborScores(
                        k: $0, images: images, top1Hits: $0 == 20 || counts.count == 1 ? hits : images,
                        top5Hits: images)
                })
        }
        // Two standard errors of 200 and 172 of 400 are 28.06 images, 7.015 points.
        let cases: [(Int, Int, Int, (Relation, Relation), String, String)] = [
            (
                200, 171, 171, (.better, .better),
                "is better than random weights (42.8 %) and raw pixels (42.8 %): ", "Its features tell these classes"
            ),
            (
                200, 171, 172, (.better, .same),
                "cannot be told from raw pixels (43.0 %), and is better than random weights (42.8 %): ",
                "Use more validation images; if the figures stay this close, its features add nothing to colours"
            ),
            (
                172, 100, 204, (.better, .worse),
                "is better than random weights (25.0 %), and is worse than raw pixels (51.0 %): ",
                "Its features add nothing to colours"
            ),
            (
                200, 172, 200, (.same, .same),
                "cannot be told from random weights (43.0 %) or raw pixels (50.0 %): ",
                "Use more validation images; if the figures stay this close, its features hold nothing"
            ),
            (
                200, 172, 100, (.same, .better),
                "cannot be told from random weights (43.0 %), and is better than raw pixels (25.0 %): ",
                "Use more validation images; "
            ),
            (
                200, 210, 201, (.same, .same),
                "cannot be told from random weights (52.5 %, which is higher) or raw pixels (50.2 %, which is higher): ",
                "Use more validation images; "
            ),
            (
                100, 200, 100, (.worse, .same),
                "cannot be told from raw pixels (25.0 %), and is worse than random weights (50.0 %): ",
                "Its features hold nothing that tells these classes apart. Check that the losses fell"
            ),
        ]
        for (own, random, pixels, relations, words, meaning) in cases {
            let comparison = NeighborEvaluation.Comparison(
                encoder: figures(own), random: figures(random), pixels: figures(pixels))
            let found = (comparison.relation(to: comparison.random), comparison.relation(to: comparison.pixels))
            XCTAssertTrue(found == relations, "\(found): \(own) \(random) \(pixels)")
            let text = comparison.explanation.replacing("\u{A0}", with: " ")
            XCTAssertTrue(text.hasPrefix("At k = 20 the trained encoder ("), text)
            XCTAssertTrue(text.contains(") \(words)with 400 validation images differences below "), text)
            XCTAssertTrue(text.contains(" points are noise. \(meaning)"), text)
            // A figure and its unit are one word for whoever breaks the lines.
            XCTAssertFalse(comparison.explanation.contains(" %"), comparison.explanation)
        }
        // 7.015 is rounded up, so that no difference of that size is both below the margin and a difference.
        XCTAssertEqual(
            NeighborEvaluation.Comparison(encoder: figures(200), random: figures(172), pixels: figures(100)).margin,
            0.071)
        // With as many images as the baselines use, more of them would change nothing.
        func most(_ hits: Int) -> NeighborEvaluation.Figures { figures(hits, images: 1000) }
        let all = NeighborEvaluation.Comparison(encoder: most(500), random: most(500), pixels: most(500)).explanation
        XCTAssertFalse(all.contains("more validation images"), all)
        // Without one of at most 20 the smallest k counts.
        XCTAssertEqual(figures(1, counts: [50]).compared.k, 50)
        XCTAssertEqual(figures(1, counts: [30, 50]).compared.k, 30)
    }
}
