import Foundation
import TestSupport
import Training
import XCTest

/// `--config` and `--print-config`.
final class ConfigurationFileTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// What `--print-config` prints for `arguments`.
    private func printed(_ arguments: [String], file: StaticString = #filePath, line: UInt = #line) -> String {
        assertRuns(arguments + ["--print-config", "--quiet"], file: file, line: line).output
    }

    /// The values of `arguments`, written down, are the same values.
    private func assertReadsBack(
        _ arguments: [String], _ name: String, file: StaticString = #filePath, line: UInt = #line
    ) {
        let first = printed(arguments, file: file, line: line), path = folder.file(name + ".json")
        folder.write(first.utf8, name + ".json")
        XCTAssertEqual(
            printed([arguments[0], "--config", path], file: file, line: line), first, file: file, line: line)
    }

    /// Two classes of links to pictures.
    private func makeClasses() throws {
        for name in ["education", "geography"] {
            try FileManager.default.createDirectory(
                atPath: folder.file("images/\(name)"), withIntermediateDirectories: true)
            let pictures = Fixtures.path("demo/images/\(name)")
            for file in try FileManager.default.contentsOfDirectory(atPath: pictures).sorted().prefix(3) {
                try FileManager.default.createSymbolicLink(
                    atPath: folder.file("images/\(name)/\(file)"), withDestinationPath: "\(pictures)/\(file)")
            }
        }
    }

    /// Whatever can be given as a flag is in the file, and comes back from there; nothing is trained.
    func testEveryValueReadsBack() throws {
        let teacher = folder.file("teacher"), weights = teacher + "/model.safetensors"
        assertRuns(TinyRun.pretrain(teacher, epochs: 1, ["--quiet"]))
        assertReadsBack(
            TinyRun.pretrain("", ["--no-normalize-pixels"]).filter { $0 != "" && $0 != "--output" }, "pretrain")
        assertReadsBack(
            [
                "distill", "--teacher", weights, "--data", TinyRun.data, TinyRun.data + "/", "--student",
                "vit-miniature",
            ],
            "fitted")
        assertReadsBack(
            [
                "distill", "--recipe", "demo", "--teacher", weights, "--data", TinyRun.data, "--student",
                "vit-miniature", "--width", "24", "--depth", "3", "--heads", "3", "--decoder-width", "20",
                "--decoder-depth", "1", "--decoder-heads", "5", "--image-size", "32x16", "--channels", "1",
                "--mask-ratio", "0.5", "--normalize-pixels", "--align", "1:0", "--align", "2:1",
                "--alignment-distance", "L2", "--projection", "mlp", "--alignment-weight", "0.3",
                "--teacher-mask-ratio",
                "0.25", "--batch", "3", "--effective-batch", "6", "--epochs", "1.5", "--warmup-epochs", "0.1",
                "--base-learning-rate", "0.001", "--minimum-learning-rate", "0.00001", "--weight-decay", "0.15",
                "--beta1", "0.7", "--beta2", "0.75", "--epsilon", "1e-7", "--seed", "18446744073709551615",
                "--minimum-crop-area", "0.3", "--maximum-crop-area", "0.7", "--stored-orientation", "--background",
                "#C0FFEE", "--grey16", "scale", "--unreadable-limit", "0.7", "--mean", "0.3", "--std", "0.7",
                "--interpolation", "box", "--crop-fraction", "0.7", "--checkpoint-every", "2", "--keep", "4",
                "--predict-ratio", "0.3", "--reconstruction-weight", "0.7", "--val", TinyRun.data, "--shuffle-window",
                "4", "--precision", "bf16", "--teacher-precision", "int8", "--init-student", "a",
            ].dropLast(2).map { $0 }, "distill")
        XCTAssertEqual(folder.names().filter { !$0.hasSuffix(".json") }, ["teacher"])
    }

    func testClassifiersReadBack() throws {
        try makeClasses()
        let encoder = folder.file("encoder"), images = folder.file("images")
        assertRuns(TinyRun.pretrain(encoder, epochs: 1, ["--quiet"]))
        let weights = encoder + "/model.safetensors", data = ["--train", images, "--val", images]
        assertReadsBack(["finetune", "--weights", weights] + data, "finetune")
        assertReadsBack(["finetune", "--weights", weights, "--no-rand-augment", "--erasing", "0"] + data, "plain")
        assertReadsBack(
            ["finetune", "--from-scratch", "--recipe", "finetune-small-data", "--patch-size", "16", "--depth", "3"]
                + data + ["--crop-fraction", "squash", "--ema", "0.99", "--clip-gradient", "0.3", "--pool", "class"],
            "scratch")
        assertReadsBack(["probe", "--weights", weights, "--augment", "none", "--evaluate-every", "3"] + data, "probe")
        // A run of the file is a run of the flags, and its own file says the same.
        let run = folder.file("run")
        let result = assertRuns([
            "probe", "--config", folder.file("probe.json"), "--epochs", "2", "--warmup-epochs", "1", "--output", run,
            "--quiet",
        ])
        // Little can come of so few images; nothing else is said.
        let said = result.errors.split(separator: "\n")
        XCTAssertTrue(said[0].hasPrefix("warning: 6 images of 2 classes: with fewer than 10 of each"), result.errors)
        XCTAssertTrue(said[1].contains("are the same images"), result.errors)
        XCTAssertTrue(said.dropFirst(2).allSatisfy { $0.contains("is hardly more than") }, result.errors)
        let stored = try JSONDecoder().decode(
            TrainingConfiguration.self, from: TinyRun.bytes(run + "/configuration.json"))
        XCTAssertEqual([stored.epochs, stored.warmupEpochs, stored.evaluateEvery], [2, 1, 3])
        XCTAssertEqual(stored.probeAugmentation, ProbeAugmentation.none)
        XCTAssertEqual(
            try String(contentsOfFile: run + "/configuration.json", encoding: .utf8),
            printed([
                "probe", "--config", folder.file("probe.json"), "--epochs", "2", "--warmup-epochs", "1",
            ]))
    }

    /// A key that is given twice has no value: readers of JSON take the first or the last one.
    func testRepeatedKeys() throws {
        for (text, key) in [
            (#"{"epochs": 7, "batch": 4, "epochs": 8}"#, "epochs"),
            (#"{"model": {"student": {"width": 48, "heads": 3, "width": 48}}}"#, "model.student.width"),
            (#"{"model": {"alignment": {"pairs": [{"studentBlock": 1, "studentBlock": 2}]}}}"#, "studentBlock"),
            (#"{"ep\u006fchs": 7, "epochs": 7}"#, "epochs"),
        ] {
            folder.write(text.utf8, "twice.json")
            assertRefused(
                ["pretrain", "--data", TinyRun.data, "--config", folder.file("twice.json"), "--print-config"], 65,
                "\(key)\" twice: leave one of them out")
        }
    }

    /// Flag over file over recipe.
    func testPartOfAFile() throws {
        folder.write(
            #"{"epochs": 7, "batch": 4, "accumulation": 3, "data": "\#(TinyRun.data)", "model": {"maskRatio": 0.5, "student": {"width": 48, "heads": 3}, "normalizePixels": false}}"#
                .utf8, "part.json")
        let text = printed([
            "pretrain", "--recipe", "demo-teacher", "--config", folder.file("part.json"), "--mask-ratio", "0.6",
            "--normalize-pixels",
        ])
        let stored = try JSONDecoder().decode(TrainingConfiguration.self, from: Data(text.utf8))
        XCTAssertEqual([stored.epochs, stored.model!.maskRatio], [7, 0.6])
        XCTAssertEqual([stored.batch, stored.accumulation], [4, 3])
        XCTAssertEqual(
            [stored.model!.student.width, stored.model!.student.heads, stored.model!.student.depth], [48, 3, 6])
        XCTAssertTrue(stored.model!.normalizePixels)
        XCTAssertEqual(stored.baseLearningRate, Recipe.demoTeacher.baseLearningRate)
        // A preset on the command line has its own sizes.
        let other = printed(["pretrain", "--config=" + folder.file("part.json"), "--student", "vit-tiny"])
        let preset = try JSONDecoder().decode(TrainingConfiguration.self, from: Data(other.utf8)).model!.student
        XCTAssertEqual([preset.width, preset.depth, preset.heads], [192, 12, 3])
    }

    func testRefusals() throws {
        func refused(_ json: String, _ code: Int32 = 64, _ words: String..., line: UInt = #line) {
            folder.write(json.utf8, "wrong.json")
            let result = Command.run(
                ["pretrain", "--data", TinyRun.data, "--config", folder.file("wrong.json"), "--print-config"])
            assertRefused(result, code, ["wrong.json"] + words, line: line)
        }
        refused(#"{"epoch": 7}"#, 64, #""epoch" is no value of a run of `dmae pretrain`; the nearest one is "epochs""#)
        refused(#"{"model": {"maskRation": 0.5}}"#, 64, #"the nearest one is "model.maskRatio""#)
        // As their flags are called.
        for (name, key) in [
            ("maskRatio", "model.maskRatio"), ("effectiveBatch", "accumulation"),
            ("decoderWidth", "model.decoder.width"),
            ("imageSize", "model.student.imageHeight"), ("knnTrain", "neighbors.train"),
        ] {
            refused(#"{"\#(name)": 7}"#, 64, #"the nearest one is "\#(key)""#)
        }
        refused(#"{"classifier": {"dropPath": 0.5}}"#, 64, #""classifier.dropPath" is no value"#, "leave it out")
        refused(#"{"model": 5}"#, 64, #""model" must be an object, not 5"#)
        refused(#"{"epochs": "7"}"#, 64, #""epochs" must be a number, not "7""#)
        refused(#"{"recipe": 7}"#, 64, #""recipe" must be a string, not 7"#)
        refused(#"{"data": []}"#, 64, #""data" must be a path or a list of paths, not a list"#)
        refused(#"{"accumulation": 2}"#, 64, #"give "batch", too"#)
        refused(#"{"batch": 2.5, "accumulation": 2}"#, 64, #""batch" must be a whole number, not 2.5"#)
        refused(#"{"model": {"student": {"imageWidth": 32}}}"#, 64, "belong together: give both")
        refused(#"{"method": "distill"}"#, 64, #"its "method" is "distill""#)
        refused(#"{"format": 2}"#, 64, "is of another format than 3")
        refused(
            #"{"optimizer": {"momentum": 0.5}}"#, 64,
            #""optimizer.momentum" is 0.5, but a run of these settings has 0.9"#)
        refused("[1]", 65, "is not a JSON object")
        refused(#"{"epochs": 7"#, 65, "is not JSON")
        refused(#"{"epochs": 7,}"#, 65, "is not JSON: '\"' is missing at byte 13")
        // What other tools call it.
        refused(#"{"batch_size": 4}"#, 64, #"the nearest one is "batch""#)
        refused(#"{"model": {"embed_dim": 4}}"#, 64, #"the nearest one is "model.student.width""#)
        refused(#"{"lr": 4}"#, 64, #"the nearest one is "baseLearningRate""#)
        assertRefused(["pretrain", "--config", folder.file("none.json")], 74, "none.json", "No such file")
        assertRefused(["pretrain", "--config"], 64, "Missing value for '--config")
        // A wrong value is refused as that of a flag is.
        folder.write(#"{"epochs": -1}"#.utf8, "wrong.json")
        assertRefused(
            ["pretrain", "--data", TinyRun.data, "--config", folder.file("wrong.json"), "--print-config"], 64,
            "--epochs must be above 0")
        XCTAssertTrue(
            assertRuns(["pretrain", "--config", folder.file("none.json"), "--help"]).output.contains("OVERVIEW"))
    }
}
