import CKernels
import Glibc
import Reporting

/// One row of the table.
struct Benchmark {
    let name: String
    let shape: String
    let work: Work
    /// Prepares memory and returns what is timed.
    let prepare: () -> () -> Void

    enum Work {
        /// Arithmetic and the least memory traffic: whichever roof is nearer is the one a row is held against.
        case kernel(flop: Double, bytes: Double, precision: dmae_precision = DMAE_PRECISION_F32)
        case images(Int)
    }

    /// A measured row: its line in the table, and the ratio that is recorded and compared: the median share of the
    /// nearer roof or, of rows that count images, images in the time of a GFLOP at the peak.
    struct Result {
        let line: String
        let ratio: Double
    }

    private enum Roof { case arithmetic, memory }
    /// The nearer roof, as the machine was at the start.
    private func bounded(_ machine: Machine) -> Roof? {
        guard case .kernel(let flop, let bytes, let precision) = work else { return nil }
        return flop / machine.peak(precision) >= bytes / machine.bandwidth ? .arithmetic : .memory
    }

    var title: String { "\(name) \(shape)" }

    func measure(_ machine: Machine) -> Result {
        defer { releaseMemory() }
        let run = prepare()
        // Copying evicts what the row holds in the cache, so it is measured before and after, not between repetitions.
        var copies = bounded(machine) == .memory ? (0..<3).map { _ in machine.bandwidthNow() } : []
        run()
        var times: [Double] = [], peaks: [Double] = []
        let end = monotonicSeconds() + 0.35
        while times.count < 5 || (monotonicSeconds() < end && times.count < 200) {
            if case .kernel(_, _, let precision) = work {
                peaks.append(machine.peakNow(precision))
            } else {
                peaks.append(machine.peakNow())
            }
            times.append(Machine.time(run))
        }
        let time = median(times), ratio: Double, rate: String
        switch work {
        case .images(let count):
            ratio = median(zip(times, peaks).map { time, peak in Double(count) / time / (peak / 1e9) })
            rate = column(Format.fixed(Double(count) / time, 0), 9) + " images/s"
        case .kernel(let flop, let bytes, _):
            if !copies.isEmpty { copies += (0..<3).map { _ in machine.bandwidthNow() } }
            let bandwidth = copies.isEmpty ? machine.bandwidth : median(copies)
            ratio = median(zip(times, peaks).map { time, peak in max(flop / peak, bytes / bandwidth) / time })
            rate =
                (bounded(machine) == .arithmetic
                    ? column(Format.fixed(flop / time / 1e9, 1), 9) + " GFLOP/s"
                    : column(Format.fixed(bytes / time / 1e9, 1), 9) + " GB/s    ")
                + column(Format.fixed(100 * ratio, 0), 5) + " %"
        }
        return Result(
            line: name.padded(32) + shape.padded(22) + column(Format.fixed(time * 1e3, 3), 10) + " ms" + rate,
            ratio: ratio)
    }
}

extension String {
    func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(1, width - count)) }
}
func column(_ text: String, _ width: Int) -> String { String(repeating: " ", count: max(0, width - text.count)) + text }
