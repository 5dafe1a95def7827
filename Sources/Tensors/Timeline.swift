/// A part of a pass, such as one matmul of one block: "student blocks.3 fc1". Later phases are greater.
public struct Phase: Comparable, Hashable, Sendable {
    let index: Int

    public static func < (left: Phase, right: Phase) -> Bool { left.index < right.index }
}

/// The phases in which the values of a buffer are needed.
public enum Lifetime: Sendable {
    /// Before, during and after every pass: weights, optimiser state, the batch.
    case always
    /// From the first phase of each range to its last. Values are not kept from one range to the next.
    case during([ClosedRange<Phase>])

    /// From the first phase of `range` to its last.
    public static func during(_ range: ClosedRange<Phase>) -> Lifetime { .during([range]) }

    /// Only within each of these phases, as scratch memory; nil phases are ignored.
    public static func only(_ phases: Phase?...) -> Lifetime { .during(phases.compactMap { $0.map { $0...$0 } }) }
}

/// The phases of a pass in the order in which they happen.
///
/// A memory plan overlays buffers that are never alive in the same phase, so the phases must be declared in the order
/// in which the code announces them by `MemoryPlan.begin`.
public struct Timeline {
    /// One phase's name and the part of the model that runs then, as `Profile` reports it.
    private struct Entry {
        let name: String
        let part: String
    }
    private var entries: [Entry] = []
    /// The phases of each loop; the one before the first is announced once, before the loop.
    private var loops: [ClosedRange<Int>] = []

    init() {}

    var count: Int { entries.count }

    /// Declares the next phase.
    ///
    /// - Parameter part: the part of the model under which `Profile` reports the operations of this phase.
    mutating func phase(_ name: String, part: String) -> Phase {
        entries.append(Entry(name: name, part: part))
        return Phase(index: entries.count - 1)
    }

    /// Declares thin the phases after `head`, up to `last`, happen several times in a pass.
    ///
    /// A buffer that is alive both inside and outside the loop is alive in the whole loop: the next iteration runs
    /// while values of the last one are still needed.
    mutating func loop(after head: Phase, through last: Phase) {
        precondition(head < last)
        loops.append(head.index + 1...last.index)
    }

    func name(_ phase: Phase) -> String { entries[phase.index].name }
    func part(_ phase: Phase) -> String { entries[phase.index].part }

    /// The indices of `range`, widened to whole loops if it is partly inside and partly outside a loop.
    func widened(_ range: ClosedRange<Phase>) -> ClosedRange<Int> {
        var (first, last) = (range.lowerBound.index, range.upperBound.index)
        for loop in loops {
            if loop.contains(first), last > loop.upperBound { first = loop.lowerBound - 1 }
            if loop.contains(last), first < loop.lowerBound { last = loop.upperBound }
        }
        return first...last
    }
}
