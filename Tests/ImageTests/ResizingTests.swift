import Images
import Tensors
import XCTest

final class ResizingTests: XCTestCase {
    static func source(_ name: String) throws -> Pixels {
        try Pixels(contentsOf: "\(Expected.folder)/resize/\(name)", channels: name == "grey.png" ? 1 : 3)
    }

    func testHundredsOfCropsAndResizesEqualPillows() throws {
        XCTAssertGreaterThan(Expected.read.resizes.count, 400)
        for entry in Expected.read.resizes {
            let source = try Self.source(entry.source)
            let result: Pixels
            if let crop = entry.crop {
                let rectangle = Rectangle(left: crop[0], top: crop[1], width: crop[2], height: crop[3])
                result = source.resized(croppingTo: rectangle, width: entry.size[0], height: entry.size[1])
                XCTAssertEqual(
                    result, source.cropped(to: rectangle).resized(width: entry.size[0], height: entry.size[1]))
            } else if let box = entry.box {
                result = source.resized(
                    from: (box[0], box[1], box[2], box[3]), width: entry.size[0], height: entry.size[1])
            } else {
                result = source.resized(width: entry.size[0], height: entry.size[1])
            }
            XCTAssertEqual(crc32(result), entry.crc, "\(entry)")
        }
    }

    func testNothingToDoCopies() throws {
        let source = try Self.source("large.png")
        XCTAssertEqual(source.resized(width: source.width, height: source.height), source)
    }
}
