import Reporting
import Foundation
import Tensors
import TestSupport
import Weights
import XCTest

/// Files that appear complete or not at all.
final class AtomicFileTests: XCTestCase {
    private let folder = TemporaryFolder()

    func testReplacesAndKeepsNothingBeside() throws {
        let path = folder.file("a.txt")
        try AtomicFile.write("old".utf8, to: path)
        try AtomicFile.write("new".utf8, to: path)
        XCTAssertEqual(folder.read("a.txt"), Array("new".utf8))
        XCTAssertEqual(folder.names(), ["a.txt"])
        try AtomicFile.write([], to: path)
        XCTAssertEqual(folder.read("a.txt"), [])
    }

    func testUntilTheEndTheOldFileStands() throws {
        let path = folder.file("a.txt")
        try AtomicFile.write("old".utf8, to: path)
        struct Stop: Error {}
        XCTAssertThrowsError(
            try AtomicFile.write(to: path) { file in
                try Array("half".utf8).withUnsafeBytes { try file.append($0) }
                let names = folder.names()
                XCTAssertEqual(names.count, 2)
                XCTAssertEqual(names[0], "a.txt")
                XCTAssertTrue(names[1].hasPrefix("a.txt.part-\(getpid())-"), names[1])
                XCTAssertEqual(folder.read("a.txt"), Array("old".utf8))
                throw Stop()
            }
        ) { XCTAssertTrue($0 is Stop) }
        XCTAssertEqual(folder.names(), ["a.txt"])
        XCTAssertEqual(folder.read("a.txt"), Array("old".utf8))
    }

    /// Processes in different containers may have the same number. Here one process writes a file twice at a time: each
    /// writing has a part of its own, and the file is whole.
    func testTwoWritersOfOneNumber() throws {
        let path = folder.file("a.txt")
        let first = [UInt8](repeating: 1, count: 5), second = [UInt8](repeating: 2, count: 3)
        try AtomicFile.write(to: path) { file in
            try first.prefix(2).withUnsafeBytes { try file.append($0) }
            try AtomicFile.write(second, to: path)
            XCTAssertEqual(folder.read("a.txt"), second)
            try first.dropFirst(2).withUnsafeBytes { try file.append($0) }
        }
        XCTAssertEqual(folder.read("a.txt"), first)
        XCTAssertEqual(folder.names(), ["a.txt"])
    }

    /// If a tensor file does not fit on the disk or within a limit, the old file stays and nothing else is left.
    private func checkFull(
        _ folder: (path: String, names: () -> [String]), reason: String, _ limited: (() -> Void) -> Void
    )
        throws
    {
        let path = folder.path + "/w.safetensors"
        func write(_ count: Int) throws {
            try withBuffers([[Float](repeating: 1, count: count)]) { buffers in
                var writer = SafeTensorsWriter()
                writer.add("x", shape: [count], floats: buffers[0])
                try writer.write(to: path, checksummed: true)
            }
        }
        try write(10)
        var found: Failure?
        limited { found = failure { try write(1 << 20) } }
        XCTAssertEqual(found?.code, .inputOutput)
        XCTAssertEqual(found?.message, "cannot write \"\(path)\": \(reason)")
        XCTAssertEqual(folder.names(), ["w.safetensors"])
        let old = try SafeTensorsFile(path: path)
        try old.verifyChecksum()
        XCTAssertEqual(try old.floats("x"), [Float](repeating: 1, count: 10))
    }

    func testLimitOnTheSizeOfFiles() throws {
        try checkFull(
            (folder.path, folder.names), reason: "File too large; raise the limit on the size of files (ulimit -f)"
        ) { body in TemporaryFolder.limitingFileSize(to: 1 << 16, body) }
    }

    func testFullDisk() throws {
        let disk = folder.file("disk")
        mkdir(disk, 0o700)
        guard mount("tmpfs", disk, "tmpfs", 0, "size=1m") == 0 else {
            throw XCTSkip("mounting a small disk is not permitted here; testLimitOnTheSizeOfFiles covers the same path")
        }
        defer { umount(disk) }
        try checkFull(
            (disk, { try! FileManager.default.contentsOfDirectory(atPath: disk).sorted() }),
            reason: "No space left on device; free some space or choose another folder"
        ) { body in body() }
    }

    func testPlacesThatCannotBeWritten() {
        let absent = folder.file("absent/a.txt")
        XCTAssertEqual(
            failure { try AtomicFile.write([1], to: absent) },
            Failure(.inputOutput, "cannot write \"\(absent)\": No such file or directory; create its folder first"))
        XCTAssertEqual(
            failure { try AtomicFile.write([1], to: folder.path) },
            Failure(.inputOutput, "cannot write \"\(folder.path)\": it is a folder; name another file"))
        XCTAssertEqual(
            failure { try AtomicFile.write([1], to: "/dev/null") },
            Failure(.inputOutput, "cannot write \"/dev/null\": it is not a regular file; name another file"))
        var status = stat()
        stat("/dev/null", &status)
        XCTAssertEqual(status.st_mode & S_IFMT, S_IFCHR)
    }

    /// The path is not at fault, so the message does not ask to check its permissions.
    func testTooManyOpenFiles() throws {
        let path = folder.file("a.txt")
        try AtomicFile.write("old".utf8, to: path)
        let bodies: [() throws -> Void] = [
            { try AtomicFile.write([1], to: path) }, { _ = try SafeTensorsFile(path: path) },
        ]
        for body in bodies {
            let found = TemporaryFolder.withoutFileDescriptors { failure(body) }
            XCTAssertEqual(found?.code, .inputOutput)
            let words = ": Too many open files; raise the limit on open files (ulimit -n)"
            XCTAssert(found?.message.hasSuffix(words) == true, "\(found as Any)")
        }
        XCTAssertEqual(folder.read("a.txt"), Array("old".utf8))
    }

    func testFollowsSymbolicLinks() throws {
        folder.write("old".utf8, "real.txt")
        symlink(folder.file("real.txt"), folder.file("link.txt"))
        try AtomicFile.write("new".utf8, to: folder.file("link.txt"))
        XCTAssertEqual(folder.read("real.txt"), Array("new".utf8))
        XCTAssertEqual(
            try FileManager.default.destinationOfSymbolicLink(atPath: folder.file("link.txt")), folder.file("real.txt"))
        symlink(folder.file("nowhere.txt"), folder.file("dangling.txt"))
        XCTAssertEqual(
            failure { try AtomicFile.write([1], to: folder.file("dangling.txt")) },
            Failure(
                .inputOutput,
                "cannot write \"\(folder.file("dangling.txt"))\": it is a symbolic link that leads nowhere; name "
                    + "another file"
            ))
        XCTAssertEqual(folder.names(), ["dangling.txt", "link.txt", "real.txt"])
    }

    func testFileModeFollowsTheMask() throws {
        let old = umask(0o027)
        defer { umask(old) }
        try AtomicFile.write([1], to: folder.file("a.txt"))
        var status = stat()
        stat(folder.file("a.txt"), &status)
        XCTAssertEqual(status.st_mode & 0o777, 0o640)
    }

    /// Values of the reference implementation (python-xxhash 3.5) on bytes 3, 10, 17 … (i·7 + 3 modulo 256).
    func testChecksumAgainstTheReference() {
        let bytes = (0..<2000).map { UInt8(truncatingIfNeeded: $0 * 7 + 3) }
        let expected: [(count: Int, plain: UInt64, seeded: UInt64)] = [
            (0, 0xef46_db37_51d8_e999, 0x6ec6_d05f_61c7_e7a7), (1, 0x1f25_c8d0_bc1f_4bb6, 0xc960_5b95_df42_dc9b),
            (3, 0x31d2_363f_52e5_64c9, 0x01e4_5ca3_ec3e_b0cc), (4, 0x9bb6_4b7d_66ee_9fda, 0x37da_6d96_4719_cae7),
            (7, 0x9a7b_1499_59ce_60d8, 0xcab8_76a7_0dc4_6b71), (8, 0xdab9_9d95_c6f9_0092, 0x9468_866a_d01e_d76f),
            (12, 0xd52e_4078_33af_5133, 0xee97_35b9_0167_6a51), (31, 0xa2aa_5f33_cc4a_6119, 0xe8cb_f0e0_0f19_0c6e),
            (32, 0x23c3_c17e_f790_fd97, 0x7ce1_c68e_13aa_e778), (33, 0x50a7_cfc7_ba58_8784, 0x89d5_7d87_d9f5_0a9d),
            (63, 0x5e3e_54b4_31c7_493c, 0x542d_1a3f_c194_a1cc), (64, 0x0eb6_4b3e_f6ee_b01f, 0xf92f_a17e_1a94_a799),
            (100, 0xa61f_8d4c_170f_e531, 0x9869_d9ef_8505_1be9), (1999, 0x89da_4409_c178_7d24, 0xbcb4_a758_218a_e96a),
        ]
        for (count, plain, seeded) in expected {
            // Splitting the bytes into calls must not change the result.
            for piece in [1, 5, 31, 32, 33, 2000] {
                var hashes = [XXHash64(), XXHash64(seed: 0x9E37_79B1_85EB_CA87)]
                for start in stride(from: 0, to: count, by: piece) {
                    bytes.withUnsafeBytes { all in
                        let part = UnsafeRawBufferPointer(rebasing: all[start..<min(start + piece, count)])
                        for index in hashes.indices { hashes[index].update(part) }
                    }
                }
                XCTAssertEqual(hashes.map { $0.finish() }, [plain, seeded], "\(count) bytes by \(piece)")
            }
        }
    }
}
