import Foundation
import Images
import Reporting
import Synchronization
import TestSupport
import XCTest

/// The check of images by their headers.
final class ImageHeadersTests: XCTestCase {
    private struct Words: Vocabulary {
        func name(_ field: Field) -> String { "" }
        func phrase(_ field: Field, _ value: String) -> String { "" }
        func phrase(_ field: Field, isOn: Bool) -> String { "" }
    }

    private func headers(_ source: any ImageSource, workers: Int = 2) throws -> ImageHeaders {
        try ImageHeaders(of: source, workers: workers, text: { $0.text(in: Words()) })
    }

    private func bytes(_ name: String) -> [UInt8] {
        Array(try! Data(contentsOf: URL(fileURLWithPath: Fixtures.path("pictures/\(name)"))))
    }

    func testFormatsAndWhatCannotBeDecoded() throws {
        let source = MemorySource(images: [
            ("a.png", nil, .success(bytes("grey16/bright.png"))),
            ("b.jpg", nil, .success(bytes("oriented/exif-fill.jpg"))),
            ("c.png", nil, .success(Array("no picture".utf8))), ("d.png", nil, .success([])),
            ("e.png", nil, .success(Array(bytes("grey16/bright.png").prefix(20)))),
            ("f.png", nil, .failure(Failure(.badData, "f.png is gone"))),
            ("g.png", nil, .success(bytes("checksums/rgb-IHDR0.png"))),
        ])
        for workers in [1, 3] {
            let headers = try headers(source, workers: workers)
            XCTAssertEqual(headers.images, 7)
            XCTAssertEqual(headers.formats, ["PNG": 1, "JPEG": 1])
            XCTAssertEqual(
                headers.undecodable.map(\.path), ["c.png", "d.png", "e.png", "f.png", "g.png"].map { "memory/\($0)" })
            XCTAssertEqual(headers.undecodable[3].reason, "f.png is gone")
            XCTAssertTrue(headers.exceeds(0.7))
            XCTAssertFalse(headers.exceeds(0.72))
        }
    }

    /// The fraction decides, but one image is always allowed unless none is.
    func testLimit() {
        for (count, total, limit, isExceeded) in [
            (0, 5, 0.0, false), (1, 5, 0, true), (1, 5, 0.01, false), (1, 2, 0.01, false), (2, 5, 0.01, true),
            (2, 199, 0.01, true), (2, 200, 0.01, false), (3, 200, 0.01, true), (100, 100, 1, false),
        ] {
            XCTAssertEqual(
                UnreadableLimit.isExceeded(by: count, of: total, limit), isExceeded, "\(count) of \(total), \(limit)")
        }
    }

    /// An alpha channel is known from the header: one of samples, of a palette, or a colour that is transparent.
    func testAlpha() throws {
        let names = ["rgba8", "palette8", "grey-alpha8", "rgba8-opaque"]
        let source = MemorySource(
            images: names.map { ("\($0).png", nil, .success(bytes("transparent/\($0).png"))) } + [
                ("b.jpg", nil, .success(bytes("oriented/exif-fill.jpg")))
            ])
        XCTAssertEqual(try headers(source).withAlpha, 4)
    }

    /// Pixels in all, and the memory of the largest pictures: samples and RGB at once where they are not the same.
    func testSizes() throws {
        func png(_ width: Int, _ height: Int, channels: Int = 3) throws -> [UInt8] {
            let bytes = [UInt8](repeating: 7, count: width * height * channels)
            return try PNGWriter.encode(Pixels(width: width, height: height, channels: channels, bytes: bytes))
        }
        let source = MemorySource(
            images: try [png(20, 10), png(30, 10, channels: 1), png(50, 10)].enumerated().map {
                ("\($0.offset).png", nil, .success($0.element))
            })
        let found = try headers(source)
        XCTAssertEqual(found.pixels, 200 + 300 + 500)
        XCTAssertEqual(found.largest, [500 * 3, 300 * (1 + 3), 200 * 3])
        let many = MemorySource(
            images: try (0..<40).map { ("\($0).png", nil, .success(try png(10 + $0 * 7 % 40, 10))) })
        XCTAssertEqual(try headers(many).largest, (0..<ImageHeaders.largestCount).map { (49 - $0) * 10 * 3 })
    }

    /// What libraries allocate for the whole picture counts: ARGB of lossless WebP, planes of alpha, and the coefficients
    /// of JPEG files in several scans. (Lossy WebP and baseline JPEG are decoded by rows.)
    func testMemoryOfTheDecoders() throws {
        func largest(_ name: String) throws -> (bytes: Int, width: Int, height: Int) {
            let path = Fixtures.path(name)
            let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
            let pixels = try Pixels(contentsOf: path)
            let found = try headers(MemorySource(images: [("x", nil, .success(bytes))]))
            return (try XCTUnwrap(found.largest.first), pixels.width, pixels.height)
        }
        for (name, samples) in [("lossless", 3), ("lossless-alpha", 4)] {
            let found = try largest("pictures/formats/\(name).webp")
            XCTAssertEqual(found.bytes, found.width * found.height * (samples + 4) + 4 * 17 * found.width, name)
        }
        let alpha = try largest("pictures/formats/lossy-alpha.webp")
        XCTAssertEqual(alpha.bytes, alpha.width * alpha.height * (4 + 4 + 1) + 4 * 17 * alpha.width)
        let lossy = try largest("pictures/formats/lossy.webp")
        XCTAssertEqual(lossy.bytes, lossy.width * lossy.height * 3)
        let scans = try largest("images/files/progressive-444.jpg")
        let blocks = ((scans.width + 7) / 8) * ((scans.height + 7) / 8)
        XCTAssertEqual(scans.bytes, scans.width * scans.height * 3 + 3 * blocks * 64 * 2)
    }

    /// What was found holds while the same images cannot be decoded: one whose permissions were repaired can.
    func testHolds() throws {
        func source(_ second: Result<[UInt8], Failure>) -> MemorySource {
            MemorySource(images: [("a.png", nil, .success(bytes("grey16/bright.png"))), ("b.png", nil, second)])
        }
        let closed = source(.failure(Failure(.badData, "Permission denied")))
        let found = try headers(closed)
        XCTAssertEqual(found.undecodable.map(\.image), [1])
        XCTAssertTrue(found.hold(for: closed))
        XCTAssertFalse(found.hold(for: source(.success(bytes("grey16/dark.png")))))
        XCTAssertFalse(found.hold(for: source(.failure(Failure(.inputOutput, "the disk is gone")))))
        XCTAssertFalse(found.hold(for: MemorySource(images: [("a.png", nil, .success([]))])))
    }

    /// A failure of the system is none of an image.
    func testFailureOfTheSystem() {
        let source = MemorySource(images: [("a.png", nil, .failure(Failure(.inputOutput, "the disk is gone")))])
        XCTAssertThrowsError(try headers(source)) { XCTAssertEqual(($0 as? Failure)?.code, .inputOutput) }
    }

    /// A source that counts how often whole images are read.
    private final class CountingSource: ImageSource {
        let image: [UInt8]
        let wholes = Atomic(0)

        init(_ image: [UInt8]) { self.image = image }

        var count: Int { 1 }
        var classes: [String] { [] }
        var place: String? { nil }
        func name(_ index: Int) -> String { "image" }
        func label(_ index: Int) -> Int? { nil }
        func bytes(_ index: Int) -> [UInt8] {
            wholes.add(1, ordering: .relaxed)
            return image
        }
        func head(_ index: Int, count: Int) -> [UInt8] { Array(image.prefix(count)) }
    }

    /// Of a large file only the beginning is read, unless the header stands behind much else.
    func testOnlyTheHeaderIsRead() throws {
        let jpeg = bytes("oriented/exif-fill.jpg")
        let padded = CountingSource(jpeg + [UInt8](repeating: 0, count: 100_000))
        XCTAssertEqual(try headers(padded).formats, ["JPEG": 1])
        XCTAssertEqual(padded.wholes.load(ordering: .relaxed), 0)
        // A profile of 30,000 bytes before the size.
        let profile: [UInt8] = [0xFF, 0xE2, 0x75, 0x32] + [UInt8](repeating: 1, count: 0x7530)
        let behind = CountingSource(Array(jpeg.prefix(2)) + profile + jpeg.dropFirst(2))
        XCTAssertEqual(try headers(behind).formats, ["JPEG": 1])
        XCTAssertEqual(behind.wholes.load(ordering: .relaxed), 1)
    }
}
