import Foundation
import TestSupport
import XCTest

/// What a newcomer reads, line by line.
final class FirstHourTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let weights = Fixtures.path("demo/teacher.safetensors")

    /// A refused flag stands alone: nothing of the plan comes before it.
    func testFlagsAreCheckedFirst() throws {
        try TinyRun.writeClasses(in: folder)
        let picture = TinyRun.data, train = folder.file("train"), val = folder.file("val"), run = folder.file("run")
        folder.write(#"{"warmupEpochs": 8, "epochs": 2}"#.utf8, "part.json")
        for (arguments, words) in [
            (["pretrain", "--data", picture, "--output", run, "--epochs", "-1"], "--epochs"),
            (
                [
                    "distill", "--teacher", weights, "--data", picture, "--output", run, "--epochs", "2",
                    "--warmup-epochs", "8",
                ],
                "--warmup-epochs 8 is more"
            ),
            (
                [
                    "distill", "--teacher", weights, "--data", picture, "--output", run, "--config",
                    folder.file("part.json"),
                ], "--warmup-epochs 8 of \"\(folder.file("part.json"))\" is more"
            ),
            (
                ["distill", "--teacher", weights, "--data", picture, "--output", run, "--mask-ratio", "2"],
                "--mask-ratio"
            ),
            (["distill", "--teacher", weights, "--data", picture], "--output is needed"),
            (
                [
                    "finetune", "--weights", weights, "--train", train, "--val", val, "--output", run, "--smoothing",
                    "2",
                ],
                "--smoothing"
            ),
            (
                ["probe", "--weights", weights, "--train", train, "--val", val, "--output", run, "--epochs", "0"],
                "--epochs"
            ),
            (
                ["embed", "--weights", weights, "--data", picture, "--output", folder.file("x.npy"), "--block", "99"],
                "block 99 does not exist"
            ),
            (
                [
                    "reconstruct", "--weights", weights, "--input", picture, "--output", folder.file("x.png"),
                    "--mask-ratio", "2",
                ],
                "--mask-ratio"
            ),
        ] {
            let result = Command.run(arguments)
            assertRefused(result, 64, [words])
            XCTAssertTrue(result.errors.hasPrefix("error: "), "\(arguments): \(result.errors)")
        }
        // What is no fault of a flag comes after what was said of the input.
        folder.write("x".utf8, "list.txt")
        let empty = Command.run(["distill", "--teacher", weights, "--data", folder.file("list.txt"), "--output", run])
        assertRefused(empty, 65, ["list.txt"])
        XCTAssertTrue(empty.errors.contains("of width 128"), empty.errors)
    }

    /// No line and no column twice, none that says nothing; where the run is, and what comes next.
    func testLinesOfARun() throws {
        let run = folder.file("run"), images = folder.file("images")
        try FileManager.default.createDirectory(atPath: images, withIntermediateDirectories: true)
        for name in TinyRun.classes {
            try FileManager.default.createSymbolicLink(
                atPath: "\(images)/\(name)", withDestinationPath: Fixtures.path("demo/images/\(name)"))
        }
        let result = assertRuns(
            TinyRun.pretrain(
                run, epochs: 2, data: images, ["--val", images, "--knn-train", images, "--knn-val", images]))
        XCTAssertEqual(result.errors.components(separatedBy: "checked in ").count, 2, result.errors)
        XCTAssertTrue(
            result.errors.contains(
                "run in \(run): checkpoints and log.jsonl, at the end model.safetensors (--output)\n"),
            result.errors)
        XCTAssertTrue(
            result.errors.contains(
                "warning: --data \(images) and --val \(images) are the same images: the loss of images that were learned "
                    + "says how well they are remembered"), result.errors)
        XCTAssertTrue(
            result.errors.contains("warning: --knn-train \(images) and --knn-val \(images) are the same images: the "),
            result.errors)
        // A scale for k-NN, once.
        XCTAssertEqual(result.errors.components(separatedBy: "k-NN for comparison (top-1, k = 20): ").count, 2)
        XCTAssertNotNil(
            result.errors.range(
                of:
                    #": [0-9.]+ % by the student before its first step, random weights; [0-9.]+ % by raw pixels; 37.9 % by "#
                    + "always guessing the most frequent class",
                options: .regularExpression), result.errors)
        XCTAssertTrue(
            result.output.contains("--recipe finetune-small-data --train \(images) --val \(images)"), result.output)
        let begin = result.errors.split(separator: "\n").first { $0.contains("  step 0/") }
        XCTAssertEqual(begin?.contains("waiting for images"), false, result.errors)
        XCTAssertFalse(result.errors.contains("(reconstruction"), result.errors)
        XCTAssertNotNil(
            result.output.range(of: #"^step  epoch +loss  images/s\n"#, options: .regularExpression), result.output)
        XCTAssertNotNil(
            result.output.range(
                of: #"\nstep  epoch  val loss  k-NN top-1, k = 10  k-NN top-1, k = 20\n"#, options: .regularExpression),
            result.output)
        XCTAssertTrue(
            result.output.contains("or       dmae distill --teacher \(run)/model.safetensors --data \(images) "),
            result.output)
        // The log has all values.
        let log = try String(contentsOfFile: run + "/log.jsonl", encoding: .utf8)
        for key in ["loss_reconstruction", "val_loss_reconstruction", "knn_top5_k10"] {
            XCTAssertTrue(log.contains("\"\(key)\""), key)
        }
    }

    /// A single picture is looked at as a folder of pictures is.
    func testInspectOfAPicture() throws {
        let file = try XCTUnwrap(FileManager.default.contentsOfDirectory(atPath: TinyRun.data).sorted().first)
        let result = assertRuns(["inspect", "\(TinyRun.data)/\(file)"])
        XCTAssertTrue(result.output.contains("images       1\n"), result.output)
        XCTAssertTrue(result.output.contains("formats      JPEG 1\n"), result.output)
    }

    /// Formats that are not decoded are not proposed.
    func testEmptyFolder() throws {
        try FileManager.default.createDirectory(atPath: folder.file("empty"), withIntermediateDirectories: true)
        let result = Command.run(TinyRun.pretrain(folder.file("run"), data: folder.file("empty")))
        assertRefused(result, 65, ["holds no images", ".jpg", ".webp"])
        XCTAssertFalse(result.errors.contains(".tif"), result.errors)
    }

    func testQuietPictures() {
        let output = folder.file("x.png")
        let reconstructed = assertRuns(
            ["reconstruct", "--weights", weights, "--input", TinyRun.data, "--output", output, "-q"])
        XCTAssertEqual(reconstructed.errors, "")
        let drawn = assertRuns(["preview", "--data", TinyRun.data, "--recipe", "demo", "--output", output, "-q"])
        XCTAssertEqual(drawn.errors, "")
    }
}
