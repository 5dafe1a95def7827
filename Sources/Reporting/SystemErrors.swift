import Glibc

/// The system's text for an error number.
package func errorText(_ number: Int32) -> String {
    String(cString: strerror(number))
}

/// What a call asked of the system: a remedy must fit it as well as the error.
package enum SystemCall {
    case opening, examining, reading, mapping, listing, writing, removing, locking
    case makingFolder
}

/// What to do about the error `number` of a call, as the end of a sentence.
///
/// - Parameter otherwise: for errors that have no remedy of their own; nil for one that fits the call.
package func remedy(_ number: Int32, _ call: SystemCall, otherwise: String? = nil) -> String {
    let isChange =
        switch call {
        case .writing, .removing, .locking, .makingFolder: true
        case .opening, .examining, .reading, .mapping, .listing: false
        }
    switch number {
    case EMFILE, ENFILE: return "raise the limit on open files (ulimit -n)"
    case ENOMEM: return remedyForMemory()
    case EIO, EREMOTEIO, EBADMSG, EUCLEAN: return isChange ? "check the folder and its disk" : "check its disk"
    case ESTALE, ENOTCONN, EHOSTDOWN, EHOSTUNREACH, ETIMEDOUT, ENETDOWN, ENETUNREACH:
        return "see that its file system is mounted and can be reached"
    case ELOOP: return "name another path: its symbolic links lead in a circle"
    case ENAMETOOLONG: return "choose a shorter name"
    case EINTR: return "try again"
    default: break
    }
    switch (call, number) {
    case (.writing, ENOSPC), (.writing, EDQUOT), (.makingFolder, ENOSPC), (.makingFolder, EDQUOT),
        (.locking, ENOSPC), (.locking, EDQUOT):
        return "free some space or choose another folder"
    case (.writing, EFBIG): return "raise the limit on the size of files (ulimit -f)"
    case (.writing, ENOENT), (.writing, ENOTDIR): return "create its folder first"
    case (.writing, EACCES), (.writing, EPERM), (.writing, EROFS): return "choose a folder that can be written"
    case (.removing, EACCES), (.removing, EPERM), (.removing, EROFS): return "make its folder writable"
    case (.mapping, ENODEV): return "copy it to a file system that can map files"
    case (.locking, ENOLCK), (.locking, EOPNOTSUPP), (.locking, ENOSYS), (.locking, EINVAL):
        return "choose a folder on a file system that can lock files"
    default: break
    }
    if let otherwise { return otherwise }
    return switch call {
    case .opening, .examining: "check the path and its permissions"
    case .reading, .mapping: "check the file and its disk"
    case .listing: "check its permissions"
    case .writing, .removing, .locking: "check the folder and its disk"
    case .makingFolder: "choose a place that can be written"
    }
}

/// What to do where memory ran out.
package func remedyForMemory() -> String {
    func isLimited(_ resource: __rlimit_resource) -> Bool {
        var limit = rlimit()
        return getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0 && Int(exactly: limit.rlim_cur) != nil
    }
    if isLimited(RLIMIT_AS) { return "raise the address space limit (ulimit -v)" }
    if isLimited(RLIMIT_DATA) { return "raise the limit on data (ulimit -d)" }
    return "free some memory and try again"
}

extension Failure {
    /// The failure `number` of a call, as in "cannot open NAME: REASON; REMEDY". `what` is inserted as it is: "cannot open
    /// NAME". Without memory the run failed; otherwise a file is at fault.
    package static func system(
        _ what: Message, _ number: Int32, _ call: SystemCall, otherwise: String? = nil
    ) -> Failure {
        Failure(
            number == ENOMEM ? .failure : .inputOutput,
            "\(what): \(errorText(number)); \(remedy(number, call, otherwise: otherwise))")
    }

    /// The failure to open `path`, which is inserted into the message as it is; `number` is the value of errno.
    package static func cannotOpen(_ path: String, _ number: Int32) -> Failure {
        .system("cannot open \(path)", number, .opening)
    }
}
