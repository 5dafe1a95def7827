import Glibc

/// The system's text for an error number.
package func errorText(_ number: Int32) -> String {
    String(cString: strerror(number))
}

/// The remedy for a path that could not be opened: `otherwise`, unless the system lacks file descriptors or memory,
/// which no other path would change.
package func remedyForOpening(_ number: Int32, otherwise: String) -> String {
    switch number {
    case EMFILE, ENFILE: "raise the limit on open files (ulimit -n)"
    case ENOMEM: "free some memory and try again"
    default: otherwise
    }
}

extension Failure {
    /// The failure to open `path`, which is inserted into the message as it is; `number` is the value of errno.
    package static func cannotOpen(_ path: String, _ number: Int32) -> Failure {
        let remedy = remedyForOpening(number, otherwise: "check the path and its permissions")
        return Failure(.inputOutput, "cannot open \(path): \(errorText(number)); \(remedy)")
    }
}
