import CKernels
import Foundation
import XCTest

/// A row of the list of variants.
struct Variant {
    let index: Int
    let operation: String
    let name: String
    let isa: dmae_isa

    static let all: [Variant] = (0..<dmae_variant_count()).map {
        let row = dmae_variant_at($0)
        return Variant(
            index: $0, operation: String(cString: row.operation), name: String(cString: row.name), isa: row.isa)
    }
}

/// The seed of every random number of the run. DMAE_TEST_SEED repeats a run.
let seed: UInt64 = {
    let given = ProcessInfo.processInfo.environment["DMAE_TEST_SEED"].flatMap { UInt64($0) }
    let seed = given ?? UInt64.random(in: 1...UInt64.max)
    print("Kernel tests: DMAE_TEST_SEED=\(seed)")
    return seed
}()

/// SplitMix64.
struct Random: RandomNumberGenerator {
    private var state: UInt64
    /// Each test has its own stream, so that it can run alone.
    init(_ purpose: String) {
        state = purpose.utf8.reduce(seed) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
    mutating func float() -> Float { Float(Int64(bitPattern: next()) >> 39) * 0x1p-24 }  // in [-1, 1)
}

/// Unit roundoff of f32.
let u = 0x1p-24

/// Base of the kernel tests: runs every variant of an operation, and restores the machine's settings afterwards.
class KernelTestCase: XCTestCase {
    private var threads: Int32 = 1

    override func setUp() {
        continueAfterFailure = false
        threads = dmae_threads()
    }
    override func tearDown() {
        dmae_set_threads(threads)
        dmae_isa_use(dmae_isa_available())
    }

    /// Runs `body` for each variant of `operation` that this machine runs, reports the others, and fails if there was
    /// none.
    func forEachVariant(of operation: String, _ body: (Variant) throws -> Void) rethrows {
        var checked = 0
        for variant in Variant.all where variant.operation == operation {
            guard dmae_isa_use(variant.isa) else {
                print("Skipped: \(variant.name), which this machine cannot run")
                continue
            }
            guard dmae_variant_is_selected(variant.index) else {
                XCTFail("\(variant.name) is never used: a later row of the same instruction set replaces it")
                continue
            }
            try body(variant)
            checked += 1
        }
        XCTAssertGreaterThan(checked, 0, "no variant of \(operation) was checked")
    }
}
