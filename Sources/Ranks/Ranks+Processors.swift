import FoundationEssentials
import Glibc
import Reporting
import Tensors

extension Ranks {
    /// The processors of a process, and why.
    public struct Processors: Sendable {
        public let list: [Int]
        /// "of 8 that two processes share", for a person.
        public let origin: String
    }

    /// Divides the processors of this machine among its processes, neighbouring ones and whole groups around an L3 cache
    /// where they fit, unless the launcher has bound each process to its own. All processes call it after `start`, before
    /// the first parallel region.
    ///
    /// - Throws: `LostPeer`.
    public func divideProcessors() throws -> Processors {
        let own = Threads.processors
        guard localCount > 1 else { return Processors(list: own, origin: "all that this process may use") }
        Threads.processesOfMachine = localCount
        // Every process calls this first, so that the others of its machine are those of the same lists.
        let lists = try gather([UInt8](own.map(String.init).joined(separator: ",").utf8))
            .map { String(decoding: $0, as: UTF8.self) }
        let machines = try gather([UInt8](Self.machine.utf8)).map { String(decoding: $0, as: UTF8.self) }
        let same = lists.indices.filter { machines[$0] == machines[rank] }
        guard same.allSatisfy({ lists[$0] == lists[rank] }), let place = same.firstIndex(of: rank) else {
            return Processors(list: own, origin: "as the launcher has bound this process")
        }
        let list = Self.part(place, of: same.count, Self.ordered(own))
        let shared = "\(same.count) processes"
        guard Threads.use(list) else {
            return Processors(list: own, origin: "shared by \(shared), as the system does not let them be divided")
        }
        return Processors(
            list: list,
            origin: same.count > own.count
                ? "one of the \(own.count) that \(shared) share" : "a part of the \(own.count) of \(shared)")
    }

    /// The boot of the machine: names of machines may be the same.
    private static var machine: String {
        (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? ""
    }

    /// Part number `place` of `count` neighbouring parts; one processor where there are fewer than parts.
    package static func part(_ place: Int, of count: Int, _ processors: [Int]) -> [Int] {
        guard processors.count >= count else { return [processors[place % processors.count]] }
        return Array(processors[place * processors.count / count..<(place + 1) * processors.count / count])
    }

    /// Processors in the order in which neighbours share the most: by L3 cache, then by core.
    private static func ordered(_ processors: [Int]) -> [Int] {
        func number(_ processor: Int, _ file: String) -> Int {
            let path = "/sys/devices/system/cpu/cpu\(processor)/\(file)"
            let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
            return Int(text.prefix { $0.isNumber }) ?? 0
        }
        let keys = processors.map {
            // The first processor of those that share the cache names it.
            [number($0, "cache/index3/shared_cpu_list"), number($0, "topology/core_id"), $0]
        }
        return keys.sorted { $0.lexicographicallyPrecedes($1) }.map { $0[2] }
    }
}
