import Foundation
import Images
import TestSupport
import Training
import Weights
import XCTest

/// What `--dry-run` says is what the run then is.
final class PlanTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// The object that `--json` prints, which stands alone on its line.
    private func plan(_ arguments: [String]) throws -> [String: Any] {
        let output = assertRuns(arguments + ["--dry-run", "--json"]).output
        XCTAssertEqual(output.filter { $0 == "\n" }.count, 1, output)
        XCTAssertTrue(output.hasSuffix("}\n"), output)
        return try XCTUnwrap(JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
    }

    /// Pictures of one colour, `side` pixels high and wide.
    private func makePictures(_ count: Int, side: Int) throws -> String {
        try FileManager.default.createDirectory(atPath: folder.file("images"), withIntermediateDirectories: true)
        for index in 0..<count {
            let bytes = [UInt8](repeating: UInt8(40 * index), count: side * side * 3)
            folder.write(
                try PNGWriter.encode(Pixels(width: side, height: side, channels: 3, bytes: bytes)),
                "images/\(index).png")
        }
        return folder.file("images")
    }

    /// Where checkpoints take a noticeable part of the time, the plan says that it does not count them.
    func testCheckpoints() throws {
        let few = TinyRun.pretrain(folder.file("run"), epochs: 1000, ["--batch", "1", "--effective-batch", "1"])
        XCTAssertEqual(try plan(few + ["--checkpoint-every", "4500"])["left_out"] as? [String], [])
        let leftOut = try XCTUnwrap(plan(few + ["--checkpoint-every", "1"])["left_out"] as? [String])
        XCTAssertEqual(leftOut.count, 1)
        XCTAssertTrue(leftOut[0].hasPrefix("the time of writing 9,000 checkpoints of "), leftOut[0])
        XCTAssertTrue(leftOut[0].hasSuffix(" each, which depends on the disk"), leftOut[0])
    }

    /// The configuration of the plan is that of the run, value for value.
    func testConfiguration() throws {
        let run = folder.file("run"), more = ["--workers", "3", "--threads", "2"]
        let plan = try plan(TinyRun.pretrain(run, epochs: 2, more))
        XCTAssertEqual(folder.names(), [], "a dry run writes nothing")
        assertRuns(TinyRun.pretrain(run, epochs: 2, more))
        let stored = try JSONSerialization.jsonObject(with: TinyRun.bytes(run + "/configuration.json"))
        XCTAssertEqual(plan["configuration"] as? NSDictionary, stored as? NSDictionary)
        XCTAssertEqual(plan["images"] as? Int, 9)
        XCTAssertEqual(plan["classes"] as? [String], [])
        XCTAssertEqual(plan["effective_batch"] as? Int, 8)
        XCTAssertEqual(plan["optimizer_steps"] as? Int, try TinyRun.log(run).count)
        XCTAssertEqual(plan["threads"] as? Int, 2)
        XCTAssertEqual(plan["workers"] as? Int, 3)
        XCTAssertEqual(plan["left_out"] as? [String], [])
        let file = try SafeTensorsFile(path: run + "/model.safetensors")
        let parameters = try XCTUnwrap(plan["parameters"] as? [String: Int])
        XCTAssertEqual(
            parameters.values.reduce(0, +),
            try file.names.reduce(0) { $0 + (try file.entry($1).shape.reduce(1, *)) })
        let seconds = try XCTUnwrap(plan["seconds"] as? [String: Double])
        let speed = try XCTUnwrap(plan["images_per_second"] as? [String: Double])
        XCTAssertEqual(seconds["step"]!, 8 / speed["computation"]!, accuracy: 1e-9)
        XCTAssertEqual(seconds["run"]!, 16 / speed["run"]!, accuracy: 1e-9)
        XCTAssertLessThanOrEqual(speed["run"]!, speed["computation"]! * (1 + 1e-9))
        let memory = try XCTUnwrap(plan["memory"] as? [String: Any])
        let resident = memory["resident"] as! Int, images = memory["images"] as! Int
        XCTAssertGreaterThan(resident, memory["planned"] as! Int + images)
        XCTAssertGreaterThanOrEqual(
            (memory["purposes"] as! [String: Int]).values.reduce(0, +), memory["planned"] as! Int)
        assertRefused(TinyRun.pretrain(folder.file("other"), ["--json"]), 64, "--json is for --dry-run")
    }

    /// Large pictures count once per worker: the peak of the resident memory is within 10 % or 16 MB of the plan's.
    /// And as a tiny model waits for them, the plan says that decoding limits the run.
    func testMemoryAndTimeOfLargePictures() throws {
        let side = 3000, data = try makePictures(4, side: side)
        // Small crops: it is decoding that counts.
        let crop = ["--minimum-crop-area", "0.001", "--maximum-crop-area", "0.002"]
        for workers in 1...2 {
            let arguments = TinyRun.pretrain(
                folder.file("run-\(workers)"), epochs: 4, data: data, crop + ["--workers", "\(workers)"])
            let plan = try plan(arguments)
            let memory = try XCTUnwrap(plan["memory"] as? [String: Any])
            let said = try XCTUnwrap(memory["resident"] as? Int)
            XCTAssertGreaterThan(try XCTUnwrap(memory["images"] as? Int), workers * side * side * 3)
            let decoding = try XCTUnwrap(plan["decoding"] as? [String: Any])
            if workers == 1 { XCTAssertEqual(decoding["is_limiting"] as? Bool, true, "\(plan)") }
            let (result, peak) = Command.measure(arguments)
            XCTAssertEqual(result.end, .exited(0), result.description)
            XCTAssertLessThanOrEqual(
                abs(said - peak), max(peak / 10, 16_000_000), "said \(said), met \(peak), \(workers) workers")
        }
        let text = assertRuns(TinyRun.pretrain("", epochs: 4, data: data, crop + ["--dry-run"])).output
        XCTAssertTrue(text.contains("peak resident memory"), text)
        XCTAssertNotNil(text.firstMatch(of: #/limited by +decoding: (--workers \d+ helps|smaller files help)\n/#), text)
    }

    /// What a picture took goes back when it is freed: after the largest, others of several sizes take no more.
    func testMemoryOfPicturesOfSeveralSizes() throws {
        let sides = [3300, 2800, 2600, 2400], names = folder.file("images")
        try FileManager.default.createDirectory(atPath: names, withIntermediateDirectories: true)
        for (index, side) in sides.enumerated() {
            let bytes = [UInt8](repeating: UInt8(40 * index), count: side * side * 3)
            folder.write(
                try PNGWriter.encode(Pixels(width: side, height: side, channels: 3, bytes: bytes)),
                "images/\(index).png")
        }
        let arguments = TinyRun.pretrain(folder.file("run"), epochs: 12, data: names, ["--workers", "2", "--quiet"])
        let memory = try XCTUnwrap(plan(arguments)["memory"] as? [String: Any])
        let said = try XCTUnwrap(memory["resident"] as? Int)
        let (result, peak) = Command.measure(arguments)
        XCTAssertEqual(result.end, .exited(0), result.description)
        XCTAssertLessThanOrEqual(abs(said - peak), max(peak / 10, 16_000_000), "said \(said), met \(peak)")
    }

    /// Evaluations are part of the time.
    func testEvaluations() throws {
        let data = try makePictures(4, side: 40)
        let plan = try plan(TinyRun.pretrain("", epochs: 10, data: data, ["--val", TinyRun.data]))
        let seconds = try XCTUnwrap(plan["seconds"] as? [String: Double])
        let speed = try XCTUnwrap(plan["images_per_second"] as? [String: Double])
        XCTAssertGreaterThan(try XCTUnwrap(seconds["evaluations"]), 0)
        XCTAssertEqual(seconds["run"]!, 40 / speed["run"]! + seconds["evaluations"]!, accuracy: 1e-9)
    }

    /// A plan says what would refuse its run, and goes on; a run's folder is left as it is.
    func testFolderThatIsNoPlace() throws {
        let data = try makePictures(4, side: 40), run = folder.file("run")
        assertRuns(TinyRun.pretrain(run, epochs: 2, data: data, ["--quiet"]))
        let before = try FileManager.default.subpathsOfDirectory(atPath: folder.path)
        for (output, reason) in [
            (
                run,
                "\"\(run)\" already holds a run; resume it with `dmae resume` or --resume auto, or name another --output"
            ),
            (data + "/run", "the run in \"\(data)/run\" would lie among the images of \"\(data)\": name an --output"),
            (
                folder.file("run.png"),
                "--output \(folder.file("run.png")): a run writes a folder, and that is the name of"
            ),
        ] {
            let result = assertRuns(TinyRun.pretrain(output, epochs: 2, data: data, ["--dry-run", "--quiet"]))
            XCTAssertTrue(result.errors.contains("warning: the run would be refused: \(reason)"), result.errors)
            XCTAssertTrue(result.output.contains("the whole run"), result.output)
        }
        XCTAssertEqual(try FileManager.default.subpathsOfDirectory(atPath: folder.path), before)
        for more in [[], ["--resume", "auto"]] {
            let output = more.isEmpty ? folder.file("new") : run
            let result = assertRuns(
                TinyRun.pretrain(output, epochs: 2, data: data, ["--dry-run", "--quiet"] + more))
            XCTAssertFalse(result.errors.contains("refused"), result.errors)
        }
    }

    /// Images that cannot be decoded are known to the plan, too.
    func testUndecodableImages() throws {
        let data = try makePictures(3, side: 40)
        for name in ["page", "other"] { folder.write("<!DOCTYPE html>".utf8, "images/\(name).png") }
        assertRefused(
            TinyRun.pretrain("", data: data, ["--dry-run", "--unreadable-limit", "0.1"]), 65,
            "2 of the 5 images in \(data) cannot be decoded")
        let allowed = assertRuns(TinyRun.pretrain("", data: data, ["--dry-run", "--unreadable-limit", "0.5"]))
        XCTAssertTrue(allowed.errors.contains("page.png"), allowed.errors)
    }
}
