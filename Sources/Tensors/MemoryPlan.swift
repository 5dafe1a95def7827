import Reporting

#if canImport(Glibc)
    import Glibc
#endif

/// Every buffer of a run, planned before the first step and mapped at once: nothing is allocated afterwards.
///
/// Reserve all tensors, call `commit()`, then use their pointers. Tensors that share a scratch name share memory: only
/// one of them is alive at a time. So do tensors of different names that are planned `during` phases of a pass that
/// have nothing in common.
public final class MemoryPlan {
    /// What memory is for; the order is that of the printed plan.
    public enum Purpose: String, CaseIterable, Sendable {
        case teacherWeights = "teacher weights"
        case weights
        case gradients
        case moments = "optimizer moments"
        case teacherActivations = "teacher features"
        case activations
        case scratch
        case batch
    }

    /// Bytes of alignment of every buffer: a cache line, and the widest vector register.
    public static let alignment = 64

    /// Phases of a pass that follow each other, a bit each, the first lowest. What they are is their owner's affair.
    public struct Phases: OptionSet, Hashable, Sendable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Before, during and after every pass.
        public static let all = Phases(rawValue: .max)

        /// All from the first of them to the last.
        var span: Phases {
            guard !isEmpty else { return self }
            return Phases(
                rawValue: UInt8.max << rawValue.trailingZeroBitCount & UInt8.max >> rawValue.leadingZeroBitCount)
        }
    }

    private struct Slot {
        var purpose: Purpose
        var bytes: Int
        /// When its values count.
        var phases: Phases
        /// Whether values are kept from one of its phases to the next.
        var isKept: Bool
    }
    private struct ScratchName: Hashable {
        let name: String
        let phases: Phases
    }
    private var slots: [Slot] = []
    private var scratchSlots: [ScratchName: Int] = [:]
    private var phases = Phases.all
    private var offsets: [Int] = []
    private var base: UnsafeMutableRawPointer?
    private var mappedBytes = 0

    public init() {}

    deinit {
        if let base { munmap(base, mappedBytes) }
    }

    /// Plans what `body` asks for as memory that is used in `phases` only. Scratch keeps nothing from one phase to the
    /// next; activations, features and gradients keep their values from the first of the phases to the last; weights,
    /// moments and the batch are always there. Tensors whose phases have nothing in common may have the same memory.
    public func during<Result>(_ phases: Phases, _ body: () throws -> Result) rethrows -> Result {
        let before = self.phases
        defer { self.phases = before }
        self.phases = phases
        return try body()
    }

    private func slot(bytes: Int, _ purpose: Purpose, _ phases: Phases, isKept: Bool) -> Int {
        precondition(base == nil, "memory is planned before it is committed")
        slots.append(Slot(purpose: purpose, bytes: bytes, phases: phases, isKept: isKept))
        return slots.count - 1
    }

    private func reservedSlot(bytes: Int, _ purpose: Purpose) -> Int {
        let isOfOnePass = [.activations, .teacherActivations, .gradients].contains(purpose)
        return slot(bytes: bytes, purpose, isOfOnePass ? phases.span : .all, isKept: true)
    }

    /// A tensor of its own, [rows, columns].
    public func reserve(_ rows: Int, _ columns: Int = 1, _ purpose: Purpose, as type: ElementType = .f32) -> Tensor {
        Tensor(
            plan: self, slot: reservedSlot(bytes: rows * columns * type.size, purpose), type: type, rows: rows,
            columns: columns)
    }

    /// A tensor [rows, columns] in the memory called `name` of the present phases, as large as the largest that asks
    /// for it.
    ///
    /// - Parameter purpose: what the printed plan counts it as; that of the first who asks.
    public func scratch(
        _ name: String, _ rows: Int, _ columns: Int = 1, as type: ElementType = .f32, purpose: Purpose = .scratch
    ) -> Tensor {
        Tensor(
            plan: self, slot: scratchSlot(name, bytes: rows * columns * type.size, purpose), type: type, rows: rows,
            columns: columns)
    }

    /// Untyped scratch memory, for a kernel's workspace.
    public func workspace(_ name: String, bytes: Int) -> Workspace {
        Workspace(plan: self, slot: scratchSlot(name, bytes: bytes, .scratch))
    }

    /// Untyped memory of its own, for what a kernel lays out itself.
    func reserve(bytes: Int, _ purpose: Purpose) -> Workspace {
        Workspace(plan: self, slot: reservedSlot(bytes: bytes, purpose))
    }

    private func scratchSlot(_ name: String, bytes: Int, _ purpose: Purpose) -> Int {
        let name = ScratchName(name: name, phases: phases)
        if let slot = scratchSlots[name] {
            precondition(base == nil, "memory is planned before it is committed")
            slots[slot].bytes = max(slots[slot].bytes, bytes)
            return slot
        }
        let slot = slot(bytes: bytes, purpose, phases, isKept: false)
        scratchSlots[name] = slot
        return slot
    }

    func bytes(slot: Int) -> Int { slots[slot].bytes }

    /// Planned bytes for one purpose, rounding to whole cache lines included.
    public func bytes(of purpose: Purpose) -> Int {
        slots.lazy.filter { $0.purpose == purpose }.reduce(0) { $0 + Self.rounded($1.bytes) }
    }

    /// Planned bytes in all: less than those of all purposes together where some lie over others.
    public var totalBytes: Int { layout().bytes }

    private static func rounded(_ bytes: Int) -> Int { (bytes + alignment - 1) / alignment * alignment }

    /// Where each buffer begins, and the bytes in all. What is always there comes first, in the order planned; of the
    /// rest the largest come first, each in the lowest place that is free in all of its phases.
    private func layout() -> (offsets: [Int], bytes: Int) {
        var offsets = Array(repeating: 0, count: slots.count)
        var end = 0
        for index in slots.indices where slots[index].phases == .all {
            offsets[index] = end
            end += Self.rounded(slots[index].bytes)
        }
        let start = end
        // By place, so that the first gap wide enough is the lowest.
        var placed: [Int] = []
        let others = slots.indices.filter { slots[$0].phases != .all }
        for index in others.sorted(by: { (slots[$1].bytes, $0) < (slots[$0].bytes, $1) }) {
            let bytes = Self.rounded(slots[index].bytes)
            var place = start
            for other in placed where !slots[other].phases.isDisjoint(with: slots[index].phases) {
                if offsets[other] >= place + bytes { break }
                place = max(place, offsets[other] + Self.rounded(slots[other].bytes))
            }
            offsets[index] = place
            placed.insert(index, at: placed.firstIndex { offsets[$0] > place } ?? placed.endIndex)
            end = max(end, place + bytes)
        }
        return (offsets, end)
    }

    /// Maps the planned memory, zero-filled. Pages take room only once they are written.
    ///
    /// - Throws: `Failure.failure` where the machine has less memory, or the system no such address space to give.
    public func commit() throws {
        precondition(base == nil, "a plan is committed once")
        let layout = layout()
        offsets = layout.offsets
        mappedBytes = max(layout.bytes, 1)
        // Address space is cheap and pages come one by one: without this the kernel would kill the run in the middle of
        // a step.
        let installed = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
        guard installed <= 0 || mappedBytes <= installed else {
            throw Failure(
                .failure,
                "the planned \(mappedBytes >> 20) MiB do not fit into this machine's \(installed >> 20) MiB of memory: lower \(.batch) or the image size"
            )
        }
        guard
            let memory = mmap(
                nil, mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            memory != MAP_FAILED
        else {
            throw Failure(
                .failure,
                "cannot map the planned \(mappedBytes >> 20) MiB of memory: lower \(.batch) or the image size, or raise the limit (ulimit -v)"
            )
        }
        // Gigabytes walked row by row miss the TLB on almost every page of 4 KiB.
        madvise(memory, mappedBytes, Int32(MADV_HUGEPAGE))
        base = memory
    }

    /// Whether `begin` writes NaN over everything whose values do not count any more, or not yet: for tests of the
    /// phases.
    public var poisonsDeadMemory = false

    /// Says that one of the phases begins.
    public func begin(_ phase: Phases) {
        if poisonsDeadMemory { poison(phase) }
    }

    private func poison(_ phase: Phases) {
        guard let base else { preconditionFailure("memory is used before it is committed") }
        func isAlive(_ slot: Slot) -> Bool {
            guard slot.isKept, slot.phases != .all else { return slot.isKept }
            // What begins with this phase has not been written yet.
            return slot.phases.contains(phase)
                && slot.phases.rawValue.trailingZeroBitCount < phase.rawValue.trailingZeroBitCount
        }
        var place = 0
        func poison(to end: Int) {
            // All bits set are NaN in float32 and in bf16.
            if end > place { memset(base + place, 0xFF, end - place) }
        }
        for index in slots.indices.filter({ isAlive(slots[$0]) }).sorted(by: { offsets[$0] < offsets[$1] }) {
            poison(to: offsets[index])
            place = max(place, offsets[index] + Self.rounded(slots[index].bytes))
        }
        poison(to: mappedBytes)
    }

    /// The one door to raw memory.
    @inline(__always)
    func address(_ slot: Int) -> UnsafeMutableRawPointer {
        guard let base else { preconditionFailure("memory is used before it is committed") }
        return base + offsets[slot]
    }
}

/// A kernel's scratch memory in a plan, aligned to 64 bytes.
public struct Workspace {
    unowned(unsafe) let plan: MemoryPlan
    let slot: Int

    /// Start of the memory; valid while the plan lives.
    public var pointer: UnsafeMutableRawPointer { plan.address(slot) }

    /// The same, for a kernel that needs as much: what was planned for other sizes or fewer threads must not be
    /// overrun.
    func pointer(bytes: Int) -> UnsafeMutableRawPointer {
        precondition(bytes <= plan.bytes(slot: slot), "a kernel needs more workspace than was planned")
        return pointer
    }
}
