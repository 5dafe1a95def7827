import Foundation
import Interchange
import SwiftProtobuf
import Tensors
import XCTest

/// An ONNX model read back with SwiftProtobuf and checked.
struct DecodedModel {
    let message: Onnx_ModelProto
    /// The initialisers' bytes, from the model or from its external data.
    let bytes: [String: [UInt8]]

    init(_ path: String) throws {
        message = try Onnx_ModelProto(serializedBytes: Data(contentsOf: URL(fileURLWithPath: path)))
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
        bytes = try Dictionary(
            uniqueKeysWithValues: message.graph.initializer.map { tensor in
                guard tensor.dataLocation == .external else { return (tensor.name, [UInt8](tensor.rawData)) }
                let entries = Dictionary(uniqueKeysWithValues: tensor.externalData.map { ($0.key, $0.value) })
                let data = try Data(contentsOf: folder.appendingPathComponent(try XCTUnwrap(entries["location"])))
                let offset = try XCTUnwrap(entries["offset"].flatMap { Int($0) })
                let length = try XCTUnwrap(entries["length"].flatMap { Int($0) })
                XCTAssertEqual(offset % 4096, 0, tensor.name)
                XCTAssertFalse(tensor.hasRawData, tensor.name)
                XCTAssertLessThanOrEqual(offset + length, data.count, tensor.name)
                return (tensor.name, [UInt8](data[offset..<offset + length]))
            })
    }

    var graph: Onnx_GraphProto { message.graph }

    func tensor(_ name: String) -> Onnx_TensorProto? { graph.initializer.first { $0.name == name } }

    /// Operations of one type.
    var operations: [String: Int] { graph.node.reduce(into: [:]) { $0[$1.opType, default: 0] += 1 } }

    /// Checks the graph: every name is defined once, before it is used, and used; every tensor has the bytes of its
    /// shape.
    func assertWellFormed(_ name: String) {
        XCTAssertFalse(message.unknownFields.data.count > 0, name)
        XCTAssertEqual(message.irVersion, 8, name)
        XCTAssertEqual(message.opsetImport.map(\.version), [17], name)
        var defined = Set(graph.input.map(\.name)), used: Set<String> = []
        for tensor in graph.initializer {
            XCTAssertTrue(defined.insert(tensor.name).inserted, "\(name): \(tensor.name) twice")
            let size: Int? =
                switch Onnx_TensorProto.DataType(rawValue: Int(tensor.dataType)) {
                case .float: 4
                case .int64: 8
                case .float16, .bfloat16: 2
                default: nil
                }
            XCTAssertEqual(
                tensor.dims.reduce(size ?? 0) { $0 * Int($1) }, bytes[tensor.name]?.count, "\(name): \(tensor.name)")
        }
        for node in graph.node {
            for input in node.input {
                XCTAssertTrue(
                    defined.contains(input), "\(name): \(node.name) takes \(input), which comes later or never")
                used.insert(input)
            }
            for output in node.output { XCTAssertTrue(defined.insert(output).inserted, "\(name): \(output) twice") }
        }
        XCTAssertEqual(Set(graph.node.map(\.name)).count, graph.node.count, "\(name): two nodes of one name")
        let outputs = graph.output.map(\.name)
        XCTAssertTrue(defined.isSuperset(of: outputs), name)
        XCTAssertEqual(defined.subtracting(used).subtracting(outputs), [], "\(name): never used")
    }
}
