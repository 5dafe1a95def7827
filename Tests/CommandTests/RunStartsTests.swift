import Foundation
import TestSupport
import Training
import XCTest

/// `starts.jsonl`: what trained a run.
final class RunStartsTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func lines(_ run: String) throws -> [[String: Any]] {
        try String(contentsOfFile: run + "/starts.jsonl", encoding: .utf8).split(separator: "\n").map {
            try XCTUnwrap(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
    }

    /// A line for each process, with its command as it was given, and what it took.
    func testLines() throws {
        let run = folder.file("a run, \"quoted\"\u{1B}[31m"),
            more = ["--checkpoint-every", "5", "--quiet", "--threads", "1"]
        let arguments = TinyRun.pretrain(run, epochs: 40, more)
        let command = Command(arguments)
        while command.isRunning, ((try? TinyRun.checkpoints(run).count) ?? 0) < 2 { usleep(500) }
        command.send(SIGKILL)
        XCTAssertEqual(command.wait().end, .killed(signal: SIGKILL))
        let resumed = ["resume", run, "--quiet", "--threads", "2", "--workers", "3"]
        assertRuns(resumed)
        let all = try lines(run), starts = all.filter { $0["command"] != nil }
        XCTAssertEqual(starts.map { $0["start"] as? Int }, [1, 2])
        XCTAssertEqual(starts.map { $0["command"] as? [String] }, [arguments, resumed].map { [Command.binary] + $0 })
        XCTAssertEqual(starts.map { $0["threads"] as? Int }, [1, 2])
        XCTAssertEqual(starts.map { $0["workers"] as? Int }, [1, 3])
        let steps = starts.compactMap { $0["step"] as? Int }
        XCTAssertEqual(steps[0], 0)
        XCTAssertTrue(steps[1] >= 5 && steps[1] % 5 == 0, "\(steps)")
        let doctor = try XCTUnwrap(
            JSONSerialization.jsonObject(with: Data(assertRuns(["doctor", "--json"]).output.utf8)) as? [String: Any])
        for key in ["version", "commit", "processor", "instruction_set"] {
            XCTAssertEqual(starts[1][key] as? String, doctor[key] as? String, key)
        }
        XCTAssertEqual(starts[1]["folder"] as? String, FileManager.default.currentDirectoryPath)
        XCTAssertNotNil((starts[1]["time"] as? String)?.wholeMatch(of: #/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/#))
        XCTAssertFalse(try XCTUnwrap(starts[1]["host"] as? String).isEmpty)
        let last = try XCTUnwrap(all.last)
        XCTAssertEqual(last["state"] as? String, "finished")
        XCTAssertEqual(last["start"] as? Int, 2)
        XCTAssertEqual(last["step"] as? Int, 45)
        let peak = try XCTUnwrap(last["peak_resident_bytes"] as? Int)
        XCTAssertTrue((1_000_000..<4_000_000_000).contains(peak), "\(peak)")
        XCTAssertFalse(try TinyRun.bytes(run + "/starts.jsonl").contains(0x1B))

        let read = RecordedStart.all(ofRunIn: run)
        XCTAssertEqual(read.map(\.start.command), [arguments, resumed].map { [Command.binary] + $0 })
        XCTAssertEqual(read[1].last?.peakResidentBytes, peak)
    }

    /// A run does not depend on the file: what is damaged or in its place is left alone, with a word.
    func testOtherFiles() throws {
        let run = folder.file("run"), steps = ["--checkpoint-every", "2", "--quiet"]
        assertRuns(TinyRun.pretrain(run, epochs: 3, steps))
        let weights = try TinyRun.bytes(run + "/model.safetensors"), text = folder.read("run/starts.jsonl")
        func again() throws -> String {
            try FileManager.default.removeItem(atPath: run + "/model.safetensors")
            let errors = assertRuns(["resume", run, "--quiet"]).errors
            XCTAssertEqual(try TinyRun.bytes(run + "/model.safetensors"), weights)
            return errors
        }
        // Cut in a line, and with zeros behind: the next line stands alone.
        folder.write(text.dropLast(9) + [0, 0, 0], "run/starts.jsonl")
        XCTAssertEqual(try again(), "")
        XCTAssertEqual(RecordedStart.all(ofRunIn: run).map(\.start.start), [1, 2])
        XCTAssertTrue(folder.read("run/starts.jsonl").starts(with: text.dropLast(9)))
        // A number beyond all bounds is not counted on from.
        let huge = String(decoding: text.prefix { $0 != 0x0A }, as: UTF8.self)
            .replacingOccurrences(of: "\"start\":1", with: "\"start\":9223372036854775807")
        folder.write(folder.read("run/starts.jsonl") + Array((huge + "\n").utf8), "run/starts.jsonl")
        XCTAssertEqual(try again(), "")
        XCTAssertEqual(RecordedStart.all(ofRunIn: run).map(\.start.start), [1, 2, .max, 3])
        let foreign = Array("mine\n".utf8)
        folder.write(foreign, "run/starts.jsonl")
        XCTAssertTrue(try again().contains("starts.jsonl\" is another program's file: move it away; the run goes on"))
        XCTAssertEqual(folder.read("run/starts.jsonl"), foreign)
        try FileManager.default.removeItem(atPath: run + "/starts.jsonl")
        folder.write(foreign, "outside")
        try FileManager.default.createSymbolicLink(
            atPath: run + "/starts.jsonl", withDestinationPath: folder.file("outside"))
        XCTAssertTrue(try again().contains("the run goes on without it"))
        XCTAssertEqual(folder.read("outside"), foreign)
        // A start that fails leaves no file.
        let failed = folder.file("failed")
        assertRefused(TinyRun.pretrain(failed, epochs: 1, data: folder.file("nothing"), ["--quiet"]), 74)
        XCTAssertFalse(FileManager.default.fileExists(atPath: failed))
    }
}
