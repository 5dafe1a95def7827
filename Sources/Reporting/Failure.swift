/// An error that a person can act on: a sentence that names the file or the field and the remedy, and the exit code.
public struct Failure: Error, Equatable {
    /// The exit code of the program, from sysexits.h if it has a fitting code.
    public enum Code: Int32, Sendable {
        /// The run itself failed: a non-finite loss, a processor without a required instruction set.
        case failure = 1
        /// The command line asks for something that does not exist or does not fit together.
        case usage = 64
        /// A file is readable but its content is wrong.
        case badData = 65
        /// A file cannot be opened, read or written.
        case inputOutput = 74
        /// A signal stopped the run after a checkpoint, from which the run can be resumed.
        case interrupted = 75
    }

    /// The exit code.
    public let code: Code
    /// One sentence for a person, without a trailing newline.
    public let sentence: Message
    /// Where too many images cannot be read, what a caller needs who knows another remedy.
    public let unreadable: UnreadableImages?

    /// Too many images that cannot be read.
    public struct UnreadableImages: Hashable, Sendable {
        /// The sentence up to its remedy.
        public let reason: Message
        /// Images that cannot be read, of so many.
        public let count, total: Int

        public init(reason: Message, count: Int, total: Int) {
            self.reason = reason
            self.count = count
            self.total = total
        }
    }

    public init(_ code: Code, _ sentence: Message, unreadable: UnreadableImages? = nil) {
        self.code = code
        self.sentence = sentence
        self.unreadable = unreadable
    }

    /// The sentence with its fields in plain words.
    public var message: String { sentence.description }

    /// The sentence with its fields in the words of `vocabulary`.
    public func message(in vocabulary: some Vocabulary) -> String { sentence.text(in: vocabulary) }

    /// The same failure with another code, and with `path` before the sentence.
    public func found(in path: String, as code: Code) -> Failure {
        Failure(code, "\(path): \(sentence)", unreadable: unreadable)
    }
}

extension Failure: CustomStringConvertible {
    public var description: String { message }
}
