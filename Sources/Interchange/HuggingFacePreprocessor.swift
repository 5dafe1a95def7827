import FoundationEssentials
import Images
import Models
import Reporting

/// The keys of Hugging Face's `preprocessor_config.json` that say how pictures become the input; nil if absent.
struct HuggingFacePreprocessor: Decodable {
    let imageMean, imageStd: Numbers?
    let doNormalize, doRescale, doResize, doCenterCrop: Bool?
    let rescaleFactor: Double?
    let resample: Int?
    let size, cropSize: Size?
    let imageProcessorType, featureExtractorType: String?

    /// A list of numbers, or one for all channels.
    struct Numbers: Decodable {
        let values: [Double]

        init(from decoder: any Swift.Decoder) throws {
            let container = try decoder.singleValueContainer()
            values = try (try? container.decode(Double.self)).map { [$0] } ?? container.decode([Double].self)
        }
    }

    /// The size that pictures are resized or cropped to.
    enum Size: Decodable, Equatable {
        case sides(height: Int, width: Int)
        case shortest(Int)
        /// One number, whose meaning depends on the class.
        case number(Int)
        case other

        private struct Keys: Decodable { let height, width, shortestEdge: Int? }

        init(from decoder: any Swift.Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let number = try? container.decode(Int.self) {
                self = .number(number)
            } else if let keys = try? container.decode(Keys.self), let height = keys.height, let width = keys.width {
                self = .sides(height: height, width: width)
            } else if let keys = try? container.decode(Keys.self), let shortest = keys.shortestEdge {
                self = .shortest(shortest)
            } else {
                self = .other
            }
        }
    }

    /// What a class of transformers does where the file leaves a key out.
    private struct Defaults {
        var mean = [0.5], deviation = [0.5]
        var resample = 2
        var size = Size.sides(height: 224, width: 224)
        var crops = false
        /// Whether one number is the short side.
        var isShortest = false

        init?(_ name: String) {
            let clip = (mean: [0.48145466, 0.4578275, 0.40821073], deviation: [0.26862954, 0.26130258, 0.27577711])
            switch name {
            case "ViT": break
            case "DeiT": (resample, size, crops) = (3, .sides(height: 256, width: 256), true)
            case "CLIP", "Bit":
                (mean, deviation) = clip
                (resample, size, crops, isShortest) = (3, .shortest(224), true, true)
            default: return nil
            }
        }
    }

    /// Reads the file in the folder of the file at `path`; nil if there is none.
    ///
    /// - Throws: `Failure.badData` if it is not such a configuration.
    init?(beside path: String) throws {
        guard let data = try ConfigurationFile.data("preprocessor_config.json", beside: path) else { return nil }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do { self = try decoder.decode(Self.self, from: data) } catch {
            let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "./"
            throw Failure(
                .badData,
                "\(folder)preprocessor_config.json: does not say how pictures are prepared in the way of Hugging Face; "
                    + "download it again, or remove it and give \(.mean), \(.std), \(.interpolation) and "
                    + "\(.cropFraction)")
        }
    }

    /// What it says for an encoder; nil if it does not say how pictures are normalised.
    ///
    /// - Parameter path: of the weights.
    /// - Throws: `Failure.badData` if a number that it states cannot be.
    func stated(for encoder: EncoderConfiguration, _ path: String) throws -> StatedPreprocessing? {
        let file = "preprocessor_config.json", place = StatedFile(file, beside: path)
        var type = imageProcessorType ?? featureExtractorType ?? ""
        for ending in ["Fast", "Pil", "ImageProcessor", "FeatureExtractor"] where type.hasSuffix(ending) {
            type.removeLast(ending.count)
        }
        let defaults = Defaults(type)
        var notes: [Message] = []
        // The bytes of the picture are multiplied by the factor and then normalised; ours are divided by 255.
        var factor = doRescale == false ? 255 : (rescaleFactor ?? 1.0 / 255) * 255
        if abs(factor - 1) < 1e-5 { factor = 1 }
        guard factor > 0, factor.isFinite else {
            throw place.failure("rescale_factor is \(rescaleFactor ?? 0), which is not above 0")
        }
        var mean = [0.0], deviation = [1.0]
        if doNormalize != false {
            guard let ownMean = imageMean?.values ?? defaults?.mean,
                let ownDeviation = imageStd?.values ?? defaults?.deviation
            else { return nil }
            try place.require(ownMean, "image_mean", in: -Float.greatestFiniteMagnitude...Float.greatestFiniteMagnitude)
            try place.require(ownDeviation, "image_std", in: Normalisation.deviations)
            (mean, deviation) = (ownMean, ownDeviation)
        }
        guard
            let normalisation = Normalisation(
                stated: mean.map { $0 / factor }, deviation.map { $0 / factor }, channels: encoder.channels)
        else {
            throw place.failure(
                "image_mean and image_std, divided by rescale_factor, are no mean and deviation of pixels")
        }
        var interpolation = Interpolation.bicubic
        if let resample = resample ?? defaults?.resample {
            if let known = Interpolation(pillowNumber: resample) {
                interpolation = known
            } else {
                notes.append(
                    "\(file) asks for the filter \(resample) of Pillow, which dmae does not have: bicubic is taken, as "
                        + "without \(.interpolation)")
            }
        }
        let (crop, note) = try crop(for: encoder, defaults, place)
        return StatedPreprocessing(
            preprocessing: Preprocessing(normalisation: normalisation, interpolation: interpolation, crop: crop),
            origin: file, notes: notes + [note].compactMap { $0 })
    }

    private func crop(for encoder: EncoderConfiguration, _ defaults: Defaults?, _ place: StatedFile) throws -> (
        CentreCrop, Message?
    ) {
        let file = "preprocessor_config.json"
        func cut(_ side: Int, of resized: Int, squashes: Bool = false) throws -> CentreCrop {
            guard let crop = CentreCrop(side: side, of: resized, squashes: squashes, roundsDown: true) else {
                throw place.failure(
                    "size has \(resized) pixels for a crop of \(side), but may have at most 65535, and at most 100 times the crop"
                )
            }
            return crop
        }
        func sides(_ size: Size?) -> (height: Int, width: Int)? {
            switch size {
            case .sides(let height, let width) where height > 0 && width > 0: (height, width)
            case .number(let side) where side > 0: (side, side)
            default: nil
            }
        }
        var size = size ?? defaults?.size ?? .other
        if case .number(let side) = size, defaults?.isShortest == true { size = .shortest(side) }
        let unresized = doResize == false
        guard doCenterCrop ?? defaults?.crops ?? false else {
            // Pictures that are not resized have the encoder's size already, and stay as they are.
            if unresized || sides(size) != nil {
                return (CentreCrop(fraction: 1, squashes: true, roundsDown: true), nil)
            }
            if case .shortest(let short) = size, short > 0 {
                let side = min(encoder.imageHeight, encoder.imageWidth)
                return (
                    side > 0 && side <= short
                        ? try cut(side, of: short)
                        : CentreCrop(fraction: 1, roundsDown: true), nil
                )
            }
            return (
                CentreCrop(roundsDown: true),
                "\(file) states no size that pictures are resized to: the centre is cropped as without it"
            )
        }
        let cropped = sides(cropSize) ?? (encoder.imageHeight, encoder.imageWidth)
        let side = min(cropped.height, cropped.width)
        let padding: Message =
            "\(file) asks for a crop that is larger than the resized picture, with black edges: the picture is cropped "
            + "without edges"
        if !unresized, side > 0, case .shortest(let short) = size, short > 0 {
            guard short >= side else { return (CentreCrop(fraction: 1, roundsDown: true), padding) }
            return (try cut(side, of: short), nil)
        }
        if !unresized, side > 0, let (height, width) = sides(size) {
            guard height >= cropped.height, width >= cropped.width else {
                return (CentreCrop(fraction: 1, squashes: true, roundsDown: true), padding)
            }
            return (try cut(cropped.height, of: height, squashes: true), nil)
        }
        return (
            CentreCrop(roundsDown: true),
            "\(file) states no size that pictures are resized to before the crop: the centre is cropped as without it"
        )
    }
}

extension HuggingFacePreprocessor {
    /// What is written for transformers, so that its `AutoImageProcessor` prepares pictures of `encoder` as
    /// `preprocessing` says.
    struct Written: Encodable {
        var crop_size: [String: Int]?
        var do_center_crop: Bool
        /// What a picture of another mode becomes: grey stays grey for an encoder of one channel.
        var do_convert_rgb: Bool
        var do_normalize = true, do_rescale = true, do_resize = true
        var image_mean, image_std: [Float]
        var image_processor_type: String
        var resample: Int
        var rescale_factor = 1.0 / 255
        var size: [String: Int]

        /// Pictures for an encoder that takes no squares are stretched: transformers crops no others.
        init(_ preprocessing: Preprocessing, for encoder: EncoderConfiguration) {
            let (height, width) = (encoder.imageHeight, encoder.imageWidth)
            let fraction = preprocessing.crop.fraction(width: width, height: height)
            let resized = (height: Int(Double(height) / fraction), width: Int(Double(width) / fraction))
            image_mean = preprocessing.normalisation.mean
            image_std = preprocessing.normalisation.deviation
            resample = preprocessing.interpolation.pillowNumber
            do_convert_rgb = encoder.channels == 3
            if preprocessing.crop.squashes || height != width {
                do_center_crop = resized != (height, width) && preprocessing.crop.squashes
                image_processor_type = do_center_crop ? "DeiTImageProcessor" : "ViTImageProcessor"
                size =
                    do_center_crop
                    ? ["height": resized.height, "width": resized.width] : ["height": height, "width": width]
            } else {
                // ViTImageProcessor cannot crop.
                do_center_crop = true
                image_processor_type = "BitImageProcessor"
                size = ["shortest_edge": resized.height]
            }
            if do_center_crop { crop_size = ["height": height, "width": width] }
        }
    }
}
