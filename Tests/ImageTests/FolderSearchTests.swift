import Foundation
import Images
import Reporting
import TestSupport
import XCTest

/// What is passed over in folders of images, and how links are followed.
final class FolderSearchTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func make(_ names: [String]) throws {
        for name in names {
            let parent = name.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
            try FileManager.default.createDirectory(atPath: folder.file(parent), withIntermediateDirectories: true)
            if !name.hasSuffix("/") { folder.write([], name) }
        }
    }

    private func link(_ name: String, to destination: String) {
        XCTAssertEqual(symlink(destination, folder.file(name)), 0, name)
    }

    private func names(_ images: ImageFolder) -> [String] { (0..<images.count).map(images.name) }

    /// Thumbnails, bins and hidden files are neither classes nor images.
    func testDebrisIsPassedOver() throws {
        let debris = [
            "@eaDir/1.jpg/SYNOFILE_THUMB_M.jpg", "__MACOSX/._1.jpg", ".ipynb_checkpoints/1-checkpoint.jpg",
            ".thumbnails/1.png", ".Trash-1000/files/1.jpg", "lost+found/1.jpg", "$RECYCLE.BIN/1.jpg",
            "$Recycle.Bin.jpg/", "#recycle/1.jpg", "System Volume Information/1.jpg", ".hidden.jpg", "._1.jpg",
        ]
        try make(["flat/1.jpg", "flat/.DS_Store"] + debris.filter { !$0.contains("Bin.jpg") }.map { "flat/" + $0 })
        let flat = try ImageFolder(folder.file("flat"))
        XCTAssertEqual(flat.classes, [])
        XCTAssertEqual(names(flat), ["1.jpg"])
        XCTAssertEqual(
            flat.notes,
            [
                "hidden files and what systems leave behind are passed over in \(folder.file("flat")): #recycle, "
                    + "$RECYCLE.BIN, .Trash-1000, … (images and folders: 11)"
            ])
        XCTAssertEqual(flat.warnings, [])

        try make(
            ["classes/cat/1.jpg", "classes/cat/._1.jpg", "classes/dog/deep/2.jpg", "classes/cat/@eaDir/1.jpg/t.jpg"]
                + debris.map { "classes/" + $0 } + debris.map { "classes/dog/deep/" + $0 })
        let classes = try ImageFolder(folder.file("classes"))
        // A name that only begins like one of theirs is a folder of the user's.
        XCTAssertEqual(classes.classes, ["$Recycle.Bin.jpg", "cat", "dog"])
        XCTAssertEqual(names(classes), ["cat/1.jpg", "dog/deep/2.jpg"])
        XCTAssertTrue(
            classes.notes.contains { $0.contains(".Trash-1000, … (images and folders: 24)") }, "\(classes.notes)")

        let listed = try ImageFolder(listing: [folder.path])
        XCTAssertEqual(
            names(listed), ["classes/cat/1.jpg", "classes/dog/deep/2.jpg", "flat/1.jpg"].map(folder.file))
        XCTAssertEqual(listed.notes.count, 1)
        XCTAssertTrue(listed.notes[0].contains("are passed over: "), "\(listed.notes)")
        // What is named is taken.
        XCTAssertEqual(names(try ImageFolder(folder.file("flat/.thumbnails"))), ["1.png"])
        XCTAssertEqual(
            names(try ImageFolder(listing: [folder.file("flat/._1.jpg"), folder.file("flat/@eaDir")])),
            [folder.file("flat/._1.jpg"), folder.file("flat/@eaDir/1.jpg/SYNOFILE_THUMB_M.jpg")])
        try make(["only/.1.jpg", "only/@eaDir/1.jpg"])
        XCTAssertEqual(failure { _ = try ImageFolder(folder.file("only")) }?.code, .badData)
    }

    /// Pictures with dmae's mark are no images, unless they are named, listed, wanted or alone.
    func testDrawnPicturesAreLeftOut() throws {
        try make(["flat/1.jpg", "flat/2.png", "classes/cat/1.jpg", "classes/dog/deep/2.png", "classes/out/"])
        let drawn = try PNGWriter.encode(Pixels(width: 2, height: 1, channels: 3, bytes: [0, 0, 0, 9, 9, 9]))
        for name in ["flat/0.PNG", "flat/3.png", "classes/cat/x.png", "classes/out/x.png", "classes/out/y.jpg"] {
            folder.write(drawn, name)
        }
        let flat = folder.file("flat"), classes = folder.file("classes")
        XCTAssertEqual(names(try ImageFolder(flat)), ["1.jpg", "2.png"])
        XCTAssertEqual(
            try ImageFolder(flat).notes,
            ["pictures that dmae drew are left out of \(flat): 0.PNG, 3.png (pictures: 2); a list takes them"])
        XCTAssertEqual(names(try ImageFolder(flat, keepsDrawn: true)), ["0.PNG", "1.jpg", "2.png", "3.png"])
        let labelled = try ImageFolder(classes)
        XCTAssertEqual(names(labelled), ["cat/1.jpg", "dog/deep/2.png", "out/y.jpg"])
        XCTAssertEqual((0..<3).map(labelled.label), [0, 1, 2])
        try FileManager.default.removeItem(atPath: classes + "/out/y.jpg")
        XCTAssertTrue(
            try ImageFolder(classes).notes.contains { $0.contains("without images keep their class index: out ") })
        let listing = try ImageFolder(listing: [flat, flat + "/3.png", classes])
        XCTAssertEqual(
            names(listing),
            ["classes/cat/1.jpg", "classes/dog/deep/2.png", "flat/1.jpg", "flat/2.png", "flat/3.png"].map(folder.file))
        XCTAssertTrue(listing.notes[0].hasSuffix("(pictures: 3); a list takes them"), "\(listing.notes)")
        XCTAssertEqual(names(try ImageFolder(folder.file("classes/out"))), ["x.png"])
        folder.write("flat/3.png\nflat/1.jpg\n".utf8, "list.txt")
        XCTAssertEqual(try ImageCollection(ImagePlaces(folder.file("list.txt"))).count, 2)
    }

    /// A directory that may not be read is an error where labels are used, and passed over with a warning elsewhere.
    func testClosedDirectories() throws {
        try make(["flat/1.jpg", "flat/closed/2.jpg", "flat/lost+found/3.jpg"])
        try make(["classes/cat/1.jpg", "classes/cat/closed/2.jpg", "classes/dog/3.jpg", "all/closed/1.jpg"])
        let closed = ["flat/closed", "flat/lost+found", "classes/cat/closed", "all/closed"].map(folder.file)
        for path in closed { XCTAssertEqual(chmod(path, 0), 0) }
        defer { for path in closed { chmod(path, 0o700) } }
        // Root may read all, so the test becomes another user for a while.
        let isRoot = geteuid() == 0
        if isRoot {
            for path in [folder.path, "flat", "classes", "all", "classes/cat", "classes/dog"] {
                XCTAssertEqual(chmod(path.hasPrefix("/") ? path : folder.file(path), 0o755), 0)
            }
            XCTAssertEqual(seteuid(65534), 0)
        }
        defer { if isRoot { XCTAssertEqual(seteuid(0), 0) } }
        func message(_ path: String) -> String {
            "cannot open the folder \(folder.file(path)): Permission denied; check the path and its permissions"
        }
        func refusal(_ path: String) -> Failure { Failure(.inputOutput, "\(message(path))") }

        XCTAssertEqual(failure { _ = try ImageFolder(folder.file("flat")) }, refusal("flat/closed"))
        let flat = try ImageFolder(folder.file("flat"), usesLabels: false)
        XCTAssertEqual(names(flat), ["1.jpg"])
        XCTAssertEqual(flat.warnings, [message("flat/closed") + "; it is passed over"])
        let listed = try ImageFolder(listing: [folder.file("flat"), folder.file("classes")])
        XCTAssertEqual(names(listed), ["classes/cat/1.jpg", "classes/dog/3.jpg", "flat/1.jpg"].map(folder.file))
        XCTAssertEqual(
            listed.warnings, ["flat/closed", "classes/cat/closed"].map { message($0) + "; it is passed over" })

        XCTAssertEqual(failure { _ = try ImageFolder(folder.file("classes")) }, refusal("classes/cat/closed"))
        let unlabelled = try ImageFolder(folder.file("classes"), usesLabels: false)
        XCTAssertEqual(names(unlabelled), ["cat/1.jpg", "dog/3.jpg"])
        XCTAssertEqual(unlabelled.warnings, [message("classes/cat/closed") + "; it is passed over"])
        let places = ImagePlaces(folder.file("classes"))
        XCTAssertEqual(try ImageCollection(places, usesLabels: false).warnings, unlabelled.warnings)

        // The folder itself, and a folder without anything else.
        for path in ["flat/closed", "all/closed"] {
            XCTAssertEqual(failure { _ = try ImageFolder(folder.file(path), usesLabels: false) }, refusal(path))
            XCTAssertEqual(failure { _ = try ImageFolder(listing: [folder.file(path)]) }, refusal(path))
        }
        XCTAssertEqual(failure { _ = try ImageFolder(folder.file("all"), usesLabels: false) }, refusal("all/closed"))
        XCTAssertEqual(failure { _ = try ImageFolder(listing: [folder.file("all")]) }, refusal("all/closed"))
    }

    /// A tree of 24 folders, each with two links to the next, has 2^24 paths to its one image, which is found once.
    func testLinksThatBranch() throws {
        let depth = 24
        try make((0..<depth).map { "tree/\($0)/" } + ["tree/\(depth)/x.jpg", "tree/\(depth)/y.png"])
        for level in 0..<depth {
            link("tree/\(level)/a", to: "../\(level + 1)")
            link("tree/\(level)/b", to: "../\(level + 1)")
        }
        let path = Array(repeating: "a", count: depth).joined(separator: "/")
        let classes = try ImageFolder(folder.file("tree/0"))
        XCTAssertEqual(classes.classes, ["a", "b"])
        let below = String(path.dropFirst(2))
        XCTAssertEqual(
            names(classes), ["a/\(below)/x.jpg", "a/\(below)/y.png", "b/\(below)/x.jpg", "b/\(below)/y.png"])
        XCTAssertEqual(
            names(try ImageFolder(listing: [folder.file("tree/0")])),
            ["x.jpg", "y.png"].map { folder.file("tree/0/\(path)/\($0)") })
        // Where there is a path without links, it is that one.
        XCTAssertEqual(
            names(try ImageFolder(listing: [folder.file("tree")])),
            ["x.jpg", "y.png"].map { folder.file("tree/\(depth)/\($0)") })
    }

    /// A directory is read by its own path, and a link beside it adds nothing.
    func testOwnPathsComeBeforeLinks() throws {
        try make(["data/cat/z/1.jpg", "data/cat/y/2.jpg", "data/dog/3.jpg", "pool/4.jpg"])
        link("data/cat/a", to: "z")
        link("data/dog/more", to: "../cat")
        link("data/dog/pool", to: "../../pool")
        link("data/dog/again", to: "../../pool")
        XCTAssertEqual(
            names(try ImageFolder(folder.file("data"))),
            [
                "cat/y/2.jpg", "cat/z/1.jpg", "dog/3.jpg", "dog/again/4.jpg", "dog/more/y/2.jpg", "dog/more/z/1.jpg",
            ])
    }
}
