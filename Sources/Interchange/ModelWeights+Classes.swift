import FoundationEssentials
import Models
import Reporting
import Weights

extension ModelWeights {
    /// The metadata key of the names of the classes: a JSON array, in the order of the head's outputs.
    public static let classesKey = "dmae.classes"

    /// The metadata of weights whose head has the classes `names`; empty without names.
    public static func metadata(classNames names: [String]?) -> [String: String] {
        guard let names, let json = try? names.sortedJSON() else { return [:] }
        return [classesKey: String(decoding: json, as: UTF8.self)]
    }

    /// What the head reads: `fc_norm` is the norm of the mean of the patch tokens, `norm` that of the class token. Nil
    /// without a head.
    public var pool: ClassifierPool? {
        guard classes != nil else { return nil }
        return tensors.holdsLayer("fc_norm") && !tensors.holdsLayer("norm") ? .mean : .class
    }

    /// The tokens that the head reads. Nil without a head.
    ///
    /// As `pool` says, except for timm's models with `norm` whose `config.json` says `avg`: the mean of the patch
    /// tokens after `norm`.
    ///
    /// - Throws: `Failure.badData` where timm's `config.json` states another pooling, or the file holds both norms.
    public func headPool() throws -> FeaturePool? {
        guard let pool else { return nil }
        try tensors.requireOneNorm("a classifier", "use weights with the one that their head was trained with")
        if pool == .mean { return .mean }
        switch timmPool {
        case nil, "token", "": return .class
        case "avg": return .mean
        case let other?:
            throw Failure(
                .badData,
                "\(path): config.json asks for the pooling \(quoted(other)), but dmae computes only the class token "
                    + "and the mean of the patch tokens; use other weights")
        }
    }

    /// Whether the head is that of a linear probe: `head.0`, a BatchNorm without affine part, then `head.1`.
    public var isLinearProbe: Bool { tensors["head.weight"] == nil && tensors["head.1.weight"] != nil }

    /// The head's tensors, MAE's names of weight and bias; nil without a head.
    public var headLayer: String? { classes == nil ? nil : isLinearProbe ? "head.1" : "head" }

    /// Requires a head whose tensors fit the encoder and each other.
    ///
    /// - Returns: the number of classes.
    /// - Throws: `Failure.badData` without such a head.
    @discardableResult
    public func requireHead() throws -> Int {
        guard let classes, let layer = headLayer else {
            throw Failure(
                .badData,
                "\(path): holds no class head: fine-tune the encoder first (`dmae finetune`), or use weights with one")
        }
        guard classes > 0 else {
            throw Failure(
                .badData, "\(path): its class head \(layer).weight has no outputs; download or write the file again")
        }
        var wanted: [(String, [Int])] = [
            (layer + ".weight", [classes, encoder.width]), (layer + ".bias", [classes]),
        ]
        if isLinearProbe {
            wanted += ["head.0.running_mean", "head.0.running_var"].map { ($0, [encoder.width]) }
        }
        for (name, shape) in wanted {
            guard let entry = tensors[name] else {
                throw Failure(.badData, "\(path): the tensor \(name) is missing; use weights that were saved whole")
            }
            guard entry.shape == shape else {
                throw Failure(
                    .badData,
                    "\(path): \(name) has shape \(entry.shape), but the other tensors make it \(shape); download or "
                        + "write the file again")
            }
        }
        return classes
    }

    /// The names of the classes that the file or the `config.json` beside it states.
    ///
    /// - Parameters:
    ///   - count: outputs of the head.
    ///   - hugging: of transformers' `config.json`; its `LABEL_0`, `LABEL_1` and so on are no names.
    /// - Throws: `Failure.badData` where there are names of another number of classes, or text that is no list of names.
    static func classNames(
        of file: any WeightFile, path: String, count: Int, _ hugging: HuggingFaceConfiguration?,
        _ timm: TimmConfiguration?
    ) throws -> [String]? {
        let names: [String]?
        let place: String
        if let text = file.metadata[classesKey] {
            guard let stated = try? JSONDecoder().decode([String].self, from: Data(text.utf8)) else {
                throw Failure(
                    .badData, "\(path): its metadata \(classesKey) is no JSON array of names; write the file again")
            }
            (names, place) = (stated, "its metadata \(classesKey)")
        } else if let value = file.values.first(where: { $0.name == classesKey })?.value {
            (names, place) = (try listed(value, path), classesKey)
        } else if let labels = hugging?.id2label {
            names = try labels.names(path)
            place = "config.json"
        } else {
            (names, place) = (timm?.labelNames, "config.json")
        }
        guard let names else { return nil }
        guard names.count == count else {
            throw Failure(
                .badData,
                "\(path): \(place) names \(counted(names.count, "class", "es")), but the head has \(count): download or "
                    + "write the weights again")
        }
        return names
    }

    /// The texts of a list in a PyTorch archive.
    private static func listed(_ value: PlainValue, _ path: String) throws -> [String] {
        if case .list(let items) = value {
            let texts = items.compactMap { if case .text(let text) = $0 { text } else { nil } }
            if texts.count == items.count { return texts }
        }
        throw Failure(.badData, "\(path): its \(classesKey) is no list of names; write the file again")
    }
}
