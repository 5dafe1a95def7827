import Foundation
import TestSupport
import XCTest

/// Everything a user reads before anything runs: help screens, version, completion scripts.
final class HelpTests: XCTestCase {
    private static let commands = Command.subcommands()
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
        "Expected")

    /// Every help screen, word for word. With DMAE_RECORD set the screens are written down instead, to be read before
    /// they are kept.
    func testHelpScreens() throws {
        let isRecording = ProcessInfo.processInfo.environment["DMAE_RECORD"] != nil
        for name in ["dmae"] + Self.commands {
            let result = assertRuns((name == "dmae" ? [] : [name]) + ["--help"])
            XCTAssertEqual(result.errors, "", name)
            let file = Self.folder.appendingPathComponent(name + ".txt")
            if isRecording {
                try Data(result.output.utf8).write(to: file)
            } else {
                XCTAssertEqual(
                    result.output, try String(contentsOf: file, encoding: .utf8),
                    "\(name): record the new screen by DMAE_RECORD=1, and read it")
            }
            for line in result.output.split(separator: "\n") {
                // The line of the arguments is not wrapped.
                XCTAssertTrue(line.count <= 80 || line.hasPrefix("USAGE: "), "\(name): \(line)")
            }
            // The rest of an example that was wrapped would stand at the margin.
            let lines = result.output.components(separatedBy: "\n")
            for (line, next) in zip(lines, lines.dropFirst()) where line.hasPrefix("  dmae ") {
                XCTAssertTrue(next.isEmpty || next.hasPrefix("  "), "\(name): \(line) is too long")
            }
        }
        XCTAssertFalse(isRecording, "recorded, not tested")
    }

    /// No option is left unexplained, and no example gives a flag that its command lacks.
    func testEveryOptionIsExplained() throws {
        for name in Self.commands {
            let help = assertRuns([name, "--help"]).output
            let lines = help.components(separatedBy: "\n")
            var options = 0
            for (line, next) in zip(lines, lines.dropFirst()) where line.hasPrefix("  --") && !line.hasPrefix("  -- ") {
                options += 1
                let words = line.count > 26 ? line.dropFirst(24) : ""
                let isExplained = words.contains { $0.isLetter } && line.dropFirst(2).prefix(22).contains(" ")
                XCTAssertTrue(isExplained || next.hasPrefix(String(repeating: " ", count: 24)), "\(name): \(line)")
            }
            XCTAssertGreaterThanOrEqual(options, 2, name)
            let overview = help.components(separatedBy: "USAGE: ")[0], rest = help.components(separatedBy: "USAGE: ")[1]
            for word in overview.split(whereSeparator: { " \n".contains($0) }) where word.hasPrefix("--") {
                let flag = String(word.prefix { $0 == "-" || $0.isLetter || $0.isNumber })
                XCTAssertTrue(
                    [" ", "\n", "/"].contains { rest.contains(flag + $0) }, "\(name): \(flag) is no flag of it")
            }
        }
    }

    func testHelpSubcommandShowsTheSameScreen() {
        for name in Self.commands {
            let help = assertRuns(["help", name]).output
            XCTAssertTrue(help.contains("OVERVIEW: "), help)
            XCTAssertTrue(help.contains("USAGE: dmae \(name)"), help)
        }
    }

    func testVersion() {
        let result = assertRuns(["--version"])
        let pattern =
            #"^\d+\.\d+\.\d+ \(commit ([0-9a-f]{12}\+?|unknown), (debug|release) build for (x86_64|aarch64)\)\n$"#
        XCTAssertNotNil(result.output.range(of: pattern, options: .regularExpression), result.output)
        XCTAssertEqual(result.errors, "")
        XCTAssertEqual(assertRuns(["distill", "--version"]).output, result.output)
    }

    /// The scripts name every command, and the shells that are here accept them.
    func testCompletionScripts() throws {
        let folder = TemporaryFolder()
        var checked = 0
        for shell in ["bash", "zsh", "fish"] {
            let script = assertRuns(["--generate-completion-script", shell]).output
            for word in Self.commands + ["mask-ratio", "vit-base", "paper"] {
                XCTAssertTrue(script.contains(word), "\(shell): nothing of \(word)")
            }
            guard
                let path = ["/bin/", "/usr/bin/"].map({ $0 + shell }).first(
                    where: FileManager.default.isExecutableFile(atPath:))
            else {
                print("\(shell) is not here: its script is not tried")
                continue
            }
            folder.write(script.utf8, shell)
            let result = Command.run(["-n", folder.file(shell)], executable: path)
            XCTAssertEqual(result.end, .exited(0), result.description)
            checked += 1
        }
        XCTAssertGreaterThanOrEqual(checked, 1)
    }

    /// Files, and what is one of a few words, are completed.
    func testCompletionOfValues() {
        let script = assertRuns(["--generate-completion-script", "bash"]).output
        for (command, value, completion) in [
            ("replay", "1", "-f"), ("replay", "'--output'|'-o'", "-f"), ("distill", "'--resume'", "-f"),
            ("pretrain", "'--resume'", "-f"),
            ("bench", "1", #"-W 'distill'$'\n''pretrain'$'\n''finetune'"#),
            (
                "bench", "'--recipe'",
                "-W "
                    + [
                        "paper", "mae", "demo", "demo-teacher", "finetune-base", "finetune-base-dmae",
                        "finetune-large", "finetune-huge", "finetune-small-data",
                    ].map { "'\($0)'" }.joined(separator: #"$'\n'"#)
            ),
        ] {
            let function = script.components(separatedBy: "\n_dmae_\(command)() {\n").last!.components(
                separatedBy: "\n}\n")[0]
            XCTAssertTrue(
                function.contains("\n    \(value))\n        __dmae_add_completions \(completion)\n"),
                "\(command) \(value): \(function)")
        }
    }

    /// What could not be printed is an error here, too.
    func testFullDisk() {
        for arguments in [
            [], ["--help"], ["--version"], ["help", "bench"], ["distill", "--help"],
            ["--generate-completion-script", "bash"],
        ] {
            assertRefused(Command.run(arguments, output: "/dev/full"), 74, ["cannot write to standard output"])
        }
    }

    /// Without arguments there is help, and what is misspelt leads to it.
    func testNothingAndMisspelling() {
        XCTAssertEqual(assertRuns([]).output, assertRuns(["--help"]).output)
        assertRefused(["distil"], 64, "Unexpected argument 'distil'")
        for arguments in [["help", "distil"], ["distil", "--help"], ["distil", "-h"], ["distil", "--version"]] {
            assertRefused(arguments, 64, "Unexpected argument 'distil'")
        }
        assertRefused(["help", "doctor", "now"], 64, "Unexpected argument 'now'")
        XCTAssertEqual(assertRuns(["help"]).output, assertRuns(["--help"]).output)
        assertRefused(["doctor", "--thread", "1"], 64, "Unknown option '--thread'. Did you mean '--threads'?")
        assertRefused(["replay"], 64, "Missing expected argument")
    }
}
