import Reporting
import Glibc
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

    static func note(_ text: String) { fputs(visible(text) + "\n", stderr) }
    static func note(_ message: Message) { note(message.text(in: Flags())) }
    static func error(_ text: String) { note("error: " + text) }
    static func warning(_ text: String) { note("warning: " + text) }
    static func warning(_ message: Message) { warning(message.text(in: Flags())) }
}
