import ArgumentParser
import Glibc
import Tensors

/// The root command: it only says what there is.
@main
struct Dmae: ParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "dmae",
        abstract: "Distils masked autoencoders on CPUs.",
        discussion: """
            A large Vision Transformer pre-trained as a masked autoencoder (MAE) teaches a small one, both seeing the same few visible \
            patches of each image ("Masked Autoencoders Enable Efficient Knowledge Distillers", arXiv 2208.12256).

            Data goes to standard output, progress to standard error. The exit code is 0 when done, 1 on failure, 64 for a wrong command \
            line, 65 for bad data, 74 where a file cannot be read or written, and 75 where a signal stopped a run that \
            --resume auto goes on with.

            DMAE_ISA=scalar|avx2|avx512 forces a lower instruction set. NO_COLOR switches colours off. \
            --generate-completion-script bash|zsh|fish prints a completion script.
            """,
        version: version,
        subcommands: [
            Distill.self, Pretrain.self, Reconstruct.self, Replays.self, Bench.self, Inspect.self, Doctor.self,
        ])

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            Terminal.error(failure.message)
            Glibc.exit(failure.code.rawValue)
        } catch {
            exit(withError: error)
        }
    }
}

/// What is said to a person, on standard error.
enum Terminal {
    static func note(_ text: String) { fputs(text + "\n", stderr) }
    static func error(_ text: String) { note("error: " + text) }
    static func warning(_ text: String) { note("warning: " + text) }
}

/// Threads and instruction set: what every command that computes takes.
struct ComputeOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Threads of the kernels; the result does not depend on it. Default: the processors this process may use.",
            valueName: "count"))
    var threads: Int?

    func validate() throws {
        if let threads, threads < 1 { throw ValidationError("--threads must be at least 1.") }
    }

    /// Applies both. Call before any memory is planned: workspaces grow with the threads.
    ///
    /// - Throws: `Failure` where DMAE_ISA cannot be followed.
    func apply() throws {
        try InstructionSet.applyEnvironment()
        let recommended = Threads.recommended
        Threads.count = threads ?? recommended
        if let threads, threads > recommended {
            Terminal.warning("\(threads) threads share \(recommended) processors; more threads than processors slow a run down")
        }
    }
}

/// How numbers are written for people.
enum Format {
    /// "1.6 GB", "312 MB", in powers of ten.
    static func bytes(_ count: Int) -> String {
        let value = Double(count)
        if value >= 1e9 { return fixed(value / 1e9, 2) + " GB" }
        if value >= 1e6 { return fixed(value / 1e6, 1) + " MB" }
        if value >= 1e3 { return fixed(value / 1e3, 1) + " kB" }
        return "\(count) bytes"
    }

    /// "86.6 M", in millions or thousands.
    static func count(_ count: Int) -> String {
        let value = Double(count)
        if value >= 1e9 { return fixed(value / 1e9, 2) + " G" }
        if value >= 1e6 { return fixed(value / 1e6, 2) + " M" }
        if value >= 1e3 { return fixed(value / 1e3, 1) + " k" }
        return "\(count)"
    }

    /// "3 days 4 h", "12 min", "40 s".
    static func duration(_ seconds: Double) -> String {
        if seconds >= 172_800 { return "\(Int(seconds / 86_400)) days \(Int(seconds / 3600) % 24) h" }
        if seconds >= 7200 { return "\(Int(seconds / 3600)) h \(Int(seconds / 60) % 60) min" }
        if seconds >= 120 { return "\(Int(seconds / 60)) min \(Int(seconds) % 60) s" }
        return fixed(seconds, seconds < 10 ? 2 : 0) + " s"
    }

    /// With exactly `digits` decimals.
    static func fixed(_ value: Double, _ digits: Int) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "\(value)" }
        var scale = 1
        for _ in 0..<digits { scale *= 10 }
        let scaled = Int((value.magnitude * Double(scale)).rounded())
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return sign + String(scaled) }
        let fraction = String(scaled % scale)
        return sign + "\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
    }

    /// Names and values, the values in one column; an empty name and value leave a line free.
    static func lines(_ lines: [(String, String)]) -> String {
        let width = lines.map(\.0.count).max() ?? 0
        return lines.map { name, value in
            name.isEmpty && value.isEmpty ? "" : name + String(repeating: " ", count: width - name.count) + "  " + value
        }.joined(separator: "\n")
    }

    /// Rows as columns: the first left-aligned, the others right-aligned.
    static func table(_ rows: [[String]]) -> String {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            row.enumerated().map { column, text in
                let space = String(repeating: " ", count: widths[column] - text.count)
                return column == 0 ? text + (row.count > 1 ? space : "") : space + text
            }.joined(separator: "  ")
        }.joined(separator: "\n")
    }
}
