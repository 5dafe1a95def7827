import Interchange
import Reporting
import TestSupport
import XCTest

/// Class directories given to the classes of a head.
final class ClassMappingTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func mapping(
        _ folder: [String], _ head: Int, _ names: [String]? = nil, _ map: ClassMap? = nil
    ) throws -> ClassMapping { try ClassMapping(folder: folder, head: head, names: names, map: map) }

    private func list(_ text: String) throws -> ClassMap { try ClassMap(folder.write(text.utf8, "map.txt")) }

    private func refused(_ words: String..., line: UInt = #line, _ body: () throws -> Void) {
        let failure = failure(body)
        XCTAssertEqual(failure?.code, .badData, line: line)
        for word in words {
            XCTAssertTrue(
                failure?.message.contains(word) == true, "nothing of \(word): \(failure?.message ?? "no failure")",
                line: line)
        }
    }

    /// Without names the order is that of the bytes, and a note shows where timm's differs.
    func testWithoutNames() throws {
        let letters = try mapping(["ant", "bee", "cat"], 3)
        XCTAssertEqual(letters, try mapping(["ant", "bee", "cat"], 3, nil, .natural))
        XCTAssertEqual(letters.indices, [0, 1, 2])
        XCTAssertEqual(letters.notes, [])
        let digits = try mapping(["0", "1", "10", "11", "2"], 5)
        XCTAssertEqual(digits.indices, [0, 1, 2, 3, 4])
        XCTAssertEqual(digits.notes.count, 1)
        XCTAssertTrue(
            digits.notes[0].description.contains(
                "in which \"10\" is class 2; in the natural order, which timm trains with, it would be \"2\": "),
            digits.notes[0].description)
        let natural = try mapping(["0", "1", "10", "11", "2"], 5, nil, .natural)
        XCTAssertEqual(natural.indices, [0, 1, 3, 4, 2])
        XCTAssertEqual(natural.notes, [])
        refused("2 class directories", "has 3 classes", "class map") { _ = try mapping(["a", "b"], 3) }
        refused("1 class directory,", "has 2 classes") { _ = try mapping(["a"], 2, nil, .natural) }
        refused("the images are not", "one directory for each class") { _ = try mapping([], 2) }
        refused("has 3 classes", "; did you mean data/val?") {
            _ = try ClassMapping(folder: ["a", "b"], head: 3, names: nil, map: nil, meant: "data/val")
        }
    }

    /// Python: sorted(names, key=timm.utils.misc.natural_key), of names that stand here in the order of their bytes.
    func testNaturalOrderIsTimms() throws {
        let names = [
            "", "007", "1", "10a", "2", "7", "A1", "B", "a", "a-1", "a1", "a01b", "a1b2", "a1b10", "a2", "n02", "n1",
            "é2",
        ]
        let sorted = [
            "", "1", "2", "007", "7", "10a", "a", "A1", "a1", "a01b", "a1b2", "a1b10", "a2", "a-1", "B", "n1", "n02",
            "é2",
        ]
        let byBytes = names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        let places = try mapping(byBytes, names.count, nil, .natural).indices
        var found = [String](repeating: "", count: names.count)
        for (name, place) in zip(byBytes, places) { found[place] = name }
        XCTAssertEqual(found, sorted)
    }

    /// Weights with names are held to them, in whatever order their head was trained.
    func testNames() throws {
        XCTAssertEqual(try mapping(["ant", "bee", "cat"], 3, ["cat", "ant", "bee"]).indices, [1, 2, 0])
        XCTAssertEqual(try mapping(["1", "10", "2"], 3, ["1", "2", "10"]).notes, [])
        refused("(3)", "(4)", "only the data has \"emu\"", "only the weights have \"bee\", \"dog\"") {
            _ = try mapping(["ant", "cat", "emu"], 4, ["ant", "bee", "cat", "dog"])
        }
        refused("only the weights have \"a\", \"b\", \"c\" and 1 more; name") {
            _ = try mapping(["e"], 5, ["a", "b", "c", "d", "e"])
        }
        refused("have \"crane\" twice") { _ = try mapping(["crane", "x"], 3, ["crane", "x", "crane"]) }
        // The same letter in other bytes is another name.
        refused("only the data has") { _ = try mapping(["\u{E9}"], 1, ["e\u{301}"]) }
        // By position, whatever the names.
        XCTAssertEqual(try mapping(["n1", "n2"], 2, ["tench", "goldfish"], .natural).indices, [0, 1])
    }

    /// Where a user cannot give a map, no message advises one.
    func testWithoutAMap() throws {
        let notes = try ClassMapping(folder: ["1", "10", "2"], head: 3, names: nil, map: nil, canMap: false).notes
        XCTAssertEqual(notes.count, 1)
        XCTAssertFalse(notes[0].description.contains("class map"), notes[0].description)
        for (head, names) in [(4, nil), (3, ["1", "2", "3"])] as [(Int, [String]?)] {
            let failure = failure {
                _ = try ClassMapping(folder: ["1", "10", "2"], head: head, names: names, map: nil, canMap: false)
            }
            XCTAssertEqual(failure?.code, .badData)
            XCTAssertFalse(failure!.message.contains("class map"), failure!.message)
        }
    }

    func testList() throws {
        let map = try list("a\t2\r\n\nb , second name\nc d\t0\n e   1 \nunused 1\n")
        XCTAssertEqual(
            try mapping(["a", "b", "c d", "e"], 4, ["x", "second name", "y", "z"], map).indices, [2, 1, 0, 1])
        XCTAssertEqual(try mapping(["a"], 4, nil, map).indices, [2])
        refused("map.txt\", line 3", "do not name their classes", "0 to 3") {
            _ = try mapping(["b"], 4, nil, map)
        }
        refused("map.txt\", line 1", "no class 2", "0 to 1") { _ = try mapping(["a"], 2, nil, map) }
        refused("leaves out 1 of the 2 class directories: \"new\"") { _ = try mapping(["a", "new"], 4, nil, map) }
        refused("\"second name\" is no class", "\"v\", \"w\", \"x\" and 1 more") {
            _ = try mapping(["b"], 4, ["v", "w", "x", "y"], map)
        }
        refused("the name of classes 0 and 3", "give the index") {
            _ = try mapping(["b"], 4, ["second name", "w", "x", "second name"], map)
        }
        refused("line 2", "\"alone\"") { _ = try list("a 1\nalone\n") }
        refused("line 2", "on line 1 already") { _ = try list("a 1\na 2\n") }
        refused("lists no class directory") { _ = try list(" \n") }
        refused("no UTF-8") { _ = try ClassMap(folder.write([0x61, 0x20, 0xFF], "bytes")) }
        XCTAssertEqual(failure { _ = try ClassMap(folder.file("gone")) }?.code, .inputOutput)
    }
}
