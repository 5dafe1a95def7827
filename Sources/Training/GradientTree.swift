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
    private let precision: ExchangePrecision
    /// For each level the sums in the order of `parameters.all`; nil for parameters that are not trained.
    private let sums: [[Tensor?]]

    /// Plans the memory: log2(groups) times that of the gradients, which the parameters must keep.
    init(groups: Int, of parameters: Parameters, in precision: ExchangePrecision, plan: MemoryPlan) {
        tree = GroupTree(groups: groups)
        self.precision = precision
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
            for level in levels {
                Addition(sum: gradient.elements, term: sums[level][index]!.elements, precision).runAll()
            }
            sums[levels.upperBound][index]!.copy(from: gradient)
        }
    }

    /// Adds all sums to the gradients of the last group, which are complete for the parameter at `index`.
    func finish(_ index: Int) {
        guard let gradient = parameters.all[index].gradient else { return }
        for level in 0..<tree.levels {
            Addition(sum: gradient.elements, term: sums[level][index]!.elements, precision).runAll()
        }
    }
}

/// What sums of gradients are rounded to before two of them are added.
public enum ExchangePrecision: String, Codable, CaseIterable, Sendable {
    /// Nothing is rounded.
    case f32
    /// To nearest, ties to even. Every addition of the tree rounds its operands, also within a process, so that the result
    /// does not depend on the number of processes.
    case bf16
}

/// sum += term, both rounded before.
struct Addition: ParallelRows {
    let sum, term: UnsafeMutableBufferPointer<Float>
    private let rounds: Bool
    /// Elements that one call of `run` takes for each unit of its range.
    private let stretch = 4096

    init(
        sum: UnsafeMutableBufferPointer<Float>, term: UnsafeMutableBufferPointer<Float>, _ precision: ExchangePrecision
    ) {
        self.sum = sum
        self.term = term
        rounds = precision == .bf16
    }

    func runAll() { runAll((sum.count + stretch - 1) / stretch, chunk: 4) }

    func run(_ range: Range<Int>) {
        let (sum, term) = (self.sum.baseAddress!, self.term.baseAddress!)
        let elements = range.lowerBound * stretch..<min(range.upperBound * stretch, self.sum.count)
        if rounds {
            for index in elements { sum[index] = BFloat16.rounded(sum[index]) + BFloat16.rounded(term[index]) }
        } else {
            for index in elements { sum[index] += term[index] }
        }
    }
}

/// bfloat16 in memory: the upper half of a float32.
enum BFloat16 {
    /// Rounded to nearest, ties to even; a NaN stays one.
    @inline(__always)
    static func bits(_ value: Float) -> UInt32 {
        let bits = value.bitPattern
        let rounded = (bits &+ 0x7FFF &+ (bits &>> 16 & 1)) &>> 16
        return value == value ? rounded : (bits | 0x40_0000) &>> 16
    }

    @inline(__always)
    static func rounded(_ value: Float) -> Float { Float(bitPattern: bits(value) &<< 16) }

    /// Rounds floats, and leaves their halves at the beginning of the same memory.
    static func narrow(_ floats: UnsafeMutableBufferPointer<Float>) -> UnsafeRawBufferPointer {
        guard let start = floats.baseAddress else { return UnsafeRawBufferPointer(floats) }
        let bytes = UnsafeMutableRawPointer(start)
        // A half lies before the float that it is made of, or in its place.
        for index in floats.indices {
            let bits = UInt16(truncatingIfNeeded: bits(bytes.load(fromByteOffset: 4 * index, as: Float.self)))
            bytes.storeBytes(of: bits, toByteOffset: 2 * index, as: UInt16.self)
        }
        return UnsafeRawBufferPointer(start: bytes, count: 2 * floats.count)
    }

    /// The memory behind the middle of `floats`, from which `widen` makes them.
    static func halves(of floats: UnsafeMutableBufferPointer<Float>) -> UnsafeMutableRawBufferPointer {
        let bytes = UnsafeMutableRawBufferPointer(floats)
        return UnsafeMutableRawBufferPointer(rebasing: bytes[(bytes.count / 2)...])
    }

    /// Makes floats of the halves behind the middle of their memory.
    static func widen(_ floats: UnsafeMutableBufferPointer<Float>) {
        guard let start = floats.baseAddress else { return }
        let bytes = UnsafeMutableRawPointer(start), middle = 2 * floats.count
        // A float ends before the half of the next one begins.
        for index in floats.indices {
            let bits = bytes.load(fromByteOffset: middle + 2 * index, as: UInt16.self)
            bytes.storeBytes(of: UInt32(bits) &<< 16, toByteOffset: 4 * index, as: UInt32.self)
        }
    }
}
