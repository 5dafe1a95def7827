import FoundationEssentials
import Reporting
import Synchronization
import Training
import Weights

/// A file of `--config`: the values of a run as its `configuration.json` holds them, whole or in part.
///
/// Each value becomes the flag that gives it, so that it goes the same way from there: over the recipe's, checked alike. A
/// flag of the command line takes the place of the file's.
struct ConfigurationFile {
    private let path: String
    private let method: Method
    /// Values by their key paths, such as "model.student.width"; a list is one value.
    private let values: [String: JSONValue]
    private let rules: [String: Rule]

    /// A file with a format is whole, as every run's `configuration.json` is: what it leaves out is switched off. In another
    /// file it is left to the recipe.
    private var isWhole: Bool { values["format"] != nil }

    /// What a value becomes.
    private enum Rule {
        /// A flag with a number, a word, or numbers with commas between them.
        case number(String), text(String), numbers(String)
        /// A flag with paths.
        case paths(String)
        /// A flag if the value is true, another one, if there is one, if it is false.
        case toggle(String?, String?)
        /// Made of several values, see `combined`.
        case combined
        /// It follows from files that the run reads.
        case following
        /// No flag changes it.
        case fixed
    }

    /// - Throws: `Failure`: `.inputOutput` if the file cannot be read, `.badData` if it is no JSON object, `.usage` if it is
    ///   of another method, or holds a key that runs of the method do not have.
    init(_ path: String, for method: Method) throws {
        self.path = path
        self.method = method
        rules = Self.rules(method)
        let text = try MappedFile.contents(path, wanted: "a file of values")
        if let fault = JSONReader.fault(in: text) {
            throw Failure(
                .badData, "\(quoted(path: path)) \(fault): `dmae \(method.rawValue) --print-config` writes one")
        }
        if let key = JSONReader.repeatedKey(in: text) {
            throw Failure(
                .badData,
                "\(quoted(path: path)) holds \(quoted(key)) twice: leave one of them out, as only one value can count")
        }
        guard case .object(let object)? = try? JSONDecoder().decode(JSONValue.self, from: Data(text)) else {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is not a JSON object: `dmae \(method.rawValue) --print-config` writes one")
        }
        values = Self.leaves(object)
        if let format = values["format"], format != .number(Double(RunFormat.current), "\(RunFormat.current)") {
            throw Failure(
                .usage,
                "\(quoted(path: path)) is of another format than \(RunFormat.current): leave out its \"format\", and "
                    + "check what else it says")
        }
        if let other = values["method"], other != .string(method.rawValue) {
            throw Failure(
                .usage,
                "\(quoted(path: path)) is for another command than `dmae \(method.rawValue)`: its \"method\" is "
                    + "\(other.text)")
        }
        for key in values.keys.sorted() where rules[key] == nil { throw unknown(key) }
    }

    /// The file of this command line and the flags that came from it, for messages about them.
    private static let given = Mutex<(path: String, flags: Set<String>)?>(nil)

    /// The file that gave `flag`; nil for one of the command line.
    static func file(of flag: String) -> String? {
        given.withLock { $0.flatMap { $0.flags.contains(flag) ? $0.path : nil } }
    }

    /// `words`, a command line, with the flags of the file that it names.
    ///
    /// - Throws: see `init`, and `Failure.usage` for a value of another kind.
    static func expanded(_ words: [String]) throws -> [String] {
        guard let method = words.first.flatMap(Method.init(rawValue:)) else { return words }
        var path: String?
        for (index, word) in words.enumerated() {
            if word == "--config", index + 1 < words.count { path = words[index + 1] }
            if word.hasPrefix("--config=") { path = String(word.dropFirst("--config=".count)) }
        }
        guard let path, !words.contains("--help"), !words.contains("-h") else { return words }
        func flags(_ words: [String]) -> Set<String> {
            Set(words.filter { $0.hasPrefix("--") }.map { String($0.prefix { $0 != "=" }) })
        }
        let own = flags(words), added = try ConfigurationFile(path, for: method).words(besides: own)
        Self.given.withLock { $0 = (path, flags(added).subtracting(own)) }
        return [words[0]] + added + words.dropFirst()
    }

    /// Refuses a run whose values differ from those of the file that no flag gives.
    ///
    /// - Throws: `Failure.usage`, with the key.
    func requireFixedValues(of configuration: TrainingConfiguration) throws {
        guard
            case .object(let object)? = try? JSONDecoder().decode(
                JSONValue.self, from: Data(configuration.sortedJSON()))
        else { return }
        let own = Self.leaves(object)
        for (key, value) in values.sorted(by: { $0.key < $1.key }) {
            guard case .fixed? = rules[key], let run = own[key], run != value else { continue }
            throw Failure(
                .usage,
                "\(quoted(path: path)): \"\(key)\" is \(value.text), but a run of these settings has \(run.text), and no "
                    + "flag changes that: leave it out")
        }
    }

    // MARK: Words

    /// Flags whose place is taken by others on the command line.
    private static let replacements: [String: [String]] = [
        "--normalize-pixels": ["--no-normalize-pixels"], "--no-normalize-pixels": ["--normalize-pixels"],
        "--tensorboard": ["--no-tensorboard"], "--no-tensorboard": ["--tensorboard"],
        "--rand-augment": ["--no-rand-augment"], "--no-rand-augment": ["--rand-augment"],
        "--width": ["--student"], "--depth": ["--student"], "--heads": ["--student"],
        "--decoder-width": ["--decoder"], "--decoder-depth": ["--decoder"], "--decoder-heads": ["--decoder"],
        "--teacher-width": ["--teacher", "--teacher-model"], "--teacher-depth": ["--teacher", "--teacher-model"],
        "--teacher-heads": ["--teacher", "--teacher-model"], "--teacher-prefix": ["--teacher"],
        "--weights": ["--from-scratch"], "--from-scratch": ["--weights"],
        "--prefix": ["--weights", "--from-scratch"], "--student-prefix": ["--init-student"],
    ]

    /// The flags of the values, besides those that are `given` on the command line.
    private func words(besides given: Set<String>) throws -> [String] {
        var words: [String] = []
        func add(_ flag: String, _ more: [String]) {
            guard !given.contains(flag), given.isDisjoint(with: Self.replacements[flag] ?? []) else { return }
            words += more
        }
        for (key, value) in values.sorted(by: { $0.key < $1.key }) where value != .null {
            switch rules[key]! {
            case .number(let flag): add(flag, ["\(flag)=\(try number(key))"])
            case .text(let flag):
                guard case .string(let text) = value else { throw wrong(key, "a string") }
                add(flag, ["\(flag)=\(text)"])
            case .numbers(let flag):
                guard case .array(let items) = value else { throw wrong(key, "a list of numbers") }
                let numbers = try items.map { item in
                    guard case .number(_, let text) = item else { throw wrong(key, "a list of numbers") }
                    return text
                }
                add(flag, ["\(flag)=\(numbers.joined(separator: ","))"])
            case .paths(let flag): add(flag, [flag] + (try paths(key)))
            case .toggle(let on, let off):
                guard case .bool(let isOn) = value else { throw wrong(key, "true or false") }
                if let flag = isOn ? on : off { add(flag, [flag]) }
            case .combined, .following, .fixed: break
            }
        }
        for (flag, text) in try combined(given) { add(flag, text.isEmpty ? [flag] : text.map { "\(flag)=\($0)" }) }
        return words
    }

    /// The flags that several values make, with their values; none for a flag without one.
    private func combined(_ given: Set<String>) throws -> [(flag: String, values: [String])] {
        var flags: [(String, [String])] = []
        func has(_ key: String) -> Bool { (values[key] ?? .null) != .null }
        if has("accumulation") {
            guard has("batch") else {
                throw Failure(.usage, "\(quoted(path: path)): \"accumulation\" counts batches: give \"batch\", too")
            }
            let (batch, accumulation) = (try integer("batch"), try integer("accumulation"))
            flags.append(("--effective-batch", ["\(batch.multipliedReportingOverflow(by: accumulation).partialValue)"]))
        }
        let encoder = method == .distill || method == .pretrain ? "model.student" : "classifier.encoder"
        let startsFromWeights = given.contains("--weights") || (has("weights") && !given.contains("--from-scratch"))
        let (height, width) = ("\(encoder).imageHeight", "\(encoder).imageWidth")
        guard has(height) == has(width) else {
            throw Failure(.usage, "\(quoted(path: path)): \"\(height)\" and \"\(width)\" belong together: give both")
        }
        // A frozen encoder has the sizes of its file.
        if has(height), method != .probe || !given.contains("--weights") {
            flags.append(("--image-size", ["\(try integer(height))x\(try integer(width))"]))
        }
        if method == .finetune || method == .probe {
            if has("\(encoder).heads"), !given.contains("--weights") {
                flags.append(("--heads", [try number("\(encoder).heads")]))
            }
            if method == .finetune, !startsFromWeights {
                for (key, flag) in [("width", "--width"), ("depth", "--depth"), ("patchSize", "--patch-size")]
                where has("\(encoder).\(key)") {
                    flags.append((flag, [try number("\(encoder).\(key)")]))
                }
                if isWhole { flags.append(("--from-scratch", [])) }
            }
        }
        if has("checkpointEvery"), try integer("checkpointEvery") > 0 {
            flags.append(("--checkpoint-every", [try number("checkpointEvery")]))
        }
        let squash = "preprocessing.squashes", crop = "preprocessing.cropFraction"
        if has(squash), try boolean(squash) {
            flags.append(("--crop-fraction", ["squash"]))
        } else if has(crop) {
            flags.append(("--crop-fraction", [try number(crop)]))
        }
        if method == .distill, has("model.alignment.pairs") {
            flags.append(("--align", try pairs("model.alignment.pairs")))
        }
        if method == .finetune {
            func isOff(_ key: String) -> Bool {
                values[key] == .null || (isWhole && !values.keys.contains { $0.hasPrefix(key + ".") })
            }
            if isOff("randAugment") {
                flags.append(("--no-rand-augment", []))
            } else if values.keys.contains(where: { $0.hasPrefix("randAugment.") }) {
                flags.append(("--rand-augment", []))
            }
            if isOff("erasing") { flags.append(("--erasing", ["0"])) }
            if isOff("mixing") { flags += [("--mixup", ["0"]), ("--cutmix", ["0"])] }
        }
        return flags
    }

    /// What the values of runs of `method` become, by their key paths.
    private static func rules(_ method: Method) -> [String: Rule] {
        var rules: [String: Rule] = [
            "format": .following, "method": .following, "recipe": method == .probe ? .following : .text("--recipe"),
            "validation": .paths("--val"), "batch": .number("--batch"), "accumulation": .combined,
            "epochs": .number("--epochs"), "warmupEpochs": .number("--warmup-epochs"),
            "baseLearningRate": .number("--base-learning-rate"),
            "minimumLearningRate": .number("--minimum-learning-rate"), "optimizer.algorithm": .fixed,
            "optimizer.momentum": .fixed, "optimizer.trust": .fixed, "precision": .text("--precision"),
            "teacherPrecision": method == .distill ? .text("--teacher-precision") : .fixed, "seed": .number("--seed"),
            "groups": .number("--groups"), "exchange": .text("--exchange"),
            "shuffleWindow": .number("--shuffle-window"), "minimumCropArea": .number("--minimum-crop-area"),
            "maximumCropArea": .number("--maximum-crop-area"),
            "appliesOrientation": .toggle(nil, "--stored-orientation"),
            "background": .text("--background"), "grey16": .text("--grey16"), "preprocessing.mean": .numbers("--mean"),
            "preprocessing.std": .numbers("--std"), "preprocessing.interpolation": .text("--interpolation"),
            "preprocessing.cropFraction": .combined, "preprocessing.squashes": .combined,
            "preprocessing.cropRoundsDown": .fixed, "unreadableLimit": .number("--unreadable-limit"),
            "checkpointEvery": .combined, "keep": .number("--keep"),
            "tensorboard": .toggle("--tensorboard", "--no-tensorboard"),
        ]
        for (key, flag) in [
            ("beta1", "--beta1"), ("beta2", "--beta2"), ("epsilon", "--epsilon"), ("weightDecay", "--weight-decay"),
        ] {
            rules["optimizer.\(key)"] = method == .probe ? .fixed : .number(flag)
        }
        let sides = ["imageHeight", "imageWidth"], sizes = ["width", "depth", "heads"]
        switch method {
        case .distill, .pretrain:
            rules.merge([
                "data": .paths("--data"), "evaluateEvery": .fixed, "weights": .text("--init-student"),
                "prefix": .text("--student-prefix"), "neighbors.train": .paths("--knn-train"),
                "neighbors.validation": .paths("--knn-val"), "neighbors.everyEpochs": .number("--knn-every"),
                "model.student.patchSize": .number("--patch-size"), "model.student.channels": .number("--channels"),
                "model.maskRatio": .number("--mask-ratio"), "model.predictRatio": .number("--predict-ratio"),
                "model.normalizePixels": .toggle("--normalize-pixels", "--no-normalize-pixels"),
                "model.reconstructionWeight": .number("--reconstruction-weight"),
            ]) { $1 }
            for size in sizes {
                rules["model.student.\(size)"] = .number("--\(size)")
                rules["model.decoder.\(size)"] = .number("--decoder-\(size)")
            }
            for side in sides { rules["model.student.\(side)"] = .combined }
            let isTaught = method == .distill
            for key in ["pairs", "distance", "projection", "weight"] {
                rules["model.alignment.\(key)"] =
                    !isTaught
                    ? .following
                    : ["pairs": .combined, "weight": .number("--alignment-weight")][key]
                        ?? .text(key == "distance" ? "--alignment-distance" : "--projection")
            }
            guard isTaught else { break }
            rules["model.teacherMaskRatio"] = .number("--teacher-mask-ratio")
            for size in sizes { rules["model.teacher.\(size)"] = .number("--teacher-\(size)") }
            for key in sides + ["patchSize", "channels"] { rules["model.teacher.\(key)"] = .following }
        case .finetune, .probe:
            rules.merge([
                "data": .paths("--train"), "evaluateEvery": .number("--evaluate-every"), "weights": .text("--weights"),
                "prefix": .text("--prefix"), "classifier.classes": .following, "classifier.pool": .text("--pool"),
            ]) { $1 }
            for key in sizes + sides + ["patchSize"] { rules["classifier.encoder.\(key)"] = .combined }
            rules["classifier.encoder.channels"] = method == .finetune ? .number("--channels") : .following
            for (key, flag) in [
                ("dropPath", "--drop-path"), ("layerDecay", "--layer-decay"), ("smoothing", "--smoothing"),
            ] {
                rules["classifier.\(key)"] = method == .finetune ? .number(flag) : .fixed
            }
            guard method == .finetune else {
                rules["probeAugmentation"] = .text("--augment")
                break
            }
            rules.merge([
                "classifier.teacher.pool": .following, "classifier.teacher.weight": .number("--teacher-weight"),
                "classifier.teacher.temperature": .number("--temperature"),
                "classifier.teacher.isHard": .toggle("--hard-teacher", nil), "randAugment": .combined,
                "erasing": .combined, "mixing": .combined, "erasing.probability": .number("--erasing"),
                "mixing.mixupAlpha": .number("--mixup"), "mixing.cutmixAlpha": .number("--cutmix"),
                "clipGradient": .number("--clip-gradient"), "averageDecay": .number("--ema"),
            ]) { $1 }
            for key in ["operations", "magnitude", "deviation", "probability"] { rules["randAugment.\(key)"] = .fixed }
            for key in sizes + sides + ["patchSize", "channels"] {
                rules["classifier.teacher.encoder.\(key)"] = .following
            }
        }
        if method == .distill || method == .finetune {
            rules["teacher"] = .text("--teacher")
            rules["teacherPrefix"] = .text("--teacher-prefix")
        }
        return rules
    }

    // MARK: Values

    /// The values of `object` and of the objects in it, by their key paths.
    private static func leaves(_ object: [String: JSONValue], _ prefix: String = "") -> [String: JSONValue] {
        var leaves: [String: JSONValue] = [:]
        for (key, value) in object {
            if case .object(let inner) = value {
                leaves.merge(Self.leaves(inner, "\(prefix)\(key).")) { $1 }
            } else {
                leaves[prefix + key] = value
            }
        }
        return leaves
    }

    private func wrong(_ key: String, _ kind: String) -> Failure {
        Failure(.usage, "\(quoted(path: path)): \"\(key)\" must be \(kind), not \(values[key]?.text ?? "nothing")")
    }

    private func number(_ key: String) throws -> String {
        guard case .number(_, let text)? = values[key] else { throw wrong(key, "a number") }
        return text
    }

    private func integer(_ key: String) throws -> Int {
        guard case .number(_, let text)? = values[key], let value = Int(text) else {
            throw wrong(key, "a whole number")
        }
        return value
    }

    private func boolean(_ key: String) throws -> Bool {
        guard case .bool(let value)? = values[key] else { throw wrong(key, "true or false") }
        return value
    }

    private func paths(_ key: String) throws -> [String] {
        if case .string(let path)? = values[key] { return [path] }
        guard case .array(let items)? = values[key], !items.isEmpty else {
            throw wrong(key, "a path or a list of paths")
        }
        return try items.map { item in
            guard case .string(let path) = item else { throw wrong(key, "a path or a list of paths") }
            return path
        }
    }

    /// Aligned blocks, such as "8:17".
    private func pairs(_ key: String) throws -> [String] {
        let kind = "a list of objects with \"studentBlock\" and \"teacherBlock\""
        guard case .array(let items)? = values[key], !items.isEmpty else { throw wrong(key, kind) }
        return try items.map { item in
            guard case .object(let pair) = item, pair.count == 2, case .number(_, let student)? = pair["studentBlock"],
                case .number(_, let teacher)? = pair["teacherBlock"]
            else { throw wrong(key, kind) }
            return "\(student):\(teacher)"
        }
    }

    /// What a person may call the value at `key`: its path, or its flag as a key.
    private func names(of key: String) -> [String] {
        let combined = [
            "accumulation": "--effective-batch", "model.student.imageHeight": "--image-size",
            "classifier.encoder.imageHeight": "--image-size", "model.alignment.pairs": "--align",
        ]
        let flag = Self.flag(of: rules[key]) ?? combined[key] ?? ""
        return flag.isEmpty ? [key] : [key, Self.key(flag)]
    }

    /// The flag that a value becomes; nil unless it is one.
    private static func flag(of rule: Rule?) -> String? {
        switch rule {
        case .number(let name), .text(let name), .numbers(let name), .paths(let name): name
        case .toggle(let on, let off): on ?? off
        default: nil
        }
    }

    /// A flag as keys are spelled: "--effective-batch" as "effectiveBatch".
    private static func key(_ flag: String) -> String {
        let words = flag.split(separator: "-")
        let camel = words.prefix(1) + words.dropFirst().map { $0.prefix(1).uppercased() + $0.dropFirst() }
        return camel.joined()
    }

    private func unknown(_ key: String) -> Failure {
        if rules.keys.contains(where: { $0.hasPrefix(key + ".") }) { return wrong(key, "an object") }
        // What other tools call a value, such as batch_size.
        let last = key.split(separator: ".").last.map(String.init) ?? key
        let meant = NearMisses.flags(meantBy: last).lazy.compactMap { flag in
            rules.keys.sorted().first { Self.flag(of: rules[$0]) == "--" + flag }
                ?? rules.keys.sorted().first { names(of: $0).contains(Self.key(flag)) }
        }.first
        func distance(_ known: String) -> Int { names(of: known).map { $0.edits(to: key) }.min()! }
        let nearest = meant ?? rules.keys.map { (distance($0), $0) }.min { $0 < $1 }?.1
        let isOther = [Method.distill, .pretrain, .finetune, .probe].contains { Self.rules($0)[key] != nil }
        return Failure(
            .usage,
            "\(quoted(path: path)): \"\(key)\" is no value of a run of `dmae \(method.rawValue)`"
                + (isOther ? ": leave it out" : "; the nearest one is \"\(nearest ?? "")\""))
    }
}

/// JSON of any kind.
private enum JSONValue: Decodable, Equatable {
    case null, bool(Bool), string(String), array([JSONValue]), object([String: JSONValue])
    /// A number, and how Swift writes it.
    case number(Double, String)

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode(UInt64.self) {
            self = .number(Double(value), "\(value)")
        } else if let value = try? container.decode(Int64.self) {
            self = .number(Double(value), "\(value)")
        } else if let value = try? container.decode(Double.self) {
            self = .number(value, "\(value)")
        } else if let value = try? container.decode([JSONValue].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    /// In a message.
    var text: String {
        switch self {
        case .null: "null"
        case .bool(let value): "\(value)"
        case .string(let value): quoted(value)
        case .number(_, let text): text
        case .array: "a list"
        case .object: "an object"
        }
    }
}

extension String {
    /// Characters to insert, remove or replace until this is `other` (Levenshtein).
    func edits(to other: String) -> Int {
        let (own, other) = (Array(self), Array(other))
        var row = Array(0...other.count)
        for (i, character) in own.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, wanted) in other.enumerated() {
                let replaced = diagonal + (character == wanted ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = Swift.min(replaced, row[j] + 1, row[j + 1] + 1)
            }
        }
        return row[other.count]
    }
}
