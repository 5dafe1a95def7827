import Models
import Tensors

/// Sums over the groups of a step, added pairwise in a fixed binary tree: group 0 and 1, 2 and 3, then those sums.
///
/// Groups are the parts of an effective batch whose sums may be computed apart. As the order of addition is that of the
/// tree, a sum has the same bits wherever its parts were computed.
///
/// The groups come one after another. As in a binary counter, level l holds the sum of 2^l neighbouring groups while its
/// neighbour is computed, so that log2(groups) sums are kept beside the current one.
struct GroupTree {
    /// A power of two.
    let groups: Int

    init(groups: Int) {
        precondition(groups >= 1 && groups & (groups - 1) == 0, "the groups of a binary tree are a power of two")
        self.groups = groups
    }

    /// Sums that are kept beside the current one.
    var levels: Int { groups.trailingZeroBitCount }

    /// The levels whose sums are added to that of `group`, counted from 0, in this order. The result is kept in the next
    /// level, unless the group is the last one.
    func levelsToAdd(after group: Int) -> Range<Int> { 0..<(~group).trailingZeroBitCount }
}

/// The gradients of the groups of a step, added as `GroupTree` says. The current sum is that of the parameters.
final class GradientTree {
    let tree: GroupTree
    private let parameters: Parameters
    /// For each level the sums in the order of `parameters.all`; nil for parameters that are not trained.
    private let sums: [[Tensor?]]

    /// Plans the memory: log2(groups) times that of the gradients, which the parameters must keep.
    init(groups: Int, of parameters: Parameters, plan: MemoryPlan) {
        tree = GroupTree(groups: groups)
        self.parameters = parameters
        sums = (0..<tree.levels).map { level in
            parameters.all.map { parameter in
                guard parameter.isTrained else { return nil }
                return plan.reserve(
                    "sum \(level) of gradients of \(parameter.name)", parameter.weight.rows, parameter.weight.columns,
                    .gradients)
            }
        }
    }

    /// Adds the finished gradients of `group`, which is not the last one, to the sums.
    func add(group: Int) {
        let levels = tree.levelsToAdd(after: group)
        for (index, parameter) in parameters.all.enumerated() {
            guard let gradient = parameter.gradient else { continue }
            for level in levels { Addition(sum: gradient.elements, term: sums[level][index]!.elements).runAll() }
            sums[levels.upperBound][index]!.copy(from: gradient)
        }
    }

    /// Adds all sums to the gradients of the last group, which are complete for the parameter at `index`.
    func finish(_ index: Int) {
        guard let gradient = parameters.all[index].gradient else { return }
        for level in 0..<tree.levels {
            Addition(sum: gradient.elements, term: sums[level][index]!.elements).runAll()
        }
    }
}

/// sum += term.
struct Addition: ParallelRows {
    let sum, term: UnsafeMutableBufferPointer<Float>
    /// Elements that one call of `run` takes for each unit of its range.
    private let stretch = 4096

    init(sum: UnsafeMutableBufferPointer<Float>, term: UnsafeMutableBufferPointer<Float>) {
        self.sum = sum
        self.term = term
    }

    func runAll() { runAll((sum.count + stretch - 1) / stretch, chunk: 4) }

    func run(_ range: Range<Int>) {
        let (sum, term) = (self.sum.baseAddress!, self.term.baseAddress!)
        for index in range.lowerBound * stretch..<min(range.upperBound * stretch, self.sum.count) {
            sum[index] += term[index]
        }
    }
}
