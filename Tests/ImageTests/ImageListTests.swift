import Foundation
import Images
import Reporting
import TestSupport
import XCTest

final class ImageListTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// Writes a list, and empty files for images.
    private func list(_ text: String, _ name: String = "list.csv", _ images: [String] = []) throws -> String {
        for image in images {
            let place = (folder.file(image) as NSString).deletingLastPathComponent
            try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
            folder.write([], image)
        }
        folder.write(Array(text.utf8), name)
        return folder.file(name)
    }

    private func names(_ source: some ImageSource) -> [String] { (0..<source.count).map(source.name) }

    func testTables() throws {
        let images = ["b/2.png", "a/1.jpg", "with, comma.png", "q\"uote.png", "line\nbreak.png"]
        // With names of columns in any order, quotes, a byte order mark, CR LF, empty lines.
        let list = try list(
            "\u{FEFF}split,Label,path\r\ntrain,dog,./b//2.png\r\n\r\ntrain,cat,\"with, comma.png\"\r\n"
                + "val,\"the \"\"dog\"\"\",\"q\"\"uote.png\"\r\nval,cat,\"line\nbreak.png\"\r\nval,cat,a/1.jpg",
            "list.csv", images)
        let source = try ImageList(list)
        XCTAssertEqual(source.classes, ["cat", "dog", "the \"dog\""])
        XCTAssertEqual(names(source), ["a/1.jpg", "line\nbreak.png", "with, comma.png", "b/2.png", "q\"uote.png"])
        XCTAssertEqual((0..<5).map(source.label), [0, 0, 0, 1, 2])
        XCTAssertEqual(source.path(0), folder.file("a/1.jpg"))
        XCTAssertEqual(source.place, list)
        XCTAssertEqual(source.files.first, list)

        // Without names, with an absolute path; without labels.
        let plain = try ImageList(self.list("a/1.jpg,1\n\(folder.file("b/2.png")),0\n", "plain.CSV"))
        XCTAssertEqual(plain.classes, ["0", "1"])
        XCTAssertEqual((0..<2).map(plain.path).map { $0.suffix(8) }, ["/b/2.png", "/a/1.jpg"])
        for text in ["b/2.png\na/1.jpg\n", "path\nb/2.png\na/1.jpg", "path,label\nb/2.png,\na/1.jpg,"] {
            let unlabelled = try ImageList(self.list(text, "unlabelled.csv"))
            XCTAssertEqual(names(unlabelled), ["a/1.jpg", "b/2.png"], text)
            XCTAssertEqual(unlabelled.classes, [])
            XCTAssertNil(unlabelled.label(0))
        }
    }

    func testTexts() throws {
        let list = try list("b/2.png\r\n\n a , b.png\na/1.jpg", "list.txt", ["b/2.png", "a/1.jpg", " a , b.png"])
        XCTAssertEqual(names(try ImageList(list)), [" a , b.png", "a/1.jpg", "b/2.png"])
    }

    func testSentences() throws {
        _ = try list("", "list.txt", ["1.png", "2.png", "3.png", "f/4.png"])
        for (text, name, code, reason) in [
            (
                "1.png\n2.png\ngone.png\n3.png\nalso.png", "a.txt", Failure.Code.badData,
                "a.txt: line 3 names gone.png, but \(folder.file("gone.png")) is not there (such lines: 2 of 5)"
            ),
            (
                "1.png\nf\n", "a.txt", .badData,
                "line 2 names f, but \(folder.file("f")) is a folder (such lines: 1 of 2)"
            ),
            (
                "1.png\n2.png\n./1.png\n1.png", "a.txt", .badData,
                "line 3 names 1.png again, after line 1 (lines that repeat another: 2): list every image once"
            ),
            ("", "a.txt", .badData, "a.txt lists no images: write one path on each line"),
            ("\n\n", "a.csv", .badData, "a.csv lists no images"),
            ("path,label\n", "a.csv", .badData, "lists no images"),
            (
                "1.png,a\n2.png,\n3.png,b\nf/4.png,", "a.csv", .badData,
                "line 2 has no label, though others have (lines without one: 2): give every image one, or none"
            ),
            ("1.png,a\n1.png,b", "a.csv", .badData, "line 2 names 1.png again, after line 1"),
            (
                "file,class,split\n1.png,a,train", "a.csv", .badData,
                "has 3 columns without names: let the first line name them, two of them path and label"
            ),
            ("file,class\n1.png,a", "a.csv", .badData, "a line of column names begins with path"),
            ("1.png,a\n2.png,a,b", "a.csv", .badData, "line 2 has 3 fields, but the first one 2: put a field"),
            ("path,label\n\"1.png,a\n2.png,b\n", "a.csv", .badData, "the quote that line 2 opens is never closed"),
            ("1.png,\"a\"b\n", "a.csv", .badData, "line 1 goes on after a closing quote"),
            (
                "1.png;a\n2.png;b\n", "a.csv", .badData,
                "line 1 has semicolons between its columns: separate them by commas"
            ),
            ("path;label\n1.png;a\n", "a.csv", .badData, "line 1 has semicolons between its columns"),
            ("1;2.png,a\n", "a.csv", .badData, "line 1 names 1;2.png, but"),
            ("1.png\ta\n", "a.csv", .badData, "line 1 has tabs between its columns"),
            (
                "1.png\ta\n2.png\tb", "a.txt", .badData,
                "line 1 has more than a path, set apart by tabs: a .txt list has"
            ),
            ("1.png 0\n2.png 1", "a.txt", .badData, "line 1 has more than a path, set apart by a space"),
            ("2.png\n1.png,cat", "a.txt", .badData, "line 2 has more than a path, set apart by a comma"),
            ("path\tlabel\tsplit\n1.png\ta\tx", "a.csv", .badData, "line 1 has tabs between its columns"),
            ("path,label\n\"1.png\";a\n", "a.csv", .badData, "line 2 has semicolons between its columns"),
            ("1.png,a\"b\n", "a.csv", .badData, "line 1 has a quote inside a field"),
            ("\"1.png\"\ra,b\n", "a.csv", .badData, "line 1 holds a carriage return"),
            ("1.png,a\n,b", "a.csv", .badData, "line 2 has no path"),
        ] {
            let place = try list(text, name)
            let failure = failure { _ = try ImageList(place) }
            XCTAssertEqual(failure?.code, code, text)
            XCTAssert(failure?.message.contains(reason) == true, "\(text): \(failure as Any)")
            XCTAssert(failure?.message.contains(place) == true, "\(text): \(failure as Any)")
        }
        for name in ["a.csv", "a.txt"] {
            folder.write([0x31, 0x0A, 0xFF, 0xFE, 0x0A], name)
            let failure = failure { _ = try ImageList(folder.file(name)) }
            XCTAssertEqual(failure?.code, .badData)
            XCTAssert(failure?.message.contains("line 2 is not") == true, "\(failure as Any)")
        }
        XCTAssertEqual(failure { _ = try ImageList(folder.file("none.txt")) }?.code, .inputOutput)
    }

    /// One file by several paths: a person is told.
    func testOtherSpellings() throws {
        let list = try list(
            "1.png\nf/../1.png\n\(folder.file("1.png"))\n2.png", "list.txt", ["1.png", "2.png", "f/3.png"])
        let source = try ImageList(list)
        XCTAssertEqual(source.count, 4)
        XCTAssertEqual(
            source.warnings,
            [
                "\(list): line 2 names by f/../1.png a file that another line names by another path: such an image counts as "
                    + "often as it is named (lines: 2)"
            ])
        XCTAssertEqual(try ImageList(self.list("1.png\n2.png", "other.txt")).warnings, [])
    }

    /// Class names stay on one line of what is said of them.
    func testLineBreaksInNames() throws {
        let list = try list("path,label\n1.png,\"a\nb\"\n2.png,\"c\td\"\n", "list.csv", ["1.png", "2.png"])
        XCTAssertEqual(try ImageList(list).classes, ["a\nb", "c\td"])
        let source = try ImageCollection(ImagePlaces(list))
        XCTAssertEqual(source.notes, ["\(list): 2 images, 2 classes (a\\nb, c\\td)"])
    }

    /// An image that is gone by the time it is read is its own fault, not the system's.
    func testReading() throws {
        let source = try ImageList(list("1.png", "list.txt", ["1.png"]))
        folder.write([1, 2, 3], "1.png")
        XCTAssertEqual(failure { _ = try source.bytes(0) }?.code, .badData)
        try FileManager.default.removeItem(atPath: folder.file("1.png"))
        XCTAssertEqual(failure { _ = try source.bytes(0) }?.code, .badData)
    }
}
