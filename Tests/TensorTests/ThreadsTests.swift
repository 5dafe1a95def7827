import Foundation
import Tensors
import TestSupport
import XCTest

final class ThreadsTests: XCTestCase {
    /// A parallel region gets the threads that were asked for: OpenMP is not silently serial.
    func testOpenMPIsParallel() {
        for count in 1...4 { withThreads(count) { XCTAssertEqual(Threads.observed, count) } }
        XCTAssertGreaterThanOrEqual(Threads.openMPVersion, 201_511)
    }

    func testCountIsAtLeastOne() {
        withThreads(0) { XCTAssertEqual(Threads.count, 1) }
        withThreads(-3) { XCTAssertEqual(Threads.count, 1) }
    }

    /// What coreutils' nproc counts, cut to the quota if there is one.
    func testRecommendedRespectsAffinity() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["-i", "/usr/bin/nproc"]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        process.waitUntilExit()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        XCTAssertEqual(Threads.affinity, Int(text.trimmingCharacters(in: .whitespacesAndNewlines)))
        XCTAssertGreaterThanOrEqual(Threads.recommended, 1)
        XCTAssertLessThanOrEqual(Threads.recommended, Threads.affinity)
        if let quota = Threads.controlGroupQuota { XCTAssertLessThan(Double(Threads.recommended), quota + 1) }
    }

    private struct Marks: ParallelRows {
        let marks: UnsafeMutablePointer<Int32>

        func run(_ range: Range<Int>) {
            for row in range { marks[row] += 1 }
        }
    }

    /// Every row is done once, whatever the count, the chunk and the threads.
    func testParallelRowsDoEachRowOnce() {
        for threads in 1...3 {
            withThreads(threads) {
                for (count, chunk) in [(0, 1), (1, 1), (7, 2), (64, 16), (1000, 7), (5, 100)] {
                    var marks = [Int32](repeating: 0, count: max(1, count))
                    marks.withUnsafeMutableBufferPointer { Marks(marks: $0.baseAddress!).runAll(count, chunk: chunk) }
                    XCTAssertTrue(
                        marks[..<count].allSatisfy { $0 == 1 }, "\(count) rows by \(chunk), \(threads) threads")
                }
            }
        }
    }
}

final class InstructionSetTests: XCTestCase {
    /// A set that runs can be used; another is refused, and nothing changes.
    func testUse() {
        let before = InstructionSet.selected
        defer { _ = before.use() }
        for set in InstructionSet.allCases {
            let old = InstructionSet.selected
            XCTAssertEqual(set.use(), set.runs, set.name)
            XCTAssertEqual(InstructionSet.selected, set.runs ? set : old)
        }
        XCTAssertEqual(InstructionSet.allCases.last(where: \.runs), .available)
        XCTAssertNil(InstructionSet(rawValue: InstructionSet.allCases.count))
    }

    func testEnvironment() throws {
        let before = InstructionSet.selected
        let old = getenv("DMAE_ISA").map { String(cString: $0) }
        defer {
            if let old { setenv("DMAE_ISA", old, 1) } else { unsetenv("DMAE_ISA") }
            _ = before.use()
        }
        unsetenv("DMAE_ISA")
        try InstructionSet.applyEnvironment()
        XCTAssertEqual(InstructionSet.selected, before)
        setenv("DMAE_ISA", "scalar", 1)
        try InstructionSet.applyEnvironment()
        XCTAssertEqual(InstructionSet.selected, .scalar)
        setenv("DMAE_ISA", "sse9", 1)
        let failure = failure { try InstructionSet.applyEnvironment() }
        XCTAssertEqual(failure?.code, .usage)
        let names = InstructionSet.names.joined(separator: ", ")
        XCTAssertTrue(failure?.message.contains(names) == true, "\(String(describing: failure))")
        XCTAssertEqual(InstructionSet.selected, .scalar)
        for set in InstructionSet.allCases where !set.runs {
            setenv("DMAE_ISA", set.name, 1)
            XCTAssertEqual(TestSupport.failure { try InstructionSet.applyEnvironment() }?.code, .failure, set.name)
        }
    }

    /// A precision is native where the selected row of its operation multiplies the operands themselves: the rows of
    /// the sets that were made for it, and of those that include them.
    func testPrecisionsThatAreNative() {
        let ran = withEachInstructionSet { set in
            func includes(_ name: String) -> Bool {
                InstructionSet.allCases.contains { $0.name == name && set.includes($0) }
            }
            XCTAssertTrue(Precision.f32.isNative)
            XCTAssertEqual(Precision.bf16.isNative, includes("avx512bf16"), set.name)
            XCTAssertEqual(Precision.int8.isNative, includes("avx512vnni"), set.name)
        }
        XCTAssertFalse(ran.isEmpty)
    }
}
