import AllocationCounter
import Foundation
import Images
import Models
import Tensors
import TestSupport
import Training
import XCTest

/// After warm-up a training step allocates nothing.
final class AllocationTests: XCTestCase {
    /// How many times `body` allocates, and where it does first.
    private func allocations(_ body: () -> Void) -> (count: Int, where: String) {
        allocation_counter_arm()
        body()
        let count = allocation_counter_disarm()
        guard count > 0 else { return (0, "") }
        let callers = (0..<allocation_counter_depth()).map { String(cString: allocation_counter_caller($0)) }
        return (count, callers.joined(separator: " ← "))
    }

    /// The counter sees what the C library's functions give, what Swift's runtime takes, and other threads'
    /// allocations.
    func testTheCounterCounts() {
        var memory: [UnsafeMutableRawPointer?] = []
        memory.reserveCapacity(8)
        var aligned: UnsafeMutableRawPointer?
        XCTAssertEqual(
            allocations {
                memory.append(malloc(10))
                memory.append(calloc(10, 10))
                memory.append(realloc(nil, 10))
                memory.append(aligned_alloc(64, 128))
                posix_memalign(&aligned, 64, 100)
            }.count, 5)
        memory.append(aligned)
        XCTAssertTrue(memory.allSatisfy { $0 != nil })
        XCTAssertEqual(UInt(bitPattern: memory[3]) % 64, 0)
        XCTAssertEqual(UInt(bitPattern: aligned) % 64, 0)
        memory.forEach { free($0) }

        final class Object { var value = 0 }
        var object: Object?
        let swift = allocations { object = Object() }
        XCTAssertEqual(swift.count, 1)
        XCTAssertNotNil(object)
        XCTAssertTrue(swift.where.contains("swift_slowAlloc") || swift.where.contains("swift_allocObject"), swift.where)

        struct Allocating: ParallelRows {
            let memory: UnsafeMutablePointer<UnsafeMutableRawPointer?>

            func run(_ range: Range<Int>) {
                for row in range { memory[row] = malloc(10) }
            }
        }
        withThreads(2) {
            let memory = UnsafeMutablePointer<UnsafeMutableRawPointer?>.allocate(capacity: 64)
            defer { memory.deallocate() }
            XCTAssertEqual(Threads.observed, 2)
            XCTAssertEqual(allocations { Allocating(memory: memory).runAll(64) }.count, 64)
            for row in 0..<64 { free(memory[row]) }
        }
        XCTAssertEqual(allocations {}.count, 0)
    }

    /// A step of one micro-batch, or of two: masks, forward and backward, gradient norm and optimiser allocate nothing,
    /// for every kind of step.
    func testAStepAllocatesNothing() throws {
        let pairs = [AlignedPair(studentBlock: 1, teacherBlock: 0), AlignedPair(studentBlock: 2, teacherBlock: 2)]
        let cases: [(String, ModelConfiguration)] = [
            ("L1, linear", .small(pairs: pairs, distance: .l1)),
            ("int8 teacher", .small(pairs: pairs)),
            ("L2, MLP, normalised pixels", .small(pairs: pairs, projection: .mlp, normalizePixels: true)),
            ("raw features", .small(teacherWidth: 12, distance: .l1, projection: .none)),
            ("no teacher", .small(channels: 1, teacherWidth: nil)),
            (
                "wide",
                .small(
                    imageHeight: 32, imageWidth: 40, studentWidth: 132, teacherWidth: 148, pairs: pairs, distance: .l1)
            ),
        ]
        let ran = try withEachInstructionSet { set in
            for threads in [1, 2, 3] {
                try withThreads(threads) {
                    for (name, configuration) in cases {
                        for accumulation in [1, 2] {
                            var loop: StepLoop!
                            let model = try RandomModel(
                                configuration, batch: 3, seed: 1, accumulates: accumulation > 1,
                                teacherPrecision: name == "int8 teacher" ? .int8 : .same
                            ) { loop = StepLoop($0, Optimizer(), accumulation: accumulation, plan: $1) }
                            let samples = model.observed.samples
                            var norm: Float = 0
                            func step(_ number: Int) {
                                let outcome = try? loop.run(step: number, learningRate: 1e-3) { samples }
                                if case .finished(let result) = outcome { norm = result.gradientNorm }
                            }
                            step(1)
                            norm = 0
                            let counted = allocations {
                                step(2)
                                step(3)
                            }
                            XCTAssertEqual(
                                counted.count, 0,
                                "\(name), \(accumulation) micro-batches, \(set.name), \(threads) threads: "
                                    + "\(counted.where)"
                            )
                            XCTAssertGreaterThan(norm, 0)
                            withExtendedLifetime(model) {}
                        }
                    }
                }
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// The same for fine-tuning: drop path, mixed targets, a teacher, trained positions.
    func testAFineTuningStepAllocatesNothing() throws {
        let cases: [ClassifierConfiguration] = [
            .small(dropPath: 0.3, layerDecay: 0.65, smoothing: 0.1),
            .small(pool: .class, dropPath: 0.3, teacher: LogitDistillation(weight: 0.5, temperature: 3)),
        ]
        let ran = try withEachInstructionSet { set in
            for threads in [1, 2] {
                try withThreads(threads) {
                    for configuration in cases {
                        for accumulation in [1, 2] {
                            var loop: StepLoop!
                            let model = try RandomClassifier(
                                configuration, batch: 4, seed: 1, .init(keepsGradients: accumulation > 1)
                            ) { loop = StepLoop($0, Optimizer(), accumulation: accumulation, plan: $1) }
                            let batch = model.batch
                            var norm: Float = 0
                            func step(_ number: Int) {
                                let outcome = try? loop.run(step: number, learningRate: 1e-3) { batch }
                                if case .finished(let result) = outcome { norm = result.gradientNorm }
                            }
                            step(1)
                            norm = 0
                            let counted = allocations {
                                step(2)
                                step(3)
                            }
                            XCTAssertEqual(
                                counted.count, 0,
                                "\(configuration.pool), \(accumulation) micro-batches, \(set.name), \(threads) threads: "
                                    + counted.where)
                            XCTAssertGreaterThan(norm, 0)
                            withExtendedLifetime(model) {}
                        }
                    }
                }
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// Handing over a batch allocates nothing; decoding one does, which the counter sees as well. So the batches are
    /// counted when all of them are probably decoded, and a loader that allocates by itself does so at every attempt.
    func testABatchAllocatesNothing() throws {
        let folder = try ImageFolder(Fixtures.path("demo/images"))
        let augmentation = Augmentation(width: 16, height: 16, erasing: RandomErasing(probability: 1))
        let plan = MemoryPlan()
        let images = plan.reserve("images", 4, augmentation.sampleCount, .batch)
        try plan.commit()
        var counted = (count: Int.max, where: "")
        for attempt in 1...20 where counted.count > 0 {
            let loader = BatchLoader(
                source: folder, augmentation: augmentation, batchSize: 4, seed: 1, firstSample: 0, lastSample: 12,
                workers: 2, batchesAhead: 3, mixing: Mixing(), report: { XCTFail("\($0)") })
            defer { loader.stop() }
            func next() -> Int { (try? loader.next(into: images))?.samples[0] ?? -1 }
            XCTAssertEqual(next(), 0)
            usleep(useconds_t(50_000 * attempt))
            var second = 0, third = 0
            counted = allocations {
                second = next()
                third = next()
            }
            XCTAssertEqual([second, third], [4, 8])
        }
        XCTAssertEqual(counted.count, 0, counted.where)
    }
}
