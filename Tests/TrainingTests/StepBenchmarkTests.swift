import Models
import Tensors
import TestSupport
import Training
import XCTest

final class StepBenchmarkTests: XCTestCase {
    /// As many timed steps as asked for, the warm-up apart; the figures follow from them.
    func testMeasuresWhatItSays() throws {
        var seen: [Int] = []
        let model = ModelConfiguration.small()
        let benchmark = try StepBenchmark(model, batch: 2, steps: 3) { step, seconds in
            seen.append(step)
            XCTAssertGreaterThan(seconds, 0)
        }
        XCTAssertEqual(seen, [1, 2, 3])
        XCTAssertEqual(benchmark.stepSeconds.count, 3)
        XCTAssertEqual(benchmark.optimizerSeconds.count, 3)
        for (step, optimizer) in zip(benchmark.stepSeconds, benchmark.optimizerSeconds) {
            XCTAssertLessThan(optimizer, step)
        }
        XCTAssertEqual(benchmark.imagesPerSecond, 2 / benchmark.stepSeconds.sorted()[1])
        XCTAssertGreaterThan(benchmark.peakGFLOPS, 0)
        XCTAssertEqual(
            benchmark.fractionOfPeak, benchmark.imagesPerSecond * benchmark.operations.total / benchmark.peakGFLOPS,
            accuracy: 1e-12)
        XCTAssertGreaterThan(benchmark.fractionOfPeak, 0)
        XCTAssertLessThan(benchmark.fractionOfPeak, 1.5)
    }

    func testMedian() {
        XCTAssertEqual(StepBenchmark.median([3]), 3)
        XCTAssertEqual(StepBenchmark.median([5, 1, 3]), 3)
        XCTAssertEqual(StepBenchmark.median([4, 1, 3, 2]), 2.5)
        XCTAssertTrue(StepBenchmark.median([]).isNaN)
    }

    func testResidentMemory() {
        let before = ResidentMemory.peakBytes
        XCTAssertGreaterThan(before, 1 << 20)
        let bytes = 64 << 20
        let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 1, count: bytes)
        XCTAssertEqual(memory.load(fromByteOffset: bytes - 1, as: UInt8.self), 1)
        XCTAssertGreaterThanOrEqual(ResidentMemory.peakBytes, before)
        XCTAssertGreaterThanOrEqual(ResidentMemory.peakBytes, bytes)
        memory.deallocate()
    }
}
