import Foundation
import Reporting
import TestSupport
import XCTest

import Images

final class ImageArchivesTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// Writes archives whose members hold their own names, as texts.
    private func write(_ archives: KeyValuePairs<String, [String]>) throws {
        for (name, members) in archives {
            let place = (folder.file(name) as NSString).deletingLastPathComponent
            try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
            folder.write(TarBuilder.archive(members.map { ($0, Array($0.utf8)) }), name)
        }
    }

    private func collection(_ places: String..., usesLabels: Bool = false) throws -> ImageCollection {
        try ImageCollection(
            ImagePlaces(places.map(folder.file)), usesLabels: usesLabels, indexes: ArchiveIndexes(.memory))
    }

    private func names(_ source: some ImageSource) -> [String] { (0..<source.count).map(source.name) }
    private func classes(_ source: some ImageSource) -> [String] {
        (0..<source.count).map { source.label($0).map { source.classes[$0] } ?? "-" }
    }
    private func contents(_ source: some ImageSource) throws -> [String] {
        try (0..<source.count).map { String(decoding: try source.bytes($0), as: UTF8.self) }
    }

    /// Members in class directories, in any order, in one archive or in parts.
    func testClassDirectories() throws {
        let members = ["dog/b.png", "cat/n/x.jpg", "dog/a.JPG", "cat/n-1/y.png", "cat/notes.txt", "cat/z.webp"]
        let sorted = ["cat/n-1/y.png", "cat/n/x.jpg", "cat/z.webp", "dog/a.JPG", "dog/b.png"]
        try write([
            "whole.tar": members, "part-0.tar": Array(members[..<3]), "part-1.tar": Array(members[3...]),
            "wrapped.tar": members.map { "./data//train/" + $0 }, "folder/one.tar": Array(members[..<2]),
            "folder/deep/two.tar": Array(members[2...]),
        ])
        for places in [["whole.tar"], ["part-0.tar", "part-1.tar"], ["part-{1..0}.tar"], ["wrapped.tar"]] {
            let source = try ImageCollection(
                ImagePlaces(places.map(folder.file)), indexes: ArchiveIndexes(.memory))
            XCTAssertEqual(source.classes, ["cat", "dog"], "\(places)")
            XCTAssertEqual(names(source), sorted, "\(places)")
            XCTAssertEqual(classes(source), ["cat", "cat", "cat", "dog", "dog"])
            XCTAssertEqual(
                try contents(source).map { $0.split(separator: "/").last! },
                sorted.map { $0.split(separator: "/").last! })
        }
        let whole = try collection("whole.tar")
        XCTAssertEqual(whole.place, folder.file("whole.tar"))
        XCTAssertEqual(whole.path(1), folder.file("whole.tar/cat/n/x.jpg"))
        XCTAssertEqual(whole.title(1), folder.file("whole.tar: cat/n/x.jpg"))
        XCTAssertEqual(whole.files, [folder.file("whole.tar")])
        XCTAssertEqual(whole.notes, ["\(folder.file("whole.tar")): 5 images, 2 classes (cat, dog)"])
        let wrapped = try collection("wrapped.tar")
        XCTAssertEqual(
            wrapped.notes,
            [
                "\(folder.file("wrapped.tar")): directories are counted from data/train/ on",
                "\(folder.file("wrapped.tar")): 5 images, 2 classes (cat, dog)",
            ])
        XCTAssertEqual(wrapped.path(0), folder.file("wrapped.tar/data/train/cat/n-1/y.png"))
        // Archives in a folder that holds no images; the folders in it count as directories.
        let found = try collection("folder")
        XCTAssertEqual(
            names(found), ["cat/n/x.jpg", "deep/cat/n-1/y.png", "deep/cat/z.webp", "deep/dog/a.JPG", "dog/b.png"])
        XCTAssertEqual(found.place, folder.file("folder"))
        XCTAssertEqual(found.path(1), folder.file("folder/deep/two.tar/cat/n-1/y.png"))  // Beside a folder.
        _ = try FileManager.default.createDirectory(
            atPath: folder.file("more/dog"), withIntermediateDirectories: true)
        folder.write([], "more/dog/aa.png")
        let both = try collection("more", "whole.tar")
        XCTAssertEqual(names(both)[3...], ["dog/a.JPG", "dog/aa.png", "dog/b.png"])
        XCTAssertEqual(both.notes, ["1 folder, 1 tar archive: 6 images, 2 classes (cat, dog)"])
        XCTAssertEqual(both.files.count, 2)
    }

    /// As a folder of the same tree, whatever it holds: the same names, classes, labels, contents.
    func testAsAFolder() throws {
        let trees = [
            [
                "dog/b.png", "cat/n/x.jpg", "dog/a.JPG", "cat/n-1/y.png", "cat/notes.txt", "stray.png", "empty/",
                "dog/._1.png",
                "__MACOSX/dog/1.png", "cat/.hidden.jpg", "cat/@eaDir/1.jpg", "é/ü.png", "cat/IMG.1.jpg",
                "cat/IMG.2.jpg",
            ],
            ["b.png", "a.jpg", "B.JPEG", "notes.txt", "other/notes.txt"],
        ]
        for (number, tree) in trees.enumerated() {
            var builder = TarBuilder()
            for path in tree.shuffled() {
                let place = folder.file("\(number)/\(path)")
                let parent = path.hasSuffix("/") ? place : (place as NSString).deletingLastPathComponent
                try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
                if path.hasSuffix("/") {
                    builder.add(path, type: "5")
                } else {
                    folder.write(Array(path.utf8), "\(number)/\(path)")
                    builder.add("./" + path, Array(path.utf8))
                }
            }
            folder.write(builder.finished(), "\(number).tar")
            let (one, other) = (try collection("\(number)"), try collection("\(number).tar"))
            XCTAssertEqual(one.classes, other.classes)
            XCTAssertEqual(names(one), names(other))
            XCTAssertEqual(classes(one), classes(other))
            // A folder refuses to read what is no picture.
            XCTAssertEqual(try contents(other), names(one))
            XCTAssertEqual(one.notes.count, other.notes.count, "\(one.notes) \(other.notes)")
        }
    }

    /// WebDataset's samples: .cls gives the class, further members are passed over.
    func testWebDataset() throws {
        func samples(_ numbers: [Int], _ first: Int) -> [(String, [UInt8])] {
            numbers.enumerated().flatMap { index, number in
                let key = "\(first + index)".count < 2 ? "0\(first + index)" : "\(first + index)"
                return [
                    ("x/\(key).jpg", Array("picture \(key)".utf8)), ("x/\(key).Seg.png", []), ("x/\(key).json", []),
                    ("x/\(key).CLS", Array("\(number)\n".utf8)),
                ]
            }
        }
        folder.write(TarBuilder.archive([("__meta__/info.json", [])] + samples([2, 10, 0], 0)), "s-000.tar")
        folder.write(TarBuilder.archive(samples([10, 2], 3) + [("x/README", [])]), "s-001.tar")
        let source = try collection("s-{000..001}.tar", usesLabels: true)
        XCTAssertEqual(source.classes, ["0", "10", "2"])
        XCTAssertEqual(classes(source), ["0", "10", "10", "2", "2"])
        XCTAssertEqual(try contents(source), ["02", "01", "03", "00", "04"].map { "picture " + $0 })
        XCTAssertEqual(source.path(1), folder.file("s-000.tar/x/01.jpg"))
        XCTAssertEqual(
            source.notes,
            [
                "further images of a sample are left out: "
                    + (0..<3).map { "\(folder.file("s-000.tar")): x/0\($0).Seg.png" }
                    .joined(separator: ", ") + ", … (images: 5)", "2 tar archives: 5 images, 3 classes (0, 10, 2)",
            ])

        // Without labels a sample may lack its .cls.
        folder.write(TarBuilder.archive(["1.jpg": "", "1.cls": "3", "2.jpg": ""]), "some.tar")
        XCTAssertEqual(
            failure { _ = try collection("some.tar", usesLabels: true) }?.message,
            "\(folder.file("some.tar")): 2.jpg has no .cls, though other images have: give every image a class")
        XCTAssertEqual(try collection("some.tar").classes, [])
        for (members, reason) in [
            (["1.jpg": "", "1.cls": "cat"], ": 1.cls holds \"cat\" where the number of a class belongs"),
            (["1.jpg": "", "1.cls": ""], ": 1.cls holds \"\" where"), (["1.jpg": "", "1.cls": "-1"], ": 1.cls holds"),
            (["1.jpg": "", "1.cls": String(repeating: "1", count: 99)], ": 1.cls holds"),
            (
                ["a/1.jpg": "", "a/1.cls": "1", "a/1.JPG": ""],
                ": a/1.JPG is the second jpg of one sample"
            ),
            (["1.jpg": "", "1.cls": "1", "1.cls": "1"], ": 1.cls is the second cls of one sample"),
        ] as [(KeyValuePairs<String, String>, String)] {
            folder.write(TarBuilder.archive(members), "bad.tar")
            let failure = failure { _ = try collection("bad.tar") }
            XCTAssertEqual(failure?.code, .badData)
            XCTAssertTrue(failure?.message.contains(folder.file("bad.tar") + reason) == true, "\(failure as Any)")
        }
        // Where there are only images, those whose names differ in case are images as in a folder.
        folder.write(TarBuilder.archive(["a/1.jpg": "x", "a/1.JPG": "y", "b/2.png": "z"]), "cases.tar")
        XCTAssertEqual(try contents(try collection("cases.tar")), ["y", "x", "z"])
        // The same names apart from one another are two samples of WebDataset; unpacked, the last one stays.
        folder.write(TarBuilder.archive(["1.jpg": "first", "2.jpg": "", "1.jpg": "last"]), "again.tar")
        let again = try collection("again.tar")
        XCTAssertEqual(try contents(again), ["last", ""])
        XCTAssertTrue(again.notes[0].hasSuffix("\(folder.file("again.tar")): 1.jpg (images: 1)"), again.notes[0])
    }

    /// An archive for each class, in a folder and in an archive, as ImageNet's.
    func testArchivePerClass() throws {
        let one = TarBuilder.archive(["n01440764_2.JPEG": "b", "n01440764_1.JPEG": "a"])
        let two = TarBuilder.archive(["n01443537_1.JPEG": "c"])
        try FileManager.default.createDirectory(atPath: folder.file("f"), withIntermediateDirectories: true)
        folder.write(one, "f/n01440764.tar")
        folder.write(two, "f/n01443537.tar")
        folder.write(TarBuilder.archive([("n01443537.tar", two), ("n01440764.tar", one)]), "outer.tar")
        folder.write(TarBuilder.archive([("train/n01440764.tar", one)]), "single.tar")
        for place in ["f", "outer.tar", "f/n0144{3537,0764}.tar"] {
            let source = try collection(place, usesLabels: true)
            XCTAssertEqual(source.classes, ["n01440764", "n01443537"], place)
            XCTAssertEqual(
                names(source),
                ["n01440764/n01440764_1.JPEG", "n01440764/n01440764_2.JPEG", "n01443537/n01443537_1.JPEG"], place)
            XCTAssertEqual(try contents(source), ["a", "b", "c"], place)
            XCTAssertTrue(
                source.notes[0].contains("is a class, as images do not lie in directories of different names"),
                source.notes[0])
        }
        let outer = try collection("outer.tar")
        XCTAssertEqual(outer.path(2), folder.file("outer.tar/n01443537.tar/n01443537_1.JPEG"))
        XCTAssertEqual(outer.title(2), folder.file("outer.tar: n01443537.tar/n01443537_1.JPEG"))
        XCTAssertEqual(try collection("single.tar").classes, ["n01440764"])
        // A directory that all of them have is none of a class.
        try write(["cat.tar": ["images/1.jpg", "images/2.jpg"], "dog.tar": ["images/1.jpg"], "ox.tar": ["x/1.jpg"]])
        let wrapped = try collection("{cat,dog}.tar", usesLabels: true)
        XCTAssertEqual(wrapped.classes, ["cat", "dog"])
        XCTAssertEqual(names(wrapped), ["cat/images/1.jpg", "cat/images/2.jpg", "dog/images/1.jpg"])
        XCTAssertEqual(wrapped.path(2), folder.file("dog.tar/images/1.jpg"))
        XCTAssertEqual(try collection("{cat,ox}.tar").classes, ["images", "x"])
        XCTAssertEqual(try collection("cat.tar").classes, ["images"])
        try write(["part-1.tar": ["images/1.jpg"], "part-2.tar": ["images/2.jpg"]])
        XCTAssertEqual(try collection("part-{1,2}.tar").classes, ["images"])
        folder.write(TarBuilder.archive([("outer.tar", TarBuilder.archive([("inner.tar", one)]))]), "three.tar")
        XCTAssertEqual(
            failure { _ = try collection("three.tar") }?.message,
            "\(folder.file("three.tar")): outer.tar: inner.tar is an archive in an archive in an archive: unpack the outer "
                + "one")
    }

    /// Archives that differ in a number are parts, not classes.
    func testPartsAreNoClasses() throws {
        try write([
            "s-00000.tar": ["b.jpg", "a.jpg"], "s-00001.tar": ["b.jpg", "c.jpg"], "cat.tar": ["1.jpg"],
            "dog.tar": ["1.jpg"],
        ])
        let parts = try collection("s-{00000..00001}.tar")
        XCTAssertEqual(parts.classes, [])
        XCTAssertEqual(names(parts), ["a.jpg", "b.jpg", "b.jpg", "c.jpg"])
        XCTAssertEqual(parts.path(1), folder.file("s-00000.tar/b.jpg"))
        XCTAssertEqual(parts.notes, ["2 tar archives: 4 images"])
        XCTAssertEqual(try collection("{cat,dog}.tar").classes, ["cat", "dog"])
        XCTAssertEqual(try collection("cat.tar").classes, [])
        try write(["f/deep/x.tar": ["b.jpg", "a.jpg"]])
        XCTAssertEqual(names(try collection("f")), ["a.jpg", "b.jpg"])
        XCTAssertEqual(try collection("f").classes, [])
        for (names, areParts) in [
            (["train-000", "train-001"], true), (["0", "1", "2"], true), (["a-0-of-2", "a-1-of-2", "b"], true),
            (["n01440764", "n01443537"], false), (["cat", "dog"], false), (["cat1", "dog1"], false), (["x"], false),
        ] {
            XCTAssertEqual(ArchiveName.areParts(names.map { Array($0.utf8) }), areParts, "\(names)")
        }
    }

    /// Hard and symbolic links lead to their members; others are left out, with a warning.
    func testLinks() throws {
        for name in ["ustar.tar", "pax.tar", "gnu.tar"] {
            let place = Fixtures.path("tars/\(name)")
            let source = try ImageCollection(ImagePlaces(place), usesLabels: false, indexes: ArchiveIndexes(.memory))
            let index = Dictionary(uniqueKeysWithValues: (0..<source.count).map { (source.name($0), $0) })
            let first = String(repeating: "content of cat/1.jpg", count: 7)
            for link in ["cat/1.jpg", "cat/hard.jpg", "dog/soft.jpg", "dog/chain.jpg"] {
                let place = try XCTUnwrap(index[link], "\(name): \(link)")
                XCTAssertEqual(String(decoding: try source.bytes(place), as: UTF8.self), first, link)
            }
            for (link, text) in [("dog/twice.JPEG", "./dog//twice.JPEG"), ("dog/ünïcode 名.jpg", "dog/ünïcode 名.jpg")] {
                let place = try XCTUnwrap(index[link], link)
                XCTAssertTrue(String(decoding: try source.bytes(place), as: UTF8.self).hasPrefix("content of " + text))
            }
            XCTAssertEqual(try source.bytes(index["cat/empty.png"]!), [])
            XCTAssertEqual(index["cat/long.jpg"] != nil, name != "ustar.tar")
            XCTAssertEqual(source.classes.contains("empty"), true)
            XCTAssertEqual(
                source.warnings,
                [
                    "links to nothing in their archive are left out: \(place): dog/gone.jpg, \(place): dog/out.jpg, "
                        + "\(place): dog/far.jpg (links: 3)"
                ])
        }
        for name in ["sparse-gnu.tar", "sparse-pax-0.0.tar", "sparse-pax-0.1.tar", "sparse-pax-1.0.tar"] {
            let place = Fixtures.path("tars/\(name)")
            let failure = failure {
                _ = try ImageCollection(ImagePlaces(place), usesLabels: false, indexes: ArchiveIndexes(.memory))
            }
            XCTAssertEqual(failure?.code, .badData)
            XCTAssertEqual(
                failure?.message,
                "\(place): cat/holes.jpg is stored as a sparse file, which cannot be read: write the archive without "
                    + "tar's -S")
        }
        // A circle of links is none of the archive's images.
        var circle = TarBuilder()
        circle.add("a.jpg", type: "2", target: "b.jpg")
        circle.add("b.jpg", type: "2", target: "a.jpg")
        circle.add("c.jpg")
        folder.write(circle.finished(), "circle.tar")
        XCTAssertEqual(names(try collection("circle.tar")), ["c.jpg"])
    }

    func testRefusals() throws {
        folder.write(TarBuilder.archive(["notes.txt": ""]), "none.tar")
        folder.write(TarBuilder.archive(["a.tar.gz": "", "b.tgz": ""]), "packed.tar")
        folder.write([], "empty.tar")
        folder.write([0x1F, 0x8B] + [UInt8](repeating: 8, count: 600), "really-gz.tar")
        folder.write(Array("some text that is no archive\n".utf8), "text.tar")
        folder.write([UInt8](repeating: 0, count: 10_240), "zeros.tar")
        let whole = TarBuilder.archive([("a/1.jpg", [UInt8](repeating: 5, count: 3000))])
        folder.write(whole.prefix(2000), "cut.tar")
        folder.write(whole.prefix(300), "head.tar")
        folder.write([1] + whole.dropFirst(), "sum.tar")
        folder.write(TarBuilder.archive([("x.tar", Array(whole.prefix(2000)))]), "inner.tar")
        for name in ["x.tar.gz", "x.TGZ", "x.tar.zst", "x.zip"] { folder.write([], name) }
        try FileManager.default.createDirectory(atPath: folder.file("packed"), withIntermediateDirectories: true)
        folder.write([], "packed/a.tar.gz")
        folder.write([], "packed/b.tgz")
        for (place, code, reason) in [
            ("none.tar", Failure.Code.badData, "none.tar: holds no images (.jpg"),
            ("zeros.tar", .badData, "zeros.tar: holds no images"),
            ("packed.tar", .badData, "only compressed archives (\(folder.file("packed.tar")): a.tar.gz, "),
            ("empty.tar", .badData, "empty.tar is empty: name a tar archive"),
            (
                "really-gz.tar", .badData,
                "really-gz.tar is a gzip file, not a tar archive: unpack it first, as images are read by their place in the "
                    + "archive"
            ),
            ("text.tar", .badData, "text.tar is a text, not a tar archive: name an archive that tar wrote"),
            ("cut.tar", .badData, "cut.tar ends in the middle of a/1.jpg: it was not written, copied or downloaded"),
            ("inner.tar", .badData, "inner.tar: x.tar ends in the middle of a/1.jpg"),
            ("head.tar", .badData, "head.tar ends in the middle: it was not written, copied or downloaded"),
            ("sum.tar", .badData, "sum.tar is damaged: there is no member's header at byte 0"),
            ("gone.tar", .inputOutput, "cannot open \(folder.file("gone.tar")): No such file"),
            (
                "x.tar.gz", .badData,
                "x.tar.gz is a tar archive compressed by gzip, whose images cannot be read by their place: unpack it with "
                    + "gunzip"
            ),
            ("x.TGZ", .badData, "compressed by gzip"), ("x.tar.zst", .badData, "Zstandard, whose images"),
            (
                "x.zip", .badData,
                "x.zip is a ZIP archive, whose images cannot be read by their place: unpack it with unzip"
            ),
            (
                "packed", .badData,
                "the folder \(folder.file("packed")) holds no images but in compressed archives (a.tar.gz, b.tgz): unpack them"
            ),
        ] {
            let failure = failure { _ = try collection(place) }
            XCTAssertEqual(failure?.code, code, place)
            XCTAssertTrue(failure?.message.contains(reason) == true, "\(place): \(failure as Any)")
        }
        // Without its end mark an archive may lack members.
        folder.write(whole.dropLast(1024), "endless.tar")
        XCTAssertEqual(
            try collection("endless.tar").warnings,
            ["archives without the mark of their end may not be whole: \(folder.file("endless.tar")) (archives: 1)"])
        // An archive that changes after it was opened is not read at wrong places.
        folder.write(whole, "change.tar")
        let source = try collection("change.tar")
        XCTAssertEqual(try source.bytes(0).count, 3000)
        folder.write(whole + [0], "change.tar")
        let changed = failure { _ = try source.bytes(0) }
        XCTAssertEqual(changed?.code, .inputOutput)
        XCTAssertTrue(
            changed?.message.contains("change.tar was changed while it was read") == true, "\(changed as Any)")
        XCTAssertEqual(try collection("change.tar").bytes(0).count, 3000)
    }

    func testListing() throws {
        try write(["a.tar": ["b/1.jpg", "0.png"], "f/x.tar": ["2.jpg"], "outer.tar": []])
        folder.write(TarBuilder.archive([("in.tar", TarBuilder.archive(["3.jpg": "3"]))]), "outer.tar")
        folder.write([], "z.png")
        let listing = try ImageCollection(
            listing: ["z.png", "f", "a.tar", "outer.tar", "a.tar"].map(folder.file), indexes: ArchiveIndexes(.memory))
        XCTAssertEqual(
            names(listing),
            ["a.tar/0.png", "a.tar/b/1.jpg", "f/x.tar/2.jpg", "outer.tar/in.tar/3.jpg", "z.png"].map(folder.file))
        XCTAssertEqual(listing.classes, [])
        XCTAssertEqual(String(decoding: try listing.bytes(3), as: UTF8.self), "3")
    }

    /// An index is kept by path, size and time, beside nothing, and a damaged one is made anew.
    func testIndexesAreKept() throws {
        try write(["a.tar": ["b/1.jpg", "b/é.png", "b/.x.jpg"], "s.tar": []])
        folder.write(TarBuilder.archive([("in/c.tar", TarBuilder.archive(["1.jpg": "x", "1.cls": "7"]))]), "s.tar")
        let run = folder.file("run")
        for name in ["a.tar", "s.tar"] {
            let path = folder.file(name)
            let first = ArchiveIndexes(.run(run))
            let (index, stamp) = try first.index(of: path)
            XCTAssertFalse(FileManager.default.fileExists(atPath: run), "nothing is written before the run is")
            XCTAssertEqual(ArchiveIndex(index.encoded(path: "p", stamp: stamp), path: "p", stamp: stamp), index)
            first.save(in: run)
            let file = try XCTUnwrap(FileManager.default.contentsOfDirectory(atPath: run + "/archives").first)
            let kept = run + "/archives/" + file
            let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: kept)))
            // It is what the next one reads: a file that says otherwise is believed.
            var other = index
            other.units[other.units.count - 1].sizes = [1] + other.units.last!.sizes.dropFirst()
            let whole = String(cString: realpath(path, nil)!)
            try Data(other.encoded(path: whole, stamp: stamp)).write(to: URL(fileURLWithPath: kept))
            XCTAssertEqual(try ArchiveIndexes(.run(run)).index(of: path).index, other)
            // But not if it is damaged anywhere, or of another state of the archive.
            for position in stride(from: 0, to: bytes.count, by: 7) {
                var changed = bytes
                changed[position] ^= 0x40
                XCTAssertNil(ArchiveIndex(changed, path: whole, stamp: stamp), "\(position)")
                XCTAssertNil(ArchiveIndex(Array(bytes[..<position]), path: whole, stamp: stamp))
            }
            XCTAssertNil(ArchiveIndex(bytes, path: "other", stamp: stamp))
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSince1970: 1e9)], ofItemAtPath: path)
            XCTAssertEqual(try ArchiveIndexes(.run(run)).index(of: path).index, index)
            try FileManager.default.removeItem(atPath: run)
        }
        XCTAssertEqual(folder.names(), ["a.tar", "s.tar"])
    }

    /// The order in which images lie: place after place, archives from their beginning on.
    func testStoredOrder() throws {
        try write(["s-1.tar": ["c.jpg", "a.jpg"], "s-0.tar": ["d.jpg", "b.jpg"]])
        folder.write(Array("z.png\n0.png".utf8), "list.txt")
        for name in ["z.png", "0.png"] { folder.write([], name) }
        let source = try collection("list.txt", "s-1.tar", "s-0.tar")
        XCTAssertEqual(names(source), ["0.png", "a.jpg", "b.jpg", "c.jpg", "d.jpg", "z.png"])
        XCTAssertEqual(
            source.storedOrder.map(source.name), ["0.png", "z.png", "c.jpg", "a.jpg", "d.jpg", "b.jpg"])
    }

    /// Inputs that `make fuzz` starts from, and those that it found.
    func testFuzzedInputs() throws {
        for kind in ["tar", "table"] {
            for name in try FileManager.default.contentsOfDirectory(atPath: Fixtures.path("fuzz/\(kind)")) {
                let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("fuzz/\(kind)/\(name)"))))
                let failure = failure {
                    if kind == "tar" {
                        _ = try ArchiveIndex(ArchiveBytes(path: name, bytes: bytes))
                    } else {
                        _ = try bytes.withUnsafeBytes { try DelimitedText($0, named: name) }
                    }
                }
                XCTAssertTrue(failure == nil || failure!.code == .badData, "\(name): \(failure as Any)")
            }
        }
    }

    /// Names that are not UTF-8: as in a folder, an image with such a name is unreadable, and a directory with such a
    /// name is refused, as two of them might become one class.
    func testNamesThatAreNotUTF8() throws {
        func latin(_ before: String, _ letter: UInt8, _ after: String) -> [UInt8] {
            Array(before.utf8) + [letter] + Array(after.utf8)
        }
        func write(_ name: String, _ members: [[UInt8]], type: Character = "0") {
            var builder = TarBuilder()
            for member in members { builder.add(member, type == "0" ? [1] : [], type: type) }
            builder.add("a/b.jpg", [2])
            builder.add("ü/ö.jpg", [2])
            folder.write(builder.finished(), name)
        }
        write("latin.tar", [latin("a/", 0xE9, ".jpg"), latin("a/", 0xE8, ".jpg"), latin("a/caf", 0xE8, ".txt")])
        let place = folder.file("latin.tar")
        let listing = try ImageCollection(listing: [place], indexes: ArchiveIndexes(.memory))
        XCTAssertEqual(listing.count, 4)
        let source = try collection("latin.tar")
        XCTAssertEqual(names(source), ["a/b.jpg", "a/\u{FFFD}.jpg", "a/\u{FFFD}.jpg", "ü/ö.jpg"])
        for index in [0, 3] { XCTAssertEqual(try source.bytes(index), [2]) }
        for images in [source, listing] {
            for index in 1...2 {
                let unreadable = Failure(
                    .badData,
                    Failure(
                        .inputOutput,
                        "cannot open \(place): a/\u{FFFD}.jpg, as its name is not valid UTF-8: rename it"
                    ).sentence)
                XCTAssertEqual(failure { _ = try images.bytes(index) }, unreadable)
                XCTAssertEqual(failure { _ = try images.head(index, count: 1) }, unreadable)
            }
        }

        write("classes.tar", [latin("caf", 0xE9, "/1.jpg"), latin("caf", 0xE8, "/1.jpg")])
        write("deep.tar", [latin("a/x/caf", 0xE9, "/1.jpg")])
        write("folder.tar", [latin("a/caf", 0xE9, "/")], type: "5")
        var outer = TarBuilder()
        outer.add(latin("caf", 0xE9, ".tar"), TarBuilder.archive(["1.jpg": ""]))
        folder.write(outer.finished(), "archive.tar")
        for (name, text) in [
            ("classes.tar", "the folder caf\u{FFFD}"), ("deep.tar", "the folder a/x/caf\u{FFFD}"),
            ("folder.tar", "the folder a/caf\u{FFFD}"), ("archive.tar", "the archive caf\u{FFFD}.tar"),
        ] {
            let expected = Failure(
                .inputOutput,
                "\(folder.file(name)): \(text) has a name that is not valid UTF-8: rename it, and write "
                    + "\(folder.file(name)) anew")
            XCTAssertEqual(failure { _ = try collection(name) }, expected)
            XCTAssertEqual(
                failure { _ = try ImageCollection(listing: [folder.file(name)], indexes: ArchiveIndexes(.memory)) },
                expected)
        }
    }

    /// What holds archives, but no images, does not decide what the classes are.
    func testDirectoriesAroundArchives() throws {
        func archive(_ names: [String]) -> [UInt8] { TarBuilder.archive(names.map { ($0, Array($0.utf8)) }) }
        for folders in [[], ["./"], ["train/"], ["./", "./train/"], ["train/", "empty/"]] {
            var builder = TarBuilder()
            for folder in folders { builder.add(folder, type: "5") }
            builder.add("train/dog.tar", archive(["./", "./1.jpg"]))
            builder.add("train/cat.tar", archive(["./1.jpg", "./2.jpg"]))
            builder.add("train/none.tar", archive(["sub/"]))
            folder.write(builder.finished(), "outer.tar")
            let source = try collection("outer.tar", usesLabels: true)
            XCTAssertEqual(source.classes, ["cat", "dog"], "\(folders)")
            XCTAssertEqual(names(source), ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"], "\(folders)")
        }
        // Archives in several directories: those are the classes, and one without images is one, too.
        var builder = TarBuilder()
        for folder in ["data/", "data/cat/", "data/dog/", "data/eel/"] { builder.add(folder, type: "5") }
        builder.add("data/dog/x.tar", archive(["1.jpg"]))
        builder.add("data/cat/x.tar", archive(["1.jpg"]))
        folder.write(builder.finished(), "outer.tar")
        let source = try collection("outer.tar", usesLabels: true)
        XCTAssertEqual(source.classes, ["cat", "dog", "eel"])
        XCTAssertEqual(names(source), ["cat/1.jpg", "dog/1.jpg"])
        // The parts of one archive in a directory.
        builder = TarBuilder()
        builder.add("train/", type: "5")
        for part in 0..<2 { builder.add("train/\(part).tar", archive(["\(part).jpg"])) }
        folder.write(builder.finished(), "outer.tar")
        XCTAssertEqual(try collection("outer.tar").classes, [])
    }

    /// Links to directories are not followed, which a warning says; nor are those that may be such links.
    func testLinksToDirectories() throws {
        var builder = TarBuilder()
        builder.add("data/cat/1.jpg")
        builder.add("store/dog/1.jpg")
        builder.add("store/eel/", type: "5")
        builder.add("LICENSE")
        for (path, target) in [
            ("data/dog", "../store/dog"), ("data/eel", "../store/eel/"), ("data/all", ".."), ("data/far", "/mnt/far"),
            ("data/gone", "../gone"), ("data/LICENSE", "../LICENSE"), ("data/README.md", "../README.md"),
            ("data/NOTES", "/usr/share/notes.txt"),
        ] { builder.add(path, type: "2", target: target) }
        folder.write(builder.finished(), "links.tar")
        let place = folder.file("links.tar")
        XCTAssertEqual(
            try collection("links.tar").warnings,
            [
                "links to nothing in their archive are left out: \(place): data/far, \(place): data/gone (links: 2)",
                "links to directories are left out, and with them what they lead to: \(place): data/dog, "
                    + "\(place): data/eel, \(place): data/all (links: 3)",
            ])
    }

    /// What stands after an archive's end is not read, as tar does not read it.
    func testBytesAfterTheEnd() throws {
        let one = TarBuilder.archive(["cat/1.jpg": ""]), other = TarBuilder.archive(["dog/1.jpg": ""])
        let zeros = [UInt8](repeating: 0, count: 200_000)
        folder.write(one + other, "cat.tar")
        folder.write(one + zeros + [1], "far.tar")
        folder.write(TarBuilder.archive([("x/inner.tar", one + other)]), "outer.tar")
        folder.write(one + zeros, "padded.tar")
        for (name, inner) in [("cat.tar", ""), ("far.tar", ""), ("outer.tar", ": x/inner.tar")] {
            let source = try collection(name)
            XCTAssertEqual(source.count, 1)
            XCTAssertEqual(
                source.warnings,
                [
                    "what follows the mark of an archive's end is not read (tar -A joins archives, cat does not): "
                        + "\(folder.file(name))\(inner) (archives: 1)"
                ])
        }
        XCTAssertEqual(try collection("padded.tar").warnings, [])
    }
}
