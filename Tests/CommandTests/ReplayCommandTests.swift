import Foundation
import Tensors
import TestSupport
import Training
import Weights
import XCTest

/// `dmae replay`, as someone who ports the method runs it.
final class ReplayCommandTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// With every instruction set: PyTorch's record within 1e-4 of each tensor's largest value (TrainingTests hold the
    /// library to much tighter bounds), the library's own bytes, and the same bytes for one and two threads.
    func testGoldenSteps() throws {
        let cases = try Fixtures.golden()
        XCTAssertGreaterThanOrEqual(cases.count, 4)
        let ran = try withEachInstructionSet { set in
            for recorded in cases {
                let outputs = try [1, 2].map { threads in
                    let name = "\(recorded.name).\(set.name).\(threads).safetensors"
                    let result = assertRuns(
                        ["replay", recorded.inputPath, "--output", folder.file(name), "--threads", "\(threads)"],
                        environment: ["DMAE_ISA": set.name])
                    XCTAssertEqual(result.output, "")
                    try assertAgrees(folder.file(name), recorded, set.name)
                    return folder.read(name)
                }
                XCTAssertEqual(outputs[0], outputs[1], "\(recorded.name), \(set.name): two threads give other bytes")
                try Replay.run(input: recorded.inputPath, output: folder.file("library.safetensors"))
                XCTAssertEqual(
                    folder.read("library.safetensors"), outputs[0],
                    "\(recorded.name), \(set.name): the program is not the library")
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// The same of fine-tuning steps.
    func testGoldenFineTuningSteps() throws {
        let cases = try Fixtures.goldenFineTuning()
        XCTAssertGreaterThanOrEqual(cases.count, 3)
        let ran = try withEachInstructionSet { set in
            for recorded in cases {
                let name = "\(recorded.name).\(set.name).safetensors"
                let result = assertRuns(
                    ["replay", recorded.inputPath, "--output", folder.file(name), "--threads", "2"],
                    environment: ["DMAE_ISA": set.name])
                XCTAssertEqual(result.output, "")
                try assertAgrees(folder.file(name), recorded, set.name)
                try Replay.run(input: recorded.inputPath, output: folder.file("library.safetensors"))
                XCTAssertEqual(folder.read("library.safetensors"), folder.read(name), "\(recorded.name), \(set.name)")
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    func testErrors() throws {
        let input = Fixtures.path("golden/linear.in.safetensors")
        let missing = folder.file("missing.safetensors")
        assertRefused(
            ["replay", missing, "--output", folder.file("a.safetensors")], 74, "missing.safetensors", "No such file",
            "check the path")
        assertRefused(["replay", folder.path, "--output", folder.file("a.safetensors")], 74, "it is a folder")
        assertRefused(
            ["replay", Fixtures.path("safetensors/reference.safetensors"), "--output", folder.file("a.safetensors")],
            65,
            "reference.safetensors",
            "dmae.replay is missing")
        assertRefused(
            ["replay", input, "--output", folder.file("no/such/place.safetensors")], 74, "no/such/place", "No such file"
        )
        assertRefused(
            ["replay", input, "--output", folder.file("a.safetensors"), "--threads", "0"], 64,
            "--threads must be 1 to 4096")
        assertRefused(
            ["replay", input, "--output", folder.file("a.safetensors"), "--threads", "two"], 64, "'two'", "--threads")
        XCTAssertEqual(folder.names(), [], "what failed leaves nothing behind")
        /// The recording with words of its description exchanged for others of the same length.
        func changed(_ name: String, _ words: [(String, String)]) throws -> [String] {
            var bytes = try Data(contentsOf: URL(fileURLWithPath: input))
            for (old, new) in words {
                bytes.replaceSubrange(try XCTUnwrap(bytes.firstRange(of: Data(old.utf8))), with: Data(new.utf8))
            }
            return ["replay", folder.write([UInt8](bytes), name), "--output", folder.file("a.safetensors")]
        }
        // A decay of one divides by zero.
        assertRefused(
            try changed("ones.safetensors", [("0.95]", "1.00]")]), 65,
            "ones.safetensors: betas must be at least 0 and below 1")
        // Results that are not finite: the second loss, or the weights after the only step. They are not written.
        assertRefused(
            try changed("rate.safetensors", [("0.001", "1e+38")]), 1,
            "rate.safetensors: the loss is not finite at step 2: loss ", ", reconstruction ", ", alignment ",
            ", and nothing was written: look at optimizer, images and weights")
        assertRefused(
            try changed("once.safetensors", [("0.001", "1e+38"), ("steps\\\":3", "steps\\\":1")]), 1,
            "once.safetensors: after.cls_token is not finite, and nothing was written")
        // A mask is an order of the noise.
        let file = try SafeTensorsFile(path: input)
        var values = try file.names.map { try file.floats($0) }
        values[try XCTUnwrap(file.names.firstIndex(of: "noise"))][3] = .nan
        try withBuffers(values) { buffers in
            var writer = SafeTensorsWriter(metadata: file.metadata)
            for (entry, buffer) in zip(file.entries, buffers) {
                writer.add(entry.name, shape: entry.shape, floats: buffer)
            }
            try writer.write(to: folder.file("order.safetensors"))
        }
        assertRefused(
            ["replay", folder.file("order.safetensors"), "--output", folder.file("a.safetensors")], 65,
            "order.safetensors: noise holds a NaN")
        XCTAssertEqual(
            folder.names(), ["once.safetensors", "ones.safetensors", "order.safetensors", "rate.safetensors"])
    }

    /// A recording cut off anywhere is refused; nothing is written.
    func testTruncated() throws {
        let whole = [UInt8](try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("golden/linear.in.safetensors"))))
        for length in [0, 7, 8, 100, whole.count / 2, whole.count - 1] {
            folder.write(whole.prefix(length), "cut.safetensors")
            assertRefused(
                ["replay", folder.file("cut.safetensors"), "--output", folder.file("out.safetensors")], 65,
                "cut.safetensors")
        }
        XCTAssertEqual(folder.names(), ["cut.safetensors"])
    }

    /// Any single bit of the header may be wrong: then the file is refused or, where the bit was in a name or a number
    /// that still makes sense, read; it never ends in a trap.
    func testFlippedBits() throws {
        let whole = [UInt8](try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("golden/no_pairs.in.safetensors"))))
        let header = 8 + Int(whole[0]) + Int(whole[1]) << 8
        var random = CounterRandom(seed: testSeed(7), purpose: .test)
        var refused = 0
        for _ in 0..<60 {
            var bytes = whole
            let place = random.below(header)
            bytes[place] ^= 1 << UInt8(random.below(8))
            folder.write(bytes, "flipped.safetensors")
            let result = Command.run([
                "replay", folder.file("flipped.safetensors"), "--output", folder.file("out.safetensors"), "--threads",
                "1",
            ])
            if result.end == .exited(0) { continue }
            refused += 1
            assertRefused(result, 65, ["flipped.safetensors"])
        }
        XCTAssertGreaterThan(refused, 30)
    }

    /// A full disk: one sentence, 74, and nothing left of the part that was written.
    func testFullDisk() throws {
        let input = Fixtures.path("golden/mlp_pairs.in.safetensors")
        let mount = folder.file("disk")
        try FileManager.default.createDirectory(atPath: mount, withIntermediateDirectories: true)
        let mounted =
            getuid() == 0
            && Command.run(["-t", "tmpfs", "-o", "size=128k", "tmpfs", mount], executable: "/bin/mount").end
                == .exited(0)
        if mounted {
            defer { _ = Command.run([mount], executable: "/bin/umount") }
            assertRefused(
                ["replay", input, "--output", mount + "/out.safetensors"], 74, "out.safetensors", "No space left")
            XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: mount), [])
        } else {
            print("no disk of 128 kB can be mounted here: a limit on the size of files stands in for it")
        }
        let result = TemporaryFolder.limitingFileSize(to: 100_000) {
            Command.run(["replay", input, "--output", folder.file("out.safetensors")])
        }
        assertRefused(result, 74, ["out.safetensors", "File too large"])
        XCTAssertEqual(folder.names(), ["disk"])
    }
}

/// The output of a replay at `path`, held to the record: every tensor within 1e-4 of its largest value.
func assertAgrees<Description>(
    _ path: String, _ recorded: RecordedCase<Description>, _ processor: String, file: StaticString = #filePath,
    line: UInt = #line
) throws {
    let found = try SafeTensorsFile(path: path)
    XCTAssertEqual(
        Set(found.names), Set(recorded.expected.names), "\(recorded.name), \(processor)", file: file, line: line)
    var comparison = TensorComparison()
    for entry in recorded.expected.entries {
        comparison.compare(
            entry.name, expected: try recorded.expected.floats(entry.name), found: try found.floats(entry.name),
            relative: 1e-4)
    }
    XCTAssertEqual(comparison.failures, [], "\(recorded.name), \(processor)", file: file, line: line)
}
