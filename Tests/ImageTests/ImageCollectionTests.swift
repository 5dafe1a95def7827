import Foundation
import Images
import Reporting
import TestSupport
import XCTest

final class ImageCollectionTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func write(_ names: [String], _ text: String = "") throws {
        for name in names {
            let place =
                name.hasSuffix("/") ? folder.file(name) : (folder.file(name) as NSString).deletingLastPathComponent
            try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
            if !name.hasSuffix("/") { folder.write(Array(text.utf8), name) }
        }
    }

    private func collection(_ places: String..., usesLabels: Bool = true) throws -> ImageCollection {
        try ImageCollection(ImagePlaces(places.map(folder.file)), usesLabels: usesLabels)
    }

    private func paths(_ source: ImageCollection) -> [String] {
        (0..<source.count).map { String(source.path($0).dropFirst(folder.path.count + 1)) }
    }

    /// Classes are united by name; images are ordered by class, then by name, then by place.
    func testSeveralPlaces() throws {
        try write(["one/cat/b.png", "one/cat/a-1/x.png", "one/cat/a/x.png", "one/eel/1.png", "one/none/"])
        try write(["two/cat/a/x.png", "two/cat/c.png", "two/bat/1.png", "far.png"])
        try write(["list.csv"], "two/bat/1.png,dog\nfar.png,bat\n")
        let all = try collection("two", "one", "list.csv")
        XCTAssertEqual(all.classes, ["bat", "cat", "dog", "eel", "none"])
        XCTAssertEqual(
            paths(all),
            [
                "two/bat/1.png", "far.png", "one/cat/a-1/x.png", "two/cat/a/x.png", "one/cat/a/x.png", "one/cat/b.png",
                "two/cat/c.png", "two/bat/1.png", "one/eel/1.png",
            ])
        XCTAssertEqual((0..<all.count).map(all.label), [0, 0, 1, 1, 1, 1, 1, 2, 3])
        XCTAssertEqual((0..<4).map(all.name), ["bat/1.png", "far.png", "cat/a-1/x.png", "cat/a/x.png"])
        XCTAssertNil(all.place)
        XCTAssertEqual(all.notes.last, "2 folders, 1 list: 9 images, 5 classes (bat, cat, dog, …)")
        XCTAssertEqual(all.files.count, 10)
        // The order of the places decides only between images of the same name.
        XCTAssertEqual(paths(try collection("list.csv", "one", "two"))[3...4], ["one/cat/a/x.png", "two/cat/a/x.png"])
        // One folder is what it always was.
        let one = try collection("one"), alone = try ImageFolder(folder.file("one"))
        XCTAssertEqual(one.classes, alone.classes)
        XCTAssertEqual((0..<one.count).map(one.name), (0..<alone.count).map(alone.name))
        XCTAssertEqual((0..<one.count).map(one.label), (0..<alone.count).map(alone.label))
        XCTAssertEqual((one.place, one.notes.count).0, folder.file("one"))
        XCTAssertEqual(
            one.notes, alone.notes + ["\(folder.file("one")): \(one.count) images, 3 classes (cat, eel, none)"])
    }

    /// Classes of a listing that cannot be found any more are an error: results without them would look complete.
    func testClassNamesOfAListing() throws {
        try write(["classes/cat/1.png", "classes/bat/2.png"])
        let place = folder.file("classes"), listing = try ImageCollection(listing: [place])
        XCTAssertEqual(try listing.classes(of: [place]).names, ["bat", "cat"])
        // A picture has no class, nor has one beside a folder.
        for paths in [["classes/cat/1.png"], ["classes/cat/1.png", "classes"]] {
            let paths = paths.map(folder.file)
            XCTAssertNil(try ImageCollection(listing: paths).classes(of: paths).names)
        }
        try FileManager.default.moveItem(atPath: place, toPath: folder.file("moved"))
        XCTAssertEqual(failure { _ = try listing.classes(of: [place]) }?.code, .inputOutput)
    }

    /// Directories called as the parts of a data set are hold the classes, if they do; else a sentence says why there are
    /// none. A list means what it says.
    func testClassesOfTheListedParts() throws {
        try write(["parts/train/cat/1.png", "parts/train/bat/deep/2.png", "parts/val/cat/3.png"])
        func classes(_ names: String...) throws -> ImageCollection.ListedClasses {
            let paths = names.map(folder.file)
            return try ImageCollection(listing: paths).classes(of: paths)
        }
        XCTAssertEqual(try classes("parts").names, ["bat", "cat", "cat"])
        XCTAssertNil(try classes("parts").reason)
        try write(["classes/dog/4.png"])
        XCTAssertEqual(try classes("classes", "parts").names, ["dog", "bat", "cat", "cat"])
        try write(["parts/val/5.png"])
        let parts = try classes("parts"), place = folder.file("parts")
        XCTAssertNil(parts.names)
        XCTAssertEqual(
            parts.reason,
            "no labels are written: the folders of \(place) are called train, val, as the parts of a data set are, and there "
                + "are no class folders in them (such as val/5.png); if these are the classes, say so by a list with labels"
        )
        folder.write("path,label\nparts/val/5.png,val\nparts/train/cat/1.png,train\n".utf8, "list.csv")
        XCTAssertEqual(try classes("list.csv").names, ["train", "val"])
        try write(["flat/6.png"])
        XCTAssertEqual(try classes("flat"), try classes("flat/6.png"))
        XCTAssertEqual(
            try classes("classes", "flat").reason,
            "no labels are written: \(folder.file("flat")) has no classes, but \(folder.file("classes")) has; name them in "
                + "commands of their own to have those labels")
    }

    /// Where one place has no classes, the collection has none: a refusal where labels are used.
    func testPlacesWithoutClasses() throws {
        try write(["classes/cat/1.png", "classes/bat/2.png", "flat/b.png", "flat/a.png"])
        let refusal = failure { _ = try collection("classes", "flat") }
        XCTAssertEqual(refusal?.code, .badData)
        XCTAssertEqual(
            refusal?.message,
            "\(folder.file("flat")) has no classes, but \(folder.file("classes")) has: give every image a class, in "
                + "class directories or by a list")
        let both = try collection("classes", "flat", usesLabels: false)
        XCTAssertEqual(both.classes, [])
        XCTAssertNil(both.label(0))
        XCTAssertEqual(paths(both), ["flat/a.png", "flat/b.png", "classes/bat/2.png", "classes/cat/1.png"])
        XCTAssertEqual(both.notes, ["2 folders: 4 images"])
    }

    func testBracesAndRepetitions() throws {
        try write(["part-1/a/1.png", "part-2/a/2.png", "part-{1,2}/b/3.png"])
        XCTAssertEqual(paths(try collection("part-{1..2}")), ["part-1/a/1.png", "part-2/a/2.png"])
        // A folder of that very name comes first.
        XCTAssertEqual(paths(try collection("part-{1,2}")), ["part-{1,2}/b/3.png"])
        let twice = try collection("part-1", "part-1/")
        XCTAssertEqual(twice.count, 2)
        XCTAssertEqual(twice.warnings, ["\(folder.file("part-1/")) is given twice: each of its images counts twice"])
    }

    func testRefusals() throws {
        try write(["x.jpg", "notes.md", "empty/"])
        for (place, code, reason) in [
            ("gone", Failure.Code.inputOutput, "cannot open the folder \(folder.file("gone")): No such file"),
            ("gone.csv", .inputOutput, "cannot open \(folder.file("gone.csv")): No such file"),
            ("gone-{1..3}", .inputOutput, "cannot open the folder \(folder.file("gone-1")): No such file"),
            ("notes.md", .inputOutput, "notes.md is not a folder; name the folder"),
            ("empty", .badData, "holds no images"),
        ] {
            let failure = failure { _ = try collection(place) }
            XCTAssertEqual(failure?.code, code, place)
            XCTAssert(failure?.message.contains(reason) == true, "\(failure as Any)")
        }
    }

    /// Files, folders and lists as one list of paths, each once.
    func testListing() throws {
        try write(["f/b/1.png", "f/a.png", "x.img", "far/c.png"])
        try write(["list.txt"], "far/c.png\nf/a.png\n")
        let listing = try ImageCollection(listing: ["list.txt", "f", "x.img", "x.img"].map(folder.file))
        XCTAssertEqual(paths(listing), ["f/a.png", "f/b/1.png", "far/c.png", "x.img"])
        XCTAssertEqual(listing.name(0), folder.file("f/a.png"))
        XCTAssertEqual(listing.classes, [])
        XCTAssertNil(listing.place)
        XCTAssertEqual(paths(try ImageCollection(listing: [folder.file("list.txt")])), ["f/a.png", "far/c.png"])
        XCTAssertEqual(failure { _ = try ImageCollection(listing: [folder.file("gone")]) }?.code, .inputOutput)
    }

    func testCoding() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .withoutEscapingSlashes
        for (places, text) in [(ImagePlaces("a/b"), #""a/b""#), (ImagePlaces(["a", "b"]), #"["a","b"]"#)] {
            XCTAssertEqual(String(decoding: try encoder.encode(places), as: UTF8.self), text)
            XCTAssertEqual(try JSONDecoder().decode(ImagePlaces.self, from: Data(text.utf8)), places)
        }
        XCTAssertThrowsError(try JSONDecoder().decode(ImagePlaces.self, from: Data("[]".utf8)))
    }
}
