import Foundation
import TestSupport
import XCTest

/// The manual pages that `make install` writes: made from the argument parser, a page for each command.
final class ManualTests: XCTestCase {
    private static let root = URL(fileURLWithPath: Fixtures.folder).deletingLastPathComponent()
    private static let commands = Command.subcommands()

    /// The pages, written into `folder`, by file name.
    private func pages(_ folder: TemporaryFolder) throws -> [String: String] {
        let result = Command.run(
            [Self.root.appendingPathComponent("Sources/dmae/manual.py").path, Command.binary, folder.file("man1")],
            executable: "/usr/bin/python3")
        XCTAssertEqual(result.end, .exited(0), result.description)
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.file("man1"))
        return Dictionary(
            uniqueKeysWithValues: try names.map {
                ($0, try String(contentsOfFile: folder.file("man1/" + $0), encoding: .utf8))
            })
    }

    /// Each command has a page with every flag of its help screen, and is named on the first page.
    func testEveryFlagHasItsPlace() throws {
        let pages = try pages(TemporaryFolder())
        XCTAssertEqual(Set(pages.keys), Set(["dmae.1"] + Self.commands.map { "dmae-\($0).1" }))
        let flag = try NSRegularExpression(pattern: "(?m)^  (?:-h, )?(--[a-z][a-z0-9-]*[a-z0-9])")
        for command in Self.commands {
            let help = assertRuns([command, "--help"]).output
            let page = try XCTUnwrap(pages["dmae-\(command).1"]).replacingOccurrences(of: "\\-", with: "-")
            let flags = flag.matches(in: help, range: NSRange(help.startIndex..., in: help)).map {
                String(help[Range($0.range(at: 1), in: help)!])
            }
            XCTAssertGreaterThanOrEqual(flags.count, 2, command)
            for flag in flags { XCTAssertTrue(page.contains("\\fB\(flag)\\fP"), "\(command): \(flag)") }
            XCTAssertTrue(try XCTUnwrap(pages["dmae.1"]).contains("\\fBdmae\\-\(command)\\fP(1)"), command)
        }
        for (name, page) in pages {
            let sections = page.components(separatedBy: "\n").filter { $0.hasPrefix(".SH ") }
            XCTAssertEqual(sections.prefix(2), [".SH NAME", ".SH SYNOPSIS"], name)
            XCTAssertEqual(sections.last, ".SH SEE ALSO", name)
            let version = try XCTUnwrap(assertRuns(["--version"]).output.components(separatedBy: " ").first)
            XCTAssertTrue(page.hasPrefix(".TH DMAE") && page.contains("\"dmae \(version)\""), name)
        }
    }

    /// What formats manual pages finds nothing wrong, where it is installed.
    func testFormattersAreContent() throws {
        let folder = TemporaryFolder()
        let names = try pages(folder).keys
        for (program, arguments) in [
            ("/usr/bin/mandoc", ["-Tlint", "-W", "warning"]),
            ("/usr/bin/man", ["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]),
        ] {
            guard FileManager.default.isExecutableFile(atPath: program) else {
                print("\(program) is not here: the pages are not tried")
                continue
            }
            for name in names {
                let result = Command.run(arguments + [folder.file("man1/" + name)], executable: program)
                XCTAssertEqual(result.end, .exited(0), "\(name): \(result)")
                XCTAssertEqual(result.errors, "", "\(name): \(result)")
            }
        }
    }
}
