import ArgumentParser
import Images
import Interchange
import Reporting

extension Interpolation: ExpressibleByArgument {}

/// "0.5" or "0.485,0.456,0.406": a number for all channels, or one for each.
struct ChannelNumbers: ExpressibleByArgument {
    let values: [Float]
    /// As it was given.
    let text: String

    init?(argument: String) {
        let numbers = argument.split(separator: ",", omittingEmptySubsequences: false).map { Float($0) }
        guard numbers.count == 1 || numbers.count == 3, numbers.allSatisfy({ $0?.isFinite == true }) else { return nil }
        values = numbers.map { $0! }
        text = argument
    }

    /// The numbers of `channels` channels.
    ///
    /// - Throws: `Failure.usage` if they are those of another number of channels.
    func values(channels: Int, _ field: Field) throws -> [Float] {
        guard values.count != channels else { return values }
        guard values.count == 1 else {
            throw Failure(
                .usage,
                "\(field, text) has \(values.count) numbers, but the images have "
                    + "\(channels) channel: give one")
        }
        return Array(repeating: values[0], count: channels)
    }
}

/// "0.9" or "squash": the values of --crop-fraction.
struct CropArgument: ExpressibleByArgument {
    let crop: CentreCrop

    init?(argument: String) {
        if argument == "squash" {
            crop = CentreCrop(fraction: 1, squashes: true)
        } else {
            guard let fraction = Double(argument), CentreCrop.fractions.contains(fraction) else { return nil }
            crop = CentreCrop(fraction: fraction)
        }
    }
}

/// How a picture becomes the input of an encoder, in place of what the weights say.
struct PreprocessingOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Mean that pixels, from 0 to 1, are normalised with: a number, or one for each channel. Default: that of "
                + "the weights, else ImageNet's.",
            valueName: "number,…"))
    var mean: ChannelNumbers?

    @Option(
        help: ArgumentHelp(
            "Standard deviation that pixels are normalised with. Default: that of the weights, else ImageNet's.",
            valueName: "number,…"))
    var std: ChannelNumbers?

    @Option(
        help: ArgumentHelp(
            "Filter that resizes, as Pillow's of that name. Default: see `dmae embed`.",
            valueName: "filter"))
    var interpolation: Interpolation?

    @Option(
        help: ArgumentHelp(
            "Side of the centre crop as a fraction of the resized short side, or squash: the whole image, its aspect "
                + "changed. Default: see `dmae embed`.",
            valueName: "fraction|squash"))
    var cropFraction: CropArgument?

    func validate() throws {
        if let mean, !mean.values.allSatisfy(Normalisation.means.contains) {
            throw ValidationError("--mean must be from -1000 to 1000")
        }
        if let std, !std.values.allSatisfy(Normalisation.deviations.contains) {
            throw ValidationError("--std must be at least 0.000001")
        }
    }

    /// The flags on the command line.
    var given: [String] {
        [
            ("--mean", mean != nil), ("--std", std != nil), ("--interpolation", interpolation != nil),
            ("--crop-fraction", cropFraction != nil),
        ]
        .filter(\.1).map(\.0)
    }

    /// `preprocessing` with the overrides of this command line.
    ///
    /// - Throws: `Failure.usage` if they are for another number of channels.
    func applied(to preprocessing: Preprocessing) throws -> Preprocessing {
        let own = preprocessing.normalisation, channels = own.mean.count
        var preprocessing = preprocessing
        preprocessing.normalisation = Normalisation(
            mean: try mean?.values(channels: channels, .mean) ?? own.mean,
            deviation: try std?.values(channels: channels, .std) ?? own.deviation)
        preprocessing.interpolation = interpolation ?? preprocessing.interpolation
        if let given = cropFraction?.crop {
            // How the corner of an odd margin is rounded is a habit of the tool that the weights come from.
            preprocessing.crop = CentreCrop(
                fraction: given.fraction, squashes: given.squashes, roundsDown: preprocessing.crop.roundsDown)
        }
        return preprocessing
    }

    /// How pictures are prepared for weights: as the command line says, else as the weights say, else as MAE does. Says
    /// so in a line, unless `isQuiet`, and warns of what is not followed.
    ///
    /// - Throws: `Failure.usage`, see `applied`.
    func preprocessing(for weights: ModelWeights, isQuiet: Bool = false) throws -> Preprocessing {
        let stated = weights.statedPreprocessing
        for note in stated?.notes ?? [] { Terminal.warning(note.text(in: Flags())) }
        let preprocessing = try applied(to: weights.preprocessing)
        if !isQuiet {
            let origin = stated.map {
                $0.origin == PictureMetadata.itsTraining ? "as in the training of the weights" : $0.origin
            }
            Terminal.note("pixels: \(preprocessing) (\(self.origin(of: origin)))")
        }
        return preprocessing
    }

    /// Where the values come from, for a person.
    ///
    /// - Parameter stated: what states those that this command line leaves out; nil if nothing does.
    func origin(of stated: String?) -> String {
        let files = Set(given.compactMap(ConfigurationFile.file))
        let flags = (given.filter { ConfigurationFile.file(of: $0) == nil } + files).joined(separator: ", ")
        guard let stated else {
            return given.isEmpty
                ? "assumed: the weights say nothing of it; --mean, --std, --interpolation, --crop-fraction"
                : given.count == 4 ? flags : "\(flags); the rest assumed"
        }
        return given.isEmpty ? stated : given.count == 4 ? flags : "\(flags); the rest from \(stated)"
    }
}
