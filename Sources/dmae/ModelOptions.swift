import Interchange
import Reporting
import ArgumentParser
import Models
import Tensors
import Training

extension Method: ExpressibleByArgument {}
extension AlignmentDistance: ExpressibleByArgument {}
extension Projection: ExpressibleByArgument {}

extension ImageSize: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

extension AlignedPair: ExpressibleByArgument {
    /// "8:17": the student's block, then the teacher's.
    public init?(argument: String) {
        let blocks = argument.split(separator: ":", omittingEmptySubsequences: false).map { Int($0) }
        guard blocks.count == 2, let student = blocks[0], let teacher = blocks[1], student >= 0, teacher >= 0 else {
            return nil
        }
        self.init(studentBlock: student, teacherBlock: teacher)
    }
}

/// Sizes of the trained encoder that override the recipe's.
struct EncoderOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("Student: \(Self.encoderNames).", valueName: "preset"),
        completion: .list(Preset.encoders.map(\.name)))
    var student: String?

    @Option(
        help: ArgumentHelp(
            "Side of the training images, or HEIGHTxWIDTH, in pixels. Default: the weights', else the pictures', at most 224.",
            valueName: "pixels"))
    var imageSize: ImageSize?

    @Option(
        help: ArgumentHelp(
            "Side of a square patch, in pixels. Default: the weights', else the preset's, smaller for small pictures.",
            valueName: "pixels"))
    var patchSize: Int?

    @Option(help: ArgumentHelp("Channels of the images: 1 for grey, 3 for RGB. Default: 3.", valueName: "count"))
    var channels: Int?

    @Option(help: ArgumentHelp("Width of the student. Default: the preset's.", valueName: "width"))
    var width: Int?

    @Option(help: ArgumentHelp("Transformer blocks of the student. Default: the preset's.", valueName: "blocks"))
    var depth: Int?

    @Option(help: ArgumentHelp("Attention heads of the student. Default: the preset's.", valueName: "heads"))
    var heads: Int?

    /// The flags among these that files of weights decide, as they are on the command line.
    var givenSizes: [String] {
        let flags: [(name: String, isGiven: Bool)] = [
            ("--student", student != nil), ("--patch-size", patchSize != nil), ("--width", width != nil),
            ("--depth", depth != nil),
        ]
        return flags.filter(\.isGiven).map(\.name)
    }

    /// Whether the command line says how large the encoder is.
    var hasSize: Bool { student != nil || width != nil || depth != nil }

    static let encoderNames = Preset.encoders.map(\.name).joined(separator: ", ")

    /// The encoder `name` (a preset) with the sizes that weights give, and the overrides of this command line.
    func encoder(_ name: String, imageSize side: Int, following defaults: StudentDefaults? = nil) throws
        -> EncoderConfiguration
    {
        let preset = try Self.preset(student ?? name, flag: "--student", height: side, width: side, channels: 3)
        // Defaults are computed from the sizes that are given.
        try given(or: preset).requireComputable(role: "student")
        return try given(or: defaults?.applied(to: preset, self) ?? preset)
    }

    /// The sizes that are given, and for the others those of `encoder`.
    private func given(or encoder: EncoderConfiguration) -> EncoderConfiguration {
        EncoderConfiguration(
            width: width ?? encoder.width, depth: depth ?? encoder.depth, heads: heads ?? encoder.heads,
            patchSize: patchSize ?? encoder.patchSize, imageHeight: imageSize?.height ?? encoder.imageHeight,
            imageWidth: imageSize?.width ?? encoder.imageWidth, channels: channels ?? encoder.channels)
    }

    /// The encoder `name` of the recipe `recipe`. Says, unless `isQuiet`, what follows from `defaults`, or would if the
    /// recipe had not been named.
    func student(
        _ name: String, imageSize side: Int, of recipe: String, isNamed: Bool, following defaults: StudentDefaults,
        isQuiet: Bool
    ) throws -> EncoderConfiguration {
        let own = try encoder(name, imageSize: side)
        guard !isNamed else {
            defaults.warning(on: own, of: recipe, self).map(Terminal.warning)
            return own
        }
        let encoder = try encoder(name, imageSize: side, following: defaults)
        if !isQuiet { defaults.notes(on: encoder, insteadOf: own, self).forEach(Terminal.note) }
        return encoder
    }

    static func preset(_ name: String, flag: String, height: Int, width: Int, channels: Int) throws
        -> EncoderConfiguration
    {
        guard let encoder = Preset.encoder(name, imageHeight: height, imageWidth: width, channels: channels) else {
            throw Failure(
                .usage, "\(flag) \(name) is not known: \(Self.meant(name, flag) ?? "use one of \(encoderNames)")")
        }
        return encoder
    }

    /// What `name`, of a model of timm, MAE's programs or transformers ("vit_small_patch16_224.augreg",
    /// "mae_vit_base_patch16", "google/vit-base-patch16-224"), is here; nil where its size is none of the presets'.
    private static func meant(_ name: String, _ flag: String) -> String? {
        let words = name.lowercased().split { "_-./ ".contains($0) }.map(String.init)
        guard words.contains(where: { $0.hasPrefix("vit") || $0.hasPrefix("deit") }) || words.count == 1 else {
            return nil
        }
        let sizes = Preset.encoders.map { (word: String($0.name.dropFirst(4)), preset: $0) }
        let letters = [
            "ti": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge", "vits": "small", "vitb": "base",
            "vitl": "large", "vith": "huge", "s16": "small", "b16": "base", "l16": "large", "h14": "huge",
        ]
        guard
            let preset = words.lazy.compactMap({ word in
                sizes.first { $0.word == word || $0.word == letters[word] }?.preset
            }).first
        else { return nil }
        var text = "it is \(flag) \(preset.name) here"
        guard flag == "--student" else { return text }
        let patch = words.lazy.compactMap { $0.hasPrefix("patch") ? Int($0.dropFirst(5)) : nil }.first
        let side = words.lazy.compactMap { Int($0) }.first { (32...2048).contains($0) }
        var more: [String] = []
        if let patch, patch != preset.patchSize { more.append("--patch-size \(patch)") }
        if let side, side != 224 { more.append("--image-size \(side)") }
        if !more.isEmpty { text += ", with \(more.joined(separator: " "))" }
        return text
    }
}

/// Sizes of the decoder that override the recipe's.
struct DecoderOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("Decoder: \(Preset.decoders.map(\.name).joined(separator: ", ")).", valueName: "preset"),
        completion: .list(Preset.decoders.map(\.name)))
    var decoder: String?

    @Option(help: ArgumentHelp("Width of the decoder. Default: the preset's.", valueName: "width"))
    var decoderWidth: Int?

    @Option(help: ArgumentHelp("Transformer blocks of the decoder. Default: the preset's.", valueName: "blocks"))
    var decoderDepth: Int?

    @Option(help: ArgumentHelp("Attention heads of the decoder. Default: the preset's.", valueName: "heads"))
    var decoderHeads: Int?

    /// The flags given, as they are on the command line.
    var given: [String] {
        let flags: [(name: String, isGiven: Bool)] = [
            ("--decoder", decoder != nil), ("--decoder-width", decoderWidth != nil),
            ("--decoder-depth", decoderDepth != nil), ("--decoder-heads", decoderHeads != nil),
        ]
        return flags.filter(\.isGiven).map(\.name)
    }

    /// The decoder `name` (a preset) with the overrides of this command line.
    func decoder(_ name: String) throws -> DecoderConfiguration {
        guard let preset = Preset.decoder(decoder ?? name) else {
            throw Failure(
                .usage,
                "--decoder \(decoder ?? name) is not known: use one of "
                    + "\(Preset.decoders.map(\.name).joined(separator: ", "))"
            )
        }
        return DecoderConfiguration(
            width: decoderWidth ?? preset.width, depth: decoderDepth ?? preset.depth,
            heads: decoderHeads ?? preset.heads)
    }
}

/// Sizes of student and decoder that override the recipe's.
struct ModelOptions: ParsableArguments {
    @OptionGroup var student: EncoderOptions
    @OptionGroup var decoderOptions: DecoderOptions

    /// See `EncoderOptions.encoder`.
    func encoder(_ name: String, imageSize side: Int) throws -> EncoderConfiguration {
        try student.encoder(name, imageSize: side)
    }

    /// See `EncoderOptions.student`.
    func student(_ recipe: Recipe, isNamed: Bool, following defaults: StudentDefaults, isQuiet: Bool) throws
        -> EncoderConfiguration
    {
        try student.student(
            recipe.student, imageSize: recipe.imageSize, of: recipe.name, isNamed: isNamed, following: defaults,
            isQuiet: isQuiet)
    }

    /// See `DecoderOptions.decoder`.
    func decoder(_ name: String) throws -> DecoderConfiguration { try decoderOptions.decoder(name) }
}

/// Mask ratio, targets and the decoder's share that override the recipe's.
struct MethodOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("Fraction of the patches that is removed, such as 0.75, 0.95 or 0.98.", valueName: "ratio"))
    var maskRatio: Double?

    @Flag(inversion: .prefixedNo, help: "Standardise each target patch (MAE's norm_pix_loss).")
    var normalizePixels: Bool?

    @Option(
        help: ArgumentHelp(
            "Share of the removed patches that the decoder predicts, drawn for each image; fewer are faster. Default: 1.",
            valueName: "ratio"))
    var predictRatio: Double?

    @Option(
        help: ArgumentHelp(
            "Weight of the reconstruction loss in the total loss; with 0, for distill, there is no decoder. Default: 1.",
            valueName: "weight"))
    var reconstructionWeight: Float?

    /// The flags given, as they are on the command line.
    var given: [String] {
        let flags: [(name: String, isGiven: Bool)] = [
            ("--mask-ratio", maskRatio != nil), ("--normalize-pixels", normalizePixels != nil),
            ("--predict-ratio", predictRatio != nil), ("--reconstruction-weight", reconstructionWeight != nil),
        ]
        return flags.filter(\.isGiven).map(\.name)
    }

    /// The model of a run of `recipe` with the overrides of this command line, without a teacher.
    func model(_ recipe: Recipe, student: EncoderConfiguration, decoder: DecoderConfiguration) -> ModelConfiguration {
        ModelConfiguration(
            student: student, decoder: decoder, maskRatio: maskRatio ?? recipe.maskRatio,
            normalizePixels: normalizePixels ?? recipe.normalizePixels, predictRatio: predictRatio ?? 1,
            reconstructionWeight: reconstructionWeight ?? 1)
    }
}

/// Teacher and alignment that override the recipe's.
struct AlignmentOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Teacher: one of the student's presets. Default: the sizes in its file; without a file, the recipe's.",
            valueName: "preset"),
        completion: .list(Preset.encoders.map(\.name)))
    var teacherModel: String?

    @Option(help: ArgumentHelp("Width of the teacher. Default: the file's or the preset's.", valueName: "width"))
    var teacherWidth: Int?

    @Option(
        help: ArgumentHelp(
            "Transformer blocks of the teacher. Default: the file's or the preset's.", valueName: "blocks"))
    var teacherDepth: Int?

    @Option(
        help: ArgumentHelp("Attention heads of the teacher. Default: the file's or the preset's.", valueName: "heads"))
    var teacherHeads: Int?

    @Option(
        name: .customLong("align"), parsing: .singleValue,
        help: ArgumentHelp(
            "A student block and a teacher block, counted from 0, whose outputs are aligned; may be repeated.",
            valueName: "student:teacher"))
    var pairs: [AlignedPair] = []

    @Option(help: ArgumentHelp("Distance between the features.", valueName: "distance"))
    var alignmentDistance: AlignmentDistance?

    @Option(help: ArgumentHelp("Projection of the student's features to the teacher's width.", valueName: "kind"))
    var projection: Projection?

    @Option(help: ArgumentHelp("Weight of the alignment losses in the total loss.", valueName: "weight"))
    var alignmentWeight: Float?

    @Option(
        help: ArgumentHelp(
            "Fraction of the patches that is removed from the teacher's view, at most --mask-ratio, which is the default.",
            valueName: "ratio"))
    var teacherMaskRatio: Double?

    /// The flags of this group on the command line.
    var given: [String] {
        let flags: [(name: String, isGiven: Bool)] = [
            ("--teacher-model", teacherModel != nil), ("--teacher-width", teacherWidth != nil),
            ("--teacher-depth", teacherDepth != nil), ("--teacher-heads", teacherHeads != nil),
            ("--align", !pairs.isEmpty),
            ("--alignment-distance", alignmentDistance != nil), ("--projection", projection != nil),
            ("--alignment-weight", alignmentWeight != nil), ("--teacher-mask-ratio", teacherMaskRatio != nil),
        ]
        return flags.filter(\.isGiven).map(\.name)
    }

    /// The teacher with the overrides of this command line, on the student's images.
    ///
    /// - Parameter weights: the teacher's file, which gives the sizes unless `--teacher-model` does. Without a file the
    ///   recipe names the teacher. A preset takes the student's patch size.
    /// - Throws: `Failure.usage` if the teacher's size or heads are unknown, or its file has another width, fewer
    ///   blocks than `--teacher-depth` or other heads.
    func teacher(_ recipe: Recipe, student: EncoderConfiguration, weights: ModelWeights? = nil) throws
        -> EncoderConfiguration
    {
        var teacher: EncoderConfiguration
        if teacherModel == nil, let weights {
            teacher = weights.encoder
            (teacher.imageHeight, teacher.imageWidth, teacher.channels) = (
                student.imageHeight, student.imageWidth, student.channels
            )
        } else {
            guard let name = teacherModel ?? recipe.teacher else {
                throw Failure(.usage, "--teacher-model is needed: recipe \(recipe.name) names no teacher")
            }
            teacher = try EncoderOptions.preset(
                name, flag: "--teacher-model", height: student.imageHeight, width: student.imageWidth,
                channels: student.channels)
            // A preset's patch size is a default only. A file's patch size stays, and is checked.
            teacher.patchSize = student.patchSize
        }
        teacher.width = teacherWidth ?? teacher.width
        teacher.depth = teacherDepth ?? teacher.depth
        teacher.heads = teacherHeads ?? teacher.heads
        let model: Message = "\(.teacherModel, teacherModel ?? ""), with"
        try weights?.requireWidth(
            teacher.width, by: teacherWidth.map { "\(.teacherWidth, $0)" } ?? "\(model) width \(teacher.width),")
        // A teacher may be cut after its last aligned block, and a file may end there.
        if let teacherDepth { try weights?.requireBlocks(teacherDepth, by: "\(.teacherDepth, teacherDepth)") }
        try weights?.requireUntold(
            teacher.heads, by: teacherHeads.map { "\(.teacherHeads, $0)" } ?? "\(model) \(teacher.heads) heads,")
        if teacher.heads == 0, let weights {
            throw Failure(
                .usage,
                "\(.teacherHeads) is needed: \(weights.path) does not say the number of attention heads, and no preset "
                    + "has its width\(ModelWeights.usualHeads(.teacherHeads, ofWidth: teacher.width))")
        }
        return teacher
    }

    /// Adds teacher and alignment: the recipe's with the overrides of this command line. For errors see `teacher` and
    /// `alignment`.
    ///
    /// - Parameter isNamed: whether the recipe was named. Otherwise blocks at three quarters of each depth are aligned
    ///   where the recipe's do not exist.
    func apply(
        to configuration: inout ModelConfiguration, _ recipe: Recipe, isNamed: Bool = true, weights: ModelWeights? = nil
    ) throws {
        let teacher = try teacher(recipe, student: configuration.student, weights: weights)
        configuration.teacher = teacher
        configuration.alignment = try alignment(recipe.alignment)
        let depths = (student: configuration.student.depth, teacher: teacher.depth)
        if !isNamed, pairs.isEmpty,
            recipe.alignment.pairs.contains(where: {
                $0.studentBlock >= depths.student || $0.teacherBlock >= depths.teacher
            })
        {
            configuration.alignment.pairs = [
                AlignedPair(
                    studentBlock: max(0, 3 * depths.student / 4 - 1), teacherBlock: max(0, 3 * depths.teacher / 4 - 1))
            ]
        }
        configuration.teacherMaskRatio = teacherMaskRatio
    }

    /// A note where the recipe's pairs are used for models of another depth: block numbers do not scale with the depth.
    func note(on configuration: ModelConfiguration, of recipe: Recipe) -> String? {
        func depth(_ preset: String?) -> Int? {
            preset.flatMap { Preset.encoder($0, imageHeight: 224, imageWidth: 224)?.depth }
        }
        let student = configuration.student.depth
        guard pairs.isEmpty, let teacher = configuration.teacher?.depth, let recipeStudent = depth(recipe.student),
            let recipeTeacher = depth(recipe.teacher), (student, teacher) != (recipeStudent, recipeTeacher)
        else { return nil }
        func scaled(_ block: Int, _ depth: Int, _ recipeDepth: Int) -> Int {
            max(0, (block + 1) * depth / recipeDepth - 1)
        }
        let aligned = configuration.alignment.pairs
        let blocks = aligned.map(\.description).joined(separator: " ")
        guard aligned == recipe.alignment.pairs else {
            return
                "blocks \(blocks) are aligned, at three quarters of the student's \(student) and the teacher's "
                + "\(teacher): the recipe's \(recipe.alignment.pairs.map(\.description).joined(separator: " ")) do not "
                + "exist (--align)"
        }
        let share = aligned.map {
            "\(scaled($0.studentBlock, student, recipeStudent)):\(scaled($0.teacherBlock, teacher, recipeTeacher))"
        }.joined(separator: " ")
        return
            "blocks \(blocks) are aligned, as recipe \(recipe.name) says for a student of \(recipeStudent) and a "
            + "teacher of "
            + "\(recipeTeacher) blocks; in yours, of \(student) and \(teacher), the same shares of the depth are "
            + "--align \(share)"
    }

    /// A warning where the student is not smaller than its teacher.
    func warning(onStudentOf configuration: ModelConfiguration) -> String? {
        guard let teacher = configuration.teacher else { return nil }
        let own = ModelLayout.encoder(configuration.student).count(), other = ModelLayout.encoder(teacher).count()
        guard own >= other else { return nil }
        let relation =
            own > other ? "is larger than its teacher, of \(Format.count(other))" : "is as large as its teacher"
        return
            "the student, of \(Format.count(own)) parameters, \(relation): it can learn little more than the teacher knows; "
            + "--student, or --width and --depth, make a smaller one"
    }

    /// A note where a part of the student is not trained: without a decoder, the blocks after the last aligned one.
    func note(onUntrained configuration: ModelConfiguration) -> String? {
        let (trained, depth) = (configuration.studentBlocks, configuration.student.depth)
        guard !configuration.hasDecoder else { return nil }
        guard trained < depth else {
            return "without a reconstruction loss the student's final norm is not trained: it keeps its initial values"
        }
        let blocks = trained == depth - 1 ? "block \(trained)" : "blocks \(trained) to \(depth - 1)"
        return
            "without a reconstruction loss the student's \(blocks) and its final norm are not trained, and features pass "
            + "through random blocks: align the last block, such as --align "
            + "\(depth - 1):\(configuration.lastTeacherBlock ?? 0)"
    }

    /// The recipe's alignment with the overrides of this command line.
    func alignment(_ recipe: AlignmentConfiguration) throws -> AlignmentConfiguration {
        var alignment = recipe
        if !pairs.isEmpty { alignment.pairs = pairs }
        alignment.distance = alignmentDistance ?? alignment.distance
        alignment.projection = projection ?? alignment.projection
        alignment.weight = alignmentWeight ?? alignment.weight
        guard alignment.weight >= 0, alignment.weight.isFinite else {
            throw Failure(.usage, "--alignment-weight must be at least 0 and finite")
        }
        return alignment
    }
}

extension Recipe {
    /// The recipe `name` of `method`.
    ///
    /// - Throws: `Failure.usage`, listing the method's recipes.
    static func find(_ name: String, for method: Method) throws -> Recipe {
        if let recipe = Recipe.named(name, for: method) { return recipe }
        let names = names(of: method).joined(separator: ", ")
        throw Failure(.usage, "--recipe \(name) is not a recipe of `dmae \(method.rawValue)`: use one of \(names)")
    }

    /// Names of one method's recipes.
    static func names(of method: Method) -> [String] { all.filter { $0.method == method }.map(\.name) }

    /// The recipes of one method with all their values, for help screens.
    static func listing(of method: Method) -> String {
        "Recipes; options without a default below take the recipe's value:\n\n"
            + all.filter { $0.method == method }.map(\.text).joined(separator: "\n\n")
    }

    private var text: String {
        var lines = ["  \(name)", "    \(summary)"]
        lines.append("    student \(student), decoder \(decoder)" + (teacher.map { ", teacher \($0)" } ?? ""))
        let pixels = normalizePixels ? "normalised" : "raw"
        lines.append("    image size \(imageSize), mask ratio \(Format.shortest(maskRatio)), \(pixels) pixels")
        if !alignment.pairs.isEmpty {
            let pairs = alignment.pairs.map { "\($0.studentBlock):\($0.teacherBlock)" }.joined(separator: " ")
            lines.append(
                "    align \(pairs), alignment distance \(alignment.distance.rawValue), projection "
                    + "\(alignment.projection.rawValue), weight \(Format.shortest(alignment.weight))")
        }
        return lines.joined(separator: "\n") + "\n" + scheduleText
    }
}

extension TrainingRecipe {
    /// The values that all methods have, for help screens.
    var scheduleText: String {
        [
            "    batch \(batch), effective batch \(effectiveBatch), epochs \(Format.shortest(epochs)), warm-up epochs "
                + Format.shortest(warmupEpochs),
            "    base learning rate \(Format.shortest(baseLearningRate)), minimum "
                + "\(Format.shortest(minimumLearningRate)), weight decay \(Format.shortest(optimizer.weightDecay))",
            "    beta1 \(optimizer.beta1), beta2 \(optimizer.beta2), epsilon \(optimizer.epsilon), crop area "
                + "\(Format.shortest(cropArea.lowerBound)) to \(Format.shortest(cropArea.upperBound))",
        ].joined(separator: "\n")
    }
}
