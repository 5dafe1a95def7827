import Images
import Models
import Reporting
import Tensors

extension Trainer {
    /// A trainer of a linear probe.
    ///
    /// With augmentation the encoder runs in every step, and the features of validation images are computed at the
    /// first evaluation. Without, all features are computed before the first step (`extraction`).
    ///
    /// - Throws: `Failure.usage` if values do not fit together or there is not a single step; `Failure.badData` if the
    ///   images have no classes, a single one, or other ones for validation.
    convenience init(
        probing configuration: TrainingConfiguration, _ source: any ImageSource, validation: any ImageSource
    ) throws {
        guard let classifier = configuration.classifier, let augmentation = configuration.probeAugmentation else {
            preconditionFailure("the configuration is not of a probe")
        }
        try Self.requireClasses(of: source, and: validation)
        let width = classifier.encoder.width
        var probe: LinearProbe!, validationFeatures: StoredFeatures!, features: StoredFeatures?
        let makeBatches: MakeBatches = { samples, _, _ in
            RowBatches(
                of: features!.rows, hasRow: features!.hasRow, labels: features!.labels, batchSize: configuration.batch,
                seed: configuration.seed, samples: samples)
        }
        try self.init(
            configuration, source: source, makeBatches: augmentation == .none ? makeBatches : nil
        ) { plan in
            let made = try LinearProbe(
                classifier, batch: configuration.batch, plan: plan,
                augmentation == .none ? .features : .images(configuration.precision),
                keepsGradients: configuration.accumulation > 1)
            probe = made
            validationFeatures = StoredFeatures("validation features", of: validation, width: width, plan: plan)
            if augmentation == .none {
                features = StoredFeatures("training features", of: source, width: width, plan: plan)
            }
            return made
        }
        if let features {
            extraction = try FeatureExtraction(
                classifier.encoder, pool: classifier.pool, precision: configuration.precision,
                stores: [features, validationFeatures])
        }
        evaluationSources.append(validation)
        add(
            ProbeEvaluation(
                of: probe, on: validationFeatures, augmentation: configuration.validationAugmentation,
                everyEpochs: configuration.evaluateEvery ?? 1, unreadableLimit: configuration.unreadableLimit))
    }

    /// Estimated seconds to compute the features that a probe computes once, without decoding: of `images` images. Nil
    /// for other runs. For a dry run, after `prepare`.
    public func estimateFeatureSeconds() -> (images: Int, seconds: Double)? {
        guard let evaluation = evaluations.lazy.compactMap({ $0 as? ProbeEvaluation }).first,
            let encoder = extraction?.encoder ?? evaluation.probe.encoder
        else { return nil }
        let count = min(encoder.batch, StoredFeatures.passImages)
        var random = CounterRandom(seed: configuration.seed, purpose: .benchmark)
        let images = encoder.images.rows(0..<count).elements
        for index in images.indices { images[index] = 4 * random.uniform() - 2 }
        var times: [Double] = []
        // The first pass warms up.
        for pass in 0...3 {
            let start = monotonicSeconds()
            encoder.encode(count)
            if pass > 0 { times.append(monotonicSeconds() - start) }
        }
        let total = extraction?.images ?? evaluation.images
        return (total, StepBenchmark.median(times) * Double(total) / Double(count))
    }
}
