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
                XCTAssertEqual(result, source.cropped(to: rectangle).resized(width: entry.size[0], height: entry.size[1]))
            } else if let box = entry.box {
                result = source.resized(from: (box[0], box[1], box[2], box[3]), width: entry.size[0], height: entry.size[1])
            } else {
                result = source.resized(width: entry.size[0], height: entry.size[1])
            }
            XCTAssertEqual(crc32(result), entry.crc, "\(entry)")
        }
    }

    private func resized(
        _ source: Pixels, croppedTo crop: [Int]? = nil, from box: [Float]? = nil, to size: [Int], by resampler: Resampler
    ) -> [UInt8] {
        let count = size[0] * size[1] * source.channels
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            resampler.resample(
                source, croppedTo: crop.map { Rectangle(left: $0[0], top: $0[1], width: $0[2], height: $0[3]) },
                from: box.map { (left: $0[0], top: $0[1], right: $0[2], bottom: $0[3]) }, width: size[0], height: size[1],
                into: buffer.baseAddress!)
            initialized = count
        }
    }

    /// Where weights and rows between the passes are too many to be held at once, they are made piece by piece.
    func testPieceByPieceEqualsPillowsToo() throws {
        for (piece, step) in [(1, 23), (1000, 3), (1 << 16, 1)] {
            let resampler = Resampler(limit: 0, piece: piece)
            for index in stride(from: 0, to: Expected.read.resizes.count, by: step) {
                let entry = Expected.read.resizes[index]
                let result = resized(
                    try Self.source(entry.source), croppedTo: entry.crop, from: entry.box, to: entry.size, by: resampler)
                XCTAssertEqual(crc32(result), entry.crc, "pieces of \(piece): \(entry)")
            }
        }
    }

    /// Many rows or columns to one output, more than a piece has.
    func testLongPicturesPieceByPiece() {
        let cases = [(3, 4000, [8, 8]), (4000, 3, [8, 8]), (1, 3001, [1, 7]), (8, 2999, [8, 1]), (701, 5, [1, 5])]
        for (width, height, size) in cases {
            for channels in [1, 3] {
                var draw = CounterRandom(seed: 2, purpose: .test, index: width)
                let bytes = (0..<width * height * channels).map { _ in UInt8(draw.below(256)) }
                let source = Pixels(width: width, height: height, channels: channels, bytes: bytes)
                let expected = source.resized(width: size[0], height: size[1]).bytes
                for (limit, piece) in [(0, 40), (0, 1000), (5000, 100), (20_000, 1000)] {
                    XCTAssertEqual(
                        resized(source, to: size, by: Resampler(limit: limit, piece: piece)), expected,
                        "\(width)×\(height), \(channels) channels, limit \(limit), pieces of \(piece)")
                }
            }
        }
    }

    func testNothingToDoCopies() throws {
        let source = try Self.source("large.png")
        XCTAssertEqual(source.resized(width: source.width, height: source.height), source)
    }
}
