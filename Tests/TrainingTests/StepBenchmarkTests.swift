import Foundation
import Models
import Reporting
import Tensors
import TestSupport
import Training
import XCTest

final class StepBenchmarkTests: XCTestCase {
    /// As many timed steps as asked for, the warm-up apart; the figures follow from them.
    func testMeasuresWhatItSays() throws {
        var seen: [(step: Int, seconds: Double)] = []
        let model = ModelConfiguration.small(), start = monotonicSeconds()
        let benchmark = try StepBenchmark(model, batch: 2, steps: 3) { seen.append(($0, $1)) }
        let elapsed = monotonicSeconds() - start
        XCTAssertEqual(seen.map(\.step), [1, 2, 3])
        XCTAssertEqual(seen.map(\.seconds), benchmark.stepSeconds)
        XCTAssertEqual(benchmark.optimizerSeconds.count, 3)
        for (step, optimizer) in zip(benchmark.stepSeconds, benchmark.optimizerSeconds) {
            XCTAssertGreaterThan(optimizer, 0)
            XCTAssertLessThan(optimizer, step)
        }
        // The steps are part of the time that the call took; so are the measurements of the peak between them.
        XCTAssertLessThan(benchmark.stepSeconds.reduce(0, +), elapsed)
        XCTAssertEqual(benchmark.imagesPerSecond, 2 / benchmark.stepSeconds.sorted()[1])
        let operations = try ObservedModel(model, batch: 2, plan: MemoryPlan(), accumulates: false).operations
        XCTAssertEqual(benchmark.operations.total, operations.total)
        XCTAssertEqual(
            benchmark.fractionOfPeak, benchmark.imagesPerSecond * operations.total / benchmark.peakGFLOPS,
            accuracy: 1e-12)
    }

    /// A step of 32 times as many images takes longer. Other programs may disturb either measurement, so the shortest
    /// steps of several attempts are compared.
    func testMeasuresTheStep() throws {
        let model = ModelConfiguration.small()
        var (small, large) = (Double.infinity, Double.infinity)
        for _ in 0..<20 where !(large > 2 * small) || large.isInfinite {
            small = min(small, try StepBenchmark(model, batch: 2, steps: 3).stepSeconds.min()!)
            large = min(large, try StepBenchmark(model, batch: 64, steps: 3).stepSeconds.min()!)
        }
        XCTAssertGreaterThan(large, 2 * small)
    }

    func testMedian() {
        XCTAssertEqual(StepBenchmark.median([3]), 3)
        XCTAssertEqual(StepBenchmark.median([5, 1, 3]), 3)
        XCTAssertEqual(StepBenchmark.median([4, 1, 3, 2]), 2.5)
        XCTAssertTrue(StepBenchmark.median([]).isNaN)
    }

    /// The peak rises with memory that is used beyond it, and does not fall when that memory is given back.
    func testResidentMemory() throws {
        func resident() throws -> Int {
            let fields = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
            return try XCTUnwrap(Int(fields[1])) * sysconf(Int32(_SC_PAGESIZE))
        }
        // The kernel counts pages per thread, so its figures are off by some of them.
        let more = 64 << 20, slack = 4 << 20
        let before = ResidentMemory.peakBytes
        let bytes = max(0, before - (try resident())) + more
        let memory = try XCTUnwrap(mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
        XCTAssertNotEqual(memory, MAP_FAILED)
        memory.initializeMemory(as: UInt8.self, repeating: 1, count: bytes)
        let peak = ResidentMemory.peakBytes
        XCTAssertGreaterThan(peak, before + more - slack)
        XCTAssertLessThan(peak, before + more + slack)
        munmap(memory, bytes)
        XCTAssertGreaterThan(ResidentMemory.peakBytes, peak - slack)
        XCTAssertLessThan(try resident(), peak - more + slack)
    }
}
