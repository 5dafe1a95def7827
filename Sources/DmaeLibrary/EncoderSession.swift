import Inference
import Interchange
import Models
import Reporting
import Tensors

// Letters: D width, C classes.

/// An encoder in memory, with its class head where the weights hold one: for a program that brings images as they come,
/// one or many at a time.
///
/// Features and logits have the bits that `Embedding` and `Classification` compute from the same weights and images. They
/// depend neither on the number of images of a call nor on the number of threads. One thread at a time may use it.
final class EncoderSession {
    /// What the caller chooses; what is nil follows the weights.
    struct Settings: Sendable {
        /// Maximum images of a pass.
        var batch = 32
        var precision = Precision.f32
        /// The feature; nil as `Embedding` chooses it.
        var pool: FeaturePool?
        /// The block whose output is the feature, before any norm; nil for the end of the encoder.
        var block: Int?
        var heads: Int?
        var imageSize: ImageSize?

        init() {}
    }

    /// What a call computes.
    enum Result: Sendable {
        case features
        case logits
    }

    /// The encoder's sizes.
    let configuration: EncoderConfiguration
    /// The tokens that a feature is made of.
    let pool: FeaturePool
    /// Floats of the features of one image: D, or (1 + patches) · D for all tokens.
    let featureCount: Int
    /// Outputs of the class head; 0 without one, and if the features are those of a block.
    let classes: Int
    /// How weights were adapted to the images, a phrase each.
    let adaptations: [String]

    private let plan = MemoryPlan()
    /// For passes of 1, 2, 4, … images and of the whole batch, the largest first.
    private let extractors: [FeatureExtractor]
    private let head: Head?

    /// The class head and what it reads.
    private struct Head {
        let pool: FeaturePool
        /// [C, D] and [1, C].
        let weight, bias: Tensor
        /// What the head reads [batch, D]; nil if it reads the features as they are.
        let input: Tensor?
        let logits: Tensor
        let workspace: Workspace
        let precision: Precision
        /// Of a linear probe.
        let batchNorm: ProbeBatchNorm?
    }

    /// Plans the memory and loads the weights. `Threads.count` is that of every later call, too.
    ///
    /// - Throws: `Failure`: `.usage` if a setting does not fit the weights, `.badData` if the weights are incomplete or
    ///   contradict themselves, `.failure` if memory or threads do not suffice.
    init(_ weights: ModelWeights, _ settings: Settings = Settings()) throws {
        try weights.requireKnownParts()
        let hasHead = weights.classes != nil && settings.block == nil
        let classes = hasHead ? try weights.requireHead() : 0
        configuration = try weights.runnableEncoder(
            heads: settings.heads, imageSize: settings.imageSize, resampling: hasHead)
        let feature = try EncoderFeature(
            of: weights.tensors, block: settings.block, pool: settings.pool, for: "an encoder")
        pool = feature.pool
        let headFeature = hasHead ? try EncoderFeature(ofHeadIn: weights) : nil
        // One pass serves both.
        precondition(headFeature == nil || headFeature!.place == feature.place, "a head reads what the last norm gives")
        let headPool = headFeature?.pool
        let sharesPool = headPool == nil || headPool == pool
        let whole = try FeatureExtractor(
            configuration, at: feature.place, pool: sharesPool ? pool : .tokens, batch: settings.batch, plan: plan,
            precision: settings.precision)
        var sizes = Array(sequence(first: 1) { $0 * 2 }.prefix { $0 < settings.batch })
        sizes.reverse()
        extractors = [whole] + sizes.map { FeatureExtractor(sharing: whole, batch: $0) }
        let width = configuration.width
        featureCount = pool == .tokens ? (1 + configuration.patches) * width : width
        self.classes = classes
        if let headPool {
            let batchNorm = weights.isLinearProbe ? try ProbeBatchNorm(weights.tensors) : nil
            head = Head(
                pool: headPool, weight: plan.reserve("head weight", classes, width, .weights),
                bias: plan.reserve("head bias", 1, classes, .weights),
                input: sharesPool && batchNorm == nil
                    ? nil : plan.reserve("head input", settings.batch, width, .activations),
                logits: plan.reserve("logits", settings.batch, classes, .activations),
                workspace: plan.workspace(
                    "head workspace",
                    bytes: extractors.map {
                        Kernels.linearWorkspaceBytes(
                            rows: $0.batch, inputs: width, outputs: classes, precision: settings.precision,
                            activations: .f32)
                    }.max()!,
                    alive: .always),
                precision: settings.precision, batchNorm: batchNorm)
        } else {
            head = nil
        }
        try plan.commit()
        whole.parameters.initializePositions()
        adaptations = try whole.parameters.load(from: weights, for: configuration).adaptations
        if let head, let layer = weights.headLayer {
            try weights.tensors.copyFloats(layer + ".weight", into: head.weight.elements)
            try weights.tensors.copyFloats(layer + ".bias", into: head.bias.elements)
        }
    }

    /// Floats of one image's result.
    func count(of result: Result) -> Int { result == .features ? featureCount : classes }

    /// Computes the features or logits of `count` images.
    ///
    /// - Parameters:
    ///   - output: [count, `count(of: result)`].
    ///   - prepare: called for each pass with the numbers of its images; writes them, normalised, one after another:
    ///     [range.count, C, H, W].
    /// - Throws: `Failure.usage` for logits without a class head, `.failure` if a result is not finite.
    func run(
        _ result: Result, _ count: Int, into output: UnsafeMutablePointer<Float>,
        prepare: (Range<Int>, UnsafeMutablePointer<Float>) -> Void
    ) throws {
        if result == .logits, head == nil {
            throw Failure(
                .usage,
                "the weights hold no class head, or \(.block) leaves it out: use weights with one and no \(.block)")
        }
        let row = self.count(of: result)
        var first = 0
        while first < count {
            let extractor = extractors.first { $0.batch <= count - first }!
            let images = first..<first + extractor.batch
            prepare(images, extractor.images.pointer)
            extractor.forward()
            let target = output + first * row
            try write(result, of: extractor, to: target)
            let values = UnsafeBufferPointer(start: target, count: images.count * row)
            if let place = values.firstIndex(where: { !$0.isFinite }) {
                throw Failure(
                    .failure,
                    "the \(result) of image \(first + place / row) are not finite: check the weights, and the values of the "
                        + "image")
            }
            first = images.upperBound
        }
    }

    /// Writes the result of the pass that `extractor` ran.
    private func write(
        _ result: Result, of extractor: FeatureExtractor, to target: UnsafeMutablePointer<Float>
    ) throws {
        let rows = 0..<extractor.batch, isPooled = head == nil || head!.pool == pool
        switch result {
        case .features:
            if isPooled || pool == .tokens {
                target.update(from: extractor.features.pointer, count: extractor.batch * featureCount)
            } else {
                // The head's input is free until the next pass for logits.
                let pooled = head!.input!.rows(rows)
                extractor.take(pool, into: pooled)
                target.update(from: pooled.pointer, count: pooled.count)
            }
        case .logits:
            let head = head!
            var input = extractor.features
            if let own = head.input?.rows(rows) {
                if isPooled { own.copy(from: input) } else { extractor.take(head.pool, into: own) }
                head.batchNorm?.apply(to: own)
                input = own
            }
            let logits = head.logits.rows(rows)
            Kernels.linear(
                input, weight: head.weight, bias: head.bias, output: logits, precision: head.precision,
                workspace: head.workspace)
            target.update(from: logits.pointer, count: logits.count)
        }
    }
}
