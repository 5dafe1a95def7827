import CKernels
import Glibc
import Reporting
import Synchronization

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

/// What this machine can do at best, measured: the two roofs that every row is held against.
package struct Machine {
    package let threads: Int
    /// Multiply-adds in registers, or products of tiles in those of AMX, FLOP/s of all threads, float32, bf16 and int8.
    private var peaks = [0.0, 0.0, 0.0]
    /// Copying memory far larger than the caches, bytes read and written per second.
    package private(set) var bandwidth = 0.0
    /// Seconds for a cache line from one thread to another and back; nil for one thread. Some 50 ns where they share a
    /// cache; a virtual machine's cores may be moved to where they do not, and sharing memory then costs several times
    /// as much.
    package let roundTrip: Double?
    private let rounds: Int
    private static let floats = 1 << 24
    private let copied: (from: UnsafeMutablePointer<Float>, to: UnsafeMutablePointer<Float>)

    package init(threads: Int) {
        self.threads = threads
        // Before OpenMP's threads exist, which would wait on a core of their own.
        roundTrip = threads == 1 ? nil : median((0..<5).map { _ in CacheLine.roundTrip() })
        copied = (memory(Self.floats), memory(Self.floats))
        // Kept for as long as the program runs: not of the row that releases its memory.
        forgetMemory()
        // As many rounds as take about four milliseconds: long enough for the clock, short beside what is measured.
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

    /// The peak at this moment: other programs and the clock change it, so it is measured beside each row's
    /// repetitions.
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

/// A number that two threads hand to and fro.
private final class CacheLine: Sendable {
    private let number = Atomic<Int>(0)
    private static let times = 20_000

    private func answer(from first: Int) {
        for round in 0..<Self.times {
            while number.load(ordering: .acquiring) != 2 * round + first {}
            number.store(2 * round + first + 1, ordering: .releasing)
        }
    }

    /// Seconds of one way there and back.
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

/// What the row being measured has taken.
private var taken: [UnsafeMutableRawPointer] = []
package func releaseMemory() {
    taken.forEach { free($0) }
    taken = []
}

func forgetMemory() { taken = [] }

/// Random numbers in [-0.5, 0.5), until releaseMemory. Writing them also keeps page faults out of the measurement. On
/// huge pages where the system has them, as a run's memory is (MemoryPlan).
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
