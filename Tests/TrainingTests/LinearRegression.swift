import Images
import Models
import Tensors

/// Linear regression of an image's mean value on its pixels: an objective that has nothing in common with masked
/// autoencoders but the protocol. The trainer trains it as it trains them.
///
/// loss = mean over the batch of (w·x + b - y)², with y = 3 · (mean of x) + 1.
final class LinearRegression: Objective {
    let parameters: Parameters
    let images: Tensor
    let operations = Operations()
    let lossTerms = [
        LossTerm(key: "loss", name: "loss", meaning: "mean squared error"),
        LossTerm(key: "largest_error", name: "largest error", meaning: "the largest absolute error in the batch"),
    ]
    private let layer: TestLayer
    private let residuals: Tensor
    private let plan: MemoryPlan
    private let forward, backward, complete: Phase

    init(batch: Int, pixels: Int, keepsGradients: Bool, plan: MemoryPlan) {
        self.plan = plan
        forward = plan.phase("regression")
        backward = plan.phase("regression backward")
        complete = plan.phase("regression is complete")
        parameters = Parameters(trainedIn: plan, owner: "regression", keepsGradients: keepsGradients)
        layer = TestLayer(inputs: pixels, in: parameters, alive: backward...complete)
        images = plan.reserve("images", batch, pixels, .batch)
        residuals = plan.reserve("residuals", batch, 1, .activations, alive: .during(forward...backward))
    }

    func evaluate(_ batch: Batch) -> Losses {
        plan.begin(forward)
        var (sum, largest) = (0.0, Float(0))
        let weight = layer.weight.weight.elements, bias = layer.bias.weight.elements[0]
        for image in 0..<images.rows {
            let pixels = images.rows(image..<image + 1).elements
            let mean = pixels.reduce(0, +) / Float(pixels.count)
            let residual = zip(weight, pixels).reduce(bias) { $0 + $1.0 * $1.1 } - (3 * mean + 1)
            residuals.elements[image] = residual
            sum += Double(residual) * Double(residual)
            largest = max(largest, abs(residual))
        }
        return Losses(values: [Float(sum / Double(images.rows)), largest])
    }

    func step(_ batch: Batch, scale: Float, sink: some GradientSink) -> Losses {
        let losses = evaluate(batch)
        guard losses.total.isFinite else { return losses }
        plan.begin(backward)
        let dWeight = layer.weight.gradient!, dBias = layer.bias.gradient!
        if !sink.accumulates {
            dWeight.clear()
            dBias.clear()
        }
        for image in 0..<images.rows {
            let slope = 2 * scale * residuals.elements[image] / Float(images.rows)
            let pixels = images.rows(image..<image + 1).elements
            for index in pixels.indices { dWeight.elements[index] += slope * pixels[index] }
            dBias.elements[0] += slope
        }
        plan.begin(complete)
        sink.complete(parameters.all.indices)
        return losses
    }
}

/// One row of weights and a bias.
private struct TestLayer {
    let weight, bias: Parameters.Parameter

    init(inputs: Int, in parameters: Parameters, alive: ClosedRange<Phase>) {
        weight = parameters.add("regression.weight", [1, inputs], .zero, gradient: alive)
        bias = parameters.add("regression.bias", [1], .zero, gradient: alive)
    }
}
