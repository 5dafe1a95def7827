/// A point in the course of a pass, such as "student blocks.3 fc1"; later moments are greater.
public struct Moment: Comparable, Hashable, Sendable {
    let index: Int

    public static func < (left: Moment, right: Moment) -> Bool { left.index < right.index }
}

/// The moments in which the values of a buffer are needed.
public enum Lifetime: Sendable {
    /// Before, during and after every pass: weights, optimiser state, the batch.
    case always
    /// From the first moment of each range to its last. Values are not kept from one range to the next.
    case during([ClosedRange<Moment>])

    /// From the first moment of `range` to its last.
    public static func during(_ range: ClosedRange<Moment>) -> Lifetime { .during([range]) }

    /// Only within each of these moments, as scratch memory; nil moments are ignored.
    public static func only(_ moments: Moment?...) -> Lifetime { .during(moments.compactMap { $0.map { $0...$0 } }) }
}

/// The moments of a pass in the order in which they happen.
///
/// A memory plan overlays buffers that are never alive at the same moment, so the moments must be declared in the order
/// in which the code announces them by `MemoryPlan.begin`.
public struct Timeline {
    /// One moment's name and the part of the model that runs then, as `Profile` reports it.
    private struct Entry {
        let name: String
        let part: String
    }
    private var entries: [Entry] = []
    /// The moments of each loop; the one before the first is announced once, before the loop.
    private var loops: [ClosedRange<Int>] = []

    init() {}

    var count: Int { entries.count }

    /// Declares the next moment.
    ///
    /// - Parameter part: the part of the model under which `Profile` reports the operations of this moment.
    mutating func moment(_ name: String, part: String) -> Moment {
        entries.append(Entry(name: name, part: part))
        return Moment(index: entries.count - 1)
    }

    /// Declares that the moments after `head`, up to `last`, happen several times in a pass.
    ///
    /// A buffer that is alive both inside and outside the loop is alive in the whole loop: the next iteration runs
    /// while values of the last one are still needed.
    mutating func loop(after head: Moment, through last: Moment) {
        precondition(head < last)
        loops.append(head.index + 1...last.index)
    }

    func name(_ moment: Moment) -> String { entries[moment.index].name }
    func part(_ moment: Moment) -> String { entries[moment.index].part }

    /// The indices of `range`, widened to whole loops if it is partly inside and partly outside a loop.
    func widened(_ range: ClosedRange<Moment>) -> ClosedRange<Int> {
        var (first, last) = (range.lowerBound.index, range.upperBound.index)
        for loop in loops {
            if loop.contains(first), last > loop.upperBound { first = loop.lowerBound - 1 }
            if loop.contains(last), first < loop.lowerBound { last = loop.upperBound }
        }
        return first...last
    }
}
