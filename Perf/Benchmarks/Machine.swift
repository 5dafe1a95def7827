import CKernels
import Glibc
import Reporting
import Synchronization

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

/// The measured limits of this machine, which every row is compared with.
package struct Machine {
    package let threads: Int
    /// Peak of all threads in FLOP/s for float32, bf16 and int8: multiply-adds in registers, with AMX products of tile
    /// registers.
    private var peaks = [0.0, 0.0, 0.0]
    /// Copying memory far larger than the caches, bytes read and written per second.
    package private(set) var bandwidth = 0.0
    /// Seconds in which a cache line goes from one thread to another and back; nil for one thread. About 50 ns if the
    /// cores share a cache. A virtual machine may be moved to cores that do not; sharing memory then costs several
    /// times as much.
    package let roundTrip: Double?
    private let rounds: Int
    private static let floats = 1 << 24
    private let copied: (from: UnsafeMutablePointer<Float>, to: UnsafeMutablePointer<Float>)

    package init(threads: Int) {
        self.threads = threads
        // Measured before OpenMP's threads exist, which would spin on the other cores.
        roundTrip = threads == 1 ? nil : median((0..<5).map { _ in CacheLine.roundTrip() })
        copied = (memory(Self.floats), memory(Self.floats))
        // Kept until the program ends; releaseMemory frees only the memory of a row.
        forgetMemory()
        // The rounds take about four milliseconds: long enough for the clock, short beside a row.
        var rounds = 10_000
        while Self.time({ _ = dmae_peak_flops(DMAE_PRECISION_F32, Int32(threads), rounds) }) < 0.004 { rounds *= 2 }
        self.rounds = rounds
        for precision in [DMAE_PRECISION_F32, DMAE_PRECISION_BF16, DMAE_PRECISION_INT8] {
            peaks[Int(precision.rawValue)] = median((0..<15).map { _ in peakNow(precision) })
        }
        _ = bandwidthNow()
        bandwidth = median((0..<7).map { _ in bandwidthNow() })
    }

    /// Bytes copied per second, read and written, at this moment.
    func bandwidthNow() -> Double {
        Double(8 * Self.floats) / Self.time { copy(copied.from, copied.to, Self.floats) }
    }

    /// The peak at this moment. Other programs and the clock rate change it, so it is measured between the repetitions
    /// of a row.
    func peakNow(_ precision: dmae_precision = DMAE_PRECISION_F32) -> Double {
        let start = monotonicSeconds()
        return dmae_peak_flops(precision, Int32(threads), rounds) / (monotonicSeconds() - start)
    }

    /// The median peak at the start.
    package func peak(_ precision: dmae_precision) -> Double { peaks[Int(precision.rawValue)] }

    static func time(_ body: () -> Void) -> Double {
        let start = monotonicSeconds()
        body()
        return monotonicSeconds() - start
    }

    /// The bytes of a file, or nil.
    static func contents(of path: String) -> [UInt8]? {
        guard let file = fopen(path, "rb") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = [], part = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&part, 1, part.count, file), count > 0 { bytes += part[..<count] }
        return bytes
    }

    package static var processor: String {
        for line in String(decoding: contents(of: "/proc/cpuinfo") ?? [], as: UTF8.self).split(separator: "\n")
        where line.hasPrefix("model name") {
            return String(line[line.index(line.firstIndex(of: ":")!, offsetBy: 2)...])
        }
        return "unknown processor"
    }
}

/// A number that two threads increment in turn.
private final class CacheLine: Sendable {
    private let number = Atomic<Int>(0)
    private static let times = 20_000

    private func answer(from first: Int) {
        for round in 0..<Self.times {
            while number.load(ordering: .acquiring) != 2 * round + first {}
            number.store(2 * round + first + 1, ordering: .releasing)
        }
    }

    /// Seconds of one round trip.
    static func roundTrip() -> Double {
        let line = CacheLine()
        var thread = pthread_t()
        let status = pthread_create(
            &thread, nil,
            { context in
                Unmanaged<CacheLine>.fromOpaque(context!).takeUnretainedValue().answer(from: 1)
                return nil
            }, Unmanaged.passUnretained(line).toOpaque())
        guard status == 0 else { fail("cannot start a thread") }
        let seconds = Machine.time { line.answer(from: 0) }
        pthread_join(thread, nil)
        return seconds / Double(times)
    }
}

/// Memory of the row being measured.
private var taken: [UnsafeMutableRawPointer] = []
package func releaseMemory() {
    taken.forEach { free($0) }
    taken = []
}

func forgetMemory() { taken = [] }

/// Memory with random numbers in [-0.5, 0.5), until releaseMemory. Writing them also takes the page faults before the
/// measurement. Huge pages are used if available, as in a run's memory (MemoryPlan).
func memory(_ floats: Int) -> UnsafeMutablePointer<Float> {
    let hugePage = 1 << 21, bytes = (floats * 4 + hugePage - 1) / hugePage * hugePage
    let pointer = aligned_alloc(hugePage, bytes)!.bindMemory(to: Float.self, capacity: floats)
    madvise(pointer, bytes, Int32(MADV_HUGEPAGE))
    taken.append(pointer)
    var state: UInt32 = 1
    for i in 0..<floats {
        state = state &* 1_664_525 &+ 1_013_904_223
        pointer[i] = Float(state >> 8) * 0x1p-24 - 0.5
    }
    return pointer
}

private func copy(_ from: UnsafeMutablePointer<Float>, _ to: UnsafeMutablePointer<Float>, _ floats: Int) {
    var pointers = (UnsafeRawPointer(from), UnsafeMutableRawPointer(to))
    withUnsafeMutablePointer(to: &pointers) { context in
        dmae_parallel_for(floats / 16, 1 << 13, context) { context, begin, end in
            let (from, to) = context!.assumingMemoryBound(to: (UnsafeRawPointer, UnsafeMutableRawPointer).self).pointee
            let source = from.assumingMemoryBound(to: SIMD16<Float>.self),
                target = to.assumingMemoryBound(to: SIMD16<Float>.self)
            for i in begin..<end { target[i] = source[i] }
        }
    }
}
