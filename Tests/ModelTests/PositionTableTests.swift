import Foundation
import Models
import TestSupport
import XCTest

final class PositionTableTests: XCTestCase {
    /// Each entry is the formula's, in double, rounded once; the class row is zero. Also where rows and columns differ.
    func testAgreesWithTheFormula() {
        for (rows, columns, width) in [(14, 14, 768), (3, 5, 20), (1, 9, 4), (16, 16, 1280)] {
            let table = UnsafeMutableBufferPointer<Float>.allocate(capacity: (1 + rows * columns) * width)
            defer { table.deallocate() }
            table.initialize(repeating: .nan)
            PositionTable.fill(table, rows: rows, columns: columns, width: width)
            XCTAssertTrue(table[..<width].allSatisfy { $0 == 0 })
            let quarter = width / 4
            var worst = 0.0
            for row in 0..<rows {
                for column in 0..<columns {
                    for i in 0..<quarter {
                        let omega = exp(-Double(i) / Double(quarter) * log(10_000.0))
                        let start = (1 + row * columns + column) * width + i
                        let angles = [Double(column), Double(column), Double(row), Double(row)].map { $0 * omega }
                        for part in 0..<4 {
                            let value = part % 2 == 0 ? sin(angles[part]) : cos(angles[part])
                            worst = max(worst, (Double(table[start + part * quarter]) - value).magnitude)
                        }
                    }
                }
            }
            // Half a unit in the last place below 1, and a little for ω from exp and log: 16 positions times a few
            // 2⁻⁵³.
            XCTAssertLessThanOrEqual(worst, 0x1p-25 + 1e-13, "\(rows)×\(columns), width \(width)")
        }
    }

    /// The recorded tables of PyTorch are ours to the last place but one.
    func testAgreesWithTheRecordedTables() throws {
        var checked = 0
        for recorded in try Fixtures.golden() {
            let images = try recorded.input.entry("images").shape
            let (rows, columns) = (
                images[2] / recorded.description.patchSize, images[3] / recorded.description.patchSize
            )
            for entry in recorded.input.entries where entry.name.hasSuffix("pos_embed") {
                let table = UnsafeMutableBufferPointer<Float>.allocate(capacity: entry.count)
                defer { table.deallocate() }
                PositionTable.fill(table, rows: rows, columns: columns, width: entry.shape[2])
                var comparison = TensorComparison()
                comparison.compare(entry.name, expected: try recorded.input.floats(entry.name), found: Array(table)) {
                    _ in 0x1p-24
                }
                XCTAssertEqual(comparison.failures, [], recorded.name)
                checked += 1
            }
        }
        XCTAssertGreaterThanOrEqual(checked, 8)
    }
}
