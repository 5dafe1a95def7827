import Glibc

/// The variables by which the environment speaks to the OpenMP runtime. dmae chooses threads and their stacks itself;
/// values that the runtime cannot follow would end the process without a sentence, or run it on one thread.
enum OpenMPEnvironment {
    /// Where threads run, how they wait, and what the runtime prints: these are left to it. So is a limit on threads,
    /// of which the runtime says itself that it cannot start more.
    private static let kept: Set<String> = [
        "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "OMP_THREAD_LIMIT", "OMP_DISPLAY_ENV",
        "OMP_DISPLAY_AFFINITY", "OMP_AFFINITY_FORMAT", "KMP_AFFINITY", "KMP_BLOCKTIME", "KMP_HW_SUBSET", "KMP_SETTINGS",
        "KMP_WARNINGS",
    ]
    /// Of the others, those that no one sets without a purpose. (OMP_NUM_THREADS is what job scripts set for every
    /// program.)
    private static let meant: Set<String> = [
        "OMP_STACKSIZE", "KMP_STACKSIZE", "GOMP_STACKSIZE", "KMP_CPUINFO_FILE", "KMP_ALL_THREADS",
        "KMP_DEVICE_THREAD_LIMIT", "KMP_LIBRARY", "OMP_DYNAMIC", "OMP_MAX_ACTIVE_LEVELS",
    ]

    /// Removes all variables of the runtime but those that are left to it, before the first parallel region.
    ///
    /// - Returns: a warning where one of them was meant for dmae.
    static func clear() -> String? {
        var names: [String] = []
        var entry = environ
        while let text = entry.pointee {
            names.append(String(String(cString: text).prefix { $0 != "=" }))
            entry += 1
        }
        let removed = names.filter { name in
            ["OMP_", "KMP_", "GOMP_"].contains(where: name.hasPrefix) && !kept.contains(name)
        }
        for name in removed { unsetenv(name) }
        // By default stacks are as large as the shell lets the main one be.
        setenv("OMP_STACKSIZE", "8M", 1)
        let ignored = removed.filter(meant.contains).sorted()
        guard !ignored.isEmpty else { return nil }
        return
            "\(ignored.joined(separator: ", ")) in the environment \(ignored.count == 1 ? "has" : "have") no effect: "
            + "dmae sets up its threads itself, and --threads says how many"
    }
}
