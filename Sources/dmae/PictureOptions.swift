import ArgumentParser
import Images
import Interchange
import Reporting

extension Background: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

extension Grey16: ExpressibleByArgument {}

/// How image files become pictures: the options of every command that reads some.
struct PictureOptions: ParsableArguments {
    @Flag(help: "Read images as they are stored, without turning them upright as EXIF or XMP says.")
    var storedOrientation = false

    @Option(
        help: ArgumentHelp(
            "Colour under transparent images: white, black or #rrggbb; none drops transparency, as torchvision does. "
                + "Default: white.",
            valueName: "colour"))
    var background: Background?

    @Option(
        help: ArgumentHelp(
            "16-bit grey: clip makes values above 255 white, as Pillow does; scale keeps the high byte. Default: clip.",
            valueName: "clip|scale"))
    var grey16: Grey16?

    /// How images are read: as the command line says, else as `stored`, else by default.
    func reading(stored: PictureReading? = nil) -> PictureReading {
        var reading = stored ?? PictureReading()
        if storedOrientation { reading.appliesOrientation = false }
        reading.background = background ?? reading.background
        reading.grey16 = grey16 ?? reading.grey16
        return reading
    }

    /// How images are read for weights: as the command line says, else as in the run that wrote them, else by default.
    /// Says so, unless `isQuiet`, where they were trained otherwise than by default, and warns where the command line
    /// contradicts that run.
    func reading(for weights: ModelWeights, isQuiet: Bool = false) -> PictureReading {
        guard let trained = weights.pictureReading else { return reading() }
        let reading = reading(stored: trained)
        if reading != trained {
            Terminal.warning(
                "\(weights.path) was trained on pictures read with \(Self.text(trained)), not \(Self.text(reading))")
        } else if trained != PictureReading(), !isQuiet {
            Terminal.note("pictures are read as in the training of the weights, with \(Self.text(trained))")
        }
        return reading
    }

    private static func text(_ reading: PictureReading) -> String {
        (reading.appliesOrientation ? "" : "--stored-orientation ")
            + "--background \(reading.background) --grey16 \(reading.grey16.rawValue)"
    }
}
