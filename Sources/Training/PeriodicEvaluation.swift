import Images
import Models
import Reporting
import Tensors

/// One value of a periodic evaluation, such as top-1 accuracy on validation images.
public struct EvaluationTerm: Equatable, Sendable {
    /// The key in log.jsonl, such as "val_top1".
    public let key: String
    /// The name in progress line and table, such as "top-1".
    public let name: String
    /// A phrase that says what the value measures.
    public let meaning: String
    /// Whether the value is a fraction, which people read as a percentage.
    public let isFraction: Bool
    /// Whether people are shown it, beside the log: a top-5 of five classes is always 100 %.
    public let isShown: Bool

    public init(key: String, name: String, meaning: String, isFraction: Bool, isShown: Bool = true) {
        self.isShown = isShown
        self.key = key
        self.name = name
        self.meaning = meaning
        self.isFraction = isFraction
    }
}

extension EvaluationTerm {
    /// A value of this term as people read it: "87.12 %", "0.4312".
    public func text(_ value: Double) -> String {
        isFraction ? Format.fixed(100 * value, 2) + " %" : Format.fixed(value, 4)
    }
}

/// An evaluation that the trainer runs at the ends of epochs. It must not change the result of the run.
///
/// All memory is planned when it is made. It runs between two optimiser steps: the objective's activations are free
/// then, but weights, optimiser state and the gradients of an unfinished step are not.
public protocol PeriodicEvaluation: AnyObject {
    /// The values, in order.
    var terms: [EvaluationTerm] { get }

    /// Epochs between two evaluations; there is one at the end of the run, too.
    var everyEpochs: Double { get }

    /// Whether the first value says how good the weights are: the trainer keeps the weights for which it is highest.
    var ranksWeights: Bool { get }

    /// The images, if a resumed run must have the same ones because the evaluation ranks the weights.
    var rankingImages: (any ImageSource)? { get }

    /// Images that one evaluation decodes and computes.
    var imagesRead: Int { get }

    /// Computes the values. Several processes all call it with the same weights; process 0 gets the values.
    ///
    /// - Parameters:
    ///   - workers: decoding threads.
    ///   - report: called with a sentence about each unreadable image; the trainer shows each sentence once.
    ///   - isInterrupted: called from time to time; true ends the evaluation.
    /// - Returns: nil if it was interrupted; in other processes than process 0 anything.
    /// - Throws: `Failure` where images cannot be read.
    func evaluate(workers: Int, report: @escaping (Message) -> Void, isInterrupted: () -> Bool) throws -> [Double]?
}

extension PeriodicEvaluation {
    public var ranksWeights: Bool { false }
    public var rankingImages: (any ImageSource)? { nil }
    public var imagesRead: Int { 0 }
}

/// The values of the evaluations after one optimiser step.
public struct EvaluationRecord: Equatable, Sendable {
    /// A term and its value.
    public struct Value: Equatable, Sendable {
        public let term: EvaluationTerm
        public let value: Double

        /// The value as people read it: "87.12 %", "0.4312".
        public var text: String { term.text(value) }

        /// Name and value: "top-1 87.12 %". A colon parts a number that ends the name from the value.
        var named: String {
            let last = term.name.split(separator: " ").last ?? ""
            return term.name + (last.allSatisfy(\.isNumber) ? ": " : " ") + text
        }
    }
    /// Optimiser steps done.
    public var step: Int
    /// The epoch at the end of the step, with its fraction.
    public var epoch: Double
    /// Of the evaluations that were due, in their order.
    public var values: [Value]

    public init(step: Int, epoch: Double, values: [(term: EvaluationTerm, value: Double)]) {
        self.step = step
        self.epoch = epoch
        self.values = values.map(Value.init)
    }
}
