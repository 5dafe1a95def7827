import Foundation
import TestSupport
import XCTest

/// A run that cannot start leaves nothing behind, and what a killed one left is no obstacle.
final class FailedStartTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func contents(_ path: String) -> [String] {
        (FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []).sorted()
    }

    /// A run among other files says so, once.
    func testOtherFiles() throws {
        let kept = folder.file("kept"), said = "\(kept) holds other files, which stay as they are ("
        folder.write("no picture".utf8, "kept.txt")
        try FileManager.default.createDirectory(atPath: kept, withIntermediateDirectories: true)
        XCTAssertFalse(assertRuns(TinyRun.pretrain(folder.file("empty"), epochs: 1)).errors.contains("other files"))
        for name in ["b.txt", "a.txt"] { folder.write("mine".utf8, "kept/\(name)") }
        XCTAssertTrue(
            assertRuns(TinyRun.pretrain(kept, epochs: 1)).errors.contains(
                said + "a.txt, b.txt; files and folders: 2): a folder of its own keeps the run apart from them\n"))
        XCTAssertEqual(folder.read("kept/a.txt"), Array("mine".utf8))
        let again = assertRuns(TinyRun.pretrain(kept, epochs: 1, ["--resume", "auto"]))
        XCTAssertFalse(again.errors.contains("other files"), again.errors)
    }

    func testNothingIsLeft() throws {
        let bad = folder.file("bad")
        try FileManager.default.createDirectory(atPath: bad, withIntermediateDirectories: true)
        for number in 0..<9 { folder.write("no picture".utf8, "bad/\(number).png") }
        let teacher = folder.write("no weights".utf8, "teacher.safetensors")
        let before = contents(folder.path)
        let output = folder.file("new/deep/run")
        for (arguments, code) in [
            (TinyRun.pretrain(output, epochs: 1, ["--resume", "nope"]), 74),
            (TinyRun.pretrain(output, epochs: 1, data: bad), 65),
            (TinyRun.pretrain(output, epochs: 1, data: bad, ["--no-check"]), 65),
            (TinyRun.pretrain(output, epochs: 1, data: folder.file("gone")), 74),
            (TinyRun.distill(output, teacher: teacher, epochs: 1), 65),
        ] as [([String], Int32)] {
            assertRefused(arguments, code)
            XCTAssertEqual(contents(folder.path), before, "\(arguments)")
        }
        // In a folder that exists, with a file of its own.
        let kept = folder.file("kept")
        try FileManager.default.createDirectory(atPath: kept, withIntermediateDirectories: true)
        folder.write("mine".utf8, "kept/notes.txt")
        let now = contents(folder.path)
        assertRefused(TinyRun.pretrain(kept, epochs: 1, data: bad), 65)
        XCTAssertEqual(contents(folder.path), now)
        // Memory that is not there, where a limit can be set.
        let arguments = TinyRun.pretrain(output, epochs: 1, ["--width", "8192", "--depth", "12", "--heads", "2"])
        let words = arguments.map { "'\($0)'" }.joined(separator: " ")
        let limited = Command.run(
            ["-c", "ulimit -v 2000000; exec '\(Command.binary)' \(words)"], executable: "/bin/sh")
        XCTAssertNotEqual(limited.end, .exited(0))
        XCTAssertEqual(contents(folder.path), now, limited.description)
    }

    /// A signal before the first step, too.
    func testStoppedBeforeTheFirstStep() throws {
        let output = folder.file("run")
        let command = Command(TinyRun.pretrain(output, epochs: 1, data: Fixtures.path("demo/images"), ["--quiet"]))
        while command.isRunning, !FileManager.default.fileExists(atPath: output + "/lock") { usleep(50) }
        command.send(SIGTERM)
        let result = command.wait()
        // It may have taken a step already: then there is a checkpoint.
        XCTAssertEqual(result.end, .exited(75), result.description)
        if !contents(output).contains(where: { $0.hasPrefix("checkpoint-") }) {
            XCTAssertEqual(folder.names(), [], result.description)
        }
    }

    /// A killed run that left its configuration and log alone is started by the same command; one with a checkpoint or
    /// weights is not.
    func testStartsAgain() throws {
        let run = folder.file("run")
        let start = TinyRun.pretrain(run, epochs: 1)
        assertRuns(start + ["--quiet"])
        let whole = try TinyRun.bytes(run + "/model.safetensors"), log = try TinyRun.log(run)
        for name in contents(run) where name.hasSuffix(".safetensors") {
            assertRefused(start, 64, "already holds a run; resume it with `dmae resume`")
            try FileManager.default.removeItem(atPath: "\(run)/\(name)")
        }
        XCTAssertTrue(contents(run).contains("log.jsonl"))
        folder.write("{\"step\":1,\"epoch\":0.5}\n{\"step\":2".utf8, "run/log.jsonl")
        let result = assertRuns(start)
        XCTAssertTrue(
            result.errors.contains("\(run): an earlier run left no checkpoint: it starts again\n"), result.errors)
        XCTAssertEqual(try TinyRun.bytes(run + "/model.safetensors"), whole)
        XCTAssertEqual(try TinyRun.log(run), log)
    }

    /// The newest checkpoint of a run that is not finished stands for its weights.
    func testAFolderOfCheckpoints() throws {
        let run = folder.file("run"), picture = Fixtures.path("demo/held-out/food-lemon.jpg")
        assertRuns(TinyRun.pretrain(run, epochs: 4, ["--quiet", "--checkpoint-every", "1", "--keep", "3"]))
        let newest = try XCTUnwrap(TinyRun.checkpoints(run).last)
        XCTAssertEqual(try TinyRun.checkpoints(run).count, 3)
        assertRuns(
            ["embed", "-q", "--weights", run + "/model.safetensors", "--data", picture, "-o", folder.file("a.npy")])
        try FileManager.default.removeItem(atPath: run + "/model.safetensors")
        let said = assertRuns(["embed", "--weights", run, "--data", picture, "-o", folder.file("b.npy")])
        let step = Int(newest.dropFirst(11).prefix(8))!
        XCTAssertTrue(
            said.errors.hasPrefix("\(run) (its newest checkpoint, of step \(step)): safetensors"), said.errors)
        XCTAssertEqual(folder.read("a.npy"), folder.read("b.npy"))
        XCTAssertTrue(assertRuns(["inspect", run]).output.contains("checkpoint"), "inspect")
        assertRuns(TinyRun.distill(folder.file("student"), teacher: run, epochs: 1, ["--quiet"]))
        // Beside weights of another name nothing says which is meant.
        try FileManager.default.copyItem(atPath: "\(run)/\(newest)", toPath: run + "/other.safetensors")
        assertRefused(
            ["embed", "--weights", run, "--data", picture, "-o", folder.file("c.npy")], 65, "holds 4 files of weights",
            "name one of them")
    }
}
