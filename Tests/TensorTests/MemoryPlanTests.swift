import Reporting
import Tensors
import XCTest

final class MemoryPlanTests: XCTestCase {
    /// Every buffer starts on a cache line, is zero, and overlaps no other; scratch of one name is shared and as large
    /// as the largest.
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
        for (value, tensor) in [first, second, large, last].enumerated() {
            tensor.elements.update(repeating: Float(value + 1))
        }
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

    private static let first = MemoryPlan.Phases(rawValue: 1), second = MemoryPlan.Phases(rawValue: 2)
    private static let third = MemoryPlan.Phases(rawValue: 4), fourth = MemoryPlan.Phases(rawValue: 8)

    /// What is alive in one phase at the same time lies apart; what is not may lie over it, and the plan is as large as
    /// its largest phase.
    func testPhasesTakeTurns() throws {
        let plan = MemoryPlan()
        let always = plan.reserve(16, 1, .weights)
        let a = plan.during(Self.first) { plan.scratch("a", 16 * 5) }
        let b = plan.during(Self.second) { plan.reserve(16 * 3, 1, .activations) }
        let c = plan.during(Self.second) { plan.scratch("c", 16 * 2) }
        let kept = plan.during([Self.first, Self.third]) { plan.reserve(16, 1, .activations) }
        let d = plan.during([Self.first, Self.third]) { plan.scratch("d", 16 * 4) }
        let moments = plan.during(Self.first) { plan.reserve(16, 1, .moments) }
        XCTAssertEqual(plan.bytes(of: .scratch), 64 * (5 + 2 + 4))
        XCTAssertEqual(plan.bytes(of: .activations), 64 * (3 + 1))
        // Weights, moments, and in the first phase 5 + 1 + 4 cache lines; the second's 3 + 1 + 2 lie over the scratch
        // of the first.
        XCTAssertEqual(plan.totalBytes, 64 * (2 + 10))
        try plan.commit()
        let tensors = [always, a, b, c, kept, d, moments]
        let all: [MemoryPlan.Phases] = [
            .all, Self.first, Self.second, Self.second, [Self.first, Self.second, Self.third],
            [Self.first, Self.third], .all,
        ]
        let start = always.pointer
        for (i, x) in tensors.enumerated() {
            XCTAssertEqual(UInt(bitPattern: x.pointer) % UInt(MemoryPlan.alignment), 0)
            XCTAssertLessThanOrEqual((x.pointer - start + x.count) * 4, plan.totalBytes)
            for (j, y) in tensors.enumerated() where i != j && !all[i].isDisjoint(with: all[j]) {
                XCTAssertTrue(
                    x.pointer + x.count <= y.pointer || y.pointer + y.count <= x.pointer, "\(i) lies over \(j)")
            }
        }
        XCTAssertTrue(
            [a, d].contains { $0.pointer < b.pointer + b.count && b.pointer < $0.pointer + $0.count },
            "nothing is shared")
    }

    /// Any number of buffers at random: none lies over another of its time.
    func testManyBuffersOfManyPhases() throws {
        var random = CounterRandom(seed: 41, purpose: .test)
        for round in 0..<20 {
            let plan = MemoryPlan()
            var tensors: [(tensor: Tensor, phases: MemoryPlan.Phases)] = []
            for index in 0..<60 {
                let bits = UInt8(1 + Int(random.uniform() * 15)), rows = 1 + Int(random.uniform() * 500)
                tensors.append(
                    (plan.during(.init(rawValue: bits)) { plan.scratch("\(index)", rows) }, .init(rawValue: bits)))
            }
            let phases = [Self.first, Self.second, Self.third, Self.fourth].map { phase in
                tensors.filter { $0.phases.contains(phase) }.reduce(0) { $0 + ($1.tensor.count * 4 + 63) / 64 * 64 }
            }
            XCTAssertGreaterThanOrEqual(plan.totalBytes, phases.max()!)
            XCTAssertLessThan(plan.totalBytes, plan.bytes(of: .scratch), "round \(round): nothing is shared")
            try plan.commit()
            for (i, x) in tensors.enumerated() {
                for y in tensors[..<i] where !x.phases.isDisjoint(with: y.phases) {
                    XCTAssertTrue(
                        x.tensor.pointer + x.tensor.count <= y.tensor.pointer
                            || y.tensor.pointer + y.tensor.count <= x.tensor.pointer)
                }
            }
        }
    }

    /// Scratch of one name is one in the same phases and two in different ones.
    func testScratchNamesArePerPhase() throws {
        let plan = MemoryPlan()
        let (a, b) = plan.during(Self.first) { (plan.scratch("name", 16), plan.scratch("name", 32)) }
        let c = plan.during([Self.first, Self.second]) { plan.scratch("name", 16) }
        let gradient = plan.during(Self.second) { plan.scratch("gradient", 16, purpose: .gradients) }
        XCTAssertEqual(plan.bytes(of: .scratch), 64 * 3)
        XCTAssertEqual(plan.bytes(of: .gradients), 64)
        try plan.commit()
        XCTAssertEqual(a.pointer, b.pointer)
        XCTAssertNotEqual(a.pointer, c.pointer)
        XCTAssertNotEqual(gradient.pointer, c.pointer)
        XCTAssertEqual(plan.totalBytes, 64 * 3)
    }

    /// Where dead memory is poisoned, a phase finds what was kept for it, and NaN everywhere else.
    func testPoison() throws {
        let plan = MemoryPlan()
        let weights = plan.reserve(20, 1, .weights)
        let kept = plan.during([Self.first, Self.third]) { plan.reserve(20, 1, .activations) }
        let scratch = plan.during([Self.first, Self.third]) { plan.scratch("scratch", 20) }
        let late = plan.during(Self.third) { plan.reserve(20, 1, .activations) }
        try plan.commit()
        let tensors = [weights, kept, scratch, late]
        for tensor in tensors { tensor.elements.update(repeating: 1) }
        plan.begin(Self.second)
        XCTAssertTrue(tensors.allSatisfy { $0.elements.allSatisfy { $0 == 1 } }, "nothing is poisoned unless asked for")
        plan.poisonsDeadMemory = true
        plan.begin(Self.third)
        XCTAssertTrue(weights.elements.allSatisfy { $0 == 1 } && kept.elements.allSatisfy { $0 == 1 })
        XCTAssertTrue(scratch.elements.allSatisfy(\.isNaN) && late.elements.allSatisfy(\.isNaN))
        late.elements.update(repeating: 2)
        plan.begin(Self.fourth)
        XCTAssertTrue(weights.elements.allSatisfy { $0 == 1 })
        XCTAssertTrue(kept.elements.allSatisfy(\.isNaN) && late.elements.allSatisfy(\.isNaN))
    }

    /// More than the address space holds is refused in words, not by a crash.
    func testTooMuchMemoryIsRefused() {
        let plan = MemoryPlan()
        _ = plan.reserve(1 << 24, 1 << 24, .activations)
        XCTAssertThrowsError(try plan.commit()) { error in
            XCTAssertEqual((error as? Failure)?.code, .failure)
            XCTAssertTrue("\(error)".contains("lower batch"), "\(error)")
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
