import Foundation
import Tensors
import TestSupport
import XCTest

/// `dmae doctor`, DMAE_ISA and threads.
final class DoctorTests: XCTestCase {
    /// The value that stands behind `name` at the start of a line.
    private func value(_ name: String, _ text: String) -> String? {
        text.split(separator: "\n").first { $0.hasPrefix(name + "  ") }.map {
            $0.dropFirst(name.count).trimmingCharacters(in: .whitespaces)
        }
    }

    func testSaysWhatIsInUse() throws {
        let text = assertRuns(["doctor", "--threads", "2"]).output
        XCTAssertEqual(value("instruction set", text), InstructionSet.available.name)
        XCTAssertEqual(value("threads in use", text), "2")
        XCTAssertEqual(value("threads a parallel region got", text), "2")
        XCTAssertEqual(value("processors in the affinity mask", text), "\(Threads.affinity)")
        XCTAssertEqual(value("threads recommended", text), "\(Threads.recommended)")
        XCTAssertEqual(value("control group's quota", text) == "none", Threads.controlGroupQuota == nil)
        for name in [
            "processor", "features", "memory available", "huge pages", "OpenMP", "libjpeg-turbo", "libpng", "libwebp",
            "zlib",
            "C library",
        ] {
            let value = try XCTUnwrap(value(name, text), name)
            XCTAssertFalse(value.isEmpty || value == "unknown", name)
        }
        // Each operation with the variant that this machine's best instruction set leads to.
        for variant in InstructionSet.variants where variant.isSelected {
            XCTAssertTrue(text.contains("  \(variant.operation) ") && text.contains(" \(variant.name) "), variant.name)
        }
        XCTAssertEqual(value("dmae", text).map { $0 + "\n" }, assertRuns(["--version"]).output)
    }

    /// The same as one object on one line.
    func testJSON() throws {
        let output = assertRuns(["doctor", "--threads", "2", "--json"]).output
        XCTAssertEqual(output.filter { $0 == "\n" }.count, 1, output)
        let report = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
        XCTAssertEqual(report["instruction_set"] as? String, InstructionSet.available.name)
        XCTAssertEqual(report["available_instruction_set"] as? String, InstructionSet.available.name)
        XCTAssertEqual(report["training_precision"] as? String, Precision.bf16.isNative ? "bf16" : "f32")
        XCTAssertEqual(report["threads"] as? Int, 2)
        XCTAssertEqual(report["threads_observed"] as? Int, 2)
        XCTAssertEqual(report["affinity"] as? Int, Threads.affinity)
        XCTAssertGreaterThan(try XCTUnwrap(report["memory_available"] as? Int), 1 << 20)
        XCTAssertEqual(
            report["version"].map { "\($0)" },
            assertRuns(["--version"]).output.components(separatedBy: " ").first)
        let operations = try XCTUnwrap(report["operations"] as? [String: [String: Any]])
        XCTAssertEqual(Set(operations.keys), Set(InstructionSet.variants.map(\.operation)))
        for variant in InstructionSet.variants where variant.isSelected {
            XCTAssertEqual(operations[variant.operation]?["variant"] as? String, variant.name)
        }
        let lowered = assertRuns(["doctor", "--json"], environment: ["DMAE_ISA": "scalar"]).output
        XCTAssertTrue(lowered.contains(#""instruction_set":"scalar""#), lowered)
        XCTAssertTrue(lowered.contains(#""training_precision":"f32""#), lowered)
    }

    /// Not even the files of /proc can be opened. Swift's runtime finds the words of the command there.
    func testWithoutDescriptors() throws {
        let result = Command.run(
            ["-c", "ulimit -n 0; exec \"$0\" doctor --threads 1", Command.binary], executable: "/bin/sh")
        guard result.end != .exited(127) else { throw XCTSkip("a dynamic loader needs descriptors") }
        XCTAssertEqual(result.end, .exited(0), result.description)
        XCTAssertEqual(value("threads in use", result.output), "1")
    }

    func testLowerInstructionSets() throws {
        let ran = try withEachInstructionSet { set in
            let text = assertRuns(["doctor"], environment: ["DMAE_ISA": set.name]).output
            let value = try XCTUnwrap(value("instruction set", text))
            XCTAssertTrue(value.hasPrefix(set.name), value)
            XCTAssertEqual(
                value.contains("DMAE_ISA; \(InstructionSet.available.name) is available"), set != .available, value)
            for variant in InstructionSet.variants where variant.isSelected {
                XCTAssertTrue(text.contains(" \(variant.name) "), variant.name)
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    func testErrors() {
        assertRefused(
            ["doctor"], 64,
            "DMAE_ISA names no instruction set: use one of "
                + InstructionSet.names.joined(separator: ", "),
            environment: ["DMAE_ISA": "sse9"])
        assertRefused(["doctor", "--threads=-1"], 64, "--threads must be 1 to 4096")
        // A parallel region that gets one thread only is what a serial build would look like.
        let serial = Command.run(["doctor", "--threads", "2"], environment: ["OMP_THREAD_LIMIT": "1"])
        XCTAssertEqual(serial.end, .exited(1), serial.description)
        XCTAssertTrue(
            serial.errors.contains("error: a parallel region got one thread instead of 2: unset OMP_THREAD_LIMIT"),
            serial.errors)
        // What could not be printed is an error, not silence.
        let full = Command.run(["doctor"], output: "/dev/full")
        XCTAssertEqual(full.end, .exited(74), full.description)
        XCTAssertTrue(full.errors.contains("error: cannot write to standard output"), full.errors)
    }

    /// OpenMP would end the process over a thread that it cannot start.
    func testThreadsThatTheSystemDoesNotGive() {
        let limited = Command.run(
            ["-c", "ulimit -v 100000; exec \"$0\" doctor --threads 256", Command.binary], executable: "/bin/sh")
        XCTAssertEqual(limited.end, .exited(1), limited.description)
        XCTAssertTrue(
            limited.errors.contains("error: the stacks of 256 threads need 2.3")
                && limited.errors.contains(
                    "of address space, but the address space limit (ulimit -v) of 102.4 MB leaves ")
                && limited.errors.contains("MB: lower --threads, or raise the limit\n"),
            limited.errors)
    }

    /// What job scripts set: LLVM's OpenMP takes all memory over a number of threads that is none.
    func testNumbersOfThreadsInTheEnvironment() {
        for value in ["", " ", "abc", "-1", "1"] {
            let limited = Command.run(
                ["-c", "ulimit -v 4000000; exec \"$0\" doctor --threads 2", Command.binary], executable: "/bin/sh",
                environment: ["OMP_NUM_THREADS": value])
            XCTAssertEqual(limited.end, .exited(0), "\(value): \(limited)")
            XCTAssertEqual(self.value("threads a parallel region got", limited.output), "2", value)
        }
        // What would end the process, or take its threads.
        for (name, value) in [
            ("OMP_STACKSIZE", "1T"), ("OMP_STACKSIZE", "1"), ("OMP_STACKSIZE", "abc"),
            ("KMP_STACKSIZE", "999999999999"), ("GOMP_STACKSIZE", "1"), ("KMP_CPUINFO_FILE", "/nonexistent"),
            ("KMP_LIBRARY", "serial"), ("OMP_DYNAMIC", "true"), ("KMP_ALL_THREADS", "0"),
            ("OMP_MAX_ACTIVE_LEVELS", "0"),
        ] {
            let result = assertRuns(["doctor", "--threads", "2"], environment: [name: value])
            XCTAssertEqual(self.value("threads a parallel region got", result.output), "2", name)
            XCTAssertEqual(
                result.errors,
                "warning: \(name) in the environment has no effect: dmae sets up its threads itself, and --threads says "
                    + "how many\n")
        }
        XCTAssertEqual(assertRuns(["doctor", "--threads", "2"], environment: ["KMP_DUPLICATE_LIB_OK": "x"]).errors, "")
        let small = Command.run(
            ["-c", "ulimit -s 16; exec \"$0\" doctor --threads 2", Command.binary], executable: "/bin/sh")
        XCTAssertEqual(small.end, .exited(0), small.description)
        // Read before OpenMP binds a thread to one processor.
        let bound = assertRuns(["doctor", "--threads", "2"], environment: ["OMP_PROC_BIND": "true"]).output
        XCTAssertEqual(value("processors in the affinity mask", bound), "\(Threads.affinity)")
        XCTAssertEqual(value("threads recommended", bound), "\(Threads.recommended)")
    }

    /// More threads than there are processors: one line of warning, and it goes on.
    func testTooManyThreads() {
        let count = Threads.recommended + 1
        let result = assertRuns(["doctor", "--threads", "\(count)"])
        XCTAssertEqual(result.errors.split(separator: "\n").count, 1, result.errors)
        XCTAssertTrue(
            result.errors.hasPrefix("warning: --threads \(count) is more than the \(Threads.recommended) processor"),
            result.errors)
        XCTAssertEqual(value("threads a parallel region got", result.output), "\(count)")
        let quiet = assertRuns(["doctor", "--threads", "\(Threads.recommended)"])
        XCTAssertEqual(quiet.errors, "")
    }
}
