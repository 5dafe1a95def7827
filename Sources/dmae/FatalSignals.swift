import Glibc
import Reporting
import Weights

/// The signals by which the system, the C library or Swift's runtime end a process at once.
enum FatalSignals {
    /// Lets the process end with a sentence instead: code 74 where a mapped file cannot be read, else code 1. Swift ends
    /// a process by a trap where memory runs out.
    static func install() {
        // Globals are initialised at their first use, and that must not happen in the handler.
        _ = remedy
        MappedRanges.endOnUnreadablePages()
        // The main thread's stack may be what ran out.
        var stack = stack_t()
        stack.ss_size = 65_536
        stack.ss_sp = malloc(stack.ss_size)
        if stack.ss_sp != nil { sigaltstack(&stack, nil) }
        var action = sigaction()
        action.sa_flags = Int32(SA_ONSTACK) | Int32(bitPattern: UInt32(SA_RESETHAND))
        action.__sigaction_handler.sa_handler = { _ in
            AtomicFile.removeParts()
            FatalSignals.write(
                """
                error: dmae was ended by a fault of its own, or for want of memory; files in place are whole, and `dmae \
                resume` goes on with a run:
                """)
            FatalSignals.write(" ")
            _ = Glibc.write(2, FatalSignals.remedy, strlen(FatalSignals.remedy))
            FatalSignals.write(", or report the fault with the lines above\n")
            _exit(Failure.Code.failure.rawValue)
        }
        for number in [SIGABRT, SIGILL, SIGTRAP, SIGSEGV, SIGFPE] { sigaction(number, &action, nil) }
    }

    /// What to do where memory ran out, in memory that the handler may read.
    private static let remedy: UnsafeMutablePointer<CChar> = strdup(remedyForMemory())

    private static func write(_ text: StaticString) { _ = Glibc.write(2, text.utf8Start, text.utf8CodeUnitCount) }
}
