import Foundation
import Images
import Tensors
import TestSupport
import XCTest

final class WritingTests: XCTestCase {
    func testWhatIsWrittenIsReadBack() throws {
        let folder = TemporaryFolder()
        for (name, channels) in [("large.png", 3), ("grey.png", 1), ("wide.png", 3), ("dot.png", 3)] {
            let picture = try ResizingTests.source(name)
            try PNGWriter.write(picture, to: "\(folder.path)/out.png")
            XCTAssertEqual(try Pixels(contentsOf: "\(folder.path)/out.png", channels: channels), picture)
        }
        XCTAssertEqual(folder.names(), ["out.png"])
    }

    func testFailuresNameTheFileAndLeaveNothing() throws {
        let folder = TemporaryFolder()
        let picture = try ResizingTests.source("grey.png")
        try FileManager.default.createDirectory(atPath: "\(folder.path)/taken.png/x", withIntermediateDirectories: true)
        for path in ["\(folder.path)/missing/out.png", "\(folder.path)/taken.png"] {
            let failure = failure { try PNGWriter.write(picture, to: path) }
            XCTAssertEqual(failure?.code, .inputOutput)
            XCTAssert(failure?.message.contains(path) == true, "\(failure as Any)")
        }
        XCTAssertEqual(folder.names(), ["taken.png"])
    }

    func testAFullDiskKeepsTheOldFile() throws {
        let folder = TemporaryFolder()
        let old = try ResizingTests.source("dot.png"), new = try ResizingTests.source("large.png")
        let path = folder.file("out.png")
        try PNGWriter.write(old, to: path)
        let failure = failure { try TemporaryFolder.limitingFileSize(to: 5000) { try PNGWriter.write(new, to: path) } }
        XCTAssertEqual(failure?.code, .inputOutput)
        XCTAssert(failure?.message.contains(path) == true, "\(failure as Any)")
        XCTAssertEqual(try Pixels(contentsOf: path), old)
        XCTAssertEqual(folder.names(), ["out.png"])
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
        XCTAssertEqual(ImageLibraries.versions.map(\.name), ["libjpeg-turbo", "libpng", "zlib"])
        for library in ImageLibraries.versions { XCTAssert(library.version.first?.isNumber == true, "\(library)") }
    }
}
