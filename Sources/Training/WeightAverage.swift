import Models
import Tensors

/// An exponential moving average of all weights, such as timm's ModelEma: after each optimiser step,
/// average = decay · average + (1 - decay) · weight. It starts as a copy of the weights.
final class WeightAverage {
    let decay: Float
    private let parameters: Parameters
    /// In the order of `parameters.all`, each in the shape of its weight.
    let averages: [Tensor]

    /// Plans the averages' memory.
    init(of parameters: Parameters, decay: Double, plan: MemoryPlan) {
        self.parameters = parameters
        self.decay = Float(decay)
        averages = parameters.all.map {
            plan.reserve("average of \($0.name)", $0.weight.rows, $0.weight.columns, .moments)
        }
    }

    /// Copies the weights.
    func start() {
        for (parameter, average) in zip(parameters.all, averages) { average.copy(from: parameter.weight) }
    }

    /// Adds the weights of one optimiser step.
    func update() {
        for (parameter, average) in zip(parameters.all, averages) {
            Blend(average: average.elements, weight: parameter.weight.elements, decay: decay).runAll()
        }
    }

    /// Runs `body` with the averages in place of the weights.
    func inPlace<Result>(_ body: () throws -> Result) rethrows -> Result {
        exchange()
        defer { exchange() }
        return try body()
    }

    private func exchange() {
        for (parameter, average) in zip(parameters.all, averages) {
            Exchange(first: average.elements, second: parameter.weight.elements).runAll()
        }
    }
}

/// Elements that one call of `run` takes for each unit of its range.
private let stretch = 4096

private struct Blend: ParallelRows {
    let average, weight: UnsafeMutableBufferPointer<Float>
    let decay: Float

    func runAll() { runAll((average.count + stretch - 1) / stretch, chunk: 4) }

    func run(_ range: Range<Int>) {
        let (average, weight) = (average.baseAddress!, weight.baseAddress!)
        for index in range.lowerBound * stretch..<min(range.upperBound * stretch, self.average.count) {
            average[index] = decay * average[index] + (1 - decay) * weight[index]
        }
    }
}

private struct Exchange: ParallelRows {
    let first, second: UnsafeMutableBufferPointer<Float>

    func runAll() { runAll((first.count + stretch - 1) / stretch, chunk: 4) }

    func run(_ range: Range<Int>) {
        let (one, other) = (first.baseAddress!, second.baseAddress!)
        for index in range.lowerBound * stretch..<min(range.upperBound * stretch, first.count) {
            (one[index], other[index]) = (other[index], one[index])
        }
    }
}
