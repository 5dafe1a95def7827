import Glibc
import Synchronization

/// Signals that ask a run to stop after the micro-batch under way.
///
/// SIGTERM, SIGINT, SIGHUP and SIGUSR1 leave a mark for the run to find, unless the process was started with the signal
/// ignored (`nohup`, or a script's background job); a second SIGINT ends the process at once with 130. SIGPIPE and
/// SIGXFSZ are ignored, so that a closed pipe and a limit on the size of files are errors of the write instead.
public enum Signals {
    // Lock-free, so that the handler may touch them.
    private static let first = Atomic<Int32>(0)
    private static let interrupts = Atomic<Int32>(0)

    /// Takes over the signals of this process.
    public static func install() {
        // A global is initialised at its first use, which must not be in the handler.
        reset()
        var action = sigaction()
        action.sa_flags = SA_RESTART
        action.__sigaction_handler.sa_handler = { number in
            if number == SIGINT, Signals.interrupts.add(1, ordering: .relaxed).newValue > 1 { _exit(130) }
            _ = Signals.first.compareExchange(expected: 0, desired: number, ordering: .relaxed)
        }
        for number in [SIGTERM, SIGINT, SIGHUP, SIGUSR1] {
            var before = sigaction()
            sigaction(number, nil, &before)
            let handler = unsafeBitCast(before.__sigaction_handler.sa_handler, to: Int.self)
            if handler != unsafeBitCast(SIG_IGN, to: Int.self) { sigaction(number, &action, nil) }
        }
        for number in [SIGPIPE, SIGXFSZ] { signal(number, SIG_IGN) }
    }

    /// The name of the first signal that came since `install`, or nil.
    public static var requested: String? {
        switch first.load(ordering: .relaxed) {
        case 0: nil
        case SIGTERM: "SIGTERM"
        case SIGINT: "SIGINT"
        case SIGHUP: "SIGHUP"
        default: "SIGUSR1"
        }
    }

    /// Forgets what came.
    package static func reset() {
        first.store(0, ordering: .relaxed)
        interrupts.store(0, ordering: .relaxed)
    }
}
