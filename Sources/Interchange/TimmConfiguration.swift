import FoundationEssentials
import Images
import Models
import Reporting

/// The keys of timm's `config.json` that tell of classes and pictures; nil if absent. Of earlier versions the keys of
/// `pretrained_cfg` stand at the top.
struct TimmConfiguration: Decodable {
    /// The model's name in timm.
    let architecture: String
    let numClasses: Int?
    let labelNames: [String]?
    /// `token` or `avg`: what the head reads.
    let globalPool: String?
    let pretrainedCfg: Preparation?
    private let modelArgs: Sizes?
    private let preparation: Preparation

    /// What the model was made with; nil if absent.
    struct Sizes: Decodable {
        let embedDim, numHeads: Int?
        let imgSize: ImageSize?
    }

    /// The sizes for an encoder of this width; nil if they are of another one.
    func sizes(width: Int?) -> Sizes? { modelArgs.flatMap { $0.embedDim == nil || $0.embedDim == width ? $0 : nil } }

    /// How timm prepares pictures for the weights.
    struct Preparation: Decodable {
        let mean, std: [Double]?
        let interpolation, cropMode: String?
        let cropPct: Double?
        let labelNames: [String]?
        let labels: [String]?

        private enum CodingKeys: String, CodingKey {
            case mean, std, interpolation, cropMode, cropPct, labelNames, labels
        }

        init(from decoder: any Swift.Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            func value<Value: Decodable>(_ key: CodingKeys, _ type: Value.Type = Value.self) throws -> Value? {
                try container.decodeIfPresent(type, forKey: key)
            }
            (mean, std, cropPct) = (try value(.mean), try value(.std), try value(.cropPct))
            (interpolation, cropMode) = (try value(.interpolation), try value(.cropMode))
            (labelNames, labels) = (try value(.labelNames), try? value(.labels))
        }
    }

    private enum CodingKeys: String, CodingKey {
        case architecture, numClasses, labelNames, globalPool, pretrainedCfg, modelArgs
    }

    init(from decoder: any Swift.Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        architecture = try container.decode(String.self, forKey: .architecture)
        numClasses = try container.decodeIfPresent(Int.self, forKey: .numClasses)
        globalPool = try container.decodeIfPresent(String.self, forKey: .globalPool)
        pretrainedCfg = try container.decodeIfPresent(Preparation.self, forKey: .pretrainedCfg)
        modelArgs = try? container.decodeIfPresent(Sizes.self, forKey: .modelArgs)
        preparation = try pretrainedCfg ?? Preparation(from: decoder)
        labelNames =
            try container.decodeIfPresent([String].self, forKey: .labelNames) ?? preparation.labelNames
            ?? preparation.labels
    }

    /// Reads `config.json` in the folder of the file at `path`; nil if there is none, or it is not timm's.
    ///
    /// - Parameter isItsOwn: whether it is that of these weights; another's may hold anything.
    /// - Throws: `Failure.badData` if the weights' own is no JSON, or has a key of timm with a value that it cannot have.
    static func read(beside path: String, isItsOwn: Bool) throws -> TimmConfiguration? {
        guard let data = try ConfigurationFile.data(beside: path) else { return nil }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do { return try decoder.decode(TimmConfiguration.self, from: data) } catch {
            guard isItsOwn else { return nil }
            let place = StatedFile("config.json", beside: path)
            guard (try? decoder.decode(Anything.self, from: data)) != nil else {
                throw place.failure("is no JSON")
            }
            guard (try? decoder.decode(Name.self, from: data)) != nil else { return nil }
            var keys: [any CodingKey] = []
            switch error {
            case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
                DecodingError.dataCorrupted(let context):
                keys = context.codingPath
            default: break
            }
            let key = keys.filter { $0.intValue == nil }.map { Self.written($0.stringValue) }.joined(separator: ".")
            throw place.failure("\(key) is not what timm writes there")
        }
    }

    private struct Anything: Decodable {}
    private struct Name: Decodable { let architecture: String }

    /// cropPct as crop_pct.
    private static func written(_ key: String) -> String {
        key.map { $0.isUppercase ? "_" + $0.lowercased() : String($0) }.joined()
    }

    /// What it says of pictures for an encoder; what it leaves open is as in timm. Nil if it says nothing.
    ///
    /// - Parameter path: of the weights.
    /// - Throws: `Failure.badData` if a number that it states cannot be.
    func stated(for encoder: EncoderConfiguration, _ path: String) throws -> StatedPreprocessing? {
        let place = StatedFile("config.json", beside: path)
        let own = preparation
        guard own.mean != nil || own.std != nil || own.interpolation != nil || own.cropPct != nil else { return nil }
        try place.require(own.mean, "mean", in: Normalisation.means)
        try place.require(own.std, "std", in: Normalisation.deviations)
        // What is left out has as many numbers as what is there.
        let usual = Normalisation.imageNet(channels: own.mean?.count == 3 || own.std?.count == 3 ? 3 : encoder.channels)
        guard
            let normalisation = Normalisation(
                stated: own.mean ?? usual.mean.map(Double.init), own.std ?? usual.deviation.map(Double.init),
                channels: encoder.channels)
        else { throw place.failure("mean and std are no mean and deviation of pixels") }
        var notes: [Message] = []
        var preprocessing = Preprocessing(normalisation: normalisation)
        if let name = own.interpolation {
            if let known = Interpolation(rawValue: name) {
                preprocessing.interpolation = known
            } else {
                notes.append(
                    "config.json asks for the interpolation \(quoted(name)), which dmae does not have: bicubic is "
                        + "taken, as without \(.interpolation)")
            }
        }
        var fraction = own.cropPct ?? 0.875
        guard fraction >= CentreCrop.fractions.lowerBound else {
            throw place.failure("crop_pct is \(fraction), but must be at least 0.01")
        }
        if fraction > 1 {
            notes.append("config.json asks for a crop_pct of \(fraction), which is no fraction: 1 is taken")
            fraction = 1
        }
        preprocessing.crop = CentreCrop(fraction: fraction, squashes: own.cropMode == "squash")
        if let mode = own.cropMode, !["center", "squash"].contains(mode) {
            notes.append(
                "config.json asks for the crop_mode \(quoted(mode)), which dmae does not have: the centre is cropped")
        }
        return StatedPreprocessing(preprocessing: preprocessing, origin: "config.json", notes: notes)
    }
}
