import Foundation
import Images
import Tensors
import TestSupport
import Training
import XCTest

/// Runs that are stopped: killed, asked to stop, damaged, and taken up again.
final class ResumeTests: XCTestCase {
    private let folder = TemporaryFolder()
    /// Some hundred steps, a checkpoint every few.
    private let steps = ["--checkpoint-every", "7", "--quiet"]

    private func assertSameRun(_ one: String, _ other: String, file: StaticString = #filePath, line: UInt = #line)
        throws
    {
        XCTAssertEqual(
            try TinyRun.bytes(one + "/model.safetensors"), try TinyRun.bytes(other + "/model.safetensors"), "weights",
            file: file, line: line)
        XCTAssertEqual(try TinyRun.log(one), try TinyRun.log(other), "logs", file: file, line: line)
        let last = try XCTUnwrap(TinyRun.checkpoints(one).last)
        XCTAssertEqual(last, try TinyRun.checkpoints(other).last, file: file, line: line)
        XCTAssertEqual(
            try TinyRun.bytes(one + "/" + last), try TinyRun.bytes(other + "/" + last), "checkpoints", file: file,
            line: line)
    }

    /// Waits until the run in `path` has logged `step`; false where the process ended before.
    private func waitForStep(_ step: Int, _ path: String, _ command: Command) -> Bool {
        while command.isRunning {
            let text = (try? String(contentsOfFile: path + "/log.jsonl", encoding: .utf8)) ?? ""
            if text.filter({ $0 == "\n" }).count >= step { return true }
            usleep(500)
        }
        return false
    }

    /// SIGKILL at random moments, other threads and workers each time: the same bytes as a run that was never stopped.
    func testKilledAndResumed() throws { try killedAndResumed([]) }
    func testKilledAndResumedWithAnInt8Teacher() throws {
        try killedAndResumed(["--teacher-precision", "int8", "--precision", "bf16"])
    }
    private func killedAndResumed(_ more: [String]) throws {
        let steps = steps + more
        let teacher = folder.file("teacher")
        assertRuns(TinyRun.pretrain(teacher, epochs: 5, ["--quiet"]))
        let weights = teacher + "/model.safetensors"
        let whole = folder.file("whole"), killed = folder.file("killed")
        assertRuns(TinyRun.distill(whole, teacher: weights, epochs: 300, steps))
        let total = try TinyRun.log(whole).count
        var random = CounterRandom(seed: testSeed(UInt64.random(in: 0 ... .max)), purpose: .test)
        for attempt in 0..<6 {
            let command = Command(
                TinyRun.distill(
                    killed, teacher: weights, epochs: 300,
                    steps + [
                        "--resume", "auto", "--threads", "\(1 + attempt % 2)", "--workers", "\(1 + attempt % 3)",
                    ]))
            // The first time while it starts; then some steps further than it ever came, at any moment of a step or of
            // a checkpoint.
            let done = (try? TinyRun.log(killed).count) ?? 0
            if attempt > 0, !waitForStep(done + random.below(total / 8), killed, command) { break }
            usleep(UInt32(random.below(20_000)))
            command.send(SIGKILL)
            XCTAssertEqual(
                command.wait().end, .killed(signal: SIGKILL),
                "attempt \(attempt) of \(total) steps, \(done) done before")
        }
        XCTAssertGreaterThan(try TinyRun.log(killed).count, 0)
        XCTAssertLessThan(try TinyRun.log(killed).count, total)
        assertRuns(TinyRun.distill(killed, teacher: weights, epochs: 300, steps + ["--resume", "auto"]))
        try assertSameRun(whole, killed)
        XCTAssertFalse(try FileManager.default.contentsOfDirectory(atPath: killed).contains { $0.contains(".part") })
    }

    /// SIGTERM, SIGINT, SIGUSR1 and SIGHUP leave a checkpoint of the step they came in and 75; the run goes on to the
    /// same bytes.
    func testAskedToStop() throws {
        let whole = folder.file("whole")
        assertRuns(TinyRun.pretrain(whole, epochs: 300, steps))
        let stopped = folder.file("stopped")
        for (round, (signal, name)) in [
            (SIGTERM, "SIGTERM"), (SIGINT, "SIGINT"), (SIGUSR1, "SIGUSR1"), (SIGHUP, "SIGHUP"),
        ].enumerated() {
            let command = Command(
                TinyRun.pretrain(stopped, epochs: 300, steps + (round == 0 ? [] : ["--resume", "auto"])))
            XCTAssertTrue(waitForStep(40 * (round + 1), stopped, command), command.wait().description)
            command.send(signal)
            let result = command.wait()
            XCTAssertEqual(result.end, .exited(75), result.description)
            XCTAssertTrue(result.errors.contains("stopped by \(name) at step "), result.errors)
            XCTAssertTrue(result.errors.contains("`dmae resume \(stopped)` continues from "), result.errors)
            // The answer comes before the batch ends, and therefore before the checkpoint is named.
            let answer =
                "stopping: this batch is finished, then a checkpoint is written"
                + (signal == SIGINT ? "; Ctrl-C again ends at once without one\n" : "\n")
            XCTAssertEqual(result.errors.components(separatedBy: answer).count, 2, result.errors)
            let stop = try XCTUnwrap(result.errors.range(of: "stopped by")).lowerBound
            XCTAssertTrue(result.errors[..<stop].hasSuffix(answer), result.errors)
            XCTAssertFalse(result.errors.contains("error"), "to be interrupted is no error: \(result.errors)")
            let step = try TinyRun.log(stopped).count
            let newest = try XCTUnwrap(TinyRun.checkpoints(stopped).last)
            // Between two passes of a step the checkpoint is of the last whole one.
            XCTAssertEqual(newest.filter(\.isNumber).drop { $0 == "0" }, "\(step)"[...], result.errors)
            XCTAssertTrue(result.errors.contains(newest), result.errors)
        }
        // From a named checkpoint.
        let newest = try XCTUnwrap(TinyRun.checkpoints(stopped).last)
        assertRuns(TinyRun.pretrain(stopped, epochs: 300, steps + ["--resume", stopped + "/" + newest]))
        try assertSameRun(whole, stopped)
    }

    /// A signal that is ignored when the program starts, as SIGHUP under nohup, stays ignored.
    func testIgnoredSignals() throws {
        for number in [SIGHUP, SIGINT] {
            let run = folder.file("ignoring \(number)")
            let command = Command(TinyRun.pretrain(run, epochs: 300, steps), ignoring: number)
            XCTAssertTrue(waitForStep(10, run, command))
            command.send(number)
            XCTAssertEqual(command.wait().end, .exited(0))
        }
    }

    /// Whoever presses Ctrl-C twice does not want to wait.
    func testSecondInterruptQuitsAtOnce() throws {
        let run = folder.file("run")
        // Effective batches of 40,000 images: a step boundary is minutes away, and a pass takes long enough to see both
        // signals.
        let command = Command(
            TinyRun.pretrain(
                run, epochs: 10_000, ["--batch", "2000", "--effective-batch", "40000", "--threads", "1", "--quiet"]))
        while command.isRunning, !FileManager.default.fileExists(atPath: run + "/log.jsonl") { usleep(1000) }
        usleep(100_000)
        // Signals that come before a busy machine delivers the first one are one signal.
        while command.isRunning {
            command.send(SIGINT)
            usleep(5000)
        }
        let result = command.wait()
        XCTAssertEqual(result.end, .exited(130))
        XCTAssertTrue(
            result.errors.contains("then a checkpoint is written; Ctrl-C again ends at once without one\n"),
            result.errors)
        XCTAssertTrue(
            result.errors.hasSuffix("ended at once, before the first checkpoint; `dmae resume \(run)` begins again\n"),
            result.errors)
        XCTAssertEqual(try TinyRun.checkpoints(run), [])
        XCTAssertEqual(
            String(decoding: try TinyRun.bytes(run + "/status.json"), as: UTF8.self),
            #"{"reason":"ended at once by a second SIGINT","state":"resumable","step":0}"# + "\n")
    }

    /// The last line names the command that goes on from the checkpoint, and it does.
    func testSecondInterruptAfterACheckpoint() throws {
        let run = folder.file("it's a run")
        // Steps of a few passes, each long enough to see both signals.
        let command = Command(
            TinyRun.pretrain(
                run, epochs: 400,
                [
                    "--batch", "200", "--effective-batch", "800", "--base-learning-rate", "0.001", "--threads", "1",
                    "--checkpoint-every", "1", "--quiet",
                ]))
        func status() -> RunStatus? { RunStatus(ofRunIn: run) }
        func hasCheckpoint() -> Bool {
            (try? TinyRun.checkpoints(run))?.contains { $0.hasSuffix(".safetensors") } ?? false
        }
        while command.isRunning, !hasCheckpoint() { usleep(1000) }
        // The folder of the checkpoint is synced, too, before it counts.
        usleep(100_000)
        while command.isRunning {
            command.send(SIGINT)
            usleep(5000)
        }
        let result = command.wait()
        XCTAssertEqual(result.end, .exited(130))
        let last = try XCTUnwrap(status())
        XCTAssertEqual(last.state, .resumable)
        XCTAssertGreaterThan(last.step, 0)
        XCTAssertTrue(
            result.errors.hasSuffix(
                "ended at once: the steps since step \(last.step) are lost; `dmae resume '\(folder.path)/it'\\''s a run'` "
                    + "continues from its checkpoint\n"), result.errors)
        XCTAssertTrue(try TinyRun.checkpoints(run).last?.hasSuffix("\(last.step).safetensors") == true)
        let names = try FileManager.default.contentsOfDirectory(atPath: run)
        XCTAssertFalse(names.contains { $0.contains(".part-") }, "\(names)")
        assertRuns(["resume", run, "--quiet"])
        XCTAssertEqual(status()?.state, .finished)
    }

    /// A disk that is full, or a limit on files, ends a run that goes on from its last checkpoint: the sentence says how.
    func testFullDisk() throws {
        let run = folder.file("run")
        let command = Command(TinyRun.pretrain(run, epochs: 300, steps))
        XCTAssertTrue(waitForStep(8, run, command))
        command.send(SIGKILL)
        _ = command.wait()
        let size = try TinyRun.bytes(run + "/" + XCTUnwrap(TinyRun.checkpoints(run).last)).count
        let result = TemporaryFolder.limitingFileSize(to: size / 2) { Command.run(["resume", run, "--quiet"]) }
        assertRefused(
            result, 74,
            ["File too large", "(ulimit -f); then `dmae resume \(run)` continues from the newest checkpoint"])
        XCTAssertEqual(RunStatus(ofRunIn: run)?.state, .failed)
        assertRuns(["resume", run, "--quiet"])
        // Without a checkpoint there is nothing to go on with.
        let other = folder.file("other")
        let first = TemporaryFolder.limitingFileSize(to: size / 2) {
            Command.run(TinyRun.pretrain(other, epochs: 30, steps))
        }
        assertRefused(first, 74, ["File too large"])
        XCTAssertFalse(first.errors.contains("dmae resume"), first.errors)
    }

    /// The newest checkpoint is damaged, then also cut off: each is named and passed over, and the end is the same.
    func testDamagedCheckpoints() throws {
        let whole = folder.file("whole"), damaged = folder.file("damaged")
        assertRuns(TinyRun.pretrain(whole, epochs: 40, steps))
        let command = Command(TinyRun.pretrain(damaged, epochs: 40, steps + ["--keep", "3"]))
        XCTAssertTrue(waitForStep(24, damaged, command))
        command.send(SIGKILL)
        _ = command.wait()
        let checkpoints = try TinyRun.checkpoints(damaged)
        XCTAssertGreaterThanOrEqual(checkpoints.count, 3)
        var bytes = try TinyRun.bytes(damaged + "/" + checkpoints.last!)
        bytes[bytes.count / 2] ^= 0x10
        try bytes.write(to: URL(fileURLWithPath: damaged + "/" + checkpoints.last!))
        let second = checkpoints[checkpoints.count - 2]
        try TinyRun.bytes(damaged + "/" + second).dropLast(100).write(to: URL(fileURLWithPath: damaged + "/" + second))
        assertRefused(
            TinyRun.pretrain(damaged, epochs: 40, steps + ["--resume", damaged + "/" + checkpoints.last!]), 65,
            checkpoints.last!,
            "is damaged", "use an older checkpoint")
        let result = assertRuns(TinyRun.pretrain(damaged, epochs: 40, steps + ["--resume", "auto"]))
        for name in [checkpoints.last!, second] {
            XCTAssertTrue(
                result.errors.contains("warning: skipping") && result.errors.contains(name), result.errors)
        }
        try assertSameRun(whole, damaged)
    }

    /// Back to an older checkpoint: later ones are set aside, so that --resume auto goes on from what was trained
    /// since. And where only a model is left, a job script's --resume auto does not train over it.
    func testBackToAnOlderCheckpoint() throws {
        let run = folder.file("run"), steps = ["--checkpoint-every", "4", "--keep", "9", "--quiet"]
        assertRuns(TinyRun.pretrain(run, epochs: 20, steps))
        let before = try TinyRun.checkpoints(run)
        XCTAssertGreaterThan(before.count, 3)
        // Quiet but for what must be known.
        let back = assertRuns(TinyRun.pretrain(run, epochs: 20, steps + ["--resume", "\(run)/\(before[1])"]))
        XCTAssertEqual(back.errors.split(separator: "\n").count, 1, back.errors)
        XCTAssertTrue(
            back.errors.hasPrefix("warning: the run continues from step 8; set aside \(before.count - 2) of its"),
            back.errors)
        let after = try TinyRun.checkpoints(run)
        XCTAssertEqual(after.filter { !$0.hasSuffix(".abandoned") }, before)
        XCTAssertEqual(after.filter { $0.hasSuffix(".abandoned") }, before.dropFirst(2).map { $0 + ".abandoned" })
        for name in before.dropFirst(2) {
            XCTAssertEqual(try TinyRun.bytes("\(run)/\(name)"), try TinyRun.bytes("\(run)/\(name).abandoned"), name)
        }

        // From elsewhere, into a folder whose own checkpoints are of another course: killed at once, it goes on from
        // there.
        let other = folder.file("other")
        assertRuns(TinyRun.pretrain(other, epochs: 20, steps + ["--seed", "5"]))
        let command = Command(
            TinyRun.pretrain(
                other, epochs: 20,
                ["--checkpoint-every", "1000", "--keep", "9", "--resume", "\(run)/\(before[1])", "--quiet"]))
        while command.isRunning,
            try TinyRun.checkpoints(other).filter({ $0.hasSuffix(".abandoned") }).count < before.count - 1
        { usleep(200) }
        while command.isRunning, !FileManager.default.fileExists(atPath: "\(other)/\(before[1])") { usleep(200) }
        command.send(SIGKILL)
        _ = command.wait()
        assertRuns(TinyRun.pretrain(other, epochs: 20, steps + ["--resume", "auto"]))
        XCTAssertEqual(try TinyRun.bytes(other + "/model.safetensors"), try TinyRun.bytes(run + "/model.safetensors"))

        for name in try TinyRun.checkpoints(run) { try FileManager.default.removeItem(atPath: "\(run)/\(name)") }
        let model = try TinyRun.bytes(run + "/model.safetensors"), log = try TinyRun.log(run)
        assertRefused(
            TinyRun.pretrain(run, epochs: 20, steps + ["--resume", "auto"]), 64, "holds the weights of a finished run")
        XCTAssertEqual(try TinyRun.bytes(run + "/model.safetensors"), model)
        XCTAssertEqual(try TinyRun.log(run), log)
    }

    /// A run that finds other images names the first one that is missing, and the first that was added.
    func testOtherImages() throws {
        try TinyRun.writeClasses(in: folder)
        let data = folder.file("train"), val = folder.file("val"), run = folder.file("run")
        let names = try FileManager.default.contentsOfDirectory(atPath: data + "/geography").sorted()
        let files = FileManager.default
        func count(_ place: String) throws -> Int { try ImageCollection(ImagePlaces(place)).count }
        let images = try count(data), judged = try count(val)
        let steps = self.steps + ["--epochs", "2"]
        assertRuns(TinyRun.pretrain(run, epochs: 2, data: data, self.steps))
        try files.copyItem(atPath: run + "/model.safetensors", toPath: folder.file("weights.safetensors"))
        let resume = ["resume", run]
        func move(_ from: String, _ to: String) throws { try files.moveItem(atPath: from, toPath: to) }
        try files.removeItem(atPath: run + "/model.safetensors")
        try move("\(data)/geography/\(names[1])", folder.file("away"))
        let missing = "missing: geography/\(names[1])"
        assertRefused(
            resume, 65,
            "\(data): holds \(images - 1) images, but \(images) when the run was started (\(missing)): a resumed ")
        for new in ["x.jpg", "y.jpg"] {
            try files.copyItem(atPath: "\(data)/geography/\(names[0])", toPath: "\(data)/geography/\(new)")
        }
        assertRefused(
            resume, 65,
            "\(images + 1) images, but \(images) when the run was started (\(missing); added: geography/x.jpg and 1 more)"
        )
        try files.removeItem(atPath: "\(data)/geography/y.jpg")
        assertRefused(
            resume, 65, "other names than when the run was started (\(missing); added: geography/x.jpg): a resumed run")
        // Without a check there are no names.
        try files.removeItem(atPath: run + "/images.json")
        assertRefused(resume, 65, "other names than when the run was started: a resumed run")
        try files.removeItem(atPath: "\(data)/geography/x.jpg")
        try move(folder.file("away"), "\(data)/geography/\(names[1])")
        assertRuns(resume)

        let classifier = folder.file("classifier")
        assertRuns(
            [
                "probe", "--weights", folder.file("weights.safetensors"), "--train", data, "--val", val, "--augment",
                "none",
                "--output", classifier,
            ] + steps)
        try files.removeItem(atPath: classifier + "/model.safetensors")
        try files.copyItem(atPath: "\(data)/geography/\(names[0])", toPath: "\(val)/geography/x.jpg")
        XCTAssertEqual(try count(val), judged + 1)
        assertRefused(
            ["resume", classifier], 65,
            "holds other images than when the run was started (added: geography/x.jpg): the best")
    }

    /// A run is not overwritten, not mixed with other flags or images, and not written by two processes at once.
    func testRefusals() throws {
        let run = folder.file("run")
        assertRuns(TinyRun.pretrain(run, steps))
        assertRefused(TinyRun.pretrain(run, steps), 64, "already holds a run", "--resume auto")
        assertRefused(
            TinyRun.pretrain(run, steps + ["--resume", "auto", "--mask-ratio", "0.5"]), 64,
            "was taken with --mask-ratio 0.75, not --mask-ratio 0.5",
            "resume with the settings of its run")
        assertRefused(TinyRun.pretrain(run, steps + ["--resume", "auto", "--seed", "3"]), 64, "--seed 0, not --seed 3")
        assertRefused(
            TinyRun.pretrain(run, data: Fixtures.path("demo/images/food"), steps + ["--resume", "auto"]), 65,
            "images, but 9 when the run was started")
        assertRefused(
            TinyRun.pretrain(run, steps + ["--resume", folder.file("none.safetensors")]), 74, "none.safetensors",
            "No such file")
        let copy = folder.file("copy.safetensors")
        try FileManager.default.copyItem(atPath: run + "/model.safetensors", toPath: copy)
        assertRefused(
            TinyRun.pretrain(run, steps + ["--resume", copy]), 65, "copy.safetensors", "holds no checksum")
        let picture =
            TinyRun.data + "/" + (try FileManager.default.contentsOfDirectory(atPath: TinyRun.data).sorted()[0])
        assertRefused(TinyRun.pretrain(run, steps + ["--resume", picture]), 65, picture)
        // Resuming what is finished changes nothing.
        let before = try TinyRun.bytes(run + "/model.safetensors")
        assertRuns(TinyRun.pretrain(run, steps + ["--resume", "auto"]))
        XCTAssertEqual(try TinyRun.bytes(run + "/model.safetensors"), before)

        let other = folder.file("other")
        let command = Command(TinyRun.pretrain(other, epochs: 3000, steps))
        XCTAssertTrue(waitForStep(1, other, command))
        assertRefused(
            TinyRun.pretrain(other, epochs: 3000, steps + ["--resume", "auto"]), 74,
            "is being written by process \(command.process)")
        let live = Command.run(["resume", other])
        assertRefused(
            live, 74,
            [
                "is being written by process \(command.process); the run goes on there: wait for its end, or end that process "
                    + "first, and `dmae resume \(other)` continues from its checkpoint"
            ])
        XCTAssertFalse(live.errors.contains("--output"), live.errors)
        command.send(SIGKILL)
        _ = command.wait()
    }

    /// Every flag that decides the result is refused by its own name where it is another one, and the help has no
    /// others.
    func testOtherFlagsAreRefusedByName() throws {
        let alone = folder.file("alone"), taught = folder.file("taught"), resume = ["--resume", "auto", "--quiet"]
        assertRuns(TinyRun.pretrain(alone, epochs: 1, ["--quiet"]))
        let teacher = alone + "/model.safetensors"
        assertRuns(TinyRun.distill(taught, teacher: teacher, epochs: 2, ["--quiet", "--precision", "f32"]))
        let flags = [
            ("--recipe", "demo", "paper"), ("--batch", "4", "2"), ("--effective-batch", "8", "4"),
            ("--epochs", "2", "3"),
            ("--warmup-epochs", "1", "0.5"), ("--base-learning-rate", "0.1", "0.2"),
            ("--minimum-learning-rate", "0", "0.001"),
            ("--weight-decay", "0.05", "0.1"), ("--beta1", "0.9", "0.8"), ("--beta2", "0.95", "0.9"),
            ("--epsilon", "1e-08", "1e-06"),
            ("--groups", "1", "2"), ("--exchange", "f32", "bf16"), ("--seed", "0", "3"),
            ("--minimum-crop-area", "0.2", "0.3"),
            ("--maximum-crop-area", "1", "0.9"),
            ("--image-size", "32x32", "32x16"), ("--channels", "3", "1"), ("--width", "16", "24"),
            ("--depth", "2", "3"),
            ("--heads", "2", "4"), ("--decoder-width", "16", "20"), ("--decoder-depth", "1", "2"),
            ("--decoder-heads", "2", "4"),
            ("--mask-ratio", "0.75", "0.5"), ("--teacher-depth", "2", "1"), ("--predict-ratio", "1", "0.5"),
            ("--reconstruction-weight", "1", "0.5"),
            ("--alignment-distance", "L1", "L2"), ("--projection", "linear", "mlp"),
            ("--alignment-weight", "1", "0.5"),
            ("--background", "white", "#010203"), ("--grey16", "clip", "scale"),
            ("--mean", "0.485,0.456,0.406", "0.5"), ("--std", "0.229,0.224,0.225", "0.25,0.25,0.5"),
            ("--interpolation", "bicubic", "bilinear"),
            ("--precision", "f32", "bf16"), ("--teacher-precision", "same", "int8"),
        ]
        for (flag, saved, other) in flags {
            assertRefused(
                TinyRun.distill(taught, teacher: teacher, epochs: 2, resume + [flag, other]), 64,
                "was taken with \(flag) \(saved), not \(flag) \(other): resume with the settings of its run")
        }
        for (more, words) in [
            (["--align", "0:0"], "--align 1:0, not --align 1:0 --align 0:0"),
            (["--normalize-pixels"], "--no-normalize-pixels, not --normalize-pixels"),
            (["--stored-orientation"], "no --stored-orientation, not --stored-orientation"),
            (["--crop-fraction", "0.5"], "no --crop-fraction, not --crop-fraction 0.5"),
            (["--crop-fraction", "squash"], "no --crop-fraction, not --crop-fraction squash"),
            (["--shuffle-window", "4"], "no --shuffle-window, not --shuffle-window 4"),
            (["--teacher-mask-ratio", "0.5"], "no --teacher-mask-ratio, not --teacher-mask-ratio 0.5"),
        ] {
            assertRefused(
                TinyRun.distill(taught, teacher: teacher, epochs: 2, resume + more), 64, "was taken with " + words)
        }
        // A teacher has patches, a width, blocks and heads of its own: others are refused before.
        assertRefused(
            TinyRun.distill(taught, teacher: teacher, epochs: 2, resume + ["--teacher-width", "32"]), 64,
            "--teacher-width 32 contradicts \(teacher), whose width is 16: leave it out")
        assertRefused(
            TinyRun.distill(taught, teacher: teacher, epochs: 2, resume + ["--teacher-depth", "3"]), 64,
            "--teacher-depth 3 contradicts \(teacher), which holds 2 blocks: leave it out, or lower it")
        assertRefused(
            TinyRun.distill(taught, teacher: teacher, epochs: 2, resume + ["--teacher-heads", "4"]), 64,
            "--teacher-heads 4 contradicts \(teacher), which says that it has 2 heads: leave it out")
        let ofOtherHeads = ["--teacher-model", "vit-tiny", "--teacher-width", "16", "--teacher-depth", "2"]
        assertRefused(
            TinyRun.distill(taught, teacher: teacher, epochs: 2, resume + ofOtherHeads), 64,
            "--teacher-model vit-tiny, with 3 heads, contradicts \(teacher), which says that it has 2 heads: leave it "
                + "out"
        )
        assertRefused(
            TinyRun.pretrain(alone, epochs: 1, resume + ["--patch-size", "4"]), 64,
            "was taken with --patch-size 8, not --patch-size 4")
        assertRefused(
            TinyRun.distill(alone, teacher: taught + "/model.safetensors", epochs: 1, resume), 64,
            "was taken with `dmae pretrain`, not `dmae distill`")

        var known = Set(flags.map { $0.0 }).union([
            "--align", "--normalize-pixels", "--stored-orientation", "--teacher-mask-ratio", "--patch-size",
            "--crop-fraction",
            "--shuffle-window",
        ])
        known.formUnion(["--teacher-width", "--teacher-heads"])
        // Sizes by another name; what may change; what says nothing of the result.
        known.formUnion(["--student", "--decoder", "--teacher-model"])
        known.formUnion([
            "--data", "--teacher", "--unreadable-limit", "--checkpoint-every", "--keep", "--threads", "--workers",
            "--tensorboard",
            "--val", "--knn-train", "--knn-val", "--knn-every",
        ])
        known.formUnion([
            "--output", "--resume", "--dry-run", "--json", "--quiet", "--no-check", "--version", "--teacher-prefix",
            "--peer-timeout", "--allow-mixed-isa",
        ])
        known.formUnion(["--init-student", "--student-prefix", "--config", "--print-config"])
        known.insert("--help")
        let help = assertRuns(["distill", "--help"]).output.components(separatedBy: "\n").compactMap {
            $0.firstMatch(of: #/^  (?:-[a-z], )?(--[a-z0-9-]+)/#).map { String($0.1) }
        }
        XCTAssertEqual(Set(help), known)
    }

    /// A run that an earlier version started is not resumed, and stays as it is; its weights are still read.
    func testARunOfAnEarlierVersion() throws {
        let run = folder.file("run")
        assertRuns(TinyRun.pretrain(run, epochs: 4, steps))
        // As that version wrote them: without a number.
        for (name, number) in [("configuration.json", #"  "format" : 3,"#), ("model.safetensors", #"\"format\":3,"#)] {
            var bytes = try TinyRun.bytes(run + "/" + name)
            let range = try XCTUnwrap(bytes.firstRange(of: Data(number.utf8)), name)
            // Of the same length: the header of a safetensors file has a fixed one.
            bytes.replaceSubrange(range, with: Data(repeating: UInt8(ascii: " "), count: number.utf8.count))
            try bytes.write(to: URL(fileURLWithPath: run + "/" + name))
        }
        func contents() throws -> [String: Data] {
            let names = try FileManager.default.contentsOfDirectory(atPath: run)
            return try Dictionary(uniqueKeysWithValues: names.map { ($0, try TinyRun.bytes(run + "/" + $0)) })
        }
        let before = try contents()
        for more in [["--resume", "auto"], ["--resume", run + "/" + (try XCTUnwrap(TinyRun.checkpoints(run).last))]] {
            assertRefused(
                TinyRun.pretrain(run, epochs: 4, steps + more), 65,
                "is of a run that an earlier version of dmae started (format 1; this version resumes format 3): finish "
                    + "it "
                    + "with that version, or start again in another --output folder")
        }
        XCTAssertEqual(try contents(), before)

        let weights = run + "/model.safetensors"
        assertRuns(["inspect", weights])
        assertRuns(["convert", weights, folder.file("converted.safetensors"), "--to", "timm"])
        assertRuns(["embed", "--weights", weights, "--data", TinyRun.data, "--output", folder.file("features.npy")])
        let picture =
            TinyRun.data + "/" + (try FileManager.default.contentsOfDirectory(atPath: TinyRun.data).sorted()[0])
        assertRuns(["reconstruct", "--weights", weights, "--input", picture, "--output", folder.file("grid.png")])
        assertRuns(TinyRun.distill(folder.file("student"), teacher: weights, epochs: 2, steps))
    }

    /// --resume auto in an empty folder begins at the beginning, so that a job script can always give it.
    func testResumeWithoutARun() throws {
        let a = folder.file("a"), b = folder.file("b")
        let result = assertRuns(TinyRun.pretrain(a, ["--checkpoint-every", "7", "--resume", "auto"]))
        XCTAssertTrue(result.errors.contains("starting from the beginning"), result.errors)
        assertRuns(TinyRun.pretrain(b, steps))
        try assertSameRun(a, b)
    }
}
