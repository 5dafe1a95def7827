import CRanks
import Glibc
import Reporting
import Tensors

/// The processes that train one run together, and messages between them.
///
/// MPI carries the messages and starts the processes; the ordinary binary has none, and a process is alone. Every wait
/// ends after `peerTimeout`: nothing hangs where a process or a connection is gone. All calls must come from the thread
/// that called `start`.
public final class Ranks {
    /// The processes of this run. Alone until `start`.
    public private(set) static var current = Ranks()

    /// The number of this process, from 0. Process 0 owns the folder of the run, and says what there is to say.
    public let rank: Int
    /// The number of all processes.
    public let count: Int
    /// The number of this process among those of its machine.
    public let localRank: Int
    /// The number of processes on this machine.
    public let localCount: Int
    /// The number, among all, of the first process of this machine.
    let localFirst: Int

    /// Seconds without a word from another process after which it is given up.
    public var peerTimeout = Ranks.defaultPeerTimeout
    public static let defaultPeerTimeout = 300.0

    /// What a failure is for a person, and its exit code; set by the command line, which knows the names of flags.
    public var describe: (any Error) -> (code: Int32, text: String) = { error in
        switch error {
        case let failure as Failure: (failure.code.rawValue, failure.message)
        case let lost as LostPeer: (Failure.Code.inputOutput.rawValue, lost.sentence)
        default: (Failure.Code.failure.rawValue, "\(error)")
        }
    }

    /// The names of the machines, by process; empty until the processes have met.
    var hosts: [String] = []
    /// Whether the processes have met. Before, each may fail by itself, and tells so at the meeting.
    public internal(set) var haveMet = false

    public var isFirst: Bool { rank == 0 }
    public var isAlone: Bool { count == 1 }
    /// The numbers of the other processes.
    public var others: [Int] { (0..<count).filter { $0 != rank } }

    /// The MPI library with its version; nil in the ordinary binary.
    public static var library: String? { dmae_ranks_library().map { String(cString: $0) } }

    private init() {
        (rank, count) = (Int(dmae_ranks_rank()), Int(dmae_ranks_count()))
        (localRank, localCount) = (Int(dmae_ranks_local_rank()), Int(dmae_ranks_local_count()))
        localFirst = Int(dmae_ranks_local_first())
    }

    /// Joins the processes that a launcher has started together, if there is one.
    ///
    /// - Throws: `Failure.failure` where MPI cannot be started.
    public static func start() throws {
        let error = dmae_ranks_start()
        guard error == 0 else {
            throw Failure(
                .failure,
                "MPI could not join the processes that were started together (error \(error)): see what it said above, "
                    + "and the page \"Several machines\"")
        }
        current = Ranks()
        // Each launcher tells the number of processes, also to a program that does not understand it otherwise.
        let told = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].compactMap { (name: String) -> Int? in
            getenv(name).flatMap { Int(String(cString: $0)) }
        }
        if let library, current.isAlone, let size = told.first, size > 1 {
            throw Failure(
                .failure,
                "\(size) processes were started together, but none sees the others: the launcher is not that of this program's "
                    + "MPI, \(library); start it with that one's mpiexec (mpiexec.hydra for MPICH), or with srun and PMI-2"
            )
        }
    }

    /// The name of the signal that asks this process to stop, while it serves; nil without one.
    public var request: () -> String? = { nil }
    /// When process 0 has asked the others last.
    var lastAsked = 0.0
    /// Whether messages are under way that nobody will receive.
    var leavesMessages = false

    /// Ends this process with an exit code, as the others do: waits for them, unless messages are under way that nobody
    /// waits for.
    public func exit(_ code: Int32) -> Never {
        if leavesMessages {
            // Process 0 has the last word, and ends all.
            if !isFirst { sleep(Self.secondsForLastWord) }
            dmae_ranks_abort(code)
        }
        leave(code)
        Glibc.exit(code)
    }

    /// Seconds in which process 0 writes its status and says why a run ends.
    private static let secondsForLastWord: UInt32 = 20

    /// Leaves the others, who do the same.
    public func leave(_ code: Int32 = 0) { dmae_ranks_leave(code, Int32(max(1, min(peerTimeout, 1e9)))) }

    /// Ends this process and all others: for a failure that the others do not know of. Process 0 may have noticed the same,
    /// and has time for its status.
    public func abort(_ code: Int32) -> Never {
        if !isFirst { sleep(5) }
        dmae_ranks_abort(code)
    }

    /// "process 3 (machine h2)".
    public func name(of peer: Int) -> String {
        hosts.indices.contains(peer) ? "process \(peer) (machine \(hosts[peer]))" : "process \(peer)"
    }

    // MARK: Messages

    /// What a message is about. Messages of different kinds do not mix.
    package enum Tag: Int32, Sendable {
        case text = 1
        case poll, command, gradients, sums, weights, state, results
    }

    /// A message under way, to or from another process.
    package struct Message {
        fileprivate let number: Int32
        fileprivate let peer: Int
    }

    /// Starts to send `bytes`, which must stay until the message is done.
    ///
    /// - Throws: `LostPeer`.
    package func send(_ bytes: UnsafeRawBufferPointer, to peer: Int, _ tag: Tag) throws -> Message {
        let number = dmae_ranks_send(bytes.baseAddress, bytes.count, Int32(peer), tag.rawValue)
        guard number >= 0 else { throw lost(peer) }
        return Message(number: number, peer: peer)
    }

    /// Starts to receive exactly as many bytes as `bytes` has. Throws `LostPeer`.
    package func receive(_ bytes: UnsafeMutableRawBufferPointer, from peer: Int, _ tag: Tag) throws -> Message {
        let number = dmae_ranks_receive(bytes.baseAddress, bytes.count, Int32(peer), tag.rawValue)
        guard number >= 0 else { throw lost(peer) }
        return Message(number: number, peer: peer)
    }

    /// Whether a message is done, whose number is free then. Throws `LostPeer`.
    package func isDone(_ message: Message) throws -> Bool {
        switch dmae_ranks_test(message.number) {
        case 0: return false
        case 1: return true
        default: throw lost(message.peer)
        }
    }

    /// Waits until all messages are done. Throws `LostPeer`, also where none is done for `peerTimeout` seconds.
    package func wait(for messages: [Message]) throws {
        var waiting = messages
        var pause = Pause()
        while true {
            let before = waiting.count
            try waiting.removeAll { try isDone($0) }
            guard let first = waiting.first else { return }
            if waiting.count < before { pause = Pause() }
            try pause.next(peerTimeout) { silent(first.peer) }
        }
    }

    /// Waits between two looks at messages under way: shortly at first, so that a message is seen soon; then longer, as
    /// there may be more processes than processors.
    package struct Pause {
        private var rounds = 0
        /// Seconds that were waited, and when that was counted last.
        private var waited = 0.0
        private var last = monotonicSeconds()

        package init() {}

        /// Throws `failure` after `timeout` seconds.
        package mutating func next(_ timeout: Double, _ failure: () -> any Error) throws {
            rounds += 1
            if rounds < 100 {
                sched_yield()
                return
            }
            // A process that was stopped itself, and goes on, has not waited meanwhile.
            let now = monotonicSeconds()
            waited += min(now - last, 1)
            last = now
            if waited > timeout { throw failure() }
            usleep(rounds < 1000 ? 50 : 500)
        }
    }

    /// A process that is gone, or does not answer. The others end at once: what it did is not known.
    public struct LostPeer: Error {
        public let sentence: String
    }

    private func lost(_ peer: Int) -> LostPeer {
        LostPeer(sentence: "the connection to \(name(of: peer)) is lost: see what it said")
    }

    /// The failure where nothing has come for too long, and `message` is waited for.
    package func silent(_ message: Message?) -> LostPeer { silent(message?.peer ?? 0) }

    private func silent(_ peer: Int) -> LostPeer {
        LostPeer(
            sentence:
                "no word from \(name(of: peer)) for \(Format.shortest(peerTimeout)) seconds: it is stopped or very slow, or "
                + "the connection to its machine is cut")
    }
}
