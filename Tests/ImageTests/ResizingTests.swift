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

    /// With every filter, and on both sides of the edge from which on the vertical pass is the first.
    func testEveryFilterAndOrderEqualsPillow13s() throws {
        XCTAssertEqual(Set(RecordedResizing.read.resizes.map(\.filter)), Set(Interpolation.allCases))
        var isVerticalFirst: [Bool: Int] = [:]
        for entry in RecordedResizing.read.resizes {
            let source = try RecordedResizing.source(entry.source), (width, height) = (entry.size[0], entry.size[1])
            let result: Pixels
            var size = (width: source.width, height: source.height)
            if let crop = entry.crop {
                let rectangle = Rectangle(left: crop[0], top: crop[1], width: crop[2], height: crop[3])
                size = (crop[2], crop[3])
                result = source.resized(croppingTo: rectangle, width: width, height: height, entry.filter)
            } else if let box = entry.box {
                result = source.resized(
                    from: (box[0], box[1], box[2], box[3]), width: width, height: height, entry.filter)
            } else {
                result = source.resized(width: width, height: height, entry.filter)
            }
            XCTAssertEqual(crc32(result), entry.crc, "\(entry)")
            isVerticalFirst[height < size.height && size.height - height > 2 * (size.width - width), default: 0] += 1
        }
        XCTAssertGreaterThan(isVerticalFirst[true]!, 75)
        XCTAssertGreaterThan(isVerticalFirst[false]!, 75)
    }

    /// Of a vertical pass that is the first, a window needs only some columns.
    func testWindowOfTallPictures() throws {
        let source = try RecordedResizing.source("tall.png")
        for filter in Interpolation.allCases {
            let whole = source.resized(width: 24, height: 60, filter)
            for window in [
                Rectangle(left: 3, top: 7, width: 9, height: 40), Rectangle(left: 0, top: 59, width: 24, height: 1),
                Rectangle(left: 23, top: 0, width: 1, height: 60),
            ] {
                let part = try XCTUnwrap(
                    [UInt8](unsafeUninitializedCapacity: window.width * window.height * 3) { buffer, count in
                        Resampler(filter).resample(
                            source, width: 24, height: 60, window: window, into: buffer.baseAddress!)
                        count = buffer.count
                    })
                XCTAssertEqual(part, whole.cropped(to: window).bytes, "\(filter) \(window)")
            }
        }
    }

    /// Centre crops by the rules of torchvision, timm and transformers.
    func testCentreCropsEqualPillow13s() throws {
        for entry in RecordedResizing.read.frames {
            let source = try RecordedResizing.source(entry.source)
            var preprocessing = Preprocessing.imageNet(channels: source.channels)
            preprocessing.interpolation = entry.filter
            preprocessing.crop = CentreCrop(
                fraction: entry.fraction, squashes: entry.squashes, roundsDown: entry.down)
            let augmentation = Augmentation(
                width: entry.size, height: entry.size, channels: source.channels, framing: .centre,
                preprocessing: preprocessing)
            let frame = augmentation.centreFrame(width: source.width, height: source.height)
            XCTAssertEqual([frame.resized.width, frame.resized.height], entry.resized, "\(entry)")
            XCTAssertEqual([frame.crop.left, frame.crop.top], entry.crop, "\(entry)")
            XCTAssertEqual(crc32(augmentation.apply(to: source, seed: 0, epoch: 0, index: 0)), entry.crc, "\(entry)")
        }
    }
}
