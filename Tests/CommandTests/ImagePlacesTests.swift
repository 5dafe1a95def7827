import Foundation
import TestSupport
import Training
import Weights
import XCTest

/// Runs on the same pictures from folders, several at a time, and lists.
final class ImagePlacesTests: XCTestCase {
    private let folder = TemporaryFolder()
    private static let pictures = try! FileManager.default.contentsOfDirectory(atPath: TinyRun.data).sorted()

    /// Links to the demo's pictures, under their names, in a new folder.
    private func link(_ names: [String], in place: String) throws -> String {
        try FileManager.default.createDirectory(atPath: folder.file(place), withIntermediateDirectories: true)
        for name in names {
            try FileManager.default.createSymbolicLink(
                atPath: folder.file("\(place)/\(name)"), withDestinationPath: "\(TinyRun.data)/\(name)")
        }
        return folder.file(place)
    }

    private func pretrain(_ run: String, _ data: [String], _ more: [String] = []) -> [String] {
        var arguments = TinyRun.pretrain(folder.file(run), epochs: 4, data: data[0], ["--quiet"] + more)
        arguments.insert(contentsOf: data.dropFirst(), at: arguments.firstIndex(of: data[0])! + 1)
        return arguments
    }

    private func assertSameTensors(_ one: String, _ other: String, file: StaticString = #filePath, line: UInt = #line)
        throws
    {
        let files = try [one, other].map { try SafeTensorsFile(path: folder.file("\($0)/model.safetensors")) }
        XCTAssertEqual(files[0].entries.map(\.name), files[1].entries.map(\.name), file: file, line: line)
        for entry in files[0].entries {
            let bytes = try files.map { try $0.withBytes(entry.name) { Array($0) } }
            XCTAssertEqual(bytes[0], bytes[1], entry.name, file: file, line: line)
        }
        XCTAssertEqual(
            try TinyRun.log(folder.file(one)), try TinyRun.log(folder.file(other)), file: file, line: line)
    }

    /// The same pictures under the same names give the same run, wherever they lie.
    func testTheSameRun() throws {
        let names = Self.pictures
        let odd = try link(names.enumerated().filter { $0.offset % 2 == 1 }.map(\.element), in: "part-1")
        let even = try link(names.enumerated().filter { $0.offset % 2 == 0 }.map(\.element), in: "part-2")
        folder.write(Array(names.reversed().joined(separator: "\n").utf8), "list.txt")
        _ = try link(names, in: ".")
        assertRuns(pretrain("folder", [TinyRun.data]))
        assertRuns(pretrain("twice", [odd], ["--data", even]))
        assertRuns(pretrain("braces", [folder.file("part-{2..1}")]))
        assertRuns(pretrain("list", [folder.file("list.txt")]))
        for run in ["twice", "braces", "list"] { try assertSameTensors("folder", run) }
        let kept = try JSONDecoder().decode(
            TrainingConfiguration.self, from: TinyRun.bytes(folder.file("twice/configuration.json")))
        XCTAssertEqual(kept.data.paths, [odd, even])

        // A run goes on wherever the same pictures are, and nowhere else.
        try FileManager.default.removeItem(atPath: folder.file("twice/model.safetensors"))
        assertRuns(pretrain("twice", [folder.file("list.txt")], ["--resume", "auto"]))
        try assertSameTensors("folder", "twice")
        assertRefused(
            pretrain("twice", [odd, even, odd], ["--resume", "auto"]), 65, "\(odd), \(even), \(odd): holds",
            "images, but \(names.count) when the run was started")
    }

    private static func content(_ name: String) throws -> [UInt8] {
        [UInt8](try TinyRun.bytes("\(TinyRun.data)/\(name)"))
    }

    /// A distillation of pictures in class directories: from a folder, from an archive of it with its members in another
    /// order, from two parts of it, from an archive for each class, from an archive of archives, and from a list; resumed
    /// from one to the other.
    func testArchivesGiveTheSameRun() throws {
        assertRuns(TinyRun.pretrain(folder.file("teacher"), epochs: 2, ["--quiet"]))
        let teacher = folder.file("teacher/model.safetensors")
        let members = try Self.pictures.enumerated().map { index, name in
            (path: "\(["n01440764", "n01443537"][index % 2])/\(name)", content: try Self.content(name))
        }
        for name in ["data", "classes"] {
            try FileManager.default.createDirectory(atPath: folder.file(name), withIntermediateDirectories: true)
        }
        for (path, content) in members {
            try FileManager.default.createDirectory(
                atPath: (folder.file("data/" + path) as NSString).deletingLastPathComponent,
                withIntermediateDirectories: true)
            folder.write(content, "data/" + path)
        }
        folder.write(TarBuilder.archive(members.reversed().map { ("./train/" + $0.path, $0.content) }), "whole.tar")
        for part in 0..<2 {
            let own = members.enumerated().filter { $0.offset / 2 % 2 == part }.map(\.element)
            folder.write(TarBuilder.archive(own), "part-0\(part).tar")
        }
        var outer: [(String, [UInt8])] = []
        for name in ["n01443537", "n01440764"] {
            let own = members.filter { $0.path.hasPrefix(name) }.map { (String($0.path.dropFirst(10)), $0.content) }
            folder.write(TarBuilder.archive(own), "classes/\(name).tar")
            outer.append(("\(name).tar", TarBuilder.archive(own)))
        }
        folder.write(TarBuilder.archive(outer), "outer.tar")
        folder.write(
            Array(
                ("path,label\n" + members.map { "data/\($0.path),\($0.path.prefix(9))" }.joined(separator: "\n")).utf8),
            "list.csv")
        let cache = ["XDG_CACHE_HOME": folder.file("cache")]
        func distill(_ run: String, _ data: String, _ more: [String] = []) -> [String] {
            TinyRun.distill(
                folder.file(run), teacher: teacher, epochs: 4, data: folder.file(data),
                ["--checkpoint-every", "2"] + more)
        }
        assertRuns(distill("folder", "data"), environment: cache)
        for (run, data, archives) in [
            ("whole", "whole.tar", 1), ("parts", "part-{01..00}.tar", 2), ("classes run", "classes", 2),
            ("outer", "outer.tar", 1),
        ] {
            let result = assertRuns(distill(run, data), environment: cache)
            XCTAssertTrue(result.errors.contains(": 9 images, 2 classes (n01440764, n01443537)\n"), result.errors)
            try assertSameTensors("folder", run)
            // What is kept is in the run's folder, and nowhere else.
            let count = try FileManager.default.contentsOfDirectory(atPath: folder.file("\(run)/archives")).count
            XCTAssertEqual(count, archives)
        }
        XCTAssertFalse(FileManager.default.fileExists(atPath: folder.file("cache")))
        XCTAssertFalse(FileManager.default.fileExists(atPath: folder.file("folder/archives")))
        // The paths in the list are others, and with them the names; order and result are not.
        assertRuns(distill("list", "list.csv"), environment: cache)
        try assertSameTensors("folder", "list")

        // Back to a checkpoint in the middle, and on with the other form.
        for (run, data) in [("folder", "outer.tar"), ("parts", "data")] {
            try FileManager.default.removeItem(atPath: folder.file("\(run)/model.safetensors"))
            let first = try XCTUnwrap(TinyRun.checkpoints(folder.file(run)).first)
            assertRuns(distill(run, data, ["--resume", folder.file("\(run)/\(first)")]), environment: cache)
            try assertSameTensors("whole", run)
        }
        // An index in the run's folder is used, if the archive is the same.
        let index = try XCTUnwrap(
            FileManager.default.contentsOfDirectory(atPath: folder.file("whole/archives")).first)
        let before = try TinyRun.bytes(folder.file("whole/archives/\(index)"))
        folder.write([1, 2, 3], "whole/archives/\(index)")
        assertRuns(distill("whole", "whole.tar", ["--resume", "auto"]), environment: cache)
        XCTAssertEqual(try TinyRun.bytes(folder.file("whole/archives/\(index)")), before)
        folder.write(TarBuilder.archive(Array(members.dropLast())), "whole.tar")
        assertRefused(
            Command.run(distill("whole", "whole.tar", ["--resume", "auto"]), environment: cache), 65,
            ["whole.tar: holds 8 images, but 9 when the run was started"])
    }

    /// With windows a run is another one, and goes on after a stop as if there had been none.
    func testShuffleWindow() throws {
        let window = ["--shuffle-window", "3", "--checkpoint-every", "2", "--keep", "9"]
        assertRuns(pretrain("plain", [TinyRun.data]))
        assertRuns(pretrain("whole", [TinyRun.data], window))
        assertRuns(pretrain("resumed", [TinyRun.data], window + ["--workers", "2"]))
        XCTAssertNotEqual(try TinyRun.log(folder.file("plain")), try TinyRun.log(folder.file("whole")))
        try assertSameTensors("whole", "resumed")
        try FileManager.default.removeItem(atPath: folder.file("resumed/model.safetensors"))
        let first = try XCTUnwrap(TinyRun.checkpoints(folder.file("resumed")).first)
        let resume = ["--resume", folder.file("resumed/\(first)")]
        assertRuns(pretrain("resumed", [TinyRun.data], window + resume))
        try assertSameTensors("whole", "resumed")
        // Where the same images lie in the same order, the run goes on; in another order it would show other images.
        let members = try Self.pictures.map { ($0, try Self.content($0)) }
        folder.write(TarBuilder.archive(members), "same.tar")
        folder.write(TarBuilder.archive(members.reversed()), "other.tar")
        for (name, own) in [("1.tar", members.prefix(4)), ("2.tar", members.dropFirst(4))] {
            folder.write(TarBuilder.archive(Array(own)), name)
        }
        func resumed(_ data: String...) throws -> [String] {
            try? FileManager.default.removeItem(atPath: folder.file("resumed/model.safetensors"))
            return pretrain("resumed", data.map(folder.file), window + resume)
        }
        assertRuns(try resumed("same.tar"))
        try assertSameTensors("whole", "resumed")
        assertRuns(try resumed("1.tar", "2.tar"))
        try assertSameTensors("whole", "resumed")
        for data in [try resumed("other.tar"), try resumed("2.tar", "1.tar")] {
            assertRefused(
                data, 65,
                "holds the images in another order than when the run was started, and with --shuffle-window the "
                    + "order decides: name the same folders, archives and lists, in the same order")
        }
        assertRefused(
            pretrain("resumed", [TinyRun.data], ["--resume", "auto"]), 64,
            "was taken with --shuffle-window 3, not no --shuffle-window")
        assertRefused(
            pretrain("run", [TinyRun.data], ["--shuffle-window", "1"]), 64, "--shuffle-window must be at least 2")
    }

    /// Commands without a run keep indexes in the user's cache; lists of images name members by archive and path.
    func testEmbedding() throws {
        let names = Array(Self.pictures.prefix(3))
        folder.write(TarBuilder.archive(try names.map { ("x/" + $0, try Self.content($0)) }), "a.tar")
        let plain = try link(names, in: "x")
        let cache = ["XDG_CACHE_HOME": folder.file("cache")]
        func embed(_ data: [String], _ output: String) -> [String] {
            [
                "embed", "--weights", Fixtures.path("demo/teacher.safetensors"), "--quiet", "--force", "--output",
                folder.file(output), "--data",
            ]
                + data
        }
        assertRuns(embed([plain], "folder.npy"))
        for _ in 0..<2 { assertRuns(embed([folder.file("a.tar")], "tar.npy"), environment: cache) }
        XCTAssertEqual(try TinyRun.bytes(folder.file("folder.npy")), try TinyRun.bytes(folder.file("tar.npy")))
        XCTAssertEqual(
            try String(contentsOfFile: folder.file("tar.npy.files.txt"), encoding: .utf8),
            names.map { folder.file("a.tar/x/\($0)") + "\n" }.joined())
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: folder.file("cache/dmae/archives")).count, 1)
        // A cache that cannot be written is no obstacle.
        assertRuns(embed([folder.file("a.tar")], "tar.npy"), environment: ["XDG_CACHE_HOME": folder.file("a.tar")])
        // No output replaces an archive.
        let copy = folder.file("copy.npy")
        try FileManager.default.createSymbolicLink(atPath: copy, withDestinationPath: folder.file("a.tar"))
        assertRefused(
            embed([folder.file("a.tar")], "copy.npy"), 64, "is the input \"\(folder.file("a.tar"))\" itself")
        // A member that is no picture is named after its archive.
        folder.write(TarBuilder.archive(["x/1.jpg": "text"]), "text.tar")
        let result = Command.run(embed([folder.file("text.tar")], "text.npy"), environment: cache)
        XCTAssertEqual(result.end, .exited(65))
        XCTAssertTrue(result.errors.contains("\(folder.file("text.tar")): x/1.jpg is a text"), result.errors)
        assertRefused(embed([folder.file("a.tar.gz")], "x.npy"), 74, "a.tar.gz\": No such file")
    }

    /// Every option for images takes several places; what a place lacks is said.
    func testRefusals() throws {
        let half = try link(Array(Self.pictures.prefix(4)), in: "half")
        folder.write(Array("half/\(Self.pictures[0])\nhalf/gone.jpg\n".utf8), "list.txt")
        let list = folder.file("list.txt")
        assertRefused(
            pretrain("run", [half, list]), 65, "\(list): line 2 names half/gone.jpg, but",
            "is not there (such lines: 1 of 2)")
        assertRefused(pretrain("run", [half], ["--val", list]), 65, "line 2 names half/gone.jpg")
        assertRefused(
            ["pretrain", "--recipe", "demo-teacher", "--output", folder.file("run"), "--data"], 64, "--data")
        assertRefused(
            ["embed", "--weights", Fixtures.path("demo/teacher.safetensors"), "--data", list, "--output", "x.npy"], 65,
            "line 2 names half/gone.jpg")
        for (flag, other) in [("--train", "--val"), ("--val", "--train")] {
            assertRefused(
                [
                    "knn", "--weights", Fixtures.path("demo/teacher.safetensors"), flag, Fixtures.path("demo/images"),
                    half, other, Fixtures.path("demo/images"),
                ], 65, "\(half) has no classes, but \(Fixtures.path("demo/images")) has")
        }
        folder.write([], "notes.md")
        assertRefused(
            pretrain("run", [folder.file("notes.md")]), 74, "notes.md is not a folder; name the folder",
            "an archive that ends in .tar, or a list that ends in .csv or .txt")
    }
}
