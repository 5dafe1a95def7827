import Foundation
import TestSupport
import XCTest

/// One static file that runs on any x86-64 Linux.
final class PortabilityTests: XCTestCase {
    func testIsStatic() {
        let result = Command.run([Command.binary], executable: "/usr/bin/ldd")
        XCTAssertTrue((result.output + result.errors).contains("not a dynamic executable"), result.description)
    }

    /// Without /proc Swift's runtime alone would end the process before `main`, or know no word of the command line.
    func testWithoutProc() throws {
        let unshare = "/usr/bin/unshare"
        let hidden = [
            "-m", "--propagation", "private", "/bin/sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh",
        ]
        guard FileManager.default.isExecutableFile(atPath: unshare),
            Command.run(hidden + ["/bin/true"], executable: unshare).end == .exited(0)
        else { throw XCTSkip("this user may not hide /proc") }
        let result = Command.run(hidden + [Command.binary, "--version"], executable: unshare)
        XCTAssertEqual(result.end, .exited(0), result.description)
        XCTAssertEqual(result.output, assertRuns(["--version"]).output)
    }

    /// A Core 2 has neither AVX nor FMA: the scalar kernels run there, and agree with PyTorch's record as all others
    /// do.
    func testRunsOnACore2() throws {
        guard
            let emulator = ["/usr/bin/qemu-x86_64", "/usr/bin/qemu-x86_64-static"].first(
                where: FileManager.default.isExecutableFile(atPath:))
        else { throw XCTSkip("qemu-user is not installed; make test installs it") }
        let emulated = ["-cpu", "core2duo", Command.binary]
        let doctor = Command.run(emulated + ["doctor", "--threads", "2"], executable: emulator)
        XCTAssertEqual(doctor.end, .exited(0), doctor.description)
        let set = doctor.output.split(separator: "\n").first { $0.hasPrefix("instruction set ") }
        XCTAssertEqual(set?.split(separator: " ").last, "scalar", doctor.output)
        XCTAssertTrue(doctor.output.contains(" gemm_f32_scalar"), doctor.output)

        let folder = TemporaryFolder()
        let recorded = try XCTUnwrap(Fixtures.golden().first { $0.name == "linear" })
        let output = folder.file("replayed.safetensors")
        let replay = Command.run(
            emulated + ["replay", recorded.inputPath, "--output", output, "--threads", "2"], executable: emulator)
        XCTAssertEqual(replay.end, .exited(0), replay.description)
        try assertAgrees(output, recorded, "Core 2")
        let forced = Command.run(emulated + ["doctor"], executable: emulator, environment: ["DMAE_ISA": "avx2"])
        assertRefused(
            forced, 1, ["DMAE_ISA asks for an instruction set this processor lacks: the highest here is scalar"])
    }
}
