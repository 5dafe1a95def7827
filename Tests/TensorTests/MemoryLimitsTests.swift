import Foundation
import Reporting
import Tensors
import TestSupport
import XCTest

/// What the system lets the process have, read from trees of files as the kernel shows them.
final class MemoryLimitsTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func write(_ text: String, _ name: String) throws {
        let place = URL(fileURLWithPath: folder.file(name))
        try FileManager.default.createDirectory(
            at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: place)
    }

    /// Files of /proc: 64 GB of memory, of which 60 GB are left.
    private func writeProcess(groups: String, mounts: [String]) throws {
        try write(groups, "proc/self/cgroup")
        try write(
            "22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n"
                + mounts.enumerated().map { "\(30 + $0) 22 0:\(40 + $0) \($1)\n" }.joined(),
            "proc/self/mountinfo")
        try write("MemTotal:       67108864 kB\nMemAvailable:   62914560 kB\n", "proc/meminfo")
    }

    /// The limits of control groups, the one that counts first: their name, bytes and bytes left.
    private func groups() -> [String] {
        MemoryLimits(root: folder.path).all.compactMap { limit in
            let name =
                switch limit.source {
                case .controlGroup(let path, let file): "\(path) \(file)"
                case .aboveControlGroup(let path): "above \(path)"
                default: nil as String?
                }
            return name.map { "\($0) \(limit.bytes) \(limit.left)" }
        }
    }

    /// Version 2: own group, its ancestors, "max", what is used of it without the copies of files.
    func testUnified() throws {
        try writeProcess(
            groups: "0::/batch/job 7/task\n", mounts: ["/ /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw"])
        let job = "sys/fs/cgroup/batch/job 7"
        try write("max\n", "\(job)/task/memory.max")
        try write("max\n", "\(job)/task/memory.high")
        try write("100000\n", "\(job)/task/memory.current")
        try write("5000000\n", "\(job)/memory.max")
        try write("4000000\n", "\(job)/memory.high")
        try write("1500000\n", "\(job)/memory.current")
        try write("anon 300000\nfile 700000\ninactive_file 600000\nactive_file 100000\n", "\(job)/memory.stat")
        try write("9000000\n", "sys/fs/cgroup/batch/memory.max")
        try write("2000000\n", "sys/fs/cgroup/batch/memory.current")
        XCTAssertEqual(
            groups(),
            [
                "/batch/job 7 memory.high 4000000 3200000", "/batch/job 7 memory.max 5000000 4200000",
                "/batch memory.max 9000000 7000000",
            ])
        let counts = try XCTUnwrap(MemoryLimits(root: folder.path).all.first)
        XCTAssertEqual(counts.name, "the memory limit of the cgroup /batch/job 7 (memory.high)")
        XCTAssertEqual(
            "\(counts)", "the memory limit of the cgroup /batch/job 7 (memory.high) of 4.0 MB leaves 3.2 MB")
        // A parent that others fill counts before the own, larger limit.
        try write("8900000\n", "sys/fs/cgroup/batch/memory.current")
        XCTAssertEqual(groups().first, "/batch memory.max 9000000 100000")
        // More than the limit is used: nothing is left.
        try write("9900000\n", "sys/fs/cgroup/batch/memory.current")
        XCTAssertEqual(groups().first, "/batch memory.max 9000000 0")
    }

    /// Version 1, whose word for no limit is a large number.
    func testLegacy() throws {
        let none = "9223372036854771712\n"
        try writeProcess(
            groups: "7:memory,hugetlb:/a/b\n3:cpu,cpuacct:/a\n1:name=systemd:/x\n",
            mounts: [
                "/ /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
                "/ /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory,hugetlb",
            ])
        let memory = "sys/fs/cgroup/memory"
        try write(none, "\(memory)/a/b/memory.limit_in_bytes")
        try write("700000\n", "\(memory)/a/b/memory.usage_in_bytes")
        try write("3000000\n", "\(memory)/a/memory.limit_in_bytes")
        try write("1000000\n", "\(memory)/a/memory.usage_in_bytes")
        try write("1\n", "\(memory)/a/memory.use_hierarchy")
        try write("total_inactive_file 100000\ntotal_active_file 1\nactive_file 77\n", "\(memory)/a/memory.stat")
        try write(none, "\(memory)/memory.limit_in_bytes")
        XCTAssertEqual(groups(), ["/a memory.limit_in_bytes 3000000 2100001"])
        // Its limit is not that of the groups below.
        try write("0\n", "\(memory)/a/memory.use_hierarchy")
        XCTAssertEqual(groups(), [])
        // The kernel says the least limit of all groups above, which a container does not see.
        try write("1\n", "\(memory)/a/memory.use_hierarchy")
        try write("hierarchical_memory_limit 2000000\n", "\(memory)/a/b/memory.stat")
        XCTAssertEqual(
            groups(), ["above /a/b 2000000 1300000", "/a memory.limit_in_bytes 3000000 2100001"])
        try write("hierarchical_memory_limit 3000000\n", "\(memory)/a/b/memory.stat")
        XCTAssertEqual(groups(), ["/a memory.limit_in_bytes 3000000 2100001"])
        try write("250000\n", "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us")
        try write("100000\n", "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us")
        try write("-1\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us")
        try write("100000\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us")
        XCTAssertEqual(Threads.quota(of: ControlGroups(root: folder.path)), 2.5)
    }

    /// Both at once: version 2 without the controller, version 1 with it.
    func testHybrid() throws {
        try writeProcess(
            groups: "4:memory:/job\n0::/job\n",
            mounts: [
                "/ /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755", "/ /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
                "/ /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
            ])
        try write("4000000\n", "sys/fs/cgroup/memory/job/memory.limit_in_bytes")
        try write("populated 1\n", "sys/fs/cgroup/unified/job/cgroup.events")
        XCTAssertEqual(groups(), ["/job memory.limit_in_bytes 4000000 4000000"])
        try write("50000 100000\n", "sys/fs/cgroup/unified/job/cpu.max")
        XCTAssertEqual(Threads.quota(of: ControlGroups(root: folder.path)), 0.5)
        try write("max 100000\n", "sys/fs/cgroup/unified/job/cpu.max")
        XCTAssertNil(Threads.quota(of: ControlGroups(root: folder.path)))
    }

    /// A container: its own group is mounted as the root of what it sees.
    func testContainers() throws {
        // Without a namespace of groups: the paths are the machine's.
        try writeProcess(
            groups: "4:memory:/docker/ab12\n",
            mounts: ["/docker/ab12 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"])
        try write("4000000\n", "sys/fs/cgroup/memory/memory.limit_in_bytes")
        XCTAssertEqual(groups(), ["/docker/ab12 memory.limit_in_bytes 4000000 4000000"])
        // With a namespace, and a folder of a name with a space.
        try writeProcess(groups: "0::/\n", mounts: ["/ /sys/fs/my\\040groups ro - cgroup2 cgroup rw"])
        try write("5000000\n", "sys/fs/my groups/memory.max")
        XCTAssertEqual(groups(), ["/ memory.max 5000000 5000000"])
        // The process was moved out of the namespace's root: what is mounted is all that is known.
        try writeProcess(groups: "0::/../other\n", mounts: ["/ /sys/fs/my\\040groups ro - cgroup2 cgroup rw"])
        XCTAssertEqual(groups(), ["/ memory.max 5000000 5000000"])
        // A mount that shows another part of the tree is left for one that shows the whole.
        try writeProcess(
            groups: "0::/a/b\n",
            mounts: ["/x /sys/fs/part rw - cgroup2 cgroup rw", "/ /sys/fs/whole rw - cgroup2 cgroup rw"])
        try write("1000\n", "sys/fs/part/memory.max")
        try write("6000000\n", "sys/fs/whole/a/b/memory.max")
        XCTAssertEqual(groups(), ["/a/b memory.max 6000000 6000000"])
    }

    /// Without /proc the usual places are tried; without /sys there are none.
    func testAbsent() throws {
        XCTAssertEqual(groups(), [])
        let limits = MemoryLimits(root: folder.path)
        let machine = try XCTUnwrap(limits.all.first { $0.source == .machine })
        XCTAssertEqual(machine.bytes, Int(ProcessInfo.processInfo.physicalMemory))
        XCTAssertEqual(machine.left, machine.bytes)
        XCTAssertNil(Threads.quota(of: ControlGroups(root: folder.path)))
        try write("4000000\n", "sys/fs/cgroup/memory.max")
        XCTAssertEqual(groups(), ["/ memory.max 4000000 4000000"])
        // /proc, but nothing mounted.
        try writeProcess(groups: "0::/job\n", mounts: [])
        try FileManager.default.removeItem(atPath: folder.file("sys"))
        XCTAssertEqual(groups(), [])
        let known = try XCTUnwrap(MemoryLimits(root: folder.path).all.first { $0.source == .machine })
        XCTAssertEqual(known.left, 62_914_560 * 1024)
    }

    /// A process under limits of its own.
    func testResourceLimits() throws {
        let used = Int(try XCTUnwrap(status("VmSize:")))
        let limit = used + 1 << 30
        var before = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &before)
        var lowered = before
        lowered.rlim_cur = rlim_t(limit)
        setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &lowered)
        defer { setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &before) }
        let found = try XCTUnwrap(MemoryLimits().all.first { $0.source == .addressSpace })
        XCTAssertEqual(found.bytes, limit)
        XCTAssertEqual(Double(found.left), Double(1 << 30), accuracy: Double(64 << 20))
        XCTAssertEqual(found.name, "the address space limit (ulimit -v)")
        let plan = MemoryPlan()
        _ = plan.reserve("large", 1 << 29, 1, .weights)
        let failure = failure { try plan.commit() }
        XCTAssertEqual(failure?.code, .failure)
        let message = try XCTUnwrap(failure?.message)
        XCTAssertTrue(
            message.hasPrefix("the planned 2.15 GB of memory") && message.contains("ulimit -v")
                && message.hasSuffix("lower batch, the image size or threads, or raise the limit"), message)
        // What fits is mapped.
        let small = MemoryPlan()
        _ = small.reserve("small", 1 << 20, 1, .weights)
        XCTAssertNoThrow(try small.commit())
    }

    /// More than the machine has.
    func testMachine() throws {
        let plan = MemoryPlan()
        _ = plan.reserve("vast", 1 << 50, 1, .weights)
        let failure = failure { try plan.commit() }
        XCTAssertEqual(failure?.code, .failure)
        XCTAssertTrue(failure?.message.contains("this machine's memory is ") == true, "\(String(describing: failure))")
        // What lies beside the plan counts.
        let beside = MemoryPlan()
        _ = beside.reserve("small", 1 << 10, 1, .weights)
        beside.bytesBeside = 1 << 50
        XCTAssertEqual(TestSupport.failure { try beside.commit() }?.code, .failure)
    }

    private func status(_ key: String) -> Int? {
        let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        let line = text?.split(separator: "\n").first { $0.hasPrefix(key) }
        return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
    }

    /// Processes that share a run are counted together: all of them for the machine, those of a group for its limit.
    func testProcessesOfAMachineCountTogether() throws {
        try writeProcess(
            groups: "0::/job\n", mounts: ["/ /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw"])
        try write("5000000\n", "sys/fs/cgroup/job/memory.max")
        try write("1000000\n", "sys/fs/cgroup/job/memory.current")
        let limits = MemoryLimits(root: folder.path)
        XCTAssertNoThrow(try limits.require(8_000_000, ofGroup: 4_000_000, processes: 4, shared: 0))
        XCTAssertThrowsError(try limits.require(8_000_000, ofGroup: 4_000_001, processes: 4, shared: 1_000_000)) {
            XCTAssertEqual(($0 as? Failure)?.code, .failure)
            let text = "\($0)"
            for part in ["4.0 MB", "4 processes on this machine", "1.0 MB of it shared", "start fewer of them"] {
                XCTAssertTrue(text.contains(part), text)
            }
        }
        let machine = try XCTUnwrap(limits.all.first { $0.source == .machine }?.bytes)
        XCTAssertNoThrow(try limits.require(machine, ofGroup: 1, processes: 2, shared: 0))
        XCTAssertThrowsError(try limits.require(machine + 1, ofGroup: 1, processes: 2, shared: 0)) {
            let text = "\($0)"
            XCTAssertTrue(text.contains("this machine's memory is") && !text.contains("shared"), text)
        }
    }
}
