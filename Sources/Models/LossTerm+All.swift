extension LossTerm {
    /// The terms of every objective, for readers of logs. The alignment's is a list of any length.
    public static let all =
        MaskedAutoencoder.lossTerms + [Distillation.alignmentTerm(pairs: 0)] + Classifier.distillationTerms

    /// The term of a key of the log, and the name of the value: "alignment 1" of "loss_align_1". Nil for another key.
    public static func named(by key: String) -> (term: LossTerm, name: String)? {
        for term in all {
            if key == term.key { return (term, term.name) }
            guard term.listCount != nil, key.hasPrefix(term.key + "_"),
                let index = Int(key.dropFirst(term.key.count + 1))
            else { continue }
            return (term, "\(term.name) \(index)")
        }
        return nil
    }
}
