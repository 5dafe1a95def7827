import Reporting
import CKernels

/// The instruction sets kernels are written for, in rising order.
public enum InstructionSet: Int, CaseIterable, Sendable {
    case scalar, avx2, avx512, avx512vnni, avx512bf16, amx

    /// "scalar", "avx2", "avx512", "avx512vnni", "avx512bf16" or "amx", as DMAE_ISA takes them.
    public var name: String { String(cString: dmae_isa_name(dmae_isa(rawValue: UInt32(rawValue)))) }

    /// The highest one this processor and its operating system run.
    public static var available: InstructionSet { InstructionSet(rawValue: Int(dmae_isa_available().rawValue))! }

    /// The one in use.
    public static var selected: InstructionSet { InstructionSet(rawValue: Int(dmae_isa_selected().rawValue))! }

    /// Uses this one from now on; false, and no change, where the processor lacks it.
    public func use() -> Bool { dmae_isa_use(dmae_isa(rawValue: UInt32(rawValue))) }

    /// Applies the environment variable DMAE_ISA.
    ///
    /// - Throws: `Failure.usage` for an unknown name, `Failure.failure` for an instruction set the processor lacks.
    public static func applyEnvironment() throws {
        let names = allCases.map(\.name).joined(separator: ", ")
        switch dmae_isa_from_environment() {
        case 0: return
        case 1: throw Failure(.usage, "DMAE_ISA names no instruction set: use one of \(names), or unset it")
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
                instructionSet: InstructionSet(rawValue: Int(row.isa.rawValue))!,
                isSelected: dmae_variant_is_selected(index))
        }
    }

    /// Operations of `iterations` rounds of multiply-adds in registers, or with AMX of products of tiles in them, on
    /// each of `threads` threads; time the call to know the peak.
    public static func peakFLOP(_ precision: Precision, threads: Int, iterations: Int) -> Double {
        dmae_peak_flops(precision.kernels, Int32(threads), iterations)
    }
}
