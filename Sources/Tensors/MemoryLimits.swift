import Reporting

#if canImport(Glibc)
    import Glibc
#endif

/// A limit of the memory of this process.
public struct MemoryLimit: Equatable, Sendable {
    /// What limits it.
    public enum Source: Equatable, Sendable {
        /// The memory of the machine.
        case machine
        /// `file` of the control group of that path.
        case controlGroup(path: String, file: String)
        /// A control group above the one of that path, which the process does not see.
        case aboveControlGroup(path: String)
        /// RLIMIT_AS: everything that is mapped.
        case addressSpace
        /// RLIMIT_DATA: everything that is mapped to be written.
        case data
        /// The kernel's rule not to promise more memory than there is.
        case commitment
    }

    public let source: Source
    /// Bytes that are allowed.
    public let bytes: Int
    /// Bytes of these that are left to this process.
    public let left: Int

    /// What limits the memory, for a person.
    public var name: String {
        switch source {
        case .machine: "this machine's memory"
        case .controlGroup(let path, let file): "the memory limit of the cgroup \(visible(path)) (\(file))"
        case .aboveControlGroup(let path):
            "the memory limit of a cgroup above \(visible(path)) (hierarchical_memory_limit)"
        case .addressSpace: "the address space limit (ulimit -v)"
        case .data: "the limit on data (ulimit -d)"
        case .commitment: "the kernel's limit on promised memory (vm.overcommit_memory = 2)"
        }
    }
}

extension MemoryLimit.Source {
    /// What changes the limit, as the end of a sentence.
    var remedy: String {
        switch self {
        case .machine: "take a machine with more memory"
        case .commitment: "raise it (vm.overcommit_ratio)"
        default: "raise the limit"
        }
    }
}

extension MemoryLimit: CustomStringConvertible {
    /// "the address space limit (ulimit -v) of 48.0 MB leaves 12.1 MB".
    public var description: String {
        source == .machine
            ? "this machine's memory is \(Format.bytes(bytes))"
            : "\(name) of \(Format.bytes(bytes)) leaves \(Format.bytes(left))"
    }
}

/// The limits of the memory of this process.
public struct MemoryLimits {
    /// All that are known. The one that leaves the least comes first: it is the one that counts.
    public let all: [MemoryLimit]

    private let root: String

    /// - Parameter root: a folder that holds `proc` and the control groups; "" for the machine's.
    public init(root: String = "") {
        self.root = root
        var limits = Self.controlGroups(root)
        let page = max(1, sysconf(Int32(_SC_PAGESIZE))), installed = sysconf(Int32(_SC_PHYS_PAGES))
        if installed > 0 {
            let bytes = installed.multipliedReportingOverflow(by: page)
            let available = Self.kilobytes("MemAvailable:", of: "/proc/meminfo", root)
            if !bytes.overflow {
                limits.append(
                    MemoryLimit(source: .machine, bytes: bytes.partialValue, left: available ?? bytes.partialValue))
            }
        }
        func add(_ source: MemoryLimit.Source, _ bytes: Int?, used key: String) {
            guard let bytes else { return }
            let used = Self.kilobytes(key, of: "/proc/self/status", root) ?? 0
            limits.append(MemoryLimit(source: source, bytes: bytes, left: max(0, bytes - used)))
        }
        add(.addressSpace, Self.addressSpace, used: "VmSize:")
        add(.data, Self.data, used: "VmData:")
        all = limits.sorted { $0.left < $1.left }
    }

    /// RLIMIT_AS in bytes; nil without a limit.
    static var addressSpace: Int? { resourceLimit(RLIMIT_AS) }
    private static var data: Int? { resourceLimit(RLIMIT_DATA) }

    private static func resourceLimit(_ resource: __rlimit_resource) -> Int? {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0 else { return nil }
        // RLIM_INFINITY does not fit into an Int.
        return Int(exactly: limit.rlim_cur)
    }

    /// The limit because of which `bytes` more of physical memory are not to be had, if there is one.
    ///
    /// Of the machine's memory all counts: what other programs have now may be free when the pages are written.
    ///
    /// - Parameter ofMachine: bytes of all processes of this machine that share the run; nil for those of this one.
    func exceeded(by bytes: Int, ofMachine: Int? = nil) -> MemoryLimit? {
        all.first { limit in
            switch limit.source {
            case .machine: ofMachine ?? bytes > limit.bytes
            case .controlGroup, .aboveControlGroup: bytes > limit.left
            // See `mapping`.
            case .addressSpace, .data, .commitment: false
            }
        }
    }

    /// Requires that the processes of this machine that share a run may have what they take together. None has taken it
    /// yet.
    ///
    /// - Parameters:
    ///   - bytes: bytes of all of them.
    ///   - ofGroup: bytes of those that are in the same control groups as this process.
    ///   - shared: bytes that are counted once, as they share them.
    /// - Throws: `Failure.failure`.
    public func require(_ bytes: Int, ofGroup: Int, processes: Int, shared: Int) throws {
        guard let limit = exceeded(by: ofGroup, ofMachine: bytes) else { return }
        let counted = limit.source == .machine ? bytes : ofGroup
        throw Failure(
            .failure,
            "the planned \(Format.bytes(counted)) of memory of the \(processes) processes on this machine"
                + (shared > 0 ? ", \(Format.bytes(shared)) of it shared by them," : "")
                + " do not fit: \(limit); start fewer of them, lower \(.batch) or the image size, or "
                + "\(limit.source.remedy)")
    }

    /// The limit because of which `bytes` more cannot be mapped, if there is one.
    func mapping(_ bytes: Int) -> MemoryLimit? {
        // The kernel knows what is mapped, also without /proc.
        let memory = mmap(
            nil, max(1, bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard memory == MAP_FAILED else {
            munmap(memory, max(1, bytes))
            return nil
        }
        let mapped = all.filter { $0.source == .addressSpace || $0.source == .data }
        if let limit = mapped.first(where: { $0.left < bytes }) { return limit }
        let committed = Self.kilobytes("Committed_AS:", of: "/proc/meminfo", root)
        if ControlGroups.lines(of: root + "/proc/sys/vm/overcommit_memory").first == "2",
            let limit = Self.kilobytes("CommitLimit:", of: "/proc/meminfo", root)
        {
            return MemoryLimit(source: .commitment, bytes: limit, left: max(0, limit - (committed ?? 0)))
        }
        // Without /proc the remainder is not known.
        return mapped.first ?? all.first { $0.source == .machine }
    }

    /// Bytes of this process's memory that are no copy of a file; 0 where it is not known.
    var resident: Int { Self.kilobytes("RssAnon:", of: "/proc/self/status", root) ?? 0 }

    /// The memory that the machine has left, for a person to judge a plan by; nil where it is not known.
    public static var available: Int? {
        guard let free = kilobytes("MemAvailable:", of: "/proc/meminfo", "") else { return nil }
        return free + (kilobytes("SwapFree:", of: "/proc/meminfo", "") ?? 0)
    }

    // MARK: Sources

    private static func controlGroups(_ root: String) -> [MemoryLimit] {
        var limits: [MemoryLimit] = []
        for group in ControlGroups(root: root).groups(of: "memory") {
            // Memory of the group that is not the kernel's copy of files, which it can drop.
            let values = group.values("memory.stat"), prefix = group.isUnified ? "" : "total_"
            let files = ["inactive_file", "active_file"].reduce(0) { $0 + (values["\(prefix)\($1)"] ?? 0) }
            let usage = group.number(group.isUnified ? "memory.current" : "memory.usage_in_bytes") ?? 0
            let used = max(0, usage - files)
            func add(_ source: MemoryLimit.Source, _ bytes: Int?) {
                // The first version has no word for "without a limit", but the largest number.
                guard let bytes, bytes < 1 << 60 else { return }
                limits.append(MemoryLimit(source: source, bytes: bytes, left: max(0, bytes - used)))
            }
            if group.isUnified {
                for file in ["memory.max", "memory.high"] {
                    add(.controlGroup(path: group.path, file: file), group.number(file))
                }
                continue
            }
            let file = "memory.limit_in_bytes", own = group.number(file)
            // Without a hierarchy a group does not count what those below it use.
            if group.isOwn || group.number("memory.use_hierarchy") != 0 {
                add(.controlGroup(path: group.path, file: file), own)
            }
            // Of all groups above, seen or not.
            if group.isOwn, let least = values["hierarchical_memory_limit"], least < own ?? .max {
                add(.aboveControlGroup(path: group.path), least)
            }
        }
        // One group above has two names where the process sees it.
        let seen = limits.filter { if case .controlGroup = $0.source { true } else { false } }.map(\.bytes).min()
        return limits.filter { limit in
            if case .aboveControlGroup = limit.source, let seen, seen <= limit.bytes { return false }
            return true
        }
    }

    /// The value of a line such as "MemAvailable:   24676372 kB", in bytes.
    private static func kilobytes(_ key: String, of path: String, _ root: String) -> Int? {
        guard let line = ControlGroups.lines(of: root + path).first(where: { $0.hasPrefix(key) }) else { return nil }
        return line.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap { Int($0) }.map {
            $0 &* 1024
        }
    }
}
