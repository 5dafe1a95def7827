import Foundation
import Images
import Reporting
import TestSupport
import XCTest

/// Files of one source that are those of another, too, under whatever names.
final class CopiedImagesTests: XCTestCase {
    private let folder = TemporaryFolder()
    /// The first bytes of a PNG file: others are not read.
    private let mark: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]

    private func images(_ place: String, _ files: [(String, [UInt8])]) throws -> any ImageSource {
        try FileManager.default.createDirectory(atPath: folder.file(place), withIntermediateDirectories: true)
        for (name, bytes) in files { folder.write(bytes.isEmpty ? [] : mark + bytes, "\(place)/\(name)") }
        return try ImageCollection(ImagePlaces([folder.file(place)]))
    }

    /// Copies are told from files of the same size that begin alike; of several originals the first is named.
    func testFolders() throws {
        let long = [UInt8](repeating: 7, count: 10_000)
        let learned = try images(
            "learned",
            [
                ("a.png", [1, 2, 3]), ("b.png", long), ("c.png", [1, 2, 3]), ("d.png", [4, 5]), ("e.png", []),
                ("f.png", [9]),
            ])
        let judged = try images(
            "judged",
            [
                ("1.png", [3, 2, 1]), ("2.png", [1, 2, 3]), ("3.png", long), ("4.png", Array(long.dropLast()) + [8]),
                ("5.png", []), ("6.png", [1, 2, 3]), ("7.png", [8]),
            ])
        let original = folder.file("learned/a.png")
        for workers in [1, 3] {
            let found = try CopiedImages(of: learned, in: judged, workers: workers)
            XCTAssertEqual(found.images, 7)
            XCTAssertFalse(found.areAll)
            XCTAssertEqual(
                found.copies,
                [
                    .init(image: 1, title: folder.file("judged/2.png"), original: original),
                    .init(image: 2, title: folder.file("judged/3.png"), original: folder.file("learned/b.png")),
                    .init(image: 5, title: folder.file("judged/6.png"), original: original),
                ])
        }
        XCTAssertTrue(try CopiedImages(of: learned, in: ImageSubset(judged, [1, 2, 5]), workers: 1).areAll)
        XCTAssertEqual(try CopiedImages(of: ImageSubset(judged, [0, 3]), in: learned, workers: 1).copies, [])
    }

    /// Members of archives and files that a list names; sizes are known without reading.
    func testArchivesAndLists() throws {
        let learned = try images("learned", [("a.png", [1, 2, 3]), ("b.png", [4, 5])])
        folder.write(TarBuilder.archive([("x/1.png", mark + [1, 2, 3]), ("x/2.png", mark + [3, 2])]), "judged.tar")
        folder.write("learned/b.png\n".utf8, "list.txt")
        let judged = try ImageCollection(
            listing: [folder.file("judged.tar"), folder.file("list.txt"), folder.file("learned/a.png")])
        XCTAssertEqual((0..<4).map(judged.byteCount), [11, 10, 11, 10])
        XCTAssertEqual(
            try CopiedImages(of: learned, in: judged, workers: 2).copies.map(\.title).sorted(),
            [folder.file("judged.tar: x/1.png"), folder.file("learned/a.png"), folder.file("learned/b.png")])
    }

    /// What cannot be read, or is no file, is no copy.
    func testUnreadable() throws {
        let learned = MemorySource(images: [
            ("a", nil, .success([1, 2])), ("b", nil, .failure(Failure(.badData, "broken"))),
            ("c", nil, .failure(Failure(.inputOutput, "a disk error"))),
        ])
        let found = try CopiedImages(of: learned, in: learned, workers: 1)
        XCTAssertEqual(found.copies.map(\.image), [0])
        let judged = try images("judged", [("a.png", [1, 2])])
        XCTAssertEqual(mkfifo(folder.file("judged/b.png"), 0o600), 0)
        XCTAssertEqual(symlink("nowhere", folder.file("judged/c.png")), 0)
        _ = judged
        let all = try ImageCollection(ImagePlaces([folder.file("judged")]))
        XCTAssertEqual((0..<all.count).map(all.byteCount).first, 10)
        XCTAssertEqual(try CopiedImages(of: all, in: all, workers: 1).copies.map(\.image), [0])
    }

    /// A search can be ended.
    func testEnded() throws {
        struct Stop: Error {}
        let source = MemorySource(images: [("a", nil, .success([1, 2]))])
        XCTAssertThrowsError(try CopiedImages(of: source, in: source, workers: 1) { throw Stop() }) {
            XCTAssertTrue($0 is Stop)
        }
    }
}
