import Reporting
import ArgumentParser
import FoundationEssentials
import Glibc
import Images
import Ranks
import Tensors

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Report the processor, kernels, threads and libraries in use.",
        discussion: """
            Threads are started and counted. If a parallel region gets one thread where more were requested, the exit \
            code is 1.

              dmae doctor
              DMAE_ISA=avx2 dmae doctor --threads 2
              dmae doctor --licenses
            """)

    @Flag(help: "Print one JSON object instead of text.")
    var json = false

    @Flag(help: "Print the licences of the libraries that are linked in, and nothing else.")
    var licenses = false

    @OptionGroup(title: "Compute") var compute: ComputeOptions

    /// The report as JSON. Bytes and counts are numbers, and what is not known is left out.
    private struct Report: Encodable {
        /// The variants of a kernel's operation.
        struct Operation: Encodable {
            let variant: String
            /// The instruction sets of all variants.
            let available: [String]
        }

        struct Limit: Encodable {
            let name: String
            let bytes, left: Int
        }

        let version: String
        let commit: String?
        let processor: String?
        let features: [String]
        let memoryAvailable: Int?
        /// The limits of the memory; the one that counts comes first.
        let memoryLimits: [Limit]
        let hugePages: String
        let instructionSet: String
        let availableInstructionSet: String
        /// The precision of training unless a flag says otherwise.
        let trainingPrecision: String
        let operations: [String: Operation]
        let affinity: Int
        let quota: Double?
        let threadsRecommended: Int
        let threads: Int
        let threadsObserved: Int
        let libraries: [String: String]

        enum CodingKeys: String, CodingKey {
            case version, commit, processor, features, operations, affinity, quota, threads, libraries
            case memoryAvailable = "memory_available"
            case memoryLimits = "memory_limits"
            case hugePages = "huge_pages"
            case instructionSet = "instruction_set"
            case availableInstructionSet = "available_instruction_set"
            case trainingPrecision = "training_precision"
            case threadsRecommended = "threads_recommended"
            case threadsObserved = "threads_observed"
        }
    }

    func run() throws {
        if licenses { return print(Build.thirdPartyNotices, terminator: "") }
        try compute.apply()
        if access("/proc/self/status", F_OK) != 0 {
            Terminal.note("/proc is not mounted: the processor, its features and the memory in use are not known")
        }
        let processor = Machine.values(of: "/proc/cpuinfo")
        let memory = Machine.values(of: "/proc/meminfo")
        let features = Set((processor["flags"] ?? processor["Features"] ?? "").split(separator: " ").map(String.init))
        let relevant = ["sse2", "sse4_2", "avx", "f16c"] + InstructionSet.featureFlags
        let limits = MemoryLimits()
        // Read before the parallel region, in which OpenMP may bind this thread to one processor.
        let (quota, affinity, recommended) = (Threads.controlGroupQuota, Threads.affinity, Threads.recommended)
        try Threads.start()
        let observed = Threads.observed
        let isLowered = InstructionSet.selected != InstructionSet.available
        var lines: [(String, String)] = [
            ("dmae", Build.description),
            ("processor", processor["model name"] ?? "unknown"),
            ("features", features.isEmpty ? "unknown" : relevant.filter(features.contains).joined(separator: " ")),
            ("memory available", memory["MemAvailable"].map { Self.bytes($0) + ", in the whole machine" } ?? "unknown"),
            ("memory for a run", limits.all.first.map(Self.text) ?? "unknown"),
            ("huge pages", Self.hugePages),
            ("", ""),
            (
                "instruction set",
                InstructionSet.selected.name
                    + (isLowered ? " (DMAE_ISA; \(InstructionSet.available.name) is available)" : "")
            ),
        ]
        let variants = InstructionSet.variants
        let precision: Precision = Precision.bf16.isNative ? .bf16 : .f32
        if json {
            let operations = variants.filter(\.isSelected).map { selected in
                let all = variants.filter { $0.operation == selected.operation }
                return (
                    selected.operation,
                    Report.Operation(variant: selected.name, available: all.map(\.instructionSet.name))
                )
            }
            var libraries = ["OpenMP": "\(Threads.openMPVersion)", "C library": Self.libraryVersion]
            for library in ImageLibraries.versions { libraries[library.name] = library.version }
            let report = Report(
                version: Dmae.version, commit: Build.commit, processor: processor["model name"],
                features: relevant.filter(features.contains), memoryAvailable: Self.count(memory["MemAvailable"]),
                memoryLimits: limits.all.map { .init(name: $0.name, bytes: $0.bytes, left: $0.left) },
                hugePages: Self.hugePages, instructionSet: InstructionSet.selected.name,
                availableInstructionSet: InstructionSet.available.name, trainingPrecision: precision.rawValue,
                operations: Dictionary(uniqueKeysWithValues: operations), affinity: affinity, quota: quota,
                threadsRecommended: recommended, threads: Threads.count, threadsObserved: observed,
                libraries: libraries)
            print(String(decoding: try report.sortedJSON(), as: UTF8.self))
            return try require(observed)
        }
        let width = variants.map(\.name.count).max() ?? 0
        for variant in variants where variant.isSelected {
            let all = variants.filter { $0.operation == variant.operation }.map(\.instructionSet.name)
            let space = String(repeating: " ", count: width - variant.name.count)
            lines.append(("  " + variant.operation, "\(variant.name)\(space)  of \(all.joined(separator: " "))"))
        }
        lines += [
            ("precision of training", "\(precision.rawValue), unless --precision says otherwise"),
            ("", ""),
            ("processors in the affinity mask", "\(affinity)"),
            ("control group's quota", quota.map { Format.fixed($0, 2) + " processors" } ?? "none"),
            ("threads recommended", "\(recommended)"),
            ("threads in use", "\(Threads.count)"),
            ("threads a parallel region got", "\(observed)"),
            ("", ""),
            ("OpenMP", "\(Threads.openMPVersion), LLVM's, linked in"),
        ]
        if let library = Ranks.library { lines.append(("MPI", library)) }
        lines += ImageLibraries.versions.map { ($0.name, $0.version) }
        lines.append(("C library", Self.libraryVersion))
        let division = try Processes.division()
        if !division.isEmpty { lines += [("", "")] + division }
        print(Format.lines(lines))
        try require(observed)
    }

    /// Throws `Failure.failure` if a parallel region got one thread where more were requested.
    private func require(_ observed: Int) throws {
        guard observed > 1 || Threads.count == 1 else {
            throw Failure(
                .failure,
                "a parallel region got one thread instead of \(Threads.count): unset OMP_THREAD_LIMIT, or rebuild with "
                    + "LLVM's "
                    + "OpenMP")
        }
    }

    /// "at most 12.1 MB, what is left of the 48.0 MB of the address space limit (ulimit -v)".
    private static func text(_ limit: MemoryLimit) -> String {
        "at most \(Format.bytes(limit.left)), what is left of the \(Format.bytes(limit.bytes)) of \(limit.name)"
    }

    /// "24676372 kB" in bytes.
    private static func count(_ field: String?) -> Int? {
        field?.split(separator: " ").first.flatMap { Int($0) }.map { $0 * 1024 }
    }

    /// "24676372 kB" in readable units.
    private static func bytes(_ field: String?) -> String { count(field).map(Format.bytes) ?? "unknown" }

    /// "glibc 2.36": the version linked in, not the machine's.
    private static var libraryVersion: String {
        var name = [CChar](repeating: 0, count: 64)
        confstr(Int32(_CS_GNU_LIBC_VERSION), &name, name.count)
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The setting of transparent huge pages, which the planned memory asks for.
    private static var hugePages: String {
        guard let data = try? Data(contentsOf: URL(filePath: "/sys/kernel/mm/transparent_hugepage/enabled")) else {
            return "unknown"
        }
        let text = String(decoding: data, as: UTF8.self)
        guard let open = text.firstIndex(of: "["), let close = text.firstIndex(of: "]") else { return "unknown" }
        return String(text[text.index(after: open)..<close])
    }
}
