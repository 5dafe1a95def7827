import CKernels
import Reporting

#if canImport(Glibc)
    import Glibc
#endif

/// The OpenMP threads every kernel driver uses.
public enum Threads {
    /// Number of threads of every kernel, at least 1. To be set before memory is planned: workspaces grow with it.
    public static var count: Int {
        get { Int(dmae_threads()) }
        set { dmae_set_threads(Int32(max(1, newValue))) }
    }

    /// The number of threads that a parallel region gets. 1 while `count` is more means that OpenMP is serial.
    public static var observed: Int { Int(dmae_threads_observed()) }

    /// Bytes of the stack of a thread, of the kernels or of decoding.
    public static let stackBytes = Int(dmae_stack_bytes())

    /// What OpenMP's runtime allocates beside the stacks when it starts threads; it ends the process where it cannot.
    private static var runtimeBytes: Int { 16 << 20 + count << 16 }

    /// Number of threads that OpenMP has started.
    private static var started = 1

    /// Stacks of threads that were tried, which the C library has kept: 40 MB of them at most.
    private static var kept = 0

    /// Bytes of address space that the threads will take which are still to be started.
    static var pendingBytes: Int {
        count > started ? max(0, count - started - kept) * stackBytes + runtimeBytes : 0
    }

    /// Requires that the system lets the process have its threads at once. OpenMP ends the process if it cannot start
    /// one. Not thread-safe.
    ///
    /// - Throws: `Failure.failure`, which names the limit.
    public static func requireStartable() throws {
        guard count > started else { return }
        let startable = Int(dmae_threads_startable(Int32(count), runtimeBytes))
        guard startable < count else {
            kept = min(count - 1, 40_000_000 / stackBytes)
            return
        }
        if let limit = MemoryLimits().mapping(pendingBytes) {
            throw Failure(
                .failure,
                "the stacks of \(count) threads need \(Format.bytes(pendingBytes)) of address space, but \(limit): lower "
                    + "\(.threads), or \(limit.source.remedy)")
        }
        throw Failure(
            .failure,
            "the system starts only \(startable) of \(count) threads: lower \(.threads), or raise the limit of processes "
                + "(`ulimit -u`, the container's pids)")
    }

    /// Starts the threads, which a parallel region would do otherwise.
    ///
    /// - Throws: `Failure.failure` where the system does not let the process have them.
    public static func start() throws {
        guard count > started else { return }
        try requireStartable()
        _ = observed
        started = count
    }

    /// Bounds what malloc keeps beside the memory of the plan. Call before there are threads.
    ///
    /// Blocks of 4 MiB and more, such as pictures of more than a megapixel, go back to the system when they are freed: malloc
    /// would take blocks of up to 32 MiB from its arenas after the first was freed, where small ones behind them hold them.
    /// An arena takes 64 to 128 MB of address space when a thread first allocates: where the address space is limited they
    /// get a sixteenth of it.
    public static func boundAllocator() {
        dmae_return_blocks(4 << 20)
        guard let limit = MemoryLimits.addressSpace else { return }
        dmae_bound_arenas(Int32(clamping: max(1, limit / 16 / (128 << 20))))
    }

    /// Lets the calling thread run on every processor of the process. A thread that OpenMP has bound to one processor
    /// (`OMP_PROC_BIND`) passes its binding on to the threads it creates.
    public static func unbind() { dmae_unbind_thread() }

    /// The OpenMP specification the kernels were compiled for, as yyyymm.
    public static var openMPVersion: Int { Int(dmae_openmp_version()) }

    /// Number of processors in the affinity mask that this process started with.
    public static var affinity: Int {
        let count = Int(dmae_processors())
        return count > 0 ? count : max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    }

    /// The numbers of the processors in that mask, in ascending order.
    public static var processors: [Int] {
        var list = [Int32](repeating: 0, count: 8192)
        let count = Int(dmae_processor_list(&list, Int32(list.count)))
        return list.prefix(count).map { Int($0) }
    }

    /// Keeps the process to these processors from now on, before the first parallel region. Returns whether the system
    /// lets it.
    public static func use(_ processors: [Int]) -> Bool {
        dmae_use_processors(processors.map { Int32($0) }, Int32(processors.count)) == 0
    }

    /// Processes of a run on this machine, which share the control group's quota.
    public static var processesOfMachine = 1

    /// The CPU quota of the control groups, in processors, or nil without one: the minimum over the process's group and
    /// its ancestors of v2 `cpu.max` or v1 `cpu.cfs_quota_us`.
    public static var controlGroupQuota: Double? { quota(of: ControlGroups()) }

    package static func quota(of groups: ControlGroups) -> Double? {
        groups.groups(of: "cpu").compactMap { group -> Double? in
            let words = group.lines("cpu.max").first?.split(separator: " ").map { Double($0) } ?? []
            let quota = group.isUnified ? words.first ?? nil : group.number("cpu.cfs_quota_us").map { Double($0) }
            let period = group.isUnified ? words.last ?? nil : group.number("cpu.cfs_period_us").map { Double($0) }
            guard let quota, let period, quota > 0, period > 0 else { return nil }
            return quota / period
        }.min()
    }

    /// The default number of threads: the affinity mask, cut to the control group's quota. More threads than the quota
    /// can slow a run tenfold, since all of them wait for the throttled one.
    public static var recommended: Int {
        guard let quota = controlGroupQuota else { return max(1, affinity) }
        return max(1, min(affinity, Int((quota / Double(processesOfMachine)).rounded(.up))))
    }
}

/// Independent rows of work whose outputs do not overlap, run by all threads.
///
/// A type instead of a closure, which would be allocated on every call.
public protocol ParallelRows {
    /// Computes the rows of `range`. A row's result may depend on that row only.
    func run(_ range: Range<Int>)
}

extension ParallelRows {
    /// Runs all rows 0..<count, handing out `chunk` of them at a time.
    public func runAll(_ count: Int, chunk: Int = 1) {
        if Profile.isRecording { return }
        let start = Profile.start()
        defer { Profile.stop(.rows, start) }
        withUnsafePointer(to: self) { work in
            var context = Context(type: Self.self, work: UnsafeRawPointer(work))
            dmae_parallel_for(count, chunk, &context) { context, begin, end in
                let context = context!.assumingMemoryBound(to: Context.self).pointee
                context.type.run(context.work, begin..<end)
            }
        }
    }

    fileprivate static func run(_ work: UnsafeRawPointer, _ range: Range<Int>) {
        work.assumingMemoryBound(to: Self.self).pointee.run(range)
    }
}

private struct Context {
    let type: any ParallelRows.Type
    let work: UnsafeRawPointer
}
