#if canImport(Glibc)
import Glibc
#endif

/// Every buffer of a run, planned before the first step and mapped at once: nothing is allocated afterwards.
///
/// Reserve all tensors, call `commit()`, then use their pointers. Tensors that share a scratch name share memory: only one of
/// them is alive at a time.
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

    private struct Slot {
        var purpose: Purpose
        var bytes: Int
        var offset: Int
    }
    private var slots: [Slot] = []
    private var scratchSlots: [String: Int] = [:]
    private var base: UnsafeMutableRawPointer?
    private var mappedBytes = 0

    public init() {}

    deinit {
        if let base { munmap(base, mappedBytes) }
    }

    private func slot(bytes: Int, _ purpose: Purpose) -> Int {
        precondition(base == nil, "memory is planned before it is committed")
        slots.append(Slot(purpose: purpose, bytes: bytes, offset: 0))
        return slots.count - 1
    }

    /// A tensor of its own, [rows, columns].
    public func reserve(_ rows: Int, _ columns: Int = 1, _ purpose: Purpose, as type: ElementType = .f32) -> Tensor {
        Tensor(plan: self, slot: slot(bytes: rows * columns * type.size, purpose), type: type, rows: rows, columns: columns)
    }

    /// A tensor [rows, columns] in the scratch memory called `name`, as large as the largest that asks for it.
    public func scratch(_ name: String, _ rows: Int, _ columns: Int = 1, as type: ElementType = .f32) -> Tensor {
        Tensor(plan: self, slot: scratchSlot(name, bytes: rows * columns * type.size), type: type, rows: rows, columns: columns)
    }

    /// Untyped scratch memory, for a kernel's workspace.
    public func workspace(_ name: String, bytes: Int) -> Workspace {
        Workspace(plan: self, slot: scratchSlot(name, bytes: bytes))
    }

    /// Untyped memory of its own, for what a kernel lays out itself.
    func reserve(bytes: Int, _ purpose: Purpose) -> Workspace {
        Workspace(plan: self, slot: slot(bytes: bytes, purpose))
    }

    private func scratchSlot(_ name: String, bytes: Int) -> Int {
        if let slot = scratchSlots[name] {
            precondition(base == nil, "memory is planned before it is committed")
            slots[slot].bytes = max(slots[slot].bytes, bytes)
            return slot
        }
        let slot = slot(bytes: bytes, .scratch)
        scratchSlots[name] = slot
        return slot
    }

    /// Planned bytes for one purpose, rounding to whole cache lines included.
    public func bytes(of purpose: Purpose) -> Int {
        slots.lazy.filter { $0.purpose == purpose }.reduce(0) { $0 + Self.rounded($1.bytes) }
    }

    /// Planned bytes in all.
    public var totalBytes: Int { slots.reduce(0) { $0 + Self.rounded($1.bytes) } }

    private static func rounded(_ bytes: Int) -> Int { (bytes + alignment - 1) / alignment * alignment }

    /// Maps the planned memory, zero-filled. Pages take room only once they are written.
    ///
    /// - Throws: `Failure.failure` where the machine has less memory, or the system no such address space to give.
    public func commit() throws {
        precondition(base == nil, "a plan is committed once")
        var offset = 0
        for index in slots.indices {
            slots[index].offset = offset
            offset += Self.rounded(slots[index].bytes)
        }
        mappedBytes = max(offset, 1)
        // Address space is cheap and pages come one by one: without this the kernel would kill the run in the middle of a step.
        let installed = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
        guard installed <= 0 || mappedBytes <= installed else {
            throw Failure(
                .failure,
                "the planned \(mappedBytes >> 20) MiB do not fit into this machine's \(installed >> 20) MiB of memory: lower --batch")
        }
        guard
            let memory = mmap(nil, mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            memory != MAP_FAILED
        else {
            throw Failure(
                .failure, "cannot map the planned \(offset >> 20) MiB of memory: lower --batch, or raise the limit (ulimit -v)")
        }
        // Gigabytes walked row by row miss the TLB on almost every page of 4 KiB.
        madvise(memory, mappedBytes, Int32(MADV_HUGEPAGE))
        base = memory
    }

    /// The one door to raw memory.
    @inline(__always)
    func address(_ slot: Int) -> UnsafeMutableRawPointer {
        guard let base else { preconditionFailure("memory is used before it is committed") }
        return base + slots[slot].offset
    }
}

/// A kernel's scratch memory in a plan, aligned to 64 bytes.
public struct Workspace {
    unowned(unsafe) let plan: MemoryPlan
    let slot: Int

    /// Start of the memory; valid while the plan lives.
    public var pointer: UnsafeMutableRawPointer { plan.address(slot) }
}
