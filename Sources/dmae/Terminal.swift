import Reporting
import Glibc
import Weights

/// What is said to a person, on standard error.
enum Terminal {
    /// Puts something in the place of standard streams that are closed: the next file to be opened would have their
    /// number, and what is printed would go into it. What stands for standard output cannot be written to, so that a
    /// lost result is an error.
    static func keepDescriptors() {
        for (descriptor, flags) in [(STDIN_FILENO, O_RDONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_WRONLY)] {
            // In rising order, so that the number that is free is the one that is meant.
            if fcntl(descriptor, F_GETFD) < 0 { _ = open("/dev/null", flags) }
        }
    }

    static func note(_ text: String) { fputs(visible(text) + "\n", stderr) }
    static func note(_ message: Message) { note(message.text(in: Flags())) }
    static func error(_ text: String) { note("error: " + text) }
    static func warning(_ text: String) { note("warning: " + text) }
}
