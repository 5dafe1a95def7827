import Foundation
import Tensors
import TestSupport
import Weights
import XCTest

/// `dmae probe`.
final class ProbeCommandTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// Folders of links to pictures of three classes of the demo, and a tiny encoder.
    override func setUpWithError() throws {
        try TinyRun.writeClasses(in: folder)
        assertRuns(TinyRun.pretrain(folder.file("encoder"), epochs: 1, ["--quiet"]))
    }

    private var weights: String { folder.file("encoder/model.safetensors") }

    /// 18 training and 9 validation pictures, effective batches of 8 in two passes of 4.
    private func probe(_ output: String?, epochs: Int = 12, train: String = "train", _ more: [String] = []) -> [String]
    {
        [
            "probe", "--weights", weights, "--train", folder.file(train), "--val", folder.file("val"), "--batch", "4",
            "--effective-batch", "8", "--epochs", "\(epochs)", "--warmup-epochs", "1", "--base-learning-rate", "30",
        ] + (output.map { ["--output", folder.file($0)] } ?? []) + more
    }

    private static let names = ["model.safetensors", "best.safetensors", "evaluation.json"]
    private func bytes(_ run: String) throws -> [Data] {
        try Self.names.map { try TinyRun.bytes(folder.file("\(run)/\($0)")) }
    }

    private func object(_ text: Data) throws -> [String: Any] {
        try XCTUnwrap(JSONSerialization.jsonObject(with: text) as? [String: Any])
    }

    /// The figures in `evaluation.json` are those of `dmae evaluate` on the written files, which hold all it needs.
    func testARunAndItsFiles() throws {
        for augment in ["crop", "none"] {
            let result = assertRuns(probe(augment, ["--augment", augment]))
            XCTAssertTrue(result.output.contains("top-1"), result.output)
            XCTAssertEqual(result.output.contains("features  computed once, without augmentation"), augment == "none")
            XCTAssertEqual(result.errors.contains("--augment none: the features"), augment == "none")
            let report = try object(TinyRun.bytes(folder.file("\(augment)/evaluation.json")))
            try FileManager.default.moveItem(atPath: weights, toPath: weights + ".away")
            for (file, entry) in [("model", "last"), ("best", "best")] {
                let path = folder.file("\(augment)/\(file).safetensors")
                let values = try XCTUnwrap((report[entry] as? [String: Any])?["values"] as? [String: Double])
                let evaluated = try object(
                    Data(
                        assertRuns(["evaluate", "--weights", path, "--data", folder.file("val"), "--json"]).output.utf8)
                )
                XCTAssertEqual(evaluated["images"] as? Int, 9)
                XCTAssertEqual(evaluated["top1"] as? Double, values["val_top1"])
                XCTAssertEqual(evaluated["top5"] as? Double, values["val_top5"])
                XCTAssertEqual(evaluated["loss"] as! Double, values["val_loss"]!, accuracy: 1e-9)
            }
            try FileManager.default.moveItem(atPath: weights + ".away", toPath: weights)
            let predicted = assertRuns([
                "predict", "--weights", folder.file("\(augment)/best.safetensors"), folder.file("val"), "--quiet",
            ])
            XCTAssertTrue(predicted.output.contains("geography"), predicted.output)
        }
    }

    /// SIGKILL at random moments, other threads and workers each time: every file is the same as of a run that was
    /// never stopped.
    func testKilledAndResumed() throws {
        var random = CounterRandom(seed: testSeed(UInt64.random(in: 0 ... .max)), purpose: .test)
        for augment in ["crop", "none"] {
            let more = ["--quiet", "--checkpoint-every", "3", "--augment", augment], epochs = 30
            let whole = "whole \(augment)", killed = "killed \(augment)"
            assertRuns(probe(whole, epochs: epochs, more))
            let total = try TinyRun.log(folder.file(whole)).count
            for attempt in 0..<4 {
                let command = Command(
                    probe(
                        killed, epochs: epochs,
                        more + [
                            "--resume", "auto", "--threads", "\(1 + attempt % 2)", "--workers", "\(1 + attempt % 3)",
                        ]))
                // The first time while it starts; a run of stored features is over soon.
                let wanted =
                    attempt == 0 ? 0 : ((try? TinyRun.log(folder.file(killed)).count) ?? 0) + random.below(total / 6)
                while command.isRunning {
                    let text = (try? String(contentsOfFile: folder.file("\(killed)/log.jsonl"), encoding: .utf8)) ?? ""
                    if text.filter({ $0 == "\n" }).count >= wanted { break }
                    usleep(200)
                }
                usleep(UInt32(random.below(5_000)))
                command.send(SIGKILL)
                _ = command.wait()
            }
            assertRuns(probe(killed, epochs: epochs, more + ["--resume", "auto"]))
            XCTAssertEqual(try TinyRun.log(folder.file(killed)), try TinyRun.log(folder.file(whole)))
            for (name, (one, other)) in try zip(Self.names, zip(bytes(killed), bytes(whole))) {
                XCTAssertEqual(one, other, "\(augment), \(name)")
            }
        }
    }

    /// SIGTERM leaves a checkpoint and 75.
    func testAskedToStop() throws {
        let command = Command(probe("run", epochs: 5000, ["--quiet"]))
        while command.isRunning, !FileManager.default.fileExists(atPath: folder.file("run/evaluation.json")) {
            usleep(1000)
        }
        command.send(SIGTERM)
        XCTAssertEqual(command.wait().end, .exited(75))
        XCTAssertFalse(try TinyRun.checkpoints(folder.file("run")).isEmpty)
    }

    /// Memory and time of the whole run, and nothing written.
    func testDryRun() throws {
        for augment in ["crop", "none"] {
            let result = assertRuns(probe(nil, ["--augment", augment, "--dry-run", "--quiet"]))
            let images = augment == "none" ? 27 : 9
            for row in [
                "images                    ", "effective batch", "8 (2 × 4)", "parameters: encoder, frozen",
                "parameters: class head", "memory: total", "GFLOP per image: class head",
                "features of \(images) images, once", "the whole run",
            ] {
                XCTAssertTrue(result.output.contains(row), "\(row): \(result.output)")
            }
            XCTAssertEqual(result.output.contains("memory: encoder, until the features"), augment == "none")
        }
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted().count, 3)
    }

    /// MAE's values where the user gives none: a tenth of the images, and a note that says what follows.
    func testTheRecipe() throws {
        let result = assertRuns([
            "probe", "--weights", weights, "--train", folder.file("train"), "--val", folder.file("val"), "--dry-run",
        ])
        // Eighteen images: BatchNorm needs two at least.
        XCTAssertTrue(result.output.contains("2 (1 × 2)"), result.output)
        XCTAssertTrue(
            result.errors.contains(
                "18 images: the effective batch is 2, not 16384 as on ImageNet; the peak learning rate stays MAE's 6.4 "
                    + "(--base-learning-rate)\n"), result.errors)
        XCTAssertNotNil(
            result.output.range(of: #"peak learning rate +6.4\n"#, options: .regularExpression), result.output)
        XCTAssertTrue(result.output.contains("optimiser steps"), result.output)
        XCTAssertNotNil(
            result.output.range(of: #"optimiser steps +810\n"#, options: .regularExpression), result.output)
    }

    func testWhatDoesNotFit() throws {
        func refused(_ arguments: [String], _ code: Int32, _ words: String...) {
            assertRefused(Command.run(arguments), code, words)
        }
        let run = folder.file("run")
        func given(_ train: String, _ val: String, weights: String? = nil) -> [String] {
            [
                "probe", "--weights", weights ?? self.weights, "--train", folder.file(train), "--val",
                folder.file(val), "--output", run, "--quiet",
            ]
        }
        refused(given("train/geography", "val"), 65, "--train", "has no classes")
        refused(given("train", "val/geography"), 65, "--val", "has no classes")
        try FileManager.default.createDirectory(atPath: folder.file("one"), withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(
            atPath: folder.file("one/geography"), withDestinationPath: folder.file("train/geography"))
        refused(given("one", "one"), 65, "only one class", "geography")
        refused(given("one", "val"), 65, "--train", "--val", "different classes", "\"education\"")
        refused(given("train", "nowhere"), 74, "nowhere")
        folder.write("x".utf8, "text.safetensors")
        refused(given("train", "val", weights: folder.file("text.safetensors")), 65, "text.safetensors")
        try [Float(1), 2].withUnsafeBufferPointer { buffer in
            var writer = SafeTensorsWriter()
            writer.add("a.table", shape: [2], floats: buffer)
            try writer.write(to: folder.file("other.safetensors"))
        }
        refused(given("train", "val", weights: folder.file("other.safetensors")), 65, "other.safetensors")
        refused(probe("run", ["--effective-batch", "9"]), 64, "--effective-batch 9 is not a multiple of --batch 4")
        refused(given("train", "val") + ["--batch", "1"], 64, "--batch must be at least 2")
        refused(given("train", "val") + ["--augment", "all"], 64, "--augment")
        refused(probe(nil), 64, "--output is needed")
        XCTAssertFalse(FileManager.default.fileExists(atPath: run), "nothing is left")
        assertRuns(probe("run", epochs: 1, ["--quiet", "--augment", "none"]))
        refused(probe("run", epochs: 1, ["--quiet"]), 64, "already holds a run")
        refused(
            probe("run", epochs: 1, ["--quiet", "--resume", "auto"]), 64, "--augment none, not --augment crop")
    }
}
