import SwiftProtobuf
import Tensors
import Weights

/// A tensor of a model whose bytes come when they are asked for.
struct StoredTensor {
    let name: String
    let type: Onnx_TensorProto.DataType
    let shape: [Int]
    let byteCount: Int
    /// Hands all its bytes, in order and in any number of pieces, to its argument.
    let bytes: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void

    /// Small whole numbers, such as the argument of a Reshape.
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

    /// Everything but the bytes.
    var description: Onnx_TensorProto {
        var message = Onnx_TensorProto()
        message.name = name
        message.dataType = Int32(type.rawValue)
        message.dims = shape.map(Int64.init)
        return message
    }
}

/// Writes a model without ever holding its weights: SwiftProtobuf encodes every message but the initialisers' bytes,
/// and what encloses those (field numbers and lengths) is written around them by hand. A parser of protobuf sees no
/// difference: fields of a message may stand in any order.
struct ModelFile {
    /// Everything but the graph.
    var model = Onnx_ModelProto()
    /// Everything but the initialisers.
    var graph: Onnx_GraphProto
    var tensors: [StoredTensor]

    /// Numbers of the fields that are written by hand.
    private static let graphField = 7, initializerField = 5, rawDataField = 9
    /// Tensors up to this size stay in the model: shape inference wants to see them. (onnx.external_data_helper's
    /// threshold.)
    private static let smallTensor = 1024
    /// External data begins at multiples of this, to be mapped: the ONNX specification's advice.
    private static let page = 4096

    init(graph: Onnx_GraphProto, tensors: [StoredTensor]) {
        self.graph = graph
        self.tensors = tensors
    }

    /// Writes the model to `path`; where it would be larger than `largest`, its large tensors to `path`.data, before.
    ///
    /// - Returns: the path of that file, or nil.
    /// - Throws: `Failure(.inputOutput)`, or what reading a tensor throws; nothing of the model is left behind then.
    func write(to path: String, largest: Int) throws -> String? {
        let inline = try pieces(externalName: nil)
        guard inline.byteCount > largest else {
            try AtomicFile.write(to: path) { try inline.append(to: $0) }
            return nil
        }
        let dataPath = path + ".data"
        let name = dataPath.split(separator: "/").last.map(String.init) ?? dataPath
        // Both are written before either takes its place, the model last.
        try AtomicFile.write(to: path) { model in
            try pieces(externalName: name).append(to: model)
            try AtomicFile.write(to: dataPath) { file in
                var offset = 0
                for tensor in tensors where tensor.byteCount > Self.smallTensor {
                    let padding = [UInt8](repeating: 0, count: (Self.page - offset % Self.page) % Self.page)
                    try padding.withUnsafeBytes { try file.append($0) }
                    try tensor.bytes { try file.append($0) }
                    offset += padding.count + tensor.byteCount
                }
            }
        }
        return dataPath
    }

    /// The file's bytes: some that are there, some that a tensor still has to give.
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

    /// What stands before the content of field `number`: its tag, with wire type 2 (length-delimited), and its length.
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
