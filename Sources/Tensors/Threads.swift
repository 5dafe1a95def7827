import CKernels

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

    /// How many of `count` threads, including the calling one, the system lets the process have at once. OpenMP ends
    /// the process if it cannot start a thread. Not thread-safe.
    public static func startable(_ count: Int) -> Int { Int(dmae_threads_startable(Int32(count))) }

    /// Lets the calling thread run on every processor of the process. A thread that OpenMP has bound to one processor
    /// (`OMP_PROC_BIND`) passes its binding on to the threads it creates.
    public static func unbind() { dmae_unbind_thread() }

    /// The OpenMP specification the kernels were compiled for, as yyyymm.
    public static var openMPVersion: Int { Int(dmae_openmp_version()) }

    /// Number of processors in the affinity mask of this process.
    public static var affinity: Int {
        let mask = lines(of: "/proc/self/status").first { $0.hasPrefix("Cpus_allowed:") }
        let bits = mask?.split(separator: "\t").last?.reduce(0) { $0 + ($1.hexDigitValue ?? 0).nonzeroBitCount } ?? 0
        return bits > 0 ? bits : sysconf(Int32(_SC_NPROCESSORS_ONLN))
    }

    /// The CPU quota of the control groups, in processors, or nil without one: the minimum over the process's group and
    /// its ancestors of v2 `cpu.max` or v1 `cpu.cfs_quota_us`.
    public static var controlGroupQuota: Double? {
        var quotas: [Double] = []
        for line in lines(of: "/proc/self/cgroup") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            var path = String(fields[2])
            let second = fields[0] == "0"
            guard second || fields[1].split(separator: ",").contains("cpu") else { continue }
            while true {
                let folder = "/sys/fs/cgroup" + (second ? "" : "/cpu") + (path == "/" ? "" : path)
                if second, let words = lines(of: folder + "/cpu.max").first?.split(separator: " "), words.count == 2,
                    let quota = Double(words[0]), let period = Double(words[1]), period > 0
                {
                    quotas.append(quota / period)
                }
                if !second, let quota = lines(of: folder + "/cpu.cfs_quota_us").first.flatMap({ Double($0) }),
                    quota > 0,
                    let period = lines(of: folder + "/cpu.cfs_period_us").first.flatMap({ Double($0) }), period > 0
                {
                    quotas.append(quota / period)
                }
                guard let slash = path.lastIndex(of: "/"), path != "/" else { break }
                path = slash == path.startIndex ? "/" : String(path[..<slash])
            }
        }
        return quotas.min()
    }

    /// The default number of threads: the affinity mask, cut to the control group's quota. More threads than the quota
    /// can slow a run tenfold, since all of them wait for the throttled one.
    public static var recommended: Int {
        guard let quota = controlGroupQuota else { return max(1, affinity) }
        return max(1, min(affinity, Int(quota.rounded(.up))))
    }

    private static func lines(of path: String) -> [Substring] {
        guard let file = fopen(path, "r") else { return [] }
        defer { fclose(file) }
        var text: [UInt8] = []
        while true {
            let byte = fgetc(file)
            if byte == EOF || text.count > 65_536 { break }
            text.append(UInt8(byte))
        }
        return String(decoding: text, as: UTF8.self).split(separator: "\n")
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
