import Images
import Models
import Reporting

/// A value of a configuration: its key path in the JSON, and the setting that determines it.
package struct ConfiguredValue: Equatable, Sendable {
    package let key: String
    package let setting: Message
}

extension TrainingConfiguration {
    /// The values that determine the result of a run. A resumed run must have the same values.
    ///
    /// Every stored value is in this list or in `keysThatMayChange`.
    package var decisiveValues: [ConfiguredValue] {
        let origin: KeyValuePairs<String, Message> = [
            "method": "\(.method, method.rawValue)",
            "recipe": "\(.recipe, recipe)",
        ]
        let training: KeyValuePairs<String, Message> = [
            "batch": "\(.batch, batch)",
            "accumulation": "\(.effectiveBatch, effectiveBatch)",
            "exchange": "\(.exchange, (exchange ?? .f32).rawValue)",
            "groups": groups.map { "\(.groups, $0)" } ?? "\(.groups, 1)",
            "epochs": "\(.epochs, epochs)",
            "warmupEpochs": "\(.warmupEpochs, warmupEpochs)",
            "baseLearningRate": "\(.baseLearningRate, baseLearningRate)",
            "minimumLearningRate": "\(.minimumLearningRate, minimumLearningRate)",
            "optimizer.algorithm": "the optimiser \(optimizer.algorithm.rawValue)",
            "optimizer.momentum": "a momentum of \(optimizer.momentum)",
            "optimizer.trust": "a trust coefficient of \(optimizer.trust)",
            "optimizer.beta1": "\(.beta1, optimizer.beta1)",
            "optimizer.beta2": "\(.beta2, optimizer.beta2)",
            "optimizer.epsilon": "\(.epsilon, optimizer.epsilon)",
            "optimizer.weightDecay": "\(.weightDecay, optimizer.weightDecay)",
            "precision": "\(.precision, precision.rawValue)",
            "teacherPrecision": "\(.teacherPrecision, teacherPrecision.rawValue)",
            "seed": "\(.seed, seed)",
            "shuffleWindow": shuffleWindow.map { "\(.shuffleWindow, $0)" } ?? "no \(.shuffleWindow)",
            "minimumCropArea": "\(.minimumCropArea, minimumCropArea)",
            "maximumCropArea": "\(.maximumCropArea, maximumCropArea)",
            "appliesOrientation": "\(.storedOrientation, !appliesOrientation)",
            "background": "\(.background, background)",
            "grey16": "\(.grey16, grey16.rawValue)",
        ]
        let pixels = preprocessing ?? .imageNet(channels: trainedEncoder.channels)
        let crop: Message =
            pixels.crop.squashes
            ? "\(.cropFraction, "squash")"
            : pixels.crop.fraction.map { "\(.cropFraction, $0)" } ?? "no \(.cropFraction)"
        let preparation: KeyValuePairs<String, Message> = [
            "mean": "\(.mean, Normalisation.text(pixels.normalisation.mean, separator: ","))",
            "std": "\(.std, Normalisation.text(pixels.normalisation.deviation, separator: ","))",
            "interpolation": "\(.interpolation, pixels.interpolation.rawValue)",
            "squashes": crop,
            "cropFraction": crop,
            "cropRoundsDown": "a crop whose corner is rounded \(pixels.crop.roundsDown ? "down" : "to even")",
        ]
        let augmentation: KeyValuePairs<String, Message> = [
            "randAugment.operations": randAugment.map { "\(.randAugment) of \($0.operations) operations" }
                ?? "no \(.randAugment)",
            "randAugment.magnitude": randAugment.map { "\(.randAugment) of magnitude \($0.magnitude)" }
                ?? "no \(.randAugment)",
            "randAugment.deviation": randAugment.map { "\(.randAugment) with a deviation of \($0.deviation)" }
                ?? "no \(.randAugment)",
            "randAugment.probability": randAugment.map { "\(.randAugment) with probability \($0.probability)" }
                ?? "no \(.randAugment)",
            "erasing.probability": "\(.erasing, erasing?.probability ?? 0)",
            "mixing.mixupAlpha": "\(.mixup, mixing?.mixupAlpha ?? 0)",
            "mixing.cutmixAlpha": "\(.cutmix, mixing?.cutmixAlpha ?? 0)",
            "clipGradient": clipGradient.map { "\(.clipGradient, $0)" } ?? "no \(.clipGradient)",
            "averageDecay": averageDecay.map { "\(.ema, $0)" } ?? "no \(.ema)",
        ]
        func values(_ settings: KeyValuePairs<String, Message>, of part: String = "") -> [ConfiguredValue] {
            settings.map { ConfiguredValue(key: part + $0.key, setting: $0.value) }
        }
        return values(origin) + (model.map { values($0.settings, of: "model.") } ?? [])
            + (classifier.map { values($0.settings, of: "classifier.") } ?? [])
            + values(training) + values(preparation, of: "preprocessing.")
            + (classifier == nil ? [] : values(augmentation))
            + (probeAugmentation.map { values(["probeAugmentation": "\(.augment, $0.rawValue)"]) } ?? [])
            + (ranksWeights ? values(["evaluateEvery": "\(.evaluateEvery, evaluateEvery ?? 1)"]) : [])
    }

    /// Whether evaluations decide which weights are kept as the best.
    private var ranksWeights: Bool { classifier != nil || probeAugmentation != nil }

    /// Values that may change when a run is resumed: the paths of its files, and how its result is stored. When a
    /// masked autoencoder is evaluated may change, too, as that decides nothing.
    package var keysThatMayChange: Set<String> {
        let keys: Set<String> = [
            "data", "validation", "neighbors", "weights", "prefix", "teacher", "teacherPrefix", "unreadableLimit",
            "checkpointEvery", "keep", "tensorboard",
        ]
        return ranksWeights ? keys : keys.union(["evaluateEvery"])
    }

    /// The first decisive value that differs from that of `other`, as the setting of each; nil if all are equal.
    package func difference(from other: TrainingConfiguration) -> (own: Message, other: Message)? {
        // Of two methods, which have other values, the method is the first.
        zip(decisiveValues, other.decisiveValues).first { $0 != $1 }.map { ($0.setting, $1.setting) }
    }
}

extension ModelConfiguration {
    /// Every stored value by its key path, as the setting that determines it. The keys are the same with and without a
    /// teacher.
    fileprivate var settings: KeyValuePairs<String, Message> {
        func ofTeacher(_ setting: (EncoderConfiguration) -> Message) -> Message {
            teacher.map(setting) ?? "no \(.teacher)"
        }
        func imageSize(_ encoder: EncoderConfiguration) -> Message { "\(.imageSize, encoder.imageSize)" }
        return [
            "student.width": "\(.width, student.width)",
            "student.depth": "\(.depth, student.depth)",
            "student.heads": "\(.heads, student.heads)",
            "student.patchSize": "\(.patchSize, student.patchSize)",
            "student.imageHeight": imageSize(student),
            "student.imageWidth": imageSize(student),
            "student.channels": "\(.channels, student.channels)",
            "decoder.width": "\(.decoderWidth, decoder.width)",
            "decoder.depth": "\(.decoderDepth, decoder.depth)",
            "decoder.heads": "\(.decoderHeads, decoder.heads)",
            "teacher.width": ofTeacher { "\(.teacherWidth, $0.width)" },
            "teacher.depth": ofTeacher { "\(.teacherDepth, $0.depth)" },
            "teacher.heads": ofTeacher { "\(.teacherHeads, $0.heads)" },
            // A teacher uses the student's patches.
            "teacher.patchSize": ofTeacher { "\(.patchSize, $0.patchSize)" },
            "teacher.imageHeight": ofTeacher(imageSize),
            "teacher.imageWidth": ofTeacher(imageSize),
            "teacher.channels": ofTeacher { "\(.channels, $0.channels)" },
            "alignment.pairs": alignment.pairs.isEmpty
                ? "no \(.align)" : alignment.pairs.map { "\(.align, $0)" }.joined(separator: " "),
            "alignment.distance": "\(.alignmentDistance, alignment.distance.rawValue)",
            "alignment.projection": "\(.projection, alignment.projection.rawValue)",
            "alignment.weight": "\(.alignmentWeight, alignment.weight)",
            "maskRatio": "\(.maskRatio, maskRatio)",
            "normalizePixels": "\(.normalizePixels, normalizePixels)",
            "predictRatio": "\(.predictRatio, predictRatio)",
            "reconstructionWeight": "\(.reconstructionWeight, reconstructionWeight)",
            "teacherMaskRatio": teacherMaskRatio.map { "\(.teacherMaskRatio, $0)" } ?? "no \(.teacherMaskRatio)",
        ]
    }
}

extension ClassifierConfiguration {
    /// Every stored value by its key path, as the setting that determines it. The keys are the same with and without a
    /// teacher.
    fileprivate var settings: KeyValuePairs<String, Message> {
        func ofTeacher(_ setting: (Teacher) -> Message) -> Message { teacher.map(setting) ?? "no \(.teacher)" }
        func ofEncoder(_ role: String, _ encoder: EncoderConfiguration) -> Message {
            "a \(role) of width \(encoder.width), depth \(encoder.depth) and \(encoder.heads) heads"
        }
        func imageSize(_ encoder: EncoderConfiguration) -> Message { "\(.imageSize, encoder.imageSize)" }
        return [
            "encoder.width": "\(.width, encoder.width)",
            "encoder.depth": "\(.depth, encoder.depth)",
            "encoder.heads": "\(.heads, encoder.heads)",
            "encoder.patchSize": "\(.patchSize, encoder.patchSize)",
            "encoder.imageHeight": imageSize(encoder),
            "encoder.imageWidth": imageSize(encoder),
            "encoder.channels": "\(.channels, encoder.channels)",
            "classes": "\(classes) classes",
            "pool": "\(.pool, pool.rawValue)",
            "dropPath": "\(.dropPath, dropPath)",
            "layerDecay": "\(.layerDecay, layerDecay)",
            "smoothing": "\(.smoothing, smoothing)",
            "teacher.encoder.width": ofTeacher { ofEncoder("teacher", $0.encoder) },
            "teacher.encoder.depth": ofTeacher { ofEncoder("teacher", $0.encoder) },
            "teacher.encoder.heads": ofTeacher { ofEncoder("teacher", $0.encoder) },
            "teacher.encoder.patchSize": ofTeacher { "a teacher with patches of \($0.encoder.patchSize) pixels" },
            "teacher.encoder.imageHeight": ofTeacher { imageSize($0.encoder) },
            "teacher.encoder.imageWidth": ofTeacher { imageSize($0.encoder) },
            "teacher.encoder.channels": ofTeacher { "\(.channels, $0.encoder.channels)" },
            "teacher.pool": ofTeacher { "a teacher with \($0.pool.rawValue) pooling" },
            "teacher.weight": ofTeacher { "\(.teacherWeight, $0.weight)" },
            "teacher.temperature": ofTeacher { "\(.temperature, $0.temperature)" },
            "teacher.isHard": ofTeacher { "\(.hardTeacher, $0.isHard)" },
        ]
    }
}
