/// An error a person can act on: one sentence that names the file or flag and the remedy, and the exit code it leads
/// to.
public struct Failure: Error, Equatable, CustomStringConvertible {
    /// How the program ends, after sysexits.h where that has a code.
    public enum Code: Int32, Sendable {
        /// The run itself failed: a non-finite loss, a processor that lacks what was asked for.
        case failure = 1
        /// The command line asks for something that does not exist or does not fit together.
        case usage = 64
        /// A file is there and readable but its content is wrong.
        case badData = 65
        /// A file cannot be opened, read or written.
        case inputOutput = 74
        /// A signal stopped the run after a checkpoint; `--resume auto` goes on from it.
        case interrupted = 75
    }

    public let code: Code
    /// One sentence, without a full stop's worth of internals and without a trailing newline.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
