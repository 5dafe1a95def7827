import Foundation
import Models
import Training
import XCTest

final class ProgressLineTests: XCTestCase {
    /// A world under control.
    private final class World: @unchecked Sendable {
        var text = ""
        var time = 0.0
        var width = 200

        func line(terminal: Bool, color: Bool = false, total: Int = 1000, batches: Int = 1) -> ProgressLine {
            ProgressLine(
                totalSteps: total, terms: ProgressLineTests.terms, batches: batches, batchImages: 32,
                remedy: "more workers",
                surroundings: .init(
                    isTerminal: terminal, hasColor: color, width: { self.width }, clock: { self.time },
                    timeOfDay: { "2026-01-31 12:00:00" }, residentBytes: { 1_234_000_000 }, write: { self.text += $0 }))
        }

        func take() -> String {
            defer { text = "" }
            return text
        }
    }

    private static let terms = [
        LossTerm(key: "loss", name: "loss", meaning: "total"),
        LossTerm(key: "loss_reconstruction", name: "reconstruction", meaning: "pixels"),
        LossTerm(key: "loss_align", name: "alignment", meaning: "features", listCount: 2),
    ]

    private func record(_ step: Int) -> StepRecord {
        StepRecord(
            step: step, epoch: 1.5, losses: [0.6124, 0.5, 0.1, 0.0123], learningRate: 1e-4,
            gradientNorm: 1, imagesPerSecond: 12.34)
    }

    func testTheWholeLine() {
        let world = World()
        let line = world.line(terminal: true)
        line.update(record(1))
        XCTAssertEqual(
            world.take(),
            "\rstep 1/1000  epoch 1.50  loss 0.6124  (reconstruction 0.5000, alignment 0.1000 0.0123)  12.3 images/s  "
                + "1.23 GB\u{1B}[K"
        )
        world.time = 100
        line.update(record(11))
        XCTAssertEqual(
            world.take(),
            "\rstep 11/1000  epoch 1.50  loss 0.6124  (reconstruction 0.5000, alignment 0.1000 0.0123)  12.3 images/s  "
                + "1.23 GB"
                + "  2 h 44 min left\u{1B}[K")
        line.finish()
        XCTAssertEqual(world.take(), "\n")
    }

    /// Within a step of several batches the line counts them, before the first step too, and tells the time left from
    /// them until there are steps.
    func testBatchesOfAStep() {
        let world = World()
        let line = world.line(terminal: true, total: 4, batches: 8)
        line.begin(step: 0, batch: 0)
        XCTAssertEqual(world.take(), "\rstep 0/4  batch 0/8  1.23 GB\u{1B}[K")
        world.time = 10
        line.update(batch: 1, waited: 2)
        XCTAssertEqual(world.take(), "\rstep 0/4  batch 1/8  3.2 images/s  1.23 GB\u{1B}[K")
        world.time = 20
        line.update(batch: 2, waited: 2)
        XCTAssertEqual(world.take(), "\rstep 0/4  batch 2/8  3.2 images/s  1.23 GB  5 min 0 s left\u{1B}[K")
        // No drawing within an interval, nor for the last batch, which the step follows.
        world.time = 20.05
        line.update(batch: 3, waited: 2)
        world.time = 30
        line.update(batch: 8, waited: 2)
        XCTAssertEqual(world.take(), "")
        line.update(record(1))
        XCTAssertTrue(world.take().hasPrefix("\rstep 1/4  epoch 1.50  loss"))
        world.time = 70
        line.update(record(2))
        world.time = 90
        _ = world.take()
        line.update(batch: 4, waited: 2)
        let text = world.take()
        XCTAssertTrue(text.hasPrefix("\rstep 2/4  batch 4/8  epoch 1.50  loss 0.6124"), text)
        XCTAssertTrue(text.contains("12.3 images/s  1.23 GB  1 min 0 s left"), "1.5 steps of 40 s: \(text)")
    }

    /// A run that goes on within a step does not count the batches of another process as its own.
    func testResumedWithinAStep() {
        let world = World()
        let line = world.line(terminal: true, total: 10, batches: 8)
        line.begin(step: 5, batch: 6)
        XCTAssertTrue(world.take().hasPrefix("\rstep 5/10  batch 6/8  1.23 GB"))
        world.time = 10
        line.update(batch: 7, waited: 0)
        XCTAssertEqual(world.take(), "\rstep 5/10  batch 7/8  3.2 images/s  1.23 GB\u{1B}[K")
        let finished = world.line(terminal: true, total: 10)
        finished.begin(step: 10, batch: 0)
        XCTAssertEqual(world.take(), "")
    }

    /// A fifth of the time or more that is spent waiting for images is shown with the remedy; a long wait at once.
    func testWaitingForImages() {
        let world = World()
        let line = world.line(terminal: true, total: 100)
        line.begin(step: 0, batch: 0)
        world.time = 100
        line.update(batch: 1, waited: 100)
        line.update(record(1))
        XCTAssertFalse(world.take().contains("%"), "the first batch is always waited for")
        world.time = 110
        line.update(batch: 1, waited: 106.3)
        line.update(record(2))
        XCTAssertTrue(
            world.take().contains("0.0123)  waiting for images 63 % (more workers)  12.3 images/s"), world.text)
        world.time = 120
        line.update(batch: 1, waited: 107.3)
        line.update(record(3))
        XCTAssertFalse(world.take().contains("waiting"))
        line.waitsForImages()
        world.time = 120.8
        line.waitsForImages()
        XCTAssertEqual(world.take(), "")
        world.time = 121.2
        line.waitsForImages()
        let text = world.take()
        XCTAssertTrue(text.hasPrefix("\rstep 3/100"), text)
        XCTAssertTrue(text.contains("waiting for images  12.3 images/s"), text)
        world.time = 122
        line.update(batch: 1, waited: 109)
        line.update(record(4))
        XCTAssertFalse(world.take().contains("waiting for images  "))
    }

    /// Plain lines have the time of day and the time since the start.
    func testPlainLinesHaveTheTime() {
        let world = World()
        let line = world.line(terminal: false, total: 4, batches: 8)
        world.time = 3
        line.begin(step: 0, batch: 0)
        XCTAssertEqual(
            world.take(), "2026-01-31 12:00:00  step 0/4  batch 0/8  1.23 GB  3 s elapsed\n")
        world.time = 9
        line.update(batch: 1, waited: 0)
        XCTAssertEqual(world.take(), "")
        world.time = 100
        line.update(batch: 2, waited: 0)
        XCTAssertEqual(
            world.take(),
            "2026-01-31 12:00:00  step 0/4  batch 2/8  0.7 images/s  1.23 GB  1 min 40 s elapsed  24 min 15 s left\n")
        line.message("features", isTimed: true)
        line.message("a warning")
        XCTAssertEqual(world.take(), "2026-01-31 12:00:00  features\na warning\n")
        let terminal = world.line(terminal: true)
        terminal.message("features", isTimed: true)
        XCTAssertEqual(world.take(), "features\n")
    }

    private func evaluation(_ step: Int, _ values: [(key: String, value: Double, isFraction: Bool)]) -> EvaluationRecord
    {
        EvaluationRecord(
            step: step, epoch: Double(step) / 10,
            values: values.map {
                (EvaluationTerm(key: $0.key, name: $0.key, meaning: "", isFraction: $0.isFraction), $0.value)
            })
    }

    /// At a terminal the line has the first value and the first fraction, each with the epoch that it is of.
    func testEvaluationsAtATerminal() {
        let world = World()
        let line = world.line(terminal: true)
        line.update(record(1))
        line.update(evaluation(15, [("validation loss", 0.25, false), ("k-NN", 0.5, true)]))
        line.update(evaluation(200, [("validation loss", 0.125, false)]))
        let shown = world.take().components(separatedBy: "\r").last!
        XCTAssertTrue(shown.contains("validation loss 0.1250 (epoch 20)  k-NN 50.00 % (epoch 1.5)"), shown)
        XCTAssertTrue(shown.contains("0.0123)  validation loss"), shown)
    }

    /// Elsewhere an evaluation has a line: the first one, one with something new, one in ten seconds, and the last.
    func testEvaluationsElsewhere() {
        let world = World()
        let line = world.line(terminal: false, total: 100)
        line.update(record(1))
        _ = world.take()
        line.update(evaluation(10, [("top-1", 0.25, true), ("validation loss", 1.5, false)]))
        XCTAssertEqual(
            world.take(), "2026-01-31 12:00:00  evaluation  epoch 1.00  top-1 25.00 %  validation loss 1.5000\n")
        world.time = 5
        line.update(evaluation(20, [("top-1", 0.5, true)]))
        XCTAssertEqual(world.take(), "")
        line.update(evaluation(30, [("top-1", 0.5, true), ("k-NN", 0.5, true)]))
        XCTAssertEqual(world.take(), "2026-01-31 12:00:00  evaluation  epoch 3.00  top-1 50.00 %  k-NN 50.00 %\n")
        world.time = 14
        line.update(evaluation(40, [("top-1", 0.5, true)]))
        XCTAssertEqual(world.take(), "")
        world.time = 15
        line.update(evaluation(50, [("top-1", 0.5, true)]))
        XCTAssertEqual(world.take(), "2026-01-31 12:00:00  evaluation  epoch 5.00  top-1 50.00 %\n")
        line.update(evaluation(100, [("top-1", 0.5, true)]))
        XCTAssertEqual(world.take(), "2026-01-31 12:00:00  evaluation  epoch 10.00  top-1 50.00 %\n")
    }

    func testTimeLeft() {
        for (perStep, text) in [(0.01, "10 s"), (0.1, "1 min 40 s"), (3.6005, "1 h 0 min"), (86.4 * 2.5, "2 d 12 h")] {
            let world = World()
            let line = world.line(terminal: true, total: 1002)
            line.update(record(1))
            world.time = perStep
            line.update(record(2))
            world.time = max(perStep, 1)
            line.message("m")
            XCTAssertTrue(world.take().contains("  \(text) left"), "\(perStep) s a step")
        }
    }

    /// It never reaches the last column, and what matters most goes last.
    func testFitsTheTerminal() {
        let world = World()
        let whole = 110
        for width in 0...140 {
            world.width = width
            let line = world.line(terminal: true)
            line.update(record(1))
            let text = world.take().dropFirst().replacingOccurrences(of: "\u{1B}[K", with: "")
            XCTAssertLessThanOrEqual(text.count, max(0, width - 1), "width \(width)")
            if width >= 12 { XCTAssertTrue(text.hasPrefix("step 1/1000"), text) }
            if width >= 26 { XCTAssertTrue(text.contains("loss 0.6124"), text) }
            if width <= whole / 2 { XCTAssertFalse(text.contains("reconstruction"), text) }
        }
    }

    func testAtATerminalTenTimesASecondAtMost() {
        let world = World()
        let line = world.line(terminal: true)
        var drawn = 0
        for step in 1...1000 {
            world.time = Double(step) * 0.01
            line.update(record(step))
            if !world.take().isEmpty { drawn += 1 }
        }
        // Steps 1, 11 … 991, and the last; rounding of the clock may let one slip to the next step each time.
        XCTAssertTrue((90...102).contains(drawn), "\(drawn)")
    }

    func testElsewhereAPlainLineEveryTenSeconds() {
        let world = World()
        let line = world.line(terminal: false, color: true, total: 100)
        for step in 1...100 {
            world.time = Double(step)
            line.update(record(step))
        }
        line.finish()
        let lines = world.take().split(separator: "\n", omittingEmptySubsequences: false)
        XCTAssertEqual(
            lines.map { $0.split(separator: " ").dropFirst(3).first.map(String.init) },
            [
                "1/100", "11/100", "21/100", "31/100", "41/100", "51/100", "61/100", "71/100", "81/100", "91/100",
                "100/100", nil,
            ])
        XCTAssertFalse(lines.joined().contains { $0 == "\u{1B}" || $0 == "\r" })
        XCTAssertTrue(lines[1].hasSuffix("  1 min 29 s left"), String(lines[1]))
    }

    /// Stopped early, the last step is shown, once.
    func testFinishShowsTheLastStep() {
        let world = World()
        let line = world.line(terminal: false)
        for step in 1...3 { line.update(record(step)) }
        XCTAssertTrue(world.take().contains("  step 1/1000"))
        line.finish()
        XCTAssertTrue(world.take().contains("  step 3/1000"))
        line.finish()
        XCTAssertEqual(world.take(), "")
    }

    func testMessagesGoAboveTheLine() {
        let world = World()
        let plain = world.line(terminal: false)
        plain.message("before")
        plain.update(record(1))
        XCTAssertTrue(world.take().hasPrefix("before\n2026-01-31 12:00:00  step 1/1000  "))
        plain.message("after")
        XCTAssertEqual(world.take(), "after\n")

        world.width = 12
        let line = world.line(terminal: true)
        line.message("before")
        XCTAssertEqual(world.take(), "before\n")
        line.update(record(1))
        XCTAssertEqual(world.take(), "\rstep 1/1000\u{1B}[K")
        line.message("between")
        XCTAssertEqual(world.take(), "\r\u{1B}[Kbetween\n\rstep 1/1000\u{1B}[K")
        line.finish()
        line.message("after")
        XCTAssertEqual(world.take(), "\nafter\n")
    }

    func testColorOnlyWhereWanted() {
        let world = World()
        world.line(terminal: true, color: true).update(record(1))
        XCTAssertTrue(world.take().contains("\u{1B}[2m(reconstruction 0.5000, alignment 0.1000 0.0123)\u{1B}[0m"))
        world.line(terminal: true, color: false).update(record(1))
        XCTAssertFalse(world.take().contains("\u{1B}[2m"))
    }

    func testNumbersThatAreOutOfRange() {
        let world = World()
        let line = world.line(terminal: false)
        var record = record(1)
        record.losses = [.nan, .infinity, -0.00001, 0x1p100]
        line.update(record)
        XCTAssertTrue(world.take().contains("loss nan  (reconstruction inf, alignment 0.0000 1.2676506002282294e+30)"))
    }

    /// What a child process writes to a real terminal of 40 columns, and what it writes with another environment.
    func testATerminalOfItsOwn() throws {
        if ProcessInfo.processInfo.environment["DMAE_PROGRESS_CHILD"] != nil {
            let line = ProgressLine(totalSteps: 2, terms: Self.terms)
            line.update(record(1))
            line.message("a message")
            line.update(record(2))
            line.finish()
            exit(0)
        }
        let leader = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        guard leader >= 0 else {
            print("Skipped: this system has no pseudo-terminals (/dev/ptmx, /dev/pts)")
            return
        }
        close(leader)
        let wide =
            "step 1/2  epoch 1.50  loss 0.6124  \u{1B}[2m(reconstruction 0.5000, alignment 0.1000 0.0123)\u{1B}[0m  "
            + "12.3 images/s"
        let colored = try terminal(columns: 200, ["TERM": "xterm"])
        XCTAssertTrue(colored.contains(wide), colored)
        let plain = try terminal(columns: 200, ["TERM": "xterm", "NO_COLOR": "1"])
        XCTAssertTrue(
            plain.contains(
                wide.replacingOccurrences(of: "\u{1B}[2m", with: "").replacingOccurrences(of: "\u{1B}[0m", with: "")),
            plain
        )
        // The terminal turns a line feed into carriage return and line feed.
        let narrow = "loss 0.6124  12.3 images/s"
        XCTAssertEqual(
            try terminal(columns: 40, ["TERM": "xterm"]),
            "\rstep 1/2  \(narrow)\u{1B}[K\r\u{1B}[Ka message\r\n\rstep 1/2  \(narrow)\u{1B}[K\rstep 2/2  "
                + "\(narrow)\u{1B}[K\r\n"
        )
        let dumb = try terminal(columns: 40, ["TERM": "dumb"])
        XCTAssertFalse(dumb.contains("\u{1B}"), dumb)
        XCTAssertTrue(dumb.contains("elapsed\r\na message\r\n") && dumb.contains("  step 2/2"), dumb)
    }

    /// Runs the child of `testATerminalOfItsOwn` with a new terminal as its standard error and returns what arrives
    /// there.
    private func terminal(columns: UInt16, _ environment: [String: String]) throws -> String {
        let leader = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        XCTAssertGreaterThanOrEqual(leader, 0)
        defer { close(leader) }
        // TIOCSPTLCK and TIOCGPTN: Swift does not see grantpt and its kin.
        var lock: Int32 = 0
        var number: Int32 = -1
        XCTAssertEqual(ioctl(leader, 0x4004_5431, &lock), 0)
        XCTAssertEqual(ioctl(leader, 0x8004_5430, &number), 0)
        var size = winsize(ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0)
        XCTAssertEqual(ioctl(leader, UInt(TIOCSWINSZ), &size), 0)
        let follower = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC)
        XCTAssertGreaterThanOrEqual(follower, 0)
        let child = Process()
        child.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        child.arguments = ["TrainingTests.ProgressLineTests/testATerminalOfItsOwn"]
        child.environment = ProcessInfo.processInfo.environment.filter { $0.key != "NO_COLOR" }
            .merging(environment) { $1 }.merging(["DMAE_PROGRESS_CHILD": "1"]) { $1 }
        child.standardOutput = FileHandle.nullDevice
        child.standardError = FileHandle(fileDescriptor: follower)
        try child.run()
        child.waitUntilExit()
        XCTAssertEqual(child.terminationStatus, 0)
        close(follower)
        // A few hundred bytes fit in the terminal's buffer; once the follower is closed, reading ends in an error.
        var bytes = [UInt8](repeating: 0, count: 1 << 14)
        var text: [UInt8] = []
        while true {
            let count = read(leader, &bytes, bytes.count)
            if count <= 0 { return String(decoding: text, as: UTF8.self) }
            text += bytes[..<count]
        }
    }
}
