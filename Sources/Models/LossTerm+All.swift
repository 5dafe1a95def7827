extension LossTerm {
    /// The terms of every objective, for readers of logs. The alignment's is a list of any length.
    public static let all =
        MaskedAutoencoder.lossTerms + [Distillation.alignmentTerm(pairs: 0)] + Classifier.distillationTerms
}
