import Foundation
import Images
import TestSupport
import XCTest

final class WritingTests: XCTestCase {
    func testWhatIsWrittenIsReadBack() throws {
        let folder = TemporaryFolder()
        for (name, channels) in [("large.png", 3), ("grey.png", 1), ("wide.png", 3), ("dot.png", 3)] {
            let picture = try ResizingTests.source(name)
            let path = folder.write(try PNGWriter.encode(picture), "out.png")
            XCTAssertEqual(try Pixels(contentsOf: path, channels: channels), picture)
        }
    }

    /// A file says that this program wrote it, in a text chunk that Pillow reads, and the same picture is the same bytes.
    func testOrigin() throws {
        let folder = TemporaryFolder(), picture = Pixels(width: 3, height: 2, channels: 1, bytes: [1, 2, 3, 4, 5, 6])
        let bytes = try PNGWriter.encode(picture)
        XCTAssertEqual(bytes, try PNGWriter.encode(picture))
        // Length, type and data of the chunk after the header, and its checksum, computed by Python's zlib.crc32.
        XCTAssertEqual(
            Array(bytes[33..<58]), [0, 0, 0, 13] + Array("tEXtSoftware\0dmae".utf8) + [0x8F, 0xDA, 0x50, 0x9D])
        XCTAssertTrue(PNGWriter.wrote(fileWithHead: bytes.prefix(PNGWriter.headBytes)))
        XCTAssertFalse(PNGWriter.wrote(fileWithHead: bytes.prefix(40)))
        for name in ["large.png", "grey.png"] {
            let path = folder.write(try PNGWriter.encode(ResizingTests.source(name)), "x.png")
            XCTAssertTrue(PNGWriter.wrote(fileWithHead: try Data(contentsOf: URL(fileURLWithPath: path)).prefix(64)))
        }
        for other in ["demo/held-out/tools-bucket-michael-moore.png"].map(Fixtures.path) {
            XCTAssertFalse(PNGWriter.wrote(fileWithHead: try Data(contentsOf: URL(fileURLWithPath: other)).prefix(64)))
        }
    }

    func testGrid() {
        let grey = Pixels(width: 2, height: 1, channels: 1, bytes: [10, 20])
        let dot = Pixels(width: 1, height: 2, channels: 1, bytes: [30, 40])
        let row = Pixels.grid([[grey, dot], [dot]], padding: 1, background: 9)
        XCTAssertEqual([row.width, row.height, row.channels], [6, 7, 1])
        XCTAssertEqual(
            row.bytes,
            [
                9, 9, 9, 9, 9, 9,
                9, 10, 20, 9, 30, 9,
                9, 9, 9, 9, 40, 9,
                9, 9, 9, 9, 9, 9,
                9, 30, 9, 9, 9, 9,
                9, 40, 9, 9, 9, 9,
                9, 9, 9, 9, 9, 9,
            ])
        let red = Pixels(width: 1, height: 1, channels: 3, bytes: [255, 1, 2])
        XCTAssertEqual(Pixels.grid([[red, grey]], padding: 0).bytes, [255, 1, 2, 10, 10, 10, 20, 20, 20])
    }

    func testVersionsAreKnown() {
        XCTAssertEqual(ImageLibraries.versions.map(\.name), ["libjpeg-turbo", "libpng", "libwebp", "zlib"])
        for library in ImageLibraries.versions { XCTAssert(library.version.first?.isNumber == true, "\(library)") }
    }
}
