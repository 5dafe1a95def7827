import Foundation
import TestSupport
import XCTest

/// Programs of which strace makes system calls fail, or which it kills at one. (`make test` installs strace.)
enum Strace {
    private static let path = "/usr/bin/strace"

    /// Skips a test where processes may not be traced.
    static func require() throws {
        guard FileManager.default.isExecutableFile(atPath: path),
            Command.run(["-f", "-o", "/dev/null", "/bin/true"], executable: path).end == .exited(0)
        else { throw XCTSkip("strace cannot trace here") }
    }

    /// Runs the program with `arguments`.
    ///
    /// - Parameters:
    ///   - fault: what befalls which calls, in the words of strace: `fsync,unlink:error=EIO:when=2`.
    ///   - place: the path of the file whose calls alone are meant.
    ///   - trace: where the calls are recorded.
    static func run(_ arguments: [String], _ fault: String, at place: String? = nil, trace: String = "/dev/null")
        -> Command.Result
    {
        let calls = fault.prefix { $0 != ":" }
        // As the program names it, and as the system names its open file.
        let places = place.map { ["-P", $0, "-P", $0.replacingOccurrences(of: "//", with: "/")] }
        return Command.run(
            ["-f", "-qqq", "-o", trace] + (places ?? ["-e", "trace=\(calls)"])
                + ["-e", "inject=\(fault)", Command.binary] + arguments, executable: path)
    }
}
