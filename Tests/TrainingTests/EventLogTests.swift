import Foundation
import Images
import Models
import Reporting
import TestSupport
import Training
import XCTest

/// The event files for TensorBoard, read by `EventRead`.
final class EventLogTests: XCTestCase {
    private let folder = TemporaryFolder()
    private var path: String { folder.file("tensorboard") }
    private var reports: [String] = []
    private var clock = 1_770_091_506.25

    private static let terms = [
        LossTerm(key: "loss", name: "loss", meaning: "total"),
        LossTerm(key: "loss_align", name: "alignment", meaning: "features", listCount: 2),
    ]
    private static let top1 = EvaluationTerm(key: "val_top1", name: "top-1", meaning: "", isFraction: true)

    private func open(after step: Int, keepsEvaluation: Bool = true) -> EventLog {
        EventLog(
            in: path, after: step, keepsEvaluation: keepsEvaluation, terms: Self.terms, time: { self.clock },
            report: { self.reports.append("\($0)") })
    }

    private func record(_ step: Int) -> StepRecord {
        StepRecord(
            step: step, epoch: Double(step) / 4, losses: [1 / Float(step), 0.5, 0.25], learningRate: 1e-4,
            gradientNorm: 12.5, imagesPerSecond: 100)
    }

    private func evaluation(_ step: Int) -> EvaluationRecord {
        EvaluationRecord(step: step, epoch: 1, values: [(Self.top1, 0.75)])
    }

    private var files: [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
    }

    /// The events of all files, in the order in which TensorBoard reads them.
    private func events() throws -> [EventRead] {
        try files.flatMap { try EventRead.all(folder.read("tensorboard/" + $0)) }
    }

    /// The steps of the values under a tag.
    private func steps(_ tag: String) throws -> [Int] {
        try events().filter { $0.tags.contains(tag) || $0.pictures.contains { $0.tag == tag } }.map(\.step)
    }

    func testEvents() throws {
        let log = open(after: 0)
        log.append(record(1))
        var second = record(2)
        second.losses = [.nan, .infinity, 0]
        log.append(second)
        log.append(evaluation(2))
        let picture = Pixels(width: 3, height: 2, channels: 3, bytes: (0..<18).map { UInt8(10 * $0) })
        log.append([("reconstruction/0", picture)], step: 300)
        XCTAssertEqual(files, ["events.out.tfevents.1770091506.dmae"])
        let events = try events()
        XCTAssertEqual(events.map(\.time), Array(repeating: clock, count: 6))
        XCTAssertEqual(events.map(\.step), [0, 1, 1, 2, 2, 300])
        XCTAssertEqual(events[0].version, "brain.Event:2")
        XCTAssertTrue(events[1].isStart)
        XCTAssertEqual(
            events[2].tags,
            ["epoch", "loss", "loss_align/0", "loss_align/1", "learning_rate", "gradient_norm", "images_per_second"])
        XCTAssertEqual(events[2].values, [0.25, 1, 0.5, 0.25, 1e-4, 12.5, 100])
        XCTAssertTrue(events[3].values[1].isNaN)
        XCTAssertEqual(events[3].values[2], .infinity)
        XCTAssertEqual(events[4].tags, ["val_top1"])
        XCTAssertEqual(events[4].values, [0.75])
        let drawn = try XCTUnwrap(events[5].pictures.first)
        XCTAssertEqual([drawn.width, drawn.height, drawn.channels], [3, 2, 3])
        XCTAssertEqual(try Pixels(decoding: drawn.file, named: drawn.tag, channels: 3).bytes, picture.bytes)
        XCTAssertEqual(reports, [])
    }

    /// After any number of kills and resumptions no step stands twice in any file, and none is missing.
    func testResuming() throws {
        // Where each process begins and where it is killed; the clock stands still, or goes back.
        for (after, end) in [(0, 7), (0, 3), (2, 9), (4, 4), (4, 12), (12, 13), (10, 14)] {
            clock -= 1
            let log = open(after: after)
            for step in after + 1..<max(after, end) + 1 {
                log.append(record(step))
                if step % 2 == 0 {
                    log.append(evaluation(step))
                    log.append(
                        [("reconstruction/0", Pixels(width: 1, height: 1, channels: 1, bytes: [7]))], step: step)
                }
            }
            XCTAssertEqual(try steps("loss"), Array(1..<max(after, end) + 1), "after \(after), to \(end)")
            XCTAssertEqual(try steps("val_top1"), (1..<max(after, end) + 1).filter { $0 % 2 == 0 })
            XCTAssertEqual(try steps("reconstruction/0"), (1..<max(after, end) + 1).filter { $0 % 2 == 0 })
            let last = try EventRead.all(folder.read("tensorboard/" + files.last!))
            XCTAssertEqual(last[1].step, after + 1, "readers are told where the process begins")
            XCTAssertTrue(last[1].isStart)
        }
        XCTAssertEqual(files.count, 7)
        // The evaluation of the step itself is to be done again.
        _ = open(after: 14, keepsEvaluation: false)
        XCTAssertEqual(try steps("loss"), Array(1...14))
        XCTAssertEqual(try steps("val_top1"), [2, 4, 6, 8, 10, 12])
        XCTAssertEqual(reports, [])
    }

    /// A file may end anywhere, or hold what a disk has damaged: what is whole before that stays.
    func testDamage() throws {
        var log: EventLog? = open(after: 0)
        for step in 1...4 { log?.append(record(step)) }
        log = nil
        let name = "tensorboard/" + files[0], whole = folder.read(name)
        for length in stride(from: 0, through: whole.count, by: 7) {
            folder.write(whole[..<length], name)
            _ = open(after: 4)
            let kept = try EventRead.all(folder.read(name))
            XCTAssertEqual(kept, Array(try EventRead.all(whole).prefix(kept.count)))
            XCTAssertLessThan(length - folder.read(name).count, 220)
            try FileManager.default.removeItem(atPath: path + "/" + files[1])
        }
        var damaged = whole
        damaged[whole.count - 30] ^= 1
        folder.write(damaged + [UInt8](repeating: 0, count: 512), name)
        _ = open(after: 4)
        XCTAssertEqual(try EventRead.all(folder.read(name)).map(\.step), [0, 1, 1, 2, 3])
        // Files of others stay as they are.
        for other in [
            "events.out.tfevents.1770091506.host.1.0", "notes.txt", "events.out.tfevents.9223372036854775807.dmae",
        ] {
            folder.write([1, 2, 3], "tensorboard/" + other)
        }
        _ = open(after: 0)
        XCTAssertEqual(folder.read("tensorboard/notes.txt"), [1, 2, 3])
        XCTAssertEqual(folder.read("tensorboard/events.out.tfevents.1770091506.host.1.0"), [1, 2, 3])
        XCTAssertEqual(reports, [])
    }

    /// What fails is said once; what was written stays readable, and goes on when there is space again.
    func testFailures() throws {
        let log = open(after: 0)
        log.append(record(1))
        let length = folder.read("tensorboard/" + files[0]).count
        TemporaryFolder.limitingFileSize(to: length + 50) {
            log.append(record(2))
            log.append(record(3))
        }
        XCTAssertEqual(reports.count, 1, "\(reports)")
        XCTAssertTrue(reports[0].hasSuffix("the run goes on, and TensorBoard may lack some of it"), reports[0])
        log.append(record(4))
        XCTAssertEqual(try steps("loss"), [1, 4])
        reports = []
        folder.write([1], "file")
        let none = EventLog(
            in: folder.file("file"), after: 0, keepsEvaluation: true, terms: Self.terms,
            report: { self.reports.append("\($0)") })
        none.append(record(1))
        none.append(evaluation(1))
        XCTAssertEqual(reports.count, 1, "\(reports)")
        XCTAssertEqual(folder.read("file"), [1])
        // Nothing is written through links, of folders or of files.
        try FileManager.default.createDirectory(atPath: folder.file("elsewhere"), withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(
            atPath: folder.file("link"), withDestinationPath: folder.file("elsewhere"))
        reports = []
        EventLog(
            in: folder.file("link"), after: 0, keepsEvaluation: true, terms: Self.terms,
            report: { self.reports.append("\($0)") }
        ).append(record(1))
        XCTAssertEqual(reports.count, 1, "\(reports)")
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: folder.file("elsewhere")), [])
        let linked = "tensorboard/events.out.tfevents.1000000000.dmae"
        try FileManager.default.createSymbolicLink(
            atPath: folder.file(linked), withDestinationPath: folder.file("file"))
        reports = []
        open(after: 0).append(record(1))
        XCTAssertEqual(reports.count, 1, "\(reports)")
        XCTAssertEqual(folder.read("file"), [1])
    }
}
