import Images
import Interchange
import Models
import Reporting
import Tensors

extension Replay {
    /// Recorded steps of distillation, or of MAE's pre-training.
    struct MaskedAutoencoderSteps: RecordedSteps {
        struct Description: DescribedObject {
            enum CodingKeys: String, CodingKey, CaseIterable {
                case teacher, student, decoder, align, optimizer, steps
                case imageSize = "image_size"
                case patchSize = "patch_size"
                case maskRatio = "mask_ratio"
                case normPixLoss = "norm_pix_loss"
                case predictRatio = "predict_ratio"
                case reconstructionWeight = "reconstruction_weight"
                case teacherMaskRatio = "teacher_mask_ratio"
            }
            let imageSize: ImageSize
            let patchSize: Int
            let teacher: Strict<Size>?
            let student: Strict<Size>
            let decoder: Strict<Size>
            let maskRatio: Double
            let normPixLoss: Bool?
            let predictRatio, teacherMaskRatio: Double?
            let reconstructionWeight: Float?
            let align: Strict<Align>?
            let optimizer: Strict<AdamW>
            let steps: Int
        }

        struct Align: DescribedObject {
            enum CodingKeys: String, CodingKey, CaseIterable {
                case loss, projection
                case studentBlocks = "student_blocks"
                case teacherBlocks = "teacher_blocks"
            }
            let studentBlocks, teacherBlocks: [Int]
            /// Raw values of `AlignmentDistance` and `Projection`.
            let loss, projection: String?
        }

        private let description: Description
        private let noise: [Float]
        let objective: any Objective
        let state: OptimizerState
        private let student: MaskedAutoencoder
        private let alignments: [AlignmentLoss]

        var steps: Int { description.steps }
        var optimizer: AdamW { description.optimizer.object }
        var clipGradient: Float? { nil }
        var batch: Batch { Batch(samples: Array(0..<student.batch), images: Array(0..<student.batch)) }

        init(_ recording: Recording, plan: MemoryPlan, precision: Precision) throws {
            description = try recording.describe(Description.self)
            let channels = try recording.shape(of: "images", dimensions: 4)[1]
            let noiseShape = try recording.shape(of: "noise", dimensions: 2)
            let configuration = try Self.configuration(description, channels: channels, recording)
            let batch = try recording.images(configuration.student.imageSize).batch
            let patches = configuration.student.patches
            guard noiseShape == [batch, patches] else {
                throw recording.refusal(
                    "noise has shape \(noiseShape), but \(batch) images of \(patches) patches need [\(batch), "
                        + "\(patches)]")
            }
            try recording.check(description.optimizer.object, steps: description.steps)
            noise = try recording.file.floats("noise")
            guard !noise.contains(where: \.isNaN) else {
                throw recording.refusal("noise holds a NaN, which cannot be ranked: replace it")
            }
            (objective, student, alignments) = try recording.inKeys {
                let computation = MaskedAutoencoder.Computation(precision: precision, predictsEveryPatch: true)
                if configuration.lastTeacherBlock == nil {
                    let student = try MaskedAutoencoder(
                        configuration, batch: batch, seed: 0, plan: plan, computation)
                    return (student, student, [])
                }
                let distillation = try Distillation(configuration, batch: batch, seed: 0, plan: plan, computation)
                return (distillation, distillation.student, distillation.alignments)
            }
            state = OptimizerState(of: objective.parameters, plan: plan)
        }

        private static func configuration(_ description: Description, channels: Int, _ recording: Recording) throws
            -> ModelConfiguration
        {
            func encoder(_ size: Strict<Size>) -> EncoderConfiguration {
                size.object.encoder(
                    patchSize: description.patchSize, imageSize: description.imageSize, channels: channels)
            }
            let align = description.align?.object
            guard align?.studentBlocks.count == align?.teacherBlocks.count else {
                throw recording.refusal(
                    "align.student_blocks and align.teacher_blocks differ in length: pair every block")
            }
            let pairs = zip(align?.studentBlocks ?? [], align?.teacherBlocks ?? []).map {
                AlignedPair(studentBlock: $0, teacherBlock: $1)
            }
            let decoder = description.decoder
            let model = ModelConfiguration(
                student: encoder(description.student),
                decoder: DecoderConfiguration(width: decoder.width, depth: decoder.depth, heads: decoder.heads),
                teacher: description.teacher.map(encoder),
                alignment: AlignmentConfiguration(
                    pairs: pairs, distance: try recording.choice("align.loss", align?.loss, absent: .l1),
                    projection: try recording.choice("align.projection", align?.projection, absent: .linear)),
                maskRatio: description.maskRatio, normalizePixels: description.normPixLoss ?? false,
                predictRatio: description.predictRatio ?? 1,
                reconstructionWeight: description.reconstructionWeight ?? 1,
                teacherMaskRatio: description.teacherMaskRatio)
            try recording.inKeys { try model.validate() }
            return model
        }

        func load(from recording: Recording) throws {
            objective.parameters.initialize(seed: 0)
            objective.frozenParameters?.initializePositions()
            try objective.parameters.load(from: recording.file, prefix: "student.")
            try objective.frozenParameters?.load(from: recording.file, prefix: "teacher.")
            student.selection = .noise(noise)
        }

        func named(_ losses: Losses) -> [(name: String, value: Float)] {
            let own = student.decoder == nil ? ["total"] : ["total", "reconstruction"]
            let names = own + alignments.indices.map { "align.\($0)" }
            return Array(zip(names, losses.values))
        }

        func recordFirstStep(in results: inout Results) throws {
            let batch = student.batch, size = student.configuration.student
            let (patches, elements) = (size.patches, size.patchElements)
            let masking = student.masking
            try results.record("mask", [batch, patches], masking.mask.elements)
            if let prediction = student.decoder?.prediction.elements {
                // Zero for patches that the decoder does not process.
                var values = [Float](repeating: 0, count: batch * patches * elements)
                var predicted = [Float](repeating: 0, count: batch * patches)
                let decoded = masking.decodedCount
                for image in 0..<batch {
                    for index in 0..<decoded {
                        let patch = image * patches + masking.decodedPatch(image, index)
                        let row = image * (1 + decoded) + 1 + index
                        values.replaceSubrange(
                            patch * elements..<(patch + 1) * elements,
                            with: prediction[row * elements..<(row + 1) * elements])
                        predicted[patch] = masking.mask.elements[patch]
                    }
                }
                try results.record("prediction", [batch, patches, elements], values)
                if decoded < patches { try results.record("predicted", [batch, patches], predicted) }
            }
            func tokens(_ name: String, _ tensor: Tensor) throws {
                try results.record(name, [batch, tensor.rows / batch, tensor.columns], tensor.elements)
            }
            if let latent = student.encoder.latent { try tokens("student.latent", latent) }
            for (index, alignment) in alignments.enumerated() {
                try tokens("teacher.feature.\(index)", alignment.teacherFeature)
                try tokens(
                    "student.feature.\(index)", student.encoder.feature(afterBlock: alignment.pair.studentBlock))
            }
        }
    }
}
