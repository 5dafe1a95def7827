import Foundation
import Images
import Reporting
import TestSupport
import XCTest

/// The time of decoding, measured on some images.
final class DecodingMeasurementTests: XCTestCase {
    private func source(_ results: [Result<[UInt8], Failure>]) -> MemorySource {
        MemorySource(images: results.enumerated().map { ("\($0.offset).png", nil, $0.element) })
    }

    private func png(_ side: Int) throws -> [UInt8] {
        try PNGWriter.encode(
            Pixels(width: side, height: side, channels: 3, bytes: [UInt8](repeating: 9, count: side * side * 3)))
    }

    func testMeasures() throws {
        let augmentation = Augmentation(width: 8, height: 8)
        let found = try XCTUnwrap(
            DecodingMeasurement(
                of: source([.success(png(10)), .success([1, 2, 3]), .success(png(20))]), as: augmentation, seed: 1))
        XCTAssertEqual(found.images, 2)
        XCTAssertEqual(found.pixelsPerImage, 250)
        XCTAssertGreaterThan(found.secondsPerImage, 0)
        XCTAssertEqual(found.secondsPerImage(ofPixels: 500), 2 * found.secondsPerImage, accuracy: 1e-12)
        let some = try XCTUnwrap(
            DecodingMeasurement(
                of: source((0..<30).map { _ in .success(try! png(10)) }), as: augmentation, seed: 1, most: 7))
        XCTAssertEqual(some.images, 7)
        XCTAssertNil(try DecodingMeasurement(of: source([.success([1, 2, 3])]), as: augmentation, seed: 1))
        XCTAssertThrowsError(
            try DecodingMeasurement(
                of: source([.failure(Failure(.inputOutput, "the disk is gone"))]), as: augmentation, seed: 1))
    }
}
