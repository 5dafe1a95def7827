import Foundation
import Images
import Tensors
import TestSupport
import Training
import Weights
import XCTest

/// `dmae resume`: a run goes on from its folder alone.
final class ResumeCommandTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let steps = ["--checkpoint-every", "7", "--quiet"]

    /// Starts `arguments`, waits until the log in `run` has `lines`, and asks the run to stop.
    private func stop(
        _ arguments: [String], _ run: String, after lines: Int, file: StaticString = #filePath, line: UInt = #line
    ) {
        let command = Command(arguments)
        while command.isRunning, ((try? TinyRun.log(run).count) ?? 0) < lines { usleep(500) }
        command.send(SIGTERM)
        let result = command.wait()
        XCTAssertEqual(result.end, .exited(75), result.description, file: file, line: line)
        XCTAssertTrue(
            result.errors.contains("`dmae resume \(run)` continues from \(run)/checkpoint-"), result.errors, file: file,
            line: line)
    }

    private func configuration(_ run: String) throws -> TrainingConfiguration {
        try JSONDecoder().decode(TrainingConfiguration.self, from: TinyRun.bytes(run + "/configuration.json"))
    }

    /// Every file of the two runs is the same, but for what was measured.
    private func assertSame(_ one: String, _ other: String, file: StaticString = #filePath, line: UInt = #line) throws {
        for name in [
            "model.safetensors", "best.safetensors", "raw.safetensors", "evaluation.json", "configuration.json",
        ] {
            XCTAssertEqual(
                try? TinyRun.bytes("\(one)/\(name)"), try? TinyRun.bytes("\(other)/\(name)"), name, file: file,
                line: line)
        }
        XCTAssertEqual(try TinyRun.log(one), try TinyRun.log(other), file: file, line: line)
    }

    /// Other kernels add in another order: who resumes with them is told.
    func testAnotherInstructionSet() throws {
        let run = folder.file("run")
        let command = Command(
            TinyRun.pretrain(run, epochs: 4000, ["--checkpoint-every", "7", "--precision", "f32"]),
            environment: ["DMAE_ISA": "scalar"])
        while command.isRunning, ((try? TinyRun.log(run).count) ?? 0) < 3 { usleep(500) }
        command.send(SIGTERM)
        XCTAssertEqual(command.wait().end, .exited(75))
        let checkpoint = try SafeTensorsFile(path: run + "/" + XCTUnwrap(TinyRun.checkpoints(run).last))
        XCTAssertEqual(checkpoint.metadata["dmae.instruction_set"], "scalar")
        /// Resumes it for a moment.
        func resume(_ set: String, _ folder: String) throws -> String {
            let copy = self.folder.file(folder)
            try FileManager.default.copyItem(atPath: run, toPath: copy)
            let before = try TinyRun.log(copy).count
            let command = Command(["resume", copy], environment: ["DMAE_ISA": set])
            while command.isRunning, try TinyRun.log(copy).count < before + 2 { usleep(500) }
            command.send(SIGTERM)
            let result = command.wait()
            XCTAssertEqual(result.end, .exited(75), result.description)
            return result.errors
        }
        XCTAssertFalse(try resume("scalar", "same").contains("its bits will differ"))
        guard InstructionSet.available != .scalar else { throw XCTSkip("this processor runs scalar kernels alone") }
        let name = InstructionSet.available.name, errors = try resume(name, "other")
        XCTAssertTrue(
            errors.contains(
                "warning: the run was computed with scalar so far and goes on with \(name): its bits will differ from "
                    + "those of a run with one instruction set; DMAE_ISA=scalar keeps them\n"), errors)
    }

    /// A run that took a picture which dmae drew, as earlier versions did, goes on with it; a new one leaves it out.
    func testPicturesThatDmaeDrew() throws {
        try TinyRun.writeClasses(in: folder)
        let data = folder.file("train"), run = folder.file("run"), name = "train/geography/x.png"
        let drawn = try PNGWriter.encode(
            Pixels(width: 40, height: 40, channels: 3, bytes: [UInt8](repeating: 7, count: 4800)))
        // Without the chunk that says so: 8 bytes of the signature and 25 of the header stand before it.
        let length = drawn[33..<37].reduce(0) { $0 << 8 | Int($1) }
        folder.write(Array(drawn[..<33] + drawn[(33 + 12 + length)...]), name)
        assertRuns(TinyRun.pretrain(run, epochs: 4, data: data, steps))
        try FileManager.default.removeItem(atPath: run + "/model.safetensors")
        folder.write(drawn, name)
        let resumed = assertRuns(["resume", run]).errors
        XCTAssertTrue(resumed.contains("continuing from "), resumed)
        XCTAssertTrue(FileManager.default.fileExists(atPath: run + "/model.safetensors"))
        let new = assertRuns(TinyRun.pretrain("", epochs: 4, data: data, ["--dry-run"])).errors
        XCTAssertTrue(
            new.contains("pictures that dmae drew are left out of \(data): geography/x.png (pictures: 1)"), new)
        let census = assertRuns(["inspect", data])
        XCTAssertTrue(census.errors.contains("pictures that dmae drew are left out of \(data)"), census.errors)
    }

    /// No flag is repeated, and the bytes are those of a run that was never stopped, with other threads and workers.
    func testDistillationAndPretraining() throws {
        let teacher = folder.file("teacher"), pretrained = folder.file("pretrained")
        assertRuns(TinyRun.pretrain(teacher, epochs: 40, steps))
        stop(TinyRun.pretrain(pretrained, epochs: 40, steps), pretrained, after: 9)
        let result = assertRuns(["resume", pretrained, "--workers", "2", "--threads", "1"])
        XCTAssertTrue(result.errors.contains("continuing from \(pretrained)/checkpoint-"), result.errors)
        try assertSame(teacher, pretrained)

        let weights = teacher + "/model.safetensors", whole = folder.file("whole"), stopped = folder.file("stopped")
        let more = steps + ["--val", TinyRun.data, "--mean", "0.5", "--std", "0.25", "--seed", "7"]
        assertRuns(TinyRun.distill(whole, teacher: weights, epochs: 30, more))
        stop(TinyRun.distill(stopped, teacher: weights, epochs: 30, more), stopped, after: 9)
        // The folder and the teacher move; what may change is written down, and changes no bit of the weights.
        let moved = folder.file("moved"), other = folder.file("teacher.safetensors")
        try FileManager.default.moveItem(atPath: stopped, toPath: moved)
        try FileManager.default.copyItem(atPath: weights, toPath: other)
        assertRuns(["resume", moved, "--teacher", other, "--keep", "3", "--checkpoint-every", "5", "--quiet"])
        XCTAssertEqual(try TinyRun.log(whole), try TinyRun.log(moved))
        let stored = try JSONDecoder().decode(
            TrainingConfiguration.self, from: TinyRun.bytes(moved + "/configuration.json"))
        XCTAssertEqual(stored.teacher, other)
        XCTAssertEqual([stored.keep, stored.checkpointEvery], [3, 5])
        XCTAssertEqual([stored.seed], [7])
        XCTAssertEqual(try TinyRun.checkpoints(moved).count, 3)
    }

    func testFinetuningAndProbe() throws {
        try TinyRun.writeClasses(in: folder)
        let data = ["--train", folder.file("train"), "--val", folder.file("val")] + steps
        let small = [
            "--recipe", "finetune-small-data", "--batch", "4", "--effective-batch", "8", "--warmup-epochs", "1",
            "--precision", "f32",
        ]
        let sizes = [
            "--student", "vit-miniature", "--width", "16", "--depth", "2", "--heads", "2", "--image-size", "32",
        ]
        func finetune(_ run: String, epochs: Int, _ more: [String]) -> [String] {
            ["finetune", "--output", folder.file(run), "--epochs", "\(epochs)"] + data + small + more
        }
        assertRuns(finetune("first", epochs: 1, ["--from-scratch", "--pool", "class"] + sizes))
        let weights = folder.file("first/model.safetensors")
        let more = [
            "--weights", weights, "--teacher", weights, "--ema", "0.9", "--mixup", "0.8", "--clip-gradient", "1",
            "--rand-augment", "--erasing", "0.25", "--evaluate-every", "5",
        ]
        assertRuns(finetune("whole", epochs: 12, more))
        stop(finetune("stopped", epochs: 12, more), folder.file("stopped"), after: 5)
        assertRuns(["resume", folder.file("stopped"), "--quiet"])
        try assertSame(folder.file("whole"), folder.file("stopped"))

        func probe(_ run: String) -> [String] {
            [
                "probe", "--weights", weights, "--output", folder.file(run), "--epochs", "40", "--evaluate-every",
                "10",
            ] + data
        }
        assertRuns(probe("whole probe"))
        stop(probe("probe"), folder.file("probe"), after: 9)
        assertRuns(["resume", folder.file("probe"), "--quiet"])
        try assertSame(folder.file("whole probe"), folder.file("probe"))
    }

    /// A run that was stopped before its first checkpoint begins at the beginning; one that is done says so.
    func testBeginningAndEnd() throws {
        let run = folder.file("run"), whole = folder.file("whole")
        assertRuns(TinyRun.pretrain(whole, epochs: 20, steps))
        assertRuns(TinyRun.pretrain(run, epochs: 20, steps))
        let weights = try TinyRun.bytes(run + "/model.safetensors")
        let done = assertRuns(["resume", run])
        XCTAssertTrue(
            done.errors.contains(
                "\(run) has finished: all 22 steps of its 20 epochs are done, and its weights are "
                    + "\(run)/model.safetensors. The learning rate has come down to 0, so more epochs are a new run"),
            done.errors)
        XCTAssertEqual(try TinyRun.bytes(run + "/model.safetensors"), weights)
        XCTAssertEqual(assertRuns(["resume", run + "//"]).output, done.output)
        // The command that it prints is a run, from these weights and with these values.
        XCTAssertEqual(
            done.output,
            "dmae pretrain --config \(run)/configuration.json --init-student \(run)/model.safetensors --epochs 20 "
                + "--warmup-epochs 1 --output \(run)-2\n")
        let more = assertRuns(done.output.split(whereSeparator: \.isWhitespace).dropFirst().map(String.init))
        XCTAssertTrue(more.errors.contains("(embedding, blocks, norm, decoder)\n"), more.errors)
        var (old, new) = (try configuration(run), try configuration(run + "-2"))
        XCTAssertEqual(new.weights, run + "/model.safetensors")
        (old.weights, new.weights) = (nil, nil)
        XCTAssertEqual(old, new)
        // It begins where the first ended.
        let losses = try [run, run + "-2"].map { try TinyRun.losses($0) }
        XCTAssertLessThan(losses[1][0], losses[0][0])

        // Killed between the last checkpoint and the weights, it still has them to write.
        try FileManager.default.removeItem(atPath: run + "/model.safetensors")
        assertRuns(["resume", run, "--quiet"])
        XCTAssertEqual(try TinyRun.bytes(run + "/model.safetensors"), weights)
        // Back to an earlier one.
        let checkpoints = try TinyRun.checkpoints(run)
        let back = assertRuns(["resume", run, "--checkpoint", "\(run)/\(checkpoints[0])", "--quiet"])
        XCTAssertTrue(back.errors.contains("set aside 1 of its later checkpoints"), back.errors)
        XCTAssertEqual(try TinyRun.bytes(run + "/model.safetensors"), weights)

        for name in try TinyRun.checkpoints(run) + ["model.safetensors", "log.jsonl"] {
            try FileManager.default.removeItem(atPath: "\(run)/\(name)")
        }
        let again = assertRuns(["resume", run])
        XCTAssertTrue(again.errors.contains("starting from the beginning"), again.errors)
        try assertSame(whole, run)
    }

    func testRefusals() throws {
        assertRefused(["resume", folder.file("none")], 74, "cannot open", "none", "name the folder of a run")
        assertRefused(["resume", TinyRun.data], 64, "is not the folder of a run: there is no configuration.json in it")
        let picture = TinyRun.data + "/" + (try FileManager.default.contentsOfDirectory(atPath: TinyRun.data)[0])
        assertRefused(
            ["resume", picture], 64, "is a file, not the folder of a run: name its folder, \"\(TinyRun.data)\"")
        assertRefused(["resume"], 64, "Missing expected argument")
        assertRefused(
            ["resume", folder.file("none"), "--epochs", "3"], 64,
            "Unknown option '--epochs': a run goes on with the values of its start: leave it out")

        // As a user in another folder: what is not here is named with its flag.
        let run = folder.file("run")
        assertRuns(TinyRun.pretrain(run, epochs: 1, ["--quiet"]))
        try FileManager.default.removeItem(atPath: run + "/model.safetensors")
        let place = run + "/configuration.json"
        let text = try String(contentsOfFile: place, encoding: .utf8)
        let elsewhere = text.replacingOccurrences(of: "\"\(TinyRun.data)\"", with: "\"pictures/here\"")
        XCTAssertNotEqual(elsewhere, text)
        try elsewhere.write(toFile: place, atomically: true, encoding: .utf8)
        assertRefused(
            ["resume", run], 74, "\"pictures/here\", which the run names, is not in this folder", "with --data")
        // All that is missing in one sentence.
        try elsewhere.replacingOccurrences(
            of: "\"data\"", with: "\"evaluateEvery\" : 1,\n  \"validation\" : \"pictures/there\",\n  \"data\""
        ).write(toFile: place, atomically: true, encoding: .utf8)
        assertRefused(
            ["resume", run], 74,
            "\"pictures/here\" (--data), \"pictures/there\" (--val), which the run names, are not in "
                + "this folder", "where they are with these flags")
        try elsewhere.write(toFile: place, atomically: true, encoding: .utf8)
        assertRefused(["resume", run, "--teacher", "a"], 64, "--teacher is not for a run of `dmae pretrain`")
        assertRefused(["resume", run, "--weights", "a"], 64, "--weights is not for a run of `dmae pretrain`")
        assertRuns(["resume", run, "--data", TinyRun.data, "--quiet"])
        XCTAssertEqual(try String(contentsOfFile: place, encoding: .utf8), text)

        try String(text.dropLast(20)).write(toFile: place, atomically: true, encoding: .utf8)
        assertRefused(["resume", run], 65, "configuration.json\" is damaged")
        try text.replacingOccurrences(of: "\"format\" : 3", with: "\"format\" : 2").write(
            toFile: place, atomically: true, encoding: .utf8)
        assertRefused(
            ["resume", run], 65, "is of a run that an earlier version of dmae started",
            "start again in another run folder, where ")
        try text.write(toFile: place, atomically: true, encoding: .utf8)

        // Remedies are those of the command that was typed.
        func assertRemedies(_ code: Int32, _ ofResume: String, _ ofPretrain: String) {
            let own = Command.run(["resume", run]),
                other = Command.run(TinyRun.pretrain(run, epochs: 1, ["--resume", "auto"]))
            for result in [own, other] { XCTAssertEqual(result.end, .exited(code), result.description) }
            XCTAssertTrue(own.errors.contains(ofResume) && !own.errors.contains("--output"), own.errors)
            XCTAssertTrue(other.errors.contains(ofPretrain), other.errors)
        }
        try FileManager.default.removeItem(atPath: run + "/model.safetensors")
        let checkpoint = try XCTUnwrap(TinyRun.checkpoints(run).last)
        for name in try TinyRun.checkpoints(run) where name != checkpoint {
            try FileManager.default.removeItem(atPath: "\(run)/\(name)")
        }
        let bytes = try TinyRun.bytes("\(run)/\(checkpoint)")
        folder.write(bytes.prefix(bytes.count / 2), "run/\(checkpoint)")
        assertRemedies(65, "or name another run folder\n", "or name another --output folder\n")
        try FileManager.default.moveItem(
            atPath: "\(run)/\(checkpoint)",
            toPath: run + "/" + checkpoint.replacingOccurrences(of: ".safetensors", with: ".abandoned-1.safetensors"))
        assertRemedies(64, "resume one of them with --checkpoint ", "resume one of them with --resume ")
    }
}
