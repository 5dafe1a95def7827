import Reporting
import Foundation
import Tensors
import TestSupport
import Weights
import XCTest

/// Invalid files: each is refused with a specific message, and none crashes the process.
final class HostileFileTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func file(header: [UInt8], length: UInt64? = nil, data: Int = 0) -> [UInt8] {
        withUnsafeBytes(of: (length ?? UInt64(header.count)).littleEndian, Array.init) + header
            + [UInt8](repeating: 1, count: data)
    }

    /// The message after the quoted path.
    private func refusal(_ bytes: [UInt8]) throws -> String {
        let path = folder.write(bytes, "hostile.safetensors")
        let found = try XCTUnwrap(failure { _ = try SafeTensorsFile(path: path) }, "was accepted")
        XCTAssertEqual(found.code, .badData)
        XCTAssertTrue(found.message.hasPrefix("\"\(path)\" is "), found.message)
        XCTAssertFalse(found.message.contains("\n"), found.message)
        return String(found.message.dropFirst(path.utf8.count + 3))
    }

    /// The maximum memory of the program that refuses a file, in bytes.
    private static let memoryBound = 64 << 20

    /// The program must refuse a file: exit code 65, one sentence, and little memory for any size that the file claims.
    ///
    /// - Parameter folder: the folder of all files if only one of several is invalid.
    /// - Returns: the peak memory of the program.
    private func assertProgramRefuses(_ path: String, _ what: String, of folder: String? = nil, line: UInt = #line)
        -> Int
    {
        let (result, peakMemory) = Command.measure(["inspect", path], seconds: 30)
        XCTAssertEqual(result.end, .exited(65), "\(what): \(result.description)", line: line)
        XCTAssertEqual(result.output, "", what, line: line)
        let errors = result.errors.split(separator: "\n")
        XCTAssertEqual(errors.count, 1, result.errors, line: line)
        XCTAssertTrue(
            errors.first?.hasPrefix("error: \"\(folder.map { $0 + "/" } ?? path + "\" ")") == true, result.errors,
            line: line)
        XCTAssertLessThan(peakMemory, Self.memoryBound, what, line: line)
        return peakMemory
    }

    func testHeaderFaults() throws {
        func f32(_ shape: String, _ begin: Int, _ end: Int) -> String {
            "{\"dtype\":\"F32\",\"shape\":\(shape),\"data_offsets\":[\(begin),\(end)]}"
        }
        let types = TensorType.allCases.map(\.rawValue).joined(separator: " ")
        // The header, the number of bytes of data after it, and the message.
        let cases: [(header: String, data: Int, what: String)] = [
            ("", 0, "does not begin with '{'"),
            (" {}", 0, "does not begin with '{'"),
            ("[]", 0, "does not begin with '{'"),
            ("{", 0, "is not JSON: a quoted key is missing before its end"),
            ("{}x", 0, "is followed by something that is not white space at byte 2"),
            ("{}\0", 0, "is followed by something that is not white space at byte 2"),
            ("{,}", 0, "is not JSON: a quoted key is missing at byte 1"),
            ("{a:1}", 0, "is not JSON: a quoted key is missing at byte 1"),
            ("{\"a\"}", 0, "is not JSON: ':' is missing at byte 4"),
            ("{\"a", 0, "is not JSON: a string is not closed before its end"),
            ("{\"a\\", 0, "is not JSON: a string is not closed before its end"),
            ("{\"a\u{1}\":1}", 0, "is not JSON: a string holds a raw control character at byte 3"),
            ("{\"\\q\":1}", 0, "is not JSON: an unknown escape at byte 3"),
            ("{\"\\u12G4\":1}", 0, "is not JSON: \\u is not followed by four hexadecimal digits at byte 6"),
            ("{\"\\ud800\":1}", 0, "is not JSON: half of a surrogate pair is missing at byte 8"),
            ("{\"\\ud800\\u0041\":1}", 0, "is not JSON: half of a surrogate pair is missing at byte 14"),
            ("{\"\\udc00\":1}", 0, "is not JSON: half of a surrogate pair is missing at byte 8"),
            ("{\"a\":\(f32("[1]", 0, 4)) \"b\":1}", 4, "is not JSON: '}' is missing at byte 54"),
            ("{\"a\":\(f32("[1]", 0, 4)),}", 4, "is not JSON: a quoted key is missing at byte 54"),
            ("{\"a\":\(f32("[1]", 0, 4))", 4, "is not JSON: '}' is missing before its end"),
            ("{\"a\":1}", 0, "describes tensor \"a\" by something that is not an object"),
            ("{\"a\":null}", 0, "describes tensor \"a\" by something that is not an object"),
            ("{\"a\":[[[[[[[[]]]]]]]]}", 0, "describes tensor \"a\" by something that is not an object"),
            ("{\"a\":{}}", 0, "describes tensor \"a\" without dtype"),
            ("{\"a\":{\"dtype\":\"F32\"}}", 0, "describes tensor \"a\" without shape"),
            ("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, "describes tensor \"a\" without data_offsets"),
            ("{\"a\":{\"dtype\":5}}", 0, "describes tensor \"a\" with a dtype that is not a string"),
            (
                "{\"a\":{\"dtype\":\"F33\"}}", 0,
                "describes tensor \"a\" with dtype \"F33\", which is not one of \(types)"
            ),
            (
                "{\"a\":{\"dtype\":\"f32\"}}", 0,
                "describes tensor \"a\" with dtype \"f32\", which is not one of \(types)"
            ),
            ("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, "describes tensor \"a\" with dtype twice"),
            ("{\"a\":{\"shape\":[],\"shape\":[]}}", 0, "describes tensor \"a\" with shape twice"),
            (
                "{\"a\":{\"data_offsets\":[0,0],\"data_offsets\":[0,0]}}", 0,
                "describes tensor \"a\" with data_offsets twice"
            ),
            (
                "{\"a\":{\"strides\":[1]}}", 0,
                "describes tensor \"a\" with \"strides\", which is not dtype, shape or data_offsets"
            ),
            ("{\"a\":{\"shape\":3}}", 0, "describes tensor \"a\" with shape that is not a list"),
            ("{\"a\":{\"shape\":[1,]}}", 0, "is not JSON: a number is missing at byte 17, in shape of tensor \"a\""),
            ("{\"a\":{\"shape\":[\"1\"]}}", 0, "is not JSON: a number is missing at byte 15, in shape of tensor \"a\""),
            ("{\"a\":{\"shape\":[[1]]}}", 0, "is not JSON: a number is missing at byte 15, in shape of tensor \"a\""),
            ("{\"a\":{\"shape\":[-1]}}", 0, "holds a negative number at byte 15, in shape of tensor \"a\""),
            (
                "{\"a\":{\"shape\":[1.0]}}", 0,
                "holds a number that is not an integer at byte 16, in shape of tensor \"a\""
            ),
            (
                "{\"a\":{\"shape\":[1e3]}}", 0,
                "holds a number that is not an integer at byte 16, in shape of tensor \"a\""
            ),
            ("{\"a\":{\"shape\":[01]}}", 0, "is not JSON: a number starts with 0 at byte 17, in shape of tensor \"a\""),
            (
                "{\"a\":{\"shape\":[9223372036854775808]}}", 0,
                "holds a number beyond 2^63 at byte 33, in shape of tensor \"a\""
            ),
            (
                "{\"a\":{\"shape\":[99999999999999999999]}}", 0,
                "holds a number beyond 2^63 at byte 33, in shape of tensor \"a\""
            ),
            (
                "{\"a\":{\"shape\":[\(String(repeating: "1,", count: 64))1]}}", 0,
                "describes tensor \"a\" with shape of more than 64 numbers"
            ),
            ("{\"a\":{\"shape\":[1 2]}}", 0, "is not JSON: ']' is missing at byte 17"),
            (
                "{\"a\":{\"data_offsets\":[0]," + "\"dtype\":\"F32\",\"shape\":[]}}", 4,
                "describes tensor \"a\" with data_offsets of fewer than 2 numbers"
            ),
            (
                "{\"a\":{\"data_offsets\":[0,4,8]}}", 4,
                "describes tensor \"a\" with data_offsets of more than 2 numbers"
            ),
            ("{\"a\":\(f32("[1]", 4, 0))}", 4, "describes tensor \"a\" with data_offsets that end before they begin"),
            ("{\"a\":\(f32("[2]", 0, 4))}", 4, "describes tensor \"a\" with 4 bytes where its shape and dtype need 8"),
            ("{\"a\":\(f32("[]", 0, 8))}", 8, "describes tensor \"a\" with 8 bytes where its shape and dtype need 4"),
            ("{\"a\":\(f32("[0]", 0, 4))}", 4, "describes tensor \"a\" with 4 bytes where its shape and dtype need 0"),
            (
                "{\"a\":\(f32("[4611686018427387904]", 0, 0))}", 0,
                "describes tensor \"a\" with a shape of more than 2^63 bytes"
            ),
            (
                "{\"a\":\(f32("[4294967296,4294967296,0]", 0, 0))}", 0,
                "describes tensor \"a\" with a shape of more than 2^63 bytes"
            ),
            // An empty tensor whose shape overflows for a 4-byte type, or with its dimensions in another order.
            (
                "{\"a\":{\"dtype\":\"F16\",\"shape\":[2305843009213693952,0],\"data_offsets\":[0,0]}}", 0,
                "describes tensor \"a\" with a shape of more than 2^63 bytes"
            ),
            (
                "{\"a\":\(f32("[0,2305843009213693952]", 0, 0))}", 0,
                "describes tensor \"a\" with a shape of more than 2^63 bytes"
            ),
            ("{\"a\":\(f32("[1]", 0, 4)),\"a\":\(f32("[1]", 4, 8))}", 8, "names \"a\" twice"),
            ("{\"a\":\(f32("[1]", 0, 4)),\"\\u0061\":\(f32("[1]", 4, 8))}", 8, "names \"a\" twice"),
            (
                "{\"a\":\(f32("[2]", 0, 8)),\"b\":\(f32("[2]", 4, 12))}", 12,
                "lets tensor \"b\" overlap the one before it"
            ),
            ("{\"a\":\(f32("[2]", 0, 8)),\"b\":\(f32("[2]", 0, 8))}", 8, "lets tensor \"b\" overlap the one before it"),
            ("{\"a\":\(f32("[1]", 0, 4)),\"b\":\(f32("[1]", 8, 12))}", 12, "leaves 4 unused bytes before tensor \"b\""),
            ("{\"a\":\(f32("[1]", 4, 8))}", 8, "leaves 4 unused bytes before tensor \"a\""),
            ("{\"a\":\(f32("[2]", 0, 8))}", 7, "describes 8 bytes of data but the file holds 7: it was cut off"),
            ("{\"a\":\(f32("[2]", 0, 8))}", 9, "describes 8 bytes of data but 9 follow it"),
            ("{}", 1, "describes 0 bytes of data but 1 follow it"),
            ("{\"__metadata__\":null}", 0, "holds a __metadata__ that is not an object"),
            ("{\"__metadata__\":[]}", 0, "holds a __metadata__ that is not an object"),
            ("{\"__metadata__\":{\"k\":1}}", 0, "holds metadata \"k\" that is not a string"),
            ("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "holds metadata \"k\" twice"),
            ("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "names \"__metadata__\" twice"),
            ("{\"a\\n\\u001b[31m\":1}", 0, "describes tensor \"a\\n\\u{1B}[31m\" by something that is not an object"),
            (
                "{\"\(String(repeating: "n", count: 200))\":1}", 0,
                "describes tensor \"\(String(repeating: "n", count: 80))…\" by something that is not an object"
            ),
        ]
        var said = Set<String>()
        var largest = 0
        for (header, data, what) in cases {
            XCTAssertEqual(
                try refusal(file(header: Array(header.utf8), data: data)),
                "is not a valid safetensors file: its header \(what); download or write the file again", header)
            said.insert(what)
            largest = max(largest, assertProgramRefuses(folder.file("hostile.safetensors"), header))
        }
        XCTAssertGreaterThanOrEqual(said.count, 50)
        print("\(cases.count) bad headers; refusing one takes at most \(largest / 1024) KiB")
    }

    /// Headers of up to a hundred million bytes, the maximum of the format, that try to fill memory in various ways.
    func testHeadersThatWouldFillMemory() throws {
        let length = 100_000_000
        func repeated(_ piece: String) -> [UInt8] {
            let piece = Array(piece.utf8)
            return [UInt8](unsafeUninitializedCapacity: length) { buffer, count in
                count = length / piece.count * piece.count
                for index in 0..<count { buffer[index] = piece[index % piece.count] }
            }
        }
        /// `count` empty tensors, described as briefly as possible.
        func tensors(_ count: Int, shape: String) -> [UInt8] {
            var text = "{"
            for index in 0..<count {
                text += "\"\(index)\":{\"dtype\":\"U8\",\"shape\":[\(shape)],\"data_offsets\":[0,0]},"
            }
            return Array(text.utf8)
        }
        let deep = (0..<63).map { _ in "1" }.joined(separator: ",") + ",0"
        let cases: [(name: String, header: [UInt8], what: String)] = [
            (
                "spaces", Array("{".utf8) + repeated(" ").dropFirst(),
                "is not JSON: a quoted key is missing before its end"
            ),
            (
                "spaces after the end", Array("{}".utf8) + repeated("\n").dropFirst(3) + [0x21],
                "is followed by something that is not "
                    + "white space at byte \(length - 1)"
            ),
            (
                "one name", Array("{\"".utf8) + repeated("n").dropFirst(2),
                "holds a string of more than 4194304 bytes at byte 2"
            ),
            (
                "one name of escapes", Array("{\"".utf8) + repeated("\\n").dropFirst(2),
                "holds a string of more than 4194304 bytes at byte 2"
            ),
            (
                "one text of metadata", Array("{\"__metadata__\":{\"k\":\"".utf8) + repeated("x").dropFirst(40),
                "holds a string of more than 4194304 bytes at byte 22"
            ),
            ("braces", repeated("{"), "is not JSON: a quoted key is missing at byte 1"),
            (
                "brackets", Array("{\"a\":".utf8) + repeated("[").dropFirst(5),
                "describes tensor \"a\" by something that is not an object"
            ),
            (
                "a shape without end",
                Array("{\"a\":{\"dtype\":\"U8\",\"shape\":[".utf8) + repeated("0,").dropFirst(40),
                "describes tensor \"a\" with shape of more than 64 numbers"
            ),
            (
                "a number without end", Array("{\"a\":{\"shape\":[".utf8) + repeated("9").dropFirst(20),
                "holds a number beyond 2^63 at byte 33, in shape of tensor \"a\""
            ),
            (
                "many tensors", tensors(1_500_000, shape: "0"),
                "describes tensors and metadata that would take more than 16777216 bytes of memory"
            ),
            (
                "many tensors of 64 dimensions", tensors(400_000, shape: deep),
                "describes tensors and metadata that would take more than 16777216 bytes of memory"
            ),
        ]
        for (name, header, what) in cases {
            XCTAssertLessThanOrEqual(header.count, length, name)
            XCTAssertEqual(
                try refusal(file(header: header)),
                "is not a valid safetensors file: its header \(what); download or write the file again", name)
            let memory = assertProgramRefuses(folder.file("hostile.safetensors"), name)
            print("a header of \(header.count) bytes, \(name): refused with \(memory / 1024) KiB")
        }
        // A valid length of a header that is missing. The file is sparse; the length is checked before anything is
        // read.
        let path = folder.write(file(header: [], length: UInt64(length)), "hostile.safetensors")
        XCTAssertEqual(truncate(path, 8 + length), 0)
        _ = assertProgramRefuses(path, "a sparse header")
        XCTAssertEqual(truncate(path, 8 + length - 1), 0)
        _ = assertProgramRefuses(path, "a sparse header, one byte short")
    }

    /// Indices of shards with false content, refused by the program; WeightFilesTests checks the messages.
    func testIndicesThatLie() throws {
        func index(_ map: String) -> [UInt8] {
            Array("{\"metadata\": {\"total_size\": 4}, \"weight_map\": {\(map)}}".utf8)
        }
        var many = ""
        for tensor in 0..<1_500_000 { many += "\"\(tensor)\":\"one.safetensors\"," }
        let one = #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#
        folder.write(file(header: Array(one.utf8), data: 4), "one.safetensors")
        folder.write(file(header: Array(one.utf8), data: 3), "short.safetensors")
        for (name, bytes) in [
            ("nothing", index("")), ("a tensor that is not there", index(#""b": "one.safetensors""#)),
            ("another folder", index(#""a": "../one.safetensors""#)),
            ("a file cut off", index(#""a": "short.safetensors""#)),
            ("itself", index(#""a": "bad.index.json""#)), ("a number", index(#""a": 1"#)),
            ("a tensor twice", index(#""a": "one.safetensors", "a": "one.safetensors""#)),
            ("no map", Array(#"{"metadata": {}}"#.utf8)),
            ("depth", Array(String(repeating: "{\"a\":", count: 100_000).utf8)),
            ("depth of lists", Array(("{\"metadata\":" + String(repeating: "[", count: 100_000)).utf8)),
            ("many tensors", index(many + #""a": "one.safetensors""#)),
            ("spaces", Array("{".utf8) + [UInt8](repeating: 0x20, count: 99_000_000)),
            ("too long", Array("{".utf8) + [UInt8](repeating: 0x20, count: 100_000_001)),
        ] {
            let memory = assertProgramRefuses(folder.write(bytes, "bad.index.json"), name, of: folder.path)
            print("an index of \(bytes.count) bytes, \(name): refused with \(memory / 1024) KiB")
        }
    }

    func testNotUTF8() throws {
        for raw: [UInt8] in [[0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xC3]] {
            XCTAssertEqual(
                try refusal(file(header: Array("{\"".utf8) + raw + Array("\":1}".utf8))),
                "is not a valid safetensors file: its header is not UTF-8 in the string before byte \(raw.count + 3); "
                    + "download or write the file again")
        }
    }

    func testHeaderLengthFaults() throws {
        XCTAssertEqual(
            try refusal([]),
            "is neither a safetensors file nor a PyTorch archive: it is empty; download or write the file again"
        )
        XCTAssertEqual(
            try refusal([1, 0, 0, 0, 0, 0, 0]),
            "is neither a safetensors file nor a PyTorch archive: it holds no more than 7 bytes; download or write the "
                + "file again"
        )
        for bytes in [
            file(header: Array("{}".utf8), length: 100_000_001), file(header: Array("{}".utf8), length: .max),
            Array("<!DOCTYPE html><html><body>404</body></html>".utf8),
            [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A, 0, 0, 0, 13],
        ] {
            XCTAssertEqual(
                try refusal(bytes),
                "is neither a safetensors file nor a PyTorch archive: download it again, or name another file")
        }
        let pointer =
            "version https://git-lfs.github.com/spec/v1\noid "
            + "sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
        XCTAssertEqual(
            try refusal(Array(pointer.utf8)),
            "is not the file itself but Git LFS's pointer to it: run `git lfs pull` in its folder, or download the "
                + "file again"
        )
        XCTAssertEqual(
            try refusal(file(header: Array("{}".utf8), length: 3)),
            "is cut off or not a safetensors file: its header should have 3 bytes and only 2 follow; "
                + "download or write the file again")
        XCTAssertEqual(
            try refusal([0x50, 0x4B, 3, 4, 0, 0, 0, 0, 0, 0]),
            "is a zip archive, perhaps a PyTorch checkpoint, not a safetensors file; convert it first")
    }

    func testFilesThatCannotBeRead() {
        func message(_ path: String) -> Failure? { failure { _ = try SafeTensorsFile(path: path) } }
        let absent = folder.file("absent.safetensors")
        XCTAssertEqual(
            message(absent),
            Failure(
                .inputOutput, "cannot open \"\(absent)\": No such file or directory; check the path and its permissions"
            ))
        XCTAssertEqual(
            message(folder.path),
            Failure(.inputOutput, "cannot read \"\(folder.path)\": it is a folder; name a safetensors file"))
        let pipe = folder.file("pipe")
        mkfifo(pipe, 0o600)
        for path in [pipe, "/dev/zero"] {
            XCTAssertEqual(
                message(path),
                Failure(.inputOutput, "cannot read \"\(path)\": it is not a regular file; name a safetensors file"))
        }
    }

    func testMissingTensorsAndTypesWithoutConversion() throws {
        let header =
            #"{"x":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"F8_E5M2","shape":[],"data_offsets":[2,3]}}"#
        let path = folder.write(file(header: Array(header.utf8), data: 3), "eight.safetensors")
        let file = try SafeTensorsFile(path: path)
        XCTAssertEqual(file.entries.map(\.type), [.f8e4m3, .f8e5m2])
        XCTAssertEqual(Array(try file.bytes("x")), [1, 1])
        XCTAssertNil(file["z"])
        XCTAssertEqual(
            failure { _ = try file.floats("z") },
            Failure(.badData, "\"\(path)\" holds no tensor \"z\"; list what it holds with: dmae inspect"))
        XCTAssertEqual(
            failure { _ = try file.floats("x") },
            Failure(
                .badData,
                "tensor \"x\" of \"\(path)\" is of type F8_E4M3, which cannot be used as weights; convert it to F32, "
                    + "F16 or BF16"
            ))
        XCTAssertEqual(
            failure { try file.verifyChecksum() },
            Failure(.badData, "\"\(path)\" holds no checksum; use a file that dmae wrote as a checkpoint"))
    }

    /// Types that are not read are listed as the header spells them; their bytes must be as many as the type needs.
    func testOtherTypesAreListed() throws {
        let tensors: [(type: String, shape: [Int], bytes: Int)] = [
            ("C64", [2, 2], 32), ("F8_E4M3", [3], 3), ("F8_E5M2", [3], 3), ("F8_E8M0", [3], 3), ("F8_E4M3FNUZ", [3], 3),
            ("F4", [2, 3], 3), ("F4", [3], 2), ("F6_E2M3", [4], 3), ("F6_E3M2", [2, 4], 6), ("C128", [2], 32),
            ("I4", [0, 7], 0), ("F32", [2], 8),
        ]
        func header(_ change: (Int) -> Int = { _ in 0 }) -> (text: String, bytes: Int) {
            var offset = 0
            let members = tensors.enumerated().map { index, tensor in
                let end = offset + tensor.bytes + change(index)
                defer { offset = end }
                return "\"t\(index)\":{\"dtype\":\"\(tensor.type)\",\"shape\":\(tensor.shape),"
                    + "\"data_offsets\":[\(offset),\(end)]}"
            }
            return ("{\(members.joined(separator: ","))}", offset)
        }
        let right = header()
        let path = folder.write(file(header: Array(right.text.utf8), data: right.bytes), "types.safetensors")
        let opened = try SafeTensorsFile(path: path)
        for (index, tensor) in tensors.enumerated() {
            let entry = try opened.entry("t\(index)")
            XCTAssertEqual(entry.typeName, tensor.type)
            XCTAssertEqual(entry.shape, tensor.shape)
            XCTAssertEqual(entry.byteCount, tensor.bytes, tensor.type)
            XCTAssertEqual(try opened.withBytes(entry.name) { $0.count }, tensor.bytes)
            let refused = failure { _ = try opened.floats(entry.name) }
            guard tensor.type != "F32" else {
                XCTAssertNil(refused)
                continue
            }
            XCTAssertEqual(
                refused,
                Failure(
                    .badData,
                    "tensor \"t\(index)\" of \"\(path)\" is of type \(tensor.type), which cannot be used as weights; "
                        + "convert it to F32, F16 or BF16"))
        }
        XCTAssertTrue(try WeightComparison(opened, SafeTensorsFile(path: path)).differences.isEmpty)
        for index in tensors.indices {
            let wrong = header { $0 == index ? 1 : 0 }
            let bytes = file(header: Array(wrong.text.utf8), data: wrong.bytes)
            let found = failure { _ = try SafeTensorsFile(path: folder.write(bytes, "wrong.safetensors")) }
            XCTAssertTrue(
                found?.message.contains("where its shape and dtype need \(tensors[index].bytes)") == true,
                found?.message ?? "\(tensors[index].type) was accepted")
        }
    }

    /// Files that look unusual but are valid.
    func testUnusualFilesThatAreRight() throws {
        for (header, data, names) in [
            ("{}", 0, []), ("{}  \n\t\r ", 0, []), ("{\"__metadata__\":{}}", 0, []),
            (
                #"{ "b" : { "shape" : [ 2 , 1 ] , "data_offsets" : [ 4 , 12 ] , "dtype" : "F32" } ,"#
                    + #""a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, 12, ["a", "b"]
            ),
            (
                #"{"\ud83d\ude00\/\b\f\n\r\t\"\\\u00e9":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]}}"#, 1,
                ["😀/\u{8}\u{C}\n\r\t\"\\é"]
            ),
            (
                #"{"z":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"y":{"dtype":"F64","shape":[3,0],"data_offsets":[0,0]}}"#,
                0,
                ["z", "y"]
            ),
        ] as [(String, Int, [String])] {
            let file = try SafeTensorsFile(
                path: folder.write(file(header: Array(header.utf8), data: data), "right.safetensors"))
            XCTAssertEqual(file.names, names, header)
            XCTAssertEqual(file.dataByteCount, data)
        }
    }

    /// A small file with a tensor of each convertible type, from the writer.
    private func valid() throws -> [UInt8] {
        let path = folder.file("valid.safetensors")
        var writer = SafeTensorsWriter(metadata: ["format": "pt", "dmae.step": "12"])
        let memory = (0..<64).map { UInt8($0) }
        try memory.withUnsafeBytes { bytes in
            for (index, type) in TensorType.allCases.enumerated() {
                writer.add(
                    "tensor.\(index)", type: type, shape: [2, 1],
                    bytes: UnsafeRawBufferPointer(rebasing: bytes[..<(2 * type.size)]))
            }
            try writer.write(to: path, checksummed: true)
        }
        return folder.read("valid.safetensors")
    }

    func testEveryTruncationIsRefused() throws {
        let bytes = try valid()
        for length in 0..<bytes.count {
            try Array(bytes[..<length]).withUnsafeBytes { cut in
                let found = failure { _ = try SafeTensorsFile(MappedFile(bytes: cut, path: "cut.safetensors")) }
                XCTAssertEqual(try XCTUnwrap(found, "\(length) bytes were accepted").code, .badData)
            }
        }
        // Also as files that end within a page or at its end.
        for length in [0, 7, 8, bytes.count / 2, bytes.count - 1] { _ = try refusal(Array(bytes[..<length])) }
    }

    /// Opens and reads a file in memory, and returns whether it opened. (Ten thousand files on disk would take long.)
    private func opens(_ bytes: [UInt8]) -> Bool {
        let refused = bytes.withUnsafeBytes { bytes in
            failure {
                let file = try SafeTensorsFile(MappedFile(bytes: bytes, path: "flipped.safetensors"))
                for name in file.names {
                    let isConvertible = try file.entry(name).type.isConvertible
                    XCTAssertEqual(failure { _ = try file.floats(name) } == nil, isConvertible)
                }
                if failure({ try file.verifyChecksum() }) == nil { XCTFail("a changed file passed its checksum") }
            }
        }
        if let refused { XCTAssertEqual(refused.code, .badData) }
        return refused == nil
    }

    func testTenThousandBitFlips() throws {
        let seed: UInt64 = 2023
        let bytes = try valid()
        var random = CounterRandom(seed: seed, purpose: .test)
        var opened = 0
        for _ in 0..<10_000 {
            var flipped = bytes
            var flips = Set<Int>()
            while flips.count < 1 + random.below(4) { flips.insert(random.below(bytes.count * 8)) }
            for bit in flips { flipped[bit / 8] ^= 1 << (bit % 8) }
            if opens(flipped) { opened += 1 }
        }
        print("bit flips with seed \(seed): \(opened) of 10000 files still open")
        // After changes of data, names and metadata the file may still be valid; after changes of punctuation and
        // numbers it is not.
        XCTAssertTrue((500..<5000).contains(opened), "\(opened)")
    }

    /// The checksum covers every bit of the file: length, metadata, names, padding and data.
    func testEverySingleBitFlipIsFound() throws {
        let bytes = try valid()
        for bit in 0..<bytes.count * 8 {
            var flipped = bytes
            flipped[bit / 8] ^= 1 << (bit % 8)
            _ = opens(flipped)
        }
    }
}
