import Tensors

/// An objective whose weights assign images to classes: a classifier that is fine-tuned, or a linear probe.
public protocol ClassifyingObjective: Objective {
    /// Number of classes.
    var classes: Int { get }

    /// The logits of the last pass: [B, classes]. `evaluate` sets the rows of its batch's samples.
    var logits: Tensor { get }
}
