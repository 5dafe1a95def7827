import Glibc
import Reporting

/// How busy the processors of the machine are.
public struct ProcessorLoad: Equatable, Sendable {
    /// Processors that programs but this one use, on an average of the last minute.
    public let others: Double
    /// Processors of the machine.
    public let processors: Int

    public init(others: Double, processors: Int) {
        self.others = others
        self.processors = processors
    }

    /// The load of other programs; nil where the system does not tell.
    public static func ofOthers() -> ProcessorLoad? {
        guard let line = ControlGroups.lines(of: "/proc/loadavg").first else { return nil }
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        let seconds = [usage.ru_utime, usage.ru_stime].reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 }
        return ProcessorLoad(
            loadAverages: String(line), ownSeconds: seconds,
            processors: sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    }

    /// Reads the first number of /proc/loadavg, the average of the last minute.
    ///
    /// - Parameter ownSeconds: time that this process has spent on processors, all of it in that minute.
    public init?(loadAverages text: String, ownSeconds: Double, processors: Int) {
        guard let load = text.split(separator: " ").first.flatMap({ Double($0) }), load.isFinite, processors > 0 else {
            return nil
        }
        self.init(others: max(0, load - ownSeconds / 60), processors: processors)
    }

    /// A sentence where times that are measured with so many threads are too long; nil where there are processors enough.
    public func note(threads: Int) -> String? {
        let free = Double(processors) - others
        // Half a processor is what a desktop does beside.
        guard free + 0.5 < Double(min(threads, processors)) else { return nil }
        return
            "the times were measured beside other programs, whose load is \(Format.fixed(others, 1)) on "
            + "\(Format.counted(processors, "processor")): on an idle machine they are shorter"
    }
}
