import Reporting
import XCTest

final class FormatTests: XCTestCase {
    func testFixed() {
        for (value, digits, text) in [
            (0.0, 2, "0.00"), (-0.0, 1, "0.0"), (1.005, 0, "1"), (2.5, 0, "3"), (0.0625, 3, "0.063"),
            (-1.25, 1, "-1.3"),
            (-0.001, 2, "0.00"), (1e12, 2, "1000000000000.00"), (1e30, 2, "1e+30"), (.infinity, 2, "inf"),
            (.nan, 1, "nan"),
        ] { XCTAssertEqual(Format.fixed(value, digits), text) }
    }

    func testCounts() {
        XCTAssertEqual([0, 999, 1000, -1_234_567].map(Format.grouped), ["0", "999", "1,000", "-1,234,567"])
        XCTAssertEqual([1, 1200].map { Format.counted($0, "tensor") }, ["1 tensor", "1,200 tensors"])
        XCTAssertEqual(
            [999, 1500, 2_500_000, 3_000_000_000].map(Format.bytes), ["999 bytes", "1.5 kB", "2.5 MB", "3.00 GB"])
        XCTAssertEqual(
            [999, 1500, 86_600_000, 3_000_000_000].map(Format.count), ["999", "1.5 k", "86.60 M", "3.00 G"])
        XCTAssertEqual(Format.shortest(3.0), "3")
        XCTAssertEqual(Format.shortest(Float(0.1)), "0.1")
    }

    /// Lines break at spaces only where they must, and never between a number and its unit.
    func testFilled() {
        XCTAssertEqual(Format.filled("one two three", columns: 7), "one two\nthree")
        XCTAssertEqual(Format.filled("a longer word", columns: 4), "a\nlonger\nword")
        XCTAssertEqual(Format.filled("it is 38.0 % here", columns: 10), "it is 38.0\n% here")
        XCTAssertEqual(Format.filled("it is 38.0\u{A0}% here", columns: 10), "it is\n38.0 %\nhere")
        XCTAssertEqual(Format.filled(""), "")
    }

    /// A report may have decimals; a line that is drawn again and again has integers.
    func testTimes() {
        for (seconds, report, line) in [
            (0.123, "0.12 s", "0 s"), (40.4, "40 s", "40 s"), (89, "89 s", "1 min 29 s"),
            (725, "12 min 5 s", "12 min 5 s"),
            (5400, "90 min 0 s", "1 h 30 min"), (9840, "2 h 44 min", "2 h 44 min"), (97_200, "27 h 0 min", "1 d 3 h"),
            (273_600, "3 days 4 h", "3 d 4 h"),
        ] {
            XCTAssertEqual(Format.duration(seconds), report)
            XCTAssertEqual(Format.countdown(seconds), line)
        }
    }

    func testTheClockRises() {
        let start = monotonicSeconds()
        usleep(2000)
        let passed = monotonicSeconds() - start
        XCTAssertTrue(passed >= 0.002 && passed < 60, "\(passed)")
    }
}
