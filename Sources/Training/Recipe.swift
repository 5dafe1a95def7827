import Models

/// The method of a training run.
public enum Method: String, Codable, Sendable {
    /// MAE's pre-training: the reconstruction loss alone.
    case pretrain
    /// DMAE's distillation: the reconstruction loss, and the alignment with a teacher's features.
    case distill
    /// Fine-tuning of a classifier.
    case finetune
    /// MAE's linear probe of a frozen encoder.
    case probe
}

/// Values for runs of one method, as published or made for the demo. A user may override each value.
public struct Recipe: Sendable {
    /// The name of the recipe, such as "paper".
    public let name: String
    /// One line for the help screen.
    public let summary: String
    public let method: Method
    /// Name of the student's preset.
    public var student: String
    /// Name of the teacher's preset; nil if the method has no teacher.
    public var teacher: String?
    /// Name of the decoder's preset.
    public var decoder: String
    /// Side of the square training images, in pixels.
    public var imageSize: Int
    /// Fraction of the patches that are removed.
    public var maskRatio: Double
    /// Whether each target patch is standardised.
    public var normalizePixels: Bool
    /// The alignment losses; no pairs for pre-training.
    public var alignment: AlignmentConfiguration
    /// Images per optimiser step.
    public var effectiveBatch: Int
    /// Images per forward and backward pass.
    public var batch: Int
    /// Learning rate per 256 images of effective batch.
    public var baseLearningRate: Double
    /// Learning rate at the end of the run.
    public var minimumLearningRate: Double
    /// Length of the run and of its warm-up, in epochs.
    public var epochs: Double
    public var warmupEpochs: Double
    public var optimizer: Optimizer
    /// Minimum and maximum fraction of an image's area that RandomResizedCrop takes.
    public var cropArea: ClosedRange<Double>

    /// All recipes, in the order of the help screen.
    public static let all: [Recipe] = [.paper, .mae, .demo, .demoTeacher]

    /// The recipe called `name` for `method`, or nil.
    public static func named(_ name: String, for method: Method) -> Recipe? {
        all.first { $0.name == name && $0.method == method }
    }
}
