import CKernels
import KernelInternals
import XCTest

/// The tasks of a product cover every tile of C exactly once, so that results depend neither on the thread that does a
/// task nor on the order of tasks.
final class GemmTaskTests: KernelTestCase {
    /// Room for the tasks of every case here.
    private var tasks = [internals_task](repeating: internals_task(), count: 1 << 14)

    /// Counts how often a task meets each (private panel, shared panel), and checks bounds.
    private func coverage(_ plan: internals_plan, maxChunk: Int, _ place: String) -> [UInt8] {
        let count = plan.queues * plan.tasks_per_queue
        guard count <= tasks.count else {
            XCTFail("\(place): \(count) tasks")
            return []
        }
        var visits = [UInt8](repeating: 0, count: plan.private_panels * plan.shared_panels)
        for task in tasks[..<count] where task.begin != task.end {
            guard task.begin < task.end, task.end <= plan.private_panels, task.shared_begin < task.shared_end,
                task.shared_end <= plan.shared_panels, task.end - task.begin <= maxChunk
            else {
                XCTFail("\(place): \(task)")
                return []
            }
            for i in task.begin..<task.end {
                for j in task.shared_begin..<task.shared_end { visits[i * plan.shared_panels + j] += 1 }
            }
        }
        return visits
    }

    /// Every number of panels, chunks and threads around the rules of the cut.
    func testTasksCoverEveryPanelOnce() {
        for threads in [1, 2, 3, 5, 8, 13] {
            for chunk in [1, 2, 4, 5, 8, 16] {
                for privatePanels in Array(1...40) + [63, 64, 65, 127, 200] {
                    for sharedPanels in [1, 2, 3, 4, 5, 8, 9, 24, 33, 40] {
                        for splits in [false, true] {
                            let plan = internals_cut(
                                privatePanels, sharedPanels, chunk, splits, threads, &tasks, tasks.count)
                            let place = "\(privatePanels)×\(sharedPanels) chunk \(chunk) \(splits) threads \(threads)"
                            let visits = coverage(plan, maxChunk: chunk, place)
                            guard visits.count == privatePanels * sharedPanels, visits.allSatisfy({ $0 == 1 }) else {
                                return XCTFail(place)
                            }
                        }
                    }
                }
            }
        }
    }

    /// The same in elements of C, for products with the constants of every variant that the machine runs.
    func testTasksCoverCOnce() {
        var random = Random("gemm tasks")
        for operation in ["gemm_f32", "gemm_bf16", "gemm_int8"] {
            forEachVariant(of: operation) { variant in
                for _ in 0..<200 {
                    var arguments = dmae_gemm_arguments()
                    arguments.precision =
                        operation == "gemm_f32"
                        ? DMAE_PRECISION_F32 : operation == "gemm_bf16" ? DMAE_PRECISION_BF16 : DMAE_PRECISION_INT8
                    func size() -> Int { 1 + Int(random.next() % [20, 200, 1200][Int(random.next() % 3)]) }
                    (arguments.m, arguments.n, arguments.k) = (size(), size(), size() * 4)
                    (arguments.a_transposed, arguments.b_transposed) = (false, true)
                    arguments.c = UnsafeMutableRawPointer(bitPattern: 64)
                    arguments.b_packed = operation == "gemm_int8" ? UnsafeRawPointer(bitPattern: 64) : nil
                    let threads = 1 + Int(random.next() % 9)
                    let plan = internals_product(&arguments, threads, &tasks, tasks.count)
                    let place = "\(variant.name) m \(arguments.m) n \(arguments.n) k \(arguments.k) threads \(threads)"
                    let visits = coverage(plan, maxChunk: plan.max_chunk, place)
                    XCTAssertTrue(variant.name.hasSuffix("_\(plan.mr)x\(plan.nr)"), variant.name)
                    // Panels of the rows of A and of the columns of B, whose last one may reach beyond C.
                    let (a, b) = (arguments.m, arguments.n)
                    let panels = ((a + plan.mr - 1) / plan.mr, (b + plan.nr - 1) / plan.nr)
                    let (rows, columns) =
                        plan.shared_is_a
                        ? (plan.shared_panels, plan.private_panels) : (plan.private_panels, plan.shared_panels)
                    XCTAssertTrue(rows == panels.0 && columns == panels.1, place)
                    XCTAssertTrue(visits.count == rows * columns && visits.allSatisfy { $0 == 1 }, place)
                }
            }
        }
    }

    /// Threads take their own tasks from the front and steal from the back: whoever comes when, each task is taken
    /// once.
    func testEveryOrderOfTakingTakesEachTaskOnce() {
        var random = Random("stealing")
        for _ in 0..<3000 {
            let threads = 1 + Int(random.next() % 8), count = Int(random.next() % 60)
            // Some orders are of one thread for long, as if the others were late.
            let favourite = UInt8(random.next() % UInt64(threads)), bias = random.next() % 4
            let order = (0..<count + threads).map { _ in
                random.next() % 4 < bias ? favourite : UInt8(random.next() % UInt64(threads))
            }
            var taken = [Int](repeating: -1, count: order.count)
            let done = internals_take(threads, count, order, order.count, &taken)
            XCTAssertEqual(done, count)
            XCTAssertEqual(taken[..<done].sorted(), Array(0..<count))
            // A thread's own tasks come in rising order.
            for thread in 0..<threads {
                let own = count * thread / threads..<count * (thread + 1) / threads
                let mine = zip(order, taken[..<done]).filter { $0.0 == thread && own.contains($0.1) }.map(\.1)
                XCTAssertEqual(mine, mine.sorted())
            }
        }
    }
}
