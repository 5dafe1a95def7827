import Glibc
import Reporting

/// What `status.json` of a run's folder says, for job scripts: an exit code may not reach them.
public struct RunStatus: Codable, Equatable, Sendable {
    /// What has become of a run.
    public enum State: String, Codable, Sendable {
        /// A process trains. If none holds the folder's lock, it was killed, and the run can be resumed.
        case running
        /// All steps are done.
        case finished
        /// A signal stopped the run, mostly after a checkpoint; `dmae resume` goes on with it.
        case resumable
        /// The run ended with a failure.
        case failed
    }

    public var state: State
    /// Why, as a sentence or a part of one.
    public var reason: String
    /// Optimiser steps done; of a running process, those of its newest checkpoint.
    public var step: Int

    public init(_ state: State, reason: String, step: Int) {
        self.state = state
        self.reason = reason
        self.step = step
    }

    /// That of this process while it trains.
    public static func running(step: Int) -> RunStatus {
        RunStatus(.running, reason: "process \(getpid()) is training", step: step)
    }
}
