import Inference
import Interchange
import Reporting
import Foundation
import Images
import Models
import Tensors
import TestSupport
import Weights
import XCTest

/// Features compared with those of timm and transformers for the same weights and pictures (Fixtures/weights).
final class EmbeddingTests: XCTestCase {
    private static let encoder = EncoderConfiguration(
        width: 32, depth: 3, heads: 4, patchSize: 8, imageHeight: 32, imageWidth: 32)
    private let folder = TemporaryFolder()

    private func file() throws -> SafeTensorsFile {
        try SafeTensorsFile(path: Fixtures.path("weights/mae/mae.safetensors"))
    }

    /// The expected features by pool and block.
    private static let cases: [(name: String, pool: FeaturePool?, block: Int?, shape: [Int])] = [
        ("class", nil, nil, [32]), ("class", .class, nil, [32]), ("mean", .mean, nil, [32]),
        ("tokens", .tokens, nil, [17, 32]),
        ("block.0", .tokens, 0, [17, 32]), ("block.1", .tokens, 1, [17, 32]), ("block.2", .tokens, 2, [17, 32]),
    ]

    /// From the pictures' files to the features, with every instruction set.
    ///
    /// The recorded features were computed in float64 and rounded once. A sum of k products has a relative error of
    /// about u·√(k/2). A block has nine stages (two norms, four linear layers, scores, softmax, values); patch
    /// embedding and final norm are two more. The longest sum has 8·8·3 = 192 terms. Together that is u·√(29·192), and
    /// twice that for the largest of many elements.
    func testFeaturesAgreeWithTimmAndTransformers() throws {
        let expected = try SafeTensorsFile(path: Fixtures.path("weights/expected.safetensors"))
        let bound = 2 * 0x1p-24 * (29.0 * 192).squareRoot()
        let ran = try withEachInstructionSet { set in
            var comparison = TensorComparison()
            for (name, pool, block, shape) in Self.cases {
                let embedding = try Embedding(
                    file: file(), configuration: Self.encoder, block: block, pool: pool, batch: 2)
                XCTAssertEqual(embedding.shape, shape)
                let output = folder.file("\(set.name).safetensors")
                let summary = try embedding.run(
                    over: ImageFolder(listing: [Fixtures.path("weights/images")]), to: FeatureFiles(output),
                    report: { XCTFail("\($0)") })
                XCTAssertEqual(summary.images, 2)
                let written = try SafeTensorsFile(path: output)
                XCTAssertEqual(written["features"]?.shape, [2] + shape)
                let wanted = try expected.floats("f32." + name)
                comparison.compare(name, expected: wanted, found: try written.floats("features"), relative: bound)
                // The prepared pictures are the same as the tools'.
                let given = embedding.features(of: try expected.floats("images"))
                comparison.compare(name + " of given images", expected: wanted, found: given, relative: bound)
            }
            XCTAssertEqual(comparison.failures, [], set.name)
            print("\(set.name): \(comparison.summary)")
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// The bytes do not depend on the number of threads, workers and images per pass; the list has the order of the
    /// features.
    func testBytesDependOnNeitherThreadsNorBatch() throws {
        let images = try ImageFolder(listing: [Fixtures.path("demo/held-out"), Fixtures.path("weights/images")])
        XCTAssertEqual(images.count, 18)
        var expected: (features: Data, list: Data)?
        for (threads, workers, batch) in [(1, 1, 1), (2, 1, 5), (3, 2, 32)] {
            try withThreads(threads) {
                let embedding = try Embedding(
                    file: file(), configuration: Self.encoder, block: nil, pool: .mean, batch: batch)
                var done: [Int] = []
                let summary = try embedding.run(
                    over: images, to: FeatureFiles(folder.file("x.npy")), workers: workers,
                    progress: { done.append($0) },
                    report: { XCTFail("\($0)") })
                XCTAssertEqual([summary.images, summary.unreadable], [18, 0])
                XCTAssertEqual(done, (1...((18 + batch - 1) / batch)).map { min(18, $0 * batch) })
                let found = try [folder.file("x.npy"), folder.file("x.npy.files.txt")].map {
                    try Data(contentsOf: URL(fileURLWithPath: $0))
                }
                let reference = expected ?? (found[0], found[1])
                XCTAssertEqual(
                    found[0], reference.features, "\(threads) threads, \(workers) workers, batches of \(batch)")
                XCTAssertEqual(found[1], reference.list)
                expected = reference
            }
        }
        let lines = String(decoding: expected!.list, as: UTF8.self)
        XCTAssertEqual(lines, (0..<18).map { images.path($0) + "\n" }.joined())
        XCTAssertEqual(folder.names(), ["x.npy", "x.npy.files.txt", "x.npy.json"])
    }

    /// Unreadable pictures are named, counted and left out of both files; with too many of them no file is written.
    func testUnreadableImages() throws {
        let pictures = TemporaryFolder()
        for (index, name) in ["b.png", "d.png", "e.png"].enumerated() {
            pictures.write(
                [UInt8](try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("weights/images/\(index % 2).png")))),
                name)
        }
        for name in ["a.png", "c.jpg"] { pictures.write("no picture".utf8, name) }
        let images = try ImageFolder(listing: [pictures.path])
        let embedding = try Embedding(file: file(), configuration: Self.encoder, block: nil, pool: nil, batch: 2)
        var reports: [String] = []
        let output = folder.file("x.safetensors")
        let summary = try embedding.run(
            over: images, to: FeatureFiles(output), unreadableLimit: 0.4, report: { reports.append("\($0)") })
        XCTAssertEqual([summary.images, summary.unreadable], [3, 2])
        XCTAssertEqual(reports.count, 2)
        for (report, name) in zip(reports, ["a.png", "c.jpg"]) {
            XCTAssert(report.contains(pictures.file(name)), report)
        }
        XCTAssertEqual(
            try String(contentsOfFile: output + ".files.txt", encoding: .utf8),
            ["b.png", "d.png", "e.png"].map { pictures.file($0) + "\n" }.joined())
        let features = try SafeTensorsFile(path: output).floats("features")
        XCTAssertEqual(features.count, 3 * 32)
        XCTAssertEqual(features[..<32], features[64...], "b and e are one picture")
        XCTAssertNotEqual(features[..<32], features[32..<64])

        let other = TemporaryFolder()
        let failure = failure {
            _ = try embedding.run(over: images, to: FeatureFiles(other.file("y.npy")), unreadableLimit: 0.3)
        }
        XCTAssertEqual(failure?.code, .badData)
        XCTAssert(failure?.message.contains("2 of the 5 images") == true, "\(failure as Any)")
        XCTAssertEqual(other.names(), [])
    }

    func testWhatCannotBeWrittenIsRefused() throws {
        let embedding = try Embedding(file: file(), configuration: Self.encoder, block: nil, pool: nil, batch: 1)
        let images = try ImageFolder(listing: [Fixtures.path("weights/images")])
        for name in ["x.txt", "x", ".npy", "folder/.npy", "safetensors"] {
            let failure = failure { _ = try FeatureFiles(name) }
            XCTAssertEqual(failure?.code, .usage, name)
            XCTAssert(failure?.message.contains("output \(name)") == true, "\(failure as Any)")
        }
        let broken = TemporaryFolder()
        broken.write([UInt8](try Data(contentsOf: URL(fileURLWithPath: images.path(0)))), "a\nb.png")
        let lines = failure {
            _ = try embedding.run(over: ImageFolder(listing: [broken.path]), to: FeatureFiles(folder.file("x.npy")))
        }
        XCTAssertEqual(lines?.code, .badData)
        XCTAssert(
            lines?.message.contains("line break") == true && lines?.message.contains("a\\nb.png") == true,
            "\(lines as Any)")
        XCTAssertEqual(folder.names(), [])
    }

    /// Weights with both norms are refused, except for the output of a block, which precedes either norm.
    func testBothNorms() throws {
        let (mae, path) = (try file(), folder.file("both.safetensors"))
        try withBuffers([[Float](repeating: 1, count: 32)]) { buffers in
            var writer = SafeTensorsWriter()
            for entry in mae.entries {
                writer.add(
                    TensorSource(name: entry.name, type: entry.type, shape: entry.shape) {
                        try mae.withBytes(entry.name, $0)
                    })
            }
            for end in ["weight", "bias"] { writer.add("fc_norm.\(end)", shape: [32], floats: buffers[0]) }
            try writer.write(to: path)
        }
        let both = try SafeTensorsFile(path: path)
        for pool: FeaturePool? in [nil, .class, .mean, .tokens] {
            XCTAssertEqual(
                failure {
                    _ = try Embedding(file: both, configuration: Self.encoder, block: nil, pool: pool, batch: 1)
                },
                Failure(
                    .badData,
                    "\(path): holds both norm and fc_norm, and embed cannot say which of them comes last; take the "
                        + "output of a block with \(.block), or leave one of the two out of the file"))
        }
        XCTAssertNoThrow(try Embedding(file: both, configuration: Self.encoder, block: 1, pool: nil, batch: 1))
    }

    func testPassesAreOfOneSize() {
        for (count, most, expected) in [
            (1, 32, 1), (32, 32, 32), (33, 32, 17), (100, 32, 25), (7, 3, 3), (5, 1, 1), (0, 8, 1), (7, .max, 7),
        ] {
            XCTAssertEqual(Embedding.batch(for: count, most: most), expected)
        }
    }
}
