import Foundation
import TestSupport
import XCTest

/// `dmae inspect` of a folder of images.
final class InspectImagesTests: XCTestCase {
    private struct Report: Decodable {
        struct Class: Decodable, Equatable {
            let name: String
            let images: Int
        }
        struct Range: Decodable, Equatable {
            let from, to, images: Int
        }
        struct Unread: Decodable {
            let path, reason: String
        }
        let place: String
        let images, file_bytes, transparent, sixteen_bit, clipped, oriented, wrong_checksums: Int
        let classes: [Class]
        let formats: [String: Int]
        let smallest, median, largest: [Int]
        let short_sides: [Range]
        let unreadable: [Unread]
        let copies: [[String]]
        let copies_across_classes: Int
        let images_per_second: Double
    }

    /// A folder of three classes, one of them empty: three equal JPEG files in two classes, a turned and a transparent
    /// PNG file, one of 16-bit grey, and a damaged one.
    private func makeFolder() throws -> TemporaryFolder {
        let folder = TemporaryFolder()
        let files = [
            "a/one.jpg": "oriented/exif-after-comment.jpg", "a/two.jpg": "oriented/exif-after-comment.jpg",
            "b/three.jpg": "oriented/exif-after-comment.jpg", "b/turned.png": "oriented/exif-6.png",
            "b/transparent.png": "transparent/grey-alpha8.png", "b/grey.png": "grey16/bright.png",
            "b/damaged.png": "checksums/rgb-IHDR0.png",
        ]
        for name in ["a", "b", "c"] {
            try FileManager.default.createDirectory(atPath: folder.file(name), withIntermediateDirectories: true)
        }
        for (target, source) in files {
            try FileManager.default.copyItem(
                atPath: Fixtures.path("pictures/\(source)"), toPath: folder.file(target))
        }
        return folder
    }

    private func report(_ folder: TemporaryFolder, _ options: [String] = []) throws -> Report {
        let output = assertRuns(["inspect", folder.path, "--json"] + options).output
        XCTAssertEqual(output.split(separator: "\n").count, 1, "one JSON object on one line")
        return try JSONDecoder().decode(Report.self, from: Data(output.utf8))
    }

    func testCounts() throws {
        let folder = try makeFolder()
        let report = try report(folder)
        XCTAssertEqual(report.place, folder.path)
        XCTAssertEqual(report.images, 7)
        XCTAssertEqual(
            report.classes, [.init(name: "a", images: 2), .init(name: "b", images: 5), .init(name: "c", images: 0)])
        XCTAssertEqual(report.formats, ["JPEG": 3, "PNG": 3])
        XCTAssertEqual(
            [report.transparent, report.sixteen_bit, report.clipped, report.oriented, report.wrong_checksums],
            [1, 1, 1, 4, 0])
        XCTAssertEqual(report.unreadable.map(\.path), [folder.file("b/damaged.png")])
        XCTAssertTrue(report.unreadable[0].reason.contains("damaged PNG file"), report.unreadable[0].reason)
        XCTAssertEqual(report.copies, [["a/one.jpg", "a/two.jpg", "b/three.jpg"].map(folder.file)])
        XCTAssertEqual(report.copies_across_classes, 1)
        XCTAssertGreaterThan(report.images_per_second, 0)
        XCTAssertEqual(report.short_sides.reduce(0) { $0 + $1.images }, 6)
        let sizes = try ["a/one.jpg", "a/two.jpg", "b/three.jpg", "b/turned.png", "b/transparent.png", "b/grey.png"].map
        {
            try FileManager.default.attributesOfItem(atPath: folder.file($0))[.size] as! Int
        }
        XCTAssertEqual(report.file_bytes, sizes.reduce(0, +))
    }

    /// A picture that is damaged behind its header counts among the formats, as in the check of a run, and is unreadable.
    func testDamagedPictures() throws {
        let folder = TemporaryFolder()
        let whole = Array(try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("pictures/transparent/rgba8.png"))))
        folder.write(whole, "a.png")
        folder.write(whole.prefix(whole.count / 2), "b.png")
        folder.write("no picture".utf8, "c.png")
        let report = try report(folder)
        XCTAssertEqual(report.formats, ["PNG": 2])
        XCTAssertEqual(report.unreadable.map(\.path), ["b.png", "c.png"].map(folder.file))
        let plan = assertRuns(
            TinyRun.pretrain("", epochs: 100, data: folder.path, ["--dry-run", "--unreadable-limit", "0.5"]))
        XCTAssertTrue(
            plan.errors.contains("checked in \(folder.path): PNG 2; 2 of them have an alpha channel"), plan.errors)
    }

    /// 16-bit grey that becomes white is named, in a folder, alone and in a plan, with the flag that keeps it.
    func testGreyThatBecomesWhite() throws {
        let folder = TemporaryFolder()
        func copy(_ source: String, _ name: String) throws {
            try FileManager.default.copyItem(atPath: Fixtures.path("pictures/\(source)"), toPath: folder.file(name))
        }
        try copy("oriented/exif-6.png", "a.png")
        for name in ["1", "2", "3", "4"] { try copy("grey16/bright.png", "\(name).png") }
        func lines(_ path: String, _ more: [String] = []) -> [String] {
            assertRuns(["inspect", path] + more).output.components(separatedBy: "\n")
        }
        let bright = folder.file("1.png")
        for (path, count) in [(folder.path, 4), (bright, 1)] {
            let found = lines(path)
            XCTAssertTrue(
                found.contains(
                    "16-bit       \(count), \(count) of them grey that becomes white (--grey16 scale keeps it)"),
                "\(found)")
            let place = try XCTUnwrap(found.firstIndex(of: "grey that becomes white"), "\(found)")
            XCTAssertEqual(found[place + 1], "  " + bright)
            XCTAssertFalse(lines(path, ["--grey16", "scale"]).contains { $0.contains("white (--grey16") })
        }
        let json = try JSONSerialization.jsonObject(
            with: Data(assertRuns(["inspect", folder.path, "--json"]).output.utf8))
        XCTAssertEqual(
            (json as? [String: Any])?["clipped_paths"] as? [String],
            ["1", "2", "3", "4"].map { folder.file("\($0).png") })

        let run = TinyRun.pretrain("", epochs: 100, data: folder.path, ["--dry-run"]), errors = assertRuns(run).errors
        XCTAssertTrue(
            errors.contains("warning: \(bright) is 16-bit grey, and 99.") && !errors.contains("4.png is 16-bit"), errors
        )
        XCTAssertTrue(
            errors.contains(
                "warning: 4 of 5 images in \(folder.path) are 16-bit grey, whose values above 255 become white: --grey16 scale "
                    + "keeps their differences\n"), errors)
        XCTAssertFalse(assertRuns(run + ["--grey16", "scale"]).errors.contains("16-bit grey"))
    }

    /// Sizes are those of the pictures as they are read: turned, or as stored.
    func testSizes() throws {
        let folder = TemporaryFolder()
        for (target, source) in [("x.png", "oriented/exif-6.png"), ("y.png", "transparent/grey-alpha8.png")] {
            try FileManager.default.copyItem(
                atPath: Fixtures.path("pictures/\(source)"), toPath: folder.file(target))
        }
        let turned = try report(folder), stored = try report(folder, ["--stored-orientation"])
        XCTAssertEqual([turned.smallest, turned.largest], [[9, 13], [29, 19]])
        XCTAssertEqual([stored.smallest, stored.largest], [[13, 9], [29, 19]])
        XCTAssertTrue(turned.classes.isEmpty)
    }

    /// The text names the first few, and says what names all.
    func testManyUnreadable() throws {
        let folder = TemporaryFolder()
        for number in 1...7 { folder.write("no picture".utf8, "\(number).png") }
        let text = assertRuns(["inspect", folder.path]).output
        XCTAssertTrue(text.contains("5.png"), text)
        XCTAssertFalse(text.contains("6.png is"), text)
        XCTAssertTrue(text.contains("  … and 2 more; --json names all\n"), text)
        let object = try JSONSerialization.jsonObject(
            with: Data(assertRuns(["inspect", folder.path, "--json"]).output.utf8))
        XCTAssertEqual(((object as? [String: Any])?["unreadable"] as? [Any])?.count, 7)
    }

    /// The number of threads changes nothing but the speed.
    func testWorkers() throws {
        let folder = try makeFolder()
        let texts = ["1", "3"].map { workers in
            assertRuns(["inspect", folder.path, "--workers", workers]).output.split(separator: "\n").filter {
                !$0.hasPrefix("decoding")
            }
        }
        XCTAssertEqual(texts[0], texts[1])
        XCTAssertTrue(texts[0].contains("classes      3: fewest images 0 (c), most 5 (b)"), "\(texts[0])")
        XCTAssertTrue(texts[0].contains("oriented     4, turned upright"), "\(texts[0])")
        XCTAssertTrue(texts[0].contains("copies       2; 1 group in different classes"), "\(texts[0])")
    }

    /// The same images in a tar archive, and in a list.
    func testArchiveAndList() throws {
        let folder = try makeFolder(), other = TemporaryFolder()
        let tar = Process()
        tar.executableURL = URL(fileURLWithPath: "/bin/tar")
        tar.arguments = ["-cf", other.file("images.tar"), "-C", folder.path, "a", "b"]
        try tar.run()
        tar.waitUntilExit()
        let names = ["a/one.jpg", "b/damaged.png"]
        other.write(("path,label\n" + names.map { "\(folder.file($0)),x\n" }.joined()).utf8, "list.csv")
        func report(_ path: String) throws -> Report {
            try JSONDecoder().decode(
                Report.self, from: Data(assertRuns(["inspect", path, "--json"]).output.utf8))
        }
        let archive = try report(other.file("images.tar")), inFolder = try self.report(folder)
        XCTAssertEqual(archive.images, 7)
        XCTAssertEqual(archive.formats, inFolder.formats)
        XCTAssertEqual(archive.short_sides, inFolder.short_sides)
        XCTAssertEqual(archive.classes, [.init(name: "a", images: 2), .init(name: "b", images: 5)])
        XCTAssertEqual(archive.unreadable.map(\.path), ["\(other.file("images.tar")): b/damaged.png"])
        let list = try report(other.file("list.csv"))
        XCTAssertEqual(list.classes, [.init(name: "x", images: 2)])
        XCTAssertEqual(list.unreadable.count, 1)
        XCTAssertTrue(list.unreadable[0].path.hasSuffix("/b/damaged.png"), list.unreadable[0].path)
    }

    /// Of images in several places, one warning counts them, and none comes again for another run of the same images.
    func testOtherKindsInSeveralPlaces() throws {
        let folder = TemporaryFolder()
        try TinyRun.writeClasses(in: folder)
        for name in ["train/geography/a.heic", "val/geography/b.heic", "val/education/c.tif"] {
            folder.write("x".utf8, name)
        }
        let train = folder.file("train"), val = folder.file("val")
        func left(_ text: String) -> [String] {
            text.split(separator: "\n").filter { $0.contains("are left out") }.map(String.init)
        }
        let both =
            "warning: pictures of kinds that cannot be decoded are left out in \(train), \(val): 2 .heic, 1 .tif; convert "
            + "them to JPEG or PNG to use them"
        let weights = Fixtures.path("demo/teacher.safetensors")
        let knn = assertRuns([
            "knn", "--weights", weights, "--train", train, "--val", val, "--k", "1", "--no-baselines",
        ])
        XCTAssertEqual(left(knn.errors), [both])
        for name in ["a", "b"] {
            let run = assertRuns(
                TinyRun.pretrain(folder.file(name), epochs: 1, data: train, ["--val", val, "--quiet"]))
            XCTAssertEqual(left(run.errors), [both])
        }
        let report = assertRuns([
            "report", folder.file("a"), folder.file("b"), "--output", folder.file("x.html"), "--count", "1",
        ])
        XCTAssertEqual(left(report.errors).count, 1, report.errors)
        let images = assertRuns([
            "embed", "--weights", weights, "--data", train, val, "--output", folder.file("x.npy"),
        ])
        XCTAssertEqual(left(images.errors).count, 1, images.errors)
    }

    /// A line break in a name is shown, not obeyed.
    func testLineBreaksInNames() throws {
        let folder = TemporaryFolder()
        let picture = try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("pictures/transparent/rgba8.png")))
        try FileManager.default.createDirectory(
            atPath: folder.file("one\nclass"), withIntermediateDirectories: true)
        for name in ["a\nb.png", "c.png"] { folder.write(picture, "one\nclass/\(name)") }
        let text = assertRuns(["inspect", folder.path]).output
        XCTAssertTrue(text.contains("fewest images 2 (one\\nclass), most 2 (one\\nclass)\n"), text)
        XCTAssertTrue(
            text.contains("\n  \(folder.path)/one\\nclass/a\\nb.png = \(folder.path)/one\\nclass/c.png\n"), text)
    }

    /// Kinds that cannot be decoded are counted and left out alike in a folder and in an archive; named itself, such a file
    /// is refused as what it is.
    func testOtherKinds() throws {
        let folder = TemporaryFolder()
        let picture = try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("pictures/transparent/rgba8.png")))
        let heic = Array("\0\0\0\u{18}ftypheic".utf8) + [UInt8](repeating: 0, count: 20)
        for name in ["a.HEIC", "b.heic", "c.tif", ".d.tif"] { folder.write(heic, name) }
        folder.write(picture, "e.png")
        let sentence =
            "pictures of kinds that cannot be decoded are left out in \(folder.path): 2 .heic, 1 .tif; convert them to JPEG "
            + "or PNG to use them"
        let result = assertRuns(["inspect", folder.path])
        XCTAssertEqual(result.errors.components(separatedBy: "warning: \(sentence)\n").count, 2, result.errors)
        XCTAssertTrue(result.output.contains("images       1\n"), result.output)
        XCTAssertTrue(result.output.contains("unreadable   0\n"), result.output)
        let tar = folder.write(
            TarBuilder.archive(
                ["a.heic", "c.tif", "f.HEIC", "e.png"].map { ($0, $0 == "e.png" ? Array(picture) : heic) }),
            "a.tar")
        // The second time by its index.
        for _ in 0..<2 {
            let result = assertRuns(["inspect", tar], environment: ["XDG_CACHE_HOME": folder.file("cache")])
            XCTAssertTrue(
                result.errors.contains("left out in \(tar): 2 .heic, 1 .tif; convert them to JPEG or PNG"),
                result.errors)
            XCTAssertTrue(result.output.contains("images       1\n"), result.output)
        }
        assertRefused(["inspect", folder.file("a.HEIC")], 65, "a.HEIC is a HEIC file (convert it with heif-convert)")
        folder.write("\(folder.file("e.png"))\n\(folder.file("c.tif"))\n".utf8, "list.txt")
        let list = assertRuns(["inspect", folder.file("list.txt")]).output
        XCTAssertTrue(list.contains("unreadable   1\n"), list)
        XCTAssertTrue(list.contains("c.tif is a HEIC file"), list)
        try FileManager.default.removeItem(atPath: folder.file("e.png"))
        try FileManager.default.removeItem(atPath: tar)
        assertRefused(
            ["inspect", folder.path], 65,
            "holds no images",
            "but pictures of kinds that cannot be decoded (2 .heic, 1 .tif): convert them to JPEG or PNG")
    }

    /// A folder with neither images nor weights is refused with what it lacks.
    func testEmptyFolder() throws {
        let folder = TemporaryFolder()
        assertRefused(["inspect", folder.path], 65, "holds no images")
    }
}
