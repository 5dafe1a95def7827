import Images
import Interchange
import Models
import Reporting

/// Sizes of the student that files of weights give, where neither the command line nor a recipe that was named does.
struct StudentDefaults {
    /// Weights that the student starts from: they give its width, depth, heads and patches.
    var initial: ModelWeights?
    /// The weights whose images become the run's: a teacher's, or the initial ones without a teacher; nil for none.
    var images: ModelWeights?
    /// What these are in the run: "teacher", "initial weights".
    var role = "teacher"
    /// The median of the pictures' short sides, in pixels, where no weights tell the size of the images; else nil.
    var shortSide: Int?

    /// Patches along a side below which pictures get smaller patches.
    private static let fewestPatches = 7

    /// Patches that should stay visible: what a masked autoencoder sees of a picture.
    private static let fewestVisible = 4

    /// The patch for images of this size, which is given: smaller than `patch` where they would have few of them.
    static func patch(_ patch: Int, ofImages size: ImageSize) -> Int {
        var patch = patch
        while patch > 2, patch % 2 == 0, min(size.height, size.width) / patch < fewestPatches { patch /= 2 }
        return patch
    }

    /// A warning where so few patches are visible that hardly anything can be learned of them, because they are large; nil
    /// for other models.
    ///
    /// - Parameter isFixed: whether the size of the patches is that of weights.
    static func warning(onVisiblePatchesOf model: ModelConfiguration, isFixed: Bool) -> String? {
        let student = model.student, patch = student.patchSize
        // A high mask ratio may be meant: the paper goes to 3 of 196.
        guard (1..<fewestVisible).contains(model.keptPatches), student.patches < fewestPatches * fewestPatches else {
            return nil
        }
        let smaller = Self.patch(patch, ofImages: student.imageSize)
        let remedy =
            !isFixed && smaller < patch && student.imageHeight % smaller == 0 && student.imageWidth % smaller == 0
            ? "--patch-size \(smaller) makes \(student.patches * (patch / smaller) * (patch / smaller)) of these images"
            : "--image-size \(fewestPatches * patch) makes \(fewestPatches * fewestPatches) of \(patch) pixels"
                + (isFixed ? ", the size of the weights'" : "")
        return
            "\(model.keptPatches) of \(Format.grouped(student.patches)) patches \(model.keptPatches == 1 ? "is" : "are") "
            + "visible, of which hardly anything can be learned: \(remedy), or lower --mask-ratio"
    }

    /// Whether the recipe's images are so much larger than the pictures that those would be blown up to them.
    private func areEnlarged(_ encoder: EncoderConfiguration, _ options: EncoderOptions) -> Bool {
        guard let shortSide, options.imageSize == nil else { return false }
        return 4 * shortSide <= 3 * min(encoder.imageHeight, encoder.imageWidth)
    }

    /// The side of images and patches for pictures whose short side is `shortSide`, in whole patches.
    private func sizes(_ shortSide: Int, _ encoder: EncoderConfiguration, _ options: EncoderOptions) -> (
        image: Int, patch: Int
    ) {
        let patch =
            options.patchSize
            ?? Self.patch(encoder.patchSize, ofImages: ImageSize(height: shortSide, width: shortSide))
        return (max(2, shortSide / patch) * patch, patch)
    }

    /// The preset that a teacher of these sizes teaches where neither a flag nor a named recipe names one: `preset`, the
    /// recipe's, unless its blocks have more than half the teacher's weights; else the largest preset that has not; of a
    /// tiny teacher the smallest one.
    static func student(_ preset: String, of teacher: EncoderConfiguration) -> String {
        // The weights of blocks are 12 times depth · width².
        func weights(_ width: Int, _ depth: Int) -> Int { depth * width * width }
        let most = weights(teacher.width, teacher.depth) / 2
        let sizes = Preset.encoders.map { (name: $0.name, weights: weights($0.width, $0.depth)) }
        if sizes.contains(where: { $0.name == preset && $0.weights <= most }) { return preset }
        return
            (sizes.filter { $0.weights <= most }.max { $0.weights < $1.weights }
            ?? sizes.min { $0.weights < $1.weights }!).name
    }

    /// The preset that is pre-trained on so many images where neither a flag nor a named recipe names one: `preset`, the
    /// recipe's, which is made for ImageNet's million, unless a few thousand images would teach it little in a long time.
    static func student(_ preset: String, images: Int) -> String {
        func weights(_ name: String) -> Int {
            Preset.encoders.first { $0.name == name }.map { $0.depth * $0.width * $0.width } ?? 0
        }
        guard let most = Self.mostOf.first(where: { images < $0.images })?.preset, weights(most) < weights(preset)
        else {
            return preset
        }
        return most
    }

    /// The largest preset for fewer images than these.
    private static let mostOf = [(images: 10_000, preset: "vit-tiny"), (images: 100_000, preset: "vit-small")]

    /// `encoder`, the recipe's, with the sizes that the weights give.
    ///
    /// - Parameter options: a student that is named there has its own width, depth and heads.
    /// - Throws: `Failure.usage` if nothing tells the heads of the initial weights.
    func applied(to encoder: EncoderConfiguration, _ options: EncoderOptions) throws -> EncoderConfiguration {
        var encoder = encoder
        if let initial, options.student == nil {
            let own = initial.encoder
            guard own.heads > 0 || options.heads != nil else {
                throw Failure(
                    .usage,
                    "\(.heads) is needed: \(initial.path) does not say the number of attention heads, and no preset has "
                        + "its width\(ModelWeights.usualHeads(.heads, ofWidth: own.width))")
            }
            (encoder.width, encoder.depth, encoder.heads) = (own.width, own.depth, own.heads)
        }
        if let shortSide, areEnlarged(encoder, options) {
            let sizes = sizes(shortSide, encoder, options)
            (encoder.imageHeight, encoder.imageWidth, encoder.patchSize) = (sizes.image, sizes.image, sizes.patch)
        }
        guard let own = images?.encoder else {
            if let size = options.imageSize { encoder.patchSize = Self.patch(encoder.patchSize, ofImages: size) }
            return encoder
        }
        encoder.patchSize = own.patchSize
        // Sizes of 0 are not known.
        if own.imageHeight > 0 { (encoder.imageHeight, encoder.imageWidth) = (own.imageHeight, own.imageWidth) }
        // Files of images have one channel or three.
        if own.channels == 1 || own.channels == 3 { encoder.channels = own.channels }
        return encoder
    }

    /// What was taken from the weights in place of the recipe's values, a sentence each.
    func notes(on student: EncoderConfiguration, insteadOf recipe: EncoderConfiguration, _ options: EncoderOptions)
        -> [String]
    {
        var notes: [String] = []
        if let initial, options.student == nil {
            notes.append(
                "the student has the sizes of its initial weights, \(initial.path): width \(student.width), depth "
                    + "\(student.depth), \(student.heads) heads (--student, --width, --depth, --heads)")
        }
        var taken: [(text: String, flag: String)] = []
        if options.imageSize == nil, student.imageSize != recipe.imageSize {
            taken.append(("images of \(student.imageHeight)×\(student.imageWidth)", "--image-size"))
        }
        if options.patchSize == nil, student.patchSize != recipe.patchSize {
            taken.append(("patches of \(student.patchSize) pixels", "--patch-size"))
        }
        if options.channels == nil, student.channels != recipe.channels {
            taken.append(("\(Format.counted(student.channels, "channel"))", "--channels"))
        }
        if !taken.isEmpty {
            let origin =
                images.map { _ in "those of the \(role)" }
                ?? (options.imageSize == nil
                    ? "the pictures' short sides have a median of \(shortSide ?? 0)"
                    : "of \(recipe.patchSize) pixels the images would have only "
                        + Format.grouped(
                            (student.imageHeight / recipe.patchSize) * (student.imageWidth / recipe.patchSize)))
            notes.append(
                "\(taken.map(\.text).joined(separator: ", ")): \(origin) "
                    + "(\(taken.map(\.flag).joined(separator: ", ")))")
        }
        return notes
    }

    /// A warning where a recipe that was named decides otherwise than the weights, with the flags that follow them; nil
    /// where they agree.
    func warning(on student: EncoderConfiguration, of recipe: String, _ options: EncoderOptions) -> String? {
        if let shortSide, areEnlarged(student, options) {
            let sizes = sizes(shortSide, student, options)
            let patch = sizes.patch == student.patchSize ? "" : " --patch-size \(sizes.patch)"
            return
                "recipe \(recipe) enlarges the pictures, whose short sides have a median of \(shortSide), to "
                + "\(student.imageHeight)×\(student.imageWidth); --image-size \(sizes.image)\(patch) would follow them"
        }
        guard let own = images?.encoder else { return nil }
        var flags: [String] = []
        if options.imageSize == nil, own.imageHeight > 0, own.imageSize != student.imageSize {
            let side = own.imageHeight == own.imageWidth ? "\(own.imageHeight)" : "\(own.imageSize)"
            flags.append("--image-size \(side)")
        }
        if options.patchSize == nil, own.patchSize != student.patchSize {
            flags.append("--patch-size \(own.patchSize)")
        }
        if options.channels == nil, own.channels == 1 || own.channels == 3, own.channels != student.channels {
            flags.append("--channels \(own.channels)")
        }
        guard !flags.isEmpty else { return nil }
        return "recipe \(recipe) has other images than the \(role); \(flags.joined(separator: " ")) would follow it"
    }
}
