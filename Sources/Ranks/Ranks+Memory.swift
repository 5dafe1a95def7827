import FoundationEssentials
import Reporting
import Tensors

extension Ranks {
    /// The memory of the processes of a machine together.
    public struct MachineMemory {
        /// The number of processes of this machine.
        public let processes: Int
        /// What they share; nil where each has its own.
        public let shared: SharedMemory?
        /// Bytes of all, with those that they share counted once.
        public let bytes: Int
        /// Bytes that the machine had left before; nil where it is not known.
        public let available: Int?
        /// Processes of one machine that each have their own though they are several: the machine's name, their number,
        /// and why. Nil where there are none.
        public let unshared: (machine: String, processes: Int, why: SharedMemory.Refusal)?
    }

    /// What a process takes.
    private struct Need: Codable {
        /// The first process of its machine.
        let first: Int
        /// Bytes that it does not share.
        let own: Int
        /// Bytes that it may share, and their form.
        let shareable: Int
        let form: String
        /// Its control groups.
        let groups: String
    }

    /// What became of memory to share at a process.
    private struct Outcome: Codable {
        var place: SharedMemory.Place?
        var refusal: SharedMemory.Refusal?
    }

    /// Gives the processes of each machine one piece of memory for what they have alike, and requires that all that they
    /// take fits into their machine. All processes call it.
    ///
    /// Where one process of a machine cannot have that memory, each of that machine has its own. So has a process that is
    /// the only one of its machine.
    ///
    /// - Parameters:
    ///   - shareable: bytes that are the same in all processes of the same `form`.
    ///   - own: bytes that this process takes beside.
    /// - Throws: where they do not fit: in process 0 a `Failure`, in the others `Stopped`; `LostPeer`.
    public func shareMemory(_ shareable: Int, form: String, beside own: Int) throws -> MachineMemory {
        let available = MemoryLimits.available
        let needs = try gather(
            Need(
                first: localFirst, own: own, shareable: shareable, form: form,
                groups: (try? String(contentsOfFile: "/proc/self/cgroup", encoding: .utf8)) ?? ""))
        let machines = Dictionary(grouping: needs.indices) { needs[$0].first }.filter { $1.count > 1 }
        let local = machines[localFirst] ?? [rank]
        // By the first process of a machine. All processes come to the same.
        var refusals: [Int: SharedMemory.Refusal] = [:]
        for (first, processes) in machines where processes.contains(where: { needs[$0].form != needs[first].form }) {
            refusals[first] = SharedMemory.Refusal(
                "they have different instruction sets", remedy: "set DMAE_ISA to the lower one for all to share them")
        }
        func shares(_ first: Int) -> Bool {
            machines[first] != nil && needs[first].shareable > 0 && refusals[first] == nil
        }
        func bytes(of processes: [Int]) -> Int {
            let each = processes.reduce(0) { $0 + needs[$1].own }
            return each + shareable * (shares(localFirst) ? 1 : processes.count)
        }
        func requireMemory() throws {
            guard rank == localFirst, local.count > 1 else { return }
            try MemoryLimits().require(
                bytes(of: local), ofGroup: bytes(of: local.filter { needs[$0].groups == needs[rank].groups }),
                processes: local.count, shared: shares(localFirst) ? shareable : 0)
        }
        // Before any of it is taken: afterwards it would count twice.
        try meet { try requireMemory() }
        var memory: SharedMemory?
        if machines.keys.contains(where: shares) {
            // The first process of each machine makes it, then the others map it.
            let made = try outcomes {
                if rank == localFirst, shares(rank) { memory = try SharedMemory(bytes: shareable) }
                return memory
            }
            let mapped = try outcomes {
                if rank != localFirst, let place = made[localFirst].place { memory = try SharedMemory(at: place) }
                return nil
            }
            memory?.close()
            for (first, processes) in machines where shares(first) {
                refusals[first] = made[first].refusal ?? processes.lazy.compactMap { mapped[$0].refusal }.first
            }
            if !shares(localFirst) { memory = nil }
            if !refusals.isEmpty { try meet { try requireMemory() } }
        }
        let unshared = refusals.keys.filter { needs[$0].shareable > 0 }.min().map {
            (machine: hosts[$0], processes: machines[$0]!.count, why: refusals[$0]!)
        }
        return MachineMemory(
            processes: local.count, shared: memory, bytes: bytes(of: local), available: available, unshared: unshared)
    }

    /// Every process tries to `make` memory, and learns of what became of it at all. Throws `LostPeer`.
    private func outcomes(_ make: () throws -> SharedMemory?) throws -> [Outcome] {
        var own = Outcome()
        do { own.place = try make()?.place } catch let refusal as SharedMemory.Refusal { own.refusal = refusal }
        return try gather(own)
    }
}
