import CKernels
import Glibc
import Reporting
import Tensors

/// One row of the table.
package struct Benchmark {
    package let name: String
    package let shape: String
    let work: Work
    /// Allocates memory and returns the code that is timed.
    let prepare: () -> () -> Void
    /// The variant that the row measures; nil for the one that the processor selects.
    package var variant: InstructionSet.Variant?

    package enum Work {
        /// Arithmetic and the minimal memory traffic. The nearer of the two limits is the one that counts.
        case kernel(flop: Double, bytes: Double, precision: dmae_precision = DMAE_PRECISION_F32)
        case images(Int)
        /// Measures the machine itself.
        case peak(dmae_precision)
    }

    /// A measured row: its line in the table, and the ratio that is recorded and compared. The ratio is the median
    /// fraction of the nearer limit; for images, those done in the time of a GFLOP at the peak; for a peak, the
    /// fraction of the selected variant's.
    package struct Result {
        package let line: String
        package let ratio: Double
    }

    private enum Limit { case arithmetic, memory }
    /// The nearer limit, by the machine's figures at the start.
    private func bounded(_ machine: Machine) -> Limit? {
        guard case .kernel(let flop, let bytes, let precision) = work else { return nil }
        return flop / machine.peak(precision) >= bytes / machine.bandwidth ? .arithmetic : .memory
    }

    package var title: String { shape.isEmpty ? name : "\(name) \(shape)" }

    package func measure(_ machine: Machine) -> Result {
        let selected = InstructionSet.selected
        defer {
            releaseMemory()
            _ = selected.use()
        }
        if let variant {
            guard variant.instructionSet.use(),
                InstructionSet.variants.contains(where: { $0.name == variant.name && $0.isSelected })
            else { fail("\(variant.name) is never selected") }
        }
        if case .peak(let precision) = work {
            let peak = median((0..<9).map { _ in machine.peakNow(precision) })
            let ratio = peak / machine.peak(precision)
            return Result(
                line: name.padded(58) + column("", 13) + column(Format.fixed(peak / 1e9, 1), 9) + " GFLOP/s"
                    + column(Format.fixed(100 * ratio, 0), 5) + " %", ratio: ratio)
        }
        let run = prepare()
        // Copying evicts the row's data from the cache, so it is measured before and after, not between repetitions.
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
        case .peak: fail("a peak is not timed as a row")
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
            line: name.padded(36) + shape.padded(22) + column(Format.fixed(time * 1e3, 3), 10) + " ms" + rate,
            ratio: ratio)
    }
}

extension String {
    package func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(1, width - count)) }
}
package func column(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
}
