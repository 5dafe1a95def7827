import Foundation
import Reporting
import TestSupport
import XCTest

import Images

final class TarReaderTests: XCTestCase {
    private func members(_ bytes: [UInt8]) throws -> [TarMember] {
        var reader = TarReader(ArchiveBytes(path: "a.tar", bytes: bytes), named: "a.tar"), members: [TarMember] = []
        while let member = try reader.next() { members.append(member) }
        return members
    }

    /// What Python's tarfile reads in the archives of Fixtures/tars.
    private struct Expected: Decodable {
        let path, kind, target: String
        let offset: Int
        let size: Int?
    }

    /// ustar, pax, GNU and the oldest form, with long names and links: as Python's tarfile.
    func testAsTarfile() throws {
        let folder = Fixtures.path("tars")
        let expected = try JSONDecoder().decode(
            [String: [Expected]].self, from: Data(contentsOf: URL(fileURLWithPath: folder + "/expected.json")))
        XCTAssertEqual(expected.count, 8)
        for (name, expected) in expected {
            let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(name)")))
            let found = try members(bytes)
            XCTAssertEqual(found.count, expected.count, name)
            for (member, expected) in zip(found, expected) {
                let path = String(decoding: member.path, as: UTF8.self)
                // tarfile takes the slash of a folder away.
                XCTAssertEqual(path.hasSuffix("/") ? String(path.dropLast()) : path, expected.path, name)
                switch member.kind {
                case .regular: XCTAssertEqual(expected.kind, "regular", path)
                case .folder: XCTAssertEqual(expected.kind, "folder", path)
                case .sparse: XCTAssertEqual(expected.kind, "sparse", "\(name): \(path)")
                case .other: XCTAssertEqual(expected.kind, "other", path)
                case .link(let target, let isHard):
                    XCTAssertEqual(expected.kind, isHard ? "hard link" : "symbolic link", path)
                    XCTAssertEqual(String(decoding: target, as: UTF8.self), expected.target, path)
                }
                guard let size = expected.size else { continue }
                XCTAssertEqual(member.content, expected.offset..<expected.offset + size, "\(name): \(path)")
                let text = String(repeating: "content of \(path)", count: 7)
                if size > 0 { XCTAssertEqual(String(decoding: bytes[member.content], as: UTF8.self), text) }
            }
        }
    }

    /// Windows of reading do not matter: an archive whose headers lie anywhere.
    func testContentOfAnySize() throws {
        var builder = TarBuilder()
        let sizes = [0, 1, 511, 512, 513, 7679, 7680, 7681, 20_000, 8192, 3]
        for (index, size) in sizes.enumerated() { builder.add("\(index).jpg", [UInt8](repeating: 7, count: size)) }
        for bytes in [builder.finished(), builder.bytes] {
            XCTAssertEqual(try members(bytes).map(\.content.count), sizes)
        }
        // Without the padding of the last member.
        XCTAssertEqual(try members(Array(builder.bytes.dropLast(509))).map(\.content.count), sizes)
        var reader = TarReader(ArchiveBytes(path: "a", bytes: builder.bytes), named: "a")
        while try reader.next() != nil {}
        XCTAssertFalse(reader.hasEndMark)
    }

    /// A size in base 256, and one of an extended header.
    func testSizes() throws {
        var builder = TarBuilder()
        builder.add("1.jpg", Array("12345".utf8))
        var bytes = builder.finished()
        bytes.replaceSubrange(124..<136, with: [0x80] + [UInt8](repeating: 0, count: 10) + [5])
        func repair(_ bytes: inout [UInt8]) {
            for index in 148..<156 { bytes[index] = 0x20 }
            let sum = String(bytes[..<512].reduce(0) { $0 + Int($1) }, radix: 8)
            bytes.replaceSubrange(
                148..<156, with: Array((String(repeating: "0", count: 6 - sum.count) + sum).utf8) + [0, 0x20])
        }
        repair(&bytes)
        XCTAssertEqual(try members(bytes).map(\.content), [512..<517])
        for first: [UInt8] in [[0xFF], [0x80, 0x7F]] {
            bytes.replaceSubrange(124..<124 + first.count, with: first)
            repair(&bytes)
            XCTAssertEqual(failure { _ = try members(bytes) }?.code, .badData)
        }
        var extended = TarBuilder()
        extended.addExtension(["size": "5", "path": "long/name.jpg"])
        extended.add("x", Array("12345".utf8), size: 0)
        let found = try members(extended.finished())
        XCTAssertEqual(found.map(\.content.count), [5])
        XCTAssertEqual(found.map(\.path), [Array("long/name.jpg".utf8)])
    }

    /// Cut off or changed anywhere, an archive is refused in one sentence or read; nothing else happens.
    func testDamage() throws {
        var builder = TarBuilder()
        builder.add("a/", type: "5")
        builder.add("a/1.jpg", [UInt8](repeating: 1, count: 700))
        builder.addExtension(["path": "a/long.jpg"])
        builder.add("x", [UInt8](repeating: 2, count: 10))
        let whole = builder.finished()
        XCTAssertEqual(try members(whole).count, 3)
        for length in stride(from: 1, to: builder.bytes.count, by: 61) {
            guard let failure = failure({ _ = try members(Array(whole[..<length])) }) else { continue }
            XCTAssertEqual(failure.code, .badData)
            XCTAssertTrue(failure.message.hasPrefix("a.tar "), failure.message)
        }
        XCTAssertEqual(
            failure { _ = try members(Array(whole[..<1500])) }?.message,
            "a.tar ends in the middle of a/1.jpg: it was not written, copied or downloaded to the end; copy it again")
        var changed = whole
        changed[512 + 20] = 7
        XCTAssertEqual(
            failure { _ = try members(changed) }?.message,
            "a.tar is damaged: there is no member's header at byte 512; copy it again")
        changed = whole
        changed[0] = 7
        XCTAssertEqual(
            failure { _ = try members(changed) }?.message,
            "a.tar is not a tar archive, whatever its name says: name one")
        for text in ["5 path", "999 path=x\n", "0 path=x\n", "path=x\n", "11 path=xxx.", "6 pat\n"] {
            var broken = TarBuilder()
            broken.add("first.jpg")
            broken.add("PaxHeaders/x", Array(text.utf8), type: "x")
            broken.add("x.jpg")
            XCTAssertEqual(failure { _ = try members(broken.finished()) }?.code, .badData, text)
        }
        var huge = TarBuilder()
        huge.add("L", [], type: "L", size: 1 << 30)
        XCTAssertEqual(failure { _ = try members(huge.finished()) }?.code, .badData)
        var alone = TarBuilder()
        alone.addExtension(["path": "x"])
        XCTAssertEqual(failure { _ = try members(alone.bytes) }?.code, .badData)
        XCTAssertEqual(failure { _ = try members(alone.finished()) }?.code, .badData)
    }
}
