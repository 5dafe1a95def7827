import Reporting
import Foundation
import Models
import Tensors
import TestSupport
import Training
import XCTest

final class RunLogTests: XCTestCase {
    private let folder = TemporaryFolder()
    private var path: String { folder.file("log.jsonl") }

    private static let terms = [
        LossTerm(key: "loss", name: "loss", meaning: "total"),
        LossTerm(key: "loss_reconstruction", name: "reconstruction", meaning: "pixels"),
        LossTerm(key: "loss_align", name: "alignment", meaning: "features", listCount: 2),
    ]

    private func record(_ step: Int) -> StepRecord {
        StepRecord(
            step: step, epoch: Double(step) / 3, losses: [0.1, 0.05, 0.025, 1e-10],
            learningRate: 1.5e-4, gradientNorm: 12.5, imagesPerSecond: 100)
    }

    /// A log whose clocks stand still.
    private func openLog(after step: Int, keepsEvaluation: Bool = true) throws -> RunLog {
        var clock = RunLog.Clock()
        clock.time = { 1_770_091_506 }
        var reads = 0
        clock.seconds = {
            reads += 1
            return reads == 1 ? 10 : 11.25
        }
        return try RunLog(
            path: path, after: step, keepsEvaluation: keepsEvaluation, terms: Self.terms, clock: clock)
    }

    /// Evaluations have a line of their own after the step's; a resumed run may drop that line alone.
    func testEvaluations() throws {
        let top1 = EvaluationTerm(key: "val_top1", name: "top-1", meaning: "", isFraction: true)
        let values = [(term: top1, value: 0.5)]
        let log = try openLog(after: 0)
        try log.append(record(1))
        let first = folder.read("log.jsonl").count
        try log.append(EvaluationRecord(step: 1, epoch: 0.5, values: values))
        let evaluated = folder.read("log.jsonl")
        XCTAssertEqual(
            String(decoding: evaluated[first...], as: UTF8.self),
            """
            {"step":1,"epoch":0.5,"val_top1":0.5,"time":"2026-02-03T04:05:06Z","elapsed_seconds":1.25}

            """)
        try log.append(record(2))
        try log.append(record(3))
        let summary = try RunSummary(log: path, terms: Self.terms)
        XCTAssertEqual(summary.rows.map(\.step), [1, 2, 3])
        XCTAssertEqual(summary.evaluations.map(\.step), [1])
        XCTAssertEqual(summary.evaluations.map(\.values), [["val_top1": 0.5]])
        _ = try openLog(after: 1)
        XCTAssertEqual(folder.read("log.jsonl"), evaluated)
        _ = try openLog(after: 1, keepsEvaluation: false)
        XCTAssertEqual(folder.read("log.jsonl"), Array(evaluated[..<first]))
    }

    func testOneObjectPerStep() throws {
        let log = try openLog(after: 0)
        try log.append(record(1))
        var second = record(2)
        second.losses = [.nan, .infinity, 0, -.infinity]
        try log.append(second)
        try log.synchronize()
        XCTAssertEqual(
            String(decoding: folder.read("log.jsonl"), as: UTF8.self),
            """
            {"step":1,"epoch":0.3333333333333333,"loss":0.1,"loss_reconstruction":0.05,"loss_align":[0.025,1e-10],\
            "learning_rate":0.00015,"gradient_norm":12.5,"images_per_second":100.0,\
            "time":"2026-02-03T04:05:06Z","elapsed_seconds":1.25}
            {"step":2,"epoch":0.6666666666666666,"loss":null,"loss_reconstruction":null,"loss_align":[0.0,null],\
            "learning_rate":0.00015,"gradient_norm":12.5,"images_per_second":100.0,\
            "time":"2026-02-03T04:05:06Z","elapsed_seconds":1.25}

            """)
    }

    /// Any finite float is written so that a JSON reader gets the same bits back.
    func testNumbersReadBackExactly() throws {
        let seed: UInt64 = 7
        print("seed \(seed)")
        var random = CounterRandom(seed: seed, purpose: .test)
        var records: [StepRecord] = []
        let log = try openLog(after: 0)
        for step in 1...500 {
            func float() -> Float {
                let value = Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
                return value.isFinite ? value : -0.0
            }
            var record = record(step)
            record.losses = (0..<4).map { _ in float() }
            record.epoch = Double(step) * 0.1 / 3
            record.learningRate = random.uniform(0, 1) * 1e-6
            records.append(record)
            try log.append(record)
        }
        let lines = folder.read("log.jsonl").split(separator: 0x0A)
        XCTAssertEqual(lines.count, records.count)
        for (line, record) in zip(lines, records) {
            // Not JSONSerialization: on Linux it loses the last bits of a number.
            let object = try JSONDecoder().decode(Line.self, from: Data(line))
            XCTAssertEqual(object.step, record.step)
            XCTAssertEqual(object.epoch, record.epoch)
            XCTAssertEqual(object.learning_rate, record.learningRate)
            XCTAssertEqual(
                ([object.loss, object.loss_reconstruction] + object.loss_align).map(\.bitPattern),
                record.losses.map(\.bitPattern))
            XCTAssertEqual(object.gradient_norm, record.gradientNorm)
            XCTAssertEqual(object.images_per_second, record.imagesPerSecond)
        }
    }

    private struct Line: Decodable {
        let step: Int
        let epoch, learning_rate: Double
        let loss, loss_reconstruction, gradient_norm, images_per_second: Float
        let loss_align: [Float]
    }

    /// Wherever the log was cut and whatever the checkpoint, what stays is the whole lines up to the checkpoint's step.
    func testResumeCutsLaterAndTornLines() throws {
        let whole = try openLog(after: 0)
        for step in 1...12 { try whole.append(record(step)) }
        let bytes = folder.read("log.jsonl")
        let ends = bytes.indices.filter { bytes[$0] == 0x0A }.map { $0 + 1 }
        for length in 0...bytes.count {
            for step in [0, 1, 9, 10, 12, 99] {
                folder.write(bytes[..<length], "log.jsonl")
                _ = try openLog(after: step)
                let kept = ends.prefix(step).last { $0 <= length } ?? 0
                XCTAssertEqual(folder.read("log.jsonl").count, kept, "cut at \(length), resumed after \(step)")
            }
        }
        folder.write(bytes[..<(bytes.count - 5)], "log.jsonl")
        let resumed = try openLog(after: 7)
        for step in 8...12 { try resumed.append(record(step)) }
        XCTAssertEqual(folder.read("log.jsonl"), bytes)
    }

    /// Files of others called log.jsonl are neither followed nor cut.
    func testForeignLogs() throws {
        folder.write("precious".utf8, "precious.txt")
        let path = folder.file("log.jsonl")
        for make in [
            { symlink(self.folder.file("precious.txt"), path) }, { mkfifo(path, 0o600) },
            { FileManager.default.createFile(atPath: path, contents: Data("mine".utf8)) ? 0 : 1 },
            {
                let text = #"{"step":1,"loss":0.5}"# + "\n"
                return FileManager.default.createFile(atPath: path, contents: Data(text.utf8)) ? 0 : 1
            },
            {
                let text = "A diary that somebody else keeps under this name.\n"
                return FileManager.default.createFile(atPath: path, contents: Data(text.utf8)) ? 0 : 1
            },
        ] as [() -> Int32] {
            XCTAssertEqual(make(), 0)
            for step in [0, 3] {
                let failure = failure { _ = try RunLog(path: path, after: step, terms: Self.terms) }
                XCTAssertEqual(failure?.code, .inputOutput)
                XCTAssertTrue(failure?.message.contains("not the log of a run") == true, "\(failure as Any)")
            }
            unlink(path)
        }
        XCTAssertEqual(folder.read("precious.txt"), Array("precious".utf8))
    }

    /// Damaged lines are set aside and named, and the steps without a line are said; the others stay as they were.
    func testDamagedLinesAreSetAside() throws {
        let whole = try openLog(after: 0)
        for step in 1...9 { try whole.append(record(step)) }
        let lines = folder.read("log.jsonl").split(separator: 0x0A).map { Array($0) + [0x0A] }
        var damaged = lines
        damaged[3][2] = 0
        damaged[4] = Array("{\"step\":5,\"ep".utf8) + [0x0A]
        folder.write(damaged.joined(), "log.jsonl")
        let resumed = try openLog(after: 8)
        XCTAssertEqual(
            resumed.notes.map(\.description),
            [
                "\(path): damaged lines were moved to \(folder.file("log.damaged-8.jsonl")) (lines: 2); the run goes on "
                    + "without them",
                "\(path) has no lines of steps 4 to 5: tables and curves lack them, the run itself does not",
            ])
        XCTAssertEqual(folder.read("log.damaged-8.jsonl"), damaged[3] + damaged[4])
        try resumed.append(record(9))
        XCTAssertEqual(folder.read("log.jsonl"), Array((lines[..<3] + lines[5...]).joined()))
        // The next time, too: what was set aside before stays.
        let before = folder.read("log.damaged-8.jsonl")
        folder.write((lines[..<8] + [Array("{\"step\":1,x}\n".utf8)] + lines[7..<8]).joined(), "log.jsonl")
        XCTAssertEqual(
            try openLog(after: 8).notes.map(\.description),
            [
                "\(path): damaged lines were moved to \(folder.file("log.damaged-8-1.jsonl")) (lines: 1); the run goes "
                    + "on without them"
            ])
        XCTAssertEqual(folder.read("log.damaged-8-1.jsonl"), Array("{\"step\":1,x}\n".utf8))
        XCTAssertEqual(folder.read("log.damaged-8.jsonl"), before)
        // A log that was cut or removed.
        folder.write(lines[..<6].joined(), "log.jsonl")
        XCTAssertEqual(
            try openLog(after: 8).notes.map(\.description),
            ["\(path) has no lines of steps 7 to 8: tables and curves lack them, the run itself does not"])
        folder.write((lines[..<1] + lines[2..<4] + lines[6...]).joined(), "log.jsonl")
        XCTAssertEqual(
            try openLog(after: 9).notes.map(\.description),
            ["\(path) has no lines of step 2, and of 2 others: tables and curves lack them, the run itself does not"])
        folder.write(lines.joined(), "log.jsonl")
        XCTAssertEqual(try openLog(after: 9).notes.count, 0)
        XCTAssertEqual(folder.read("log.jsonl"), Array(lines.joined()))
        // What cannot be decoded is left out of the table at the end.
        folder.write((lines[..<1] + [Array("{\"step\":2,\"epoch\":x}\n".utf8)] + lines[2...]).joined(), "log.jsonl")
        let summary = try RunSummary(log: path, terms: Self.terms)
        XCTAssertEqual(summary.unreadableLines, 1)
        XCTAssertEqual(summary.rows.last?.step, 9)
    }

    func testZeroedTailIsCut() throws {
        let log = try openLog(after: 0)
        for step in 1...2 { try log.append(record(step)) }
        let bytes = folder.read("log.jsonl")
        folder.write(bytes + [UInt8](repeating: 0, count: 4096) + [0x0A], "log.jsonl")
        _ = try openLog(after: 5)
        XCTAssertEqual(folder.read("log.jsonl"), bytes)
    }

    func testFullDiskAndMissingFolder() throws {
        let log = try openLog(after: 0)
        try log.append(record(1))
        XCTAssertEqual(
            TemporaryFolder.limitingFileSize(to: 300) { failure { try log.append(record(2)) } },
            Failure(
                .inputOutput,
                "cannot write \"\(path)\": File too large; raise the limit on the size of files (ulimit -f)"))
        let absent = folder.file("absent/log.jsonl")
        XCTAssertEqual(
            failure { _ = try RunLog(path: absent, after: 0, terms: Self.terms) },
            Failure(
                .inputOutput,
                "cannot write \"\(absent)\": No such file or directory; create its folder first"))
    }

    /// A summary needs neither finite numbers nor whole lines; what is missing is no number.
    func testSummaryOfGaps() throws {
        let end = #""learning_rate":0.1,"gradient_norm":1,"images_per_second":null,"time":"x","elapsed_seconds":1}"#
        folder.write(
            """
            {"step":1,"epoch":0.5,"loss":null,"loss_reconstruction":0.5,"loss_align":[null,0.25],\(end)
            {"step":1,"epoch":0.5,"val_top1":null,"val_loss":2,"time":"x","elapsed_seconds":1}
            {"step":2,"epoch":1,"loss":1,"loss_reconstruction":0.5,"loss_align":[0.25],\(end)

            """.utf8, "log.jsonl")
        let summary = try RunSummary(log: path, terms: Self.terms)
        XCTAssertEqual(summary.unreadableLines, 1)
        XCTAssertEqual(summary.rows.map(\.step), [1])
        XCTAssertEqual(summary.rows[0].losses.map(\.description), ["nan", "0.5", "nan", "0.25"])
        XCTAssertEqual(summary.rows[0].imagesPerSecond, 0)
        XCTAssertEqual(
            summary.evaluations[0].values.mapValues(\.description), ["val_top1": "nan", "val_loss": "2.0"])
        folder.write([], "log.jsonl")
        let empty = try RunSummary(log: path, terms: Self.terms)
        XCTAssertEqual(empty.rows.count, 0)
        XCTAssertEqual(empty.unreadableLines, 0)
    }
}
