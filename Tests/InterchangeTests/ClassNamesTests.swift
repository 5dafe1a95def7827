import Foundation
import Interchange
import Models
import Reporting
import SwiftProtobuf
import TestSupport
import Weights
import XCTest

/// The names of classes in files of weights.
final class ClassNamesTests: XCTestCase {
    private let folder = TemporaryFolder()
    private static let names = ["ant", "bee", "cat", "dog", "emu"]

    private func path(_ name: String) -> String { Fixtures.path("classifiers/" + name) }

    /// Copies a folder of weights with its `config.json` changed.
    private func changed(_ name: String, _ change: (String) -> String) throws -> String {
        for file in ["config.json", "model.safetensors"] {
            var content = try Data(contentsOf: URL(fileURLWithPath: path(name + "/" + file)))
            if file == "config.json" { content = Data(change(String(decoding: content, as: UTF8.self)).utf8) }
            folder.write(content, file)
        }
        return folder.file("model.safetensors")
    }

    /// The same model with metadata of its own.
    private func labelled(_ text: String) throws -> String {
        let file = try SafeTensorsFile(path: path("timm/model.safetensors"))
        var writer = SafeTensorsWriter(metadata: [ModelWeights.classesKey: text])
        for entry in file.entries {
            writer.add(
                TensorSource(name: entry.name, type: entry.type, shape: entry.shape) {
                    try file.withBytes(entry.name, $0)
                })
        }
        try writer.write(to: folder.file("labelled.safetensors"))
        return folder.file("labelled.safetensors")
    }

    func testNamesAndPools() throws {
        for (name, pool) in [
            ("timm/model.safetensors", ClassifierPool.class), ("timm-mean/model.safetensors", .mean),
            ("transformers", .class),
        ] {
            let weights = try ModelWeights(path: path(name))
            XCTAssertEqual(weights.classNames, Self.names, name)
            XCTAssertEqual(weights.classes, 5, name)
            XCTAssertEqual(weights.pool, pool, name)
            XCTAssertTrue(
                weights.architecture.hasSuffix("a head of 5 classes (ant, bee, cat, …)"), weights.architecture)
        }
        // LABEL_0 and so on are no names; without a head there are neither.
        let placeholders = try ModelWeights(path: Fixtures.path("weights/huggingface/vit-classifier"))
        XCTAssertEqual(placeholders.classes, 10)
        XCTAssertNil(placeholders.classNames)
        let headless = try ModelWeights(path: Fixtures.path("weights/mae/mae.safetensors"))
        XCTAssertNil(headless.classNames)
        XCTAssertNil(headless.pool)
        XCTAssertNil(headless.headLayer)
    }

    /// A file's own metadata come before a config.json.
    func testMetadata() throws {
        let weights = try ModelWeights(path: labelled("[\"a \\\"b\\\"\",\"\\u00e9\",\"c,d\",\"e\",\"f\\ng\"]"))
        XCTAssertEqual(weights.classNames, ["a \"b\"", "é", "c,d", "e", "f\ng"])
        for (text, words) in [
            ("[\"a\"]", "names 1 class, but the head has 5"), ("{}", "no JSON array of names"),
            ("[1, 2]", "no JSON array"),
        ] {
            let failure = failure { _ = try ModelWeights(path: labelled(text)) }
            XCTAssertEqual(failure?.code, .badData)
            XCTAssertTrue(failure?.message.contains(words) == true, "\(failure as Any)")
        }
    }

    func testConfigurations() throws {
        // Numbers stand for names, as some data sets have them.
        let numbers = try changed("transformers") { $0.replacingOccurrences(of: "\"0\": \"ant\"", with: "\"0\": 17") }
        XCTAssertEqual(try ModelWeights(path: numbers).classNames?.first, "17")
        let few = try changed("transformers") { $0.replacingOccurrences(of: "\"0\": \"ant\",", with: "") }
        XCTAssertTrue(
            failure { _ = try ModelWeights(path: few) }?.message.contains("has 4 names but none of class 0") == true)
        let more = try changed("transformers") {
            $0.replacingOccurrences(of: "\"0\": \"ant\",", with: "\"0\": \"ant\", \"5\": \"fly\",")
        }
        XCTAssertTrue(
            failure { _ = try ModelWeights(path: more) }?.message.contains(
                "config.json names 6 classes, but the head has 5")
                == true)
        // A config.json of another model, or of another program, says nothing.
        for change in [
            { (text: String) in text.replacingOccurrences(of: "\"num_classes\": 5", with: "\"num_classes\": 6") },
            { _ in "{}" },
        ] { XCTAssertNil(try ModelWeights(path: changed("timm", change)).classNames) }
        let broken = try changed("timm") { _ in "no JSON" }
        XCTAssertTrue(
            failure { _ = try ModelWeights(path: broken) }?.message.contains("config.json: is no JSON") == true)
    }

    /// A prefix names the model where several are in a file. One behind words that nobody knows is found without.
    func testPrefix() throws {
        let path = Fixtures.path("golden/linear.in.safetensors")
        XCTAssertEqual(try ModelWeights(path: path, prefix: "teacher").tensors.detection.wrapper, "teacher.")
        XCTAssertEqual(try ModelWeights(path: path, prefix: "student.").tensors.detection.wrapper, "student.")
        let wrong = failure { _ = try ModelWeights(path: path, prefix: "nobody") }
        XCTAssertEqual(wrong?.code, .badData)
        XCTAssertTrue(
            wrong?.message.contains("behind \"nobody\", but behind \"student\", \"teacher\": choose that by prefix")
                == true,
            "\(wrong as Any)")
        let file = try SafeTensorsFile(path: self.path("timm/model.safetensors"))
        var writer = SafeTensorsWriter()
        for entry in file.entries {
            writer.add(
                TensorSource(name: "wild.words." + entry.name, type: entry.type, shape: entry.shape) {
                    try file.withBytes(entry.name, $0)
                })
        }
        try writer.write(to: folder.file("wild.safetensors"))
        XCTAssertEqual(try ModelWeights(path: folder.file("wild.safetensors")).tensors.detection.wrapper, "wild.words.")
        XCTAssertEqual(try ModelWeights(path: folder.file("wild.safetensors"), prefix: "wild.words").classes, 5)
    }

    /// Every form keeps the names, and what it writes is read back with them.
    func testConversions() throws {
        let names = (0..<5).map { "class \($0), \"é\"" }
        let json = String(decoding: try names.sortedJSON(), as: UTF8.self)
        let weights = try ModelWeights(path: labelled(json))
        for (target, name) in [
            (Conversion.Target.mae, "x.safetensors"), (.mae, "x.pth"), (.timm, "y.safetensors"), (.timm, "y.pt"),
            (.huggingFace, "hugging"),
        ] {
            try Conversion(weights, to: target, heads: 4).write(to: folder.file(name))
            XCTAssertEqual(try ModelWeights(path: folder.file(name)).classNames, names, name)
            // Without the head there are no names of its classes.
            try Conversion(weights, to: target, encoderOnly: true, heads: 4).write(to: folder.file(name))
            XCTAssertNil(try ModelWeights(path: folder.file(name)).classNames, name)
            let file = try WeightFiles.open(folder.file(name))
            XCTAssertNil(file.metadata[ModelWeights.classesKey], name)
        }
        for (hasHead, expected) in [(true, [[ModelWeights.classesKey, json]]), (false, [])] {
            try ONNXModel.write(
                weights.tensors, weights.runnableEncoder(heads: 4, imageSize: nil), to: folder.file("x.onnx"),
                hasHead: hasHead, classNames: weights.classNames)
            let model = try Onnx_ModelProto(serializedBytes: [UInt8](folder.read("x.onnx")))
            XCTAssertEqual(model.metadataProps.map { [$0.key, $0.value] }, expected)
        }
    }

    /// More names than other lists in a PyTorch archive keep, as ImageNet-21k has.
    func testManyNamesInAnArchive() throws {
        let names = (0..<21_843).map { "n\($0), a name of some length" }
        var writer = TorchArchiveWriter(wrapper: "model")
        writer.add("x", type: .f32, shape: [1]) { append in try [Float(1)].withUnsafeBytes { try append($0) } }
        writer.add(ModelWeights.classesKey, texts: names)
        try writer.write(to: folder.file("x.pth"))
        let file = try WeightFiles.open(folder.file("x.pth"))
        XCTAssertEqual(file.names, ["model.x"])
        XCTAssertEqual(file.values.map(\.name), [ModelWeights.classesKey])
        XCTAssertEqual(file.values.first?.value, .list(names.map(PlainValue.text)))
    }
}
