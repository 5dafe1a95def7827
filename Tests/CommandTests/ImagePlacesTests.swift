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
            "a list that ends in .csv or .txt")
    }
}
