import Images
import Tensors

/// One term of an objective's loss. Losses are named here only: log, progress line, table and errors read these names.
public struct LossTerm: Equatable, Sendable {
    /// The key in log.jsonl, such as "loss_reconstruction".
    public let key: String
    /// The name in progress line, table and errors, such as "reconstruction".
    public let name: String
    /// A phrase that says what the term measures.
    public let meaning: String
    /// Number of values, a list in the log; nil for a single number.
    public let listCount: Int?

    public init(key: String, name: String, meaning: String, listCount: Int? = nil) {
        self.key = key
        self.name = name
        self.meaning = meaning
        self.listCount = listCount
    }

    /// Number of this term's values in `Losses.values`.
    public var valueCount: Int { listCount ?? 1 }

    /// The names of its values: "reconstruction"; "alignment 0", "alignment 1".
    public var valueNames: [String] {
        listCount.map { $0 == 1 ? [name] : (0..<$0).map { "\(name) \($0)" } } ?? [name]
    }
}

/// The values of an objective's loss terms for one micro-batch.
public struct Losses: Equatable, Sendable {
    /// In the order of the terms; a list's values are adjacent.
    public internal(set) var values: [Float]

    public init(values: [Float]) { self.values = values }

    /// The loss that is minimised: the first term.
    public var total: Float { values[0] }
}

/// Receives gradients as soon as they are complete.
public protocol GradientSink: AnyObject {
    /// Whether gradients are added to those of earlier micro-batches, or overwrite them.
    var accumulates: Bool { get }

    /// The gradients of these tensors, a range of `Parameters.all`, are complete. The objective does not read the
    /// weights again in this step, so they may be updated. Unless the parameters keep gradients, the gradients' memory
    /// is reused after this returns.
    func complete(_ tensors: Range<Int>)
}

/// A training objective: weights, losses by name, and a step that computes the losses and their gradients.
///
/// An objective plans all its memory when it is made; the caller commits the plan and sets the weights.
public protocol Objective: AnyObject {
    /// The trained weights.
    var parameters: Parameters { get }

    /// Weights that are read but not trained, such as a teacher's; nil if there are none.
    var frozenParameters: Parameters? { get }

    /// The first term is the loss that is minimised and has one value.
    var lossTerms: [LossTerm] { get }

    /// Where the caller writes a batch's images, normalised: [B, C·H·W].
    var images: Tensor { get }

    /// GFLOP of a step per image.
    var operations: Operations { get }

    /// Computes the losses of the batch in `images` and `scale` times their gradients, and passes each gradient to
    /// `sink` exactly once. If the total is not finite, no gradient is passed.
    ///
    /// - Parameters:
    ///   - batch: as many samples as `images` has rows.
    ///   - scale: 1 / accumulation for the mean over an effective batch.
    func step(_ batch: Batch, scale: Float, sink: some GradientSink) -> Losses

    /// Computes the losses of the batch in `images`, without gradients. The batch may have fewer samples than `images`
    /// has rows; the losses are those of its samples.
    func evaluate(_ batch: Batch) -> Losses

    /// Whether the outputs of frozen weights in the last step are finite. If not, a lower learning rate cannot help.
    var frozenOutputsAreFinite: Bool { get }
}

extension Objective {
    public var frozenParameters: Parameters? { nil }
    public var frozenOutputsAreFinite: Bool { true }

    /// Losses by name, for errors: "loss nan, reconstruction 0.5, alignment 0 nan".
    public func describe(_ losses: Losses) -> String {
        zip(lossTerms.flatMap(\.valueNames), losses.values).map { "\($0) \($1)" }.joined(separator: ", ")
    }
}
