import Tensors
import Weights

// Letters: B batch, C classes, D width.

/// The BatchNorm of a linear probe, in evaluation and without affine part: (x - mean) / √(variance + ε).
public struct ProbeBatchNorm {
    private let mean: [Float]
    private let scale: [Double]
    private static let epsilon = 1e-6

    /// Reads the statistics, `head.0.running_mean` and `head.0.running_var`.
    ///
    /// - Throws: `Failure.badData` if one is missing or holds no numbers.
    public init(_ file: any WeightFile) throws {
        mean = try file.floats("head.0.running_mean")
        scale = try file.floats("head.0.running_var").map { 1 / (Double($0) + Self.epsilon).squareRoot() }
    }

    /// Normalises features [B, D] in place.
    public func apply(to features: Tensor) {
        for row in 0..<features.rows {
            let feature = features.pointer + row * features.stride
            for index in mean.indices {
                feature[index] = Float((Double(feature[index]) - Double(mean[index])) * scale[index])
            }
        }
    }

    /// The linear layer that computes of features what `weight` [C, D] and `bias` [C] compute of normalised ones:
    /// W' = W / √(variance + ε), b' = b - W'·mean. In double, then rounded.
    func folded(weight: [Float], bias: [Float]) -> (weight: [Float], bias: [Float]) {
        var (weight, bias) = (weight, bias)
        for row in bias.indices {
            var shift = 0.0
            for column in mean.indices {
                let place = row * mean.count + column
                let scaled = Double(weight[place]) * scale[column]
                shift += scaled * Double(mean[column])
                weight[place] = Float(scaled)
            }
            bias[row] = Float(Double(bias[row]) - shift)
        }
        return (weight, bias)
    }
}

extension ModelWeights {
    /// The classifier of a linear probe as one linear layer, `head.weight` [C, D] and `head.bias` [C], for tools without
    /// the BatchNorm.
    ///
    /// - Parameter type: the type in which it is written; nil for that of the probe's linear layer.
    /// - Throws: `Failure.badData` if the probe's tensors do not fit together.
    func foldedHead(type: TensorType?) throws -> [TensorSource] {
        let classes = try requireHead()
        let own = tensors["head.1.weight"]!.type
        let type = type ?? (CanonicalWeightFile.roundedTypes.contains(own) ? own : .f32)
        return [("head.weight", [classes, encoder.width]), ("head.bias", [classes])].map { name, shape in
            TensorSource(name: name, type: type, shape: shape) { [tensors, path] write in
                let folded = try ProbeBatchNorm(tensors).folded(
                    weight: tensors.floats("head.1.weight"), bias: tensors.floats("head.1.bias"))
                let values = shape.count == 2 ? folded.weight : folded.bias
                var bytes = [UInt8](repeating: 0, count: values.count * type.size)
                let fits = values.withUnsafeBytes { values in
                    bytes.withUnsafeMutableBytes { FloatConversion.round(values, .f32, to: type, into: $0) }
                }
                guard fits else { throw CanonicalWeightFile.tooLarge(name, type, path: path) }
                try bytes.withUnsafeBytes(write)
            }
        }
    }
}
