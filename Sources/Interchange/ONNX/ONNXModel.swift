import Models
import Tensors
import Weights

/// A Vision Transformer's encoder as an ONNX model.
///
/// Input `pixel_values` [batch, C, H, W], float32, normalised. Outputs, float32: `last_hidden_state` [batch, 1 + L, D],
/// the tokens after the final norm; `pooled` [batch, D], the class token of it; and `logits` [batch, classes] where the
/// weights have a head. Weights fine-tuned on the mean of the patch tokens have `fc_norm` in place of `norm`:
/// `last_hidden_state` is then before any norm, and `pooled` is `fc_norm` of that mean. Operator set 17, IR version 8
/// (ONNX 1.12).
public enum ONNXModel {
    /// What was written.
    public struct Summary: Equatable, Sendable {
        public let path: String
        /// The file beside it that holds the weights; nil where they are in the model itself.
        public let dataPath: String?
        public let parameters: Int
        /// Names of the outputs, in their order.
        public let outputs: [String]
    }

    /// The largest model that is one file: protobuf's limit, 2 GiB less a byte.
    public static let largestFile = Int(Int32.max)

    /// Writes the encoder of `weights` to `path`.
    ///
    /// Tensors keep MAE's names and shapes. They are read and written one at a time: memory grows with the largest of
    /// them, not with the file. Stored in a type narrower than float32, every tensor is cast to float32 by the model's
    /// first operations, which runtimes fold when they load it: the arithmetic is float32's.
    ///
    /// - Parameters:
    ///   - configuration: the encoder's sizes; its heads must be known.
    ///   - type: one of `CanonicalWeightFile.roundedTypes`.
    ///   - hasHead: whether a class head that is there is written.
    ///   - version: of the program, for the model's own record.
    ///   - largest: bytes above which the weights go to `path` + ".data" beside the model (ONNX's external data).
    /// - Throws: `Failure.badData` where a tensor is missing, has another shape, or does not fit into `type`, or where
    ///   both norms are there; `.usage` where the configuration does not fit together; `.inputOutput`.
    @discardableResult
    public static func write(
        _ weights: CanonicalWeightFile, _ configuration: EncoderConfiguration, to path: String, type: TensorType = .f32,
        hasHead: Bool = true, version: String = "", largest: Int = largestFile
    ) throws -> Summary {
        try configuration.validate(role: "encoder")
        try weights.requireOneNorm("the ONNX form", "use \(.form, "timm") or \(.form, "mae"), which keep both")
        let source = EncoderTensors(weights, configuration, type: type, hasHead: hasHead)
        var graph = EncoderGraph(configuration, source)
        try graph.build()
        var file = ModelFile(graph: graph.message, tensors: graph.tensors)
        file.model.irVersion = 8
        file.model.producerName = "dmae"
        file.model.producerVersion = version
        var operators = Onnx_OperatorSetIdProto()
        operators.version = 17
        file.model.opsetImport = [operators]
        let dataPath = try file.write(to: path, largest: largest)
        return Summary(
            path: path, dataPath: dataPath, parameters: source.parameters, outputs: graph.message.output.map(\.name))
    }
}
