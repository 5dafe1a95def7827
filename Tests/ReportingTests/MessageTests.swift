import Reporting
import XCTest

final class MessageTests: XCTestCase {
    private struct Keys: Vocabulary {
        func name(_ field: Field) -> String { field.rawValue.replacing(" ", with: "_") }
        func phrase(_ field: Field, isOn: Bool) -> String { "\(name(field)): \(isOn)" }
    }

    /// One sentence, in the words of each place.
    func testVocabularies() {
        let ratio = 0.99
        let message: Message =
            "\(.maskRatio, ratio) leaves none of \(4) patches visible: lower it, or \(.patchSize)"
            + "; \(.normalizePixels, false)"
        XCTAssertEqual(
            message.description,
            "mask ratio 0.99 leaves none of 4 patches visible: lower it, or patch size; no normalize pixels")
        XCTAssertEqual(
            message.text(in: Keys()),
            "mask_ratio 0.99 leaves none of 4 patches visible: lower it, or patch_size; normalize_pixels: false")
    }

    /// The parts of a sentence do not show how it was put together.
    func testEquality() {
        let name = "x"
        XCTAssertEqual("a \(name)" + " b" as Message, "a x b")
        XCTAssertEqual("\("a \(.seed, 3)" as Message) b", "a \(.seed, 3) b" as Message)
        XCTAssertNotEqual("seed 3", "\(.seed, 3)" as Message)
        XCTAssertEqual([1, 2].map { "\(.align, $0)" }.joined(separator: " ") as Message, "\(.align, 1) \(.align, 2)")
        XCTAssertEqual([Message]().joined(separator: " "), "")
    }

    /// What wraps a failure keeps the fields in it.
    func testFailuresOfFiles() {
        let failure = Failure(.usage, "\(.heads) is needed").found(in: "a b", as: .badData)
        XCTAssertEqual(failure, Failure(.badData, "a b: \(.heads) is needed"))
        XCTAssertEqual(failure.message(in: Keys()), "a b: heads is needed")
        XCTAssertEqual("\(failure)", failure.message)
    }

    func testMinima() {
        XCTAssertNoThrow(try Field.keep.requireAtLeast(1, 1))
        XCTAssertThrowsError(try Field.keep.requireAtLeast(1, 0)) {
            XCTAssertEqual($0 as? Failure, Failure(.usage, "\(.keep) must be at least 1"))
        }
    }

    /// A field is told from every other one by its words, whatever joins them.
    func testFieldsHaveNamesOfTheirOwn() {
        let names = Field.allCases.map(\.rawValue)
        XCTAssertEqual(Set(names.map { $0.replacing(" ", with: "") }).count, names.count)
        for name in names {
            XCTAssertTrue(
                name.utf8.allSatisfy { (0x61...0x7A).contains($0) || $0 == 0x20 || (0x30...0x39).contains($0) }, name)
        }
    }
}
