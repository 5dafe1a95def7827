import Glibc

/// Seconds of the monotonic clock, which setting the date does not change. Only differences are meaningful.
package func monotonicSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}
