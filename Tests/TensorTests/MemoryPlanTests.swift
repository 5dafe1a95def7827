import Reporting
import Tensors
import TestSupport
import XCTest

final class MemoryPlanTests: XCTestCase {
    /// Every buffer starts on a cache line, is zero, and overlaps no other.
    func testBuffersAreAlignedZeroAndApart() throws {
        let plan = MemoryPlan()
        let first = plan.reserve("first", 3, 5, .weights)
        let second = plan.reserve("second", 17, 1, .gradients)
        let workspace = plan.workspace("kernel", bytes: 100, alive: .always)
        let last = plan.reserve("last", 1, 1, .batch)
        try plan.commit()
        for tensor in [first, second, last] {
            XCTAssertEqual(UInt(bitPattern: tensor.pointer) % UInt(MemoryPlan.alignment), 0)
            XCTAssertTrue(tensor.elements.allSatisfy { $0 == 0 })
        }
        XCTAssertEqual(UInt(bitPattern: workspace.pointer) % UInt(MemoryPlan.alignment), 0)
        for (value, tensor) in [first, second, last].enumerated() {
            tensor.elements.update(repeating: Float(value + 1))
        }
        workspace.pointer.initializeMemory(as: UInt8.self, repeating: 0xFF, count: 100)
        for (value, tensor) in [first, second, last].enumerated() {
            XCTAssertTrue(tensor.elements.allSatisfy { $0 == Float(value + 1) })
        }
    }

    /// The printed plan: the most bytes of a purpose in any phase, each buffer rounded up to whole cache lines.
    func testBytesByPurpose() {
        let plan = MemoryPlan()
        let phases = (0..<3).map { plan.phase("\($0)") }
        _ = plan.reserve("a", 3, 5, .weights)
        _ = plan.reserve("b", 16, 1, .weights)
        _ = plan.reserve("c", 17, 1, .moments)
        _ = plan.reserve("d", 16 * 3, 1, .scratch, alive: .during(phases[0]...phases[1]))
        _ = plan.reserve("e", 16 * 2, 1, .scratch, alive: .only(phases[1], phases[2]))
        _ = plan.workspace("f", bytes: 1, alive: .only(phases[2]))
        XCTAssertEqual(plan.bytes(of: .weights), 64 + 64)
        XCTAssertEqual(plan.bytes(of: .moments), 128)
        XCTAssertEqual(plan.bytes(of: .scratch), 64 * 5)
        XCTAssertEqual(plan.bytes(of: .batch), 0)
        XCTAssertEqual(plan.totalBytes, 64 * (4 + 5))
    }

    /// Buffers that are alive in the same phase lie apart; others may lie over each other.
    func testBuffersOfDifferentPhasesShareMemory() throws {
        let plan = MemoryPlan()
        let phases = (0..<4).map { plan.phase("\($0)") }
        let always = plan.reserve("always", 16, 1, .weights)
        let a = plan.reserve("a", 16 * 5, 1, .scratch, alive: .only(phases[0]))
        let b = plan.reserve("b", 16 * 3, 1, .activations, alive: .only(phases[1]))
        let c = plan.reserve("c", 16 * 2, 1, .scratch, alive: .only(phases[1]))
        let kept = plan.reserve("kept", 16, 1, .activations, alive: .during(phases[0]...phases[2]))
        let d = plan.reserve("d", 16 * 4, 1, .scratch, alive: .only(phases[0], phases[2]))
        // Always one; in phase 0 the lines 5 + 1 + 4; the others fit into them.
        XCTAssertEqual(plan.totalBytes, 64 * (1 + 10))
        try plan.commit()
        func overlap(_ x: Tensor, _ y: Tensor) -> Bool {
            x.pointer < y.pointer + y.count && y.pointer < x.pointer + x.count
        }
        for other in [a, b, c, kept, d] { XCTAssertFalse(overlap(always, other)) }
        for (x, y) in [(a, kept), (a, d), (kept, d), (b, c), (b, kept), (c, kept)] { XCTAssertFalse(overlap(x, y)) }
        XCTAssertTrue(overlap(a, b) || overlap(d, b), "nothing is shared")
    }

    /// Any number of buffers at random: none lies over another of its time, and the plan is as large as its largest
    /// phase at least.
    func testManyBuffersOfManyPhases() throws {
        var random = CounterRandom(seed: testSeed(41), purpose: .test)
        for round in 0..<20 {
            let plan = MemoryPlan()
            let phases = (0..<12).map { plan.phase("\($0)") }
            var buffers: [(tensor: Tensor, alive: Set<Int>)] = []
            for index in 0..<60 {
                let ranges = (0..<1 + random.below(2)).map { _ in
                    let first = random.below(12)
                    return first...first + random.below(12 - first)
                }
                let tensor = plan.reserve(
                    "\(index)", 1 + random.below(500), 1, .scratch,
                    alive: .during(ranges.map { phases[$0.lowerBound]...phases[$0.upperBound] }))
                buffers.append((tensor, Set(ranges.flatMap { $0 })))
            }
            let needed = (0..<12).map { phase in
                buffers.filter { $0.alive.contains(phase) }.reduce(0) { $0 + ($1.tensor.count * 4 + 63) / 64 * 64 }
            }
            XCTAssertGreaterThanOrEqual(plan.totalBytes, needed.max()!)
            XCTAssertLessThan(
                plan.totalBytes, buffers.reduce(0) { $0 + ($1.tensor.count * 4 + 63) / 64 * 64 }, "round \(round)")
            try plan.commit()
            for (i, x) in buffers.enumerated() {
                for y in buffers[..<i] where !x.alive.isDisjoint(with: y.alive) {
                    XCTAssertTrue(
                        x.tensor.pointer + x.tensor.count <= y.tensor.pointer
                            || y.tensor.pointer + y.tensor.count <= x.tensor.pointer)
                }
            }
        }
    }

    /// A buffer that is alive inside of a loop and after it, or before it and inside, is alive in all of the loop; one
    /// that lives and dies in a round is not.
    func testLoops() throws {
        let plan = MemoryPlan()
        let before = plan.phase("before"), head = plan.phase("head")
        let first = plan.phase("first"), second = plan.phase("second"), after = plan.phase("after")
        plan.loop(after: head, through: second)
        let round = plan.reserve("round", 16, 1, .scratch, alive: .only(first))
        let other = plan.reserve("other", 16, 1, .scratch, alive: .only(second))
        let result = plan.reserve("result", 16, 1, .scratch, alive: .during(second...after))
        let input = plan.reserve("input", 16, 1, .scratch, alive: .during(before...first))
        // round and other share a line.
        XCTAssertEqual(plan.totalBytes, 64 * 3)
        try plan.commit()
        XCTAssertEqual(round.pointer, other.pointer)
        plan.poisonsDeadMemory = true
        plan.begin(before)
        input.elements.update(repeating: 1)
        plan.begin(head)
        for turn in 1...2 {
            plan.begin(first)
            XCTAssertTrue(input.elements.allSatisfy { $0 == 1 })
            XCTAssertTrue(round.elements.allSatisfy(\.isNaN))
            XCTAssertTrue(result.elements.allSatisfy { turn == 1 ? true : $0 == 2 })
            plan.begin(second)
            result.elements.update(repeating: 2)
        }
        plan.begin(after)
        XCTAssertTrue(result.elements.allSatisfy { $0 == 2 } && input.elements.allSatisfy(\.isNaN))
    }

    /// With poison, a phase finds the values that earlier phases left for it, and NaN everywhere else.
    func testPoison() throws {
        let plan = MemoryPlan()
        let phases = (0..<4).map { plan.phase("\($0)") }
        let weights = plan.reserve("weights", 20, 1, .weights)
        let kept = plan.reserve("kept", 20, 1, .activations, alive: .during(phases[0]...phases[2]))
        let scratch = plan.reserve("scratch", 20, 1, .scratch, alive: .only(phases[0], phases[2]))
        let late = plan.reserve("late", 20, 1, .activations, alive: .during(phases[2]...phases[2]))
        try plan.commit()
        let tensors = [weights, kept, scratch, late]
        for tensor in tensors { tensor.elements.update(repeating: 1) }
        plan.begin(phases[1])
        XCTAssertTrue(tensors.allSatisfy { $0.elements.allSatisfy { $0 == 1 } }, "nothing is poisoned unless asked for")
        plan.poisonsDeadMemory = true
        plan.begin(phases[2])
        XCTAssertTrue(weights.elements.allSatisfy { $0 == 1 } && kept.elements.allSatisfy { $0 == 1 })
        XCTAssertTrue(scratch.elements.allSatisfy(\.isNaN) && late.elements.allSatisfy(\.isNaN))
        late.elements.update(repeating: 2)
        plan.begin(phases[3])
        XCTAssertTrue(weights.elements.allSatisfy { $0 == 1 })
        XCTAssertTrue(kept.elements.allSatisfy(\.isNaN) && late.elements.allSatisfy(\.isNaN))
    }

    /// More than the address space holds is refused in words, not by a crash.
    func testTooMuchMemoryIsRefused() {
        let plan = MemoryPlan()
        _ = plan.reserve("all", 1 << 24, 1 << 24, .activations)
        XCTAssertThrowsError(try plan.commit()) { error in
            XCTAssertEqual((error as? Failure)?.code, .failure)
            XCTAssertTrue("\(error)".contains("lower batch"), "\(error)")
        }
    }

    func testViews() throws {
        let plan = MemoryPlan()
        let tensor = plan.reserve("tensor", 4, 6, .activations)
        let other = plan.reserve("other", 24, 1, .activations)
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

    /// Packed weights may lie outside of the plan: one plan fills them, and another computes the same with them, whatever
    /// it would have packed. Neither counts them.
    func testPackedWeightsOutsideOfThePlan() throws {
        final class Owner {}
        /// x times the last of two packed weights, whose values begin at `first`; and the bytes of plan and weights.
        func product(
            _ first: Float, at place: ((Int) -> UnsafeMutableRawPointer)? = nil, isWritable: Bool = true
        ) throws -> (values: [Float], bytes: Int, packed: Int) {
            let plan = MemoryPlan(), phase = plan.phase("product")
            let x = plan.reserve("x", 9, 50, .activations), output = plan.reserve("output", 9, 70, .activations)
            let weight = plan.reserve("weight", 70, 50, .weights)
            let packed = (0..<2).map {
                Kernels.PackedWeight(
                    "packed \($0)", rows: 70, columns: 50, precision: .f32, plan: plan, .teacherWeights)
            }
            let workspace = plan.workspace(
                "workspace",
                bytes: Kernels.linearWorkspaceBytes(
                    rows: 9, inputs: 50, outputs: 70, precision: .f32, activations: .f32),
                alive: .only(phase))
            let shareable = plan.shareableBytes
            XCTAssertEqual(plan.bytes(of: .teacherWeights), shareable)
            if let place {
                plan.placeShareable(at: place(shareable), isWritable: isWritable, owner: Owner())
                XCTAssertEqual(plan.bytes(of: .teacherWeights), 0)
            }
            try plan.commit()
            plan.poisonsDeadMemory = true
            for place in x.elements.indices { x.elements[place] = Float(place % 13) - 6 }
            for (number, packed) in packed.enumerated() {
                for place in weight.elements.indices { weight.elements[place] = first + Float(number + place % 11) }
                packed.pack(weight)
            }
            plan.begin(phase)
            Kernels.linear(
                x, weight: weight, packed: packed[1], bias: nil, output: output, precision: .f32, workspace: workspace)
            return (Array(output.elements), plan.totalBytes, shareable)
        }
        let expected = try product(1)
        XCTAssertNotEqual(expected.values, try product(2).values)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: expected.packed, alignment: MemoryPlan.alignment)
        defer { memory.deallocate() }
        for (first, isWritable) in [(Float(1), true), (2, false)] {
            let found = try product(
                first,
                at: { bytes in
                    XCTAssertEqual(bytes, expected.packed)
                    return memory
                }, isWritable: isWritable)
            XCTAssertEqual(found.values, expected.values)
            XCTAssertEqual(found.bytes, expected.bytes - expected.packed)
        }
    }
}
