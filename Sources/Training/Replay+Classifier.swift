import Images
import Interchange
import Models
import Reporting
import Tensors

extension Replay {
    /// Recorded steps of fine-tuning.
    struct ClassifierSteps: RecordedSteps {
        struct Description: DescribedObject {
            enum CodingKeys: String, CodingKey, CaseIterable {
                case method, model, classes, pool, distillation, optimizer, steps
                case imageSize = "image_size"
                case patchSize = "patch_size"
                case layerDecay = "layer_decay"
                case dropPath = "drop_path"
                case clipGradient = "clip_gradient"
            }
            let method: String
            let imageSize: ImageSize
            let patchSize: Int
            let model: Strict<Size>
            let classes: Int
            /// A raw value of `ClassifierPool`.
            let pool: String
            let layerDecay: Double?
            let dropPath: Double?
            let clipGradient: Float?
            let distillation: Strict<Distilled>?
            let optimizer: Strict<AdamW>
            let steps: Int
        }

        struct Distilled: DescribedObject {
            enum CodingKeys: String, CodingKey, CaseIterable { case alpha, temperature, hard }
            let alpha, temperature: Double
            let hard: Bool?
        }

        private let description: Description
        private let classifier: Classifier
        private let targets: [Float]
        /// Nil without drop path.
        private let kept: [Bool]?
        /// Nil without distillation.
        private let teacherLogits: [Float]?
        let state: OptimizerState

        var objective: any Objective { classifier }
        var steps: Int { description.steps }
        var optimizer: AdamW { description.optimizer.object }
        var clipGradient: Float? { description.clipGradient }
        var batch: Batch { Batch(samples: Array(0..<classifier.batch), images: Array(0..<classifier.batch)) }

        init(_ recording: Recording, plan: MemoryPlan, precision: Precision) throws {
            let description = try recording.describe(Description.self)
            self.description = description
            let (batch, channels) = try recording.images(description.imageSize)
            let configuration = ClassifierConfiguration(
                encoder: description.model.object.encoder(
                    patchSize: description.patchSize, imageSize: description.imageSize, channels: channels),
                classes: description.classes, pool: try recording.choice("pool", description.pool, absent: .mean),
                dropPath: description.dropPath ?? 0, layerDecay: description.layerDecay ?? 1)
            let distillation = description.distillation.map {
                LogitDistillation(weight: $0.alpha, temperature: $0.temperature, isHard: $0.hard ?? false)
            }
            try recording.inKeys {
                try configuration.validate()
                try distillation?.validate()
            }
            try recording.check(description.optimizer.object, steps: description.steps)
            if let clip = description.clipGradient, clip <= 0 {
                throw recording.refusal("clip_gradient must be above 0, not \(clip)")
            }
            let classes = configuration.classes
            let logitsReason = "\(batch) images of \(classes) classes"
            targets = try recording.floats("targets", [batch, classes], logitsReason)
            kept = try Self.kept(recording, configuration, batch: batch)
            teacherLogits =
                distillation == nil
                ? nil : try recording.floats("teacher_logits", [batch, classes], logitsReason)
            classifier = try recording.inKeys {
                try Classifier(
                    configuration, batch: batch, seed: 0, plan: plan,
                    .init(precision: precision, givenTeacherLogits: distillation))
            }
            state = OptimizerState(of: classifier.parameters, plan: plan)
        }

        /// The kept branches, [depth·2·B]; nil where none is dropped.
        private static func kept(_ recording: Recording, _ configuration: ClassifierConfiguration, batch: Int) throws
            -> [Bool]?
        {
            let name = "drop_path_keep", depth = configuration.encoder.depth
            if configuration.dropPath == 0, recording.file[name] == nil { return nil }
            let values = try recording.floats(name, [depth, 2, batch], "\(depth) blocks and \(batch) images")
            guard values.allSatisfy({ $0 == 0 || $0 == 1 }) else {
                throw recording.refusal("\(name) must hold nothing but 0 (dropped) and 1 (kept)")
            }
            if configuration.dropPath > 0 { return values.map { $0 == 1 } }
            guard !values.contains(0) else {
                throw recording.refusal("\(name) drops branches, but drop_path is 0: set drop_path to their rate")
            }
            return nil
        }

        func load(from recording: Recording) throws {
            classifier.parameters.initialize(seed: 0)
            try classifier.parameters.load(from: recording.file, prefix: "model.")
            classifier.targets = .given(targets)
            if let kept { classifier.dropPathSelection = .given(kept) }
            if let teacherLogits, let target = classifier.teacherLogits?.elements {
                _ = target.update(from: teacherLogits)
            }
        }

        func named(_ losses: Losses) -> [(name: String, value: Float)] {
            let values = losses.values
            return [
                ("total", values[0]), ("classification", values.count > 1 ? values[1] : values[0]),
                ("distillation", values.count > 1 ? values[2] : 0),
            ]
        }

        func recordFirstStep(in results: inout Results) throws {
            let logits = classifier.logits
            try results.record("logits", [logits.rows, logits.columns], logits.elements)
        }
    }
}
