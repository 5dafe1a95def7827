import TestSupport
import XCTest

import Images

final class SampleOrderTests: XCTestCase {
    /// Every image once in an epoch; within a window, neighbours of the stored order, the windows in random order.
    func testWindows() {
        let stored = SampleOrder.images(1000, epoch: 7, seed: 3)
        var places = [Int](repeating: 0, count: 1000)
        for (place, image) in stored.enumerated() { places[image] = place }
        var orders: Set<[Int]> = [], firstCuts: Set<Int> = []
        for epoch in 0..<20 {
            let order = SampleOrder.images(stored, window: 64, epoch: epoch, seed: 5)
            XCTAssertEqual(order, SampleOrder.images(stored, window: 64, epoch: epoch, seed: 5))
            XCTAssertEqual(order.sorted(), Array(0..<1000))
            orders.insert(order)
            // The windows that this epoch must have: their images are neighbours in `order` and in `stored`.
            let found = (0..<64).first { cut in
                var start = 0
                while start < 1000 {
                    let place = places[order[start]]
                    let low = place < cut ? 0 : cut + (place - cut) / 64 * 64
                    let high = place < cut ? cut : min(1000, low + 64)
                    let window = order[start..<min(1000, start + high - low)].map { places[$0] }
                    guard window.sorted() == Array(low..<high) else { return false }
                    // Shuffled: in the stored order only if there are few.
                    if high - low > 20, window == Array(low..<high) { return false }
                    start += high - low
                }
                return true
            }
            guard let found else { return XCTFail("no windows of 64 in epoch \(epoch)") }
            firstCuts.insert(found)
        }
        XCTAssertEqual(orders.count, 20)
        XCTAssertGreaterThan(firstCuts.count, 10)
        XCTAssertNotEqual(
            SampleOrder.images(stored, window: 64, epoch: 0, seed: 5),
            SampleOrder.images(stored, window: 64, epoch: 0, seed: 6))
        // A window for all is the complete shuffle.
        for window in [1000, 5000] {
            XCTAssertEqual(
                SampleOrder.images(stored, window: window, epoch: 2, seed: 5),
                SampleOrder.images(1000, epoch: 2, seed: 5))
        }
    }
}
