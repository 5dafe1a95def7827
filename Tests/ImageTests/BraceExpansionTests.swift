import Reporting
import TestSupport
import XCTest

import Images

final class BraceExpansionTests: XCTestCase {
    /// As Python's braceexpand, which WebDataset uses for the names of shards.
    func testAsWebDataset() throws {
        for (pattern, texts) in [
            ("train-{000..003}.tar", ["train-000.tar", "train-001.tar", "train-002.tar", "train-003.tar"]),
            ("{a,b}/{1..2}", ["a/1", "a/2", "b/1", "b/2"]), ("{1}", ["{1}"]), ("{}", ["{}"]),
            ("{1,2{}}", ["1", "2{}"]), ("}{", ["}{"]), ("a{b,c{d,e,}}", ["ab", "acd", "ace", "ac"]),
            ("a{b,{c,{d,e}}}", ["ab", "ac", "ad", "ae"]), ("{{a,b},{c,d}}", ["a", "b", "c", "d"]),
            ("python{2.{5..7},3.{2,3}}", ["python2.5", "python2.6", "python2.7", "python3.2", "python3.3"]),
            ("{7..10}", ["7", "8", "9", "10"]), ("{10..7}", ["10", "9", "8", "7"]), ("{1..5..2}", ["1", "3", "5"]),
            ("{5..1..2}", ["5", "3", "1"]), ("{1..3..0}", ["1", "2", "3"]), ("{1..3..-1}", ["1", "2", "3"]),
            ("{07..10}", ["07", "08", "09", "10"]), ("{7..010}", ["007", "008", "009", "010"]),
            ("{2..-1}", ["2", "1", "0", "-1"]), ("{a..g..2}", ["a", "c", "e", "g"]), ("{Y..b}", ["Y", "Z", "a", "b"]),
            ("{b..a}", ["b", "a"]), ("index{,.backup}", ["index", "index.backup"]), ("{a..10}", ["{a..10}"]),
            ("\\{1,2}", ["{1,2}"]), ("{1\\,2,3}", ["1,2", "3"]), ("é{ü,ö}", ["éü", "éö"]), ("plain.tar", ["plain.tar"]),
            ("{a{b,c}}", ["{ab}", "{ac}"]), ("open{1,2", ["open{1,2"]),
        ] {
            XCTAssertEqual(try BraceExpansion.texts(of: pattern), texts, pattern)
        }
        for pattern in ["{1..9999999}", "{0..9999}{0..999}", "{-9223372036854775808..9223372036854775807}"] {
            let failure = failure { _ = try BraceExpansion.texts(of: pattern) }
            XCTAssertEqual(failure?.code, .usage, pattern)
            XCTAssert(failure?.message.contains("stands for more than 1,000,000 files") == true, "\(failure as Any)")
        }
        // Many braces need no stack.
        XCTAssertEqual(try BraceExpansion.texts(of: String(repeating: "{", count: 500)).count, 1)
    }
}
