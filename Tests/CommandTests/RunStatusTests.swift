import Foundation
import Glibc
import TestSupport
import Training
import XCTest

/// `status.json`, by which a job script learns how a run stands.
final class RunStatusTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// The status of the run in `name`, and that it is one object on one line with three keys.
    private func status(_ name: String) throws -> RunStatus {
        let data = try TinyRun.bytes(folder.file(name) + "/status.json")
        let object = try XCTUnwrap(JSONSerialization.jsonObject(with: data) as? [String: Any])
        XCTAssertEqual(Set(object.keys), ["state", "reason", "step"])
        XCTAssertEqual(data.filter { $0 == UInt8(ascii: "\n") }.count, 1)
        return try JSONDecoder().decode(RunStatus.self, from: data)
    }

    private func waitForStep(_ step: Int, _ name: String, _ command: Command) throws {
        while command.isRunning {
            let text = (try? String(contentsOfFile: folder.file(name) + "/log.jsonl", encoding: .utf8)) ?? ""
            if text.filter({ $0 == "\n" }).count >= step { return }
            usleep(500)
        }
        XCTFail(command.wait().description)
    }

    func testRunningStoppedAndFinished() throws {
        let more = ["--quiet", "--checkpoint-every", "10"]
        let command = Command(TinyRun.pretrain(folder.file("run"), epochs: 100, more))
        try waitForStep(25, "run", command)
        let running = try status("run")
        XCTAssertEqual(running.state, .running)
        XCTAssertEqual(running.reason, "process \(command.process) is training")
        XCTAssertTrue(running.step > 0 && running.step % 10 == 0, "the newest checkpoint's: \(running.step)")
        command.send(SIGTERM)
        XCTAssertEqual(command.wait().end, .exited(75))
        let stopped = try status("run")
        XCTAssertEqual(
            stopped,
            RunStatus(.resumable, reason: "stopped by SIGTERM", step: try TinyRun.log(folder.file("run")).count))
        // What is refused changes nothing.
        assertRefused(TinyRun.pretrain(folder.file("run"), epochs: 100, more), 64, "already holds a run")
        assertRefused(
            TinyRun.pretrain(folder.file("run"), epochs: 100, more + ["--resume", "auto", "--seed", "3"]), 64, "--seed")
        XCTAssertEqual(try status("run"), stopped)
        assertRuns(TinyRun.pretrain(folder.file("run"), epochs: 100, more + ["--resume", "auto"]))
        XCTAssertEqual(try status("run"), RunStatus(.finished, reason: "all 112 steps are done", step: 112))
    }

    /// A failure: its sentence, and the step it came in.
    func testFailed() throws {
        let result = Command.run(
            TinyRun.pretrain(
                folder.file("run"), epochs: 100,
                ["--base-learning-rate", "1e30", "--warmup-epochs", "50", "--checkpoint-every", "1", "--quiet"]))
        XCTAssertEqual(result.end, .exited(1))
        let status = try status("run")
        XCTAssertEqual(status.state, .failed)
        XCTAssertTrue(result.errors.contains("error: \(status.reason)\n"), "\(status.reason) in \(result.errors)")
        XCTAssertEqual(status.step, try TinyRun.log(folder.file("run")).count)
    }

    /// A killed process cannot say so: the run is `running`, and no process holds the lock.
    func testKilled() throws {
        let command = Command(TinyRun.pretrain(folder.file("run"), epochs: 300, ["--quiet"]))
        try waitForStep(5, "run", command)
        command.send(SIGKILL)
        XCTAssertEqual(command.wait().end, .killed(signal: SIGKILL))
        XCTAssertEqual(try status("run").state, .running)
        let descriptor = open(folder.file("run/lock"), O_RDONLY)
        defer { close(descriptor) }
        XCTAssertEqual(flock(descriptor, LOCK_EX | LOCK_NB), 0)
    }

    /// The process of a finished run may end before it can say so: `dmae resume` says it, and nothing else changes.
    func testFinishedButNotSaid() throws {
        assertRuns(TinyRun.pretrain(folder.file("run"), epochs: 2, ["--checkpoint-every", "1", "--quiet"]))
        let before = try TinyRun.bytes(folder.file("run/model.safetensors"))
        for status in ["{\"reason\":\"process 1 is training\",\"state\":\"running\",\"step\":1}\n", "damaged", nil] {
            unlink(folder.file("run/status.json"))
            if let status { folder.write(status.utf8, "run/status.json") }
            assertRuns(["resume", folder.file("run")])
            XCTAssertEqual(try self.status("run"), RunStatus(.finished, reason: "all 2 steps are done", step: 2))
        }
        XCTAssertEqual(try TinyRun.bytes(folder.file("run/model.safetensors")), before)
        // A damaged checkpoint says nothing of the run's images: the run goes on from the one before, to the same end.
        let last = "run/checkpoint-00000002.safetensors", whole = folder.read(last)
        folder.write(whole.dropLast(9), last)
        let resumed = assertRuns(["resume", folder.file("run")])
        XCTAssertTrue(resumed.errors.contains("warning: skipping a checkpoint: "), resumed.errors)
        XCTAssertEqual(folder.read(last), whole)
        XCTAssertEqual(try TinyRun.bytes(folder.file("run/model.safetensors")), before)
        // Without checkpoints the weights say that the run is over, and the former status how far it came.
        for name in try TinyRun.checkpoints(folder.file("run")) { unlink(folder.file("run/\(name)")) }
        for (status, step) in [
            ("{\"reason\":\"process 1 is training\",\"state\":\"running\",\"step\":1}\n", 1), ("damaged", 0),
        ] {
            folder.write(status.utf8, "run/status.json")
            assertRuns(["resume", folder.file("run")])
            XCTAssertEqual(try self.status("run"), RunStatus(.finished, reason: "its weights are written", step: step))
        }
        XCTAssertEqual(try TinyRun.bytes(folder.file("run/model.safetensors")), before)
    }

    /// Of the other commands that train, too.
    func testFinetuneAndProbe() throws {
        assertRuns(TinyRun.pretrain(folder.file("encoder"), epochs: 1, ["--quiet"]))
        for part in ["train", "val"] {
            for name in ["education", "geography"] {
                let path = folder.file("\(part)/\(name)")
                try FileManager.default.createDirectory(
                    atPath: folder.file(part), withIntermediateDirectories: true)
                try FileManager.default.createSymbolicLink(
                    atPath: path, withDestinationPath: Fixtures.path("demo/images/\(name)"))
            }
        }
        let flags = [
            "--weights", folder.file("encoder/model.safetensors"), "--train", folder.file("train"), "--val",
            folder.file("val"), "--batch", "4", "--effective-batch", "4", "--epochs", "2", "--warmup-epochs", "1",
            "--quiet",
        ]
        for command in ["finetune", "probe"] {
            let run = assertRuns([command] + flags + ["--output", folder.file(command)])
            XCTAssertTrue(
                run.output.hasSuffix(
                    "\nnext     dmae evaluate --weights \(folder.file(command))/best.safetensors --data "
                        + "\(folder.file("val"))\n"), run.output)
            XCTAssertEqual(try status(command).state, .finished)
        }
    }
}
