import Foundation
import TestSupport
import XCTest

/// What is handed on: the notices, and the packages of Sources/dmae/package.py.
final class PackageTests: XCTestCase {
    private static let root = URL(fileURLWithPath: Fixtures.folder).deletingLastPathComponent()
    private static let program = root.appendingPathComponent("Sources/dmae/package.py").path

    /// Each library that doctor lists has its licence, and the text is the file of the repository.
    func testNotices() throws {
        let text = assertRuns(["doctor", "--licenses"]).output
        let file = Self.root.appendingPathComponent("Sources/CBuild/third-party-notices.txt")
        XCTAssertEqual(text, try String(contentsOf: file, encoding: .utf8))
        for name in [
            "Swift's standard library", "swift-argument-parser", "swift-protobuf", "LLVM's OpenMP", "libjpeg-turbo",
            "libpng", "libwebp", "zlib", "GNU C library", "libstdc++",
        ] { XCTAssertTrue(text.contains(name), name) }
        for title in ["Apache License", "GNU LESSER GENERAL PUBLIC LICENSE", "GCC RUNTIME LIBRARY EXCEPTION"] {
            XCTAssertNotNil(text.range(of: title, options: .caseInsensitive), title)
        }
    }

    /// A program that does what the binary does, and is small enough to be compressed at once.
    private func smallBinary(_ folder: TemporaryFolder) throws -> String {
        let path = folder.file("dmae")
        try "#!/bin/sh\nexec '\(Command.binary)' \"$@\"\n".write(toFile: path, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        return path
    }

    private func make(_ kind: String, _ binary: String, _ folder: String) throws {
        let result = Command.run(
            [Self.program, kind, binary, folder], executable: "/usr/bin/python3",
            environment: ["SOURCE_DATE_EPOCH": "1700000000", "DEBEMAIL": "a@b.example", "DEBFULLNAME": "A B"])
        XCTAssertEqual(result.end, .exited(0), result.description)
    }

    /// Made twice, into other folders, both packages have the same bytes, and their names say version and architecture.
    func testPackagesAreReproducible() throws {
        let folder = try TemporaryFolder()
        let binary = try smallBinary(folder)
        var found: [[String: Data]] = []
        for name in ["a", "b"] {
            for kind in ["archive", "debian"] { try make(kind, binary, folder.file(name)) }
            let files = try FileManager.default.contentsOfDirectory(atPath: folder.file(name))
            found.append(
                Dictionary(
                    uniqueKeysWithValues: try files.map {
                        ($0, try Data(contentsOf: URL(fileURLWithPath: folder.file("\(name)/\($0)"))))
                    }))
        }
        XCTAssertEqual(found[0], found[1])
        let version = try XCTUnwrap(assertRuns(["--version"]).output.components(separatedBy: " ").first)
        let names = found[0].keys.sorted()
        XCTAssertEqual(names.count, 3)
        XCTAssertTrue(names.allSatisfy { $0.hasPrefix("dmae-\(version)-linux-") || $0.hasPrefix("dmae_\(version)_") })
    }

    /// The archive has the checksum beside it, and holds program, manual, completions and licences.
    func testArchive() throws {
        let folder = try TemporaryFolder()
        try make("archive", smallBinary(folder), folder.file("dist"))
        let shell = """
            cd "$0" && sha256sum --quiet -c *.sha256 && tar -xf *.tar.xz && cd dmae-*[!z6] && ./bin/dmae --version \
            && find . -type f | sort && test "$(stat -c %Y bin/dmae)" = 1700000000
            """
        let result = Command.run(["-c", shell, folder.file("dist")], executable: "/bin/bash")
        XCTAssertEqual(result.end, .exited(0), result.description)
        let lines = result.output.components(separatedBy: "\n")
        XCTAssertEqual(lines.first.map { $0 + "\n" }, assertRuns(["--version"]).output)
        for name in [
            "./LICENSE", "./README.md", "./THIRD-PARTY-NOTICES.txt", "./bin/dmae", "./share/man/man1/dmae-distill.1",
            "./share/bash-completion/completions/dmae", "./share/zsh/site-functions/_dmae",
            "./share/fish/vendor_completions.d/dmae.fish",
        ] { XCTAssertTrue(lines.contains(name), "\(name) is not in \(lines)") }
    }

    /// dpkg reads the package: its fields, its sums, and every file below /usr.
    func testDebianPackage() throws {
        let folder = try TemporaryFolder()
        try make("debian", smallBinary(folder), folder.file("dist"))
        let shell = """
            cd "$0" && dpkg-deb -f *.deb && dpkg-deb -x *.deb files && dpkg-deb -e *.deb control && cd files \
            && md5sum --quiet -c ../control/md5sums && find . -type f | wc -l && wc -l < ../control/md5sums \
            && find . -type f | grep -v '^./usr/' | wc -l && usr/bin/dmae --version && zcat usr/share/man/man1/dmae.1.gz | head -1
            """
        let result = Command.run(["-c", shell, folder.file("dist")], executable: "/bin/bash")
        XCTAssertEqual(result.end, .exited(0), result.description)
        let lines = result.output.components(separatedBy: "\n")
        XCTAssertTrue(lines.contains("Package: dmae") && lines.contains("Maintainer: A B <a@b.example>"), result.output)
        let rest = lines.drop { Int($0) == nil }
        XCTAssertEqual(rest.first, rest.dropFirst().first, "files without a sum")
        XCTAssertEqual(rest.dropFirst(2).first, "0", "files outside of /usr")
        XCTAssertTrue(rest.contains { $0.hasPrefix(".TH DMAE 1 \"2023-11-14\"") }, result.output)
    }
}
