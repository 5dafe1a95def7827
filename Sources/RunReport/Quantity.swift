import Models
import Reporting
import Training

/// What a column of the log holds, in words, and how it is drawn.
package struct Quantity {
    package enum Kind {
        case loss, fraction, learningRate, gradientNorm, speed, other
    }

    package let key: String
    /// "loss", "alignment 0", "k-NN top-1, k = 10".
    package let name: String
    /// A phrase with the unit, where there is one.
    package let meaning: String
    package let kind: Kind
    /// Whether it is an evaluation's, with a value now and then.
    package let isEvaluation: Bool

    /// - Parameters:
    ///   - key: a key of the log, "loss_align_0" for a value of a list.
    ///   - keys: those beside it. The only value of a list has no number in its name: it would be read as the value.
    package init(key: String, isEvaluation: Bool, among keys: [String]) {
        let whole = Quantity(key: key, isEvaluation: isEvaluation)
        let isOnly = key.hasSuffix("_align_0") && !keys.contains(String(key.dropLast()) + "1")
        self.key = key
        self.isEvaluation = isEvaluation
        (meaning, kind) = (whole.meaning, whole.kind)
        name = isOnly && whole.name.hasSuffix(" 0") ? String(whole.name.dropLast(2)) : whole.name
    }

    /// As above, with the number of a value of a list in its name.
    package init(key: String, isEvaluation: Bool) {
        self.key = key
        self.isEvaluation = isEvaluation
        if isEvaluation, let term = EvaluationTerm(key: key) {
            (name, meaning, kind) = (term.name, term.meaning, term.isFraction ? .fraction : .loss)
            return
        }
        if !isEvaluation, let (term, name) = LossTerm.named(by: key) {
            (self.name, meaning, kind) = (name, term.meaning, .loss)
            return
        }
        switch key {
        case "learning_rate": (name, meaning, kind) = ("learning rate", "of each step", .learningRate)
        case "gradient_norm":
            (name, meaning, kind) = (
                "gradient norm", "Euclidean norm over all trained parameters, before the update", .gradientNorm
            )
        case "images_per_second":
            (name, meaning, kind) = ("images per second", "measured, with loading and checkpoints", .speed)
        default: (name, meaning, kind) = (key, "as the log calls it", .other)
        }
    }

    /// The name at the beginning of a sentence.
    package var title: String { name.hasPrefix("k-NN") ? name : name.prefix(1).uppercased() + name.dropFirst() }

    /// A value as the progress line shows it.
    package func text(_ value: Double) -> String {
        guard value.isFinite else { return "–" }
        switch kind {
        case .fraction: return Format.fixed(100 * value, 2) + " %"
        case .speed: return Format.fixed(value, 1)
        case .loss: return Format.fixed(value, 4)
        case .learningRate, .gradientNorm, .other: return Self.significant(value)
        }
    }

    /// Four significant digits.
    package static func significant(_ value: Double) -> String {
        guard value != 0, value.isFinite else { return value == 0 ? "0" : "–" }
        let magnitude = value.magnitude
        if magnitude >= 1e-3, magnitude < 1e6 {
            return Format.fixed(
                value, magnitude >= 1000 ? 0 : magnitude >= 100 ? 1 : magnitude >= 10 ? 2 : magnitude >= 1 ? 3 : 4)
        }
        var exponent = 0, mantissa = magnitude
        while mantissa >= 10 { (mantissa, exponent) = (mantissa / 10, exponent + 1) }
        while mantissa < 1 { (mantissa, exponent) = (mantissa * 10, exponent - 1) }
        return (value < 0 ? "-" : "") + Format.fixed(mantissa, 3) + "e\(exponent)"
    }
}
