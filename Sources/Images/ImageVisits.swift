import Glibc
import Reporting

/// Visits every image of a source once, by several threads.
public enum ImageVisits {
    /// Calls `visit` for the images 0..<count, each once, in ascending order but on `workers` threads at a time. Returns
    /// when all visits have ended.
    ///
    /// - Parameters:
    ///   - update: called about every second, on the calling thread, with the number of images that were visited. What
    ///     it throws ends the visits, and is thrown.
    ///   - visit: the same holds of it.
    public static func run(
        count: Int, workers: Int, update: (Int) throws -> Void = { _ in },
        visit: @escaping @Sendable (Int) throws -> Void
    ) throws {
        let state = State(count)
        let threads = try WorkerThreads(min(max(1, workers), max(1, count))) {
            while let index = state.take() {
                do {
                    try visit(index)
                    state.finish()
                } catch {
                    state.stop(error)
                }
            }
        }
        while true {
            let (done, isOver) = state.wait(seconds: 1)
            do {
                try update(done)
            } catch {
                state.stop(error)
            }
            if isOver || state.failure != nil { break }
        }
        threads.join()
        if let failure = state.failure { throw failure }
    }

    /// The images that are not taken yet, and how many visits have ended. A mutex guards all of it.
    private final class State: @unchecked Sendable {
        private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        private let isFinished = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
        private let count: Int
        private var next = 0, done = 0
        private var error: (any Error)?

        var failure: (any Error)? { locked { error } }

        init(_ count: Int) {
            self.count = count
            pthread_mutex_init(mutex, nil)
            pthread_cond_init(isFinished, nil)
        }

        deinit {
            pthread_cond_destroy(isFinished)
            pthread_mutex_destroy(mutex)
            isFinished.deallocate()
            mutex.deallocate()
        }

        private func locked<Result>(_ body: () -> Result) -> Result {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            return body()
        }

        func take() -> Int? {
            locked {
                guard error == nil, next < count else { return nil }
                defer { next += 1 }
                return next
            }
        }

        func finish() {
            locked {
                done += 1
                if done == count { pthread_cond_signal(isFinished) }
            }
        }

        func stop(_ error: any Error) {
            locked {
                self.error = self.error ?? error
                pthread_cond_signal(isFinished)
            }
        }

        /// Waits until all visits have ended or one has failed, but not longer than `seconds`.
        func wait(seconds: Int) -> (done: Int, isOver: Bool) {
            locked {
                var deadline = timespec()
                clock_gettime(CLOCK_REALTIME, &deadline)
                deadline.tv_sec += seconds
                while done < count, error == nil {
                    if pthread_cond_timedwait(isFinished, mutex, &deadline) != 0 { break }
                }
                return (done, done == count || error != nil)
            }
        }
    }
}
