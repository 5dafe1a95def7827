import Foundation
import Reporting
import TestSupport
import Weights
import XCTest

/// Files that appear together or not at all.
final class FileGroupTests: XCTestCase {
    private let folder = TemporaryFolder()
    private struct Stop: Error {}

    private func write(_ text: String, _ names: [String], removing: [String] = []) throws {
        try FileGroup.write(to: names.map(folder.file), removing: removing.map(folder.file)) { files in
            for (name, file) in zip(names, files) { try file.append("\(text) \(name)") }
        }
    }

    private func text(_ name: String) -> String { String(decoding: folder.read(name), as: UTF8.self) }

    func testReplacesAllAndRemovesWhatIsObsolete() throws {
        try write("old", ["list", "labels", "array", "summary"])
        XCTAssertEqual(folder.names(), ["array", "labels", "list", "summary"])
        try write("new", ["list", "array", "summary"], removing: ["labels", "gone"])
        XCTAssertEqual(folder.names(), ["array", "list", "summary"])
        for name in folder.names() { XCTAssertEqual(text(name), "new \(name)") }
    }

    /// What fails before the files are whole leaves the earlier ones as they were; nothing was seen of the new ones.
    func testAFailureLeavesTheEarlierFiles() throws {
        try write("old", ["list", "array"])
        XCTAssertThrowsError(
            try FileGroup.write(to: ["list", "array"].map(folder.file)) { files in
                for file in files { try file.append("new") }
                XCTAssertEqual(folder.names().count, 4)
                XCTAssertEqual(text("array"), "old array")
                throw Stop()
            }
        ) { XCTAssertTrue($0 is Stop) }
        XCTAssertEqual(
            failure {
                try TemporaryFolder.limitingFileSize(to: 100) {
                    try FileGroup.write(to: ["list", "array"].map(folder.file)) { files in
                        try files[0].append("new")
                        try files[1].append(String(repeating: "new", count: 1000))
                    }
                }
            }?.code, .inputOutput)
        XCTAssertEqual(failure { try write("new", ["list", "nowhere/array"]) }?.code, .inputOutput)
        XCTAssertEqual(folder.names(), ["array", "list"])
        for name in folder.names() { XCTAssertEqual(text(name), "old \(name)") }
    }

    /// A summary is of the bytes as they are in the file, overwritten ones included.
    /// What appears while files that must be new are written is kept, and none of the new ones stays beside it.
    func testWhatAppearsIsKept() throws {
        let names = ["list", "labels", "array", "summary"]
        for appearing in names {
            let subfolder = TemporaryFolder()
            let paths = names.map(subfolder.file)
            AtomicFile.requireNew(paths.map { $0.replacingOccurrences(of: "/list", with: "//list") })
            let failed = failure {
                try FileGroup.write(to: paths, removing: paths) { files in
                    for file in files { try file.append("new") }
                    try Data("another's".utf8).write(to: URL(fileURLWithPath: subfolder.file(appearing)))
                }
            }
            XCTAssertEqual(failed?.code, .usage, appearing)
            XCTAssertEqual(
                failed?.message.contains("\"\(subfolder.file(appearing))\" appeared"), true, "\(failed as Any)")
            XCTAssertEqual(subfolder.names(), [appearing])
            XCTAssertEqual(String(decoding: subfolder.read(appearing), as: UTF8.self), "another's")
            unlink(subfolder.file(appearing))
            try FileGroup.write(to: paths) { files in for file in files { try file.append("new") } }
            XCTAssertEqual(subfolder.names(), names.sorted())
        }
    }

    func testSummary() throws {
        var found: (byteCount: Int, checksum: UInt64)?
        try FileGroup.write(to: ["list", "array"].map(folder.file)) { files in
            try files[1].append(String(repeating: "-", count: 3_000_000))
            try files[1].append("end")
            try Array("start".utf8).withUnsafeBytes { try files[1].overwrite($0, at: 0) }
            found = try files[1].summary()
        }
        let bytes = folder.read("array")
        var hash = XXHash64()
        bytes.withUnsafeBytes { hash.update($0) }
        XCTAssertEqual(found?.byteCount, 3_000_003)
        XCTAssertEqual(found?.checksum, hash.finish())
    }

    func testANewFolderAppearsWhole() throws {
        for path in ["a", "b/"] {
            try FileGroup.write(folder: folder.file(path), names: ["config", "weights"], form: "timm") { files in
                for file in files { try file.append("new") }
                XCTAssertEqual(folder.names().filter { !$0.contains(".part-") }, path == "a" ? [] : ["a"])
            }
        }
        XCTAssertEqual(folder.names(), ["a", "b"])
        for name in ["a", "b"] {
            XCTAssertEqual(
                try FileManager.default.contentsOfDirectory(atPath: folder.file(name)).sorted(), ["config", "weights"])
            XCTAssertEqual(text("\(name)/config"), "new")
        }
        XCTAssertThrowsError(
            try FileGroup.write(folder: folder.file("c"), names: ["config", "weights"], form: "timm") { _ in
                throw Stop()
            })
        XCTAssertEqual(folder.names(), ["a", "b"])
    }

    /// In a folder that exists other files stay.
    func testAFolderThatExists() throws {
        try FileManager.default.createDirectory(atPath: folder.file("a"), withIntermediateDirectories: true)
        for name in ["README.md", "config", "weights"] { folder.write("old".utf8, "a/\(name)") }
        for fails in [true, false] {
            do {
                try FileGroup.write(folder: folder.file("a"), names: ["config", "weights"], form: "timm") { files in
                    for file in files { try file.append("new") }
                    if fails { throw Stop() }
                }
            } catch { XCTAssertTrue(fails) }
            XCTAssertEqual(
                try FileManager.default.contentsOfDirectory(atPath: folder.file("a")).sorted(),
                ["README.md", "config", "weights"])
            XCTAssertEqual(text("a/README.md"), "old")
            for name in ["config", "weights"] { XCTAssertEqual(text("a/" + name), fails ? "old" : "new") }
        }
    }

    func testPlacesThatAreNoFolders() throws {
        folder.write("x".utf8, "file")
        XCTAssertEqual(symlink(folder.file("nowhere"), folder.file("dangling")), 0)
        for name in ["file", "dangling"] {
            XCTAssertEqual(
                failure {
                    try FileGroup.write(folder: folder.file(name), names: ["a", "b"], form: "timm") { _ in }
                },
                Failure(
                    .inputOutput,
                    "cannot create folder \"\(folder.file(name))\": something else has that name; \(.form, "timm") writes "
                        + "a folder"))
        }
        XCTAssertEqual(
            failure {
                try FileGroup.write(folder: folder.file("none/a"), names: ["a", "b"], form: "timm") { _ in }
            }?.code, .inputOutput)
        XCTAssertEqual(folder.names(), ["dangling", "file"])
    }

    /// A file that was opened as an input is known by device and inode, whatever leads to it.
    func testInputsAreKnownUnderEveryPath() throws {
        let path = folder.file("w.safetensors")
        try SafeTensorsWriter().write(to: path)
        XCTAssertNoThrow(try InputFiles.requireOther(than: [path]))
        _ = try SafeTensorsFile(path: path)
        XCTAssertEqual(symlink(path, folder.file("link")), 0)
        XCTAssertEqual(link(path, folder.file("hard")), 0)
        let image = folder.write("x".utf8, "image")
        for (output, input) in [
            (path, path), (folder.file("link"), path), (folder.file("hard"), path),
            (folder.file("../\(URL(fileURLWithPath: folder.path).lastPathComponent)/hard"), path), (image, image),
        ] {
            XCTAssertEqual(
                failure { try InputFiles.requireOther(than: [folder.file("other"), output], [image]) },
                Failure(
                    .usage,
                    "the output \"\(output)\" is the input \"\(input)\" itself: name another output"))
        }
        XCTAssertNoThrow(try InputFiles.requireOther(than: [folder.file("other")], [image]))
    }
}
