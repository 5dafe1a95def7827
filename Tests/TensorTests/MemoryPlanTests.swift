import Tensors
import XCTest

final class MemoryPlanTests: XCTestCase {
    /// Every buffer starts on a cache line, is zero, and overlaps no other; scratch of one name is shared and as large as the largest.
    func testBuffersAreAlignedZeroAndApart() throws {
        let plan = MemoryPlan()
        let first = plan.reserve(3, 5, .weights)
        let small = plan.scratch("shared", 2, 2)
        let second = plan.reserve(17, 1, .gradients)
        let large = plan.scratch("shared", 7, 9)
        let workspace = plan.workspace("kernel", bytes: 100)
        let last = plan.reserve(1, 1, .batch)
        try plan.commit()
        for tensor in [first, small, second, large, last] {
            XCTAssertEqual(UInt(bitPattern: tensor.pointer) % UInt(MemoryPlan.alignment), 0)
            XCTAssertTrue(tensor.elements.allSatisfy { $0 == 0 })
        }
        XCTAssertEqual(UInt(bitPattern: workspace.pointer) % UInt(MemoryPlan.alignment), 0)
        XCTAssertEqual(small.pointer, large.pointer)
        for (value, tensor) in [first, second, large, last].enumerated() { tensor.elements.update(repeating: Float(value + 1)) }
        workspace.pointer.initializeMemory(as: UInt8.self, repeating: 0xFF, count: 100)
        for (value, tensor) in [first, second, large, last].enumerated() {
            XCTAssertTrue(tensor.elements.allSatisfy { $0 == Float(value + 1) })
        }
    }

    /// The printed plan adds up: bytes by purpose, each buffer rounded up to whole cache lines, shared scratch once.
    func testBytesByPurpose() {
        let plan = MemoryPlan()
        _ = plan.reserve(3, 5, .weights)
        _ = plan.reserve(16, 1, .weights)
        _ = plan.reserve(17, 1, .moments)
        _ = plan.scratch("shared", 2, 2)
        _ = plan.scratch("shared", 7, 9)
        _ = plan.workspace("kernel", bytes: 1)
        XCTAssertEqual(plan.bytes(of: .weights), 64 + 64)
        XCTAssertEqual(plan.bytes(of: .moments), 128)
        XCTAssertEqual(plan.bytes(of: .scratch), 256 + 64)
        XCTAssertEqual(plan.bytes(of: .batch), 0)
        XCTAssertEqual(plan.totalBytes, MemoryPlan.Purpose.allCases.reduce(0) { $0 + plan.bytes(of: $1) })
    }

    /// More than the address space holds is refused in words, not by a crash.
    func testTooMuchMemoryIsRefused() {
        let plan = MemoryPlan()
        _ = plan.reserve(1 << 24, 1 << 24, .activations)
        XCTAssertThrowsError(try plan.commit()) { error in
            XCTAssertEqual((error as? Failure)?.code, .failure)
            XCTAssertTrue("\(error)".contains("--batch"), "\(error)")
        }
    }

    func testViews() throws {
        let plan = MemoryPlan()
        let tensor = plan.reserve(4, 6, .activations)
        let other = plan.reserve(24, 1, .activations)
        try plan.commit()
        for i in 0..<24 { tensor.pointer[i] = Float(i) }
        let reshaped = tensor.reshaped(8, 3)
        XCTAssertEqual([reshaped.rows, reshaped.columns, reshaped.stride], [8, 3, 3])
        XCTAssertEqual(reshaped.pointer, tensor.pointer)
        let prefix = tensor.prefix(rows: 2, columns: 5)
        XCTAssertEqual(Array(prefix.elements), (0..<10).map(Float.init))
        other.copy(from: tensor)
        other.add(tensor)
        XCTAssertEqual(Array(other.elements), (0..<24).map { Float(2 * $0) })
        tensor.clear()
        XCTAssertTrue(tensor.elements.allSatisfy { $0 == 0 })
    }

    /// Σ in double over sixteen lanes and a rest is exact where every partial sum is.
    func testSIMDSum() {
        for count in [0, 1, 15, 16, 17, 31, 32, 100] {
            let values = (0..<count).map { Float($0 + 1) }
            let sum = values.withUnsafeBufferPointer { buffer in
                SIMDRow.sum(count, { SIMDRow.load(buffer.baseAddress! + $0) }, { buffer[$0] })
            }
            XCTAssertEqual(sum, Double(count * (count + 1) / 2))
        }
    }
}
