import Foundation

/// The program as a user runs it: `.build/dmae`, or what DMAE_BINARY names.
public final class Command {
    /// How a process ended.
    public enum End: Equatable, CustomStringConvertible {
        case exited(Int32)
        case killed(signal: Int32)
        /// It was still running when its time was up.
        case late

        public var description: String {
            switch self {
            case .exited(let code): "exit code \(code)"
            case .killed(let signal): "killed by signal \(signal)"
            case .late: "not ended in time"
            }
        }
    }

    /// What a process that ended left behind.
    public struct Result {
        public let end: End
        public let output: String
        public let errors: String
        /// Both, for the message of a failed assertion.
        public var description: String { "\(end)\nstandard output:\n\(output)\nstandard error:\n\(errors)" }
    }

    /// The program's path.
    public static let binary: String =
        ProcessInfo.processInfo.environment["DMAE_BINARY"]
        ?? URL(fileURLWithPath: Fixtures.folder).deletingLastPathComponent().appendingPathComponent(".build/dmae").path

    /// The process's number.
    public let process: pid_t
    private let folder = TemporaryFolder()
    private var end: End?

    /// Starts `executable` (the program itself unless told otherwise) without waiting for it.
    ///
    /// The environment is this process's without what would change the program's words (COLUMNS, DMAE_ISA, OMP_…), and
    /// `environment`. Limits and ignored signals are this process's, as in any child, but for the signals that ask a
    /// run to stop: a script's background job, which tests may be, ignores SIGINT, and so would the program.
    ///
    /// - Parameter ignoring: a signal that the program finds ignored.
    public init(
        _ arguments: [String], executable: String = Command.binary, environment: [String: String] = [:],
        output: String? = nil, ignoring: Int32? = nil
    ) {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var asking = sigset_t()
        sigemptyset(&asking)
        for number in [SIGINT, SIGTERM, SIGHUP, SIGUSR1] where number != ignoring { sigaddset(&asking, number) }
        posix_spawnattr_setsigdefault(&attributes, &asking)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))
        let former = ignoring.map { signal($0, SIG_IGN) }
        defer { if let ignoring { signal(ignoring, former!) } }
        var values = ProcessInfo.processInfo.environment.filter {
            !["COLUMNS", "DMAE_ISA", "NO_COLOR"].contains($0.key) && !$0.key.hasPrefix("OMP_")
                && !$0.key.hasPrefix("KMP_")
        }
        values.merge(environment) { $1 }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(
            &actions, 1, output ?? folder.file("output"), O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_addopen(&actions, 2, folder.file("errors"), O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        let words = ([executable] + arguments).map { strdup($0) } + [nil]
        let settings = values.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { (words + settings).forEach { free($0) } }
        var number = pid_t()
        let reason = posix_spawn(&number, executable, &actions, &attributes, words, settings)
        precondition(
            reason == 0, "cannot run \(executable): \(String(cString: strerror(reason))); `make build` makes it")
        process = number
    }

    deinit {
        guard end == nil else { return }
        kill(process, SIGKILL)
        waitpid(process, nil, 0)
    }

    /// Sends `signal`.
    public func send(_ signal: Int32) { kill(process, signal) }

    /// Whether it is still running.
    public var isRunning: Bool {
        guard end == nil else { return false }
        var status: Int32 = 0
        guard waitpid(process, &status, WNOHANG) == process else { return true }
        end = status & 0x7F == 0 ? .exited(status >> 8 & 0xFF) : .killed(signal: status & 0x7F)
        return false
    }

    /// Waits for its end and gives what it said; a process that takes more than `seconds` is killed.
    public func wait(seconds: Double = 120) -> Result {
        let deadline = Date(timeIntervalSinceNow: seconds)
        while isRunning {
            if Date() > deadline {
                kill(process, SIGKILL)
                waitpid(process, nil, 0)
                end = .late
                break
            }
            usleep(1000)
        }
        func text(_ name: String) -> String {
            (try? Data(contentsOf: URL(fileURLWithPath: folder.file(name)))).map { String(decoding: $0, as: UTF8.self) }
                ?? ""
        }
        var errors = text("errors")
        // Of `make coverage`, where a limit on the size of files is one for its counts, too; not the program's words.
        if let start = errors.range(of: "LLVM Profile Error: Failed to write file ")?.lowerBound {
            errors.removeSubrange(start...)
        }
        return Result(end: end!, output: text("output"), errors: errors)
    }

    /// Runs the program to its end.
    public static func run(
        _ arguments: [String], executable: String = Command.binary, environment: [String: String] = [:],
        output: String? = nil,
        seconds: Double = 120
    ) -> Result {
        Command(arguments, executable: executable, environment: environment, output: output).wait(seconds: seconds)
    }

    /// The program's subcommands, as its help screen lists them.
    public static func subcommands() -> [String] {
        let screen = run(["--help"]).output
        let list = screen.components(separatedBy: "SUBCOMMANDS:\n").last?.components(separatedBy: "\n\n").first ?? ""
        // A description that goes on in another line is indented further than a name.
        let names = list.components(separatedBy: "\n").filter { $0.hasPrefix("  ") && !$0.hasPrefix("   ") }
            .map { String($0.dropFirst(2).prefix { $0 != " " }) }
        precondition(names.contains("distill") && names.contains("doctor"), "no subcommands in\n\(screen)")
        return names
    }

    /// Runs the program to its end and tells the most memory it held at once, in bytes, pages of mapped files included.
    ///
    /// A small process stands between: what the kernel counts for a child begins with what its parent holds.
    public static func measure(_ arguments: [String], seconds: Double = 120) -> (result: Result, peakMemory: Int) {
        let folder = TemporaryFolder()
        let script = """
            import os, sys
            child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
            _, status, usage = os.wait4(child, 0)
            open(sys.argv[1], "w").write(str(usage.ru_maxrss * 1024))
            sys.exit(os.waitstatus_to_exitcode(status) % 256)
            """
        let result = run(
            ["-c", script, folder.file("peak"), binary] + arguments, executable: "/usr/bin/python3", seconds: seconds)
        guard let peak = Int(String(decoding: folder.read("peak"), as: UTF8.self)) else {
            preconditionFailure("no measure of memory: \(result.description)")
        }
        return (result, peak)
    }
}
