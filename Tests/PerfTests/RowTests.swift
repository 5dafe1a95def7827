import Benchmarks
import Tensors
import XCTest

/// What `make perf` measures. Nothing is timed here.
final class RowTests: XCTestCase {
    private static let rows = StepCalls.rows()

    /// The list of variants decides what is measured: a row for each variant that this processor runs.
    func testEveryVariantIsMeasured() throws {
        let (benchmarks, missing) = try variantBenchmarks(Self.rows)
        let variants = InstructionSet.variants
        XCTAssertEqual(Set(benchmarks.map(\.name)).union(missing), Set(variants.map(\.name)))
        XCTAssertTrue(Set(benchmarks.map(\.name)).isDisjoint(with: missing))
        XCTAssertTrue(benchmarks.contains { $0.name.hasPrefix("gemm_f32_scalar") })
    }

    /// An operation that no call of the step runs is an error, not a row less.
    func testAnOperationWithoutARowIsAnError() {
        let rows = Self.rows.filter { $0.call.operation != "adamw_f32" }
        XCTAssertThrowsError(try variantBenchmarks(rows)) { error in
            XCTAssertEqual((error as? Unmeasured)?.operation, "adamw_f32")
        }
    }

    func testTitlesAreDistinct() throws {
        let variants = try variantBenchmarks(Self.rows).benchmarks
        let titles = (stepBenchmarks(Self.rows) + imageBenchmarks() + variants).map(\.title)
        XCTAssertEqual(Set(titles).count, titles.count)
    }

    /// Shapes come from the step: the decoder runs on parts of the batch, its last block on removed patches' queries.
    func testShapesAreTheSteps() {
        let titles = Set(Self.rows.map(\.title))
        for title in [
            "gemm f32 student qkv 1600×2304×768", "gemm f32 student 98 % fc1 dW 3072×768×128",
            "gemm bf16 teacher fc1+gelu 1600×4096×1024", "gemm f32 decoder fc1+gelu 1576×2048×512",
            "gemm bf16 decoder fc1+gelu 3152×2048×512", "gemm int8 teacher proj 1600×1024×1024",
            "attention f32 backward 147 of 197 tokens 16×32", "adamw 2359296 weights",
        ] {
            XCTAssertTrue(titles.contains(title), title)
        }
        XCTAssertFalse(titles.contains { $0.contains("6304") }, "the decoder never runs on the whole batch")
        // 18 teacher blocks of five matmuls, and so on: no call is lost.
        let flop = Self.rows.filter { $0.name.hasPrefix("gemm int8") }.map { Double($0.count) * $0.call.flop }
        XCTAssertEqual(flop.reduce(0, +), 18 * 2 * 1600 * 12 * 1024 * 1024)
    }

    /// A recorded call has memory for every operand: the smallest of each kind runs.
    func testRecordedCallsRun() {
        var kinds: Set<String> = []
        for row in Self.rows.sorted(by: { $0.call.bytes < $1.call.bytes }) {
            guard kinds.insert(row.kind).inserted else { continue }
            row.call.prepare()()
            releaseMemory()
        }
        XCTAssertGreaterThan(kinds.count, 20)
    }

    func testMatmulsForOtherPrograms() throws {
        let products = Product.all(Self.rows)
        let json = try XCTUnwrap(
            JSONSerialization.jsonObject(with: Data(Product.json(products).utf8)) as? [[String: Any]])
        XCTAssertEqual(json.count, products.count)
        XCTAssertTrue(json.allSatisfy { Set($0.keys) == ["name", "precision", "form", "m", "n", "k"] })
        XCTAssertTrue(json.contains { $0["name"] as? String == "student fc1 dW" && $0["k"] as? Int == 1600 })
        let teacher = try XCTUnwrap(products.first { $0.name == "teacher 98 % fc1 forward" })
        teacher.prepare()()
        releaseMemory()
    }
}

extension StepCalls.Row {
    /// The name without the part of the model and the mask ratio: "gemm bf16 fc1 dW".
    fileprivate var kind: String {
        name.split(separator: " ").filter { !["teacher", "student", "decoder", "98", "%"].contains($0) }
            .joined(separator: " ")
    }
}
