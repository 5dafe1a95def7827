import Foundation
import Reporting
import XCTest

/// Text of files for a terminal: nothing in it is obeyed.
final class WordingTests: XCTestCase {
    /// ESC, the one-byte CSI, delete, overrides and isolates of the direction, line separators, a mark in place of a
    /// space, and a tag, which takes two units of UTF-16.
    private static let obeyed: [Unicode.Scalar] = [
        "\u{1B}", "\u{9B}", "\u{7F}", "\u{0}", "\u{202E}", "\u{2066}", "\u{200F}", "\u{2028}", "\u{2029}", "\u{FEFF}",
        "\u{E0041}", "\u{85}",
    ]
    private static let shown = "aÄ文👩\u{200D}👩\u{200D}👧 می\u{200C}خواهم é\u{301} \u{A0}~\"\\"

    func testWhatIsObeyedIsEscaped() {
        for scalar in Self.obeyed {
            let code = scalar.escaped(asASCII: true)
            XCTAssertTrue(scalar.isObeyed && code.hasPrefix("\\"), code)
            for text in [
                visible("a\(scalar)b"), escaped("a\(scalar)b"), quoted("a\(scalar)b"), firstNames(["a\(scalar)b"]),
            ] {
                XCTAssertFalse(text.unicodeScalars.contains(scalar), code)
                XCTAssertTrue(text.contains("a\(code)b"), text)
            }
        }
        XCTAssertEqual(visible(Self.shown), Self.shown)
        XCTAssertEqual(visible("a\n\tb\r"), "a\n\tb\\r")
        XCTAssertEqual(quoted("a\n\tb"), "\"a\\n\\tb\"")
        XCTAssertEqual(quoted("abc", limit: 2), "\"ab…\"")
        XCTAssertEqual(escaped("abc", limit: 2) { "… (\($0))" }, "ab… (3)")
    }

    /// JSON escapes them in its own way: what reads it finds the same text.
    func testJSON() throws {
        for scalar in Self.obeyed {
            let value = [Self.shown + String(scalar): "x\(scalar)"]
            for isIndented in [false, true] {
                let bytes = try value.sortedJSON(indented: isIndented)
                let text = String(decoding: bytes, as: UTF8.self)
                XCTAssertFalse(text.unicodeScalars.contains(scalar), text)
                XCTAssertTrue(text.contains("文"), text)
                XCTAssertEqual(try JSONDecoder().decode([String: String].self, from: Data(bytes)), value)
            }
        }
        struct Report: Encodable { let someKey = "\u{9B}" }
        XCTAssertEqual(
            String(decoding: try Report().sortedJSON(isSnakeCase: true), as: UTF8.self), #"{"some_key":"\u009b"}"#)
    }
}

/// Remedies fit the call that failed, not the number alone.
final class SystemErrorTests: XCTestCase {
    private static let calls: [SystemCall] = [
        .opening, .examining, .reading, .mapping, .listing, .writing, .removing, .locking, .makingFolder,
    ]

    func testRemedies() {
        for call in Self.calls {
            for number in 1...133 as ClosedRange<Int32> where number != ENOMEM {
                let text = remedy(number, call)
                XCTAssertFalse(text.contains("memory"), "\(call) \(number): \(text)")
                let isSpace = number == ENOSPC || number == EDQUOT
                let writes = call == .writing || call == .locking || call == .makingFolder
                XCTAssertEqual(text.contains("space"), isSpace && writes, "\(call) \(number): \(text)")
                XCTAssertEqual(text.contains("ulimit -n"), number == EMFILE || number == ENFILE)
                XCTAssertEqual(text.contains("ulimit -f"), number == EFBIG && call == .writing)
                XCTAssertEqual(
                    text.contains("can lock"),
                    call == .locking && [ENOLCK, EOPNOTSUPP, ENOSYS, EINVAL].contains(number), text)
            }
            XCTAssertEqual(remedy(ENOMEM, call), "free some memory and try again")
            XCTAssertEqual(remedy(EINTR, call), "try again")
            XCTAssertTrue(remedy(EIO, call).contains("disk"))
            XCTAssertEqual(remedy(EBUSY, call, otherwise: "wait"), "wait")
            XCTAssertEqual(remedy(ENOMEM, call, otherwise: "wait"), "free some memory and try again")
        }
        XCTAssertEqual(
            Failure.system("cannot map x", EIO, .mapping),
            Failure(.inputOutput, "cannot map x: Input/output error; check its disk"))
        XCTAssertEqual(
            Failure.system("cannot map x", ENOMEM, .mapping),
            Failure(.failure, "cannot map x: Cannot allocate memory; free some memory and try again"))
    }

    /// Under a limit the limit is named.
    func testMemoryUnderALimit() {
        for (resource, words) in [(RLIMIT_AS, "ulimit -v"), (RLIMIT_DATA, "ulimit -d")] {
            var before = rlimit()
            getrlimit(__rlimit_resource_t(resource.rawValue), &before)
            var lowered = before
            lowered.rlim_cur = rlim_t(1 << 40)
            setrlimit(__rlimit_resource_t(resource.rawValue), &lowered)
            defer { setrlimit(__rlimit_resource_t(resource.rawValue), &before) }
            XCTAssertTrue(remedyForMemory().contains(words))
        }
    }
}
