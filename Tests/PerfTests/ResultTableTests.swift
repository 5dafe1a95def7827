import Benchmarks
import Foundation
import XCTest

/// The pages show what was measured, as the files of Perf/results have it.
final class ResultTableTests: XCTestCase {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    func testPagesHoldTheMeasurements() throws {
        let tables = ResultTables(root: Self.root.path)
        for page in ResultTables.pages {
            let text = try String(contentsOf: Self.root.appendingPathComponent(page), encoding: .utf8)
            XCTAssertTrue(text.contains("<!-- table: "), page)
            XCTAssertEqual(try tables.filled(text), text, "\(page): run make perf-tables")
        }
        XCTAssertEqual(
            try tables.filled("a\n<!-- table: threads -->\nold\n<!-- end -->\nb").components(separatedBy: "\n").suffix(
                3),
            ["| AMD Zen 4, AVX512-BF16 | bf16 | 12.77, 12.05 | 6.41, 6.16 | 1.99, 1.96 |", "<!-- end -->", "b"])
        XCTAssertThrowsError(try tables.filled("<!-- table: nothing -->\n<!-- end -->"))
        XCTAssertThrowsError(try tables.filled("<!-- table: step -->\n"))
    }

    /// Every measurement says where, when and how it was made, and holds figures that can be.
    func testMeasurementsAreComplete() throws {
        let folder = Self.root.appendingPathComponent("Perf/results")
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter {
            $0.hasSuffix(".json") && !$0.hasPrefix("claims-")
        }
        XCTAssertGreaterThan(files.count, 5)
        for name in files {
            let data = try Data(contentsOf: folder.appendingPathComponent(name))
            let file = try XCTUnwrap(JSONSerialization.jsonObject(with: data) as? [String: Any], name)
            for key in ["machine", "processor", "date", "commit", "command"] {
                XCTAssertFalse((file[key] as? String ?? "").isEmpty, "\(name): \(key)")
            }
            let kind = try XCTUnwrap(file["measurement"] as? String),
                set = try XCTUnwrap(file["instruction_set"] as? String)
            XCTAssertEqual(name, "\(set)-\(kind).json")
            let rows = try XCTUnwrap(file["rows"] as? [[String: Any]], name)
            XCTAssertFalse(rows.isEmpty, name)
            for row in rows where kind == "step" {
                func number(_ key: String) throws -> Double { try XCTUnwrap(row[key] as? Double, "\(name): \(key)") }
                XCTAssertLessThan(try number("fraction_of_peak"), 1, name)
                // The ratio is the median over the turns: near the ratio of the medians, but not the same.
                let peer = try max(number("pytorch_eager"), number("pytorch_compiled"))
                XCTAssertEqual(try number("images_per_second") / peer, try number("ratio"), accuracy: 0.3, name)
            }
        }
    }

    /// The points of the claims say how they were trained, and hold accuracies.
    func testClaimsAreComplete() throws {
        let folder = Self.root.appendingPathComponent("Perf/results")
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasPrefix("claims-") }
        XCTAssertFalse(files.isEmpty)
        for name in files {
            let data = try Data(contentsOf: folder.appendingPathComponent(name))
            let file = try XCTUnwrap(JSONSerialization.jsonObject(with: data) as? [String: Any], name)
            for key in ["machine", "date", "command"] {
                XCTAssertFalse((file[key] as? String ?? "").isEmpty, "\(name): \(key)")
            }
            let setting = try XCTUnwrap(file["setting"] as? [String: Any], name)
            XCTAssertEqual(name, "claims-\(setting["name"] as? String ?? "").json")
            let rows = try XCTUnwrap(file["rows"] as? [[String: Any]], name)
            XCTAssertFalse(rows.isEmpty, name)
            for row in rows {
                XCTAssertFalse((row["commit"] as? String ?? "").isEmpty, name)
                XCTAssertGreaterThan(try XCTUnwrap(row["epochs"] as? Double, name), 0)
                let accuracies = row.keys.filter { $0.hasSuffix("_top1") }
                XCTAssertTrue(accuracies.contains("finetuned_top1"), name)
                for key in accuracies {
                    let accuracy = try XCTUnwrap(row[key] as? Double, name)
                    // Ten classes or more: chance is at most 0.1.
                    XCTAssertTrue(accuracy > 0.1 && accuracy <= 1, "\(name): \(key) \(accuracy)")
                }
            }
        }
    }
}
