import ArgumentParser
import FoundationEssentials
import Images
import Tensors

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say what processor, kernels, threads and libraries are in use.",
        discussion: "Ends with 1 where something is wrong, such as a parallel region that gets one thread only.")

    @OptionGroup(title: "Compute") var compute: ComputeOptions

    func run() throws {
        try compute.apply()
        let processor = Self.values(of: "/proc/cpuinfo")
        let memory = Self.values(of: "/proc/meminfo")
        let features = Set((processor["flags"] ?? processor["Features"] ?? "").split(separator: " ").map(String.init))
        let relevant = ["sse2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "amx_bf16"]
        let quota = Threads.controlGroupQuota
        let observed = Threads.observed
        let isLowered = InstructionSet.selected != InstructionSet.available
        var lines: [(String, String)] = [
            ("dmae", Dmae.version),
            ("processor", processor["model name"] ?? "unknown"),
            ("features", relevant.filter(features.contains).joined(separator: " ")),
            ("memory available", memory["MemAvailable"] ?? "unknown"),
            ("huge pages", Self.hugePages),
            ("", ""),
            (
                "instruction set",
                InstructionSet.selected.name + (isLowered ? " (DMAE_ISA; \(InstructionSet.available.name) is available)" : "")
            ),
        ]
        for variant in InstructionSet.variants where variant.isSelected { lines.append(("  " + variant.operation, variant.name)) }
        lines += [
            ("", ""),
            ("processors in the affinity mask", "\(Threads.affinity)"),
            ("control group's quota", quota.map { Format.fixed($0, 2) + " processors" } ?? "none"),
            ("threads recommended", "\(Threads.recommended)"),
            ("threads in use", "\(Threads.count)"),
            ("threads a parallel region got", "\(observed)"),
            ("", ""),
            ("OpenMP", "\(Threads.openMPVersion), LLVM's, linked in"),
        ]
        lines += ImageLibraries.versions.map { ($0.name, $0.version) }
        print(Format.lines(lines))
        guard observed > 1 || Threads.count == 1 else {
            throw Failure(
                .failure,
                "a parallel region got one thread instead of \(Threads.count): unset OMP_THREAD_LIMIT, or rebuild with LLVM's OpenMP")
        }
    }

    /// "key : value" lines; the first of each key.
    private static func values(of path: String) -> [String: String] {
        guard let data = try? Data(contentsOf: URL(filePath: path)) else { return [:] }
        var values: [String: String] = [:]
        for line in String(decoding: data, as: UTF8.self).split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let key = String(parts[0]).trimmingSpaces
            if values[key] == nil { values[key] = String(parts[1]).trimmingSpaces }
        }
        return values
    }

    /// The setting of transparent huge pages, which the planned memory asks for.
    private static var hugePages: String {
        guard let data = try? Data(contentsOf: URL(filePath: "/sys/kernel/mm/transparent_hugepage/enabled")) else { return "unknown" }
        let text = String(decoding: data, as: UTF8.self)
        guard let open = text.firstIndex(of: "["), let close = text.firstIndex(of: "]") else { return "unknown" }
        return String(text[text.index(after: open)..<close])
    }
}

extension String {
    fileprivate var trimmingSpaces: String {
        var part = Substring(self)
        while let first = part.first, first.isWhitespace { part.removeFirst() }
        while let last = part.last, last.isWhitespace { part.removeLast() }
        return String(part)
    }
}
