import Models

extension EvaluationTerm {
    /// The term of the value that log.jsonl has under `key`, for readers of logs; nil for a key that no evaluation has.
    package init?(key: String) {
        if let own = ClassifierValidation.terms(classes: .max).first(where: { $0.key == key && $0.isFraction }) {
            self = own
            return
        }
        if let term = PeriodicNeighbors.term(key: key) {
            self = term
            return
        }
        guard key.hasPrefix("val_") else { return nil }
        guard let (term, name) = LossTerm.named(by: String(key.dropFirst(4))) else { return nil }
        self.init(
            key: key, name: "validation " + name, meaning: term.meaning + ", on the validation images",
            isFraction: false)
    }
}
