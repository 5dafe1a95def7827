import Foundation
import TestSupport
import XCTest

/// `dmae knn`.
final class KnnTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let weights = Fixtures.path("demo/teacher.safetensors")

    /// Folders of links to pictures of three classes of the demo.
    override func setUpWithError() throws {
        for name in ["education", "electronics", "geography"] {
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

    private func knn(_ more: String..., train: String = "train", val: String = "val") -> [String] {
        ["knn", "--weights", weights, "--train", folder.file(train), "--val", folder.file(val)] + more
            + (more.contains("--k") ? [] : ["--k", "5,10"])
    }

    private func object(_ text: String) throws -> [String: Any] {
        XCTAssertEqual(text.filter { $0 == "\n" }.count, 1, text)
        return try XCTUnwrap(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }

    /// The table has a row for the encoder, each baseline and chance; a sentence says what they mean.
    func testTable() throws {
        let result = assertRuns(knn("--k", "1,5"))
        XCTAssertTrue(result.errors.contains("\(weights): safetensors, MAE names; "), result.errors)
        let lines = result.output.components(separatedBy: "\n")
        XCTAssertEqual(
            lines[0],
            "                 training  validation  top-1, k = 1  top-1, k = 5")
        let names = ["trained encoder", "random weights", "raw pixels", "chance"]
        for (line, name) in zip(lines.dropFirst(), names) {
            XCTAssertTrue(line.hasPrefix(name), line)
            XCTAssertEqual(line.count, lines[0].count, line)
            let numbers = line.dropFirst(name.count).split(separator: " ").filter { $0 != "%" }
            // Three classes: all of them are among the first five, which is not shown.
            XCTAssertEqual(numbers.count, 4, line)
            XCTAssertEqual(numbers.prefix(2), ["19", "10"], line)
        }
        XCTAssertEqual(lines[5], "")
        XCTAssertTrue(lines[6].hasPrefix("At k = 5 the trained encoder ("), lines[6])
        XCTAssertTrue(
            result.output.replacingOccurrences(of: "\n", with: " ").contains(
                "with 10 validation images differences below"), result.output)
        XCTAssertFalse(lines.contains { $0.hasPrefix("%") || $0.hasPrefix("points") }, result.output)
        XCTAssertTrue(lines.dropFirst(6).allSatisfy { $0.count <= 80 }, result.output)

        let alone = assertRuns(knn("--k", "1,5", "--no-baselines", "--quiet"))
        XCTAssertEqual(alone.errors, "")
        let rows = alone.output.components(separatedBy: "\n")
        XCTAssertEqual(rows[1].split(separator: " "), lines[1].split(separator: " "))
        XCTAssertTrue(rows[2].hasPrefix("chance"), alone.output)
        XCTAssertTrue(alone.output.contains("leave out --no-baselines"), alone.output)
    }

    /// Images that are their own neighbours say nothing of the features, with baselines and without.
    func testNoVerdictOnSharedImages() {
        for more in [["--no-baselines"], []] {
            let text = assertRuns(knn("--k", "1", "--quiet", val: "train") + more).output
            XCTAssertTrue(
                text.replacing("\n", with: " ").hasSuffix(
                    " No verdict on the features: an image that is in both --train and --val is its own nearest "
                        + "neighbour, whatever the encoder has learned. Give --val other images than --train. "), text)
            XCTAssertFalse(text.contains("At k ="), text)
        }
    }

    /// The first training images of two classes, copied among the validation images under other names.
    private func copy(with end: [UInt8] = []) throws -> [(copy: String, original: String)] {
        try ["education", "geography"].map { name in
            let original = try XCTUnwrap(
                FileManager.default.contentsOfDirectory(atPath: folder.file("train/\(name)")).sorted().first)
            let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: folder.file("train/\(name)/\(original)"))))
            let copy = folder.write(bytes + end, "val/\(name)/copy.jpg")
            return (copy, folder.file("train/\(name)/\(original)"))
        }
    }

    /// Copies are named and left out: the figures are those without them.
    func testCopies() throws {
        var before = try object(assertRuns(knn("--json")).output)
        let copies = try copy()
        let result = assertRuns(knn("--json"))
        XCTAssertTrue(
            result.errors.contains(
                "warning: 2 of the 12 images of --val are copies of images of --train ("
                    + copies.map { "\($0.copy) of \($0.original)" }.joined(separator: ", ")
                    + "): left out of the figures\n"), result.errors)
        XCTAssertEqual(before["copies"] as? Int, 0)
        before["copies"] = 2
        XCTAssertEqual(try object(result.output) as NSDictionary, before as NSDictionary)
        XCTAssertTrue(assertRuns(knn("--quiet")).output.contains("At k = "))
    }

    /// Where all are copies there is no verdict, and no other images to judge by.
    func testNothingButCopies() throws {
        try FileManager.default.createDirectory(atPath: folder.file("all"), withIntermediateDirectories: true)
        for name in ["education", "electronics", "geography"] {
            let pictures = folder.file("train/\(name)")
            try FileManager.default.createDirectory(
                atPath: folder.file("all/\(name)"), withIntermediateDirectories: true)
            for (index, file) in try FileManager.default.contentsOfDirectory(atPath: pictures).sorted().enumerated() {
                try FileManager.default.copyItem(
                    atPath: URL(fileURLWithPath: "\(pictures)/\(file)").resolvingSymlinksInPath().path,
                    toPath: folder.file("all/\(name)/\(index).jpg"))
            }
        }
        let result = assertRuns(knn("--k", "1", val: "all"))
        XCTAssertTrue(
            result.errors.contains("warning: all 19 images of --val are copies of images of --train ("), result.errors)
        XCTAssertTrue(result.output.contains("No verdict on the features"), result.output)
        XCTAssertFalse(result.output.contains("At k = "), result.output)
    }

    /// Copies that were saved anew have other bytes; what the encoder sees of them is the same.
    func testLookalikes() throws {
        let copies = try copy(with: [0])
        let result = assertRuns(knn("--quiet"))
        XCTAssertEqual(result.errors, "")
        let text = result.output.replacing("\n", with: " ")
        XCTAssertTrue(
            text.hasSuffix(
                "No verdict on the features: 2 of the 12 validation images look to the encoder exactly like a training "
                    + "image (" + copies.map { "\($0.copy) like \($0.original)" }.joined(separator: ", ")
                    + "): likely copies that were saved anew. Take them out of --val or of --train. "), text)
        let report = try object(assertRuns(knn("--json")).output)
        XCTAssertEqual(report["lookalikes"] as? Int, 2)
        XCTAssertEqual(report["copies"] as? Int, 0)
    }

    func testJSON() throws {
        let result = assertRuns(knn("--json", "--k", "10,1"))
        let report = try object(result.output)
        XCTAssertEqual(
            Set(report.keys),
            [
                "k", "chance", "chance_top5", "pixels", "random", "compared", "train_images", "val_images", "copies",
                "lookalikes",
            ])
        XCTAssertEqual(report["train_images"] as? Int, 19)
        XCTAssertEqual(report["val_images"] as? Int, 10)
        // Of 11, 9 and 9 pictures, 4, 3 and 3 are for validation.
        XCTAssertEqual(report["chance"] as? Double, 0.4)
        XCTAssertEqual(report["chance_top5"] as? Double, 1)
        let compared = try XCTUnwrap(report["compared"] as? [String: Any])
        XCTAssertEqual(Set(compared.keys), ["k", "train_images", "val_images"])
        for figures in [report["k"], report["pixels"], report["random"], compared["k"]] {
            let figures = try XCTUnwrap(figures as? [String: [String: Double]])
            XCTAssertEqual(Set(figures.keys), ["1", "10"])
            for scores in figures.values {
                XCTAssertEqual(Set(scores.keys), ["top1", "top5"])
                let top1 = try XCTUnwrap(scores["top1"])
                XCTAssertEqual((top1 * 10).rounded() / 10, top1)
                XCTAssertEqual(scores["top5"], 1)
            }
        }
        let alone = try object(assertRuns(knn("--json", "--no-baselines", "--quiet")).output)
        XCTAssertEqual(
            Set(alone.keys), ["k", "chance", "chance_top5", "train_images", "val_images", "copies", "lookalikes"])
        XCTAssertEqual(try XCTUnwrap(alone["k"] as? [String: Any]).keys.sorted(), ["10", "5"])
    }

    /// What is printed depends on neither threads, workers nor batch, but on how features are made.
    func testSameBytes() {
        let expected = assertRuns(knn("--json", "--threads", "1", "--batch", "1")).output
        for more in [["--threads", "2", "--workers", "3"], ["--threads", "3", "--batch", "7"]] {
            XCTAssertEqual(assertRuns(knn("--json") + more).output, expected, "\(more)")
        }
        // The training images are found among themselves: the nearest of each is itself.
        let itself = assertRuns(knn("--json", "--no-baselines", "--k", "1", val: "train")).output
        XCTAssertTrue(itself.contains(#""k":{"1":{"top1":1,"top5":1}}"#), itself)
        for more in [["--pool", "mean"], ["--precision", "bf16"]] {
            assertRuns(knn("--json", "--no-baselines", "--k", "1") + more)
        }
    }

    /// A signal ends it at once, and nothing is written anyway.
    func testStoppedBySignals() throws {
        for signal in [SIGTERM, SIGINT] {
            let all = Fixtures.path("demo/images")
            let command = Command([
                "knn", "--weights", weights, "--train", all, "--val", all, "--batch", "1", "--threads", "1",
            ])
            usleep(100_000)
            command.send(signal)
            XCTAssertEqual(command.wait().end, .killed(signal: signal))
        }
    }

    func testRefusals() {
        assertRefused(knn("--k", "20", "--no-baselines"), 64, "--k 20 is more than the 19 images of --train: lower it")
        for k in ["0", "", "1,,2", "x", "-1"] { assertRefused(knn("--k", k), 64, "--k") }
        assertRefused(knn("--pool", "tokens"), 64, "tokens")
        assertRefused(knn("--batch", "0"), 64, "--batch must be at least 1")
        assertRefused(knn("--workers", "0"), 64, "--workers must be 1 to 1024")
        assertRefused(knn("--unreadable-limit", "2"), 64, "--unreadable-limit must be 0 to 1")
        assertRefused(knn(val: "train/geography"), 65, "--val \(folder.file("train/geography")) has no classes")
        assertRefused(knn(train: "gone"), 74, folder.file("gone"))
        try? FileManager.default.removeItem(atPath: folder.file("val/geography"))
        assertRefused(
            knn(), 65, #"--train and --val have different classes: "geography" is in --train only; give both"#)
    }
}
