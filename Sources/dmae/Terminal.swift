import Glibc

/// What is said to a person, on standard error.
enum Terminal {
    static func note(_ text: String) { fputs(text + "\n", stderr) }
    static func error(_ text: String) { note("error: " + text) }
    static func warning(_ text: String) { note("warning: " + text) }
}
