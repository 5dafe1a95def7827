import Reporting
import Foundation
import Tensors
import TestSupport
import Weights
import XCTest

final class RoundTripTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// Files from the Python package have the same values, bit for bit, as read by NumPy.
    func testReadsThePythonPackage() throws {
        let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../../Fixtures/safetensors")
        let file = try SafeTensorsFile(path: fixtures.appendingPathComponent("reference.safetensors").path)
        let types: [String: TensorType] = [
            "float32": .f32, "float16": .f16, "bfloat16": .bf16, "float64": .f64, "int64": .i64, "int32": .i32,
            "int16": .i16, "int8": .i8, "uint8": .u8, "bool": .bool,
        ]
        let lines = try String(contentsOf: fixtures.appendingPathComponent("reference.txt"), encoding: .utf8)
            .split(separator: "\n")
        XCTAssertEqual(lines.count, 14)
        XCTAssertEqual(file.entries.count, lines.count)
        XCTAssertEqual(file.metadata, ["note": "a \"quoted\" \\ line\nand é"])
        for line in lines {
            let fields = line.split(separator: " ", omittingEmptySubsequences: false)
            let hexadecimal = Array(fields[0])
            let name = String(
                decoding: stride(from: 0, to: hexadecimal.count, by: 2).map {
                    UInt8(String(hexadecimal[$0...$0 + 1]), radix: 16)!
                }, as: UTF8.self)
            let entry = try file.entry(name)
            XCTAssertEqual(entry.type, types[String(fields[1])], name)
            XCTAssertEqual(entry.shape, fields[2].dropFirst().dropLast().split(separator: ",").map { Int($0)! }, name)
            let expected = fields[3...].filter { !$0.isEmpty }.map { UInt32($0, radix: 16)! }
            XCTAssertEqual(entry.count, expected.count, name)
            XCTAssertEqual(try file.floats(name).map(\.bitPattern), expected, name)
        }
        XCTAssertEqual(file.elementCount, file.entries.reduce(0) { $0 + $1.shape.reduce(1, *) })
    }

    /// Any bits are read back unchanged, in the order given, and the same input gives the same file.
    func testWritesAndReadsBitExact() throws {
        var random = CounterRandom(seed: 1, purpose: .test)
        let shapes: [[Int]] = [[3, 7], [1, 1, 5], [], [0, 3], [129]]
        let memory = shapes.map { shape in
            (0..<shape.reduce(1, *)).map { _ in Float(bitPattern: UInt32(truncatingIfNeeded: random.next())) }
        }
        let path = folder.file("a.safetensors")
        for copy in [path, folder.file("b.safetensors")] {
            var writer = SafeTensorsWriter(metadata: ["b": "2", "a": "line\nbreak \"\u{1}\\", "c": "é"])
            try withBuffers(memory) { buffers in
                for (index, buffer) in buffers.enumerated() {
                    writer.add("tensor.\(index)", shape: shapes[index], floats: buffer)
                }
                try writer.write(to: copy, checksummed: true)
            }
        }
        let file = try SafeTensorsFile(path: path)
        try file.verifyChecksum()
        XCTAssertEqual(file.names, (0..<5).map { "tensor.\($0)" })
        XCTAssertEqual(
            file.metadata.filter { $0.key != SafeTensorsWriter.checksumKey },
            ["b": "2", "a": "line\nbreak \"\u{1}\\", "c": "é"])
        for (index, values) in memory.enumerated() {
            XCTAssertEqual(file["tensor.\(index)"]?.shape, shapes[index])
            XCTAssertEqual(try file.floats("tensor.\(index)").map(\.bitPattern), values.map(\.bitPattern))
        }
        XCTAssertEqual(folder.read("a.safetensors"), folder.read("b.safetensors"))
        XCTAssertEqual(folder.names(), ["a.safetensors", "b.safetensors"])
    }

    /// Wider types first, otherwise in the order given, so that each tensor is aligned to its elements; the bytes are
    /// fixed.
    func testAlignsTensorsOfSeveralTypes() throws {
        let path = folder.file("mixed.safetensors")
        let memory = (1...16).map { UInt8($0) }
        try memory.withUnsafeBytes { bytes in
            func first(_ count: Int) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[..<count]) }
            var writer = SafeTensorsWriter(metadata: ["z": "1", "a": "2"])
            writer.add("u8", type: .u8, shape: [3], bytes: first(3))
            writer.add("b", type: .f32, shape: [1], bytes: first(4))
            writer.add("long", type: .i64, shape: [], bytes: first(8))
            writer.add("a", type: .f32, shape: [1, 1], bytes: first(4))
            try writer.write(to: path)
        }
        let text =
            #"{"__metadata__":{"a":"2","z":"1"},"long":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"#
            + #""b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[12,16]},"#
            + #""u8":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}}"#
        let padded = Array(text.utf8) + [UInt8](repeating: 0x20, count: (8 - text.utf8.count % 8) % 8)
        var expected = withUnsafeBytes(of: UInt64(padded.count).littleEndian, Array.init)
        expected += padded
        for count in [8, 4, 4, 3] { expected += memory[..<count] }
        XCTAssertEqual(folder.read("mixed.safetensors"), expected)
        let file = try SafeTensorsFile(path: path)
        XCTAssertEqual(file.names, ["long", "b", "a", "u8"])
        XCTAssertEqual(file.byteCount, 8 + padded.count + 19)
        XCTAssertEqual(file.elementCount, 6)
    }
}
