import Glibc
import Synchronization
import Reporting
import Tensors

/// Threads beside those of the kernels, all of which run one function.
package final class WorkerThreads {
    private var threads: [pthread_t] = []
    private let work: Work

    /// What a thread runs.
    private final class Work {
        let run: @Sendable () -> Void
        /// Threads that have returned.
        let finished = Atomic(0)

        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Starts `count` threads, or as many as the system gives.
    ///
    /// - Throws: `Failure.failure` if not a single one starts.
    package init(_ count: Int, running run: @escaping @Sendable () -> Void) throws {
        // The calling thread handles signals.
        var all = sigset_t(), before = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        work = Work(run)
        // By default a thread's stack is as large as the shell lets the main one be.
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, Threads.stackBytes)
        for _ in 0..<count {
            var thread = pthread_t()
            let context = Unmanaged.passRetained(work)
            let code = pthread_create(
                &thread, &attributes,
                { context in
                    let work = Unmanaged<Work>.fromOpaque(context!).takeRetainedValue()
                    work.run()
                    work.finished.add(1, ordering: .releasing)
                    return nil
                }, context.toOpaque())
            guard code == 0 else {
                context.release()
                if threads.isEmpty {
                    throw Failure(
                        .failure,
                        "cannot start a decoding thread: \(errorText(code)); raise the limit of processes or of memory "
                            + "(`ulimit -u`, `ulimit -v`, the container's pids)")
                }
                return
            }
            threads.append(thread)
        }
    }

    /// Waits for so many seconds until all threads have returned; those that have not are left to themselves. May be called
    /// more than once.
    package func join(within seconds: Int) {
        let start = monotonicSeconds()
        while work.finished.load(ordering: .acquiring) < threads.count {
            guard monotonicSeconds() - start < Double(seconds) else {
                for thread in threads { pthread_detach(thread) }
                threads = []
                return
            }
            usleep(500)
        }
        join()
    }

    /// Waits until all threads have returned. May be called more than once.
    package func join() {
        for thread in threads { pthread_join(thread, nil) }
        threads = []
    }
}
