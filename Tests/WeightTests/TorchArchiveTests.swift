import Reporting
import Foundation
import Tensors
import TestSupport
import Weights
import XCTest

/// Archives written by PyTorch (see Fixtures/archives).
final class TorchArchiveTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func archive(_ name: String) throws -> TorchArchive {
        try TorchArchive(path: Fixtures.path("archives/\(name)"))
    }

    /// Every tensor equals PyTorch's, bit for bit: all element types, views, byte orders and pickle protocols.
    func testReadsWhatPyTorchWrites() throws {
        let types: [String: TensorType] = [
            "float64": .f64, "float32": .f32, "float16": .f16, "bfloat16": .bf16, "int64": .i64, "int32": .i32,
            "int16": .i16,
            "int8": .i8, "uint8": .u8, "bool": .bool, "uint16": .u16, "uint32": .u32, "uint64": .u64,
        ]
        var expected: [String: [[Substring]]] = [:]
        for line in try String(contentsOfFile: Fixtures.path("archives/expected.txt"), encoding: .utf8).split(
            separator: "\n")
        {
            let fields = line.split(separator: " ")
            expected[String(fields[0]), default: []].append(Array(fields[1...]))
        }
        XCTAssertEqual(expected.count, 11)
        XCTAssertEqual(Set(expected.values.joined().map { String($0[1]) }).count, types.count, "a type is missing")
        for (name, lines) in expected {
            let file = try archive(name)
            XCTAssertEqual(file.form, "PyTorch archive")
            XCTAssertEqual(file.byteCount, try Data(contentsOf: URL(fileURLWithPath: file.path)).count)
            // The order differs for a pickled module, whose parameters come first.
            XCTAssertEqual(file.names.sorted(), lines.map { String($0[0]) }.sorted(), name)
            if name != "module.pth" { XCTAssertEqual(file.names, lines.map { String($0[0]) }, name) }
            for fields in lines {
                let entry = try file.entry(String(fields[0]))
                XCTAssertEqual(entry.type, types[String(fields[1])], entry.name)
                XCTAssertEqual(
                    entry.shape, fields[2].dropFirst().dropLast().split(separator: ",").map { Int($0)! }, entry.name)
                let bits = fields[4...].map { UInt32($0, radix: 16)! }
                XCTAssertEqual(entry.count, bits.count, entry.name)
                XCTAssertEqual(try file.floats(entry.name).bits, bits, "\(name) \(entry.name)")
            }
        }
    }

    /// Elements in the stored type, made contiguous and little-endian.
    func testBytes() throws {
        let views = try archive("views.pth")
        let base = try views.withBytes("base") { Array($0) }
        XCTAssertEqual(base.count, 4 * 6 * 4)
        XCTAssertEqual(try views.withBytes("rows") { Array($0) }, Array(base[24..<72]))
        let transposed = try views.withBytes("transposed") { Array($0) }
        for row in 0..<4 {
            for column in 0..<6 {
                let (place, other) = ((row * 6 + column) * 4, (column * 4 + row) * 4)
                XCTAssertEqual(base[place..<place + 4], transposed[other..<other + 4])
            }
        }
        XCTAssertEqual(try views.withBytes("bytes") { Array($0) }, [0, 5, 10])
        let longs = try archive("big-endian.pth").withBytes("longs") { Array($0) }
        XCTAssertEqual(
            longs, [1, 0, 0, 0, 0, 0, 0, 0, 0xFE] + [UInt8](repeating: 0xFF, count: 7) + [3, 0, 0, 0, 0, 0, 0, 0])
        XCTAssertEqual(try archive("types.pth").withBytes("empty") { $0.count }, 0)
        XCTAssertEqual(
            failure { _ = try views.withBytes("none") { $0.count } }?.message,
            "\"\(views.path)\" holds no tensor \"none\"; list what it holds with: dmae inspect")
    }

    /// The stride of a dimension of size 1 may be any number.
    func testStridesOfSingleDimensions() throws {
        let pickle = Pickled.dictionary(
            Pickled.tensor(shape: [1, 2, 2], strides: [1 << 62, 1, 2]),
            Pickled.tensor(shape: [2, 2, 1], strides: [1, 2, 1 << 62]),
            Pickled.tensor(shape: [1], strides: [Int.max]))
        let file = try TorchArchive(path: folder.write(ArchiveBuilder(pickle).bytes(), "single.pth"))
        let transposed: [UInt8] = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]
        XCTAssertEqual(try file.withBytes("a") { Array($0) }, transposed)
        XCTAssertEqual(try file.withBytes("b") { Array($0) }, transposed)
        XCTAssertEqual(try file.withBytes("c") { Array($0) }, [0, 1, 2, 3])
    }

    /// The values beside the tensors are kept as plain data.
    func testPlainValues() throws {
        for name in (2...5).map({ "checkpoint-\($0).pth" }) {
            let values = Dictionary(uniqueKeysWithValues: try archive(name).values.map { ($0.name, $0.value) })
            XCTAssertEqual(values["epoch"], .integer(2), name)
            XCTAssertEqual(values["negative"], .integer(-5), name)
            XCTAssertEqual(values["big"], .other("an integer beyond 64 bits"), name)
            XCTAssertEqual(values["nothing"], PlainValue.none, name)
            XCTAssertEqual(values["scaler.scale"], .number(65536), name)
            XCTAssertEqual(values["size"], .list([.integer(2), .integer(3)]), name)
            XCTAssertEqual(values["dtype"], .other("torch.float16"), name)
            XCTAssertEqual(values["args"], .other("argparse.Namespace"), name)
            XCTAssertEqual(values["args.model"], .text("mae_vit_tiny"), name)
            XCTAssertEqual(values["args.blr"], .number(1.5e-4), name)
            XCTAssertEqual(values["args.norm_pix_loss"], .bool(true), name)
            XCTAssertEqual(values["args.resume"], .text(""), name)
            XCTAssertEqual(values["args.betas"], .list([.number(0.9), .number(0.95)]), name)
            XCTAssertEqual(values["args.device"], .other("torch.device(\"cpu\")"), name)
            XCTAssertEqual(values["args.log_dir"], .other("pathlib.PurePosixPath(\"logs\")"), name)
            XCTAssertEqual(
                values["args.accuracy"],
                .other("numpy._core.multiarray.scalar(…, \(name == "checkpoint-2.pth" ? "…" : "bytes"))"), name)
            XCTAssertEqual(values["optimizer.param_groups.0.params"], .list((0..<4).map { .integer($0) }), name)
        }
    }

    func testRefusedForms() throws {
        func message(_ name: String) throws -> String {
            let path = Fixtures.path("archives/\(name)")
            let found = try XCTUnwrap(failure { _ = try WeightFiles.open(path) }, name)
            XCTAssertEqual(found.code, .badData)
            XCTAssertTrue(found.message.hasPrefix("\"\(path)\" "), found.message)
            return String(found.message.dropFirst(path.utf8.count + 3)).replacingOccurrences(of: path, with: "PATH")
        }
        XCTAssertEqual(
            try message("before-1.6.pth"),
            "was saved by PyTorch before 1.6 or in its old format; write it again with: python3 -c \"import sys, "
                + "torch; "
                + "torch.save(torch.load(sys.argv[1], map_location='cpu', weights_only=True), sys.argv[2])\" PATH "
                + "new.pth"
        )
        XCTAssertEqual(
            try message("no-tensors.pth"),
            "holds no tensors: its content is a dictionary of 1, which was not run or loaded; save the model's "
                + "state_dict()"
        )
        XCTAssertEqual(
            try message("script.pt"),
            "is a TorchScript program, which dmae does not read (torch.jit.save writes it; its code would have to be "
                + "executed): load it with torch.jit.load and save its state_dict() with torch.save"
        )
        let quoted = folder.write([0x80, 2, 0x7D, 0x2E, 0, 0, 0, 0, 0], "it's mine.pkl")
        XCTAssertTrue(
            failure { _ = try WeightFiles.open(quoted) }!.message.contains(
                "is a pickle by itself, without the archive that torch.save puts around it; write it again with: "
                    + "python3 -c \"import sys, torch; torch.save(torch.load(sys.argv[1], map_location='cpu', "
                    + "weights_only=False), sys.argv[2])\" '\(folder.path)/it'\\''s mine.pkl' new.pth "
                    + "(this executes code from the file: do it only if you trust it)"))
        var tar = [UInt8](repeating: 0, count: 1024)
        tar.replaceSubrange(257..<262, with: Array("ustar".utf8))
        XCTAssertTrue(
            failure { _ = try WeightFiles.open(folder.write(tar, "old.tar")) }!.message.contains(
                " is a tar archive, perhaps saved by PyTorch before 0.4; write it again with: "))
    }

    // MARK: Writing

    private func write(_ name: String, wrapper: String?) throws -> String {
        var random = CounterRandom(seed: testSeed(20), purpose: .test)
        var writer = TorchArchiveWriter(wrapper: wrapper)
        for (index, type) in TensorType.allCases.enumerated() {
            for shape in [[], [3], [2, 0, 3], [5, 7]] {
                let bytes = (0..<shape.reduce(type.size, *)).map { _ in
                    type == .bool ? UInt8(random.below(2)) : UInt8(random.below(256))
                }
                writer.add("layer.\(index).é \(shape.count)", type: type, shape: shape) { append in
                    try bytes.withUnsafeBytes { whole in
                        // The bytes in two pieces.
                        try append(UnsafeRawBufferPointer(rebasing: whole[..<(whole.count / 3)]))
                        try append(UnsafeRawBufferPointer(rebasing: whole[(whole.count / 3)...]))
                    }
                }
            }
        }
        let path = folder.file(name)
        try writer.write(to: path)
        return path
    }

    func testWritesWhatItReads() throws {
        for (name, wrapper) in [("flat.pth", nil), ("wrapped.pth", "model")] {
            let path = try write(name, wrapper: wrapper)
            let bytes = folder.read(name)
            XCTAssertEqual(try write("again.pth", wrapper: wrapper), folder.file("again.pth"))
            XCTAssertEqual(folder.read("again.pth"), bytes, "the same tensors give the same bytes")
            let file = try TorchArchive(path: path)
            XCTAssertEqual(file.entries.count, 4 * TensorType.allCases.count)
            var random = CounterRandom(seed: 20, purpose: .test)
            for entry in file.entries {
                XCTAssertTrue(entry.name.hasPrefix(wrapper == nil ? "layer." : "model.layer."))
                let expected = (0..<entry.byteCount).map { _ in
                    entry.type == .bool ? UInt8(random.below(2)) : UInt8(random.below(256))
                }
                try file.withBytes(entry.name) {
                    XCTAssertEqual(Array($0), expected)
                }
            }
        }
    }

    /// An error of a source is rethrown, and no file is left.
    func testAbandonedWriting() {
        var writer = TorchArchiveWriter()
        writer.add("a", type: .u8, shape: [1]) { _ in throw Failure(.badData, "no such bytes") }
        XCTAssertEqual(
            failure { try writer.write(to: folder.file("abandoned.pth")) }, Failure(.badData, "no such bytes"))
        XCTAssertEqual(folder.names(), [])
    }
}
