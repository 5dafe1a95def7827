import Reporting
import ArgumentParser
import Glibc
import Ranks
import Tensors
import Weights

/// The root command: lists the others.
@main
struct Dmae: ParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "dmae",
        abstract: "Distil masked autoencoders on CPUs.",
        discussion: """
            A large Vision Transformer, pre-trained as a masked autoencoder (MAE), teaches a small one. Both see the \
            same few visible patches of each image ("Masked Autoencoders Enable Efficient Knowledge Distillers", \
            arXiv 2208.12256).

            Results go to standard output, progress to standard error. The exit code is 0 on success, 1 on failure, 64 \
            for a wrong command line, 65 for bad data, 74 if a file cannot be read or written, 75 if a signal stopped a \
            run that `dmae resume` can continue, and 130 or 143 if SIGINT or SIGTERM ended a command at once.

            `dmae distill -h` shows a command's most used options on one screen, --help all of them. -o stands for \
            --output and -q for --quiet.

            DMAE_ISA=\(InstructionSet.names.joined(separator: "|")) selects a lower instruction set. \
            NO_COLOR switches colours off. \
            --generate-completion-script bash|zsh|fish prints a completion script.

              dmae doctor
              dmae distill --teacher teacher.safetensors --data images --dry-run
              dmae distill --teacher teacher.safetensors --data images --output run
              dmae reconstruct --weights run/model.safetensors --input a.jpg --output a.png
            """,
        version: Build.description,
        subcommands: [
            Distill.self,
            Pretrain.self,
            Finetune.self,
            Probe.self,
            Resume.self,
            Report.self,
            Preview.self,
            Reconstruct.self,
            Embed.self,
            Knn.self,
            Evaluate.self,
            Predict.self,
            Convert.self,
            Inspect.self,
            Replays.self,
            Bench.self,
            Doctor.self,
        ])

    static func main() { Stack.ensure { Dmae.runAndExit() } }

    private static func runAndExit() {
        Terminal.keepDescriptors()
        AtomicFile.removePartsOnSignals()
        FatalSignals.install()
        // With SIGXFSZ ignored, a limit on file sizes is an error of the write, not the end of the process.
        signal(SIGXFSZ, SIG_IGN)
        Threads.boundAllocator()
        let openMP = OpenMPEnvironment.clear()
        do {
            try Processes.join()
            openMP.map(Terminal.warning)
            try runCommandLine()
            Terminal.release()
            // Output must arrive: a full disk or a closed descriptor shows only here.
            guard fflush(stdout) == 0, ferror(stdout) == 0 else {
                throw Failure(.inputOutput, "cannot write to standard output: check where it goes, and the space there")
            }
            Ranks.current.leave()
        } catch { end(error) }
    }

    private static func end(_ error: any Error) -> Never {
        let error = Processes.told(error)
        switch error {
        case let stopped as Ranks.Stopped:
            // Process 0 tells why.
            Ranks.current.exit(stopped.code)
        case let lost as Ranks.LostPeer:
            Terminal.error(lost.sentence + Processes.remedy)
            Ranks.current.abort(Failure.Code.inputOutput.rawValue)
        case let failure as Failure where failure.code == .interrupted:
            // A run that was asked to stop and can be resumed did not fail.
            fflush(stdout)
            Terminal.release()
            Terminal.note(failure.message(in: Flags()))
            Ranks.current.exit(failure.code.rawValue)
        case let failure as Failure: end(failure.message(in: Flags()), failure.code.rawValue)
        default:
            var text = NearMisses.explained(fullMessage(for: error), words: CommandLine.arguments.dropFirst())
            // The parser quotes words of the command line as they are.
            for word in CommandLine.arguments where word != escaped(word) {
                text = text.replacing(word, with: escaped(word))
            }
            end(
                text.hasPrefix("Error: ") ? String(text.dropFirst(7)) : text, exitCode(for: error).rawValue,
                hasUsage: true)
        }
    }

    private static func runCommandLine() throws {
        try checkCommandLine()
        try checkHelp()
        let words = try arguments.map(HomeFolder.expanded)
        try NearMisses.refuseWordsAfterOneDash(words)
        if words.prefix(while: { $0 != "--" }).contains("-h") { return print(ShortHelp.text(for: words)) }
        do {
            var command = try parseAsRoot(ConfigurationFile.expanded(words))
            try Processes.requireOne(for: command)
            try command.run()
        } catch  where exitCode(for: error).isSuccess {
            // Help, the version or a completion script: printed like any result, so that a failed write is an error.
            print(fullMessage(for: error))
        }
    }

    /// The command line, with a negative number joined to the option before it: `--epochs -1` as `--epochs=-1`. The
    /// parser would take the number for an option and report a missing value.
    private static var arguments: [String] {
        let words = CommandLine.arguments.dropFirst(), options = words.prefix { $0 != "--" }
        var joined: [String] = []
        for word in options {
            if word.hasPrefix("-"), Double(word) != nil, let option = joined.last, option.hasPrefix("--"),
                !option.contains("=")
            {
                joined[joined.count - 1] = "\(option)=\(word)"
            } else {
                joined.append(word)
            }
        }
        return joined + words.dropFirst(options.count)
    }

    /// Refuses a word that is not UTF-8: with replacement characters it would name another file.
    private static func checkCommandLine() throws {
        for (word, text) in zip(
            UnsafeBufferPointer(start: CommandLine.unsafeArgv, count: Int(CommandLine.argc)), CommandLine.arguments)
        {
            guard let word, String(validatingCString: word) == nil else { continue }
            throw Failure(
                .usage, "the argument \(quoted(text)) is not valid UTF-8: rename the file, or name a link to it")
        }
    }

    /// Refuses `dmae help NAME` and `dmae NAME --help` like `dmae NAME` if there is no such command: the parser would
    /// show the root's screen.
    private static func checkHelp() throws {
        let commands = configuration.subcommands.map { $0._commandName } + ["help"]
        var words = CommandLine.arguments.dropFirst()[...]
        guard let first = words.first, !first.hasPrefix("-") else { return }
        if first == "help" {
            words = words.dropFirst().filter { !$0.hasPrefix("-") }[...]
            if let name = words.first, commands.contains(name) { words = words.dropFirst() }
        } else if commands.contains(first) {
            return
        }
        if let word = words.first { throw ValidationError(NearMisses.refusal(ofCommand: word)) }
    }

    private static func end(_ message: String, _ code: Int32, hasUsage: Bool = false) -> Never {
        fflush(stdout)
        Terminal.error(message, isAlone: code == Failure.Code.usage.rawValue, hasUsage: hasUsage)
        Ranks.current.exit(code)
    }
}
