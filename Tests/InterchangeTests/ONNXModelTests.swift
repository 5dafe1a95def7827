import Reporting
import Foundation
import Models
import Interchange
import SwiftProtobuf
import Tensors
import TestSupport
import Weights
import XCTest

/// ONNX models of the encoders in Fixtures/weights.
final class ONNXModelTests: XCTestCase {
    private let folder = TemporaryFolder()
    private static let encoder = EncoderConfiguration(
        width: 32, depth: 3, heads: 4, patchSize: 8, imageHeight: 32, imageWidth: 32)

    /// A file whose tensors are renamed; those that get no name are left out.
    private final class Renamed: WeightFile, @unchecked Sendable {
        private let file: any WeightFile
        private let names: [String: String]
        let entries: [TensorEntry]

        init(_ file: any WeightFile, _ rename: (String) -> String?) {
            self.file = file
            var names: [String: String] = [:]
            entries = file.entries.compactMap { entry in
                rename(entry.name).map {
                    names[$0] = entry.name
                    return TensorEntry(name: $0, type: entry.type, shape: entry.shape)
                }
            }
            self.names = names
        }
        var path: String { file.path }
        var form: String { file.form }
        var metadata: [String: String] { [:] }
        var byteCount: Int { file.byteCount }
        subscript(name: String) -> TensorEntry? { entries.first { $0.name == name } }
        func copyFloats(_ name: String, into destination: UnsafeMutableBufferPointer<Float>) throws {
            try file.copyFloats(names[name] ?? "", into: destination)
        }
        func withBytes<Result>(_ name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
            try file.withBytes(names[name] ?? "", body)
        }
    }

    /// Weights of Fixtures/weights.
    private static func open(_ path: String) throws -> CanonicalWeightFile {
        try CanonicalWeightFile(WeightFiles.open(Fixtures.path("weights/" + path)))
    }

    /// A model to write.
    private struct Case {
        let name: String
        let weights: CanonicalWeightFile
        var encoder = ONNXModelTests.encoder
        var type = TensorType.f32
        var largest = ONNXModel.largestFile
    }

    /// An MAE encoder in every type and with external data; a classifier on the class token; a classifier of one block
    /// on the mean of the patch tokens; and a linear probe.
    private static func cases() throws -> [Case] {
        let mae = try open("mae/mae.safetensors")
        let classifier = try open("timm/timm.safetensors")
        var one = encoder, two = encoder
        (one.depth, two.depth) = (1, 2)
        let probe = [
            "head.weight": "head.1.weight", "head.bias": "head.1.bias", "blocks.2.norm1.bias": "head.0.running_mean",
            "blocks.2.norm1.weight": "head.0.running_var",
        ]
        let renamed = Renamed(classifier.file) { probe[$0] ?? ($0.hasPrefix("blocks.2.") ? nil : $0) }
        return [
            Case(name: "mae-f32", weights: mae), Case(name: "mae-f16", weights: mae, type: .f16),
            Case(name: "mae-bf16", weights: mae, type: .bf16),
            Case(name: "mae-external", weights: mae, largest: 100_000),
            Case(name: "classifier", weights: classifier),
            Case(name: "finetuned", weights: try open("mae/finetuned.pth"), encoder: one, type: .bf16),
            Case(name: "probe", weights: try CanonicalWeightFile(renamed), encoder: two),
        ]
    }

    private func write(_ model: Case, in folder: String) throws -> ONNXModel.Summary {
        try ONNXModel.write(
            model.weights, model.encoder, to: "\(folder)/\(model.name).onnx", type: model.type, version: "recorded",
            largest: model.largest)
    }

    // MARK: Recorded models

    /// The record that `Fixtures/onnx/record_models.py` wrote: hashes of the models that it checked and ran.
    private struct Record: Decodable {
        struct Model: Decodable {
            struct Tensor: Decodable, Equatable {
                let name: String
                let type: Int
                let shape: [Int]
            }
            let bytes: Int
            let xxh64: String
            let dataBytes: Int?
            let dataXxh64: String?
            let checker: String
            let largestDifference: Double
            let operations: [String: Int]
            let initializers: [Tensor]
            let inputs, outputs: [String: [String]]
        }
        let models: [String: Model]
        let onnx, onnxruntime: String
    }

    private func hash(_ path: String) throws -> (count: Int, digits: String) {
        let data = try Data(contentsOf: URL(fileURLWithPath: path))
        var hash = XXHash64()
        data.withUnsafeBytes { hash.update($0) }
        return (data.count, String(format: "%016llx", hash.finish()))
    }

    /// The models are the same bytes as those that the ONNX checker accepted and whose outputs in onnxruntime agreed
    /// with PyTorch's. With DMAE_RECORD=FOLDER they are written there instead, for record_models.py.
    func testModelsAreTheRecordedOnes() throws {
        if let place = ProcessInfo.processInfo.environment["DMAE_RECORD"] {
            for model in try Self.cases() { _ = try write(model, in: place) }
            return XCTFail("written, not tested")
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let record = try decoder.decode(
            Record.self, from: Data(contentsOf: URL(fileURLWithPath: Fixtures.path("onnx/models.json"))))
        let cases = try Self.cases()
        XCTAssertEqual(Set(cases.map(\.name)), Set(record.models.keys))
        for model in cases {
            let recorded = try XCTUnwrap(record.models[model.name])
            let summary = try write(model, in: folder.path)
            let decoded = try DecodedModel(summary.path)
            decoded.assertWellFormed(model.name)
            XCTAssertEqual(recorded.checker, "passed")
            XCTAssertLessThan(recorded.largestDifference, 1e-4)
            XCTAssertEqual(decoded.operations, recorded.operations, model.name)
            XCTAssertEqual(
                decoded.graph.initializer.map {
                    Record.Model.Tensor(name: $0.name, type: Int($0.dataType), shape: $0.dims.map(Int.init))
                }, recorded.initializers, model.name)
            for (values, expected) in [
                (decoded.graph.input, recorded.inputs), (decoded.graph.output, recorded.outputs),
            ] {
                let found = values.map { value in
                    (
                        value.name,
                        value.type.tensorType.shape.dim.map { $0.dimParam.isEmpty ? "\($0.dimValue)" : $0.dimParam }
                    )
                }
                XCTAssertEqual(Dictionary(uniqueKeysWithValues: found), expected, model.name)
            }
            let file = try hash(summary.path)
            XCTAssertEqual(file.count, recorded.bytes, model.name)
            XCTAssertEqual(file.digits, recorded.xxh64, model.name)
            let data = try summary.dataPath.map(hash)
            XCTAssertEqual(data?.count, recorded.dataBytes, model.name)
            XCTAssertEqual(data?.digits, recorded.dataXxh64, model.name)
        }
    }

    // MARK: Contents

    /// Weights keep the file's names, shapes and bytes; outputs have their shapes; the batch dimension is free.
    func testWhatAModelHolds() throws {
        let weights = try Self.open("mae/mae.safetensors")
        let path = folder.file("a.onnx")
        let summary = try ONNXModel.write(weights, Self.encoder, to: path, version: "1.2.3")
        XCTAssertEqual(summary.path, path)
        XCTAssertNil(summary.dataPath)
        XCTAssertEqual(summary.outputs, ["last_hidden_state", "pooled"])
        let model = try DecodedModel(path)
        model.assertWellFormed("a")
        XCTAssertEqual(model.message.producerName, "dmae")
        XCTAssertEqual(model.message.producerVersion, "1.2.3")
        XCTAssertFalse(model.message.hasGraph == false)
        let encoder = weights.entries.filter { !$0.name.hasPrefix("decoder_") && $0.name != "mask_token" }
        XCTAssertEqual(summary.parameters, encoder.reduce(0) { $0 + $1.count })
        for entry in encoder {
            let tensor = try XCTUnwrap(model.tensor(entry.name), entry.name)
            XCTAssertEqual(tensor.dims.map(Int.init), entry.shape)
            XCTAssertEqual(model.bytes[entry.name], try weights.withBytes(entry.name) { [UInt8]($0) })
        }
        // All other initialisers are small constants.
        for tensor in model.graph.initializer where weights[tensor.name] == nil {
            XCTAssertLessThanOrEqual(model.bytes[tensor.name]!.count, 32, tensor.name)
        }
        XCTAssertEqual(model.graph.input.map(\.name), ["pixel_values"])
        for value in model.graph.input + model.graph.output {
            XCTAssertEqual(value.type.tensorType.shape.dim[0].dimParam, "batch")
            XCTAssertEqual(value.type.tensorType.elemType, 1)
        }
        XCTAssertEqual(model.operations["LayerNormalization"], 7)
        XCTAssertEqual(model.operations["Gemm"], 12)
        XCTAssertEqual(model.operations["Erf"], 3)
        for node in model.graph.node where node.opType == "LayerNormalization" {
            XCTAssertEqual(node.attribute.first { $0.name == "epsilon" }?.f, 1e-6)
        }
        XCTAssertEqual(folder.names(), ["a.onnx"])
    }

    /// A model as large as the limit is one file. With a limit one byte lower, the weights move to external data
    /// unchanged, except the small ones.
    func testExternalData() throws {
        let weights = try Self.open("timm/timm.safetensors")
        let whole = folder.file("whole.onnx"), split = folder.file("split.onnx")
        try ONNXModel.write(weights, Self.encoder, to: whole)
        let size = folder.read("whole.onnx").count
        XCTAssertNil(try ONNXModel.write(weights, Self.encoder, to: folder.file("limit.onnx"), largest: size).dataPath)
        XCTAssertEqual(folder.read("limit.onnx"), folder.read("whole.onnx"))
        let summary = try ONNXModel.write(weights, Self.encoder, to: split, largest: size - 1)
        XCTAssertEqual(summary.dataPath, split + ".data")
        XCTAssertEqual(folder.names(), ["limit.onnx", "split.onnx", "split.onnx.data", "whole.onnx"])
        let one = try DecodedModel(whole), two = try DecodedModel(split)
        two.assertWellFormed("split")
        XCTAssertEqual(one.bytes, two.bytes)
        XCTAssertEqual(one.graph.node, two.graph.node)
        var end = 0
        for tensor in two.graph.initializer {
            XCTAssertEqual(tensor.dataLocation == .external, one.bytes[tensor.name]!.count > 1024, tensor.name)
            guard tensor.dataLocation == .external else { continue }
            let entries = Dictionary(uniqueKeysWithValues: tensor.externalData.map { ($0.key, $0.value) })
            XCTAssertEqual(entries["location"], "split.onnx.data")
            let offset = Int(entries["offset"]!)!
            XCTAssertTrue((end..<end + 4096).contains(offset), "no overlap, no hole of a page")
            end = offset + Int(entries["length"]!)!
        }
        XCTAssertEqual(folder.read("split.onnx.data").count, end)
        XCTAssertLessThan(folder.read("split.onnx").count, 40_000)
    }

    /// In a narrower type every tensor is rounded to nearest, ties to even, and cast back before it is used.
    func testNarrowTypes() throws {
        let weights = try Self.open("mae/mae.safetensors")
        for (type, code) in [(TensorType.f16, 10), (.bf16, 16)] {
            let path = folder.file("\(type.rawValue).onnx")
            try ONNXModel.write(weights, Self.encoder, to: path, type: type)
            let model = try DecodedModel(path)
            model.assertWellFormed(type.rawValue)
            var checked = 0
            for tensor in model.graph.initializer where weights[tensor.name] != nil {
                XCTAssertEqual(Int(tensor.dataType), code, tensor.name)
                let values = try weights.floats(tensor.name)
                let bytes = model.bytes[tensor.name]!
                for (index, value) in values.enumerated() {
                    let stored = UInt16(bytes[2 * index]) | UInt16(bytes[2 * index + 1]) << 8
                    let bits = value.bitPattern
                    // bf16 by definition: the nearer of the two neighbours, in a tie the even one.
                    let low = UInt16(bits >> 16), rest = bits & 0xFFFF
                    let isUp = rest > 0x8000 || (rest == 0x8000 && low & 1 == 1)
                    XCTAssertEqual(
                        stored, type == .f16 ? Float16(value).bitPattern : low + (isUp ? 1 : 0),
                        "\(tensor.name) \(value)")
                    checked += 1
                }
                let readers = model.graph.node.filter { $0.input.contains(tensor.name) }
                XCTAssertEqual(readers.map(\.opType), ["Cast"], tensor.name)
            }
            XCTAssertGreaterThan(checked, 40_000)
            XCTAssertLessThan(folder.read("\(type.rawValue).onnx").count, 120_000)
        }
        // Tensors stored in that type already are copied bit for bit.
        let half = try Self.open("timm/timm.safetensors")
        try ONNXModel.write(half, Self.encoder, to: folder.file("same.onnx"), type: .f16)
        let model = try DecodedModel(folder.file("same.onnx"))
        for entry in half.entries {
            XCTAssertEqual(model.bytes[entry.name], try half.withBytes(entry.name) { [UInt8]($0) })
        }
    }

    func testWhatDoesNotFitIsRefused() throws {
        let mae = try Self.open("mae/mae.safetensors")
        // Refused for having both norms, before the shape of the second one is checked.
        let bothNorms = try CanonicalWeightFile(
            Renamed(mae) { $0.replacingOccurrences(of: "decoder_norm.", with: "fc_norm.") })
        var wide = Self.encoder, deep = Self.encoder, finer = Self.encoder
        (wide.width, deep.depth, finer.imageHeight) = (36, 4, 64)
        for (weights, encoder, code, words) in [
            (mae, wide, Failure.Code.badData, "patch_embed.proj.weight has shape [32, 3, 8, 8]"),
            (mae, deep, .badData, "lacks blocks.3.norm1.weight"),
            (mae, finer, .badData, "pos_embed has shape [1, 17, 32]"),
            (
                try CanonicalWeightFile(Renamed(mae) { $0.hasPrefix("norm.") ? nil : $0 }), Self.encoder, .badData,
                "lacks norm.weight"
            ),
            (bothNorms, Self.encoder, .badData, "holds both norm and fc_norm, and the ONNX form cannot say"),
        ] {
            let failure = failure { try ONNXModel.write(weights, encoder, to: folder.file("x.onnx")) }
            XCTAssertEqual(failure?.code, code)
            XCTAssert(
                failure?.message.contains(words) == true && failure?.message.contains(mae.path) == true,
                "\(failure as Any)")
        }
        // A float32 weight outside the range of float16.
        var writer = SafeTensorsWriter()
        let values = try mae.entries.map { try mae.floats($0.name) }
        for (entry, floats) in zip(mae.entries, values) {
            var floats = floats
            if entry.name == "blocks.1.mlp.fc1.weight" { floats[7] = 70_000 }
            let copy = UnsafeMutableBufferPointer<Float>.allocate(capacity: floats.count)
            _ = copy.initialize(from: floats)
            writer.add(entry.name, shape: entry.shape, floats: UnsafeBufferPointer(copy))
        }
        try writer.write(to: folder.file("large.safetensors"))
        let large = try CanonicalWeightFile(SafeTensorsFile(path: folder.file("large.safetensors")))
        let failure = failure { try ONNXModel.write(large, Self.encoder, to: folder.file("x.onnx"), type: .f16) }
        XCTAssertEqual(failure?.code, .badData)
        XCTAssert(failure?.message.contains("blocks.1.mlp.fc1.weight") == true, "\(failure as Any)")
        XCTAssertNoThrow(try ONNXModel.write(large, Self.encoder, to: folder.file("y.onnx"), type: .bf16))
        XCTAssertEqual(folder.names(), ["large.safetensors", "y.onnx"])
    }
}
