import Training
import XCTest

/// How fast a run is that decodes its images beside the computation.
final class ThroughputTests: XCTestCase {
    private func throughput(
        _ compute: Double, _ decoding: Double, threads: Int = 2, workers: Int = 1, processors: Int = 2
    )
        -> Throughput
    {
        Throughput(compute: compute, decoding: decoding, threads: threads, workers: workers, processors: processors)
    }

    func testLimits() {
        // Nothing to decode.
        XCTAssertEqual(throughput(1, 0).seconds, 1)
        // Two processors have 2 · 1 seconds of computing and 0.5 of decoding.
        let shared = throughput(1, 0.5)
        XCTAssertEqual(shared.seconds, 1.25)
        XCTAssertFalse(shared.isLimitedByDecoding)
        XCTAssertNil(shared.workers)
        // A processor is free for decoding.
        XCTAssertEqual(throughput(1, 0.5, threads: 1).seconds, 1)
        // One thread decodes an image in 8 seconds; two halve that, and both processors are then busy.
        let limited = throughput(1, 8)
        XCTAssertEqual(limited.seconds, 8)
        XCTAssertTrue(limited.isLimitedByDecoding)
        XCTAssertEqual(limited.workers, 2)
        XCTAssertEqual(throughput(1, 8, workers: 2).seconds, 5)
        // Of which decoding takes four fifths.
        XCTAssertTrue(throughput(1, 8, workers: 2).isLimitedByDecoding)
        XCTAssertNil(throughput(1, 8, workers: 2).workers)
        // Kernels on one of sixteen processors leave enough of them.
        XCTAssertFalse(throughput(1, 8, threads: 1, workers: 12, processors: 16).isLimitedByDecoding)
        // More workers than processors do not help.
        XCTAssertEqual(throughput(1, 8, workers: 9).seconds, 5)
        // Of many processors only as many decode as are needed.
        let many = throughput(1, 8, threads: 16, processors: 16)
        XCTAssertEqual(many.seconds, 8)
        XCTAssertEqual(many.workers, 6, "8 / (1 + 8 / 16), rounded up")
        XCTAssertFalse(throughput(1, 8, threads: 16, workers: 6, processors: 16).isLimitedByDecoding)
        // Where nothing more can be had.
        let small = throughput(0.001, 8, processors: 1)
        XCTAssertNil(small.workers)
    }
}
