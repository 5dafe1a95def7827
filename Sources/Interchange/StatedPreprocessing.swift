import FoundationEssentials
import Glibc
import Images
import Models
import Reporting
import Weights

/// What weights, or a file in their folder, say of how pictures are prepared for them.
public struct StatedPreprocessing: Equatable, Sendable {
    /// What they say; what they leave open is that of their tool.
    public var preprocessing: Preprocessing
    /// Where they say it: "preprocessor_config.json", "config.json", "its training" or "its metadata".
    public let origin: String
    /// What they say and is not followed, a sentence each.
    public var notes: [Message] = []
}

/// How pictures were read and prepared for weights, in their metadata: the keys of a `TrainingConfiguration`, of which
/// some may be missing.
package struct PictureMetadata: Codable, Equatable, Sendable {
    /// The origin of what the configuration of a run says that the weights keep.
    package static let itsTraining = "its training"

    package var appliesOrientation: Bool?
    package var background: Background?
    package var grey16: Grey16?
    package var preprocessing: Preprocessing?

    package init(reading: PictureReading?, preprocessing: Preprocessing?) {
        appliesOrientation = reading?.appliesOrientation
        background = reading?.background
        grey16 = reading?.grey16
        self.preprocessing = preprocessing
    }

    /// Nil unless all of it is there.
    package var reading: PictureReading? {
        guard let appliesOrientation, let background, let grey16 else { return nil }
        return PictureReading(appliesOrientation: appliesOrientation, background: background, grey16: grey16)
    }
}

extension ModelWeights {
    /// The metadata key of a run's `TrainingConfiguration`.
    package static let trainingKey = "dmae.training"
    /// The metadata key of a converted model's `PictureMetadata`.
    package static let picturesKey = "dmae.pictures"

    /// How pictures are prepared for the weights: as they state it, else as MAE does.
    public var preprocessing: Preprocessing {
        statedPreprocessing?.preprocessing ?? .imageNet(channels: encoder.channels)
    }

    /// The metadata of these weights in another file: how pictures are read for them, and prepared by `preprocessing`, nil
    /// if nothing states it. Empty where nothing is known.
    public func metadata(preprocessing: Preprocessing?) -> [String: String] {
        guard pictureReading != nil || preprocessing != nil else { return [:] }
        let pictures = PictureMetadata(reading: pictureReading, preprocessing: preprocessing)
        guard let json = try? pictures.sortedJSON() else { return [:] }
        return [Self.picturesKey: String(decoding: json, as: UTF8.self)]
    }

    /// What the file itself says of pictures; nil if nothing.
    ///
    /// - Throws: `Failure.badData` where the text of a converted file cannot be read.
    static func pictures(of file: any WeightFile, path: String) throws -> (PictureMetadata, origin: String)? {
        if let text = file.metadata[trainingKey] {
            // A run's other faults are found where its configuration is needed. Runs without the key prepared pictures
            // as MAE does.
            do {
                return (
                    try JSONDecoder().decode(PictureMetadata.self, from: Data(text.utf8)), PictureMetadata.itsTraining
                )
            } catch DecodingError.dataCorrupted(let context) where !context.codingPath.isEmpty {
                throw Failure(
                    .badData,
                    "\(path): its metadata \(trainingKey) says how pictures are prepared, but not with numbers that can "
                        + "be; download or write the file again")
            } catch { return nil }
        }
        var text = file.metadata[picturesKey]
        if text == nil, case .list(let items) = file.values.first(where: { $0.name == picturesKey })?.value,
            case .text(let own) = items.first
        {
            text = own
        }
        guard let text else { return nil }
        guard let found = try? JSONDecoder().decode(PictureMetadata.self, from: Data(text.utf8)) else {
            throw Failure(
                .badData, "\(path): its metadata \(picturesKey) cannot be read; download or write the file again")
        }
        return (found, "its metadata")
    }

    /// What the weights or their folder say of the preparation of pictures, of a model with these sizes.
    ///
    /// - Parameter classes: outputs of the head; nil without one.
    /// - Throws: `Failure` where a configuration is there but cannot be read.
    static func statedPreprocessing(
        _ pictures: (PictureMetadata, origin: String)?, of file: any WeightFile, path: String,
        _ encoder: EncoderConfiguration, classes: Int?
    ) throws -> StatedPreprocessing? {
        if let (found, origin) = pictures {
            if let own = found.preprocessing, own.normalisation.mean.count == encoder.channels {
                return StatedPreprocessing(preprocessing: own, origin: origin)
            }
            if found.preprocessing == nil, origin == PictureMetadata.itsTraining {
                return StatedPreprocessing(preprocessing: .imageNet(channels: encoder.channels), origin: origin)
            }
        }
        guard try isModelOfFolder(path) else { return nil }
        if let processor = try HuggingFacePreprocessor(beside: file.path) {
            return try processor.stated(for: encoder, file.path)
        }
        guard let timm = try TimmConfiguration.read(beside: file.path, isItsOwn: true),
            // One of another number of classes belongs to other weights in the folder.
            timm.numClasses == nil || classes == nil || timm.numClasses == classes
        else { return nil }
        return try timm.stated(for: encoder, file.path)
    }

    /// Whether the configuration in a folder is that of the weights at `path`: a folder, or a file with the name that
    /// transformers and timm give to a folder's weights.
    ///
    /// - Throws: `Failure.inputOutput` where the system cannot tell.
    static func isModelOfFolder(_ path: String) throws -> Bool {
        if let status = try fileStatus(path), status.st_mode & S_IFMT == S_IFDIR { return true }
        let name = path.split(separator: "/").last ?? ""
        return ["model.safetensors", "pytorch_model.bin"].contains { name == $0 || name == $0 + ".index.json" }
    }
}

/// What a configuration file in the folder of weights says and cannot be, as failures that name the file and the key.
struct StatedFile {
    /// The path of the file, for a person.
    let place: String

    /// - Parameter path: of the weights.
    init(_ name: String, beside path: String) {
        place = (path.lastIndex(of: "/").map { String(path[...$0]) } ?? "./") + name
    }

    func failure(_ text: String) -> Failure {
        Failure(.badData, "\(place): \(text); repair the file, or download it again")
    }

    /// Checks the numbers of `key`.
    func require(_ values: [Double]?, _ key: String, in range: ClosedRange<Float>) throws {
        guard let values else { return }
        guard values.count == 1 || values.count == 3 else {
            throw failure("\(key) has \(Format.counted(values.count, "number")), but pictures have 1 or 3 channels")
        }
        if let wrong = values.first(where: { !range.contains(Float($0)) }) {
            throw failure("\(key) holds \(wrong), which is no number to normalise pixels with")
        }
    }
}

extension Interpolation {
    /// Pillow's number of the filter, which transformers writes.
    var pillowNumber: Int {
        switch self {
        case .lanczos: 1
        case .bilinear: 2
        case .bicubic: 3
        case .box: 4
        case .hamming: 5
        }
    }

    init?(pillowNumber: Int) {
        guard let found = Self.allCases.first(where: { $0.pillowNumber == pillowNumber }) else { return nil }
        self = found
    }
}

extension Normalisation {
    /// The normalisation of numbers that a configuration gives for 1 or 3 channels, or one number for all, of an encoder
    /// of `channels` channels; nil if they can be none.
    init?(stated mean: [Double], _ deviation: [Double], channels: Int) {
        let count = max(channels, mean.count, deviation.count)
        func spread(_ values: [Double]) -> [Float] {
            (values.count == 1 ? Array(repeating: values[0], count: count) : values).map(Float.init)
        }
        guard let own = Self(statedMean: spread(mean), deviation: spread(deviation)) else { return nil }
        self = own.adapted(channels: channels)
    }
}
