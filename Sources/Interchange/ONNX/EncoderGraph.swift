import Models
import Tensors
import Weights

// Letters: B batch, L patches, T = 1 + L tokens, R = B·T rows, D width, H heads, p patch side, C channels.

/// The operations of an encoder. Except in attention, tokens are the rows of one matrix [R, D]: linear layers are then
/// Gemm with the weights as files hold them, [outputs, inputs].
struct EncoderGraph {
    private let configuration: EncoderConfiguration
    private let source: EncoderTensors
    /// The graph without its initialisers.
    private(set) var message = Onnx_GraphProto()
    private(set) var tensors: [StoredTensor] = []

    init(_ configuration: EncoderConfiguration, _ source: EncoderTensors) {
        self.configuration = configuration
        self.source = source
    }

    /// Builds `message` and `tensors`.
    ///
    /// - Throws: `Failure.badData` if a tensor is missing or has another shape.
    mutating func build() throws {
        let (width, tokens) = (configuration.width, 1 + configuration.patches)
        message.name = "encoder"
        message.input = [
            Self.value(
                "pixel_values", [configuration.channels, configuration.imageHeight, configuration.imageWidth],
                "Pixels between 0 and 1, less ImageNet's mean, divided by its standard deviation.")
        ]
        var x = try embedding()
        for block in 0..<configuration.depth { x = try self.block("blocks.\(block)", x) }

        let tokenShape = constant("shape.tokens", [-1, tokens, width])
        let hasNorm = !source.isMeanNormed
        if hasNorm { x = try norm("norm", x) }
        node("Reshape", "last_hidden_state", [x, tokenShape], to: "last_hidden_state")
        if hasNorm {
            add(StoredTensor("index.class", integers: [0], shape: []))
            node("Gather", "pooled", ["last_hidden_state", "index.class"], to: "pooled", [("axis", .integer(1))])
        } else {
            let bounds = [("first", 1), ("end", tokens), ("axis", 1)].map { constant("patches.\($0)", [$1]) }
            let patches = node("Slice", "patches", ["last_hidden_state"] + bounds)
            let mean = node("ReduceMean", "mean", [patches], [("axes", .integers([1])), ("keepdims", .integer(0))])
            try norm("fc_norm", mean, to: "pooled")
        }
        message.output = [
            Self.value(
                "last_hidden_state", [tokens, width],
                "All tokens, the class token first" + (hasNorm ? ", after the final norm." : ".")),
            Self.value(
                "pooled", [width],
                hasNorm ? "The class token after the final norm." : "The normed mean of the patch tokens."),
        ]
        if let classes = try head() {
            message.output.append(Self.value("logits", [classes], "Scores of the classes."))
        }
    }

    /// pixel_values → the first block's input.
    private mutating func embedding() throws -> String {
        let (width, side) = (configuration.width, configuration.patchSize)
        let projection = node(
            "Conv", "patch_embed.proj",
            [
                "pixel_values", try weight("patch_embed.proj.weight"), try weight("patch_embed.proj.bias"),
            ], [("kernel_shape", .integers([side, side])), ("strides", .integers([side, side]))])
        let patches = node(
            "Reshape", "patch_embed.flat", [projection, constant("shape.patches", [-1, width, configuration.patches])])
        let embedded = node("Transpose", "patch_embed", [patches], [("perm", .integers([0, 2, 1]))])
        // The class token, once per image.
        let batch = node("Shape", "batch", ["pixel_values"], [("start", .integer(0)), ("end", .integer(1))])
        let shape = node(
            "Concat", "shape.class", [batch, constant("shape.token", [1, width])], [("axis", .integer(0))])
        let classToken = node("Expand", "class_token", [try weight("cls_token"), shape])
        let tokens = node("Concat", "tokens", [classToken, embedded], [("axis", .integer(1))])
        let positions = try weight("pos_embed")
        let placed = node("Add", "positions", [tokens, positions])
        return node("Reshape", "rows", [placed, rows])
    }

    /// x += proj(attention(LN(x))); x += fc2(gelu(fc1(LN(x)))).
    private mutating func block(_ name: String, _ x: String) throws -> String {
        let (width, heads) = (configuration.width, configuration.heads)
        let normed = try norm("\(name).norm1", x)
        let qkv = try linear("\(name).attn.qkv", normed)
        let split = constant("split.qkv", [width, width, width])
        let parts = ["q", "k", "v"].map { "\(name).attn.\($0)" }
        node("Split", "\(name).attn.split", [qkv, split], to: parts, [("axis", .integer(1))])
        let headShape = constant("shape.heads", [-1, 1 + configuration.patches, heads, width / heads])
        var headed: [String] = []
        for (part, order) in zip(parts, [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]]) {
            let shaped = node("Reshape", part + ".heads", [part, headShape])
            headed.append(node("Transpose", part + ".ordered", [shaped], [("perm", .integers(order))]))
        }
        let products = node("MatMul", "\(name).attn.products", [headed[0], headed[1]])
        let scale = number("attn.scale", 1 / Float(width / heads).squareRoot())
        let scores = node("Mul", "\(name).attn.scores", [products, scale])
        let shares = node("Softmax", "\(name).attn.shares", [scores], [("axis", .integer(-1))])
        let values = node("MatMul", "\(name).attn.values", [shares, headed[2]])
        let ordered = node("Transpose", "\(name).attn.ordered", [values], [("perm", .integers([0, 2, 1, 3]))])
        let attention = node("Reshape", "\(name).attn.rows", [ordered, rows])
        let middle = node("Add", "\(name).middle", [x, try linear("\(name).attn.proj", attention)])

        let hidden = try linear("\(name).mlp.fc1", try norm("\(name).norm2", middle))
        let activation = gelu("\(name).mlp.gelu", hidden)
        return node("Add", name, [middle, try linear("\(name).mlp.fc2", activation)])
    }

    /// x·(1 + erf(x/√2))·½, in the operations that runtimes recognise and fuse.
    private mutating func gelu(_ name: String, _ x: String) -> String {
        let divided = node("Div", name + ".divided", [x, number("gelu.root", Float(2).squareRoot())])
        let error = node("Erf", name + ".erf", [divided])
        let sum = node("Add", name + ".sum", [error, number("gelu.one", 1)])
        let product = node("Mul", name + ".product", [x, sum])
        return node("Mul", name, [product, number("gelu.half", 0.5)])
    }

    /// pooled → logits: `head` of fine-tuned weights; or of a linear probe `head.0`, a BatchNorm without affine part
    /// and with ε 1e-6, and `head.1`.
    ///
    /// - Returns: the number of classes; nil without a classifier.
    private mutating func head() throws -> Int? {
        let width = configuration.width
        switch source.head {
        case nil: return nil
        case .linear(let classes):
            try linear("head", "pooled", to: "logits")
            return classes
        case .probe(let classes):
            add(StoredTensor("head.0.weight", numbers: Array(repeating: 1, count: width)))
            add(StoredTensor("head.0.bias", numbers: Array(repeating: 0, count: width)))
            let feature = node(
                "BatchNormalization", "head.0",
                [
                    "pooled", "head.0.weight", "head.0.bias", try weight("head.0.running_mean"),
                    try weight("head.0.running_var"),
                ], [("epsilon", .number(1e-6))])
            try linear("head.1", feature, to: "logits")
            return classes
        }
    }

    // MARK: Layers

    @discardableResult
    private mutating func linear(_ name: String, _ x: String, to output: String? = nil) throws -> String {
        let operands = [x, try weight(name + ".weight"), try weight(name + ".bias")]
        return node("Gemm", name, operands, to: output ?? name, [("transB", .integer(1))])
    }

    @discardableResult
    private mutating func norm(_ name: String, _ x: String, to output: String? = nil) throws -> String {
        let operands = [x, try weight(name + ".weight"), try weight(name + ".bias")]
        return node(
            "LayerNormalization", name, operands, to: output ?? name,
            [("axis", .integer(-1)), ("epsilon", .number(Kernels.layerNormEpsilon))])
    }

    /// The shape input of a Reshape to [R, D].
    private var rows: String {
        mutating get { constant("shape.rows", [-1, configuration.width]) }
    }

    // MARK: Parts

    private enum Attribute {
        case integer(Int)
        case integers([Int])
        case number(Float)
    }

    /// Adds an operation with one output, which has the same name.
    private mutating func node(
        _ type: String, _ name: String, _ inputs: [String], _ attributes: [(String, Attribute)] = []
    ) -> String {
        node(type, name, inputs, to: name, attributes)
    }

    @discardableResult
    private mutating func node(
        _ type: String, _ name: String, _ inputs: [String], to output: String, _ attributes: [(String, Attribute)] = []
    ) -> String {
        node(type, name, inputs, to: [output], attributes)
        return output
    }

    private mutating func node(
        _ type: String, _ name: String, _ inputs: [String], to outputs: [String], _ attributes: [(String, Attribute)]
    ) {
        var node = Onnx_NodeProto()
        node.opType = type
        node.name = name
        node.input = inputs
        node.output = outputs
        node.attribute = attributes.map { name, value in
            var attribute = Onnx_AttributeProto()
            attribute.name = name
            switch value {
            case .integer(let value): (attribute.type, attribute.i) = (.int, Int64(value))
            case .integers(let values): (attribute.type, attribute.ints) = (.ints, values.map(Int64.init))
            case .number(let value): (attribute.type, attribute.f) = (.float, value)
            }
            return attribute
        }
        message.node.append(node)
    }

    /// The float32 value of the file's tensor `name`: an initialiser, and a cast if it is stored in a narrower type.
    private mutating func weight(_ name: String) throws -> String {
        add(try source.tensor(name))
        guard source.type != .f32 else { return name }
        return node("Cast", name + ".f32", [name], [("to", .integer(Onnx_TensorProto.DataType.float.rawValue))])
    }

    /// An initialiser of integers. Operations that ask for the same name share it.
    private mutating func constant(_ name: String, _ values: [Int]) -> String {
        add(StoredTensor(name, integers: values))
        return name
    }

    private mutating func number(_ name: String, _ value: Float) -> String {
        add(StoredTensor(name, numbers: [value], shape: []))
        return name
    }

    /// Adds an initialiser unless there is one of that name.
    private mutating func add(_ tensor: StoredTensor) {
        if !names.insert(tensor.name).inserted { return }
        tensors.append(tensor)
    }
    private var names: Set<String> = []

    /// An input or output [batch] + shape of the graph, float32.
    private static func value(_ name: String, _ shape: [Int], _ description: String) -> Onnx_ValueInfoProto {
        var dimensions = [Onnx_TensorShapeProto.Dimension()]
        dimensions[0].dimParam = "batch"
        for size in shape {
            var dimension = Onnx_TensorShapeProto.Dimension()
            dimension.dimValue = Int64(size)
            dimensions.append(dimension)
        }
        var value = Onnx_ValueInfoProto()
        value.name = name
        value.docString = description
        value.type.tensorType.elemType = Int32(Onnx_TensorProto.DataType.float.rawValue)
        value.type.tensorType.shape.dim = dimensions
        return value
    }
}
