import Foundation
import Tensors
import TestSupport
import Weights
import XCTest

/// `dmae finetune`.
final class FinetuneTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// Folders of links to pictures of three classes of the demo.
    override func setUpWithError() throws {
        try TinyRun.writeClasses(in: folder)
    }

    /// 18 training and 9 validation pictures, effective batches of 8 in two passes of 4.
    private func finetune(
        _ output: String?, epochs: Int = 6, from weights: String? = nil, augmented: Bool = true, _ more: [String] = []
    ) -> [String] {
        let augmentation = ["--rand-augment", "--erasing", "0.25", "--mixup", "0.8", "--cutmix", "1"]
        let start =
            weights.map { ["--weights", $0] } ?? [
                "--from-scratch", "--student", "vit-miniature", "--width", "16", "--depth", "2", "--heads", "2",
                "--image-size", "32",
            ]
        return ["finetune", "--train", folder.file("train"), "--val", folder.file("val")] + start + [
            "--recipe", "finetune-small-data", "--batch", "4", "--effective-batch", "8", "--epochs", "\(epochs)",
            "--warmup-epochs", "1", "--base-learning-rate", "0.05",
        ] + (augmented ? augmentation : []) + (output.map { ["--output", folder.file($0)] } ?? []) + more
    }

    private func bytes(_ run: String, _ names: [String]) throws -> [Data] {
        try names.map { try TinyRun.bytes(folder.file("\(run)/\($0)")) }
    }

    /// The loss falls, top-1 is logged after every epoch, and `evaluation.json` has the best and the last of them.
    func testARunAndItsFiles() throws {
        let result = assertRuns(finetune("run", epochs: 40, augmented: false))
        XCTAssertTrue(result.output.contains("top-1"), result.output)
        let lines = try TinyRun.log(folder.file("run"))
        let losses = lines.filter { $0.contains("\"loss\"") }.compactMap { line in
            line.components(separatedBy: "\"loss\":").last.flatMap { Double($0.prefix { $0 != "," }) }
        }
        XCTAssertEqual(losses.count, 90)
        XCTAssertLessThan(losses.suffix(10).reduce(0, +), losses.prefix(10).reduce(0, +))
        let ranks = lines.filter { $0.contains("\"val_top1\"") }.compactMap { line in
            line.components(separatedBy: "\"val_top1\":").last.flatMap { Double($0.prefix { $0 != "," }) }
        }
        XCTAssertEqual(ranks.count, 40)
        let report = try XCTUnwrap(
            JSONSerialization.jsonObject(with: bytes("run", ["evaluation.json"])[0]) as? [String: [String: Any]])
        func top1(_ entry: String) -> Double? { (report[entry]?["values"] as? [String: Double])?["val_top1"] }
        XCTAssertEqual(top1("best"), ranks.max())
        XCTAssertEqual(top1("last"), ranks.last)
        let file = try SafeTensorsFile(path: folder.file("run/best.safetensors"))
        XCTAssertEqual(file.metadata["dmae.classes"], #"["education","electronics","geography"]"#)
        XCTAssertEqual(try file.entry("head.weight").shape, [3, 16])
        XCTAssertNil(file["norm.weight"])
    }

    /// SIGKILL at random moments, other threads and workers each time: every file is the same as of a run that was
    /// never stopped. With everything that a run can have: a teacher, clipping, an average, mixing.
    func testKilledAndResumed() throws {
        assertRuns(finetune("teacher", epochs: 1, ["--quiet", "--pool", "class"]))
        let more = [
            "--quiet", "--checkpoint-every", "3", "--teacher", folder.file("teacher/model.safetensors"),
            "--clip-gradient", "1", "--ema", "0.9", "--precision", "f32",
        ]
        let epochs = 60, names = ["model", "best", "raw"].map { $0 + ".safetensors" } + ["evaluation.json"]
        assertRuns(finetune("whole", epochs: epochs, more))
        let total = try TinyRun.log(folder.file("whole")).count
        var random = CounterRandom(seed: testSeed(UInt64.random(in: 0 ... .max)), purpose: .test)
        for attempt in 0..<4 {
            let command = Command(
                finetune(
                    "killed", epochs: epochs,
                    more + [
                        "--resume", "auto", "--threads", "\(1 + attempt % 2)", "--workers", "\(1 + attempt % 3)",
                    ]))
            let wanted = ((try? TinyRun.log(folder.file("killed")).count) ?? 0) + random.below(total / 6)
            while command.isRunning {
                let text = (try? String(contentsOfFile: folder.file("killed/log.jsonl"), encoding: .utf8)) ?? ""
                if text.filter({ $0 == "\n" }).count >= wanted { break }
                usleep(500)
            }
            usleep(UInt32(random.below(20_000)))
            command.send(SIGKILL)
            XCTAssertEqual(command.wait().end, .killed(signal: SIGKILL), "attempt \(attempt)")
        }
        assertRuns(finetune("killed", epochs: epochs, more + ["--resume", "auto"]))
        XCTAssertEqual(try TinyRun.log(folder.file("killed")), try TinyRun.log(folder.file("whole")))
        for (name, (one, other)) in try zip(names, zip(bytes("whole", names), bytes("killed", names))) {
            XCTAssertEqual(one, other, name)
        }
    }

    /// Best weights that cannot be written are written when the run is resumed: the evaluation does not count as done.
    func testBestWeightsThatCannotBeWritten() throws {
        let files = ["best.safetensors", "evaluation.json", "model.safetensors"]
        assertRuns(finetune("whole", epochs: 3, ["--quiet"]))
        for name in files.prefix(2) {
            try FileManager.default.createDirectory(
                atPath: folder.file("run/\(name)"), withIntermediateDirectories: true)
            assertRefused(
                Command.run(finetune("run", epochs: 3, ["--quiet", "--resume", "auto"])), 74,
                ["\(name)\": it is a folder", "--resume auto continues from"])
            XCTAssertEqual(rmdir(folder.file("run/\(name)")), 0)
        }
        assertRuns(finetune("run", epochs: 3, ["--quiet", "--resume", "auto"]))
        for (name, (one, other)) in try zip(files, zip(bytes("whole", files), bytes("run", files))) {
            XCTAssertEqual(one, other, name)
        }
        XCTAssertEqual(try TinyRun.log(folder.file("run")), try TinyRun.log(folder.file("whole")))
    }

    /// SIGTERM leaves a checkpoint and 75.
    func testAskedToStop() throws {
        let command = Command(finetune("run", epochs: 500, ["--quiet"]))
        while command.isRunning, !FileManager.default.fileExists(atPath: folder.file("run/evaluation.json")) {
            usleep(1000)
        }
        command.send(SIGTERM)
        XCTAssertEqual(command.wait().end, .exited(75))
        XCTAssertFalse(try TinyRun.checkpoints(folder.file("run")).isEmpty)
    }

    /// SIGTERM while the images are listed: 75 at once, and no folder of a run.
    func testAskedToStopBeforeTheRun() throws {
        let picture = try XCTUnwrap(
            FileManager.default.contentsOfDirectory(atPath: folder.file("train/education")).sorted().first)
        for index in 0..<20_000 {
            XCTAssertEqual(
                symlink("\(folder.file("train/education"))/\(picture)", folder.file("train/education/\(index).png")), 0)
        }
        let command = Command(finetune("run", epochs: 500, ["--quiet"]))
        // The handler of SIGPWR, bit 29 of the caught signals, is the run's.
        func handles() throws -> Bool {
            let status = try String(contentsOfFile: "/proc/\(command.process)/status", encoding: .utf8)
            let line = status.split(separator: "\n").first { $0.hasPrefix("SigCgt:") }
            return line.flatMap { UInt64($0.dropFirst(7).trimmingCharacters(in: .whitespaces), radix: 16) }
                .map { $0 >> 29 & 1 == 1 } ?? false
        }
        while command.isRunning, try !handles() { usleep(200) }
        command.send(SIGTERM)
        let result = command.wait()
        XCTAssertEqual(result.end, .exited(75))
        XCTAssertTrue(result.errors.contains("before the run was begun; the same command starts it"), result.errors)
        XCTAssertFalse(FileManager.default.fileExists(atPath: folder.file("run")))
    }

    /// An encoder gives all weights but the head; a classifier of the same classes gives its head, too.
    func testInitialWeights() throws {
        assertRuns(TinyRun.pretrain(folder.file("mae"), epochs: 1, ["--quiet"]))
        let encoder = folder.file("mae/model.safetensors")
        let first = assertRuns(finetune("first", epochs: 1, from: encoder))
        XCTAssertTrue(
            first.errors.contains("not in the file, initialised anew (fc_norm.weight, fc_norm.bias, head.weight"),
            first.errors)
        XCTAssertTrue(first.errors.contains("not needed (norm, decoder)"), first.errors)
        // With a rate of 0 the weights stay as they were.
        let classifier = folder.file("first/model.safetensors")
        let same = assertRuns(
            finetune(
                "same", epochs: 1, from: classifier, ["--base-learning-rate", "0", "--minimum-learning-rate", "0"]))
        XCTAssertFalse(same.errors.contains("missing"), same.errors)
        let (one, other) = (
            try SafeTensorsFile(path: classifier), try SafeTensorsFile(path: folder.file("same/model.safetensors"))
        )
        for name in one.names { XCTAssertEqual(try one.floats(name), try other.floats(name), name) }
        // Other classes, other images: the head is new, positions are resampled.
        for part in ["train", "val"] {
            try FileManager.default.moveItem(
                atPath: folder.file("\(part)/geography"), toPath: folder.file("\(part)/maps"))
        }
        let adapted = assertRuns(finetune("adapted", epochs: 1, from: classifier, ["--image-size", "48"]))
        XCTAssertTrue(
            adapted.errors.contains("2 not in the file, initialised anew (head.weight, head.bias)"), adapted.errors)
        XCTAssertTrue(adapted.errors.contains("position tables resampled from 4×4 to 6×6 patches"), adapted.errors)
    }

    /// The best weights of a resumed run are chosen on the same images at the same times. Weights that are not finite
    /// are refused before the first step.
    func testWhatAResumedRunNeeds() throws {
        assertRuns(finetune("run", epochs: 2, ["--quiet"]))
        assertRefused(
            finetune("run", epochs: 2, ["--resume", "auto", "--evaluate-every", "2"]), 64, "--evaluate-every 1")
        let pictures = folder.file("val/geography")
        let last = try XCTUnwrap(FileManager.default.contentsOfDirectory(atPath: pictures).sorted().last)
        try FileManager.default.removeItem(atPath: "\(pictures)/\(last)")
        assertRefused(finetune("run", epochs: 2, ["--resume", "auto"]), 65, "holds other images than when the run was")

        let file = try SafeTensorsFile(path: folder.file("run/model.safetensors"))
        var writer = SafeTensorsWriter(metadata: file.metadata)
        var copies: [UnsafeMutableBufferPointer<Float>] = []
        defer { copies.forEach { $0.deallocate() } }
        for name in file.names {
            var floats = try file.floats(name)
            if name == "blocks.0.mlp.fc1.weight" { floats[0] = .nan }
            let copy = UnsafeMutableBufferPointer<Float>.allocate(capacity: floats.count)
            _ = copy.initialize(from: floats)
            copies.append(copy)
            writer.add(name, shape: try file.entry(name).shape, floats: UnsafeBufferPointer(copy))
        }
        try writer.write(to: folder.file("spoilt.safetensors"))
        assertRefused(
            finetune("other", from: folder.file("spoilt.safetensors")), 65, "blocks.0.mlp.fc1.weight", "not finite")
    }

    /// The plan and the time of a run, without a folder.
    func testDryRun() {
        let result = assertRuns(finetune(nil, ["--dry-run"]))
        for row in ["optimiser steps", "parameters: class head", "memory: total", "all evaluations", "the whole run"] {
            XCTAssertTrue(result.output.contains(row), result.output)
        }
    }

    func testRefusals() throws {
        assertRefused(["finetune", "--train", "a", "--val", "b", "--output", "c"], 64, "--weights is needed")
        assertRefused(finetune("run", from: "w", ["--from-scratch"]), 64, "exclude each other")
        assertRefused(finetune("run", from: "w", ["--width", "16"]), 64, "--width", "leave it out")
        assertRefused(finetune("run", ["--temperature", "2"]), 64, "--temperature is for a run with a --teacher")
        assertRefused(finetune("run", ["--batch", "1", "--effective-batch", "8"]), 64, "--batch 1 must be even")
        assertRefused(finetune("run", ["--drop-path", "1"]), 64, "--drop-path")
        assertRefused(finetune("run", ["--ema", "1"]), 64, "--ema must be above 0 and below 1")
        assertRefused(finetune("run", ["--erasing", "2"]), 64, "--erasing")
        assertRefused(finetune("run", ["--mixup", "-1"]), 64, "--mixup")
        assertRefused(finetune("run", ["--clip-gradient", "0"]), 64, "--clip-gradient must be above 0")
        assertRefused(finetune("run", ["--evaluate-every", "0"]), 64, "--evaluate-every must be above 0")
        assertRefused(finetune("run", ["--recipe", "none"]), 64, "finetune-base-dmae")
        let one = folder.file("one")
        try FileManager.default.createDirectory(atPath: one, withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(
            atPath: one + "/geography", withDestinationPath: folder.file("train/geography"))
        // Places that are given again are added, so the command's own are replaced.
        func on(_ train: String, _ val: String) -> [String] {
            finetune("run").map { $0 == folder.file("train") ? train : $0 == folder.file("val") ? val : $0 }
        }
        assertRefused(
            on(one, one), 65, "only one class, \"geography\"",
            "about a fifth of its images to --val, as in train/CLASS/1.jpg and val/CLASS/2.jpg")
        let flat = folder.file("train/education")
        assertRefused(on(flat, folder.file("val")), 65, "--train \(flat) has no classes")
        assertRefused(
            finetune("run", ["--train", flat]), 65, "\(flat) has no classes, but \(folder.file("train")) has")
        try FileManager.default.removeItem(atPath: folder.file("val/geography"))
        assertRefused(finetune("run"), 65, "\"geography\" is in --train only")
        XCTAssertFalse(FileManager.default.fileExists(atPath: folder.file("run")))
        assertRuns(TinyRun.pretrain(folder.file("mae"), epochs: 1, ["--quiet"]))
        let encoder = folder.file("mae/model.safetensors")
        assertRefused(finetune("run", ["--teacher", encoder]), 65, "holds no classifier")
    }

    /// A probe's head follows a BatchNorm: fine-tuning starts from its encoder with a new head, and does not distil it.
    func testAProbesWeights() throws {
        assertRuns(TinyRun.pretrain(folder.file("mae"), epochs: 1, ["--quiet"]))
        assertRuns([
            "probe", "--weights", folder.file("mae/model.safetensors"), "--train", folder.file("train"), "--val",
            folder.file("val"), "--augment", "none", "--epochs", "1", "--warmup-epochs", "0", "--batch", "4",
            "--effective-batch", "8", "--output", folder.file("probe"), "--quiet",
        ])
        let probe = folder.file("probe/model.safetensors")
        let result = assertRuns(finetune("run", epochs: 1, from: probe))
        XCTAssertTrue(result.errors.contains("head.weight"), result.errors)
        assertRefused(finetune("other", ["--teacher", probe]), 65, "a probe's has a BatchNorm")
    }
}
