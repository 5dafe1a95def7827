import Reporting
import Foundation
import Tensors
import TestSupport
import Weights
import XCTest

/// Files of rows whose number is known only at the end.
final class RowFileTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func values(_ count: Int) -> [Float] { (0..<count).map { Float($0) * 0.5 - 3 } }

    /// Appends 1, 2, 3, … rows at a time.
    private func write(_ path: String, _ form: RowFile.Form, rows: Int, of shape: [Int], maximum: Int) throws -> Int {
        let row = shape.reduce(1, *)
        let all = values(rows * row)
        var written = 0
        try AtomicFile.write(to: path) { file in
            written = try RowFile.write(into: file, form, rowShape: shape, maximumRows: maximum) { append in
                var done = 0
                while done < rows {
                    let piece = min(rows - done, done % 3 + 1)
                    try all[(done * row)..<((done + piece) * row)].withUnsafeBufferPointer(append)
                    done += piece
                }
            }
        }
        return written
    }

    /// The bytes are those of the format: magic, version 1.0, length of the header, dictionary, spaces, a line feed,
    /// the data.
    func testNumpy() throws {
        for (rows, shape, maximum) in [(7, [5], 7), (7, [2, 3], 1000), (0, [4], 3), (1200, [3], 999_999_999)] {
            let path = folder.file("x.npy")
            XCTAssertEqual(try write(path, .numpy, rows: rows, of: shape, maximum: maximum), rows)
            let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
            XCTAssertEqual(Array(bytes[..<8]), [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1, 0])
            let length = Int(bytes[8]) + 256 * Int(bytes[9])
            XCTAssertEqual((10 + length) % 64, 0)
            let header = String(decoding: bytes[10..<(10 + length)], as: UTF8.self)
            let sizes = ([rows] + shape).map(String.init).joined(separator: ", ")
            XCTAssertEqual(
                header.trimmingCharacters(in: .whitespacesAndNewlines),
                "{'descr': '<f4', 'fortran_order': False, 'shape': (\(sizes)), }")
            XCTAssertEqual(header.last, "\n")
            let data = Array(bytes[(10 + length)...])
            XCTAssertEqual(data, values(rows * shape.reduce(1, *)).withUnsafeBytes(Array.init))
        }
        XCTAssertEqual(folder.names(), ["x.npy"])
    }

    func testSafeTensors() throws {
        for (rows, shape, maximum) in [(7, [5], 7), (9, [2, 3], 1000), (0, [4], 12)] {
            let path = folder.file("x.safetensors")
            let metadata = ["pool": "mean", "a \"quoted\" key": "line\nbreak"]
            XCTAssertEqual(
                try write(
                    path, .safetensors(name: "features", metadata: metadata), rows: rows, of: shape, maximum: maximum),
                rows)
            let file = try SafeTensorsFile(path: path)
            XCTAssertEqual(file.names, ["features"])
            XCTAssertEqual(file["features"]?.shape, [rows] + shape)
            XCTAssertEqual(file.metadata, metadata)
            XCTAssertEqual(try file.floats("features"), values(rows * shape.reduce(1, *)))
        }
    }

    /// Labels stand behind the rows, of which there may be fewer than expected.
    func testLabels() throws {
        let path = folder.file("x.safetensors")
        try AtomicFile.write(to: path) { file in
            try RowFile.write(
                into: file, .safetensors(name: "logits", metadata: [:]), rowShape: [3], maximumRows: 1000,
                labels: ("labels", { [7, -1, 1 << 30] })
            ) { append in
                try values(6).withUnsafeBufferPointer(append)
                try values(3).withUnsafeBufferPointer(append)
            }
        }
        let file = try SafeTensorsFile(path: path)
        XCTAssertEqual(file.names, ["logits", "labels"])
        XCTAssertEqual(file["labels"], TensorEntry(name: "labels", type: .i32, shape: [3]))
        XCTAssertEqual(try file.floats("logits"), values(6) + values(3))
        XCTAssertEqual(try file.withBytes("labels") { Array($0.bindMemory(to: Int32.self)) }, [7, -1, 1 << 30])
    }

    /// After a failure the old file is unchanged and no part is left.
    func testFailureLeavesNothing() throws {
        let path = folder.write([1, 2, 3], "x.npy")
        let failure = failure {
            try AtomicFile.write(to: path) { file in
                try RowFile.write(into: file, .numpy, rowShape: [2], maximumRows: 4) { append in
                    try [1, 2, 3, 4].withUnsafeBufferPointer(append)
                    throw Failure(.badData, "no more")
                }
            }
        }
        XCTAssertEqual(failure, Failure(.badData, "no more"))
        XCTAssertEqual([UInt8](try Data(contentsOf: URL(fileURLWithPath: path))), [1, 2, 3])
        XCTAssertEqual(folder.names(), ["x.npy"])
    }
}
