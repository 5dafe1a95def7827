#if canImport(Glibc)
    import Glibc
#endif
import Images
import Models
import Reporting
import Tensors
import Synchronization

/// Times training steps on random weights and images, for `dmae bench`.
public struct StepBenchmark: Sendable {
    /// Seconds of each timed step: forward, backward, optimiser.
    public private(set) var stepSeconds: [Double] = []
    /// Seconds of gradient norm and optimiser in each timed step.
    public private(set) var optimizerSeconds: [Double] = []
    /// Peak of this machine in GFLOP/s: the median of measurements between the steps, with the same threads.
    public private(set) var peakGFLOPS = 0.0
    /// The same in int8; nil unless the teacher's matmuls are int8.
    public private(set) var int8PeakGFLOPS: Double?
    /// Floating-point operations of a step, in GFLOP per image.
    public let operations: Operations
    /// Images of a step.
    public let batch: Int
    /// Time by operation, summed over the timed steps; empty unless profiling is on.
    public private(set) var profile: [Profile.Record] = []

    /// Images per second at the median step.
    public var imagesPerSecond: Double { Double(batch) / Self.median(stepSeconds) }
    /// GFLOP per image in int8.
    public var int8GFLOP: Double { int8PeakGFLOPS == nil ? 0 : operations.teacherLinear }
    /// Fraction of peak: the time of a step's matmuls at the measured peaks, each at the peak of its precision, divided
    /// by the time of the step.
    public var fractionOfPeak: Double {
        let seconds = (operations.total - int8GFLOP) / peakGFLOPS + int8GFLOP / (int8PeakGFLOPS ?? 1)
        return imagesPerSecond * seconds
    }

    /// Runs one step of fine-tuning to warm up, then `steps` timed ones. Labels are random, and an even batch is mixed.
    /// For the parameters see the benchmark of distillation.
    public init(
        _ model: ClassifierConfiguration, batch: Int, steps: Int, precision: Precision = .f32,
        optimizer: Optimizer = Optimizer(), profiles: Bool = false,
        progress: (Int, Double) -> Void = { _, _ in }
    ) throws {
        var random = CounterRandom(seed: 0, purpose: .benchmark, epoch: 1)
        let labels = (0..<batch).map { _ in random.below(max(1, model.classes)) }
        try self.init(
            batch: batch, steps: steps, precision: precision, optimizer: optimizer, profiles: profiles,
            labels: labels, progress: progress
        ) {
            try Classifier(model, batch: batch, seed: 0, plan: $0, .init(precision: precision, keepsGradients: false))
        }
    }

    /// Runs one step of distillation, or of MAE's pre-training, to warm up, then `steps` timed ones.
    ///
    /// - Parameters:
    ///   - profiles: whether to time each operation.
    ///   - progress: called with the number and seconds of each step.
    /// - Throws: `Failure` where the model does not fit together or memory cannot be mapped.
    public init(
        _ model: ModelConfiguration, batch: Int, steps: Int, precision: Precision = .f32,
        teacherPrecision: TeacherPrecision = .same,
        optimizer: Optimizer = Optimizer(), profiles: Bool = false,
        progress: (Int, Double) -> Void = { _, _ in }
    ) throws {
        try self.init(
            batch: batch, steps: steps, precision: precision, teacherPrecision: teacherPrecision,
            optimizer: optimizer, profiles: profiles, labels: nil, progress: progress
        ) {
            try model.objective(
                batch: batch, seed: 0, plan: $0,
                .init(precision: precision, teacherPrecision: teacherPrecision, keepsGradients: false))
        }
    }

    private init(
        batch: Int, steps: Int, precision: Precision, teacherPrecision: TeacherPrecision = .same,
        optimizer: Optimizer, profiles: Bool, labels: [Int]?, progress: (Int, Double) -> Void,
        objective make: (MemoryPlan) throws -> any Objective
    ) throws {
        let plan = MemoryPlan()
        let objective = try make(plan)
        let loop = StepLoop(objective, optimizer, accumulation: 1, plan: plan)
        try plan.commit()
        objective.parameters.initialize(seed: 0)
        objective.frozenParameters?.initialize(seed: 1)
        objective.fillRandomImages(seed: 0)
        operations = objective.operations
        self.batch = batch
        var peaks: [Double] = [], int8Peaks: [Double] = []
        for step in 0...steps {
            if step == 1 { Profile.reset(measuring: profiles) }
            // The rate does not change the work of a step. A small one leaves the random weights almost unchanged.
            let outcome = try loop.run(step: step + 1, learningRate: 1e-6) {
                Batch(
                    samples: Array(step * batch..<(step + 1) * batch), images: Array(0..<batch), labels: labels,
                    mixture: labels != nil && batch % 2 == 0 ? Mixture(lambda: 0.6) : nil)
            }
            guard case .finished(let result) = outcome else {
                throw Failure(.failure, "the loss of a step on random weights and images is not finite")
            }
            guard step > 0 else { continue }
            let seconds = result.gradientSeconds + result.optimizerSeconds
            stepSeconds.append(seconds)
            optimizerSeconds.append(result.optimizerSeconds)
            peaks.append(Self.peak(precision))
            if teacherPrecision == .int8 { int8Peaks.append(Self.peak(.int8)) }
            progress(step, seconds)
        }
        peakGFLOPS = Self.median(peaks)
        if !int8Peaks.isEmpty { int8PeakGFLOPS = Self.median(int8Peaks) }
        profile = Profile.records
        Profile.reset(measuring: false)
    }

    /// Measured peak of all threads in GFLOP/s: multiply-adds in registers, or tile multiplications with AMX. The
    /// maximum of four measurements of about 50 ms each, as AMX may start at a quarter of its rate.
    static func peak(_ precision: Precision) -> Double {
        let threads = Threads.count
        var rounds = 200_000, best = 0.0
        // The first measurement only determines the number of rounds for 50 ms.
        for time in 0...4 {
            let start = monotonicSeconds()
            let operations = InstructionSet.peakFLOP(precision, threads: threads, iterations: rounds)
            let duration = max(1e-6, monotonicSeconds() - start)
            if time > 0 { best = max(best, operations / duration * 1e-9) }
            rounds = max(1, Int(0.05 / duration * Double(rounds)))
        }
        return best
    }

    /// The middle value, or the mean of the two in the middle.
    public static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        guard !sorted.isEmpty else { return .nan }
        return (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
    }
}

extension Objective {
    /// Fills the images with random numbers in [-2, 2).
    func fillRandomImages(seed: UInt64) {
        var random = CounterRandom(seed: seed, purpose: .benchmark)
        let elements = images.elements
        for index in elements.indices { elements[index] = 4 * random.uniform() - 2 }
    }
}

/// Memory of this process, as reported by the operating system.
public enum ResidentMemory {
    /// Maximum resident set so far, in bytes, from /proc. The value of getrusage, used only without /proc, includes the
    /// process before exec, when it was a copy of its parent.
    ///
    /// The kernel's own maximum may fall: it is reckoned from counters that lag behind, and another program may reset it.
    /// What was read once stays.
    public static var peakBytes: Int {
        greatest.withLock {
            $0 = max($0, kernelsPeak)
            return $0
        }
    }
    private static let greatest = Mutex(0)

    private static var kernelsPeak: Int {
        if let status = fopen("/proc/self/status", "r") {
            defer { fclose(status) }
            var line = [CChar](repeating: 0, count: 256)
            while fgets(&line, Int32(line.count), status) != nil {
                let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                guard text.hasPrefix("VmHWM:") else { continue }
                let digits = text.filter { $0.isASCII && $0.isNumber }
                if let kilobytes = Int(digits) { return kilobytes * 1024 }
            }
        }
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return usage.ru_maxrss * 1024
    }
}
