import Reporting
import Tensors

/// How the logits of a teacher are distilled: total = (1 - weight) · classification + weight · distillation.
public struct LogitDistillation: Codable, Equatable, Sendable {
    /// Weight of the distillation loss, 0 to 1.
    public var weight: Double
    /// Temperature T. The distillation loss is T²·KL(teacher ‖ student) of the softmax of logits / T, averaged over the
    /// batch. (DeiT's program divides by batch × classes, so its weight means something else.)
    public var temperature: Double
    /// Whether the distillation loss is the cross-entropy with the teacher's most probable class instead.
    public var isHard: Bool

    public init(weight: Double, temperature: Double, isHard: Bool = false) {
        self.weight = weight
        self.temperature = temperature
        self.isHard = isHard
    }

    /// - Throws: `Failure.usage` on the first value that does not fit.
    public func validate() throws {
        guard (0...1).contains(weight) else {
            throw Failure(.usage, "\(.teacherWeight) must be from 0 to 1, not \(weight)")
        }
        guard temperature > 0, temperature.isFinite else {
            throw Failure(.usage, "\(.temperature) must be above 0, not \(temperature)")
        }
    }
}

/// Everything that decides the result of a fine-tuning step, besides the optimiser.
public struct ClassifierConfiguration: Codable, Equatable, Sendable {
    /// A fine-tuned classifier of the same classes whose logits are distilled.
    public struct Teacher: Codable, Equatable, Sendable {
        /// Image size and channels must equal the student's; patches may be of another size.
        public var encoder: EncoderConfiguration
        public var pool: ClassifierPool
        /// See `LogitDistillation`, as for the next two.
        public var weight: Double
        public var temperature: Double
        public var isHard: Bool

        public init(
            encoder: EncoderConfiguration, pool: ClassifierPool, weight: Double, temperature: Double,
            isHard: Bool = false
        ) {
            self.encoder = encoder
            self.pool = pool
            self.weight = weight
            self.temperature = temperature
            self.isHard = isHard
        }

        /// How the logits are distilled.
        public var distillation: LogitDistillation {
            LogitDistillation(weight: weight, temperature: temperature, isHard: isHard)
        }
    }

    public var encoder: EncoderConfiguration
    /// Number of classes.
    public var classes: Int
    public var pool: ClassifierPool
    /// Drop path rate of the last block, at least 0 and below 1. That of block i is linspace(0, rate, depth)[i].
    public var dropPath: Double
    /// Layer-wise decay of the learning rate, above 0 and at most 1: the rate of layer i is multiplied by
    /// decay^(depth + 1 - i); see `layer(of:)`.
    public var layerDecay: Double
    /// Label smoothing, at least 0 and below 1: the target of every class is smoothing / classes, that of the label
    /// 1 - smoothing more.
    public var smoothing: Double
    /// Nil without a teacher.
    public var teacher: Teacher?

    public init(
        encoder: EncoderConfiguration, classes: Int, pool: ClassifierPool, dropPath: Double = 0, layerDecay: Double = 1,
        smoothing: Double = 0, teacher: Teacher? = nil
    ) {
        self.encoder = encoder
        self.classes = classes
        self.pool = pool
        self.dropPath = dropPath
        self.layerDecay = layerDecay
        self.smoothing = smoothing
        self.teacher = teacher
    }

    /// - Throws: `Failure.usage` on the first value that does not fit.
    public func validate() throws {
        try encoder.validate(role: "encoder")
        guard (1...1 << 20).contains(classes) else {
            throw Failure(.usage, "a classifier needs 1 to \(1 << 20) classes, not \(classes)")
        }
        guard (0..<1).contains(dropPath) else {
            throw Failure(.usage, "\(.dropPath) must be at least 0 and below 1, not \(dropPath)")
        }
        guard layerDecay > 0, layerDecay <= 1 else {
            throw Failure(.usage, "\(.layerDecay) must be above 0 and at most 1, not \(layerDecay)")
        }
        guard (0..<1).contains(smoothing) else {
            throw Failure(.usage, "\(.smoothing) must be at least 0 and below 1, not \(smoothing)")
        }
        guard let teacher else { return }
        try teacher.distillation.validate()
        try teacher.encoder.validate(role: "teacher")
        let size = teacher.encoder
        guard size.channels == encoder.channels, size.imageSize == encoder.imageSize else {
            throw Failure(
                .usage,
                "teacher and student must see the same images: the teacher's are \(size.imageHeight)×\(size.imageWidth) "
                    + "with \(size.channels) channels, the student's \(encoder.imageHeight)×\(encoder.imageWidth) with "
                    + "\(encoder.channels): fit \(.imageSize) and \(.channels) to the teacher")
        }
    }

    // MARK: The optimiser's data

    /// The layer of a parameter, for layer-wise decay: 0 for class token, position table and patch projection, i + 1
    /// for block i, depth + 1 for norm and head.
    public func layer(of name: String) -> Int {
        switch ModelPart(of: name) {
        case .embedding: return 0
        case .blocks:
            let words = name.split(separator: ".")
            return 1 + (words.count > 1 ? Int(words[1]) ?? 0 : 0)
        default: return encoder.depth + 1
        }
    }

    /// How the optimiser updates the parameter of this name and shape. Vectors, class token and position table do not
    /// decay.
    public func update(of name: String, _ shape: [Int]) -> Parameters.Update {
        var scale = 1.0
        for _ in layer(of: name)..<encoder.depth + 1 { scale *= layerDecay }
        return Parameters.Update(
            decays: shape.count > 1 && name != "cls_token" && !ModelLayout.isPositionTable(name),
            rateScale: Float(scale))
    }
}

extension ModelLayout {
    /// The tensors of a classifier: those that a fine-tuning run trains and writes.
    public init(_ configuration: ClassifierConfiguration) {
        let encoder = configuration.encoder
        self =
            Self.encoder(encoder, norms: [configuration.pool.norm])
            + Self.classHead(width: encoder.width, classes: configuration.classes)
    }
}
