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
        let rest = String(key.dropFirst(4))
        for term in LossTerm.all {
            let index = rest.hasPrefix(term.key + "_") ? Int(rest.dropFirst(term.key.count + 1)) : nil
            guard rest == term.key || term.listCount != nil && index != nil else { continue }
            self.init(
                key: key, name: "validation " + term.name + (index.map { " \($0)" } ?? ""),
                meaning: term.meaning + ", on the validation images", isFraction: false)
            return
        }
        return nil
    }
}
