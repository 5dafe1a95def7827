import CKernels
import Reporting

/// An instruction set that kernels are written for: a row of CKernels' list, which names the processor's features that
/// it needs. A set need not include the ones before it.
public struct InstructionSet: RawRepresentable, Hashable, CaseIterable, Sendable {
    /// The position in the list.
    public let rawValue: Int

    /// The set of that name, as DMAE_ISA takes it; nil if there is none.
    public init?(named name: String) {
        guard let set = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = set
    }

    /// Whether every operation on operands of `precisions` uses the same kernels as with `other`: only then its results
    /// have the same bits.
    public func computes(like other: InstructionSet, in precisions: Set<Precision>) -> Bool {
        let rows = Self.variants.filter { row in
            precisions.contains { row.operation.hasSuffix("_\($0.rawValue)") } && !row.operation.hasPrefix("peak_")
        }
        return Set(rows.map(\.operation)).allSatisfy { operation in
            let own = rows.last { $0.operation == operation && includes($0.instructionSet) }
            let others = rows.last { $0.operation == operation && other.includes($0.instructionSet) }
            return own?.name == others?.name
        }
    }

    /// The set at a position of the list, or nil beyond it.
    public init?(rawValue: Int) {
        guard Self.indices.contains(rawValue) else { return nil }
        self.rawValue = rawValue
    }

    private init(_ kernels: dmae_isa) { rawValue = Int(kernels.rawValue) }
    private var kernels: dmae_isa { dmae_isa(rawValue: UInt32(rawValue)) }
    private static var indices: Range<Int> { 0..<Int(dmae_isa_count.rawValue) }

    /// Every set; where several run, a later one is preferred.
    public static var allCases: [InstructionSet] { indices.map { InstructionSet(rawValue: $0)! } }

    /// The name of every set, as DMAE_ISA takes it.
    public static var names: [String] { allCases.map(\.name) }

    /// What every processor of the architecture runs.
    public static let scalar = InstructionSet(dmae_isa_scalar)

    /// The name, as DMAE_ISA takes it.
    public var name: String { String(cString: dmae_isa_name(kernels)) }

    /// Whether this set has all features of `other`.
    public func includes(_ other: InstructionSet) -> Bool { dmae_isa_includes(kernels, other.kernels) }

    /// Whether this processor and its operating system run this set.
    public var runs: Bool { dmae_isa_runs(kernels) }

    /// The last set of the list that runs here.
    public static var available: InstructionSet { InstructionSet(dmae_isa_available()) }

    /// The one in use.
    public static var selected: InstructionSet { InstructionSet(dmae_isa_selected()) }

    /// Uses this set from now on; false, and no change, where it does not run.
    public func use() -> Bool { dmae_isa_use(kernels) }

    /// The flags in Linux's `/proc/cpuinfo` of every processor feature that the list of sets knows.
    public static var featureFlags: [String] {
        String(cString: dmae_feature_flags()).split(separator: " ").map(String.init)
    }

    /// Applies the environment variable DMAE_ISA.
    ///
    /// - Throws: `Failure.usage` for an unknown name, `Failure.failure` for an instruction set the processor lacks.
    public static func applyEnvironment() throws {
        switch dmae_isa_from_environment() {
        case 0: return
        case 1:
            throw Failure(
                .usage, "DMAE_ISA names no instruction set: use one of \(names.joined(separator: ", ")), or unset it")
        default:
            throw Failure(
                .failure,
                "DMAE_ISA asks for an instruction set this processor lacks: the highest here is \(available.name)")
        }
    }

    /// One row of the kernels' list of variants.
    public struct Variant: Sendable {
        /// "gemm_f32"
        public let operation: String
        /// "gemm_f32_avx512_14x32"
        public let name: String
        /// The set whose features the variant needs.
        public let instructionSet: InstructionSet
        /// Whether its operation uses it now.
        public let isSelected: Bool
    }

    /// Every kernel variant in this binary.
    public static var variants: [Variant] {
        (0..<dmae_variant_count()).map { index in
            let row = dmae_variant_at(index)
            return Variant(
                operation: String(cString: row.operation), name: String(cString: row.name),
                instructionSet: InstructionSet(row.isa), isSelected: dmae_variant_is_selected(index))
        }
    }

    /// Operations of `iterations` rounds of multiply-adds in registers, or with AMX of tile products, on each of
    /// `threads` threads. Time the call to measure the peak.
    public static func peakFLOP(_ precision: Precision, threads: Int, iterations: Int) -> Double {
        dmae_peak_flops(precision.kernels, Int32(threads), iterations)
    }
}
