import Foundation
import TestSupport
import Training
import Weights
import XCTest

/// `--init-student`: a student that starts from weights.
final class InitialStudentTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// With a learning rate of 0 the weights of the end are those of the start: every tensor that the file has and that
    /// fits is its own, the rest is that of a random start.
    func testWhatIsTaken() throws {
        let first = folder.file("first"), random = folder.file("random"), still = ["--base-learning-rate", "0"]
        assertRuns(TinyRun.pretrain(first, epochs: 2, ["--seed", "5", "--quiet"]))
        let weights = first + "/model.safetensors"
        assertRuns(TinyRun.pretrain(random, epochs: 1, still + ["--quiet"]))
        let given = try SafeTensorsFile(path: weights), drawn = try SafeTensorsFile(path: random + "/model.safetensors")
        func assertTaken(_ run: String, drawing parts: [String], file: StaticString = #filePath, line: UInt = #line)
            throws
        {
            let result = try SafeTensorsFile(path: run + "/model.safetensors")
            for name in result.names {
                let isDrawn = parts.contains(where: name.hasPrefix)
                let source = isDrawn ? drawn : given
                // The run of random weights has a decoder of another width, or no heads.
                if isDrawn, try !source.names.contains(name) || source.entry(name).shape != result.entry(name).shape {
                    continue
                }
                XCTAssertEqual(try result.floats(name), try source.floats(name), name, file: file, line: line)
            }
        }
        let same = folder.file("same")
        let result = assertRuns(
            TinyRun.pretrain(same, epochs: 1, still + ["--init-student", weights]))
        XCTAssertTrue(
            result.errors.contains(
                "student: \(given.names.count) tensors used of \(weights) (embedding, blocks, norm, decoder)\n"),
            result.errors)
        try assertTaken(same, drawing: [])

        // A teacher's run has projection heads, which the file lacks; a decoder of another width does not fit.
        let taught = folder.file("taught")
        let distilled = assertRuns(
            TinyRun.distill(taught, teacher: weights, epochs: 1, still + ["--init-student", weights]))
        XCTAssertTrue(
            distilled.errors.contains("(embedding, blocks, norm, decoder); random: projection heads\n"),
            distilled.errors)
        try assertTaken(taught, drawing: ["aligned_feature"])
        let other = folder.file("other")
        let wider = assertRuns(
            TinyRun.pretrain(
                other, epochs: 1, still + ["--init-student", weights, "--decoder-width", "20"]))
        XCTAssertTrue(wider.errors.contains("(embedding, blocks, norm); random: decoder; "), wider.errors)
        try assertTaken(other, drawing: ["decoder", "mask_token"])

        // Of a run that was distilled before, the heads are kept, too.
        let again = assertRuns(
            TinyRun.distill(
                folder.file("again"), teacher: weights, epochs: 1,
                still + ["--init-student", taught + "/model.safetensors"]))
        XCTAssertTrue(again.errors.contains("(embedding, blocks, norm, decoder, projection heads)\n"), again.errors)
        // A resumed run needs the file no more: its checkpoint has the weights.
        let stored = try JSONDecoder().decode(
            TrainingConfiguration.self, from: TinyRun.bytes(folder.file("again/configuration.json")))
        XCTAssertEqual(stored.weights, taught + "/model.safetensors")
        try FileManager.default.removeItem(atPath: folder.file("again/model.safetensors"))
        try FileManager.default.removeItem(atPath: taught)
        assertRuns(["resume", folder.file("again"), "--quiet"])
    }

    /// Weights of other tools, for other images; without a recipe they say what the student is.
    func testOtherForms() throws {
        for name in ["mae/encoder.pth", "huggingface/vit", "timm/timm.safetensors"] {
            let weights = Fixtures.path("weights/" + name),
                run = folder.file(
                    name.replacingOccurrences(of: "/", with: "-").replacingOccurrences(of: ".", with: "-"))
            let result = assertRuns([
                "pretrain", "--init-student", weights, "--data", TinyRun.data, "--output", run, "--heads", "4",
                "--epochs",
                "1", "--effective-batch", "8", "--decoder", "dec-miniature", "--decoder-width", "16", "--decoder-heads",
                "2",
            ])
            XCTAssertTrue(
                result.errors.contains(
                    "the student has the sizes of its initial weights, \(weights): width 32, depth 3, 4 heads"),
                result.errors)
            XCTAssertTrue(result.errors.contains("random: decoder"), result.errors)
            XCTAssertTrue(result.errors.contains("patches of 8 pixels: those of the initial weights ("), result.errors)
            let stored = try JSONDecoder().decode(
                TrainingConfiguration.self, from: TinyRun.bytes(run + "/configuration.json"))
            XCTAssertEqual(stored.model!.student.width, 32)
            XCTAssertEqual(stored.model!.student.patchSize, 8)
        }
    }

    func testRefusals() throws {
        let first = folder.file("first")
        assertRuns(TinyRun.pretrain(first, epochs: 1, ["--quiet"]))
        let weights = first + "/model.safetensors", run = folder.file("run")
        assertRefused(
            TinyRun.pretrain(run, ["--init-student", weights, "--width", "24"]), 65,
            "\(weights): is a model of width 16, 2 blocks, 2 heads and patches of 8 pixels, but the student is to have "
                + "width 24, 2 blocks, 2 heads and patches of 8 pixels",
            "fit --width, --depth, --heads and --patch-size")
        assertRefused(TinyRun.pretrain(run, ["--init-student", weights, "--depth", "3"]), 65, "width 16, 3 blocks")
        assertRefused(TinyRun.pretrain(run, ["--init-student", weights, "--heads", "4"]), 65, "4 heads")
        assertRefused(TinyRun.pretrain(run, ["--init-student", folder.file("none")]), 74, "none", "No such file")
        assertRefused(TinyRun.pretrain(run, ["--student-prefix", "a"]), 64, "--student-prefix chooses a model")
        assertRefused(
            TinyRun.pretrain(run, ["--init-student", weights, "--student-prefix", "a"]), 65, weights)
        XCTAssertEqual(folder.names(), ["first"])
    }
}
