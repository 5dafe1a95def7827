import Glibc
import Tensors

// Letters: B rows, D width.

/// BatchNorm without affine part, as torch.nn.BatchNorm1d(affine=False): each column is normalised by its mean and
/// variance. It is the first layer of MAE's linear probe, so there is no backward pass.
struct BatchNorm {
    /// Added to the variance; MAE's value.
    static let epsilon = 1e-6
    /// Weight of a batch in the running statistics.
    static let momentum = 0.1

    private let mean: Parameters.Parameter
    private let variance: Parameters.Parameter

    /// Adds the parameters `name.running_mean` and `name.running_var` [width], which are stored, but not trained.
    init(_ name: String, width: Int, in parameters: Parameters) {
        mean = parameters.add("\(name).running_mean", [width], .zero, gradient: nil, isTrained: false)
        variance = parameters.add("\(name).running_var", [width], .one, gradient: nil, isTrained: false)
    }

    /// y[B, D] = (x - mean) / √(variance + ε) with the statistics of the batch (biased variance), which then enter the
    /// running statistics (unbiased variance). B ≥ 2. Sums are in double, in the order of the rows.
    func normalizeAndTrack(_ x: Tensor, _ y: Tensor) {
        precondition(x.rows > 1, "the variance of one row is zero")
        BatchColumns(x: x, y: y, mean: mean.weight, variance: variance.weight).runAll(x.columns, chunk: 16)
    }

    /// y[B, D] = (x - mean) / √(variance + ε) with the running statistics.
    func normalize(_ x: Tensor, _ y: Tensor) {
        RunningRows(x: x, y: y, mean: mean.weight, variance: variance.weight).runAll(x.rows, chunk: 8)
    }
}

/// Columns of a batch, normalised by their own statistics.
private struct BatchColumns: ParallelRows {
    let x, y: Tensor
    let mean, variance: Tensor

    func run(_ range: Range<Int>) {
        let rows = x.rows, count = Double(rows)
        for column in range {
            let source = x.pointer + column, target = y.pointer + column
            var sum = 0.0
            for row in 0..<rows { sum += Double(source[row * x.stride]) }
            let center = sum / count
            var squares = 0.0
            for row in 0..<rows {
                let difference = Double(source[row * x.stride]) - center
                squares += difference * difference
            }
            let scale = 1 / (squares / count + BatchNorm.epsilon).squareRoot()
            for row in 0..<rows {
                target[row * y.stride] = Float((Double(source[row * x.stride]) - center) * scale)
            }
            track(mean.pointer + column, center)
            track(variance.pointer + column, squares / (count - 1))
        }
    }

    private func track(_ running: UnsafeMutablePointer<Float>, _ value: Double) {
        running.pointee = Float((1 - BatchNorm.momentum) * Double(running.pointee) + BatchNorm.momentum * value)
    }
}

/// Rows normalised by running statistics.
private struct RunningRows: ParallelRows {
    let x, y: Tensor
    let mean, variance: Tensor

    func run(_ range: Range<Int>) {
        for row in range {
            let source = x.pointer + row * x.stride, target = y.pointer + row * y.stride
            for column in 0..<x.columns {
                let scale = 1 / (Double(variance.pointer[column]) + BatchNorm.epsilon).squareRoot()
                target[column] = Float((Double(source[column]) - Double(mean.pointer[column])) * scale)
            }
        }
    }
}
