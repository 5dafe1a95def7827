import Foundation
import Images
import TestSupport
import Training
import Weights
import XCTest

/// `--tensorboard` of the training commands: the points are those of the log, once each, and the run is the same.
final class TensorBoardTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// The events of a run's files, in the order in which TensorBoard reads them.
    private func events(_ run: String) throws -> [EventRead] {
        try FileManager.default.contentsOfDirectory(atPath: run + "/tensorboard").sorted().flatMap {
            try EventRead.all([UInt8](TinyRun.bytes("\(run)/tensorboard/\($0)")))
        }
    }

    /// Every tensor of a run's weights.
    private func weights(_ run: String) throws -> [String: [UInt32]] {
        let file = try SafeTensorsFile(path: run + "/model.safetensors")
        return Dictionary(uniqueKeysWithValues: try file.names.map { ($0, try file.floats($0).bits) })
    }

    /// Requires that the events hold exactly the numbers of the log.
    private func assertSameAsLog(_ run: String, line: UInt = #line) throws {
        var expected: [String] = [], found: [String] = []
        for text in try String(contentsOfFile: run + "/log.jsonl", encoding: .utf8).split(separator: "\n") {
            let object = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
            for (key, value) in object where !["step", "time", "elapsed_seconds"].contains(key) {
                let list = (value as? [Double]).map { $0.enumerated().map { ("\(key)/\($0)", $1) } }
                for (tag, number) in try list ?? [(key, XCTUnwrap(value as? Double))] {
                    expected.append("\(object["step"]!) \(tag) \(Float(number))")
                }
            }
        }
        for event in try events(run) {
            for (tag, value) in zip(event.tags, event.values) { found.append("\(event.step) \(tag) \(value)") }
        }
        XCTAssertEqual(found.count, Set(found).count, "a point stands twice", line: line)
        XCTAssertEqual(Set(found).subtracting(expected), [], line: line)
        XCTAssertEqual(Set(expected).subtracting(found), [], line: line)
    }

    private func kill(_ arguments: [String], _ run: String, afterLines count: Int) throws {
        let command = Command(arguments)
        func lines() -> Int { ((try? TinyRun.log(run)) ?? []).count }
        while command.isRunning, lines() < count { usleep(5000) }
        command.send(SIGKILL)
        XCTAssertEqual(command.wait().end, .killed(signal: SIGKILL))
    }

    /// Killed again and again: every step is there once, with its pictures, and the weights are those without the flag.
    func testKilledDistillation() throws {
        let teacher = folder.file("teacher"), plain = folder.file("plain"), run = folder.file("run")
        assertRuns(TinyRun.pretrain(teacher, epochs: 2, ["--quiet"]))
        let more = ["--quiet", "--checkpoint-every", "7", "--val", TinyRun.data]
        func distill(_ run: String, _ more: [String]) -> [String] {
            TinyRun.distill(run, teacher: teacher + "/model.safetensors", epochs: 40, more)
        }
        assertRuns(distill(plain, more))
        XCTAssertFalse(FileManager.default.fileExists(atPath: plain + "/tensorboard"))
        try kill(distill(run, more + ["--tensorboard"]), run, afterLines: 20)
        // Resumed without the flag: the run remembers it.
        try kill(["resume", run, "--quiet"], run, afterLines: 45)
        let result = assertRuns(["resume", run, "--quiet"])
        XCTAssertFalse(result.errors.contains("the run goes on"), result.errors)
        try assertSameAsLog(run)
        XCTAssertEqual(try weights(run), try weights(plain))
        XCTAssertEqual(try TinyRun.log(run), try TinyRun.log(plain))
        let all = try events(run)
        XCTAssertEqual(all.filter(\.isStart).count, 3)
        // Four pictures at each checkpoint that was not lost with a kill, and at the end.
        let drawn = all.filter { !$0.pictures.isEmpty }
        XCTAssertEqual(drawn.map(\.step), Array(Set(drawn.map(\.step))).sorted())
        XCTAssertTrue(drawn.allSatisfy { $0.step % 7 == 0 || $0.step == 45 }, "\(drawn.map(\.step))")
        XCTAssertGreaterThanOrEqual(drawn.count, 4)
        for event in drawn {
            XCTAssertEqual(event.pictures.map(\.tag), (0..<4).map { "reconstruction/\($0)" })
            for picture in event.pictures {
                let pixels = try Pixels(decoding: picture.file, named: picture.tag)
                XCTAssertEqual([pixels.width, pixels.height], [3 * 32 + 4, 32])
                XCTAssertEqual([picture.width, picture.height, picture.channels], [100, 32, 3])
            }
        }
        // The picture and its mask stay; the reconstruction changes.
        func columns(_ event: EventRead, _ range: Range<Int>) throws -> [UInt8] {
            let pixels = try Pixels(decoding: event.pictures[1].file, named: "1")
            return (0..<32).flatMap { y in
                pixels.bytes[3 * (100 * y + range.lowerBound)..<3 * (100 * y + range.upperBound)]
            }
        }
        XCTAssertEqual(try columns(drawn.first!, 0..<66), try columns(drawn.last!, 0..<66))
        XCTAssertNotEqual(try columns(drawn.first!, 68..<100), try columns(drawn.last!, 68..<100))
    }

    /// A run that began without event files may go on with them, and back.
    func testBegunLater() throws {
        let run = folder.file("run"), steps = ["--quiet", "--checkpoint-every", "3"]
        let command = Command(TinyRun.pretrain(run, epochs: 40, steps))
        while command.isRunning, ((try? TinyRun.checkpoints(run).count) ?? 0) < 2 { usleep(500) }
        command.send(SIGTERM)
        XCTAssertEqual(command.wait().end, .exited(75))
        XCTAssertFalse(FileManager.default.fileExists(atPath: run + "/tensorboard"))
        let done = try TinyRun.losses(run).count
        assertRuns(["resume", run, "--quiet", "--tensorboard"])
        let values = try events(run).filter { $0.tags.contains("loss") }
        XCTAssertEqual(values.map(\.step), Array(done + 1...45))
        XCTAssertEqual(
            values.map { $0.values[$0.tags.firstIndex(of: "loss")!] },
            try TinyRun.losses(run)[done...].map { Float($0) })
        // Back to an earlier checkpoint, without.
        let checkpoint = try TinyRun.checkpoints(run)[0]
        assertRuns(["resume", run, "--quiet", "--checkpoint", "\(run)/\(checkpoint)", "--no-tensorboard"])
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: run + "/tensorboard").count, 1)
        XCTAssertFalse(
            String(decoding: try TinyRun.bytes(run + "/configuration.json"), as: UTF8.self).contains("tensorboard"))
    }

    /// Without validation images the training images are drawn; classifiers have none.
    func testOtherCommands() throws {
        let pretrained = folder.file("pretrained")
        assertRuns(TinyRun.pretrain(pretrained, epochs: 3, ["--quiet", "--tensorboard"]))
        try assertSameAsLog(pretrained)
        XCTAssertFalse(try events(pretrained).filter { !$0.pictures.isEmpty }.isEmpty)
        // A configuration that says it is followed, and a flag goes over it.
        let configuration = pretrained + "/configuration.json", other = folder.file("other")
        assertRuns(["pretrain", "--config", configuration, "--output", other, "--quiet"])
        try assertSameAsLog(other)
        let none = folder.file("none")
        assertRuns(["pretrain", "--config", configuration, "--output", none, "--quiet", "--no-tensorboard"])
        XCTAssertFalse(FileManager.default.fileExists(atPath: none + "/tensorboard"))
        XCTAssertEqual(try TinyRun.bytes(none + "/model.safetensors").count > 0, true)

        try TinyRun.writeClasses(in: folder)
        let data = [
            "--weights", pretrained + "/model.safetensors", "--train", folder.file("train"), "--val",
            folder.file("val"), "--quiet", "--tensorboard",
        ]
        let finetuned = folder.file("finetuned"), probed = folder.file("probed")
        assertRuns(
            ["finetune", "--output", finetuned, "--recipe", "finetune-small-data", "--epochs", "3", "--warmup-epochs"]
                + ["1", "--batch", "6", "--effective-batch", "6"] + data)
        assertRuns(["probe", "--output", probed, "--epochs", "2"] + data)
        for run in [finetuned, probed] {
            try assertSameAsLog(run)
            XCTAssertTrue(try events(run).allSatisfy(\.pictures.isEmpty))
            XCTAssertTrue(try events(run).contains { $0.tags.contains("val_top1") })
        }
    }

    /// Event files that cannot be written end no run; they are files of the run.
    func testFolder() throws {
        let run = folder.file("run"), whole = folder.file("whole")
        assertRuns(TinyRun.pretrain(whole, epochs: 3, ["--quiet"]))
        try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
        folder.write([1, 2], "run/tensorboard")
        let result = assertRuns(TinyRun.pretrain(run, epochs: 3, ["--quiet", "--tensorboard"]))
        XCTAssertEqual(
            result.errors.components(separatedBy: "the run goes on, and TensorBoard may lack some of it").count, 2,
            result.errors)
        XCTAssertEqual(try weights(run), try weights(whole))
        XCTAssertEqual(folder.read("run/tensorboard"), [1, 2])

        let good = folder.file("good")
        assertRuns(TinyRun.pretrain(good, epochs: 1, ["--quiet", "--tensorboard"]))
        let file = try XCTUnwrap(FileManager.default.contentsOfDirectory(atPath: good + "/tensorboard").first)
        XCTAssertTrue(RunDirectory.isFileOfRun("\(good)/tensorboard/\(file)"))
        XCTAssertFalse(RunDirectory.isFileOfRun("\(good)/tensorboard/events"))
        // A start that fails leaves nothing behind.
        let failed = folder.file("failed")
        assertRefused(
            TinyRun.pretrain(failed, epochs: 1, data: folder.file("nothing"), ["--quiet", "--tensorboard"]), 74)
        XCTAssertFalse(FileManager.default.fileExists(atPath: failed))
    }
}
