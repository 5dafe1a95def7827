import Reporting
import Weights

extension NamingScheme {
    /// The model to take if a file holds both a student and a teacher of other sizes.
    public enum Role: Sendable {
        case student, teacher

        /// The field that chooses among several models.
        var prefix: Field { self == .teacher ? .teacherPrefix : .prefix }
    }

    /// The naming scheme and prefix of a model in a file.
    public struct Detection: Equatable, Sendable {
        public let scheme: NamingScheme
        /// The prefix of the model's names in the file: "", "model.", "state_dict.module.".
        public let wrapper: String
        /// Prefixes of other models in the file, which are not used.
        public let others: [String]
        /// `wrapper` and `others` without the words of `ModelNames.wrapperWords`.
        let plainWrapper: String
        let plainOthers: [String]

        /// For people: "MAE names under model".
        public var description: String {
            let unused = others.map { $0.isEmpty ? "the plain names" : String($0.dropLast()) }.joined(separator: ", ")
            return "\(scheme.name) names" + (wrapper.isEmpty ? "" : " under \(wrapper.dropLast())")
                + (others.isEmpty ? "" : ", not those under \(unused)")
        }

        /// The name within the model of a tensor with this plain name; nil for one outside of it.
        func own(_ plain: String) -> String? {
            guard plain.hasPrefix(plainWrapper) else { return nil }
            // Another model may have its names behind this one's prefix.
            let isOther = plainOthers.contains { $0.utf8.count > plainWrapper.utf8.count && plain.hasPrefix($0) }
            return isOther ? nil : String(plain.dropFirst(plainWrapper.count))
        }
    }

    /// Words that training programs prepend to the names of a model.
    public static let wrapperWords = [
        "model", "_model", "state_dict", "module", "student", "teacher", "ema", "model_ema", "ema_model",
        "ema_state_dict", "state_dict_ema", "model_state_dict", "backbone", "encoder", "_orig_mod", "net", "network",
        "vit", "base_encoder", "target_encoder", "image_encoder", "momentum_encoder", "momentum_backbone",
        "online_network", "target_network", "trunk", "base_model", "wrapped_model",
    ]

    /// A tensor that may be the patch projection of a model, read by one scheme.
    fileprivate struct Candidate {
        let scheme: NamingScheme
        /// The place of the patch projection among the file's tensors.
        let anchor: Int
        /// The prefix in the file, and without the words of wrappers.
        let wrapper, plainWrapper: String
        /// Tensors under the prefix that the scheme has, and those of blocks among them.
        var known = 0
        var blocks = 0
        /// Whether there are parts that MAE's ViT does not have.
        var isForeign = false
        /// Whether there is a decoder, or DMAE's projection heads.
        var isAutoencoder = false
    }

    /// More patch projections than this are in no file of weights.
    private static let maximumCandidates = 64

    /// Finds the scheme and the prefix of the model among the tensors of a file.
    ///
    /// A scheme is recognised by the name of its patch projection, behind any prefix. Between schemes that share this
    /// name, the one that knows more of the names behind the prefix is taken. An encoder alone has the same names in MAE
    /// and timm; it counts as MAE's with a prefix, as in MAE's published files, and as timm's without one.
    ///
    /// Of several models one is taken, by the first of these that decides: one with transformer blocks; one without
    /// parts that MAE's ViT lacks; one that is trained before its average (ema, momentum, target); one that is neither
    /// student nor teacher; the teacher of a student of the same size, which is the student's average as in DINO; else
    /// the one of `role`; one behind known words; the one with the shortest prefix.
    ///
    /// - Parameter prefix: the words before the model's names, or the first of them; nil to look for them.
    /// - Throws: `Failure.badData` where there is no such model.
    static func detect(
        _ entries: [TensorEntry], _ names: ModelNames, in path: String, role: Role = .student, prefix: String? = nil
    ) throws -> Detection {
        var candidates = candidates(names)
        guard !candidates.isEmpty else { throw unknown(names.raw, path: path) }
        for index in candidates.indices {
            let own = candidates[index]
            let nested = candidates.filter {
                $0.anchor != own.anchor && $0.plainWrapper.utf8.count > own.plainWrapper.utf8.count
                    && $0.plainWrapper.hasPrefix(own.plainWrapper)
            }
            candidates[index].count(names, without: nested.map(\.plainWrapper))
        }
        // One for each model: the scheme that knows most of it.
        var models: [Candidate] = []
        for candidate in candidates {
            guard let place = models.firstIndex(where: { $0.anchor == candidate.anchor }) else {
                models.append(candidate)
                continue
            }
            let other = models[place]
            let isTimm = candidate.scheme == timm && candidate.plainWrapper.isEmpty
            if candidate.known > other.known || (candidate.known == other.known && isTimm && other.scheme == mae) {
                models[place] = candidate
            }
        }
        var choice = models
        if let prefix {
            let anchors = anchors(prefix, candidates)
            choice = models.filter { anchors.contains($0.anchor) }
            guard !choice.isEmpty else {
                let others = models.map { $0.wrapper.isEmpty ? "no prefix" : quoted(String($0.wrapper.dropLast())) }
                throw Failure(
                    .badData,
                    "\(quoted(path: path)) holds no Vision Transformer behind \(quoted(prefix)), but behind "
                        + "\(others.joined(separator: ", ")): choose that by \(role.prefix)")
            }
        }
        let isAverage = isSelfDistillation(choice, entries)
        func rank(_ model: Candidate) -> [Int] { model.rank(role, teacherIsAverage: isAverage) }
        let best = choice.min { a, b in
            let (first, second) = (rank(a), rank(b))
            return first != second ? first.lexicographicallyPrecedes(second) : a.plainWrapper < b.plainWrapper
        }!
        let others = models.filter { $0.anchor != best.anchor }
        return Detection(
            scheme: best.scheme, wrapper: best.wrapper, others: others.map(\.wrapper), plainWrapper: best.plainWrapper,
            plainOthers: others.map(\.plainWrapper))
    }

    /// The patch projections in a file, each by every scheme that has its name, those with short prefixes first.
    private static func candidates(_ names: ModelNames) -> [Candidate] {
        var found: [Candidate] = []
        var anchors = 0
        for (index, plain) in names.plain.enumerated() where anchors < maximumCandidates {
            var own: [Candidate] = []
            for scheme in all where plain.hasSuffix(scheme.anchor) {
                let wrapper = String(plain.dropLast(scheme.anchor.count))
                guard wrapper.isEmpty || wrapper.hasSuffix("."), !isState(wrapper) else { continue }
                own.append(
                    Candidate(
                        scheme: scheme, anchor: index,
                        wrapper: names.raw[index] == plain ? wrapper : rawWrapper(names.raw[index], wrapper),
                        plainWrapper: wrapper))
            }
            anchors += own.isEmpty ? 0 : 1
            found += own.sorted { $0.plainWrapper.utf8.count < $1.plainWrapper.utf8.count }
        }
        return found
    }

    /// The part of the file's name `raw` that is `plain` without the words of wrappers.
    private static func rawWrapper(_ raw: String, _ plain: String) -> String {
        let parts = raw.split(separator: ".", omittingEmptySubsequences: false)
        // An average with underscores for points has no such part.
        guard parts.count > 1 else { return plain }
        var missing = plain.split(separator: ".").count
        let wrapper = parts.prefix { part in
            if ModelNames.wrapperWords.contains(String(part)) { return true }
            missing -= 1
            return missing >= 0
        }
        return wrapper.map { $0 + "." }.joined()
    }

    /// Whether a prefix is that of an optimiser's state, or of averages and gradients in a checkpoint of dmae.
    private static func isState(_ wrapper: String) -> Bool {
        wrapper.split(separator: ".").contains { stateWords.contains(String($0)) }
    }

    static let stateWords: Set<String> = [
        "optimizer", "optimizers", "optimizer_states", "gradient", "gradients", "average", "scaler", "lr_scheduler",
        "exp_avg", "exp_avg_sq", "momentum_buffer", "first_moment", "second_moment",
    ]

    /// The patch projections of the models that `prefix` names: those behind exactly these words, else those behind them
    /// apart from words of wrappers, else those behind more words.
    private static func anchors(_ prefix: String, _ candidates: [Candidate]) -> Set<Int> {
        let text = prefix.hasSuffix(".") || prefix.isEmpty ? prefix : prefix + "."
        let plain = ModelNames.withoutWrappers(text)
        let flat = ModelNames.flat(prefix.hasSuffix("_") ? prefix : text)
        let rules: [(Candidate) -> Bool] = [
            { $0.wrapper == text },
            { $0.plainWrapper == plain || (!text.isEmpty && ModelNames.flat($0.plainWrapper) == flat) },
            { !text.isEmpty && ($0.wrapper.hasPrefix(text) || (!plain.isEmpty && $0.plainWrapper.hasPrefix(plain))) },
        ]
        for rule in rules {
            let found = candidates.filter(rule)
            if !found.isEmpty { return Set(found.map(\.anchor)) }
        }
        return []
    }

    /// Whether a teacher among the models is the average of its student: encoders of the same size, without the decoder
    /// of an autoencoder that learns from a teacher.
    private static func isSelfDistillation(_ models: [Candidate], _ entries: [TensorEntry]) -> Bool {
        let students = models.filter { $0.is("student") }, teachers = models.filter { $0.is("teacher") }
        return teachers.contains { teacher in
            students.contains { student in
                entries[student.anchor].shape == entries[teacher.anchor].shape && student.blocks == teacher.blocks
                    && !student.isAutoencoder
            }
        }
    }

    private static func unknown(_ names: [String], path: String) -> Failure {
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
                + "none of \(anchors.joined(separator: ", ")) is there, alone or behind a prefix; \(held); name another "
                + "file")
    }
}

extension NamingScheme.Candidate {
    /// Whether one of the words before the names is `word`, alone or joined with others by underscores.
    fileprivate func `is`(_ word: String) -> Bool {
        plainWrapper.split(separator: ".").contains { Self.words($0).contains(word) }
    }

    private static func words(_ part: Substring) -> [String] { part.split(separator: "_").map { $0.lowercased() } }

    /// Words for a copy of a model that follows its training: a moving average, the target of BYOL, the keys of MoCo.
    private static let copies: Set<String> = ["ema", "momentum", "target", "key", "averaged", "swa", "shadow"]

    /// Whether the model is such a copy. DINO's teacher is one by another name.
    private var isCopy: Bool {
        plainWrapper.split(separator: ".").contains { part in
            let words = Self.words(part)
            return !words.contains("teacher") && (words.contains { Self.copies.contains($0) } || part == "encoder_k")
        }
    }

    /// The preference for a model: the smaller, number by number, the better.
    fileprivate func rank(_ role: NamingScheme.Role, teacherIsAverage: Bool) -> [Int] {
        let prefersTeacher = teacherIsAverage || role == .teacher
        var part = 0
        if self.is("student") { part = prefersTeacher ? 2 : 1 }
        if self.is("teacher") { part = prefersTeacher ? 1 : 2 }
        let isKnown = plainWrapper.split(separator: ".").allSatisfy {
            NamingScheme.wrapperWords.contains(String($0))
        }
        return [blocks == 0 ? 1 : 0, isForeign ? 1 : 0, isCopy ? 1 : 0, part, isKnown ? 0 : 1, plainWrapper.utf8.count]
    }

    /// Counts the tensors under the prefix but not under `nested`, those of other models.
    fileprivate mutating func count(_ names: ModelNames, without nested: [String]) {
        for plain in names.plain where plain.hasPrefix(plainWrapper) && !nested.contains(where: plain.hasPrefix) {
            let own = String(plain.dropFirst(plainWrapper.count))
            if let found = scheme.canonical(own)?.name {
                known += 1
                blocks += found.hasPrefix("blocks.") ? 1 : 0
                isAutoencoder = isAutoencoder || found.hasPrefix("decoder_")
            } else if own.hasPrefix("aligned_feature_projection_heads.") {
                isAutoencoder = true
            } else if scheme.computes(own) {
                isForeign = true
            }
        }
    }
}
