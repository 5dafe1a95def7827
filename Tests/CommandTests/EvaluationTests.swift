import Foundation
import TestSupport
import XCTest

/// `--val`, `--knn-train`, `--knn-val` and `--knn-every` of `dmae pretrain` and `dmae distill`.
final class EvaluationTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let heldOut = Fixtures.path("demo/held-out")

    /// Folders of links to pictures of four classes of the demo.
    override func setUpWithError() throws {
        for name in ["buildings", "education", "electronics", "geography"] {
            let pictures = Fixtures.path("demo/images/\(name)")
            for part in ["train", "val"] {
                try FileManager.default.createDirectory(
                    atPath: folder.file("\(part)/\(name)"), withIntermediateDirectories: true)
            }
            for (index, file) in try FileManager.default.contentsOfDirectory(atPath: pictures).sorted().enumerated() {
                try FileManager.default.createSymbolicLink(
                    atPath: folder.file("\(index % 3 == 0 ? "val" : "train")/\(name)/\(file)"),
                    withDestinationPath: "\(pictures)/\(file)")
            }
        }
    }

    private var neighbors: [String] {
        ["--knn-train", folder.file("train"), "--knn-val", folder.file("val"), "--knn-every", "2"]
    }

    /// The evaluations of a run's log.
    private func evaluations(_ run: String) throws -> [[String: Any]] {
        try TinyRun.log(run).filter { !$0.contains("\"learning_rate\"") }.map {
            try XCTUnwrap(JSONSerialization.jsonObject(with: Data(($0 + "}").utf8)) as? [String: Any])
        }
    }

    /// The last k-NN figures of a run are those of `dmae knn` with its weights, whatever the precision of the run.
    func testFiguresOfKnn() throws {
        for precision in ["f32", "bf16"] {
            let run = folder.file(precision)
            let result = assertRuns(
                TinyRun.pretrain(
                    run, epochs: 5, ["--val", heldOut, "--precision", precision, "--quiet"] + neighbors))
            // Five steps of 8 of 9 images: the second to the fifth end in another epoch than they began in.
            let lines = try evaluations(run)
            XCTAssertEqual(lines.map { $0["knn_top1_k20"] != nil }, [false, true, false, true])
            for line in lines { XCTAssertNotNil(line["val_loss"] as? Double) }
            let last = try XCTUnwrap(lines.last)
            let report = assertRuns([
                "knn", "--weights", run + "/model.safetensors", "--train", folder.file("train"), "--val",
                folder.file("val"), "--json", "--no-baselines", "--quiet",
            ])
            let object = try JSONSerialization.jsonObject(with: Data(report.output.utf8)) as? [String: Any]
            let figures = try XCTUnwrap(object?["k"] as? [String: [String: Double]])
            for k in ["10", "20"] {
                XCTAssertEqual(last["knn_top1_k\(k)"] as? Double, figures[k]?["top1"], "\(precision) \(k)")
                XCTAssertEqual(last["knn_top5_k\(k)"] as? Double, figures[k]?["top5"], "\(precision) \(k)")
            }
            // Below the losses there is a table of evaluations, a row for each epoch.
            let tables = result.output.components(separatedBy: "\n\n")
            XCTAssertEqual(tables.count, 2, result.output)
            let rows = tables[1].components(separatedBy: "\n")
            for name in ["val loss", "k-NN top-1, k = 10", "k-NN top-1, k = 20"] {
                XCTAssertTrue(rows[0].contains(name), rows[0])
            }
            // Of three classes each image's is among the first five, and the loss has one term.
            for name in ["top-5", "reconstruction"] { XCTAssertFalse(rows[0].contains(name), rows[0]) }
            XCTAssertEqual(rows.count, 1 + 4 + 5, "the last lines: weights, time, the next commands: \(tables[1])")
            XCTAssertTrue(rows[4].hasSuffix(" %"), rows[4])
        }
    }

    /// The plan counts the memory and the time of the evaluations.
    func testPlan() throws {
        let run = TinyRun.pretrain(folder.file("x"), epochs: 1, ["--dry-run", "--quiet"])
        let plain = assertRuns(run).output
        let evaluated = assertRuns(run + ["--val", heldOut] + neighbors).output
        XCTAssertFalse(plain.contains("all evaluations"), plain)
        XCTAssertTrue(evaluated.contains("\nall evaluations "), evaluated)
        func weights(_ text: String) -> String? {
            text.components(separatedBy: "\n").first { $0.hasPrefix("memory: weights") }
        }
        XCTAssertEqual(
            weights(plain)?.split(separator: " "), weights(evaluated)?.split(separator: " "), "they are not copied")
        XCTAssertFalse(FileManager.default.fileExists(atPath: folder.file("x")))
    }

    func testRefusals() throws {
        let run = TinyRun.pretrain(folder.file("x"), epochs: 1, ["--quiet"]), train = folder.file("train")
        assertRefused(run + ["--knn-train", train], 64, "--knn-train and --knn-val belong together")
        assertRefused(run + ["--knn-every", "1"], 64, "--knn-every is for k-NN")
        assertRefused(run + neighbors.dropLast() + ["0"], 64, "--knn-every must be above 0")
        assertRefused(run + ["--val", folder.file("gone")], 74, folder.file("gone"))
        assertRefused(
            run + ["--knn-train", train, "--knn-val", heldOut], 65, "--knn-val \(heldOut) has no classes")
        assertRefused(
            run + ["--knn-train", train, "--knn-val", Fixtures.path("demo/images")], 65,
            "--knn-train and --knn-val have different classes:")
        XCTAssertFalse(FileManager.default.fileExists(atPath: folder.file("x")))
    }
}
