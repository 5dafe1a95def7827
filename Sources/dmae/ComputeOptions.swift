import ArgumentParser
import Tensors

/// Threads and instruction set: what every command that computes takes.
struct ComputeOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Threads of the kernels; the result does not depend on it. Default: the processors this process may use.",
            valueName: "count"))
    var threads: Int?

    func validate() throws {
        if let threads, !(1...4096).contains(threads) { throw ValidationError("--threads must be 1 to 4096.") }
    }

    /// Applies both. Call before any memory is planned: workspaces grow with the threads.
    ///
    /// - Throws: `Failure` where DMAE_ISA cannot be followed.
    func apply() throws {
        try InstructionSet.applyEnvironment()
        let recommended = Threads.recommended
        Threads.count = threads ?? recommended
        if let threads, threads > recommended {
            let processors = Format.counted(recommended, "processor")
            Terminal.warning("--threads \(threads) is more than the \(processors) this process may use: it will be slower")
        }
    }
}
