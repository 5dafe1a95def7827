import SwiftProtobuf
import Tensors
import Weights

/// A tensor of an ONNX model. Its bytes are produced when the file is written.
struct StoredTensor {
    let name: String
    let type: Onnx_TensorProto.DataType
    let shape: [Int]
    let byteCount: Int
    /// Calls its argument with the bytes, in order and in any number of pieces.
    let bytes: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void

    /// Integers, such as the shape input of a Reshape.
    init(_ name: String, integers: [Int], shape: [Int]? = nil) {
        self.name = name
        type = .int64
        self.shape = shape ?? [integers.count]
        byteCount = 8 * integers.count
        bytes = { body in try integers.map { Int64($0).littleEndian }.withUnsafeBytes(body) }
    }

    /// float32 numbers.
    init(_ name: String, numbers: [Float], shape: [Int]? = nil) {
        self.name = name
        type = .float
        self.shape = shape ?? [numbers.count]
        byteCount = 4 * numbers.count
        bytes = { body in try numbers.map(\.bitPattern.littleEndian).withUnsafeBytes(body) }
    }

    init(
        _ name: String, type: Onnx_TensorProto.DataType, shape: [Int], byteCount: Int,
        bytes: @escaping ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) {
        self.name = name
        self.type = type
        self.shape = shape
        self.byteCount = byteCount
        self.bytes = bytes
    }

    /// The message without the bytes.
    var description: Onnx_TensorProto {
        var message = Onnx_TensorProto()
        message.name = name
        message.dataType = Int32(type.rawValue)
        message.dims = shape.map(Int64.init)
        return message
    }
}

/// Writes an ONNX model one tensor at a time.
///
/// SwiftProtobuf encodes all messages without the initialisers' bytes. The fields that enclose these bytes (`graph`,
/// `initializer`, `raw_data`) are written by hand at the end of their messages; parsers accept fields in any order.
struct ModelFile {
    /// The model without its graph.
    var model = Onnx_ModelProto()
    /// The graph without its initialisers.
    var graph: Onnx_GraphProto
    var tensors: [StoredTensor]

    /// Protobuf field numbers: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data.
    private static let graphField = 7, initializerField = 5, rawDataField = 9
    /// Maximum bytes of a tensor that stays in the model beside external data, because shape inference reads it. The
    /// threshold of onnx.external_data_helper.
    private static let smallTensor = 1024
    /// Alignment of tensors in external data, so that a runtime can map them. The ONNX specification advises it.
    private static let page = 4096

    init(graph: Onnx_GraphProto, tensors: [StoredTensor]) {
        self.graph = graph
        self.tensors = tensors
    }

    /// Writes the model to `path`. If it would be larger than `largest` bytes, the large tensors go to `path`.data.
    ///
    /// - Returns: the path of the second file; nil if there is one file.
    /// - Throws: `Failure(.inputOutput)`, or the failure of reading a tensor; then neither file is replaced.
    func write(to path: String, largest: Int) throws -> String? {
        let inline = try pieces(externalName: nil)
        guard inline.byteCount > largest else {
            try AtomicFile.write(to: path) {
                try inline.append(to: $0)
                try InputFiles.requireUnchanged()
            }
            return nil
        }
        let dataPath = path + ".data"
        let name = dataPath.split(separator: "/").last.map(String.init) ?? dataPath
        try FileGroup.write(to: [dataPath, path]) { files in
            try pieces(externalName: name).append(to: files[1])
            var offset = 0
            for tensor in tensors where tensor.byteCount > Self.smallTensor {
                let padding = [UInt8](repeating: 0, count: (Self.page - offset % Self.page) % Self.page)
                try padding.withUnsafeBytes { try files[0].append($0) }
                try tensor.bytes { try files[0].append($0) }
                offset += padding.count + tensor.byteCount
            }
            try InputFiles.requireUnchanged()
        }
        return dataPath
    }

    /// The bytes of the file in order: encoded messages, and tensors that are read when they are written.
    private struct Pieces {
        enum Piece {
            case bytes([UInt8])
            case data(StoredTensor)
        }
        var all: [Piece] = []
        var byteCount = 0

        mutating func append(_ bytes: [UInt8]) {
            all.append(.bytes(bytes))
            byteCount += bytes.count
        }

        mutating func append(_ tensor: StoredTensor) {
            all.append(.data(tensor))
            byteCount += tensor.byteCount
        }

        mutating func append(_ other: Pieces) {
            all += other.all
            byteCount += other.byteCount
        }

        func append(to file: AtomicFile) throws {
            for piece in all {
                switch piece {
                case .bytes(let bytes): try bytes.withUnsafeBytes { try file.append($0) }
                case .data(let tensor):
                    var count = 0
                    try tensor.bytes { bytes in
                        count += bytes.count
                        try file.append(bytes)
                    }
                    precondition(count == tensor.byteCount, "\(tensor.name) gave \(count) bytes")
                }
            }
        }
    }

    private func pieces(externalName: String?) throws -> Pieces {
        var graphPieces = Pieces()
        graphPieces.append(try graph.serializedBytes())
        var offset = 0
        for tensor in tensors {
            var message = tensor.description
            var body = Pieces()
            if let externalName, tensor.byteCount > Self.smallTensor {
                offset = (offset + Self.page - 1) / Self.page * Self.page
                message.dataLocation = .external
                message.externalData = [
                    ("location", externalName), ("offset", "\(offset)"), ("length", "\(tensor.byteCount)"),
                ].map {
                    var entry = Onnx_StringStringEntryProto()
                    entry.key = $0
                    entry.value = $1
                    return entry
                }
                offset += tensor.byteCount
                body.append(try message.serializedBytes())
            } else {
                body.append(try message.serializedBytes())
                body.append(Self.opening(Self.rawDataField, length: tensor.byteCount))
                body.append(tensor)
            }
            graphPieces.append(Self.opening(Self.initializerField, length: body.byteCount))
            graphPieces.append(body)
        }
        var file = Pieces()
        file.append(try model.serializedBytes())
        file.append(Self.opening(Self.graphField, length: graphPieces.byteCount))
        file.append(graphPieces)
        return file
    }

    /// The bytes before the content of field `number`: its tag, with wire type 2 (length-delimited), and its length.
    private static func opening(_ number: Int, length: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        for value in [number << 3 | 2, length] {
            var rest = value
            while rest >= 0x80 {
                bytes.append(UInt8(rest & 0x7F) | 0x80)
                rest >>= 7
            }
            bytes.append(UInt8(rest))
        }
        return bytes
    }
}
