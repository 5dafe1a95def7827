import Foundation
import Tensors
import XCTest

/// How busy the machine is, as /proc/loadavg says it.
final class ProcessorLoadTests: XCTestCase {
    func testOthers() throws {
        func others(_ text: String, _ seconds: Double) -> Double? {
            ProcessorLoad(loadAverages: text, ownSeconds: seconds, processors: 4)?.others
        }
        XCTAssertEqual(others("3.50 1.00 0.50 5/432 12345", 0), 3.5)
        XCTAssertEqual(others("3.50 1.00 0.50 5/432 12345", 60), 2.5)
        XCTAssertEqual(others("0.25 1.00 0.50 5/432 12345", 600), 0)
        for text in ["", "x", "nan 1 1", "inf 1 1"] { XCTAssertNil(others(text, 0), text) }
        XCTAssertNil(ProcessorLoad(loadAverages: "1 1 1", ownSeconds: 0, processors: 0))
        if FileManager.default.isReadableFile(atPath: "/proc/loadavg") {
            XCTAssertGreaterThanOrEqual(try XCTUnwrap(ProcessorLoad.ofOthers()).others, 0)
        }
    }

    /// A sentence only where fewer processors are free than there are threads.
    func testNote() throws {
        let note =
            "the times were measured beside other programs, whose load is 1.8 on 4 processors: on an idle machine they are "
            + "shorter"
        for (others, threads, isSaid) in [
            (0.0, 4, false), (0.4, 4, false), (1.8, 4, true), (1.8, 2, false), (1.8, 99, true), (2.4, 2, false),
            (2.6, 2, true), (40, 1, true),
        ] {
            let found = ProcessorLoad(others: others, processors: 4).note(threads: threads)
            XCTAssertEqual(found != nil, isSaid, "\(others), \(threads)")
            if others == 1.8, isSaid { XCTAssertEqual(found, note) }
        }
    }
}
