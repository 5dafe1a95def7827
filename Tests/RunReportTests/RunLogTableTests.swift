import RunReport
import XCTest

/// Logs as columns.
final class RunLogTableTests: XCTestCase {
    private static let line =
        #"{"step":1,"epoch":0.5,"loss":3.25,"loss_align":[0.1,0.2],"learning_rate":0.0,"gradient_norm":null,"#
        + #""images_per_second":12.5,"time":"2026-01-31T12:00:00Z","elapsed_seconds":0.5}"#

    private func line(_ step: Int, _ elapsed: Double, _ loss: String = "1.0") -> String {
        #"{"step":\#(step),"epoch":\#(Double(step) / 2),"loss":\#(loss),"learning_rate":0.1,"elapsed_seconds":\#(elapsed)}"#
    }

    private func table(_ lines: [String], end: String = "\n") -> RunLogTable {
        RunLogTable(Array((lines.joined(separator: "\n") + end).utf8))
    }

    func testColumns() {
        let evaluation = #"{"step":1,"epoch":0.5,"val_top1":0.75,"time":"2026-01-31T12:00:01Z","elapsed_seconds":0.7}"#
        let log = table([Self.line, evaluation])
        XCTAssertEqual(log.damagedLines, 0)
        XCTAssertEqual(
            log.steps.keys,
            ["loss", "loss_align_0", "loss_align_1", "learning_rate", "gradient_norm", "images_per_second"])
        XCTAssertEqual(log.steps.columns.map { $0[0] }.filter { !$0.isNaN }, [3.25, 0.1, 0.2, 0, 12.5])
        XCTAssertTrue(log.steps["gradient_norm"]![0].isNaN)
        XCTAssertEqual(log.steps.times, ["2026-01-31T12:00:00Z"])
        XCTAssertEqual([log.evaluations.steps, log.steps.steps], [[1], [1]])
        XCTAssertEqual(log.evaluations.keys, ["val_top1"])
        XCTAssertEqual(log.evaluations.seconds, [0.7])
    }

    /// Each process counts from 0: the time of training is the sum.
    func testSecondsOfSeveralProcesses() {
        let log = table([line(1, 1), line(2, 2), line(3, 0.5), line(4, 1.5), line(5, 0.25)])
        XCTAssertEqual(log.steps.seconds, [1, 2, 2.5, 3.5, 3.75])
    }

    func testDamage() {
        let good = line(2, 1)
        for bad in [
            "x", "{}", "[1]", "{\"step\":1}", good + "}", String(good.dropLast()), good.replacing("2", with: "-2"),
            good.replacing("1.0", with: "0x10"), good.replacing("1.0", with: "nan"),
            good.replacing("1.0", with: "1.0.0"),
            good.replacing("\"loss\"", with: "\"lo\\u0073s\""), good.replacing("1.0", with: "{}"),
            good.replacing("1.0", with: "[1"), good.replacing("loss", with: "lo\u{0}ss"), "\u{0}\u{0}\u{0}",
            good.replacing("1.0", with: "true"), "{\"step\":1.5,\"epoch\":1}", "{\"step\":1e300,\"epoch\":1}",
        ] {
            let log = table([line(1, 0.5), bad, line(3, 2)])
            XCTAssertEqual(log.steps.steps, [1, 3], bad)
            XCTAssertEqual(log.damagedLines, 1, bad)
        }
        // The last line may be on its way.
        let open = table([line(1, 0.5)], end: "\n{\"step\":2,\"ep")
        XCTAssertEqual([open.damagedLines, open.steps.count], [0, 1])
        XCTAssertEqual(table([line(1, 0.5)], end: "").steps.count, 1)
        XCTAssertEqual(RunLogTable([]).steps.count, 0)
        // A value that is not finite, and one that lacks.
        let log = table([
            line(1, 1, "null"), line(2, 1, "1e999"), #"{"step":3,"epoch":1,"learning_rate":1}"#, line(4, 1),
        ])
        XCTAssertEqual(log.steps["loss"]!.map(\.isNaN), [true, true, true, false])
    }

    /// Steps that do not rise are sorted, and of two of one step the later line counts.
    func testOrder() {
        let log = table([line(1, 1, "1"), line(3, 2, "3"), line(2, 3, "2"), line(3, 4, "4")])
        XCTAssertEqual(log.steps.steps, [1, 2, 3])
        XCTAssertEqual(log.steps["loss"], [1, 2, 4])
    }

    func testEscapes() {
        XCTAssertEqual(
            HTML.escaped("<a href='x'>\"&\u{1B}[31m\u{202E}\n\u{7F}é🙂"),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\\u{1B}[31m\\u{202E}\\n\\u{7F}é🙂")
    }
}
