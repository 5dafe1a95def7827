import Foundation
import Tensors

/// The seed of a test: `fallback`, or the environment's DMAE_TEST_SEED; printed, so that a failure can be had again.
public func testSeed(_ fallback: UInt64, _ test: String = #function) -> UInt64 {
    let seed = ProcessInfo.processInfo.environment["DMAE_TEST_SEED"].flatMap { UInt64($0) } ?? fallback
    print("\(test): seed \(seed)")
    return seed
}

/// Runs `body` with each instruction set in turn and puts the old one back. The ones this processor lacks are reported.
///
/// - Returns: those that ran; a test asserts that there are some.
public func withEachInstructionSet(_ test: String = #function, _ body: (InstructionSet) throws -> Void) rethrows
    -> [InstructionSet]
{
    let before = InstructionSet.selected
    defer { _ = before.use() }
    var ran: [InstructionSet] = []
    for set in InstructionSet.allCases {
        guard set.use() else {
            print("\(test): skipped for \(set.name), which this processor lacks")
            continue
        }
        try body(set)
        ran.append(set)
    }
    return ran
}

/// Runs `body` with `count` threads in every kernel and puts the old number back.
public func withThreads<Result>(_ count: Int, _ body: () throws -> Result) rethrows -> Result {
    let before = Threads.count
    Threads.count = count
    defer { Threads.count = before }
    return try body()
}

extension [Float] {
    /// The bits, to compare where a sign of zero or a NaN must count.
    public var bits: [UInt32] { map(\.bitPattern) }
}

extension Tensor {
    /// A copy of all elements.
    public var values: [Float] { Array(elements) }
}
