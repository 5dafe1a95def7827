/// A setting that a message can name. A field does not say where it is set: a `Vocabulary` renders it as a flag of the
/// command line or as a key of a description.
///
/// The raw value is the field in plain words. A flag of the command line has the same words, joined by hyphens.
public enum Field: String, CaseIterable, Codable, Sendable {
    // Commands
    case method
    case recipe

    // Files
    case data
    case train
    case validation = "val"
    case weights
    case teacher
    case prefix
    case teacherPrefix = "teacher prefix"
    case fromScratch = "from scratch"
    case initialStudent = "init student"
    case output
    case logits
    case resume
    case weightType = "dtype"
    case form = "to"
    case encoderOnly = "encoder only"

    // Sizes of the models
    case imageSize = "image size"
    case patchSize = "patch size"
    case channels
    case width
    case depth
    case heads
    case decoderWidth = "decoder width"
    case decoderDepth = "decoder depth"
    case decoderHeads = "decoder heads"
    case teacherModel = "teacher model"
    case teacherWidth = "teacher width"
    case teacherDepth = "teacher depth"
    case teacherHeads = "teacher heads"

    // The objective
    case maskRatio = "mask ratio"
    case predictRatio = "predict ratio"
    case reconstructionWeight = "reconstruction weight"
    case teacherMaskRatio = "teacher mask ratio"
    case mask
    case normalizePixels = "normalize pixels"
    case align
    case alignmentDistance = "alignment distance"
    case alignmentWeight = "alignment weight"
    case projection
    case dropPath = "drop path"
    case layerDecay = "layer decay"
    case smoothing
    case teacherWeight = "teacher weight"
    case temperature
    case hardTeacher = "hard teacher"

    // The schedule and the optimiser
    case batch
    case effectiveBatch = "effective batch"
    case groups
    case exchange
    case epochs
    case warmupEpochs = "warmup epochs"
    case baseLearningRate = "base learning rate"
    case minimumLearningRate = "minimum learning rate"
    case weightDecay = "weight decay"
    case beta1
    case beta2
    case epsilon
    case clipGradient = "clip gradient"
    case ema
    case seed
    case steps

    // The images
    case shuffleWindow = "shuffle window"
    case minimumCropArea = "minimum crop area"
    case maximumCropArea = "maximum crop area"
    case augment
    case randAugment = "rand augment"
    case erasing
    case mixup
    case cutmix
    case storedOrientation = "stored orientation"
    case background
    case grey16
    case mean
    case std
    case interpolation
    case cropFraction = "crop fraction"
    case unreadableLimit = "unreadable limit"

    // The arithmetic
    case threads
    case allowMixedIsa = "allow mixed isa"
    case peerTimeout = "peer timeout"
    case precision
    case teacherPrecision = "teacher precision"

    // The checkpoints
    case evaluateEvery = "evaluate every"
    case checkpointEvery = "checkpoint every"
    case keep

    // The classes
    case classMap = "class map"

    // The features
    case pool
    case block
    case neighbors = "k"
    case neighborTrain = "knn train"
    case neighborValidation = "knn val"
    case neighborEvery = "knn every"
    case noBaselines = "no baselines"
    case compare
}

extension Field {
    /// - Throws: `Failure.usage` where `value` is below `minimum`.
    public func requireAtLeast(_ minimum: Int, _ value: Int) throws {
        guard value >= minimum else { throw Failure(.usage, "\(self) must be at least \(minimum)") }
    }
}
