import Reporting
import Tensors
import Weights

/// The encoder's weights as a model stores them: found by MAE's names, checked against the configuration, converted
/// when they are written.
final class EncoderTensors {
    /// What they are stored in.
    let type: TensorType
    private let path: String
    private let sources: [String: TensorSource]
    /// Elements of all tensors that were asked for.
    private(set) var parameters = 0

    init(_ weights: ModelTensors, type: TensorType) {
        self.type = type
        path = weights.path
        sources = Dictionary(uniqueKeysWithValues: weights.sources(.mae, type: type).tensors.map { ($0.name, $0) })
    }

    /// The shape of the tensor called `name`; nil where there is none.
    func shape(_ name: String) -> [Int]? { sources[name]?.shape }

    /// The tensor called `name`, which must have that shape.
    ///
    /// - Throws: `Failure.badData` where it is missing or has another, or is no floating-point tensor.
    func tensor(_ name: String, _ shape: [Int]) throws -> StoredTensor {
        guard let source = sources[name] else {
            throw Failure(
                .badData,
                "\(path): lacks \(name), which the ONNX model of an encoder needs; `dmae inspect` lists what is there")
        }
        guard source.shape == shape else {
            throw Failure(
                .badData,
                "\(path): tensor \(name) has shape \(source.shape), but this model needs \(shape): check the model's size, the "
                    + "patch size and the image size")
        }
        guard source.type == type else {
            throw Failure(
                .badData,
                "\(path): \(name) holds \(source.type.rawValue), not floating-point numbers; use weights of F64, F32, F16 or BF16"
            )
        }
        parameters += shape.reduce(1, *)
        return StoredTensor(name, type: onnxType, shape: shape, byteCount: source.byteCount, bytes: source.write)
    }

    /// What ONNX calls `type`.
    private var onnxType: Onnx_TensorProto.DataType {
        switch type {
        case .f16: .float16
        case .bf16: .bfloat16
        default: .float
        }
    }
}
