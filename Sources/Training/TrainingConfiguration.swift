import Images
import Interchange
import Models
import Reporting
import Tensors

/// k-nearest-neighbour classification while a run trains.
public struct NeighborSettings: Codable, Equatable, Sendable {
    /// Training images with classes.
    public var train: ImagePlaces
    /// Validation images with the same classes.
    public var validation: ImagePlaces
    /// Epochs between two evaluations.
    public var everyEpochs: Double

    public init(train: ImagePlaces, validation: ImagePlaces, everyEpochs: Double) {
        self.train = train
        self.validation = validation
        self.everyEpochs = everyEpochs
    }
}

/// The resolved configuration of a run: all values that determine its result, and those that say how the result is
/// stored.
public struct TrainingConfiguration: Codable, Equatable, Sendable {
    /// `RunFormat.current` of the version that started the run.
    public private(set) var format = RunFormat.current
    /// What is trained, and how.
    public var method: Method
    /// Name of the recipe, which supplied all values that the user did not set.
    public var recipe: String
    /// Sizes of the models, alignment and masking; nil unless the method trains a masked autoencoder.
    public var model: ModelConfiguration?
    /// The classifier and its losses; nil unless the method is fine-tuning or the probe.
    public var classifier: ClassifierConfiguration?
    /// Where the training images are.
    public var data: ImagePlaces
    /// Where the validation images are; nil without any.
    public var validation: ImagePlaces?
    /// Epochs between two evaluations on the validation images.
    public var evaluateEvery: Double?
    /// k-NN while a masked autoencoder trains; nil for none.
    public var neighbors: NeighborSettings?
    /// File of initial weights; nil to start from random ones.
    public var weights: String?
    /// The words before the names of the model in that file, where it holds several; nil to look for them.
    public var prefix: String?
    /// File of a teacher's weights; nil without a teacher.
    public var teacher: String?
    /// See `prefix`.
    public var teacherPrefix: String?
    /// Images per forward and backward pass.
    public var batch: Int
    /// Forward and backward passes per optimiser step.
    public var accumulation: Int
    /// Parts of an effective batch whose gradients are summed apart and then added in a tree, a power of two; nil: one.
    /// The result depends on it, but not on who computes which part.
    public var groups: Int?
    /// What sums of gradients are rounded to before two of them are added; nil: float32, nothing is rounded.
    public var exchange: ExchangePrecision?
    /// Length of the run and of its warm-up, in epochs.
    public var epochs: Double
    public var warmupEpochs: Double
    /// Learning rate per 256 images of effective batch.
    public var baseLearningRate: Double
    /// Learning rate at the end of the run.
    public var minimumLearningRate: Double
    public var optimizer: Optimizer
    /// Precision of the operands of matmuls and attention: f32 or bf16.
    public var precision: Precision
    /// Precision of the operands of the linear layers in the teacher's blocks.
    public var teacherPrecision: TeacherPrecision
    /// Seed of all random numbers.
    public var seed: UInt64
    /// Images of a window in which an epoch's images are shuffled; nil: all are shuffled at once.
    public var shuffleWindow: Int?
    /// Minimum and maximum fraction of an image's area that RandomResizedCrop takes.
    public var minimumCropArea: Double
    public var maximumCropArea: Double
    /// Random operations on each image after crop and flip; nil: none.
    public var randAugment: RandAugment?
    /// A random rectangle of each image that is filled with noise; nil: none.
    public var erasing: RandomErasing?
    /// Mixing of each batch's images and targets; nil: none.
    public var mixing: Mixing?
    /// How the training images of a probe become samples; nil unless the method is the probe.
    public var probeAugmentation: ProbeAugmentation?
    /// Maximum norm of the gradient; nil: gradients are not clipped.
    public var clipGradient: Float?
    /// Decay of an exponential moving average of the weights, which is evaluated and written in their place; nil: none.
    public var averageDecay: Double?
    /// Whether images are first turned upright, as their EXIF or XMP says.
    public var appliesOrientation: Bool
    /// The colour under transparent images.
    public var background: Background
    /// What 16-bit grey becomes.
    public var grey16: Grey16
    /// How pictures become samples: mean and deviation, filter, and the crop of evaluations. Nil for
    /// `Preprocessing.imageNet`, as in runs that do not state it.
    public var preprocessing: Preprocessing?
    /// Fraction of unreadable images above which the run stops.
    public var unreadableLimit: Double
    /// Optimiser steps between checkpoints; 0 means the steps of one epoch.
    public var checkpointEvery: Int
    /// Number of checkpoints kept, the newest ones.
    public var keep: Int
    /// Whether the run writes event files for TensorBoard; nil for no, as in runs that do not state it.
    public var tensorboard: Bool?

    public init(
        method: Method, recipe: String, model: ModelConfiguration?, data: ImagePlaces, teacher: String?, batch: Int,
        accumulation: Int, epochs: Double, warmupEpochs: Double, baseLearningRate: Double, minimumLearningRate: Double,
        optimizer: Optimizer, precision: Precision = .f32, teacherPrecision: TeacherPrecision = .same, seed: UInt64 = 0,
        minimumCropArea: Double = 0.2, maximumCropArea: Double = 1,
        reading: PictureReading = PictureReading(), preprocessing: Preprocessing? = nil,
        unreadableLimit: Double = UnreadableLimit.standard,
        checkpointEvery: Int = 0,
        keep: Int = 2
    ) {
        self.method = method
        self.recipe = recipe
        self.model = model
        self.data = data
        self.teacher = teacher
        self.batch = batch
        self.accumulation = accumulation
        self.epochs = epochs
        self.warmupEpochs = warmupEpochs
        self.baseLearningRate = baseLearningRate
        self.minimumLearningRate = minimumLearningRate
        self.optimizer = optimizer
        self.precision = precision
        self.teacherPrecision = teacherPrecision
        self.seed = seed
        self.minimumCropArea = minimumCropArea
        self.maximumCropArea = maximumCropArea
        appliesOrientation = reading.appliesOrientation
        background = reading.background
        grey16 = reading.grey16
        self.preprocessing = preprocessing
        self.unreadableLimit = unreadableLimit
        self.checkpointEvery = checkpointEvery
        self.keep = keep
    }

    /// The paths of all images: those that are learned, and those of evaluations.
    public var imagePaths: [String] {
        data.paths + (validation?.paths ?? []) + (neighbors.map { $0.train.paths + $0.validation.paths } ?? [])
    }

    /// Images per optimiser step.
    public var effectiveBatch: Int { batch * accumulation }

    /// The highest learning rate of the schedule: base learning rate · effective batch / 256.
    public var peakLearningRate: Double { baseLearningRate * Double(effectiveBatch) / 256 }

    /// Optimiser steps of the whole run over `images` images. The remainder of an epoch goes into the next one; only
    /// the remainder at the end of the run is dropped.
    public func steps(images: Int) -> Int { Int(epochs * Double(images) / Double(effectiveBatch)) }

    /// Epochs done after `step` optimiser steps, with their fraction.
    public func epoch(step: Int, images: Int) -> Double { Double(step) * Double(effectiveBatch) / Double(images) }

    /// The encoder that is trained, or that a frozen encoder's features come from.
    public var trainedEncoder: EncoderConfiguration {
        guard let encoder = model?.student ?? classifier?.encoder else {
            preconditionFailure("a configuration has a model or a classifier")
        }
        return encoder
    }

    /// The encoder of the frozen weights; nil without any.
    var frozenEncoder: EncoderConfiguration? {
        method == .probe ? classifier?.encoder : model?.teacher ?? classifier?.teacher?.encoder
    }

    /// The tensors that a run trains and writes.
    public var layout: ModelLayout {
        if let model { return ModelLayout(model) }
        return method == .probe ? ModelLayout(probing: classifier!) : ModelLayout(classifier!)
    }

    /// How image files become pictures.
    public var reading: PictureReading {
        PictureReading(appliesOrientation: appliesOrientation, background: background, grey16: grey16)
    }

    /// How training images become samples.
    public var augmentation: Augmentation {
        if probeAugmentation == ProbeAugmentation.none { return validationAugmentation }
        let size = trainedEncoder
        let area = minimumCropArea...maximumCropArea, aspect = 3.0 / 4...4.0 / 3
        return Augmentation(
            width: size.imageWidth, height: size.imageHeight, channels: size.channels,
            framing: method == .probe
                ? .randomOnce(area: area, aspect: aspect, flip: 0.5) : .random(area: area, aspect: aspect, flip: 0.5),
            randAugment: randAugment, erasing: erasing, preprocessing: preprocessing, reading: reading)
    }

    /// How validation images become samples.
    public var validationAugmentation: Augmentation {
        let size = trainedEncoder
        return Augmentation(
            width: size.imageWidth, height: size.imageHeight, channels: size.channels, framing: .centre,
            preprocessing: preprocessing, reading: reading)
    }

    /// The objective of the method. All its memory is planned.
    ///
    /// - Throws: `Failure.usage` where the configuration does not fit together.
    func objective(plan: MemoryPlan) throws -> any Objective {
        let keepsGradients = accumulation > 1 || clipGradient != nil
        if let classifier {
            return try Classifier(
                classifier, batch: batch, seed: seed, plan: plan,
                .init(precision: precision, keepsGradients: keepsGradients))
        }
        return try model!.objective(
            batch: batch, seed: seed, plan: plan,
            .init(precision: precision, teacherPrecision: teacherPrecision, keepsGradients: keepsGradients))
    }

    /// - Throws: `Failure.usage`, naming the field that does not fit.
    public func validate() throws {
        precondition((model == nil) != (classifier == nil), "a run trains a masked autoencoder or a classifier")
        try model?.validate()
        try classifier?.validate()
        func check(_ condition: Bool, _ message: @autoclosure () -> Message) throws {
            if !condition { throw Failure(.usage, message()) }
        }
        try check(
            trainedEncoder.channels == 1 || trainedEncoder.channels == 3,
            "image files give 1 or 3 channels, not \(trainedEncoder.channels): use \(.channels, 1) or 3")
        if let count = preprocessing?.normalisation.mean.count {
            try check(
                count == trainedEncoder.channels,
                "\(.mean) and \(.std) are for \(count) channel\(count == 1 ? "" : "s"), but the images have "
                    + "\(trainedEncoder.channels)")
        }
        try check(
            precision != .int8,
            "\(.precision) is f32 or bf16: int8 is for a frozen teacher alone, by \(.teacherPrecision, "int8")")
        try check(
            teacherPrecision == .same || model?.teacher != nil,
            "\(.teacherPrecision) is for a run with a teacher: leave it out")
        try Field.batch.requireAtLeast(1, batch)
        try check(accumulation >= 1, "\(.effectiveBatch) must be at least \(.batch)")
        if let groups {
            try check(
                method != .probe,
                "\(.groups) is not for the probe, whose BatchNorm follows all batches in order: leave it "
                    + "out")
            try check(groups >= 2 && groups & (groups - 1) == 0, "\(.groups) must be a power of two")
            try check(
                accumulation % groups == 0,
                "\(.effectiveBatch, effectiveBatch) is not a multiple of \(.groups, groups) times \(.batch, batch): "
                    + "choose them so that every group has whole batches")
        }
        try check(epochs > 0 && epochs <= 1e9, "\(.epochs) must be above 0 and at most 1000000000")
        try check(warmupEpochs >= 0 && warmupEpochs.isFinite, "\(.warmupEpochs) must be at least 0 and finite")
        try check(
            warmupEpochs <= epochs,
            "\(.warmupEpochs, warmupEpochs) is more than the \(Format.shortest(epochs)) epochs of the run: lower it, or "
                + "raise \(.epochs)"
        )
        try check(
            baseLearningRate >= 0 && baseLearningRate.isFinite, "\(.baseLearningRate) must be at least 0 and finite")
        try check(
            Float(peakLearningRate).isFinite,
            "\(.baseLearningRate, baseLearningRate) for an effective batch of \(effectiveBatch) is more than float32 "
                + "holds: "
                + "lower it")
        try check(
            minimumLearningRate >= 0 && Float(minimumLearningRate).isFinite,
            "\(.minimumLearningRate) must be at least 0 and no more than float32 holds")
        try check(
            Float(minimumLearningRate) <= Float(peakLearningRate),
            "\(.minimumLearningRate, minimumLearningRate) is more than the peak of \(peakLearningRate), "
                + "\(.baseLearningRate, baseLearningRate) · effective batch \(effectiveBatch) / 256: lower it, or "
                + "raise "
                + "\(.baseLearningRate)")
        try check(
            optimizer.weightDecay >= 0 && optimizer.weightDecay.isFinite,
            "\(.weightDecay) must be at least 0 and finite")
        // AdamW multiplies weights by 1 - rate · decay: below 0 they change their signs, below -1 they grow without end.
        // A rate above 1 is at fault itself.
        try check(
            min(1, peakLearningRate) * Double(optimizer.weightDecay) <= 1,
            "\(.weightDecay, optimizer.weightDecay) times the peak learning rate of \(Float(peakLearningRate)) is more "
                + "than 1, so that a step takes more from a weight than it has: lower \(.weightDecay)")
        try check((0..<1).contains(optimizer.beta1), "\(.beta1) must be at least 0 and below 1")
        try check((0..<1).contains(optimizer.beta2), "\(.beta2) must be at least 0 and below 1")
        try check(optimizer.epsilon > 0 && optimizer.epsilon.isFinite, "\(.epsilon) must be above 0 and finite")
        try check(
            optimizer.algorithm == .adamW || optimizer.weightDecay == 0,
            "\(.weightDecay) is of AdamW: leave it out, as LARS has none")
        try check(
            (0..<1).contains(optimizer.momentum) && optimizer.trust > 0 && optimizer.trust.isFinite,
            "LARS needs a momentum of at least 0 and below 1, and a trust coefficient above 0")
        try check(
            minimumCropArea > 0 && minimumCropArea <= maximumCropArea && maximumCropArea <= 1,
            "\(.minimumCropArea) must be above 0 and at most \(.maximumCropArea), which is at most 1")
        if let evaluateEvery {
            try check(
                evaluateEvery > 0 && evaluateEvery.isFinite, "\(.evaluateEvery) must be above 0 and finite")
        }
        if let probability = erasing?.probability {
            try check((0...1).contains(probability), "\(.erasing) is a probability from 0 to 1")
        }
        if mixing != nil {
            try check(
                batch % 2 == 0,
                "\(.mixup) and \(.cutmix) mix pairs of images, so \(.batch, batch) must be even: choose an even one, or "
                    + "set both to 0")
        }
        if let shuffleWindow {
            try Field.shuffleWindow.requireAtLeast(2, shuffleWindow)
            try check(
                probeAugmentation != ProbeAugmentation.none,
                "\(.shuffleWindow) has no effect on features that are computed once: leave it out")
        }
        if let clipGradient {
            try check(clipGradient > 0 && clipGradient.isFinite, "\(.clipGradient) must be above 0 and finite")
        }
        if let averageDecay { try check(averageDecay > 0 && averageDecay < 1, "\(.ema) must be above 0 and below 1") }
        try check((0...1).contains(unreadableLimit), "\(.unreadableLimit) is a fraction from 0 to 1")
        if let neighbors {
            try check(
                neighbors.everyEpochs > 0 && neighbors.everyEpochs.isFinite, "\(.neighborEvery) must be above 0")
        }
        try Field.checkpointEvery.requireAtLeast(0, checkpointEvery)
        try Field.keep.requireAtLeast(1, keep)
    }
}
