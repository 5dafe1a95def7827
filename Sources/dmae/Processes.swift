import ArgumentParser
import Glibc
import Images
import Ranks
import Reporting
import Tensors
import Training
import Weights

/// This process among those that mpiexec or srun has started together.
enum Processes {
    /// The processors of this process; nil where it is alone.
    private(set) static var processors: Ranks.Processors?

    /// Joins the others. All but process 0 are silent from then on, as all would say the same.
    ///
    /// - Throws: `Failure.failure` where MPI cannot be started; `Ranks.LostPeer`.
    static func join() throws {
        try Ranks.start()
        let ranks = Ranks.current
        ranks.describe = { error in
            switch error {
            case let failure as Failure: return (failure.code.rawValue, failure.message(in: Flags()))
            case let lost as Ranks.LostPeer: return (Failure.Code.inputOutput.rawValue, lost.sentence)
            default: return (Dmae.exitCode(for: error).rawValue, Dmae.fullMessage(for: error))
            }
        }
        guard !ranks.isAlone else { return }
        if !ranks.isFirst {
            Terminal.prefix = "process \(ranks.rank): "
            Terminal.isMuted = true
            // What it prints is what process 0 prints.
            let nothing = open("/dev/null", O_WRONLY)
            if nothing >= 0 {
                dup2(nothing, STDOUT_FILENO)
                close(nothing)
            }
        }
        processors = try ranks.divideProcessors()
    }

    /// The program that this process runs: its build, and the checksum of its file.
    static var program: String {
        var hash = XXHash64()
        let file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)
        if file >= 0 {
            // In parts: a copy of the whole would take more memory than a small run.
            withUnsafeTemporaryAllocation(byteCount: 1 << 16, alignment: 8) { bytes in
                while case let count = read(file, bytes.baseAddress, bytes.count), count > 0 {
                    hash.update(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
                }
            }
            close(file)
        }
        return "\(Build.description), checksum \(hash.text)"
    }

    /// Tells the others of an error of which they do not know yet.
    static func told(_ error: any Error) -> any Error {
        let ranks = Ranks.current
        guard !ranks.isAlone, !ranks.haveMet, !(error is Ranks.LostPeer) else { return error }
        let isHelp = Dmae.exitCode(for: error).isSuccess
        guard !isHelp else { return error }
        do {
            let told = try ranks.told(error)
            // Process 0 says its own failure in full.
            return ranks.isFirst && !(error is Failure) ? error : told
        } catch { return error }
    }

    /// Refuses a command that one process does.
    ///
    /// - Throws: `Failure.usage` where there are several.
    static func requireOne(for command: any ParsableCommand) throws {
        guard !Ranks.current.isAlone else { return }
        switch command {
        case is Distill, is Pretrain, is Finetune, is Resume, is Doctor, is Dmae, is Evaluate, is Embed, is Knn: return
        case _ where type(of: command)._commandName == "help": return
        default:
            throw Failure(
                .usage,
                "`dmae \(type(of: command)._commandName)` is done by one process: start it without mpiexec or srun")
        }
    }

    /// Computes the features or logits of images that all processes share: process 0 does `lead`, the others `follow`, which
    /// goes through the same images. Before, they compare what must be the same.
    ///
    /// - Parameters:
    ///   - weights: a checksum of the weights.
    ///   - settings: what else decides the results, in any words.
    /// - Throws: what `lead` throws; `Failure.usage` where processes differ; `Ranks.Stopped` in other processes;
    ///   `Ranks.LostPeer`.
    static func share(
        _ sources: [any ImageSource], weights: @autoclosure () -> String, settings: @autoclosure () -> String,
        lead: () throws -> Void, follow: () throws -> Void
    ) throws {
        let ranks = Ranks.current
        guard !ranks.isAlone else { return try lead() }
        let copy = "every process needs the same files under the same paths"
        try ranks.meet(
            { _ in
                [
                    Ranks.Fact("program", program, remedy: "start the same file on every machine"),
                    Ranks.Fact(
                        "images",
                        sources.map { "\($0.count) images with checksum \(Trainer.checksum(of: $0))" }.joined(
                            separator: ", "),
                        remedy: copy),
                    Ranks.Fact("weights", "checksum \(weights())", remedy: copy),
                    Ranks.Fact("settings", settings(), remedy: "start all processes with the same words"),
                    Ranks.Fact(
                        "instruction set", InstructionSet.selected.name, remedy: "set DMAE_ISA to the lower one for all"
                    ),
                ]
            }, {})
        if ranks.isFirst { return try ranks.lead(lead) }
        // Process 0 removes what it has not finished before any process ends.
        Signals.noteOnly()
        ranks.request = { Signals.requested }
        try follow()
        try ranks.serve(request: ranks.request)
    }

    /// What to do where another process is gone.
    static let remedy = "; when that is mended, the same command with --resume auto goes on with a run"

    /// The processes of a run, each with its machine and processors, for a person; empty where it is alone.
    ///
    /// - Throws: `Ranks.LostPeer`.
    static func division() throws -> [(String, String)] {
        let ranks = Ranks.current
        guard !ranks.isAlone, let processors else { return [] }
        let lines = try ranks.meet(text(of: processors))
        return lines.enumerated().map { (ranks.name(of: $0), $1) }
    }

    /// "1 thread on processors 0, a part of the 2 of 2 processes".
    private static func text(of processors: Ranks.Processors) -> String {
        let list = processors.list.map(String.init).joined(separator: ",")
        return "\(Format.counted(Threads.count, "thread")) on processors \(list), \(processors.origin)"
    }

    /// Says how the run is divided.
    static func note(_ accumulation: Int, groups: Int) -> String? {
        let ranks = Ranks.current
        guard !ranks.isAlone, let processors else { return nil }
        return
            "\(ranks.count) processes, \(ranks.localCount) of them on this machine; this one has "
            + "\(text(of: processors)); each runs \(accumulation / ranks.count) of the \(accumulation) batches of a step "
            + "and \(groups / ranks.count) of \(groups) groups"
    }
}
