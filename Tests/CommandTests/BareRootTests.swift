import Foundation
import TestSupport
import XCTest

/// A folder as the root of everything, without /proc, /sys and /dev: the program works, or says what it lacks.
final class BareRootTests: XCTestCase {
    private let root = TemporaryFolder()

    /// Puts the program and its libraries, if it has any, under the new root. (The static program has none.)
    private func prepare() throws {
        let chroot = ["/usr/sbin/chroot", "/sbin/chroot"].first { FileManager.default.isExecutableFile(atPath: $0) }
        guard let chroot, Command.run(["/", "/bin/true"], executable: chroot).end == .exited(0) else {
            throw XCTSkip("this process may not change its root")
        }
        self.chroot = chroot
        let files = FileManager.default
        try files.copyItem(atPath: Command.binary, toPath: root.file("dmae"))
        let libraries = Command.run([Command.binary], executable: "/usr/bin/ldd")
        guard libraries.end == .exited(0) else { return }
        for folder in ["lib", "lib64"] {
            try files.createDirectory(atPath: root.file(folder), withIntermediateDirectories: true)
        }
        for word in libraries.output.split(whereSeparator: \.isWhitespace) where word.hasPrefix("/") {
            let name = word.split(separator: "/").last!
            let place = word.contains("ld-linux") ? "lib64/\(name)" : "lib/\(name)"
            let source = URL(fileURLWithPath: String(word)).resolvingSymlinksInPath().path
            try? files.copyItem(atPath: source, toPath: root.file(place))
        }
    }
    private var chroot = ""

    private func run(_ arguments: [String]) -> Command.Result {
        Command.run([root.path, "/dmae"] + arguments, executable: chroot, environment: ["LD_LIBRARY_PATH": "/lib"])
    }

    func testCommands() throws {
        try prepare()
        let files = FileManager.default
        try files.copyItem(atPath: Fixtures.path("demo/teacher.safetensors"), toPath: root.file("teacher.safetensors"))
        for part in ["train", "val"] {
            for name in ["education", "geography"] {
                try files.createDirectory(atPath: root.file("\(part)/\(name)"), withIntermediateDirectories: true)
                let pictures = Fixtures.path("demo/images/\(name)")
                for picture in try files.contentsOfDirectory(atPath: pictures).sorted().prefix(6) {
                    try files.copyItem(
                        atPath: "\(pictures)/\(picture)", toPath: root.file("\(part)/\(name)/\(picture)"))
                }
            }
        }
        let doctor = run(["doctor", "--threads", "2"])
        XCTAssertEqual(doctor.end, .exited(0), doctor.description)
        XCTAssertEqual(
            doctor.errors,
            "/proc is not mounted: the processor, its features and the memory in use are not known\n")
        XCTAssertTrue(doctor.output.contains("this machine's memory\n"), doctor.output)
        for arguments in [
            ["--version"], ["doctor", "--json"], ["inspect", "/teacher.safetensors"],
            ["convert", "/teacher.safetensors", "/o.pth", "--to", "mae"],
            ["embed", "--weights", "/teacher.safetensors", "--data", "/val", "--output", "/x.npy", "--threads", "2"],
            TinyRun.pretrain("/first", epochs: 2, data: "/train/geography"),
            TinyRun.distill("/second", teacher: "/first/model.safetensors", epochs: 2, data: "/train/geography"),
            [
                "finetune", "--weights", "/first/model.safetensors", "--train", "/train", "--val", "/val", "--output",
                "/third", "--epochs", "1", "--warmup-epochs", "0", "--batch", "4", "--effective-batch", "4",
            ],
            TinyRun.pretrain("/plan", epochs: 2, data: "/train/geography", ["--dry-run"]),
        ] {
            let result = run(arguments)
            XCTAssertEqual(result.end, .exited(0), "\(arguments.prefix(2)): \(result)")
        }
        // The same words as everywhere, and the same bits.
        XCTAssertEqual(run(["inspect"]).end, .exited(64))
        let outside = TemporaryFolder()
        assertRuns([
            "embed", "--weights", Fixtures.path("demo/teacher.safetensors"), "--data", root.file("val"), "--output",
            outside.file("x.npy"),
        ])
        XCTAssertEqual(root.read("x.npy"), outside.read("x.npy"))
        XCTAssertEqual(root.names().filter { $0.contains(".part-") }, [])
    }
}
