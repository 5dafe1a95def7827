import TestSupport
import XCTest

/// Runs the program, which must refuse: exit with `code`, say one sentence with `words` on standard error, and print no
/// data.
func assertRefused(
    _ arguments: [String], _ code: Int32, _ words: String..., environment: [String: String] = [:],
    file: StaticString = #filePath,
    line: UInt = #line
) {
    assertRefused(Command.run(arguments, environment: environment), code, words, file: file, line: line)
}

/// As above, of a run that has ended.
func assertRefused(
    _ result: Command.Result, _ code: Int32, _ words: [String], file: StaticString = #filePath, line: UInt = #line
) {
    XCTAssertEqual(result.end, .exited(code), result.description, file: file, line: line)
    XCTAssertEqual(result.output, "", file: file, line: line)
    let errors = result.errors.split(separator: "\n").filter { $0.hasPrefix("error: ") }
    XCTAssertEqual(errors.count, 1, "one error, not \(errors.count): \(result.errors)", file: file, line: line)
    for word in words {
        XCTAssertTrue(
            errors.first?.contains(word) == true, "says nothing of \(word): \(result.errors)", file: file, line: line)
    }
    // What a trap, an assertion or Swift's own report of an uncaught error would leave.
    for mark in ["Fatal error", "stack", "Stack", ".swift", "Error: ", "0x"] {
        XCTAssertFalse(result.errors.contains(mark), "internals: \(result.errors)", file: file, line: line)
    }
}

/// Runs the program, which must succeed, and gives what it said.
@discardableResult
func assertRuns(
    _ arguments: [String], environment: [String: String] = [:], seconds: Double = 120, file: StaticString = #filePath,
    line: UInt = #line
) -> Command.Result {
    let result = Command.run(arguments, environment: environment, seconds: seconds)
    XCTAssertEqual(result.end, .exited(0), result.description, file: file, line: line)
    return result
}
