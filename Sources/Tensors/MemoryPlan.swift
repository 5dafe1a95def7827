import Reporting
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// The plan of a run's buffers: all are reserved before the first step and mapped at once. No buffer is allocated
/// afterwards.
///
/// Declare the phases of a pass, reserve all buffers, call `commit()`, then use their pointers. Each buffer has a name
/// of its own and says when it is alive; buffers that are never alive in the same phase may share memory.
public final class MemoryPlan {
    /// The purpose of a buffer, in the order of the printed plan.
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

    /// Alignment of every buffer in bytes: a cache line, and the widest vector register.
    public static let alignment = 64

    private struct Buffer {
        let name: String
        let purpose: Purpose
        let bytes: Int
        /// Ranges of phases in which its values are needed, in ascending order; nil: always.
        let ranges: [ClosedRange<Int>]?
        /// Whether it is always the same once it is filled, so that other processes may read it.
        let isShareable: Bool

        func isAliveTogether(with other: Buffer) -> Bool {
            guard let ranges, let others = other.ranges else { return true }
            return ranges.contains { range in others.contains { $0.overlaps(range) } }
        }
    }
    private var timeline = Timeline()
    private var buffers: [Buffer] = []
    private var names: Set<String> = []
    private var offsets: [Int] = []
    private var base: UnsafeMutableRawPointer?
    private var mappedBytes = 0
    /// Memory outside of the plan's own that holds the shareable buffers, and whether this process fills them.
    private var elsewhere: (start: UnsafeMutableRawPointer, isWritable: Bool, owner: AnyObject)?

    public init() {}

    deinit {
        guard let base else { return }
        munmap(base, mappedBytes)
        Self.mapped.withLock { $0 -= mappedBytes }
    }

    // MARK: Planning

    /// Declares the next phase of a pass; see `Timeline`.
    ///
    /// - Parameter part: the part of the model under which `Profile` reports the operations of this phase.
    public func phase(_ name: String, part: String = "") -> Phase { timeline.phase(name, part: part) }

    /// Declares thin the phases after `head`, up to `last`, happen several times in a pass.
    public func loop(after head: Phase, through last: Phase) { timeline.loop(after: head, through: last) }

    /// A tensor [rows, columns] with memory of its own while it is alive.
    public func reserve(
        _ name: String, _ rows: Int, _ columns: Int = 1, _ purpose: Purpose, as type: ElementType = .f32,
        alive lifetime: Lifetime = .always
    ) -> Tensor {
        let slot = slot(name, bytes: rows * columns * type.size, purpose, lifetime)
        return Tensor(plan: self, slot: slot, type: type, rows: rows, columns: columns)
    }

    /// Untyped scratch memory that a kernel lays out itself.
    public func workspace(_ name: String, bytes: Int, alive lifetime: Lifetime) -> Workspace {
        Workspace(plan: self, slot: slot(name, bytes: bytes, .scratch, lifetime))
    }

    /// Untyped memory that is always alive and that a kernel lays out itself. It is filled once, and stays as it is.
    func reserve(_ name: String, bytes: Int, _ purpose: Purpose) -> Workspace {
        Workspace(plan: self, slot: slot(name, bytes: bytes, purpose, .always, isShareable: true))
    }

    private func slot(
        _ name: String, bytes: Int, _ purpose: Purpose, _ lifetime: Lifetime, isShareable: Bool = false
    ) -> Int {
        precondition(base == nil, "memory is planned before it is committed")
        precondition(names.insert(name).inserted, "two buffers are called \(name)")
        var ranges: [ClosedRange<Int>]?
        if case .during(let phases) = lifetime {
            precondition(!phases.isEmpty, "the buffer \(name) is never alive")
            ranges = phases.map(timeline.widened).sorted { $0.lowerBound < $1.lowerBound }
        }
        buffers.append(Buffer(name: name, purpose: purpose, bytes: bytes, ranges: ranges, isShareable: isShareable))
        return buffers.count - 1
    }

    func bytes(slot: Int) -> Int { buffers[slot].bytes }

    /// Maximum bytes of the buffers of one purpose that are alive in any phase, each rounded up to whole cache lines;
    /// without those that lie elsewhere.
    public func bytes(of purpose: Purpose) -> Int { largest { $0.purpose == purpose } }

    private func largest(_ isCounted: (Buffer) -> Bool) -> Int {
        var always = 0
        // Per phase: bytes of buffers that begin, minus bytes of those that have ended.
        var changes = Array(repeating: 0, count: timeline.count + 1)
        for buffer in buffers where isCounted(buffer) && !isElsewhere(buffer) {
            let bytes = Self.rounded(buffer.bytes)
            guard let ranges = buffer.ranges else {
                always += bytes
                continue
            }
            for range in ranges {
                changes[range.lowerBound] += bytes
                changes[range.upperBound + 1] -= bytes
            }
        }
        var (alive, most) = (0, 0)
        for change in changes {
            alive += change
            most = max(most, alive)
        }
        return always + most
    }

    /// Bytes of the whole plan, without the buffers that lie elsewhere.
    public var totalBytes: Int { layout().bytes }

    /// Bytes of the buffers that other processes may share: the packed weights that are not trained.
    public var shareableBytes: Int { buffers.reduce(0) { $0 + ($1.isShareable ? Self.rounded($1.bytes) : 0) } }

    /// Puts the shareable buffers into memory of `shareableBytes` that other processes map, too.
    ///
    /// - Parameters:
    ///   - isWritable: whether this process fills them; otherwise another does, and what would fill them does nothing.
    ///   - owner: kept alive, as it owns the memory.
    public func placeShareable(at start: UnsafeMutableRawPointer, isWritable: Bool, owner: AnyObject) {
        precondition(base == nil, "memory is planned before it is committed")
        elsewhere = (start, isWritable, owner)
    }

    private func isElsewhere(_ buffer: Buffer) -> Bool { elsewhere != nil && buffer.isShareable }

    /// Whether this process fills a buffer.
    func isWritable(slot: Int) -> Bool { !isElsewhere(buffers[slot]) || elsewhere!.isWritable }

    private static func rounded(_ bytes: Int) -> Int { (bytes + alignment - 1) / alignment * alignment }

    /// The offset of each buffer, and the bytes of the whole plan. Buffers that are always alive come first, in the
    /// order of their reservation. Then the others are placed, the largest first, each at the lowest offset that is
    /// free while it is alive. Offsets of buffers that lie elsewhere begin at 0 there.
    private func layout() -> (offsets: [Int], bytes: Int) {
        var offsets = Array(repeating: 0, count: buffers.count)
        var end = 0, endElsewhere = 0
        for index in buffers.indices where buffers[index].ranges == nil {
            let bytes = Self.rounded(buffers[index].bytes)
            if isElsewhere(buffers[index]) {
                offsets[index] = endElsewhere
                endElsewhere += bytes
            } else {
                offsets[index] = end
                end += bytes
            }
        }
        let start = end
        // Sorted by offset, so that the first gap that is large enough is the lowest.
        var placed: [Int] = []
        let others = buffers.indices.filter { buffers[$0].ranges != nil }
        for index in others.sorted(by: { (buffers[$1].bytes, $0) < (buffers[$0].bytes, $1) }) {
            let bytes = Self.rounded(buffers[index].bytes)
            var place = start
            for other in placed where buffers[other].isAliveTogether(with: buffers[index]) {
                if offsets[other] >= place + bytes { break }
                place = max(place, offsets[other] + Self.rounded(buffers[other].bytes))
            }
            offsets[index] = place
            placed.insert(index, at: placed.firstIndex { offsets[$0] > place } ?? placed.endIndex)
            end = max(end, place + bytes)
        }
        return (offsets, end)
    }

    // MARK: Memory

    /// Bytes that the process will take beside its plans, such as decoded images; counted by `commit`.
    public var bytesBeside = 0

    /// Bytes of the plans that are mapped, whether or not their pages were written.
    private static let mapped = Mutex(0)

    /// Maps the planned memory, zero-filled, and starts the threads of the kernels. A page takes physical memory only once
    /// it is written.
    ///
    /// - Throws: `Failure.failure` if the machine, a control group or a limit of the process does not allow so much, or
    ///   the system refuses the mapping or a thread. Nothing is mapped then.
    public func commit() throws {
        precondition(base == nil, "a plan is committed once")
        let layout = layout()
        offsets = layout.offsets
        mappedBytes = max(layout.bytes, 1)
        try requireMemory()
        guard
            let memory = mmap(
                nil, mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            memory != MAP_FAILED
        else {
            throw Failure(
                .failure,
                "cannot map the planned \(Format.bytes(mappedBytes)) of memory: lower \(.batch) or the image size, or free "
                    + "some memory")
        }
        // With pages of 4 KiB, reading gigabytes row by row would miss the TLB on almost every page.
        madvise(memory, mappedBytes, Int32(MADV_HUGEPAGE))
        do {
            // After the mapping, so that their stacks do not take what the plan needs.
            try Threads.start()
        } catch {
            munmap(memory, mappedBytes)
            throw error
        }
        base = memory
        if let elsewhere {
            // One sum gives the address of every buffer.
            for index in buffers.indices where isElsewhere(buffers[index]) {
                offsets[index] += elsewhere.start - memory
            }
        }
        Self.mapped.withLock { $0 += mappedBytes }
    }

    /// Requires that the plan fits into what this process may have. mmap succeeds without enough memory, as pages are
    /// allocated when they are written; without this check the kernel would kill the run in the middle of a step.
    private func requireMemory() throws {
        let limits = MemoryLimits()
        let planned = "the planned \(Format.bytes(mappedBytes)) of memory"
        // Pages of other plans that were not written yet will be.
        let unwritten = max(0, Self.mapped.withLock { $0 } - limits.resident)
        let physical = mappedBytes.addingReportingOverflow(unwritten + bytesBeside)
        if let limit = limits.exceeded(by: physical.overflow ? .max : physical.partialValue) {
            let beside = unwritten + bytesBeside
            let others = beside > 0 ? ", and \(Format.bytes(beside)) beside it," : ""
            throw Failure(
                .failure,
                "\(planned)\(others) do not fit: \(limit); lower \(.batch) or the image size, or \(limit.source.remedy)"
            )
        }
        let stacks = Threads.pendingBytes, total = mappedBytes.addingReportingOverflow(stacks)
        if let limit = limits.mapping(total.overflow ? .max : total.partialValue) {
            let others = stacks > 0 ? ", and \(Format.bytes(stacks)) for the stacks of \(Threads.count) threads," : ""
            throw Failure(
                .failure,
                "\(planned)\(others) do not fit: \(limit); lower \(.batch), the image size or \(.threads), or "
                    + "\(limit.source.remedy)")
        }
    }

    // MARK: A pass

    /// Whether `begin` overwrites all memory that is not alive with NaN, for tests of the lifetimes.
    public var poisonsDeadMemory = false

    /// Announces that `phase` begins.
    @inline(__always)
    public func begin(_ phase: Phase) {
        Profile.part = timeline.part(phase)
        if poisonsDeadMemory { poison(phase) }
    }

    /// Keeps buffers that were written before this phase and are alive in it, and overwrites everything else with NaN.
    /// A buffer whose lifetime begins now holds no values yet.
    private func poison(_ phase: Phase) {
        guard let base else { preconditionFailure("memory is used before it is committed") }
        func holdsValues(_ buffer: Buffer) -> Bool {
            guard !isElsewhere(buffer) else { return false }
            guard let ranges = buffer.ranges else { return true }
            return ranges.contains { $0.lowerBound < phase.index && phase.index <= $0.upperBound }
        }
        var place = 0
        func poison(to end: Int) {
            // All bits set are NaN in float32 and in bf16.
            if end > place { memset(base + place, 0xFF, end - place) }
        }
        for index in buffers.indices.filter({ holdsValues(buffers[$0]) }).sorted(by: { offsets[$0] < offsets[$1] }) {
            poison(to: offsets[index])
            place = max(place, offsets[index] + Self.rounded(buffers[index].bytes))
        }
        poison(to: mappedBytes)
    }

    /// The address of a buffer: the only access to raw memory.
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

    /// Start of the memory, for a kernel that needs `bytes` of it. Checked, as the workspace may have been planned for
    /// other sizes or fewer threads.
    func pointer(bytes: Int) -> UnsafeMutableRawPointer {
        precondition(bytes <= plan.bytes(slot: slot), "a kernel needs more workspace than was planned")
        return pointer
    }
}
