import Foundation
import Images
import Reporting
import TestSupport
import Training
import XCTest

/// The check of a run's images, and what is remembered of it.
final class ImageCheckTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func check() throws -> ImageCheck {
        let source = try ImageFolder(folder.file("images"))
        let directory = try RunDirectory(path: folder.file("run"), resuming: true)
        return ImageCheck([source], in: directory, text: { _ in "a reason" })
    }

    private func makeImages() throws {
        try FileManager.default.createDirectory(atPath: folder.file("images"), withIntermediateDirectories: true)
        for name in ["a.png", "b.png"] {
            try FileManager.default.copyItem(
                atPath: Fixtures.path("pictures/grey16/dark.png"), toPath: folder.file("images/\(name)"))
        }
        folder.write("no picture".utf8, "images/c.png")
    }

    /// Files with the same paths, sizes and times are not read again; any other is.
    func testRemembersTheSameFiles() throws {
        try makeImages()
        XCTAssertNil(try check().remembered())
        var last = 0
        let found = try check().run(workers: 2) { last = $0 }
        XCTAssertEqual(last, 3)
        XCTAssertEqual(found.headers.count, 1)
        XCTAssertEqual(found.headers[0].formats, ["PNG": 2])
        XCTAssertEqual(
            found.headers[0].undecodable,
            [ImageHeaders.Undecodable(image: 2, path: folder.file("images/c.png"), reason: "a reason")])
        XCTAssertEqual(try check().remembered(), found)
        var times = [timeval(tv_sec: 1000, tv_usec: 0), timeval(tv_sec: 1000, tv_usec: 0)]
        XCTAssertEqual(utimes(folder.file("images/b.png"), &times), 0)
        XCTAssertNil(try check().remembered(), "another time")
        _ = try check().run(workers: 1) { _ in }
        folder.write("no picture either".utf8, "images/c.png")
        XCTAssertNil(try check().remembered(), "another size")
        _ = try check().run(workers: 1) { _ in }
        try FileManager.default.moveItem(atPath: folder.file("images/a.png"), toPath: folder.file("images/d.png"))
        XCTAssertNil(try check().remembered(), "another name")
        folder.write("{".utf8, "run/images.json")
        XCTAssertNil(try check().remembered(), "a damaged file is as none")
    }

    /// Beside the first steps: the result comes once, and is kept.
    func testBesideTheRun() throws {
        try makeImages()
        let check = try check()
        try check.start()
        var found: ImageCheck.Findings?
        for _ in 0..<1000 where found == nil {
            found = try check.finished()
            usleep(10_000)
        }
        XCTAssertEqual(found?.headers.first?.formats, ["PNG": 2])
        XCTAssertNil(try check.finished())
        XCTAssertEqual(check.remembered(), found)
    }

    /// A check that is stopped keeps nothing.
    func testStopped() throws {
        try makeImages()
        struct Stop: Error {}
        let check = try check()
        XCTAssertThrowsError(try check.run(workers: 1) { _ in throw Stop() }) { XCTAssertTrue($0 is Stop) }
        XCTAssertNil(check.remembered())
        try check.start()
        check.stop()
        XCTAssertNil(try check.finished())
    }
}
