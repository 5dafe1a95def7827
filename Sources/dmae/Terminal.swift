import Reporting
import Glibc
import Synchronization
import Weights

/// Prints a result on standard output, in place of Swift's function: characters that a terminal would obey are escaped.
func print(_ text: String) { Swift.print(visible(text)) }

/// Messages to a person, on standard error.
enum Terminal {
    /// Opens descriptors for closed standard streams: otherwise the next file opened would take their number, and
    /// output would go into that file. The one for standard output is not writable, so that a lost result is an error.
    static func keepDescriptors() {
        for (descriptor, flags) in [(STDIN_FILENO, O_RDONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_WRONLY)] {
            // In ascending order, so that open() returns the number that is free.
            if fcntl(descriptor, F_GETFD) < 0 { _ = open("/dev/null", flags) }
        }
    }

    /// Lines that are kept back; nil while none are.
    private static let held = Mutex<[String]?>(nil)

    /// Keeps notes and warnings back until `release`: what a command says of its input comes after its flags are known to
    /// be right, and a refused flag stands alone.
    static func hold() { held.withLock { $0 = $0 ?? [] } }

    /// Writes what was kept back, and keeps nothing back from now on.
    static func release() {
        let lines = held.withLock { held in
            defer { held = nil }
            return held ?? []
        }
        lines.forEach(write)
    }

    private static func write(_ line: String) { fputs(line + "\n", stderr) }

    /// What notes and warnings begin with, in all processes of a run but process 0; nil in that.
    static var prefix: String?
    /// Whether notes and warnings are left to process 0, which says the same.
    static var isMuted = false

    /// Notes, warnings and errors are one line each: a line break in them is one of a file's name, and is escaped.
    static func note(_ text: String) {
        if !isMuted { say(escaped((prefix ?? "") + text)) }
    }

    private static func say(_ line: String) {
        let isHeld = held.withLock { held in
            held?.append(line)
            return held != nil
        }
        if !isHeld { write(line) }
    }
    static func note(_ message: Message) { note(message.text(in: Flags())) }

    /// - Parameters:
    ///   - isAlone: whether what was kept back is dropped.
    ///   - hasUsage: whether lines with the usage follow the sentence.
    static func error(_ text: String, isAlone: Bool = false, hasUsage: Bool = false) {
        if isAlone { held.withLock { $0 = nil } }
        release()
        let line = "error: \(prefix ?? "")\(text)"
        say(hasUsage ? visible(line) : escaped(line))
    }
    static func warning(_ text: String) { note("warning: " + text) }

    /// The warnings that come once.
    private static let warned = Mutex<Set<String>>([])

    /// A warning that may come up again, as one of images that several runs or parts of a command read. It is said once.
    static func warningOnce(_ text: String) {
        if warned.withLock({ $0.insert(text).inserted }) { warning(text) }
    }

    static func warning(_ message: Message) { warning(message.text(in: Flags())) }
}
