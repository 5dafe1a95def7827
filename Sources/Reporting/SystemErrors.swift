import Glibc

/// The system's words for an error number.
package func errorText(_ number: Int32) -> String {
    String(cString: strerror(number))
}

/// The remedy for a path that could not be opened: `otherwise`, unless the system lacks something that no other path
/// would give it.
package func remedyForOpening(_ number: Int32, otherwise: String) -> String {
    switch number {
    case EMFILE, ENFILE: "raise the limit on open files (ulimit -n)"
    case ENOMEM: "free some memory and try again"
    default: otherwise
    }
}

extension Failure {
    /// The system does not open `path`, shown as the message is to show it, for the reason that errno had.
    package static func cannotOpen(_ path: String, _ number: Int32) -> Failure {
        let remedy = remedyForOpening(number, otherwise: "check the path and its permissions")
        return Failure(.inputOutput, "cannot open \(path): \(errorText(number)); \(remedy)")
    }
}
