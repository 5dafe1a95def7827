import Reporting
import Weights

extension NamingScheme {
    /// The model to take if a file holds both a student and a teacher.
    public enum Role: Sendable {
        case student, teacher
    }

    /// The naming scheme and prefix of a model in a file.
    public struct Detection: Equatable, Sendable {
        public let scheme: NamingScheme
        /// The prefix of every name of the model: "", "model.", "state_dict.module.".
        public let wrapper: String
        /// Wrappers of other models in the file, which are not used.
        public let others: [String]

        /// For people: "MAE names under model.".
        public var description: String {
            let unused = others.map { $0.isEmpty ? "the plain names" : String($0.dropLast()) }.joined(separator: ", ")
            return "\(scheme.name) names" + (wrapper.isEmpty ? "" : " under \(wrapper.dropLast())")
                + (others.isEmpty ? "" : ", not those under \(unused)")
        }
    }

    /// Words that training programs prepend to the names of a model.
    public static let wrapperWords = [
        "model", "state_dict", "module", "student", "teacher", "ema", "model_ema", "ema_model", "ema_state_dict",
        "state_dict_ema",
        "model_state_dict", "backbone", "encoder", "_orig_mod",
    ]

    /// Finds the scheme and the wrapper of the model among the `names` of a file.
    ///
    /// A scheme is recognised by the name of its patch projection. Between schemes that share this name, the one that
    /// knows more of the file's names is taken. If the file holds several models, those without `ema` are preferred to
    /// averaged ones, and `role` decides between student and teacher. An encoder alone has the same names in MAE and
    /// timm; it counts as MAE's with a wrapper, as in MAE's published files, and as timm's without one.
    ///
    /// - Parameter prefix: the words before the model's names, which then need not be known ones; nil to look for them.
    /// - Throws: `Failure.badData`, with the names that were looked for, where no scheme matches.
    public static func detect(
        _ names: [String], in path: String, role: Role = .student, prefix: String? = nil
    ) throws -> Detection {
        if let prefix { return try detect(names, in: path, behind: prefix) }
        var candidates: [(scheme: NamingScheme, wrapper: String)] = []
        var strange: String?
        for scheme in all {
            let anchor = scheme.anchor
            for name in names where name.hasSuffix(anchor) {
                let wrapper = String(name.dropLast(anchor.count))
                guard wrapper.isEmpty || wrapper.hasSuffix(".") else { continue }
                if wrapper.split(separator: ".").allSatisfy({ wrapperWords.contains(String($0)) }) {
                    candidates.append((scheme, wrapper))
                } else {
                    strange = strange ?? name
                }
            }
        }
        guard let best = candidates.map({ rank($0.wrapper, role) }).min() else {
            throw unknown(names, strange: strange, path: path)
        }
        let wrapper = candidates.filter { rank($0.wrapper, role) == best }.map(\.wrapper).min {
            ($0.utf8.count, $0) < ($1.utf8.count, $1)
        }!
        return detection(among: candidates, behind: wrapper, names)
    }

    /// The model whose names begin with `prefix`; a point between the two may be left out.
    private static func detect(_ names: [String], in path: String, behind prefix: String) throws -> Detection {
        let wrapper = prefix.isEmpty || prefix.hasSuffix(".") ? prefix : prefix + "."
        let candidates = all.filter { scheme in names.contains { $0 == wrapper + scheme.anchor } }
        guard !candidates.isEmpty else {
            var anchors: [String] = []
            for scheme in all where !anchors.contains(scheme.anchor) { anchors.append(scheme.anchor) }
            throw Failure(
                .badData,
                "\(quoted(path: path)) holds no Vision Transformer behind \(quoted(prefix)): none of "
                    + "\(anchors.map { quoted(wrapper + $0) }.joined(separator: ", ")) is there; `dmae inspect` lists "
                    + "its names")
        }
        return detection(among: candidates.map { ($0, wrapper) }, behind: wrapper, names)
    }

    /// The candidate with this wrapper that knows most of the names.
    private static func detection(
        among candidates: [(scheme: NamingScheme, wrapper: String)], behind wrapper: String, _ names: [String]
    ) -> Detection {
        let own = names.filter { $0.hasPrefix(wrapper) }.map { String($0.dropFirst(wrapper.count)) }
        var scheme = mae
        var most = -1
        for candidate in candidates where candidate.wrapper == wrapper {
            let count = own.lazy.filter { candidate.scheme.canonical($0) != nil }.count
            if count > most || (count == most && candidate.scheme == timm && wrapper.isEmpty) {
                (scheme, most) = (candidate.scheme, count)
            }
        }
        var others: [String] = []
        for candidate in candidates where candidate.wrapper != wrapper && !others.contains(candidate.wrapper) {
            others.append(candidate.wrapper)
        }
        return Detection(scheme: scheme, wrapper: wrapper, others: others)
    }

    /// The preference for a wrapper; lower is better.
    private static func rank(_ wrapper: String, _ role: Role) -> Int {
        let words = wrapper.split(separator: ".")
        var rank = words.contains { $0.contains("ema") } ? 4 : 0
        if words.contains("student") { rank += role == .student ? 1 : 2 }
        if words.contains("teacher") { rank += role == .teacher ? 1 : 2 }
        return rank
    }

    private static func unknown(_ names: [String], strange: String?, path: String) -> Failure {
        if let strange {
            return Failure(
                .badData,
                "\(quoted(path: path)) holds a patch projection as \(quoted(strange)), behind words that are not "
                    + "known: only "
                    + "\(wrapperWords.joined(separator: ", ")) may stand before a model's names; rename its tensors")
        }
        var anchors: [String] = []
        for scheme in all where !anchors.contains(scheme.anchor) { anchors.append(scheme.anchor) }
        let held =
            names.isEmpty
            ? "it holds no tensor"
            : "it holds \(names.prefix(3).map { quoted($0) }.joined(separator: ", "))"
                + (names.count > 3 ? " and \(names.count - 3) more" : "")
        return Failure(
            .badData,
            "\(quoted(path: path)) holds no Vision Transformer under names of MAE, timm, Hugging Face or mmpretrain: "
                + "none of "
                + "\(anchors.joined(separator: ", ")) is there, alone or behind model, state_dict, module, student, "
                + "teacher or ema; "
                + "\(held); name another file")
    }
}
