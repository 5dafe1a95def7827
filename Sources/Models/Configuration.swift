import Reporting
import Tensors

/// The sizes of a Vision Transformer encoder over fixed-size images.
public struct EncoderConfiguration: Codable, Equatable, Sendable {
    /// Embedding width D.
    public var width: Int
    /// Transformer blocks.
    public var depth: Int
    /// Attention heads; must divide the width.
    public var heads: Int
    /// Side p of a square patch, in pixels.
    public var patchSize: Int
    /// Image height and width in pixels; multiples of the patch size.
    public var imageHeight: Int
    public var imageWidth: Int
    /// Input channels C.
    public var channels: Int

    public init(
        width: Int, depth: Int, heads: Int, patchSize: Int, imageHeight: Int, imageWidth: Int, channels: Int = 3
    ) {
        self.width = width
        self.depth = depth
        self.heads = heads
        self.patchSize = patchSize
        self.imageHeight = imageHeight
        self.imageWidth = imageWidth
        self.channels = channels
    }

    /// Image height and width in pixels.
    public var imageSize: ImageSize { ImageSize(height: imageHeight, width: imageWidth) }
    /// Rows and columns of the patch grid.
    public var gridRows: Int { imageHeight / patchSize }
    public var gridColumns: Int { imageWidth / patchSize }
    /// Patches L of one image.
    public var patches: Int { gridRows * gridColumns }
    /// Values p·p·C of one patch.
    public var patchElements: Int { patchSize * patchSize * channels }

    /// Refuses sizes with which nothing can be computed, not even other sizes.
    ///
    /// - Throws: `Failure.usage`; `role` is "student" or "teacher".
    public func requireComputable(role: String) throws {
        try requirePositive(
            role: role,
            [
                "width": width, "depth": depth, "number of heads": heads, "patch size": patchSize,
                "number of channels": channels,
            ])
        try requireSupported(
            role: role, ["width": width, "patch size": patchSize, "image size": max(imageHeight, imageWidth)],
            depth: depth)
        guard channels <= 1024 else {
            throw Failure(
                .usage, "\(role): \(channels) channels are more than the 1024 supported: lower their number")
        }
    }

    /// - Throws: `Failure.usage`, naming the sizes that do not fit together; `role` is "student" or "teacher".
    public func validate(role: String) throws {
        func check(_ condition: Bool, _ message: @autoclosure () -> Message) throws {
            if !condition { throw Failure(.usage, "\(role): \(message())") }
        }
        try requireComputable(role: role)
        try check(
            width % heads == 0, "\(heads) heads do not divide the width \(width): choose a number of heads that does")
        try check(
            width % 4 == 0,
            "the width \(width) is not a multiple of 4, which the sin-cos position table needs: choose one that is")
        try check(
            imageHeight > 0 && imageWidth > 0 && imageHeight % patchSize == 0 && imageWidth % patchSize == 0,
            "patches of \(patchSize) pixels do not tile an image of \(imageHeight)×\(imageWidth): choose an "
                + "\(.imageSize) that "
                + "is a multiple of \(patchSize)")
    }
}

/// Refuses a size below 1. `sizes` maps the name of a size in messages to its value.
private func requirePositive(role: String, _ sizes: KeyValuePairs<String, Int>) throws {
    for (name, size) in sizes where size < 1 {
        throw Failure(.usage, "\(role): the \(name) must be at least 1, not \(size)")
    }
}

/// Refuses sizes above a limit, so that no later multiplication of sizes overflows 64 bits.
private func requireSupported(role: String, _ sizes: KeyValuePairs<String, Int>, depth: Int) throws {
    let maximum = 1 << 20, maximumDepth = 4096
    for (name, size) in sizes where size > maximum {
        throw Failure(.usage, "\(role): \(name) \(size) is more than the \(maximum) supported: lower it")
    }
    guard depth <= maximumDepth else {
        throw Failure(
            .usage, "\(role): \(depth) blocks are more than the \(maximumDepth) supported: lower their number")
    }
}

extension EncoderConfiguration {
    /// - Throws: `Failure.usage` if the bytes of the weights and of the activations of `batch` images may overflow 64
    ///   bits. `MemoryPlan.commit` checks later whether this machine has enough memory.
    func requireCountable(batch: Int, decoder: DecoderConfiguration? = nil) throws {
        func values(_ width: Int, _ depth: Int) -> Double {
            let width = Double(width)
            return Double(depth + 1) * (Double(batch) * Double(patches + 1) + width) * 32 * width
        }
        var count = values(width, depth) + Double(batch) * Double(patches + 1) * Double(patchElements)
        count += 4 * Double(patchElements) * Double(width)
        if let decoder {
            count += values(decoder.width, decoder.depth) + 4 * Double(patchElements) * Double(decoder.width)
        }
        // Attention scores of one head in the backward pass, for each thread.
        count += 1024 * Double(patches + 1) * Double(patches + 1)
        guard count < 0x1p56 else {
            throw Failure(
                .usage,
                "batches of \(batch) images of \(imageHeight)×\(imageWidth) pixels need more memory than any machine "
                    + "has: lower "
                    + "\(.batch), or the sizes of image and model")
        }
    }
}

/// The sizes of MAE's decoder.
public struct DecoderConfiguration: Codable, Equatable, Sendable {
    /// Width E.
    public var width: Int
    public var depth: Int
    public var heads: Int

    public init(width: Int, depth: Int, heads: Int) {
        self.width = width
        self.depth = depth
        self.heads = heads
    }

    /// - Throws: `Failure.usage`, naming the sizes that do not fit together.
    public func validate() throws {
        try requirePositive(role: "decoder", ["width": width, "depth": depth, "number of heads": heads])
        try requireSupported(role: "decoder", ["width": width], depth: depth)
        guard width % heads == 0 else {
            throw Failure(
                .usage, "decoder: \(heads) heads do not divide the width \(width): choose a number of heads that does")
        }
        guard width % 4 == 0 else {
            throw Failure(
                .usage,
                "decoder: the width \(width) is not a multiple of 4, which the sin-cos position table needs: choose "
                    + "one that is"
            )
        }
    }
}

/// A student block and a teacher block, counted from 0, whose outputs the distillation aligns.
public struct AlignedPair: Codable, CustomStringConvertible, Equatable, Sendable {
    public var studentBlock: Int
    public var teacherBlock: Int

    public init(studentBlock: Int, teacherBlock: Int) {
        self.studentBlock = studentBlock
        self.teacherBlock = teacherBlock
    }

    /// "8:17".
    public var description: String { "\(studentBlock):\(teacherBlock)" }
}

/// The distance between features.
public enum AlignmentDistance: String, Codable, CaseIterable, Sendable {
    /// Mean absolute difference.
    case l1 = "L1"
    /// Mean squared difference.
    case l2 = "L2"
}

/// The projection of student features from width Ds to the teacher's width Dt.
public enum Projection: String, Codable, CaseIterable, Sendable {
    /// Raw features are compared; the widths must be equal.
    case none
    /// Linear Ds→Dt; features are compared on the unit sphere.
    case linear
    /// Ds→Dt→Dt with GELU; features are compared on the unit sphere.
    case mlp
}

/// The alignment losses: pairs of blocks, distance, projection and weight.
public struct AlignmentConfiguration: Codable, Equatable, Sendable {
    /// The aligned pairs, each with its own loss and projection head.
    public var pairs: [AlignedPair]
    /// The distance of all pairs.
    public var distance: AlignmentDistance
    /// The projection of all pairs.
    public var projection: Projection
    /// Weight α of the alignment losses in the total.
    public var weight: Float

    public init(
        pairs: [AlignedPair], distance: AlignmentDistance = .l1, projection: Projection = .linear, weight: Float = 1
    ) {
        self.pairs = pairs
        self.distance = distance
        self.projection = projection
        self.weight = weight
    }
}

/// Everything that decides the result of a training step. Without a teacher it is MAE's pre-training.
public struct ModelConfiguration: Encodable, Equatable, Sendable {
    /// The encoder that is trained.
    public var student: EncoderConfiguration
    /// The decoder behind the student.
    public var decoder: DecoderConfiguration
    /// Nil without a teacher. Patch size, image size and channels must equal the student's.
    public var teacher: EncoderConfiguration?
    /// The alignment losses; no pairs without a teacher.
    public var alignment: AlignmentConfiguration
    /// Fraction of the patches that are removed.
    public var maskRatio: Double
    /// Whether each target patch is standardised (MAE's `norm_pix_loss`).
    public var normalizePixels: Bool
    /// Fraction of the removed patches that the decoder predicts. MAE and DMAE predict all of them.
    public var predictRatio: Double
    /// Weight of the reconstruction loss in the total; 0: there is no decoder.
    public var reconstructionWeight: Float
    /// Fraction of the patches that are removed from the teacher's view; nil: the student's.
    public var teacherMaskRatio: Double?

    public init(
        student: EncoderConfiguration, decoder: DecoderConfiguration, teacher: EncoderConfiguration? = nil,
        alignment: AlignmentConfiguration = AlignmentConfiguration(pairs: []), maskRatio: Double = 0.75,
        normalizePixels: Bool = false, predictRatio: Double = 1, reconstructionWeight: Float = 1,
        teacherMaskRatio: Double? = nil
    ) {
        self.student = student
        self.decoder = decoder
        self.teacher = teacher
        self.alignment = alignment
        self.maskRatio = maskRatio
        self.normalizePixels = normalizePixels
        self.predictRatio = predictRatio
        self.reconstructionWeight = reconstructionWeight
        self.teacherMaskRatio = teacherMaskRatio
    }

    /// Visible patches K: int(L·(1 - ratio)) in double precision, truncated as in Python.
    public var keptPatches: Int { keptPatches(maskRatio) }
    /// Patches that the teacher sees: int(L·(1 - ratio)), at least K. The student's are the first K of them.
    public var teacherKeptPatches: Int { keptPatches(teacherMaskRatio ?? maskRatio) }
    private func keptPatches(_ ratio: Double) -> Int { Int(Double(student.patches) * (1 - ratio)) }

    /// Removed patches P that the decoder predicts: int(ratio · removed), at least 1 if a patch is removed.
    ///
    /// - Parameter kept: kept patches of an image; nil: computed from the mask ratio.
    public func predictedPatches(kept: Int? = nil) -> Int {
        let removed = student.patches - (kept ?? keptPatches)
        return min(removed, max(1, Int(predictRatio * Double(removed))))
    }

    /// Whether there is a decoder.
    public var hasDecoder: Bool { reconstructionWeight > 0 }

    /// Student blocks that run: all of them, or those up to the last aligned one if there is no decoder.
    public var studentBlocks: Int {
        hasDecoder ? student.depth : (alignment.pairs.map(\.studentBlock).max() ?? student.depth - 1) + 1
    }

    /// The last aligned teacher block, after which the teacher stops; nil without a teacher.
    public var lastTeacherBlock: Int? { teacher == nil ? nil : alignment.pairs.map(\.teacherBlock).max() }

    /// - Throws: `Failure.usage` on the first value that does not fit.
    public func validate() throws {
        try student.validate(role: "student")
        try decoder.validate()
        guard maskRatio >= 0, maskRatio < 1 else {
            throw Failure(
                .usage, "\(.maskRatio, maskRatio) is not a fraction of the patches: it must be at least 0 and below 1")
        }
        guard predictRatio > 0, predictRatio <= 1 else {
            throw Failure(
                .usage,
                "\(.predictRatio, predictRatio) is not a share of the removed patches: it must be above 0 and at most 1"
            )
        }
        guard reconstructionWeight >= 0, reconstructionWeight.isFinite else {
            throw Failure(.usage, "\(.reconstructionWeight) must be at least 0 and finite")
        }
        guard hasDecoder || lastTeacherBlock != nil else {
            throw Failure(
                .usage,
                "\(.reconstructionWeight, reconstructionWeight) leaves no loss to minimise without an aligned pair: "
                    + "raise it")
        }
        guard hasDecoder || predictRatio == 1 else {
            throw Failure(
                .usage,
                "\(.predictRatio) has no effect with \(.reconstructionWeight, reconstructionWeight), which leaves out the "
                    + "decoder: leave it out")
        }
        guard student.patches > 1 else {
            throw Failure(
                .usage,
                "an image of \(student.imageHeight)×\(student.imageWidth) has one patch of \(student.patchSize) "
                    + "pixels, too few to "
                    + "remove some and keep some: lower \(.patchSize), or raise \(.imageSize)")
        }
        guard keptPatches >= 1 else {
            throw Failure(
                .usage, "\(.maskRatio, maskRatio) leaves none of the \(student.patches) patches visible: lower it")
        }
        guard keptPatches < student.patches else {
            throw Failure(
                .usage,
                "\(.maskRatio, maskRatio) removes none of the \(student.patches) patches, so there is nothing to "
                    + "reconstruct: "
                    + "raise it")
        }
        guard !normalizePixels || student.patchElements > 1 else {
            throw Failure(
                .usage,
                "\(.normalizePixels) divides by the standard deviation of a patch, which needs more than one value: "
                    + "raise \(.patchSize)"
            )
        }
        guard let teacher else {
            guard alignment.pairs.isEmpty else {
                throw Failure(.usage, "blocks can be aligned only where there is a teacher: leave out \(.align)")
            }
            guard teacherMaskRatio == nil else {
                throw Failure(.usage, "\(.teacherMaskRatio) has no effect without a teacher: leave it out")
            }
            return
        }
        if let ratio = teacherMaskRatio {
            guard ratio >= 0, ratio <= maskRatio else {
                throw Failure(
                    .usage,
                    "\(.teacherMaskRatio, ratio) must be at least 0 and at most \(.maskRatio, maskRatio): the teacher "
                        + "must see the patches that the student sees")
            }
        }
        // Checked before the teacher's own sizes: the teacher gets the student's image size, which its patches may not
        // tile.
        guard teacher.patchSize == student.patchSize || teacher.patchSize < 1 else {
            throw Failure(
                .usage,
                "teacher and student must see the same patches, but the teacher's are of \(teacher.patchSize) pixels "
                    + "and the "
                    + "student's of \(student.patchSize): use \(.patchSize, teacher.patchSize), or another teacher; "
                    + "the size and "
                    + "channels of its own images may differ")
        }
        try teacher.validate(role: "teacher")
        guard teacher.channels == student.channels, teacher.imageHeight == student.imageHeight,
            teacher.imageWidth == student.imageWidth
        else {
            throw Failure(
                .usage,
                "teacher and student must see the same images: the teacher's are "
                    + "\(teacher.imageHeight)×\(teacher.imageWidth) with "
                    + "\(teacher.channels) channels, the student's \(student.imageHeight)×\(student.imageWidth) with "
                    + "\(student.channels): fit \(.imageSize) and \(.channels) to the teacher")
        }
        for (index, pair) in alignment.pairs.enumerated() {
            guard !alignment.pairs[..<index].contains(pair) else {
                throw Failure(
                    .usage,
                    "\(.align, pair) is given twice: give it once"
                )
            }
            guard (0..<student.depth).contains(pair.studentBlock) else {
                throw Failure(
                    .usage,
                    "student block \(pair.studentBlock) does not exist: the student's blocks are 0 to "
                        + "\(student.depth - 1); choose one of them "
                        + "for \(.align)")
            }
            guard (0..<teacher.depth).contains(pair.teacherBlock) else {
                throw Failure(
                    .usage,
                    "teacher block \(pair.teacherBlock) does not exist: the teacher's blocks are 0 to "
                        + "\(teacher.depth - 1); choose one of them "
                        + "for \(.align)")
            }
        }
        if alignment.projection == .none, !alignment.pairs.isEmpty, teacher.width != student.width {
            throw Failure(
                .usage,
                "without a projection the widths must be equal, but the student's is \(student.width) and the "
                    + "teacher's "
                    + "\(teacher.width): use \(.projection, Projection.linear.rawValue)")
        }
    }
}

extension ModelConfiguration: Decodable {
    private enum CodingKeys: CodingKey {
        case student, decoder, teacher, alignment, maskRatio, normalizePixels, predictRatio, reconstructionWeight
        case teacherMaskRatio
    }

    /// The last three values are missing in the weights of earlier versions; they were those of MAE and DMAE.
    public init(from source: any Swift.Decoder) throws {
        let values = try source.container(keyedBy: CodingKeys.self)
        self.init(
            student: try values.decode(EncoderConfiguration.self, forKey: .student),
            decoder: try values.decode(DecoderConfiguration.self, forKey: .decoder),
            teacher: try values.decodeIfPresent(EncoderConfiguration.self, forKey: .teacher),
            alignment: try values.decode(AlignmentConfiguration.self, forKey: .alignment),
            maskRatio: try values.decode(Double.self, forKey: .maskRatio),
            normalizePixels: try values.decode(Bool.self, forKey: .normalizePixels),
            predictRatio: try values.decodeIfPresent(Double.self, forKey: .predictRatio) ?? 1,
            reconstructionWeight: try values.decodeIfPresent(Float.self, forKey: .reconstructionWeight) ?? 1,
            teacherMaskRatio: try values.decodeIfPresent(Double.self, forKey: .teacherMaskRatio))
    }
}
