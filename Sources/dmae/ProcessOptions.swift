import ArgumentParser
import Ranks
import Reporting

/// The values of a run that may change each time it is taken up again: they say how it is done, not what results.
struct ProcessOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Fraction of unreadable images above which the run stops; above 0 it always allows one. Default of a new run: 0.01.",
            valueName: "fraction"))
    var unreadableLimit: Double?

    @Flag(help: "Do not read the headers of all images before the run.")
    var noCheck = false

    @Option(
        help: ArgumentHelp(
            "Threads that decode images, beside those of the kernels; the result does not depend on it.",
            valueName: "count"))
    var workers: Int = 1

    @Option(
        help: ArgumentHelp(
            "Optimiser steps between checkpoints. Default of a new run: the steps of an epoch.", valueName: "steps"))
    var checkpointEvery: Int?

    @Option(
        help: ArgumentHelp("Number of checkpoints to keep, the newest. Default of a new run: 2.", valueName: "count"))
    var keep: Int?

    @Flag(
        inversion: .prefixedNo,
        help: "Write event files for TensorBoard into the folder tensorboard of the run. Default of a new run: no.")
    var tensorboard: Bool?

    @Option(
        help: ArgumentHelp(
            "With several processes (dmae-mpi): seconds without a word from another one after which it is given up. "
                + "Default: 300.", valueName: "seconds"))
    var peerTimeout: Double?

    @Flag(
        help:
            "With several processes: let processors of different instruction sets compute, with bits that depend on who did what."
    )
    var allowMixedIsa = false

    @Flag(name: .shortAndLong, help: "Print warnings and errors only, no progress.")
    var quiet = false

    func validate() throws {
        if !(1...1024).contains(workers) { throw ValidationError("--workers must be 1 to 1024") }
        if let peerTimeout {
            guard peerTimeout > 0, peerTimeout.isFinite else {
                throw ValidationError("--peer-timeout must be above 0 and finite")
            }
            Ranks.current.peerTimeout = peerTimeout
        }
        if let checkpointEvery {
            try ValidationError.check { try Field.checkpointEvery.requireAtLeast(1, checkpointEvery) }
        }
    }
}
