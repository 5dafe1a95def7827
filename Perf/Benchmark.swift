import CKernels
import Glibc

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

    func row(_ machine: Machine) -> String {
        defer { releaseMemory() }
        let run = prepare()
        run()
        var times: [Double] = [], shares: [Double] = []
        let end = now() + 0.35
        while times.count < 5 || (now() < end && times.count < 200) {
            let peak: Double
            if case .kernel(_, _, let precision) = work { peak = machine.peakNow(precision) } else { peak = machine.peakNow() }
            let time = Machine.time(run)
            times.append(time)
            if case .kernel(let flop, let bytes, _) = work {
                let ideal = max(flop / peak, bytes / machine.bandwidth)
                shares.append(ideal / time)
            }
        }
        let time = median(times)
        let rate: String
        switch work {
        case .images(let count): rate = column(fixed(Double(count) / time, 0), 9) + " images/s"
        case .kernel(let flop, let bytes, let precision):
            rate = flop / machine.peak(precision) >= bytes / machine.bandwidth
                ? column(fixed(flop / time / 1e9, 1), 9) + " GFLOP/s" : column(fixed(bytes / time / 1e9, 1), 9) + " GB/s    "
        }
        let share = shares.isEmpty ? "" : column(fixed(100 * median(shares), 0), 5) + " %"
        return name.padded(32) + shape.padded(22) + column(fixed(time * 1e3, 3), 10) + " ms" + rate + share
    }
}

extension String {
    func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(1, width - count)) }
}
func column(_ text: String, _ width: Int) -> String { String(repeating: " ", count: max(0, width - text.count)) + text }
func fixed(_ value: Double, _ digits: Int) -> String {
    var text = [CChar](repeating: 0, count: 40)
    _ = withVaList([value]) { vsnprintf(&text, 40, "%.\(digits)f", $0) }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
