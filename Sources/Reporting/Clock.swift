import Glibc

/// Seconds of the monotonic clock, which setting the date does not change. Only differences are meaningful.
package func monotonicSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

/// The time of day at this moment, in this machine's time zone: "2026-01-31 12:00:00".
package func localTime() -> String {
    var now = time(nil), parts = tm()
    localtime_r(&now, &parts)
    func digits(_ value: Int32, _ count: Int = 2) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
    }
    return "\(digits(parts.tm_year + 1900, 4))-\(digits(parts.tm_mon + 1))-\(digits(parts.tm_mday)) "
        + "\(digits(parts.tm_hour)):\(digits(parts.tm_min)):\(digits(parts.tm_sec))"
}
