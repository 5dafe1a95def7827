import Models
import Tensors
import Weights

/// A Vision Transformer's encoder as an ONNX model.
///
/// Input: `pixel_values` [batch, C, H, W], float32, normalised. Outputs, all float32:
/// - `last_hidden_state` [batch, 1 + L, D]: the tokens after the final norm;
/// - `pooled` [batch, D]: the class token of `last_hidden_state`;
/// - `logits` [batch, classes]: only if the weights have a classifier.
///
/// The model's metadata has the names of the classes under `dmae.classes`, as a JSON array, if they are known, and under
/// `dmae.pictures`, as a JSON object, how pictures are prepared.
///
/// Weights fine-tuned on the mean of the patch tokens have `fc_norm` in place of `norm`. Then `last_hidden_state` is
/// taken before any norm, and `pooled` is `fc_norm` of the mean. Operator set 17, IR version 8 (ONNX 1.12).
public enum ONNXModel {
    /// The files that were written.
    public struct Summary: Equatable, Sendable {
        public let path: String
        /// The file that holds the weights; nil if they are in the model itself.
        public let dataPath: String?
        /// Number of elements of all weights.
        public let parameters: Int
        /// Names of the outputs, in their order.
        public let outputs: [String]
    }

    /// Maximum bytes of a model in one file: protobuf's limit of 2 GiB − 1.
    public static let largestFile = Int(Int32.max)

    /// Writes the encoder of `weights` to `path`.
    ///
    /// Tensors keep MAE's names and shapes. They are read and written one at a time, so memory grows with the largest
    /// tensor, not with the file. The arithmetic is always float32: tensors stored in a narrower type are cast by the
    /// model's first operations, which runtimes fold when they load it.
    ///
    /// - Parameters:
    ///   - configuration: the encoder's sizes; its heads must be known.
    ///   - type: one of `CanonicalWeightFile.roundedTypes`.
    ///   - hasHead: whether to write a classifier if the weights have one.
    ///   - classNames: the names of its classes; nil if unknown.
    ///   - metadata: what else the model's metadata say.
    ///   - version: the program's version, for `producer_version`.
    ///   - largest: bytes above which the weights go to `path` + ".data" beside the model (ONNX's external data).
    /// - Throws: `Failure.badData` if a tensor is missing, has another shape or does not fit into `type`, or if both
    ///   norms are there; `.usage` if the configuration's sizes do not fit together; `.inputOutput`.
    @discardableResult
    public static func write(
        _ weights: CanonicalWeightFile, _ configuration: EncoderConfiguration, to path: String, type: TensorType = .f32,
        hasHead: Bool = true, classNames: [String]? = nil, metadata: [String: String] = [:], version: String = "",
        largest: Int = largestFile
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
        let classes = source.head == nil ? [:] : ModelWeights.metadata(classNames: classNames)
        file.model.metadataProps = metadata.merging(classes) { $1 }.sorted { $0.key < $1.key }.map { key, value in
            var entry = Onnx_StringStringEntryProto()
            (entry.key, entry.value) = (key, value)
            return entry
        }
        let dataPath = try file.write(to: path, largest: largest)
        return Summary(
            path: path, dataPath: dataPath, parameters: source.parameters, outputs: graph.message.output.map(\.name))
    }
}
