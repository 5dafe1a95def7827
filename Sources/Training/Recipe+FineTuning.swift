import Images
import Models

/// The values that the recipes of all methods have.
public protocol TrainingRecipe: Sendable {
    /// The name of the recipe, such as "paper".
    var name: String { get }
    /// One line for the help screen.
    var summary: String { get }
    var method: Method { get }
    /// Images per optimiser step.
    var effectiveBatch: Int { get }
    /// Images per forward and backward pass.
    var batch: Int { get }
    /// Learning rate per 256 images of effective batch.
    var baseLearningRate: Double { get }
    /// Learning rate at the end of the run.
    var minimumLearningRate: Double { get }
    /// Length of the run and of its warm-up, in epochs.
    var epochs: Double { get }
    var warmupEpochs: Double { get }
    var optimizer: Optimizer { get }
    /// Minimum and maximum fraction of an image's area that RandomResizedCrop takes.
    var cropArea: ClosedRange<Double> { get }
}

extension Recipe: TrainingRecipe {}

/// Values for fine-tuning. A user may override each value.
public struct FineTuningRecipe: TrainingRecipe {
    public let name: String
    public let summary: String
    public let method = Method.finetune
    /// Name of the preset that is trained without a file of weights.
    public var student = "vit-base"
    /// Side of the square training images without a file of weights, in pixels.
    public var imageSize = 224
    public var pool = ClassifierPool.mean
    public var effectiveBatch = 1024
    public var batch = 32
    public var baseLearningRate: Double
    public var minimumLearningRate = 1e-6
    public var epochs: Double
    public var warmupEpochs: Double
    public var optimizer = Optimizer(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.05)
    public var cropArea = 0.08...1.0
    /// Layer-wise decay of the learning rate.
    public var layerDecay: Double
    /// Drop path rate of the last block.
    public var dropPath: Double
    /// Label smoothing.
    public var smoothing = 0.1
    public var randAugment: RandAugment? = RandAugment()
    /// Probability of random erasing.
    public var erasing = 0.25
    /// α of mixup and of CutMix; 0 switches one off.
    public var mixup = 0.8
    public var cutmix = 1.0

    /// All recipes, in the order of the help screen.
    public static let all: [FineTuningRecipe] = [.base, .baseDMAE, .large, .huge, .smallData]

    /// The recipe called `name`, or nil.
    public static func named(_ name: String) -> FineTuningRecipe? { all.first { $0.name == name } }
}
