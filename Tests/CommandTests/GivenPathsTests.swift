import Foundation
import TestSupport
import XCTest

/// The paths of a command line are looked at before anything takes long.
final class GivenPathsTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let weights = Fixtures.path("weights/mae/mae.safetensors")

    func testAllThatIsMissingIsNamed() throws {
        let data = TinyRun.data, gone = folder.file("gone"), other = folder.file("other")
        assertRefused(
            ["knn", "--weights", gone, "--train", data, other, "--val", gone], 74,
            "cannot open --weights \"\(gone)\", --train \"\(other)\" and --val \"\(gone)\": No such file or directory; check "
                + "the paths and their permissions")
        for arguments in [
            [
                "distill", "--teacher", weights, "--data", data, "--output", other, "--knn-train", data, "--knn-val",
                gone,
            ],
            ["pretrain", "--data", data, "--output", other, "--init-student", gone],
            ["finetune", "--weights", weights, "--train", data, "--val", gone, "--output", other],
            ["probe", "--weights", gone, "--train", data, "--val", data, "--output", other],
            ["embed", "--weights", weights, "--data", data, gone, "--output", folder.file("x.npy")],
            ["evaluate", "--weights", weights, "--data", data, "--class-map", gone],
            ["predict", "--weights", weights, gone],
            ["reconstruct", "--weights", weights, "--input", data, "--mask", gone, "--output", folder.file("x.png")],
        ] {
            let result = Command.run(arguments)
            assertRefused(result, 74, ["cannot open", "\"\(gone)\": No such file or directory; check the path"])
            XCTAssertTrue(result.errors.hasPrefix("error: "), "nothing comes before: \(result.errors)")
        }
        // Braces stand for several paths.
        folder.write("".utf8, "a.tar")
        assertRefused(
            ["knn", "--weights", weights, "--train", folder.file("{a,b,c}.tar"), "--val", data], 74,
            "--train \"\(folder.file("b.tar"))\" and --train \"\(folder.file("c.tar"))\"")
    }

    /// A folder given to --resume is that of a run: it is no checkpoint, which would be found out after minutes.
    func testFolderAsCheckpoint() throws {
        let run = folder.file("my run")
        let result = Command.run(TinyRun.pretrain(run, ["--resume", folder.path]))
        assertRefused(
            result, 64,
            [
                "--resume \"\(folder.path)\" is a folder: auto takes the newest checkpoint of --output, and `dmae resume "
                    + "\(folder.path)` goes on with the run in that folder without its flags"
            ])
    }

    /// A line break in a name is no line of its own, in no message and no command.
    func testLineBreaks() throws {
        let images = folder.file("two\nlines"), run = folder.file("my\nrun")
        try FileManager.default.copyItem(atPath: TinyRun.data, toPath: images)
        let result = assertRuns(TinyRun.pretrain(run, epochs: 1, data: images, ["--val", images]))
        let all = result.errors + result.output
        XCTAssertFalse(all.contains("two\nlines") || all.contains("my\nrun"), all)
        XCTAssertTrue(result.errors.contains("two\\nlines: 9 images"), result.errors)
        XCTAssertTrue(result.output.contains("my\\nrun/model.safetensors\n"), result.output)
        XCTAssertTrue(result.output.contains("--teacher $'\(folder.path)/my\\nrun/model.safetensors'"), result.output)
        for arguments in [["inspect", images], ["predict", "--weights", run + "/model.safetensors", images]] {
            let result = Command.run(arguments)
            XCTAssertFalse((result.errors + result.output).contains("two\nlines"), result.description)
        }
        let unknown = Command.run(["two\nlines"])
        XCTAssertFalse(unknown.errors.contains("two\nlines"), unknown.errors)
    }

    /// Images that are learned and judged, under whatever paths.
    func testSharedImages() throws {
        try TinyRun.writeClasses(in: folder)
        let train = folder.file("train"), link = folder.file("link"), val = folder.file("val")
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: train)
        func warnings(_ train: String, _ val: String) -> [Substring] {
            assertRuns([
                "knn", "--weights", weights, "--heads", "4", "--train", train, "--val", val, "--k", "1",
                "--no-baselines",
            ]).errors.split(separator: "\n").filter { $0.hasPrefix("warning: ") && $0.contains("remembered") }
        }
        XCTAssertEqual(warnings(train, val), [])
        for same in [train, link, train + "/../train/"] {
            XCTAssertEqual(
                warnings(train, same),
                [
                    "warning: --train \(train) and --val \(same) are the same images: the accuracy of images that were "
                        + "learned says how well they are remembered, not how well others are told apart; give --val other "
                        + "images"
                ])
        }
        // A list, and a folder around.
        let pictures = try FileManager.default.contentsOfDirectory(atPath: train + "/geography").sorted()
        folder.write(
            ("path,label\n" + pictures.map { "train/geography/\($0),geography\n" }.joined()).utf8, "list.csv")
        XCTAssertEqual(warnings(folder.file("list.csv"), folder.file("list.csv")).count, 1)
        let part = assertRuns(TinyRun.pretrain("", epochs: 100, data: folder.path, ["--val", train, "--dry-run"]))
        XCTAssertTrue(
            part.errors.contains("--val \(train) lies in --data \(folder.path): the loss of images that were learned"),
            part.errors)
        let run = assertRuns([
            "probe", "--weights", weights, "--heads", "4", "--train", train, "--val", link, "--dry-run", "--augment",
            "none",
        ])
        XCTAssertTrue(run.errors.contains("--train \(train) and --val \(link) are the same images"), run.errors)
    }

    /// Copies of images that are learned, among those that judge a run: said once, in the plan, too.
    func testCopiedImages() throws {
        try TinyRun.writeClasses(in: folder)
        let train = folder.file("train"), val = folder.file("val")
        let original = try XCTUnwrap(
            FileManager.default.contentsOfDirectory(atPath: train + "/geography").sorted().first)
        folder.write(try TinyRun.bytes("\(train)/geography/\(original)"), "val/geography/copy.jpg")
        let names = "(\(val)/geography/copy.jpg of \(train)/geography/\(original))"
        func sentence(_ learned: String, _ judged: String, _ measure: String) -> String {
            "warning: 1 of the 10 images of \(judged) is a copy of an image of \(learned) \(names): \(measure) of images that were "
                + "learned says how well they are remembered, not how well others are told apart; take them out of "
                + "\(judged) or of \(learned)\n"
        }
        let probe = [
            "probe", "--weights", weights, "--heads", "4", "--train", train, "--val", val, "--augment", "none",
        ]
        let accuracy = sentence("--train", "--val", "the accuracy")
        XCTAssertTrue(assertRuns(probe + ["--dry-run"]).errors.contains(accuracy))
        XCTAssertFalse(assertRuns(probe + ["--dry-run", "--no-check"]).errors.contains("a copy"))
        let run = folder.file("run")
        var errors = assertRuns(probe + ["--output", run, "--epochs", "2"]).errors
        XCTAssertEqual(errors.components(separatedBy: accuracy).count, 2, errors)
        errors =
            assertRuns(
                TinyRun.pretrain(
                    folder.file("pretrained"), epochs: 2, data: train,
                    ["--val", val, "--knn-train", train, train, "--knn-val", val])
            ).errors
        XCTAssertTrue(errors.contains(sentence("--data", "--val", "the loss")), errors)
        // k-NN does not count them. A resumed run says so again: who reads its log may have missed it.
        let leftOut =
            "warning: 1 of the 10 images of --knn-val is a copy of an image of --knn-train \(names): left out of "
            + "k-NN's figures\n"
        func assertSaidOnce(_ errors: String) {
            XCTAssertEqual(errors.components(separatedBy: leftOut).count, 2, errors)
        }
        assertSaidOnce(errors)
        let neighbors = ["--knn-train", train, train, "--knn-val", val, "--knn-every", "1"]
        assertSaidOnce(assertRuns(TinyRun.pretrain("", epochs: 2, data: train, neighbors + ["--dry-run"])).errors)
        let unchecked = folder.file("unchecked")
        assertSaidOnce(
            assertRuns(TinyRun.pretrain(unchecked, epochs: 2, data: train, neighbors + ["--no-check"])).errors)
        try FileManager.default.removeItem(atPath: folder.file("pretrained/model.safetensors"))
        let resumed = assertRuns(["resume", folder.file("pretrained")]).errors
        assertSaidOnce(resumed)
        XCTAssertFalse(resumed.contains("--data"), resumed)
    }
}
