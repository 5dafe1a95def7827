import Foundation
import TestSupport
import XCTest

/// System calls that fail in the folder of a run: on its lock, its log and its checkpoints. `make test-faults` tries all
/// calls of all commands; these say what each is answered.
///
/// Where processes may not be traced, these tests are skipped.
final class RunFaultTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let steps = ["--checkpoint-every", "2", "--keep", "2", "--threads", "1", "--quiet"]

    /// The run without a fault: six steps or more.
    private func start(_ run: String) -> [String] { TinyRun.pretrain(run, epochs: 6, steps) }

    /// The files of the run in `path` whose bytes are always the same, and its log without what was measured.
    private func contents(_ path: String) throws -> [String: Data] {
        var files = ["log": Data(try TinyRun.log(path).joined(separator: "\n").utf8)]
        for name in try TinyRun.checkpoints(path) + ["model.safetensors", "configuration.json"] {
            files[name] = try TinyRun.bytes("\(path)/\(name)")
        }
        return files
    }

    /// A start that fails at its lock says so and leaves nothing behind.
    func testTheLockOfANewRun() throws {
        try Strace.require()
        let run = folder.file("run"), lock = run + "/lock"
        for (fault, words) in [
            ("flock:error=EIO", "cannot lock \"\(lock)\": Input/output error"),
            ("ftruncate:error=EIO", "cannot write \"\(lock)\": Input/output error"),
            ("pwrite64:error=ENOSPC", "cannot write \"\(lock)\": No space left on device"),
            ("openat:error=EACCES", "cannot write in \"\(run)\": Permission denied"),
        ] {
            assertRefused(Strace.run(start(run), fault, at: lock), 74, [words])
            XCTAssertEqual(folder.names(), [], fault)
        }
        // Interrupted, it is tried again.
        let result = Strace.run(start(run), "flock:error=EINTR:when=1", at: lock)
        XCTAssertEqual(result.end, .exited(0), result.description)
    }

    /// A lock that another process removed after it was opened, as one does whose start failed, is opened again.
    func testALockThatGoesAway() throws {
        try Strace.require()
        let whole = folder.file("whole")
        assertRuns(start(whole))
        let expected = try contents(whole)
        var reopened = 0
        // Which examination of the lock is that after its opening, the C library decides.
        for number in 1...4 {
            let run = folder.file("run \(number)"), trace = folder.file("trace \(number)")
            let result = Strace.run(
                start(run), "newfstatat,fstat,stat,lstat:error=ENOENT:when=\(number)", at: run + "/lock", trace: trace)
            let calls = try String(contentsOfFile: trace, encoding: .utf8)
            guard result.end == .exited(0) else {
                assertRefused(result, 74, [run])
                continue
            }
            XCTAssertEqual(try contents(run), expected, "examination \(number)")
            if calls.components(separatedBy: "O_CREAT").count == 3 { reopened += 1 }
        }
        XCTAssertEqual(reopened, 1)
    }

    /// A resumed run whose log cannot be read, cut, written or synchronised ends with a sentence; the next one goes on to
    /// the bytes of a run without a fault. What a signal interrupts is done again.
    func testTheLogOfAResumedRun() throws {
        try Strace.require()
        let whole = folder.file("run")
        assertRuns(start(whole))
        let expected = try contents(whole)
        // As if killed some steps before the end.
        try FileManager.default.removeItem(atPath: whole + "/model.safetensors")
        let last = try XCTUnwrap(TinyRun.checkpoints(whole).last)
        try FileManager.default.removeItem(atPath: "\(whole)/\(last)")
        let begun = folder.file("begun")
        try FileManager.default.moveItem(atPath: whole, toPath: begun)
        let log = whole + "/log.jsonl"
        for (fault, code) in [
            ("pread64:error=EIO", 74), ("ftruncate:error=EIO", 74), ("write:error=ENOSPC", 74),
            ("write:error=ENOSPC:when=2", 74), ("fdatasync:error=EIO", 74),
            ("pread64:error=EINTR:when=1", 0), ("write:error=EINTR:when=2", 0), ("fdatasync:error=EINVAL", 0),
        ] {
            try FileManager.default.copyItem(atPath: begun, toPath: whole)
            let result = Strace.run(["resume", whole, "--quiet"], fault, at: log)
            if code == 0 {
                XCTAssertEqual(result.end, .exited(0), "\(fault): \(result.description)")
            } else {
                assertRefused(result, 74, ["cannot write \"\(log)\": "])
                assertRuns(["resume", whole, "--quiet"])
            }
            XCTAssertEqual(try contents(whole), expected, fault)
            try FileManager.default.removeItem(atPath: whole)
        }
        // What it is, is not known, where it cannot be examined.
        for number in 1...3 {
            try FileManager.default.copyItem(atPath: begun, toPath: whole)
            let result = Strace.run(
                ["resume", whole, "--quiet"], "newfstatat,fstat:error=EIO:when=\(number)", at: log)
            if result.end != .exited(0) { assertRefused(result, 74, [log, "Input/output error"]) }
            assertRuns(["resume", whole, "--quiet"])
            XCTAssertEqual(try contents(whole), expected, "examination \(number)")
            try FileManager.default.removeItem(atPath: whole)
        }
    }

    /// Later checkpoints that cannot be set aside end a run that goes back, and keep their bytes.
    func testCheckpointsThatCannotBeSetAside() throws {
        try Strace.require()
        let run = folder.file("run")
        assertRuns(start(run))
        let before = try contents(run), checkpoints = try TinyRun.checkpoints(run)
        XCTAssertEqual(checkpoints.count, 2)
        let arguments = ["resume", run, "--checkpoint", "\(run)/\(checkpoints[0])", "--quiet"]
        let later = "\(run)/\(checkpoints[1])"
        assertRefused(
            Strace.run(arguments, "rename,renameat,renameat2:error=EIO:when=1", at: later), 74,
            ["cannot rename \"\(later)\": Input/output error"])
        XCTAssertEqual(try contents(run), before)
        assertRuns(arguments)
        var after = before
        after[checkpoints[1] + ".abandoned"] = before[checkpoints[1]]
        XCTAssertEqual(try contents(run), after)
    }
}
