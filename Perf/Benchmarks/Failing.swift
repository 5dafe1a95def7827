import Glibc

/// Ends the program with a message.
package func fail(_ message: String) -> Never {
    fputs("kernel-benchmark: \(message)\n", stderr)
    exit(64)
}
