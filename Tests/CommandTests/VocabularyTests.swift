import Foundation
import Reporting
import TestSupport
import XCTest

/// Messages name fields; the words for them belong to the place where they are set.
final class VocabularyTests: XCTestCase {
    /// Every field that a message can name is a flag of some command, with a form that switches it off where messages
    /// have one.
    func testEveryFieldIsAFlag() throws {
        let commands = Command.subcommands()
        let help = commands.map { Command.run([$0, "--help"]).output }
        for (command, text) in zip(commands, help) { XCTAssertTrue(text.contains("--help"), command) }
        let words = Set(help.joined(separator: "\n").split { " \n,/[]".contains($0) }.map(String.init))
        for field in Field.allCases where field != .method {
            XCTAssertTrue(words.contains("--" + field.rawValue.replacing(" ", with: "-")), field.rawValue)
        }
        XCTAssertTrue(words.contains("--no-normalize-pixels"))
        // The only switch without such a form that a message may call off.
        XCTAssertFalse(words.contains("--no-stored-orientation"))
    }

    /// Below the program itself nobody knows that there is a command line.
    func testFlagsAreOfTheProgramAlone() throws {
        let sources = URL(fileURLWithPath: Fixtures.folder).deletingLastPathComponent().appendingPathComponent(
            "Sources")
        let rooms = try FileManager.default.contentsOfDirectory(atPath: sources.path).filter { $0 != "dmae" }
        XCTAssertTrue(
            Set(["Reporting", "Tensors", "Images", "Weights", "Models", "Interchange", "Inference", "Training"])
                .isSubset(of: rooms), "\(rooms)")
        let flag = try NSRegularExpression(pattern: "(?<![\\w-])--[a-z]")
        var checked = 0
        for room in rooms {
            let folder = sources.appendingPathComponent(room)
            let files = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)
            for case let file as URL in try XCTUnwrap(files) where file.pathExtension == "swift" {
                // Generated, with the command line that made it.
                if file.lastPathComponent.hasSuffix(".pb.swift") { continue }
                checked += 1
                let text = try String(contentsOf: file, encoding: .utf8)
                for (index, line) in text.components(separatedBy: "\n").enumerated() {
                    let hit = flag.firstMatch(in: line, range: NSRange(line.startIndex..., in: line))
                    XCTAssertNil(hit, "\(room)/\(file.lastPathComponent):\(index + 1): \(line)")
                }
            }
        }
        XCTAssertGreaterThan(checked, 80)
    }
}
