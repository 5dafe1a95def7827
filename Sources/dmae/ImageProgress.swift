import Glibc
import Reporting

/// Images done, speed and remaining time of a command that reads many images: a line on standard error every ten
/// seconds, with the time of day and the time since the start where that is no terminal.
final class ImageProgress {
    private let total: Int
    private let isQuiet: Bool
    private let start = monotonicSeconds()
    private var last: Double

    init(total: Int, isQuiet: Bool) {
        self.total = total
        self.isQuiet = isQuiet
        last = start
        Terminal.release()
    }

    func update(_ done: Int) {
        let now = monotonicSeconds()
        guard !isQuiet, now - last >= 10 else { return }
        last = now
        let rate = Double(done) / (now - start)
        let left = Format.duration(Double(total - done) / rate)
        let text =
            "\(Format.grouped(done)) of \(Format.grouped(total)) images, \(Format.fixed(rate, 1)) images/s, \(left) "
            + "left"
        Terminal.note(
            isatty(STDERR_FILENO) != 0
                ? text : "\(localTime())  \(text), \(Format.countdown(now - start)) elapsed")
    }
}
