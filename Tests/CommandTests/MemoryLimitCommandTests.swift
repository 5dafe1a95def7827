import Foundation
import TestSupport
import XCTest

/// Commands under limits of their memory: each succeeds, or ends with a documented code and a sentence.
final class MemoryLimitCommandTests: XCTestCase {
    private static let teacher = Fixtures.path("demo/teacher.safetensors")
    private static let pictures = Fixtures.path("demo/held-out")

    /// Runs the program under a limit that the shell sets, such as "ulimit -v 40000".
    private func run(_ arguments: [String], under limit: String, seconds: Double = 60) -> Command.Result {
        Command.run(
            ["-c", "\(limit) && exec \"$0\" \"$@\"", Command.binary] + arguments, executable: "/bin/sh",
            seconds: seconds)
    }

    /// Each command with a few threads, and the outputs that it may leave.
    private func commands(_ folder: TemporaryFolder, run finished: String) -> [[String]] {
        let out = folder.file("out")
        let threads = ["--threads", "4", "--quiet"]
        return [
            ["doctor", "--threads", "4"],
            ["inspect", Self.teacher, "--json"],
            ["inspect", Self.pictures],
            ["convert", Self.teacher, out + ".pth", "--to", "mae"],
            ["embed", "--weights", Self.teacher, "--data", Self.pictures, "--output", out + ".npy"] + threads,
            [
                "reconstruct", "--weights", Self.teacher, "--input", TinyRun.data + "/" + Self.picture, "--output",
                out + ".png",
            ],
            TinyRun.pretrain(out, epochs: 1, ["--threads", "2", "--quiet"]),
            TinyRun.distill(out, teacher: finished + "/model.safetensors", epochs: 1, ["--threads", "2", "--quiet"]),
            ["resume", finished],
        ]
    }
    private static let picture = try! FileManager.default.contentsOfDirectory(atPath: TinyRun.data).sorted()[0]

    /// A short ladder of limits of the address space, from one where little more than the program fits.
    func testAddressSpace() throws {
        let before = TemporaryFolder()
        let finished = before.file("run")
        assertRuns(TinyRun.pretrain(finished, epochs: 1, ["--quiet"]))
        var ends: [Int32: Int] = [:]
        for kilobytes in [30_000, 38_000, 50_000, 70_000, 95_000, 140_000, 260_000] {
            let limit = "ulimit -v \(kilobytes)"
            // The kernel or the loader could not even load the program; the same as for any other.
            guard run(["--version"], under: limit).end == .exited(0) else { continue }
            let count = commands(before, run: finished).count
            for index in 0..<count {
                let folder = TemporaryFolder()
                let arguments = commands(folder, run: finished)[index]
                let result = run(arguments, under: limit)
                let what = "\(limit), \(arguments.prefix(2)): \(result)"
                guard case .exited(let code) = result.end else {
                    XCTFail(what)
                    continue
                }
                ends[code, default: 0] += 1
                if code == 0 { continue }
                XCTAssertTrue([1, 74].contains(code), what)
                let sentences = result.errors.split(separator: "\n").filter { $0.hasPrefix("error: ") }
                XCTAssertEqual(sentences.count, 1, what)
                // The remedy is a larger limit, or less that is to be mapped.
                XCTAssertTrue(sentences.first?.contains("ulimit -v") == true, what)
                XCTAssertEqual(folder.names(), [], what)
            }
        }
        print("ulimit -v: codes and their number: \(ends.sorted { $0.key < $1.key })")
        XCTAssertGreaterThan(ends[0] ?? 0, 10)
        XCTAssertGreaterThan(ends[1] ?? 0, 5)
    }

    /// The limit on data, which counts what is mapped to be written.
    func testData() {
        let result = run(
            ["embed", "--weights", Self.teacher, "--data", Self.pictures, "--output", "x", "--threads", "2"],
            under: "ulimit -d 20000")
        XCTAssertEqual(result.end, .exited(1), result.description)
        XCTAssertTrue(result.errors.contains("the limit on data (ulimit -d) of 20.5 MB leaves"), result.errors)
        let doctor = run(["doctor", "--threads", "1"], under: "ulimit -d 200000")
        XCTAssertTrue(
            doctor.output.contains("left of the 204.8 MB of the limit on data (ulimit -d)\n"), doctor.description)
    }

    func testDoctorSaysWhichLimitCounts() throws {
        let text = run(["doctor", "--threads", "1"], under: "ulimit -v 3000000")
        XCTAssertTrue(
            text.output.contains("left of the 3.07 GB of the address space limit (ulimit -v)\n"), text.description)
        let json = run(["doctor", "--threads", "1", "--json"], under: "ulimit -v 3000000")
        let report = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
        let limits = try XCTUnwrap(report["memory_limits"] as? [[String: Any]])
        XCTAssertEqual(limits.first?["name"] as? String, "the address space limit (ulimit -v)")
        XCTAssertEqual(limits.first?["bytes"] as? Int, 3_000_000 * 1024)
        XCTAssertTrue(limits.contains { $0["name"] as? String == "this machine's memory" })
        XCTAssertEqual(
            limits.compactMap { $0["left"] as? Int }, limits.compactMap { $0["left"] as? Int }.sorted())
    }

    /// Many threads, whose arenas took 64 to 128 MB each before: those of malloc are bounded.
    func testArenas() {
        let result = run(["doctor", "--threads", "32"], under: "ulimit -v 450000")
        XCTAssertEqual(result.end, .exited(0), result.description)
    }

    // MARK: Control groups

    /// A new group below this process's own whose members may have `bytes` of memory, and the name of its file.
    private func makeGroup(_ bytes: Int) throws -> (folder: String, file: String) {
        let name = "dmae-test-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        let own = (try? String(contentsOfFile: "/proc/self/cgroup", encoding: .utf8)) ?? ""
        for line in own.split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
            let isLegacy = fields[1].split(separator: ",").contains("memory")
            guard fields.count == 3, isLegacy || fields[0] == "0" else { continue }
            let base = isLegacy ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup"
            let file = isLegacy ? "memory.limit_in_bytes" : "memory.max"
            for parent in [base + fields[2], base] {
                let folder = "\(parent)/\(name)"
                guard mkdir(folder, 0o755) == 0 else { continue }
                let handle = fopen("\(folder)/\(file)", "r+")
                if let handle {
                    fputs("\(bytes)", handle)
                    if fclose(handle) == 0 { return (folder, file) }
                }
                rmdir(folder)
            }
        }
        throw XCTSkip("this process may make no control group of memory")
    }

    /// A group with less memory than a run needs: a sentence, in place of the kernel's kill.
    func testControlGroup() throws {
        let (group, file) = try makeGroup(40 << 20)
        defer { rmdir(group) }
        let folder = TemporaryFolder(), enter = "echo $$ > '\(group)/cgroup.procs'"
        let doctor = run(["doctor", "--threads", "1"], under: enter)
        XCTAssertTrue(doctor.output.contains("left of the 41.9 MB of "), doctor.description)
        XCTAssertTrue(doctor.output.contains("\(group.split(separator: "/").last!) (\(file))\n"), doctor.description)
        let distill = run(
            [
                "distill", "--recipe", "demo", "--precision", "f32", "--teacher", Self.teacher, "--data",
                Fixtures.path("demo/images"), "--output", folder.file("run"), "--threads", "1", "--quiet",
            ], under: enter)
        XCTAssertEqual(distill.end, .exited(1), distill.description)
        XCTAssertTrue(
            distill.errors.contains("do not fit: the memory limit of the cgroup /")
                && distill.errors.contains("(\(file)) of 41.9 MB leaves ")
                && distill.errors.contains("lower --batch or the image size, or raise the limit"), distill.errors)
        XCTAssertEqual(folder.names(), [])
        // What fits runs.
        let embed = run(
            [
                "embed", "--weights", Self.teacher, "--data", Self.pictures, "--output", folder.file("x.npy"),
                "--threads",
                "1", "--workers", "1",
            ], under: enter)
        XCTAssertEqual(embed.end, .exited(0), embed.description)
    }
}
