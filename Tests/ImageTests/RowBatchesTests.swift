import Foundation
import Images
import Reporting
import Tensors
import TestSupport
import XCTest

/// Batches of stored features, held against a loader's batches of the images they are of.
final class RowBatchesTests: XCTestCase {
    /// The same images at the same positions as a loader shows, over epochs, from any position, with images that cannot
    /// be read.
    func testTheStreamIsTheLoaders() throws {
        let count = 11, broken: Set<Int> = [2, 7]
        var source = MemorySource(classes: ["a", "b", "c"])
        for index in 0..<count {
            let bytes = [UInt8](repeating: UInt8(20 * index), count: 3 * 16)
            source.images.append(
                (
                    "\(index)", index % 3,
                    broken.contains(index)
                        ? .failure(Failure(.badData, "broken"))
                        : .success(try PNGWriter.encode(Pixels(width: 4, height: 4, channels: 3, bytes: bytes)))
                ))
        }
        let plan = MemoryPlan()
        let rows = plan.reserve("rows", count, 3, .batch), target = plan.reserve("target", 9, 3, .batch)
        let augmentation = Augmentation(width: 4, height: 4, framing: .whole)
        let pixels = plan.reserve("pixels", 9, augmentation.sampleCount, .batch)
        try plan.commit()
        for index in 0..<rows.count { rows.pointer[index] = Float(index) }
        for (first, last, size) in [(0, 40, 4), (5, 38, 9), (22, 23, 2), (30, 30, 1)] {
            let loader = BatchLoader(
                source: source, augmentation: augmentation, batchSize: size, seed: 9, firstSample: first,
                lastSample: last, workers: 2, unreadableLimit: 0.5, report: { _ in })
            defer { loader.stop() }
            let batches = RowBatches(
                of: rows, hasRow: (0..<count).map { !broken.contains($0) }, labels: (0..<count).map { $0 % 3 },
                batchSize: size, seed: 9, samples: first..<last)
            var total = 0
            while let expected = try loader.next(into: pixels) {
                let found = try XCTUnwrap(batches.next(into: target))
                XCTAssertEqual(found, expected)
                for (row, image) in found.images.enumerated() {
                    XCTAssertEqual(target.rows(row..<row + 1).values, rows.rows(image..<image + 1).values)
                }
                total += found.count
            }
            XCTAssertNil(batches.next(into: target))
            XCTAssertEqual(total, last - first)
        }
    }
}
