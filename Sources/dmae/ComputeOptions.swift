import Reporting
import ArgumentParser
import Models
import Tensors
import Training

/// Threads and instruction set, for every command that computes.
struct ComputeOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Threads of the kernels; the result does not depend on it. Default: the processors available to this "
                + "process.",
            valueName: "count"))
    var threads: Int?

    func validate() throws {
        if let threads, !(1...4096).contains(threads) { throw ValidationError("--threads must be 1 to 4096") }
    }

    /// Applies both. Call before any memory is planned: workspaces grow with the threads.
    ///
    /// - Throws: `Failure` where DMAE_ISA cannot be followed, or the system does not give so many threads.
    func apply() throws {
        try InstructionSet.applyEnvironment()
        let recommended = Threads.recommended
        Threads.count = threads ?? recommended
        if let threads, threads > recommended {
            let processors = Format.counted(recommended, "processor")
            Terminal.warning(
                "--threads \(threads) is more than the \(processors) this process may use: it will be slower")
        }
        try Threads.requireStartable()
    }
}

/// The values of --precision.
enum PrecisionChoice: String, CaseIterable, ExpressibleByArgument {
    case f32, bf16, auto
}

/// The precision of matmuls, for every command that runs a model.
struct PrecisionOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Precision of the operands of matmuls and attention: f32, bf16, or auto: bf16 where the processor has bf16 "
                + "instructions, else f32.",
            valueName: "precision"))
    var precision: PrecisionChoice = .f32

    /// The precision to compute in. Call after `ComputeOptions.apply()`, which chooses the instruction set.
    func resolved() -> Precision { precision.resolved() }
}

/// The precision of matmuls where bf16 is the default on processors that multiply it.
struct TrainingPrecisionOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Precision of the operands of matmuls and attention: f32, bf16, or auto: bf16 where the processor has bf16 "
                + "instructions, else f32.",
            valueName: "precision"))
    var precision: PrecisionChoice = .auto

    /// See `PrecisionOptions`. A resumed run keeps its precision on any processor, and a new one says what was chosen.
    func resolved(for training: TrainingOptions) -> Precision {
        guard precision == .auto else { return precision.resolved() }
        if let stored = training.stored?.precision {
            return PrecisionChoice(rawValue: stored.rawValue)?.resolved() ?? stored
        }
        let chosen = precision.resolved()
        if chosen == .bf16, !training.quiet {
            Terminal.note("precision: bf16, which this processor multiplies; --precision f32 computes in float32")
        }
        return chosen
    }
}

extension PrecisionChoice {
    /// The precision to compute in; warns where bf16 is asked for and no faster.
    fileprivate func resolved() -> Precision {
        switch self {
        case .f32: return .f32
        case .auto: return Precision.bf16.isNative ? .bf16 : .f32
        case .bf16:
            if !Precision.bf16.isNative {
                Terminal.warning(
                    "the instruction set \(InstructionSet.selected.name) has no products of bf16: they are computed in "
                        + "float32 from "
                        + "rounded operands, no faster than --precision f32")
            }
            return .bf16
        }
    }
}

extension TeacherPrecision: ExpressibleByArgument {}
extension ExchangePrecision: ExpressibleByArgument {}

/// The precision of a frozen teacher, for the commands that train with one.
struct TeacherPrecisionOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Precision of the matmuls in the teacher's blocks: same as the step's, or int8, with a scale for each row "
                + "of a "
                + "weight and for each token.",
            valueName: "precision"))
    var teacherPrecision: TeacherPrecision = .same

    /// The precision to compute in. Call after `ComputeOptions.apply()`, which chooses the instruction set.
    func resolved() -> TeacherPrecision {
        if teacherPrecision == .int8, !Precision.int8.isNative {
            Terminal.warning(
                "the instruction set \(InstructionSet.selected.name) does not multiply int8: 16-bit integers are "
                    + "multiplied "
                    + "instead, with the same results, but not at the speed of int8")
        }
        return teacherPrecision
    }
}
