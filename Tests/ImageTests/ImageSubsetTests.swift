import Images
import Reporting
import XCTest

final class ImageSubsetTests: XCTestCase {
    func testImages() throws {
        var source = MemorySource()
        source.classes = ["a", "b"]
        source.images = (0..<7).map { index in
            (name: "\(index)", label: index / 4, bytes: .success([UInt8(index)]))
        }
        let subset = ImageSubset(source, [1, 4, 6])
        XCTAssertEqual(subset.count, 3)
        XCTAssertEqual(subset.classes, ["a", "b"])
        XCTAssertEqual((0..<3).map(subset.path), ["memory/1", "memory/4", "memory/6"])
        XCTAssertEqual((0..<3).map(subset.label), [0, 1, 1])
        XCTAssertEqual(try (0..<3).map(subset.bytes), [[1], [4], [6]])
    }

    /// Every class keeps its fraction of the images, to one image.
    func testSpread() {
        XCTAssertEqual(ImageSubset.spread(3, of: 3), [0, 1, 2])
        XCTAssertEqual(ImageSubset.spread(5, of: 3), [0, 1, 2])
        XCTAssertEqual(ImageSubset.spread(3, of: 7), [0, 2, 4])
        let classes = [900, 50, 1, 1049, 4000], total = classes.reduce(0, +)
        let chosen = ImageSubset.spread(1000, of: total)
        XCTAssertEqual(Set(chosen).count, 1000)
        XCTAssertEqual(chosen, chosen.sorted())
        var first = 0
        for count in classes {
            let own = chosen.filter { (first..<first + count).contains($0) }.count
            XCTAssertLessThan(abs(Double(own) - 1000 * Double(count) / Double(total)), 1)
            first += count
        }
    }
}
