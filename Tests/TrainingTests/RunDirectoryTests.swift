import Reporting
import Foundation
import Tensors
import TestSupport
import Training
import XCTest

final class RunDirectoryTests: XCTestCase {
    private let folder = TemporaryFolder()

    private struct Configuration: Codable, Equatable {
        var student = "vit-base"
        var maskRatio = 0.75
        var data = "/images/train"
        var align = [8]
    }

    func testMakesFoldersAndConfiguration() throws {
        let run = try RunDirectory(path: folder.file("a/b/run"), resuming: false)
        try run.writeConfiguration(Configuration())
        XCTAssertEqual(
            String(decoding: folder.read("a/b/run/configuration.json"), as: UTF8.self),
            """
            {
              "align" : [
                8
              ],
              "data" : "/images/train",
              "maskRatio" : 0.75,
              "student" : "vit-base"
            }

            """)
        XCTAssertEqual(
            String(decoding: try Configuration().sortedJSON(), as: UTF8.self),
            #"{"align":[8],"data":"/images/train","maskRatio":0.75,"student":"vit-base"}"#)
    }

    /// To begin again costs a log at most.
    func testWhatWouldBeLost() throws {
        let run = try RunDirectory(path: folder.file("run"), resuming: true)
        folder.write("{}".utf8, "run/log.jsonl")
        XCTAssertNoThrow(try run.requireNothingToLose())
        folder.write("x".utf8, "run/model.safetensors")
        XCTAssertTrue(failure { try run.requireNothingToLose() }?.message.contains("weights of a finished run") == true)
        folder.write("x".utf8, "run/checkpoint-00000005.safetensors.abandoned")
        XCTAssertTrue(failure { try run.requireNothingToLose() }?.message.contains("an earlier run set aside") == true)
        folder.write("x".utf8, "run/checkpoint-00000005.safetensors")
        XCTAssertEqual(failure { try run.requireNothingToLose() }?.code, .badData)
    }

    func testRefusesAFolderThatHoldsARun() throws {
        for name in ["configuration.json", "log.jsonl", "checkpoint-00000005.safetensors"] {
            let path = folder.file("run-with-\(name)")
            mkdir(path, 0o700)
            folder.write("x".utf8, "run-with-\(name)/\(name)")
            XCTAssertEqual(
                failure { _ = try RunDirectory(path: path, resuming: false) },
                Failure(
                    .usage,
                    "\"\(path)\" already holds a run; resume it with `dmae resume` or \(.resume, "auto"), or name another \(.output) "
                        + "folder"
                ))
            XCTAssertNil(failure { _ = try RunDirectory(path: path, resuming: true) })
            XCTAssertEqual(folder.read("run-with-\(name)/\(name)"), Array("x".utf8))
        }
        mkdir(folder.file("weights"), 0o700)
        folder.write("x".utf8, "weights/model.safetensors")
        XCTAssertEqual(
            failure { _ = try RunDirectory(path: folder.file("weights"), resuming: false) }?.message.contains(
                "would replace"), true)
        // Something else in the folder is no run, nor is a lock left behind.
        folder.write("x".utf8, "notes.txt")
        for _ in 0..<2 { XCTAssertNil(failure { _ = try RunDirectory(path: folder.path, resuming: false) }) }
        XCTAssertNil(failure { _ = try RunDirectory(path: folder.file("empty"), resuming: true) })
    }

    /// A run of another format is not resumed, and its folder stays as it is, without even a lock.
    func testRunsOfOtherFormats() throws {
        let path = folder.file("run")
        for (text, format, version) in [
            (#"{"batch":4}"#, 1, "an earlier"), (#"{"format":2}"#, 2, "an earlier"), (#"{"format":4}"#, 4, "a later"),
        ] {
            mkdir(path, 0o700)
            folder.write(text.utf8, "run/configuration.json")
            folder.write([1], "run/model.safetensors.part-2")
            XCTAssertEqual(
                failure { _ = try RunDirectory(path: path, resuming: true) },
                Failure(
                    .badData,
                    "\(quoted(path: path)) is of a run that \(version) version of dmae started (format \(format); this "
                        + "version resumes "
                        + "format 3): finish it with that version, or start again in another \(.output) folder, where "
                        + "\(.initialStudent) or \(.weights) takes its weights"))
            XCTAssertEqual(
                try FileManager.default.contentsOfDirectory(atPath: path).sorted(),
                ["configuration.json", "model.safetensors.part-2"])
            XCTAssertEqual(folder.read("run/configuration.json"), Array(text.utf8))
            // A new run in that folder is not advised to resume what cannot be resumed.
            folder.write([1], "run/checkpoint-00000001.safetensors")
            XCTAssertEqual(failure { _ = try RunDirectory(path: path, resuming: false) }?.code, .badData)
            XCTAssertFalse(FileManager.default.fileExists(atPath: path + "/lock"))
            try FileManager.default.removeItem(atPath: path + "/checkpoint-00000001.safetensors")
        }
        folder.write(#"{"format":3}"#.utf8, "run/configuration.json")
        XCTAssertNoThrow(try RunDirectory(path: path, resuming: true))
    }

    func testOneProcessAtATime() throws {
        let path = folder.file("run")
        var run: RunDirectory? = try RunDirectory(path: path, resuming: false)
        XCTAssertEqual(run?.path, path)
        for resuming in [false, true] {
            XCTAssertEqual(
                failure { _ = try RunDirectory(path: path, resuming: resuming) },
                Failure(
                    .inputOutput,
                    resuming
                        ? "\"\(path)\" is being written by process \(getpid()); the run goes on there: wait for its end, or end "
                            + "that process first, and `dmae resume \(path)` continues from its checkpoint"
                        : "\"\(path)\" is being written by process \(getpid()); wait for its end or name another \(.output) "
                            + "folder"
                )
            )
        }
        run = nil
        XCTAssertNil(failure { _ = try RunDirectory(path: path, resuming: false) })
    }

    /// Whoever removes the lock of a running process lets a second one in; the first one finds out before it writes.
    func testRemovedLock() throws {
        let path = folder.file("run")
        let first = try RunDirectory(path: path, resuming: false)
        XCTAssertNoThrow(try first.requireLock())
        unlink(path + "/lock")
        var second: RunDirectory? = try RunDirectory(path: path, resuming: true)
        XCTAssertEqual(
            failure { try first.requireLock() }?.message,
            "\"\(path)\" is being written by process \(getpid()); wait for its end or name another output folder")
        XCTAssertNoThrow(try second?.requireLock())
        second = nil
        // Removed, and no other process is there: the lock is taken again.
        XCTAssertNoThrow(try first.requireLock())
        XCTAssertEqual(failure { _ = try RunDirectory(path: path, resuming: true) }?.code, .inputOutput)
        unlink(path + "/lock")
        XCTAssertNoThrow(try first.requireLock())
        XCTAssertEqual(folder.read("run/lock"), Array("\(getpid())\n".utf8))
    }

    /// A start that fails takes away what it wrote, not what others have put there meanwhile.
    func testOthersFilesStayAfterAFailedStart() throws {
        let path = folder.file("deep/run")
        let run = try RunDirectory(path: path, resuming: false)
        try run.writeConfiguration(["format": 3])
        folder.write("mine".utf8, "deep/run/notes.txt")
        run.undoStart(hasTrained: false)
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: path), ["notes.txt"])
        try FileManager.default.removeItem(atPath: path + "/notes.txt")
        run.undoStart(hasTrained: false)
        XCTAssertFalse(FileManager.default.fileExists(atPath: folder.file("deep")))
    }

    /// Files of others called lock are neither followed nor written.
    func testForeignLocks() throws {
        folder.write("precious".utf8, "precious.txt")
        for (name, make) in [
            ("link", { symlink(self.folder.file("precious.txt"), $0) }), ("fifo", { mkfifo($0, 0o600) }),
            ("text", { FileManager.default.createFile(atPath: $0, contents: Data("mine".utf8)) ? 0 : 1 }),
        ] as [(String, (String) -> Int32)] {
            mkdir(folder.file(name), 0o700)
            XCTAssertEqual(make(folder.file("\(name)/lock")), 0)
            let failure = failure { _ = try RunDirectory(path: folder.file(name), resuming: false) }
            XCTAssertEqual(failure?.code, .inputOutput)
            XCTAssertTrue(failure?.message.contains("not the lock of a run: move it away") == true, "\(failure as Any)")
        }
        XCTAssertEqual(folder.read("precious.txt"), Array("precious".utf8))
        XCTAssertEqual(folder.read("text/lock"), Array("mine".utf8))
    }

    /// After a power failure a lock may be empty or hold zeros; it is still the run's.
    func testLockAfterAPowerFailure() throws {
        for (index, content) in [[], [0, 0, 0, 0, 0], Array("123\n".utf8) + [0, 0], Array("12".utf8)].enumerated() {
            mkdir(folder.file("run\(index)"), 0o700)
            folder.write(content, "run\(index)/lock")
            let run = try RunDirectory(path: folder.file("run\(index)"), resuming: true)
            XCTAssertEqual(folder.read("run\(index)/lock"), Array("\(getpid())\n".utf8))
            withExtendedLifetime(run) {}
        }
        mkdir(folder.file("other"), 0o700)
        folder.write([0, 0, 7], "other/lock")
        XCTAssertEqual(
            failure { _ = try RunDirectory(path: folder.file("other"), resuming: true) }?.code, .inputOutput)
    }

    /// A symbolic link in the place of a file of the run is replaced; what it leads to stays.
    func testFilesReplaceLinks() throws {
        folder.write("precious".utf8, "precious")
        let run = try RunDirectory(path: folder.file("run"), resuming: true)
        for name in ["status.json", "configuration.json"] {
            XCTAssertEqual(symlink("../precious", folder.file("run/" + name)), 0)
        }
        try run.writeStatus(.running(step: 1))
        try run.writeConfiguration(["format": 3])
        let store = CheckpointStore(directory: run.path, keep: 1)
        XCTAssertEqual(symlink("../precious", store.path(step: 7)), 0)
        try store.write(step: 7, tensors: [], metadata: [:])
        XCTAssertEqual(try CheckpointStore.open(store.path(step: 7)).step, 7)
        XCTAssertEqual(folder.read("precious"), Array("precious".utf8))
        for name in ["status.json", "configuration.json", "checkpoint-00000007.safetensors"] {
            var status = stat()
            XCTAssertEqual(lstat(folder.file("run/" + name), &status), 0)
            XCTAssertEqual(status.st_mode & S_IFMT, S_IFREG, name)
        }
    }

    func testRemovesLeftoversOfOursAlone() throws {
        let kept = ["checkpoint-00000005.safetensors", "mine.part-12", "checkpoint-5.safetensors.part-3"]
        for name in kept + [
            "checkpoint-00000006.safetensors.part-77", "configuration.json.part-1", "model.safetensors.part-2",
        ] {
            folder.write([1], name)
        }
        _ = try RunDirectory(path: folder.path, resuming: true)
        XCTAssertEqual(folder.names(), (kept + ["lock"]).sorted())
    }

    func testPlacesThatCannotBeUsed() {
        folder.write([1], "file")
        for (path, reason) in [
            (folder.file("file"), "something else has that name; choose another name"),
            (folder.file("file/run"), "Not a directory; choose a place that can be written"),
            ("/proc/run", "No such file or directory; choose a place that can be written"),
        ] {
            XCTAssertEqual(
                failure { _ = try RunDirectory(path: path, resuming: false) },
                Failure(.inputOutput, "cannot create folder \"\(path)\": \(reason)"))
        }
    }

    /// Where only one level of the path cannot be made, those that were made before it go away again.
    func testFoldersThatWereMadeInVain() {
        let path = folder.file("a/b/" + String(repeating: "c", count: 300))
        XCTAssertEqual(
            failure { _ = try RunDirectory(path: path, resuming: false) },
            Failure(
                .inputOutput, "cannot create folder \"\(path)\": File name too long; choose a shorter name"
            ))
        XCTAssertEqual(folder.names(), [])
    }

    /// A disk that is full before the lock is written leaves the place as it was.
    func testALockThatCannotBeWritten() throws {
        let path = folder.file("run")
        let found = TemporaryFolder.limitingFileSize(to: 0) {
            failure { _ = try RunDirectory(path: path, resuming: false) }
        }
        XCTAssertEqual(
            found,
            Failure(
                .inputOutput,
                "cannot write \"\(path)/lock\": File too large; raise the limit on the size of files (ulimit -f)"))
        XCTAssertEqual(folder.names(), [])
        try FileManager.default.createDirectory(atPath: path + "/lock", withIntermediateDirectories: true)
        XCTAssertEqual(
            failure { _ = try RunDirectory(path: path, resuming: false) },
            Failure(.inputOutput, "cannot write in \"\(path)\": Is a directory; choose a folder that can be written"))
        XCTAssertEqual(folder.names(), ["run"])
    }

    /// Between making and writing its lock a process has no number yet.
    func testALockWithoutANumber() throws {
        mkdir(folder.file("run"), 0o700)
        let other = open(folder.file("run/lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(other) }
        XCTAssertFalse(RunStatus.isLocked(folder.path), "no lock")
        XCTAssertFalse(RunStatus.isLocked(folder.file("run")), "nobody holds it")
        XCTAssertEqual(flock(other, LOCK_EX | LOCK_NB), 0)
        XCTAssertTrue(RunStatus.isLocked(folder.file("run")))
        let found = failure { _ = try RunDirectory(path: folder.file("run"), resuming: false) }
        XCTAssertEqual(found?.code, .inputOutput)
        XCTAssertTrue(
            found?.message.contains(" is being written by another process; wait for its end or name ") == true,
            "\(found as Any)")
        XCTAssertEqual(folder.read("run/lock"), [])
    }

    /// Paths are taken from the working folder, and a file of a run is one in the folder of its configuration.
    func testPathsOfTheWorkingFolder() throws {
        let before = FileManager.default.currentDirectoryPath
        XCTAssertTrue(FileManager.default.changeCurrentDirectoryPath(folder.path))
        defer { XCTAssertTrue(FileManager.default.changeCurrentDirectoryPath(before)) }
        try RunDirectory(path: "deep/run", resuming: false).writeConfiguration(["format": 3])
        folder.write("x".utf8, "deep/run/model.safetensors")
        folder.write("x".utf8, "model.safetensors")
        XCTAssertTrue(RunDirectory.isFileOfRun("deep/run/model.safetensors"))
        XCTAssertFalse(RunDirectory.isFileOfRun("deep/run/best.safetensors"), "it is not there")
        XCTAssertFalse(RunDirectory.isFileOfRun("deep/run/lock.txt"))
        XCTAssertFalse(RunDirectory.isFileOfRun("model.safetensors"), "there is no run in this folder")
        XCTAssertEqual(
            failure { _ = try RunDirectory.configuration(in: "model.safetensors") },
            Failure(.usage, "\"model.safetensors\" is a file, not the folder of a run: name its folder"))
        XCTAssertTrue(FileManager.default.changeCurrentDirectoryPath(folder.file("deep/run")))
        XCTAssertTrue(RunDirectory.isFileOfRun("model.safetensors"))
    }

    /// What `RunDirectory` would refuse is refused with nothing touched by those that only ask.
    func testFoldersThatMayBeUsed() throws {
        XCTAssertNoThrow(try RunDirectory.requireFree(folder.file("none")))
        XCTAssertNoThrow(try RunDirectory.requireNoRun(in: folder.file("none")))
        folder.write("mine".utf8, "notes.txt")
        XCTAssertNoThrow(try RunDirectory.requireFree(folder.path))
        XCTAssertNoThrow(try RunDirectory.requireNoRun(in: folder.path))
        folder.write("x".utf8, "model.safetensors")
        XCTAssertEqual(
            failure { try RunDirectory.requireFree(folder.path) },
            Failure(
                .usage,
                "\"\(folder.path)\" holds a model.safetensors, which the run would replace; name another \(.output) folder"
            ))
        XCTAssertNoThrow(try RunDirectory.requireNoRun(in: folder.path), "weights of others")
        folder.write(#"{"format":2}"#.utf8, "configuration.json")
        XCTAssertEqual(failure { try RunDirectory.requireFree(folder.path) }?.code, .badData)
        XCTAssertEqual(
            failure { try RunDirectory.requireNoRun(in: folder.path) },
            Failure(
                .usage,
                "\"\(folder.path)\" holds a run, whose model.safetensors would be replaced: name another folder"))
        folder.write(#"{"format":3}"#.utf8, "configuration.json")
        XCTAssertEqual(failure { try RunDirectory.requireFree(folder.path) }?.code, .usage)
        XCTAssertEqual(folder.names(), ["configuration.json", "model.safetensors", "notes.txt"])
    }

    /// Checkpoints that were set aside are a state of training: a new run does not take the place of theirs.
    func testARunOfWhichAllIsSetAside() throws {
        let names = ["checkpoint-00000005.safetensors.abandoned", "configuration.json"]
        folder.write("x".utf8, names[0])
        folder.write(#"{"format":3}"#.utf8, names[1])
        let found = failure { _ = try RunDirectory(path: folder.path, resuming: false) }
        XCTAssertEqual(found?.code, .usage)
        XCTAssertTrue(found?.message.contains("already holds a run") == true, "\(found as Any)")
        XCTAssertEqual(folder.names(), names)
    }

    /// Of the folders in a run's folder a failed start empties what it wrote, and leaves the files of others.
    func testFoldersOfAFailedStart() throws {
        let events = "events.out.tfevents.1770091506.dmae"
        for hasOthers in [false, true] {
            let run = try RunDirectory(path: folder.file("run"), resuming: false)
            for (name, file) in [("tensorboard", events), ("archives", "pictures.tar.index")] {
                mkdir(folder.file("run/\(name)"), 0o700)
                folder.write("x".utf8, "run/\(name)/\(file)")
                if hasOthers { folder.write("mine".utf8, "run/\(name)/notes.txt") }
            }
            run.undoStart(hasTrained: false)
            guard hasOthers else {
                XCTAssertEqual(folder.names(), [])
                continue
            }
            XCTAssertEqual(
                try FileManager.default.subpathsOfDirectory(atPath: folder.path).sorted(),
                ["run", "run/archives", "run/archives/notes.txt", "run/tensorboard", "run/tensorboard/notes.txt"])
        }
    }
}
