import Tensors

// Letters: N blocks, B images, D width, R rows: the tokens of all images, those of an image being adjacent.

/// The rule that chooses which residual branches of each image are dropped.
public enum DropPathSelection: Sendable {
    /// A branch is dropped with the rate of its block. The random numbers are drawn for (seed, position of the sample
    /// in the stream of all samples).
    case random(seed: UInt64)
    /// Recorded choices, true where a branch is kept: [N·2·B], of each block the attention branch, then the MLP branch.
    case given([Bool])
}

/// Stochastic depth (Huang et al., arXiv 1603.09382): drops residual branches of single images, and divides the others
/// by the probability of being kept.
///
/// Attention and MLP branch of a block are drawn separately. The rate grows linearly from 0 in the first block to the
/// configured rate in the last.
final class DropPath {
    enum Branch: Int { case attention, mlp }

    private let batch: Int
    /// By block.
    private let rates: [Double]
    /// The factor of each branch of each image, 0 or 1 / (1 - rate): [N·2, B].
    private let factors: Tensor
    /// Whether blocks whose rate is 0 have factors other than 1.
    private var isGiven = false
    /// Whether branches are dropped in the present pass.
    var isActive = false

    /// The rate of each block: linspace(0, rate, blocks).
    static func rates(_ rate: Double, blocks: Int) -> [Double] {
        (0..<blocks).map { blocks == 1 ? 0 : rate * Double($0) / Double(blocks - 1) }
    }

    init(_ rate: Double, blocks: Int, batch: Int, plan: MemoryPlan) {
        self.batch = batch
        rates = Self.rates(rate, blocks: blocks)
        factors = plan.reserve("drop path factors", 2 * blocks, batch, .batch)
    }

    /// Chooses the branches of the next passes.
    ///
    /// - Parameter sample: the position of an image of the batch in the stream of all samples.
    func select(_ selection: DropPathSelection, sample: (Int) -> Int) {
        switch selection {
        case .random(let seed):
            isGiven = false
            for image in 0..<batch {
                var random = CounterRandom(seed: seed, purpose: .dropPath, index: sample(image))
                for row in 0..<factors.rows {
                    let keeps = Double(random.uniform()) >= rates[row / 2]
                    set(row, image, keeps: keeps)
                }
            }
        case .given(let kept):
            isGiven = true
            precondition(kept.count == factors.count, "one choice for each branch of each image")
            for row in 0..<factors.rows {
                for image in 0..<batch { set(row, image, keeps: kept[row * batch + image]) }
            }
        }
    }

    private func set(_ row: Int, _ image: Int, keeps: Bool) {
        factors.pointer[row * batch + image] = keeps ? Float(1 / (1 - rates[row / 2])) : 0
    }

    /// The factor of a branch for each image, [1, B]; nil where all are 1.
    func factors(_ block: Int, _ branch: Branch) -> Tensor? {
        guard isActive, isGiven || rates[block] > 0 else { return nil }
        let row = 2 * block + branch.rawValue
        return factors.rows(row..<row + 1)
    }
}

/// target[R, D] = source[R, D], the rows of each image multiplied by the image's factor. The target is float32 or bf16.
struct ScaledRows: ParallelRows {
    let source: Tensor
    let factors: Tensor
    let target: Tensor

    /// Computes all rows.
    func run() { runAll(source.rows, chunk: 32) }

    func run(_ range: Range<Int>) {
        let rowsOfImage = source.rows / factors.count
        for row in range { target.setRow(row, to: source, row, times: factors.pointer[row / rowsOfImage]) }
    }
}
