import ArgumentParser
import Images
import Interchange
import Models
import Reporting
import Tensors
import Training
import Weights

extension ClassifierPool: ExpressibleByArgument {}

struct Finetune: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Fine-tune an encoder as a classifier of your images.",
        discussion: """
            All weights are trained on all patches, with MAE's augmentation and layer-wise decay of the learning rate. \
            --train and --val have one folder per class, with the same names.

              dmae finetune --weights student.safetensors --train images/train \\
                --val images/val --output run --recipe finetune-small-data

            --teacher distils the logits of a classifier that is fine-tuned on the same classes, at --temperature T: \
            the loss is (1 - A) · classification + A · T² · KL(teacher ‖ student), with A the --teacher-weight.

            Top-1, top-5 and loss on --val are computed after every --evaluate-every epochs. At the end --output \
            contains model.safetensors, the last weights, best.safetensors, those with the best top-1 (the earlier on \
            a tie), and evaluation.json. `dmae evaluate` judges the result class by class. Signals, resuming and exit \
            codes are those of `dmae distill`.

            \(FineTuningRecipe.listing)
            """)

    @Option(
        help: ArgumentHelp(
            "Weights to start from, at least an encoder; `dmae convert --help` lists the formats.", valueName: "file"),
        completion: .file())
    var weights: String?

    @OptionGroup var choice: PrefixOptions

    @Flag(help: "Start from random weights, of the size of --student, instead of --weights.")
    var fromScratch = false

    @Option(
        help: ArgumentHelp(
            "Recipe: the values to start from, as listed above. Default: finetune-base, fitted to the number of images.",
            valueName: "name"),
        completion: .list(FineTuningRecipe.all.map(\.name)))
    var recipe: String?

    @OptionGroup(title: "Run") var images: LabelledDataOptions
    @OptionGroup(title: "Run") var training: TrainingOptions
    @OptionGroup(title: "Run") var adamW: AdamWOptions
    @OptionGroup(title: "Model") var encoder: EncoderOptions
    @OptionGroup(title: "Classifier") var classifier: FineTuningOptions
    @OptionGroup(title: "Augmentation") var augmentation: AugmentationOptions
    @OptionGroup(title: "Teacher") var teacher: LogitTeacherOptions
    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precision: TrainingPrecisionOptions

    func validate() throws {
        guard (weights == nil) == fromScratch else {
            throw ValidationError(
                fromScratch
                    ? "--weights and --from-scratch exclude each other: name a file of weights, or start from random "
                        + "ones"
                    : "--weights is needed: name a file with an encoder, or start from random weights with "
                        + "--from-scratch")
        }
        guard weights != nil || choice.prefix == nil else {
            throw ValidationError("--prefix chooses a model in the file of --weights: leave it out with --from-scratch")
        }
        if let weights, !encoder.givenSizes.isEmpty {
            throw ValidationError(
                "\(encoder.givenSizes.joined(separator: ", ")): the sizes are those of \(weights); leave it out, or "
                    + "start from random weights with --from-scratch")
        }
        guard teacher.teacher != nil || teacher.given.isEmpty else {
            throw ValidationError(
                "\(teacher.given.joined(separator: ", ")) is for a run with a --teacher: name one, or leave it out")
        }
    }

    func run() throws {
        Terminal.hold()
        try compute.apply()
        if !training.dryRun { Signals.endBeforeTheRun() }
        let isNamed = self.recipe != nil
        let recipe = try FineTuningRecipe.find(self.recipe ?? FineTuningRecipe.base.name)
        try training.requirePaths(
            [("--weights", [weights].compactMap { $0 }), ("--teacher", [teacher.teacher].compactMap { $0 })]
                + images.paths)
        let initial = try weights.map { try ModelWeights(path: $0, prefix: choice.prefix) }
        if !training.quiet, let initial { Terminal.note(initial.summary) }
        // What cannot be run is refused before images are looked for.
        let initialSize = try initial.map {
            try $0.runnableEncoder(heads: encoder.heads, imageSize: encoder.imageSize, resampling: true)
        }
        let indexes = training.makeIndexes()
        let source = try ImageCollection(images.training, indexes: indexes)
        try requireClasses(source, .train)
        let names = source.classes
        let teacherWeights = try teacher.weights(classes: names)
        if !training.quiet, let teacherWeights { Terminal.note(teacherWeights.summary) }
        var size: EncoderConfiguration
        if let initialSize {
            size = initialSize
            size.channels = encoder.channels ?? size.channels
        } else {
            var defaults = StudentDefaults(images: teacherWeights)
            if teacherWeights == nil, encoder.imageSize == nil {
                defaults.shortSide = try ImageHeaders.medianShortSide(of: source, workers: Threads.recommended)
            }
            size = try encoder.student(
                recipe.student, imageSize: recipe.imageSize, of: recipe.name, isNamed: isNamed,
                following: defaults, isQuiet: training.quiet)
        }
        let pool = classifier.pool ?? recipe.pool
        var configuration = try training.configuration(
            recipe, isNamed: isNamed, images: source.count, adamW: adamW,
            classifier: ClassifierConfiguration(
                encoder: size, classes: names.count, pool: pool, dropPath: classifier.dropPath ?? recipe.dropPath,
                layerDecay: classifier.layerDecay ?? recipe.layerDecay,
                smoothing: classifier.smoothing ?? recipe.smoothing,
                teacher: try teacherWeights.map { try teacher.configuration($0, images: size) }),
            data: images.training, teacher: teacher.teacher,
            prepared: initial.map { TrainingOptions.PreparedWeights(weights: $0, role: "weights") }
                ?? teacherWeights.map { TrainingOptions.PreparedWeights(weights: $0, role: "teacher") },
            precision: precision.resolved(for: training))
        if let teacherWeights, let warning = Self.warning(teacherWeights, configuration) { Terminal.warning(warning) }
        (configuration.weights, configuration.prefix) = (weights, choice.prefix)
        configuration.teacherPrefix = teacher.choice.teacherPrefix
        configuration.validation = images.validating
        configuration.evaluateEvery = images.evaluateEvery
        configuration.clipGradient = classifier.clipGradient
        configuration.averageDecay = classifier.ema
        try augmentation.apply(to: &configuration, recipe)
        if !training.quiet, !training.goesOn {
            if recipe.name != FineTuningRecipe.smallData.name, source.count < FineTuningRecipe.smallDataImages {
                Terminal.note(
                    "\(Format.counted(source.count, "image")): recipe \(recipe.name) is made for ImageNet's million; "
                        + "--recipe \(FineTuningRecipe.smallData.name) is for a few thousand and a small encoder")
            }
            if pool == .mean, classifier.pool == nil {
                Terminal.note(
                    "the head reads the mean of the patch tokens, which a model of Hugging Face cannot: --pool class for "
                        + "one that is converted to it")
            }
        }
        try training.run(
            configuration, from: .finetuning(teacher: teacherWeights, initial: initial, classes: names),
            images: source, indexes: indexes)
    }

    /// A sentence where a teacher of logits sees pictures that are normalised otherwise than in its training.
    private static func warning(_ teacher: ModelWeights, _ configuration: TrainingConfiguration) -> String? {
        guard let own = teacher.statedPreprocessing?.preprocessing.normalisation, let run = configuration.preprocessing,
            own.adapted(channels: run.normalisation.mean.count) != run.normalisation
        else { return nil }
        return
            "the teacher \(teacher.path) is for pictures of \(own), but sees the run's, of \(run.normalisation): its "
            + "logits are not those it was trained to give"
    }
}

/// Labelled images for training and evaluation.
struct LabelledDataOptions: ParsableArguments {
    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Training images: folders with one folder per class, tar archives, lists with labels.",
            valueName: "folder|tar|list"),
        completion: .file())
    var train: [String]

    @Option(
        name: .customLong("val"), parsing: .upToNextOption,
        help: ArgumentHelp("Validation images, with the same classes.", valueName: "folder|tar|list"),
        completion: .file())
    var validation: [String]

    @Option(
        help: ArgumentHelp(
            "Epochs between two evaluations on --val; there is one at the end, too.", valueName: "epochs"))
    var evaluateEvery: Double = 1

    /// The places of the images.
    var training: ImagePlaces { ImagePlaces(train) }
    var validating: ImagePlaces { ImagePlaces(validation) }

    /// The paths of this command line.
    var paths: [GivenPaths.Given] { [("--train", train), ("--val", validation)] }

    func validate() throws {
        try ValidationError.requirePlaces(train, "--train")
        try ValidationError.requirePlaces(validation, "--val")
    }
}

/// Values of the classifier and its optimiser that override the recipe's.
struct FineTuningOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What the head reads: the mean of the patch tokens, or the class token. A model with mean cannot become "
                + "one of Hugging Face.",
            valueName: "class|mean"))
    var pool: ClassifierPool?

    @Option(help: ArgumentHelp("Drop path rate of the last block; it rises linearly from 0.", valueName: "rate"))
    var dropPath: Double?

    @Option(
        help: ArgumentHelp("Factor of the learning rate from each layer to the one before it.", valueName: "factor"))
    var layerDecay: Double?

    @Option(help: ArgumentHelp("Label smoothing.", valueName: "fraction"))
    var smoothing: Double?

    @Option(help: ArgumentHelp("Maximum norm of the gradient. Default: no clipping.", valueName: "norm"))
    var clipGradient: Float?

    @Option(
        help: ArgumentHelp(
            "Evaluate and write a moving average of the weights with this decay, such as 0.9999, beside the weights "
                + "themselves.",
            valueName: "decay"))
    var ema: Double?
}

/// Augmentation that overrides the recipe's.
struct AugmentationOptions: ParsableArguments {
    @Flag(inversion: .prefixedNo, help: "Apply two random operations to each image (RandAugment).")
    var randAugment: Bool?

    @Option(help: ArgumentHelp("Probability of random erasing.", valueName: "probability"))
    var erasing: Double?

    @Option(help: ArgumentHelp("Alpha of mixup; 0 switches it off.", valueName: "alpha"))
    var mixup: Double?

    @Option(help: ArgumentHelp("Alpha of CutMix; 0 switches it off.", valueName: "alpha"))
    var cutmix: Double?

    /// Sets the augmentation of `configuration`.
    ///
    /// - Throws: `Failure.usage` if a value is out of range.
    func apply(to configuration: inout TrainingConfiguration, _ recipe: FineTuningRecipe) throws {
        let (mixup, cutmix) = (mixup ?? recipe.mixup, cutmix ?? recipe.cutmix)
        guard mixup >= 0, cutmix >= 0, mixup.isFinite, cutmix.isFinite else {
            throw Failure(.usage, "--mixup and --cutmix must be at least 0 and finite")
        }
        let erasing = erasing ?? recipe.erasing
        guard (0...1).contains(erasing) else { throw Failure(.usage, "--erasing must be a probability from 0 to 1") }
        let randAugment = randAugment.map { $0 ? RandAugment() : nil } ?? recipe.randAugment
        configuration.randAugment = randAugment
        configuration.erasing = erasing > 0 ? RandomErasing(probability: erasing) : nil
        configuration.mixing = mixup + cutmix > 0 ? Mixing(mixupAlpha: mixup, cutmixAlpha: cutmix) : nil
    }
}

/// A fine-tuned classifier whose logits are distilled.
struct LogitTeacherOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Weights of a classifier of the same classes, whose logits are distilled.", valueName: "file"),
        completion: .file())
    var teacher: String?

    @OptionGroup var choice: TeacherPrefixOptions

    @Option(help: ArgumentHelp("Weight A of the teacher's loss, 0 to 1. Default: 0.5.", valueName: "weight"))
    var teacherWeight: Double?

    @Option(help: ArgumentHelp("Temperature T of both softmaxes. Default: 1.", valueName: "temperature"))
    var temperature: Double?

    @Flag(help: "The teacher's loss is the cross-entropy with its most probable class.")
    var hardTeacher = false

    /// The flags of this group, apart from --teacher, on the command line.
    var given: [String] {
        [
            ("--teacher-prefix", choice.teacherPrefix != nil), ("--teacher-weight", teacherWeight != nil),
            ("--temperature", temperature != nil),
            ("--hard-teacher", hardTeacher),
        ]
        .filter(\.1).map(\.0)
    }

    /// The teacher's file; nil without one.
    ///
    /// - Parameter classes: names of the run's classes.
    /// - Throws: `Failure.badData` if it holds no classifier of these classes.
    func weights(classes: [String]) throws -> ModelWeights? {
        try teacher.map { try Self.open($0, prefix: choice.teacherPrefix, classes: classes) }
    }

    /// The file of a teacher, see `weights(classes:)`.
    ///
    /// - Parameter prefix: the words before the teacher's names in the file; nil to look for them.
    static func open(_ path: String, prefix: String?, classes: [String]) throws -> ModelWeights {
        let weights = try ModelWeights(path: path, role: .teacher, prefix: prefix)
        guard weights.classes != nil else {
            throw Failure(
                .badData,
                "\(path): holds no classifier, whose logits could be distilled: fine-tune it first with "
                    + "`dmae finetune`")
        }
        let outputs = try weights.requireHead()
        guard !weights.isLinearProbe, try weights.headPool() == weights.pool?.feature else {
            throw Failure(
                .badData,
                "\(path): its head is not that of a fine-tuned classifier (a probe's has a BatchNorm, and timm's "
                    + "average goes with fc_norm here): fine-tune it first with `dmae finetune`")
        }
        let mapping = try ClassMapping(
            folder: classes, head: outputs, names: weights.classNames, map: nil, canMap: false)
        guard mapping.indices == Array(classes.indices) else {
            throw Failure(
                .badData,
                "\(path): has the classes of --train in another order: fine-tune a teacher on these folders")
        }
        mapping.notes.forEach { Terminal.warning($0.text(in: Flags())) }
        return weights
    }

    /// The teacher's part of the classifier's configuration, for images of the student's size.
    func configuration(
        _ weights: ModelWeights, images student: EncoderConfiguration
    ) throws -> ClassifierConfiguration.Teacher {
        var encoder = try weights.runnableEncoder(heads: nil, imageSize: student.imageSize, resampling: true)
        encoder.channels = student.channels
        return ClassifierConfiguration.Teacher(
            encoder: encoder, pool: weights.pool ?? .class, weight: teacherWeight ?? 0.5, temperature: temperature ?? 1,
            isHard: hardTeacher)
    }
}

extension FineTuningRecipe {
    /// The recipe `name`.
    ///
    /// - Throws: `Failure.usage`, listing the recipes.
    static func find(_ name: String) throws -> FineTuningRecipe {
        if let recipe = named(name) { return recipe }
        let names = all.map(\.name).joined(separator: ", ")
        throw Failure(.usage, "--recipe \(name) is not a recipe of `dmae finetune`: use one of \(names)")
    }

    /// The recipes with all their values, for help screens.
    static var listing: String {
        "Recipes; options without a default below take the recipe's value:\n\n"
            + all.map(\.text).joined(separator: "\n\n")
    }

    private var text: String {
        [
            "  \(name)", "    \(summary)",
            "    from scratch: student \(student), image size \(imageSize)",
            "    pool \(pool.rawValue), drop path \(Format.shortest(dropPath)), layer decay "
                + "\(Format.shortest(layerDecay)), smoothing \(Format.shortest(smoothing))",
            "    mixup \(Format.shortest(mixup)), cutmix \(Format.shortest(cutmix)), erasing "
                + "\(Format.shortest(erasing)), \(randAugment == nil ? "no rand augment" : "rand augment")",
        ].joined(separator: "\n") + "\n" + scheduleText
    }
}
