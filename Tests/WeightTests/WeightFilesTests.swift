import Reporting
import Foundation
import Tensors
import TestSupport
import Weights
import XCTest

/// Opening files of every form, and tensors in several shards.
final class WeightFilesTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func write(_ name: String, _ tensors: [(String, [Float])], metadata: [String: String] = [:]) throws {
        var writer = SafeTensorsWriter(metadata: metadata)
        try withBuffers(tensors.map(\.1)) { buffers in
            for (tensor, buffer) in zip(tensors, buffers) {
                writer.add(tensor.0, shape: [buffer.count], floats: buffer)
            }
            try writer.write(to: folder.file(name))
        }
    }

    @discardableResult
    private func index(_ name: String, _ text: String) -> String { folder.write(text.utf8, name) }

    private func message(_ path: String, code: Failure.Code = .badData) -> String {
        guard let found = failure({ _ = try WeightFiles.open(path) }) else { return "was accepted" }
        XCTAssertEqual(found.code, code, found.message)
        return found.message.replacingOccurrences(of: folder.path, with: "FOLDER")
    }

    func testShards() throws {
        try write(
            "model-00001-of-00002.safetensors", [("b", [1, 2]), ("a", [3]), ("unnamed", [9])],
            metadata: ["format": "pt", "x": "1"])
        try write("model-00002-of-00002.safetensors", [("c", [4, 5, 6])], metadata: ["format": "np", "y": "2"])
        index(
            "model.safetensors.index.json",
            """
            {"metadata": {"total_size": 24.0, "list": [1, [], {}, {"a": [true, null, "x\\"]"]}, -2e5]},
             "weight_map": {"c": "model-00002-of-00002.safetensors", "a": "model-00001-of-00002.safetensors",
                            "b": "model-00001-of-00002.safetensors"}, "more": "text"}
            """)
        for path in [folder.path, folder.path + "/", folder.file("model.safetensors.index.json")] {
            let file = try WeightFiles.open(path)
            XCTAssertEqual(file.form, "safetensors in 2 shards")
            XCTAssertEqual(file.path, folder.file("model.safetensors.index.json"))
            XCTAssertEqual(file.names, ["c", "a", "b"])
            XCTAssertEqual(file.metadata, ["format": "np", "x": "1", "y": "2"])
            XCTAssertEqual(try file.floats("a"), [3])
            XCTAssertEqual(try file.floats("b"), [1, 2])
            XCTAssertEqual(try file.withBytes("c") { Array($0.bindMemory(to: Float.self)) }, [4, 5, 6])
            XCTAssertNil(file["unnamed"])
            XCTAssertEqual(failure { _ = try file.floats("unnamed") }?.code, .badData)
            XCTAssertEqual(file.elementCount, 6)
            XCTAssertEqual(file.dataByteCount, 24)
            XCTAssertEqual(file.byteCount, folder.names().reduce(0) { $0 + folder.read($1).count })
        }
    }

    /// An ONNX model is known by its first fields, whatever its name, and not confused with a header's length.
    func testONNXIsNotRead() {
        let sentence =
            "\"FOLDER/x\" is an ONNX model, which dmae writes but does not read: use the weights that it was made of"
        for start in [[0x08, 8, 0x12, 4], [0x08, 6, 0x12, 7], [0x08, 3, 0x3A, 0x90]] as [[UInt8]] {
            XCTAssertEqual(message(folder.write(start + Array("dmae".utf8), "x")), sentence, "\(start)")
        }
        for start in [
            [0x08, 8, 0x12, 0, 0, 0, 0, 0], [0x09, 8, 0x12, 4, 1, 1, 1, 1], [0x08, 8, 0x13, 4, 1, 1, 1, 1],
        ]
            as [[UInt8]]
        {
            let text = message(folder.write(start, "x"))
            XCTAssertTrue(text.contains("safetensors file") && !text.contains("ONNX"), text)
        }
    }

    /// Names and shapes of all shards share one budget. A tensor takes 256 bytes, plus the bytes of its name, plus 8
    /// for each dimension.
    func testShardsShareABudget() throws {
        for name in ["a", "b", "c"] {
            try write("\(name).safetensors", [(name, [1])])
            var writer = TorchArchiveWriter()
            writer.add(name, type: .u8, shape: [1]) { append in try [UInt8(7)].withUnsafeBytes { try append($0) } }
            try writer.write(to: folder.file("\(name).bin"))
        }
        for (ending, kind, part) in [
            ("safetensors", "safetensors file", "its header"), ("bin", "PyTorch archive", "it"),
        ] {
            let map = ["a", "b", "c"].map { "\"\($0)\": \"\($0).\(ending)\"" }.joined(separator: ", ")
            let path = index("\(ending).index.json", "{\"weight_map\": {\(map)}}")
            func opened(_ limit: Int) throws -> ShardedFile {
                try ShardedFile(MappedFile(path: path, wanted: "an index of shards"), memoryLimit: limit)
            }
            XCTAssertEqual(try opened(3 * 265).names, ["a", "b", "c"])
            XCTAssertEqual(
                failure { _ = try opened(3 * 265 - 1) },
                Failure(
                    .badData,
                    "\"\(folder.file("c.\(ending)"))\" is not a valid \(kind): \(part) describes tensors and metadata "
                        + "that together "
                        + "with those of the shards before it would take more than 794 bytes of memory; download or "
                        + "write the "
                        + "file again"))
            let first = failure { _ = try opened(264) }?.message
            XCTAssertEqual(first?.contains(" metadata that would take more than 264 bytes"), true, first ?? "accepted")
        }
    }

    /// A header length of 19280 has the first two bytes of a zip archive, but no more of its signature.
    func testHeaderLengthLikeAnArchive() throws {
        let header = #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#
        let text = Array(header.utf8) + [UInt8](repeating: 0x20, count: 19280 - header.utf8.count)
        let length: [UInt8] = withUnsafeBytes(of: UInt64(text.count).littleEndian, Array.init)
        XCTAssertEqual(Array(length[..<2]), Array("PK".utf8))
        let file = try WeightFiles.open(folder.write(length + text + [7, 8], "letters.safetensors"))
        XCTAssertEqual(file.form, "safetensors")
        XCTAssertEqual(try file.withBytes("a") { Array($0) }, [7, 8])
    }

    func testShardsOfOtherTools() throws {
        let sharded = try WeightFiles.open(Fixtures.path("weights/huggingface/vitmae-sharded"))
        XCTAssertEqual(sharded.form, "safetensors in 3 shards")
        let whole = try WeightFiles.open(Fixtures.path("weights/huggingface/vitmae"))
        XCTAssertEqual(sharded.elementCount, whole.elementCount)
        XCTAssertEqual(
            sharded.entries.map(\.shape.description).sorted(), whole.entries.map(\.shape.description).sorted())
    }

    func testIndexFaults() throws {
        try write("one.safetensors", [("a", [1])])
        folder.write("short".utf8, "broken.safetensors")
        let cases: [(String, String)] = [
            ("{\"weight_map\": {}}", "names no tensors"),
            ("{\"metadata\": {}}", "holds no weight_map"),
            ("{\"weight_map\": []}          ", "holds a weight_map that is not an object"),
            ("{\"weight_map\": {\"a\": 5}}", "names no file for tensor \"a\""),
            ("{\"weight_map\": {}, \"weight_map\": {}}", "holds weight_map twice"),
            (
                "{\"weight_map\": {\"a\": \"../one.safetensors\"}}",
                "names the shard \"../one.safetensors\", which is not the name of a file in its folder"
            ),
            (
                "{\"weight_map\": {\"a\": \"/etc/passwd\"}}",
                "names the shard \"/etc/passwd\", which is not the name of a file in its folder"
            ),
            (
                "{\"weight_map\": {\"a\": \"..\"}}",
                "names the shard \"..\", which is not the name of a file in its folder"
            ),
            ("{\"weight_map\": {\"a\": \"\"}}", "names the shard \"\", which is not the name of a file in its folder"),
            (
                "{\"weight_map\": {\"a\": \"one.safetensors\\u0000\"}}",
                "names the shard \"one.safetensors\\0\", which is not the name of a file in its folder"
            ),
            (
                "{\"weight_map\": {\"b\": \"one.safetensors\"}}",
                "says that the shard \"one.safetensors\" holds tensor \"b\", which it does not"
            ),
            ("{\"weight_map\": {\"a\": \"one.safetensors\", \"a\": \"one.safetensors\"}}", "names tensor \"a\" twice"),
            ("{\"weight_map\": {\"a\": \"one.safetensors\"}", "is not JSON: '}' is missing before its end"),
            ("{\"other\": [1, 2}, \"weight_map\": {}}", "is not JSON: ']' is missing at byte 15"),
            ("{\"other\": [,], \"weight_map\": {}}", "is not JSON: a value is missing at byte 11"),
            ("{\"other\": \(String(repeating: "[", count: 100_000))", "is nested more than 64 deep at byte 75"),
        ]
        var said = Set<String>()
        for (text, what) in cases {
            let path = index("bad.index.json", text)
            XCTAssertEqual(
                message(path),
                "\"FOLDER/bad.index.json\" is not a valid index of shards: it \(what); download or write the files "
                    + "again"
            )
            said.insert(what)
        }
        XCTAssertEqual(said.count, cases.count)
        XCTAssertEqual(
            message(index("bad.index.json", "{\"weight_map\": {\"a\": \"absent.safetensors\"}}"), code: .inputOutput),
            "\"FOLDER/bad.index.json\" names the shard \"absent.safetensors\", which is not in its folder; download it "
                + "too"
        )
        XCTAssertTrue(
            message(index("bad.index.json", "{\"weight_map\": {\"a\": \"broken.safetensors\"}}"))
                .hasPrefix("\"FOLDER/broken.safetensors\" is neither a safetensors file nor"))
        // An index that names itself as a shard.
        XCTAssertTrue(
            message(index("bad.index.json", "{\"weight_map\": {\"a\": \"bad.index.json\"}}"))
                .hasPrefix("\"FOLDER/bad.index.json\" is neither a safetensors file nor"))
    }

    /// Formats of other tools are named, with what to do.
    func testOtherFormats() throws {
        for (start, words) in [
            ([0x89] + Array("HDF\r\n".utf8) + [0x1A, 0x0A], "an HDF5 file"), (Array("GGUF".utf8), "a GGUF file"),
            (Array("tjgg".utf8), "a GGML file"), ([0x93] + Array("NUMPY".utf8), "an array of NumPy"),
            ([0x1C, 0, 0, 0] + Array("TFL3".utf8), "a TensorFlow Lite model"),
            (Array("\n <!DOCTYPE html>".utf8), "a page of HTML"), (Array("<HTML lang=en>".utf8), "a page of HTML"),
            ([0x1F, 0x8B, 8], "a file compressed by gzip"), ([0x28, 0xB5, 0x2F, 0xFD], "a file compressed by zstd"),
            ([0xFD] + Array("7zXZ".utf8), "a file compressed by xz"),
            (Array("BZh9".utf8), "a file compressed by bzip2"),
            ([0x89] + Array("PNG\r\n".utf8), "a picture"), (Array("<?xml version".utf8), "an XML file"),
            (Array("Rar!".utf8), "a RAR archive"),
        ] as [([UInt8], String)] {
            let text = message(folder.write(start + [UInt8](repeating: 0, count: 64), "x.pth"))
            XCTAssertTrue(text.hasPrefix("\"FOLDER/x.pth\" is \(words), which dmae does not read ("), text)
            XCTAssertFalse(text.contains("download"), text)
        }
        // Archives are known by their members.
        for (member, words) in [
            ("a/b.npy", "an npz archive of NumPy"), ("model.weights.h5", "a model of Keras"),
            ("x/constants.pkl", "a TorchScript program"), ("x/code/__torch__.py", "a TorchScript program"),
            ("x/models/model.json", "a program of torch.export"),
        ] {
            var builder = ArchiveBuilder([0x80, 2, 0x4E, 0x2E])
            builder.members.append(.init(name: member, content: [1, 2, 3]))
            let text = message(folder.write(builder.bytes(), "y.pth"))
            XCTAssertTrue(text.hasPrefix("\"FOLDER/y.pth\" is \(words), which dmae does not read ("), text)
        }
        // A folder with nothing else names what is there.
        for (name, words) in [
            ("tf_model.h5", "an HDF5 file"), ("flax_model.msgpack", "a file of Flax"), ("model.onnx", "an ONNX model"),
            ("__0_0.distcp", "a shard of a distributed checkpoint"), ("ViT-B_16.npz", "an npz archive"),
            ("zero_to_fp32.py", "a shard of DeepSpeed's ZeRO"), ("saved_model.pb", "a checkpoint of TensorFlow"),
        ] {
            try FileManager.default.createDirectory(atPath: folder.file(name + "-"), withIntermediateDirectories: true)
            folder.write([1], name + "-/" + name)
            let text = message(folder.file(name + "-"))
            XCTAssertTrue(text.hasPrefix("\"FOLDER/\(name)-/\(name)\" is \(words)"), text)
        }
        try FileManager.default.createDirectory(atPath: folder.file("one"), withIntermediateDirectories: true)
        folder.write([1], "one/checkpoint.pth")
        XCTAssertTrue(message(folder.file("one")).hasSuffix("name the file, such as \"FOLDER/one/checkpoint.pth\""))
    }

    /// The cache of the Hugging Face hub: the snapshot that refs/main names, or the only one.
    func testHubCache() throws {
        func snapshot(_ path: String) throws {
            try FileManager.default.createDirectory(
                atPath: folder.file("\(path)/refs"), withIntermediateDirectories: true)
            try FileManager.default.createDirectory(
                atPath: folder.file("\(path)/snapshots/abc"), withIntermediateDirectories: true)
            try write("\(path)/snapshots/abc/model.safetensors", [("a", [1])])
        }
        let model = "home/hub/models--owner--name"
        try snapshot(model)
        let expected = folder.file(model + "/snapshots/abc/model.safetensors")
        for path in ["home", "home/hub", model, model + "/", model + "/snapshots/abc"] {
            XCTAssertEqual(try WeightFiles.open(folder.file(path)).path, expected, path)
        }
        try FileManager.default.createDirectory(
            atPath: folder.file(model + "/snapshots/def"), withIntermediateDirectories: true)
        try write(model + "/snapshots/def/model.safetensors", [("b", [1])])
        let several = message(folder.file(model))
        XCTAssertTrue(several.contains("with 2 snapshots") && several.contains("snapshots/abc\""), several)
        for (name, found) in [("def\n", "b"), ("abc", "a")] {
            folder.write(name.utf8, model + "/refs/main")
            XCTAssertEqual(try WeightFiles.open(folder.file(model)).names, [found])
        }
        // A name that leads elsewhere, or nowhere, is not followed.
        for name in ["../../../other", "..", "gone", "", String(repeating: "x", count: 5000)] {
            folder.write(name.utf8, model + "/refs/main")
            XCTAssertEqual(message(folder.file(model)), several, name)
        }
        try snapshot("home/hub/models--owner--other")
        let models = message(folder.file("home"))
        XCTAssertTrue(models.contains("cache of the Hugging Face hub with 2 models; name one of them"), models)
        try FileManager.default.removeItem(atPath: folder.file("home/hub/models--owner--other/snapshots/abc"))
        let empty = message(folder.file("home/hub/models--owner--other"))
        XCTAssertTrue(empty.contains("without a snapshot"), empty)
    }

    func testFolders() throws {
        XCTAssertEqual(
            message(folder.path),
            "folder \"FOLDER\" holds no weights (model.safetensors, an index of shards or pytorch_model.bin); name the "
                + "file"
        )
        try write("student.safetensors", [("a", [1])])
        XCTAssertEqual(try WeightFiles.open(folder.path).path, folder.file("student.safetensors"))
        try write("teacher.safetensors", [("b", [1])])
        XCTAssertEqual(
            message(folder.path),
            "folder \"FOLDER\" holds 2 files of weights, such as \"student.safetensors\"; name one of them")
        var writer = TorchArchiveWriter()
        writer.add("c", type: .u8, shape: []) { append in try [UInt8(7)].withUnsafeBytes { try append($0) } }
        try writer.write(to: folder.file("pytorch_model.bin"))
        XCTAssertEqual(try WeightFiles.open(folder.path).form, "PyTorch archive")
        XCTAssertEqual(try WeightFiles.open(folder.path).floats("c"), [7])
        index("pytorch_model.bin.index.json", "{\"weight_map\": {\"c\": \"pytorch_model.bin\"}}")
        XCTAssertEqual(
            try WeightFiles.open(folder.file("pytorch_model.bin.index.json")).form, "PyTorch archive in 1 shard")
        try write("model.safetensors", [("d", [1])])
        XCTAssertEqual(try WeightFiles.open(folder.path).names, ["d"])
        XCTAssertEqual(
            message(folder.file("absent"), code: .inputOutput).hasPrefix("cannot open \"FOLDER/absent\": No such file"),
            true)
    }
}
