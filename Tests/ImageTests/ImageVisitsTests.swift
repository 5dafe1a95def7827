import Images
import Reporting
import Synchronization
import XCTest

/// Visits of all images by several threads.
final class ImageVisitsTests: XCTestCase {
    func testEveryImageOnce() throws {
        for workers in [1, 2, 7] {
            let visits = Mutex([Int](repeating: 0, count: 100))
            var last = 0
            try ImageVisits.run(count: 100, workers: workers, update: { last = $0 }) { index in
                visits.withLock { $0[index] += 1 }
            }
            XCTAssertEqual(visits.withLock { $0 }, [Int](repeating: 1, count: 100))
            XCTAssertEqual(last, 100)
        }
    }

    /// A failure ends the visits, but not those that have begun.
    func testFailure() {
        let visits = Mutex(0)
        XCTAssertThrowsError(
            try ImageVisits.run(count: 1000, workers: 2) { index in
                visits.withLock { $0 += 1 }
                if index == 10 { throw Failure(.inputOutput, "the disk is gone") }
            }
        ) { XCTAssertEqual(($0 as? Failure)?.code, .inputOutput) }
        XCTAssertLessThan(visits.withLock { $0 }, 1000)
    }

    func testNoImages() throws {
        try ImageVisits.run(count: 0, workers: 2) { _ in XCTFail("there is nothing to visit") }
    }
}
