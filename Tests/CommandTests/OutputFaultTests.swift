import Foundation
import TestSupport
import XCTest

/// A command that writes several files is stopped at each of its system calls: no new file stands beside an old one, and
/// what is confirmed is whole.
///
/// Where processes may not be traced, these tests are skipped.
final class OutputFaultTests: XCTestCase {
    private static let weights = Fixtures.path("weights/mae/mae.safetensors")

    /// The calls of a sequence that writes files.
    private static let calls = ["fsync", "unlink", "rename", "renameat2", "mkdir"]

    /// Stops `arguments` at each call in turn, by an error and by a kill.
    ///
    /// - Parameters:
    ///   - prepare: puts an earlier result into a new folder.
    ///   - check: judges the folder. `isKilled`: parts may be left.
    /// - Returns: number of stops.
    private func stop(
        _ arguments: (TemporaryFolder) -> [String], prepare: (TemporaryFolder) throws -> Void,
        check: (TemporaryFolder, _ isKilled: Bool, _ what: String) throws -> Void
    ) throws -> Int {
        var stops = 0
        for call in Self.calls {
            for fault in ["error=EIO", "signal=KILL"] {
                for number in 1... {
                    let folder = TemporaryFolder()
                    try prepare(folder)
                    let result = Strace.run(arguments(folder), "\(call):\(fault):when=\(number)")
                    let what = "\(call) \(number), \(fault)"
                    if result.end == .exited(0) {
                        try check(folder, false, what)
                        break
                    }
                    stops += 1
                    if fault == "signal=KILL" {
                        XCTAssertEqual(result.end, .killed(signal: SIGKILL), what)
                    } else {
                        assertRefused(result, 74, ["Input/output error"])
                    }
                    try check(folder, fault == "signal=KILL", what)
                    if number > 40 { return stops }
                }
            }
        }
        return stops
    }

    /// Which of two results a file is of.
    private func states(_ folder: TemporaryFolder, _ names: [String], old: [String: [UInt8]], new: [String: [UInt8]])
        -> [String: String]
    {
        var states: [String: String] = [:]
        for name in names where FileManager.default.fileExists(atPath: folder.file(name)) {
            let bytes = folder.read(name)
            states[name] = bytes == new[name] ? "new" : bytes == old[name] ? "old" : "damaged"
        }
        return states
    }

    func testEmbed() throws {
        try Strace.require()
        let reference = TemporaryFolder(), names = ["x.npy", "x.npy.files.txt", "x.npy.json"]
        func embed(_ folder: TemporaryFolder, _ picture: String) -> [String] {
            [
                "embed", "--weights", Self.weights, "--heads", "4", "--threads", "1", "--quiet", "--data",
                Fixtures.path("weights/images/\(picture).png"), "--output", folder.file("x.npy"), "--force",
            ]
        }
        func files(_ picture: String) -> [String: [UInt8]] {
            assertRuns(embed(reference, picture))
            return Dictionary(uniqueKeysWithValues: names.map { ($0, reference.read($0)) })
        }
        let old = files("0"), new = files("1")
        for name in names { XCTAssertNotEqual(old[name], new[name]) }
        let stops = try stop({ embed($0, "1") }) { folder in
            for name in names { folder.write(old[name]!, name) }
        } check: { folder, isKilled, what in
            let states = states(folder, names, old: old, new: new)
            XCTAssertLessThanOrEqual(Set(states.values).count, 1, "\(what): \(states)")
            XCTAssertFalse(states.values.contains("damaged"), "\(what): \(states)")
            // Confirmed is what is there as a whole.
            if states["x.npy.json"] != nil { XCTAssertEqual(states.count, 3, "\(what): \(states)") }
            // After an error nothing of the new result is left, unless it is whole.
            if !isKilled, states["x.npy.json"] == nil {
                XCTAssertFalse(states.values.contains("new"), "\(what): \(states)")
            }
            if !isKilled { XCTAssertEqual(folder.names().filter { $0.contains(".part-") }, [], what) }
        }
        print("embed: stopped at \(stops) places")
        XCTAssertGreaterThan(stops, 20)
    }

    /// A file that the system cannot tell about does not count as absent: neither a configuration beside weights nor an
    /// output that may be an input.
    func testWhatCannotBeExamined() throws {
        try Strace.require()
        let folder = TemporaryFolder(), model = folder.file("model"), output = folder.file("m.safetensors")
        try FileManager.default.copyItem(atPath: Fixtures.path("weights/huggingface/vitmae-sharded"), toPath: model)
        for path in [model + "/config.json", output] {
            let result = Strace.run(
                ["convert", model, output, "--to", "timm", "--encoder-only"], "newfstatat,stat,lstat:error=EACCES",
                at: path)
            assertRefused(result, 74, ["cannot examine \"\(path)\": Permission denied"])
            XCTAssertEqual(folder.names(), ["model"])
        }
    }

    /// A folder with another model in it, and a new folder.
    func testConvertToHuggingFace() throws {
        try Strace.require()
        let names = ["config.json", "preprocessor_config.json", "model.safetensors"]
        func convert(_ folder: TemporaryFolder, _ more: String...) -> [String] {
            [
                "convert", Self.weights, folder.file("hub"), "--to", "huggingface", "--heads", "4", "--decoder-heads",
                "4",
                "--force",
            ] + more
        }
        func files(_ more: String...) -> [String: [UInt8]] {
            let folder = TemporaryFolder()
            assertRuns(convert(folder) + more)
            return Dictionary(uniqueKeysWithValues: names.map { ($0, folder.read("hub/" + $0)) })
        }
        let old = files("--mean", "0.5", "--dtype", "bf16"), new = files()
        for name in names { XCTAssertNotEqual(old[name], new[name]) }
        for isNew in [true, false] {
            let stops = try stop({ convert($0) }) { folder in
                guard !isNew else { return }
                mkdir(folder.file("hub"), 0o700)
                for name in names { folder.write(old[name]!, "hub/" + name) }
            } check: { folder, isKilled, what in
                var found: [String: String] = [:]
                for (name, state) in states(
                    folder, names.map { "hub/" + $0 },
                    old: Dictionary(uniqueKeysWithValues: old.map { ("hub/" + $0, $1) }),
                    new: Dictionary(uniqueKeysWithValues: new.map { ("hub/" + $0, $1) }))
                { found[name] = state }
                XCTAssertLessThanOrEqual(Set(found.values).count, 1, "\(what): \(found)")
                XCTAssertFalse(found.values.contains("damaged"), "\(what): \(found)")
                if found["hub/model.safetensors"] != nil { XCTAssertEqual(found.count, 3, "\(what): \(found)") }
                if isNew { XCTAssertTrue([0, 3].contains(found.count), "\(what): \(found)") }
                guard !isKilled else { return }
                let all = FileManager.default.enumerator(atPath: folder.path)!.compactMap { $0 as? String }
                XCTAssertEqual(all.filter { $0.contains(".part-") }, [], what)
            }
            print("convert into a \(isNew ? "new" : "used") folder: stopped at \(stops) places")
            XCTAssertGreaterThan(stops, isNew ? 8 : 15)
        }
    }
}
