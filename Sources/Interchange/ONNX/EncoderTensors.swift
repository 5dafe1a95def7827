import Models
import Reporting
import Weights

/// The encoder's weights as an ONNX model stores them: found by MAE's names, checked against the layout, converted when
/// they are written.
final class EncoderTensors {
    /// The classifier on the pooled feature.
    enum Head {
        /// `head`, of fine-tuned weights.
        case linear(classes: Int)
        /// `head.0` and `head.1`, of a linear probe.
        case probe(classes: Int)
    }

    /// The type they are stored in.
    let type: TensorType
    /// Whether `fc_norm`, the norm of the mean of the patch tokens, takes the place of `norm`.
    let isMeanNormed: Bool
    /// Nil if there is no classifier, or none is wanted.
    let head: Head?
    private let path: String
    private let layout: ModelLayout
    private let sources: [String: TensorSource]
    /// Elements of all tensors that were asked for.
    private(set) var parameters = 0

    init(_ weights: CanonicalWeightFile, _ configuration: EncoderConfiguration, type: TensorType, hasHead: Bool) {
        self.type = type
        path = weights.path
        sources = Dictionary(uniqueKeysWithValues: weights.sources(.mae, type: type).tensors.map { ($0.name, $0) })
        isMeanNormed = weights["norm.weight"] == nil && weights["fc_norm.weight"] != nil
        var layout = ModelLayout.encoder(configuration, norms: [isMeanNormed ? "fc_norm" : "norm"])
        /// Outputs of a linear layer that is there.
        func classes(_ name: String) -> Int? {
            guard let shape = weights[name + ".weight"]?.shape, shape.count == 2, shape[0] > 0 else { return nil }
            return shape[0]
        }
        if hasHead, let classes = classes("head.1") {
            head = .probe(classes: classes)
            layout += .linearProbe(width: configuration.width, classes: classes)
        } else if hasHead, let classes = classes("head") {
            head = .linear(classes: classes)
            layout += .classHead(width: configuration.width, classes: classes)
        } else {
            head = nil
        }
        self.layout = layout
    }

    /// The tensor called `name`, which must be one of the layout's.
    ///
    /// - Throws: `Failure.badData` if it is missing, has another shape, or is no floating-point tensor.
    func tensor(_ name: String) throws -> StoredTensor {
        guard let shape = layout[name]?.shape else { preconditionFailure("\(name) is no tensor of the layout") }
        guard let source = sources[name] else {
            throw Failure(
                .badData,
                "\(path): lacks \(name), which the ONNX model of an encoder needs; `dmae inspect` lists what is there")
        }
        guard source.shape == shape else {
            throw Failure(
                .badData,
                "\(path): tensor \(name) has shape \(source.shape), but this model needs \(shape): check the model's "
                    + "size, the "
                    + "patch size and the image size")
        }
        guard source.type == type else {
            throw Failure(
                .badData,
                "\(path): \(name) holds \(source.type.rawValue), not floating-point numbers; use weights of F64, F32, "
                    + "F16 or BF16"
            )
        }
        parameters += shape.reduce(1, *)
        return StoredTensor(name, type: onnxType, shape: shape, byteCount: source.byteCount, bytes: source.write)
    }

    /// ONNX's name for `type`.
    private var onnxType: Onnx_TensorProto.DataType {
        switch type {
        case .f16: .float16
        case .bf16: .bfloat16
        default: .float
        }
    }
}
