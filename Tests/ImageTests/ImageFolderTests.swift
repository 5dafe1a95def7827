import Reporting
import Foundation
import Images
import Tensors
import TestSupport
import XCTest

final class ImageFolderTests: XCTestCase {
    /// A folder of empty files, which searching does not open, and of directories (names with a slash at the end).
    private func folder(_ names: [String]) throws -> TemporaryFolder {
        let folder = TemporaryFolder()
        for name in names {
            // Up to the last slash.
            let parent = name.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
            try FileManager.default.createDirectory(atPath: folder.file(parent), withIntermediateDirectories: true)
            if !name.hasSuffix("/") { folder.write([], name) }
        }
        return folder
    }

    /// torchvision's classes; the images of each by path, byte by byte.
    func testClassesAreReadAsTorchvisionDoes() throws {
        let folder = try folder([
            "dog/b.jpg", "dog/a.JPG", "dog/Z.jpeg", "dog/n/x.png", "dog/n-1/y.png", "dog/n/m/w.png", "dog/notes.txt",
            "dog/noextension", "dog/é.webp", "cow/1.JFIF", "cow/2.jpe", "cow/3.MPO", "cow/4.Gif", "cow/5.pbm",
            "cow/6.PNM", "cow/heic.heic", "cow/text.pdf", "cow/gif",
            "Cat/1.Png", "Cat/2.TIFF", "Cat/.hidden.png", "ant/deep/er/1.bmp", "empty/", "stray.png", "readme.md",
        ])
        let images = try ImageFolder(folder.path)
        XCTAssertEqual(images.classes, ["Cat", "ant", "cow", "dog", "empty"])
        XCTAssertEqual(
            (0..<images.count).map(images.name),
            [
                "Cat/1.Png", "ant/deep/er/1.bmp", "cow/1.JFIF", "cow/2.jpe", "cow/3.MPO", "cow/4.Gif", "cow/5.pbm",
                "cow/6.PNM", "dog/Z.jpeg", "dog/a.JPG", "dog/b.jpg", "dog/n-1/y.png", "dog/n/m/w.png", "dog/n/x.png",
                "dog/é.webp",
            ])
        XCTAssertEqual((0..<images.count).map(images.label), [0, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3])
        XCTAssertEqual(images.place, folder.path)
        XCTAssertEqual(
            images.notes,
            [
                "hidden files and what systems leave behind are passed over in \(folder.path): Cat/.hidden.png (images and "
                    + "folders: 1)",
                "images directly in \(folder.path) are left out, as torchvision's ImageFolder does with a folder that "
                    + "has "
                    + "class directories (images: 1); to use them, move them into the directory of their class, or, where "
                    + "classes do not matter, into one of their own",
                "class directories of \(folder.path) without images keep their class index: empty (directories: 1)",
            ])
        XCTAssertEqual(
            images.warnings,
            [
                "pictures of kinds that cannot be decoded are left out in \(folder.path): 1 .heic, 1 .tiff; convert them to "
                    + "JPEG or PNG to use them"
            ])
        XCTAssertEqual(images.path(0), folder.file("Cat/1.Png"))
        XCTAssertEqual(try ImageFolder(folder.path + "/").path(0), folder.file("Cat/1.Png"))
    }

    func testFlatFolder() throws {
        let folder = try folder(["b.png", "a.jpg", "B.jpg", "notes.txt", "empty/", "other/notes.txt"])
        let images = try ImageFolder(folder.path)
        XCTAssertEqual((0..<images.count).map(images.name), ["B.jpg", "a.jpg", "b.png"])
        XCTAssertEqual(images.classes, [])
        XCTAssertNil(images.label(0))
        XCTAssertEqual(images.notes, [])
    }

    func testLinksAreFollowedButNotForEver() throws {
        let folder = try folder(["real/a/1.png", "real/2.png", "elsewhere/x/3.png"])
        let manager = FileManager.default
        try manager.createSymbolicLink(atPath: folder.file("real/loop"), withDestinationPath: "..")
        try manager.createSymbolicLink(atPath: folder.file("real/a/up"), withDestinationPath: "../../real")
        try manager.createSymbolicLink(atPath: folder.file("real/side"), withDestinationPath: "../elsewhere")
        try manager.createSymbolicLink(atPath: folder.file("real/4.png"), withDestinationPath: "2.png")
        try manager.createSymbolicLink(atPath: folder.file("zlink"), withDestinationPath: "real/a")
        try manager.createSymbolicLink(atPath: folder.file("real/gone.png"), withDestinationPath: "nowhere.png")
        let images = try ImageFolder(folder.path)
        XCTAssertEqual(images.classes, ["elsewhere", "real", "zlink"])
        // zlink is another path of real/a. Its link "up" leads to real, which is searched; links in there that lead
        // back are not followed.
        XCTAssertEqual(
            (0..<images.count).map(images.name),
            [
                "elsewhere/x/3.png", "real/2.png", "real/4.png", "real/a/1.png", "real/gone.png", "real/side/x/3.png",
                "zlink/1.png",
                "zlink/up/2.png", "zlink/up/4.png", "zlink/up/gone.png", "zlink/up/side/x/3.png",
            ])
    }

    /// A list has no classes and holds every path once, by bytes, for any order and repetition of the arguments.
    func testListing() throws {
        let folder = try folder([
            "b/c/2.png", "b/1.png", "b-1/0.PNG", "a.jpg", "B.jpeg", "notes.txt", "b/notes.txt", "empty/",
        ])
        let expected = ["B.jpeg", "a.jpg", "b-1/0.PNG", "b/1.png", "b/c/2.png"].map(folder.file)
        for root in [folder.path, folder.path + "/"] {
            let images = try ImageFolder(listing: [root])
            XCTAssertEqual((0..<images.count).map(images.path), expected)
            XCTAssertEqual(images.classes, [])
            XCTAssertNil(images.label(0))
        }
        // A file given by its path may have any extension.
        let named = try ImageFolder(listing: ["notes.txt", "b", "a.jpg", "b/1.png", "a.jpg"].map(folder.file))
        XCTAssertEqual(
            (0..<named.count).map(named.path), ["a.jpg", "b/1.png", "b/c/2.png", "notes.txt"].map(folder.file))
        // The same letter in other bytes (é) is another file.
        let twins = try self.folder(["\u{E9}.png", "e\u{301}.png"])
        XCTAssertEqual(try ImageFolder(listing: [twins.path]).count, 2)
        try FileManager.default.createSymbolicLink(atPath: folder.file("b/c/up"), withDestinationPath: "../..")
        XCTAssertEqual(try ImageFolder(listing: [folder.file("b")]).count, 5)

        for (paths, code, reason) in [
            (["a.jpg", "gone"], Failure.Code.inputOutput, "No such file"),
            (["empty"], .badData, "there are no images (.jpg"),
            (
                ["empty"], .badData,
                ": name JPEG, PNG, WebP, GIF, BMP or PNM files, as no others can be decoded, or a folder that holds some"
            ),
        ] {
            let failure = failure { _ = try ImageFolder(listing: paths.map(folder.file)) }
            XCTAssertEqual(failure?.code, code)
            XCTAssert(
                failure?.message.contains(reason) == true && failure?.message.contains(folder.file(paths.last!)) == true
            )
        }
    }

    /// Names that are not UTF-8: a picture with such a name is unreadable, a directory with such a name stops the
    /// search.
    func testNamesThatAreNotUTF8() throws {
        let folder = TemporaryFolder()
        let picture = try PNGWriter.encode(Pixels(width: 2, height: 2, channels: 1, bytes: [1, 2, 3, 4]))
        // The text shown for such a name may be the name of another file.
        for name in ["caf\u{FFFD}.png", "good.png"] { folder.write(picture, name) }
        /// The C string "caf", é in Latin-1, `ending`.
        func path(_ ending: String) -> [CChar] {
            let bytes: [UInt8] = Array(folder.file("caf").utf8) + [0xE9] + Array(ending.utf8) + [0]
            return bytes.map { CChar(bitPattern: $0) }
        }
        let descriptor = open(path(".png"), O_WRONLY | O_CREAT, 0o600)
        XCTAssertGreaterThanOrEqual(descriptor, 0)
        close(descriptor)
        defer { unlink(path(".png")) }
        for images in [try ImageFolder(folder.path), try ImageFolder(listing: [folder.path])] {
            XCTAssertEqual(
                (0..<images.count).map(images.path),
                ["caf\u{FFFD}.png", "caf\u{FFFD}.png", "good.png"].map(folder.file))
            var reports: [String] = []
            let loader = BatchLoader(
                once: images, augmentation: Augmentation(width: 2, height: 2, channels: 1, framing: .whole),
                batchSize: 3,
                workers: 1, unreadableLimit: 0.5, report: { reports.append("\($0)") })
            defer { loader.stop() }
            let destination = Destination(3, Augmentation(width: 2, height: 2, channels: 1))
            XCTAssertEqual(try loader.next(into: destination.tensor)?.images, [0, 2])
            XCTAssertEqual(loader.unreadableCount, 1)
            let path = folder.file("caf\u{FFFD}.png")
            XCTAssertEqual(reports, ["cannot open \(path), as its name is not valid UTF-8: rename it; it is left out"])
        }

        XCTAssertEqual(mkdir(path(""), 0o700), 0)
        defer { rmdir(path("")) }
        let expected = Failure(
            .inputOutput,
            "cannot open the folder \(folder.file("caf\u{FFFD}")), as its name is not valid UTF-8: rename it")
        XCTAssertEqual(failure { _ = try ImageFolder(folder.path) }, expected)
        XCTAssertEqual(failure { _ = try ImageFolder(listing: [folder.path]) }, expected)
        // A command line replaces the invalid bytes, and then the path does not exist.
        let named = folder.file("th\u{FFFD}.png")
        for attempt in [{ _ = try ImageFolder(listing: [named]) }, { _ = try Pixels(contentsOf: named) }]
            as [() throws -> Void]
        {
            XCTAssertEqual(
                failure(attempt),
                Failure(.inputOutput, "cannot open \(named), as its name is not valid UTF-8: rename it"))
        }
    }

    /// The directories of a folder may be the parts of a data set.
    func testEvaluationPart() throws {
        for (files, part) in [
            (["train/a/0.png", "val/a/1.png", "val/b/2/3.png"], "val"), (["train/a/0.png", "test/a/1.png"], "test"),
            // Not known as parts; without classes in one; only for training; no directories at all.
            (["train/a/0.png", "a/a/1.png"], nil), (["train/a/0.png", "val/1.png"], nil), (["train/a/0.png"], nil),
            (["0.png"], nil),
        ] as [([String], String?)] {
            let folder = try folder(files)
            for place in [folder.path, folder.path + "/"] {
                XCTAssertEqual(
                    try ImageFolder(place).evaluationPart, part.map { "\(folder.path)/\($0)" }, "\(files)")
            }
        }
    }

    func testErrorsSayWhatIsWrong() throws {
        let folder = try folder(["only/notes.txt", "file.jpg/", "x"])
        for (path, code, reason) in [
            (folder.file("missing"), Failure.Code.inputOutput, "No such file"),
            (folder.file("x"), .inputOutput, "is not a folder"),
            (folder.path, .badData, "holds no images (.jpg"),
            (
                folder.path, .badData,
                "class directories: name one with JPEG, PNG, WebP, GIF, BMP or PNM files, as no others can be decoded"
            ),
        ] {
            let failure = failure { _ = try ImageFolder(path) }
            XCTAssertEqual(failure?.code, code)
            XCTAssert(
                failure?.message.contains(path) == true && failure?.message.contains(reason) == true,
                "\(failure as Any)")
        }
        // An empty path is shown as "".
        let reason = "No such file or directory; check the path and its permissions"
        XCTAssertEqual(
            failure { _ = try ImageFolder("") }, Failure(.inputOutput, "cannot open the folder \"\": \(reason)"))
        XCTAssertEqual(
            failure { _ = try ImageFolder(listing: [""]) }, Failure(.inputOutput, "cannot open \"\": \(reason)"))
    }

    /// Warnings, not only notes: what is probably another folder than was meant. What classes are called does not depend
    /// on where images lie.
    func testWarnsOfWhatWasProbablyNotMeant() throws {
        func folder(_ names: [String]) throws -> ImageCollection {
            let folder = TemporaryFolder()
            for name in names {
                let path = folder.file(name)
                try FileManager.default.createDirectory(
                    atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
                folder.write("x".utf8, name)
            }
            folder.write(TarBuilder.archive(names.map { ($0, []) }), "all.tar")
            folder.write(
                Array(names.map { "\($0),\($0.split(separator: "/")[0])\n" }.joined().utf8), "list.csv")
            let source = try ImageCollection(ImagePlaces(folder.path))
            for name in ["all.tar", "list.csv"] where source.warnings.allSatisfy({ !$0.contains("are left out") }) {
                let other = try ImageCollection(ImagePlaces(folder.file(name)), indexes: ArchiveIndexes(.memory))
                XCTAssertEqual(
                    other.warnings.map { $0.replacingOccurrences(of: folder.file(name), with: "") }.map {
                        $0.prefix(60)
                    },
                    source.warnings.map { $0.replacingOccurrences(of: folder.path, with: "") }.map { $0.prefix(60) })
                let both = try ImageCollection(
                    ImagePlaces([folder.path, folder.file(name)]), indexes: ArchiveIndexes(.memory))
                XCTAssertEqual(both.warnings.count, source.warnings.count, "once: \(both.warnings)")
            }
            return source
        }
        XCTAssertEqual(try folder(["cat/a.png", "dog/b.png", "c.png"]).warnings, [])
        let strays = try folder(["thumbnails/a.png", "b.png", "c.png"]).warnings
        XCTAssertEqual(strays.count, 1)
        XCTAssertTrue(strays[0].contains("2 lie directly in it, and 1 in its directories"), strays[0])
        let parts = try folder(["train/cat/a.png", "val/cat/b.png"]).warnings
        XCTAssertEqual(parts.count, 1)
        XCTAssertTrue(parts[0].contains("are called train, val") && parts[0].hasSuffix("/train"), parts[0])
        XCTAssertEqual(try folder(["train/a.png", "bus/b.png"]).warnings, [], "a train beside a bus")
        let same = try folder(["Cat/a.png", "cat/b.png", "sea lion/c.png", "sea_lion/d.png"]).warnings
        XCTAssertEqual(same.count, 2)
        XCTAssertTrue(same[0].contains("Cat and cat of ") && same[1].contains("sea lion and sea_lion of "), "\(same)")
    }
}
