import Glibc

/// Seconds of the monotonic clock, which no change of the date touches. Only differences mean anything.
package func monotonicSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}
