import Tensors

/// One step of LARS on a weight p with gradient g and momentum μ, element by element:
///
///     μ = decay·μ + q·g,  p = p - rate·μ
///
/// q = trust·‖p‖ / ‖g‖ for tensors of more than one dimension, and 1 for all others and where a norm is zero (MAE's
/// linear probe). There is no weight decay.
struct LARSUpdate: ParallelRows {
    private let weight, gradient, momentum: UnsafeMutablePointer<Float>
    private let count: Int
    private let learningRate, decay, factor: Float

    /// Elements of one unit of work.
    private static let stretch = 16_384

    /// Updates `weight` and `momentum`. The bits depend on neither threads nor instruction set: norms are summed in
    /// double in a fixed order.
    ///
    /// - Parameters:
    ///   - gradientScale: multiplies every gradient first.
    ///   - trust: nil for tensors of one dimension.
    static func run(
        _ weight: Tensor, gradient: Tensor, momentum: Tensor, learningRate: Float, decay: Float, trust: Float?,
        gradientScale: Float = 1
    ) {
        precondition(weight.count == gradient.count && weight.count == momentum.count)
        var factor: Float = 1
        if let trust {
            let norm = Float(Kernels.sumOfSquares(weight).squareRoot())
            let gradientNorm = Float(Kernels.sumOfSquares(gradient).squareRoot()) * gradientScale
            // Not if one is NaN either: the factor would hide it.
            if norm != 0, gradientNorm != 0 { factor = trust * norm / gradientNorm }
        }
        let update = LARSUpdate(
            weight: weight.elements.baseAddress!, gradient: gradient.elements.baseAddress!,
            momentum: momentum.elements.baseAddress!, count: weight.count, learningRate: learningRate, decay: decay,
            factor: factor * gradientScale)
        update.runAll((weight.count + stretch - 1) / stretch)
    }

    func run(_ range: Range<Int>) {
        for index in range.lowerBound * Self.stretch..<min(range.upperBound * Self.stretch, count) {
            momentum[index] = decay * momentum[index] + factor * gradient[index]
            weight[index] -= learningRate * momentum[index]
        }
    }
}
