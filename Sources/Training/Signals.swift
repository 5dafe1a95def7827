import Glibc
import Reporting
import Synchronization
import Weights

/// Signals that request a run to stop after the current micro-batch.
///
/// SIGTERM, SIGINT, SIGHUP and the others of `names` set `requested`, which the run polls, and the handler says so on
/// standard error at once; a signal that the process was started to ignore (`nohup`, a script's background job) stays
/// ignored. A second SIGINT ends the process at once with exit code 130, and leaves what `leave` has prepared. SIGPIPE
/// and SIGXFSZ are ignored, so that a closed pipe or a limit on the size of files fails the write.
public enum Signals {
    /// The signals by which others ask a process to end: people, job schedulers, timers, limits of processor time
    /// (SIGXCPU).
    private static let names: [(number: Int32, name: String)] = [
        (SIGTERM, "SIGTERM"), (SIGINT, "SIGINT"), (SIGHUP, "SIGHUP"), (SIGUSR1, "SIGUSR1"), (SIGUSR2, "SIGUSR2"),
        (SIGALRM, "SIGALRM"), (SIGXCPU, "SIGXCPU"), (SIGPWR, "SIGPWR"),
    ]

    // Lock-free, since the signal handler writes them.
    private static let first = Atomic<Int32>(0)
    private static let interrupts = Atomic<Int32>(0)
    /// Whether steps are done, so that a signal stops after a batch.
    private static let isTraining = Atomic(false)
    /// Whether the answer to a signal overwrites a line of a terminal.
    private static let overwrites = Atomic(false)

    /// What a second SIGINT leaves, in memory that its handler may read: zero-terminated texts.
    private struct Legacy {
        let path, part, status, sentence: UnsafeMutablePointer<CChar>

        func free() { for text in [path, part, status, sentence] { Glibc.free(text) } }
    }
    /// The address of the present one; 0 without one.
    private static let legacy = Atomic<UInt>(0)
    /// That of the one before, which a handler may still read.
    private static let former = Mutex<UInt>(0)

    /// Prepares what a second SIGINT leaves of a run: its handler may neither allocate memory nor wait.
    ///
    /// - Parameters:
    ///   - status: the text of the file at `path`, which is replaced as a whole.
    ///   - sentence: what is said last.
    static func leave(_ status: [UInt8], at path: String, saying sentence: String) {
        let new = UnsafeMutablePointer<Legacy>.allocate(capacity: 1)
        new.initialize(
            to: Legacy(
                path: strdup(path), part: strdup("\(path)\(AtomicFile.partMark)\(getpid())-0"),
                status: strdup(String(decoding: status, as: UTF8.self)), sentence: strdup(sentence + "\n")))
        replaceLegacy(UInt(bitPattern: new))
    }

    /// Lets a second SIGINT leave everything as it is.
    static func leaveNothing() { replaceLegacy(0) }

    private static func replaceLegacy(_ new: UInt) {
        former.withLock { former in
            if let old = UnsafeMutablePointer<Legacy>(bitPattern: former) {
                old.pointee.free()
                old.deallocate()
            }
            former = legacy.exchange(new, ordering: .acquiringAndReleasing)
        }
    }

    /// Lets the signals end the process at once, with the exit code of a run that can be resumed, until `install`:
    /// while a run lists its images and has written nothing.
    public static func endBeforeTheRun() {
        handle { _ in
            let text: StaticString = "stopped by a signal before the run was begun; the same command starts it\n"
            _ = write(2, text.utf8Start, text.utf8CodeUnitCount)
            _exit(Failure.Code.interrupted.rawValue)
        }
    }

    /// Installs the handlers.
    public static func install() {
        // The first use initialises the globals, which is not allowed in the handler.
        reset()
        overwrites.store(ProgressLine.isAtTerminal, ordering: .relaxed)
        handle { number in
            let interrupts = number == SIGINT ? Signals.interrupts.add(1, ordering: .relaxed).newValue : 0
            if interrupts > 1 { Signals.end() }
            let isFirst = Signals.first.compareExchange(expected: 0, desired: number, ordering: .relaxed).exchanged
            if isFirst || interrupts == 1 { Signals.acknowledge(number) }
        }
        for number in [SIGPIPE, SIGXFSZ] { signal(number, SIG_IGN) }
    }

    /// Lets the signals do nothing but set `requested`, for a process that another one ends.
    public static func noteOnly() {
        reset()
        handle { number in
            _ = Signals.first.compareExchange(expected: 0, desired: number, ordering: .relaxed)
        }
    }

    /// Says from now on that a signal stops the run after a batch. Before, that it stops before the first step.
    public static func trainingBegins() { isTraining.store(true, ordering: .relaxed) }

    /// Answers a signal, within its handler.
    private static func acknowledge(_ number: Int32) {
        let before = errno
        func say(_ text: StaticString) { _ = write(2, text.utf8Start, text.utf8CodeUnitCount) }
        // Over the terminal's "^C" and the progress line, which comes again below.
        if overwrites.load(ordering: .relaxed) { say("\r\u{1B}[K") }
        switch (isTraining.load(ordering: .relaxed), number == SIGINT) {
        case (true, true):
            say(
                "stopping: this batch is finished, then a checkpoint is written; Ctrl-C again ends at once without one\n"
            )
        case (true, false): say("stopping: this batch is finished, then a checkpoint is written\n")
        case (false, true): say("stopping before the first step; Ctrl-C again ends at once\n")
        case (false, false): say("stopping before the first step\n")
        }
        errno = before
    }

    /// Ends the process at a second SIGINT, within its handler.
    private static func end() -> Never {
        func say(_ text: StaticString) { _ = write(2, text.utf8Start, text.utf8CodeUnitCount) }
        if overwrites.load(ordering: .relaxed) { say("\r\u{1B}[K") }
        // A disk that does not answer must not keep the process.
        signal(SIGALRM) { _ in _exit(130) }
        alarm(2)
        if let legacy = UnsafeMutablePointer<Legacy>(bitPattern: legacy.load(ordering: .acquiring)) {
            _ = write(2, legacy.pointee.sentence, strlen(legacy.pointee.sentence))
            leave(legacy.pointee)
        } else {
            say(
                isTraining.load(ordering: .relaxed)
                    ? "ended at once\n" : "ended at once, before the first step; the same command starts it\n")
        }
        AtomicFile.removeParts()
        _exit(130)
    }

    /// Writes the file of `legacy`, within a handler.
    private static func leave(_ legacy: Legacy) {
        let descriptor = open(legacy.part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o666)
        guard descriptor >= 0 else { return }
        let count = strlen(legacy.status)
        if write(descriptor, legacy.status, count) != count || rename(legacy.part, legacy.path) != 0 {
            unlink(legacy.part)
        }
    }

    /// Makes `handler` that of the signals, apart from those that are ignored.
    private static func handle(_ handler: @escaping @convention(c) (Int32) -> Void) {
        var action = sigaction()
        action.sa_flags = SA_RESTART
        action.__sigaction_handler.sa_handler = handler
        for (number, _) in names {
            var before = sigaction()
            sigaction(number, nil, &before)
            let handler = unsafeBitCast(before.__sigaction_handler.sa_handler, to: Int.self)
            if handler != unsafeBitCast(SIG_IGN, to: Int.self) { sigaction(number, &action, nil) }
        }
    }

    /// The name of the first signal since `install`, or nil.
    public static var requested: String? {
        let number = first.load(ordering: .relaxed)
        return names.first { $0.number == number }?.name
    }

    /// Forgets all signals.
    package static func reset() {
        first.store(0, ordering: .relaxed)
        interrupts.store(0, ordering: .relaxed)
        isTraining.store(false, ordering: .relaxed)
        leaveNothing()
    }
}
