import Foundation
import Reporting
import XCTest

/// Words of commands that a person copies.
final class ShellTests: XCTestCase {
    /// bash reads back what was given, and a terminal obeys nothing in it.
    func testWords() throws {
        XCTAssertEqual(Shell.word("run-2/a.b"), "run-2/a.b")
        XCTAssertEqual(Shell.word("my run"), "'my run'")
        for text in [
            "", "my run", "it's", "a\"b", "$HOME", "a\\b", "line\nbreak", "tab\tand 'quote'", "\u{1B}[31mred",
            "\u{202E}x",
            "\u{9B}2J", "ä\n€ 5", "back\\\n",
        ] {
            let word = Shell.word(text)
            XCTAssertFalse(word.unicodeScalars.contains(where: \.isObeyed), word)
            let process = Process(), pipe = Pipe()
            process.executableURL = URL(fileURLWithPath: "/bin/bash")
            process.arguments = ["-c", "printf %s \(word)"]
            process.standardOutput = pipe
            try process.run()
            let output = pipe.fileHandleForReading.readDataToEndOfFile()
            process.waitUntilExit()
            XCTAssertEqual(Array(output), Array(text.utf8), word)
        }
    }
}
