import FoundationEssentials
import Images
import Interchange
import Models
import Reporting
import Tensors
import Weights

/// Runs recorded training steps and writes all their results, for golden tests and for comparison with ports of the
/// method.
public enum Replay {
    /// The JSON under the metadata key `dmae.replay`.
    struct Description: Decodable {
        struct Size: Decodable {
            let width, depth, heads: Int
        }
        struct Align: Decodable {
            let studentBlocks, teacherBlocks: [Int]
            /// Raw values of `AlignmentDistance` and `Projection`; `choice` decodes them and lists the known ones.
            let loss, projection: String?
        }
        struct AdamW: Decodable {
            let lr: Float
            let betas: [Float]
            let weightDecay: Float
            let eps: Float
        }
        let imageSize: ImageSize
        let patchSize: Int
        let teacher: Size?
        let student: Size
        let decoder: Size
        let maskRatio: Double
        let normPixLoss: Bool?
        let align: Align?
        let optimizer: AdamW
        let steps: Int
    }

    /// The vocabulary of a recording: fields under the keys of its description, other fields in plain words.
    private struct DescriptionKeys: Vocabulary {
        func name(_ field: Field) -> String {
            switch field {
            case .imageSize, .patchSize, .maskRatio: field.rawValue.replacing(" ", with: "_")
            case .normalizePixels: "norm_pix_loss"
            case .projection: "align.projection"
            // Recordings have no key for these two: they follow from the tensors.
            case .batch: "the number of images"
            case .channels: "the channels of images"
            default: field.rawValue
            }
        }
    }

    /// Replays `input` and writes `output`; the page Replay describes both files.
    ///
    /// - Throws: `Failure.badData` if the recording is incomplete or contradicts itself; `Failure.failure` if a result
    ///   is not finite, with nothing written; `Failure.inputOutput`.
    public static func run(input: String, output: String, precision: Precision = .f32) throws {
        let file = try SafeTensorsFile(path: input)
        guard let text = file.metadata["dmae.replay"] else {
            throw Failure(.badData, "\(input): holds no recorded steps: the metadata key dmae.replay is missing")
        }
        let description: Description
        do {
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            description = try decoder.decode(Description.self, from: Data(text.utf8))
        } catch {
            throw Failure(.badData, "\(input): the description under dmae.replay cannot be read: \(reason(error))")
        }
        let images = try entry(file, "images", dimensions: 4)
        let noise = try entry(file, "noise", dimensions: 2)
        let configuration = try modelConfiguration(description, channels: images.shape[1], input: input)
        let batch = images.shape[0]
        guard batch >= 1, images.shape[2] == configuration.student.imageHeight,
            images.shape[3] == configuration.student.imageWidth
        else {
            throw Failure(
                .badData,
                "\(input): images has shape \(images.shape), but must be [batch, channels, height, width] with the "
                    + "sides of image_size"
            )
        }
        guard noise.shape == [batch, configuration.student.patches] else {
            throw Failure(
                .badData,
                "\(input): noise has shape \(noise.shape), but \(batch) images of \(configuration.student.patches) "
                    + "patches need "
                    + "[\(batch), \(configuration.student.patches)]")
        }
        guard description.steps >= 1, description.optimizer.betas.count == 2 else {
            throw Failure(.badData, "\(input): a replay needs at least one step and two betas")
        }
        guard description.optimizer.betas.allSatisfy({ (0..<1).contains($0) }) else {
            throw Failure(
                .badData, "\(input): betas must be at least 0 and below 1, not \(description.optimizer.betas)")
        }

        let plan = MemoryPlan()
        let model = try inKeys(input) {
            let model = try RecordedModel(configuration, batch: batch, plan: plan, precision: precision)
            try plan.commit()
            return model
        }
        model.objective.parameters.initialize(seed: 0)
        model.objective.frozenParameters?.initializePositions()
        try model.objective.parameters.load(from: file, prefix: "student.")
        try model.objective.frozenParameters?.load(from: file, prefix: "teacher.")
        try file.copyFloats("images", into: model.objective.images.elements)
        let ranks = try file.floats("noise")
        guard !ranks.contains(where: \.isNaN) else {
            throw Failure(.badData, "\(input): noise holds a NaN, which cannot be ranked: replace it")
        }
        model.student.selection = .noise(ranks)
        try write(steps: description, of: model, from: input, to: output)
    }

    /// The recorded models and the optimiser's state.
    private struct RecordedModel {
        let objective: any Objective
        let student: MaskedAutoencoder
        let alignments: [AlignmentLoss]
        let state: OptimizerState

        init(_ configuration: ModelConfiguration, batch: Int, plan: MemoryPlan, precision: Precision) throws {
            let computation = MaskedAutoencoder.Computation(precision: precision, predictsEveryPatch: true)
            if configuration.lastTeacherBlock == nil {
                student = try MaskedAutoencoder(configuration, batch: batch, seed: 0, plan: plan, computation)
                (objective, alignments) = (student, [])
            } else {
                let distillation = try Distillation(configuration, batch: batch, seed: 0, plan: plan, computation)
                (objective, student, alignments) = (distillation, distillation.student, distillation.alignments)
            }
            state = OptimizerState(of: objective.parameters, plan: plan)
        }
    }

    /// Leaves all gradients in place, to be recorded after the step.
    private final class RecordingSink: GradientSink {
        let accumulates = false
        func complete(_ tensors: Range<Int>) {}
    }

    /// Runs `body`; its failures name the recording `input` and use the keys of its description.
    private static func inKeys<Result>(_ input: String, _ body: () throws -> Result) throws -> Result {
        do { return try body() } catch let failure as Failure {
            let code = failure.code == .usage ? .badData : failure.code
            throw Failure(code, "\(input): \(failure.message(in: DescriptionKeys()))")
        }
    }

    private static func modelConfiguration(_ description: Description, channels: Int, input: String) throws
        -> ModelConfiguration
    {
        func encoder(_ size: Description.Size) -> EncoderConfiguration {
            EncoderConfiguration(
                width: size.width, depth: size.depth, heads: size.heads, patchSize: description.patchSize,
                imageHeight: description.imageSize.height, imageWidth: description.imageSize.width, channels: channels)
        }
        let align = description.align
        guard align?.studentBlocks.count == align?.teacherBlocks.count else {
            throw Failure(
                .badData, "\(input): align.student_blocks and align.teacher_blocks differ in length: pair every block")
        }
        let pairs = zip(align?.studentBlocks ?? [], align?.teacherBlocks ?? []).map {
            AlignedPair(studentBlock: $0, teacherBlock: $1)
        }
        func choice<Choice: CaseIterable & RawRepresentable>(_ key: String, _ text: String?, absent: Choice) throws
            -> Choice
        where Choice.RawValue == String {
            guard let text else { return absent }
            guard let choice = Choice(rawValue: text) else {
                let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
                throw Failure(.badData, "\(input): align.\(key) \(quoted(text)) is not known: use one of \(names)")
            }
            return choice
        }
        let model = ModelConfiguration(
            student: encoder(description.student),
            decoder: DecoderConfiguration(
                width: description.decoder.width, depth: description.decoder.depth, heads: description.decoder.heads),
            teacher: description.teacher.map(encoder),
            alignment: AlignmentConfiguration(
                pairs: pairs, distance: try choice("loss", align?.loss, absent: .l1),
                projection: try choice("projection", align?.projection, absent: .linear)),
            maskRatio: description.maskRatio, normalizePixels: description.normPixLoss ?? false)
        try inKeys(input) { try model.validate() }
        return model
    }

    private static func write(
        steps description: Description, of model: RecordedModel, from input: String, to output: String
    ) throws {
        let objective = model.objective, batch = model.student.batch
        var copies: [(name: String, shape: [Int], values: [Float])] = []
        func failure(_ problem: String) -> Failure {
            Failure(.failure, "\(input): \(problem), and nothing was written: look at optimizer, images and weights")
        }
        func record(_ name: String, _ shape: [Int], _ values: some Sequence<Float>) throws {
            let values = Array(values)
            guard values.allSatisfy(\.isFinite) else { throw failure("\(name) is not finite") }
            copies.append((name, shape, values))
        }
        let optimizer = Optimizer(
            beta1: description.optimizer.betas[0], beta2: description.optimizer.betas[1],
            epsilon: description.optimizer.eps,
            weightDecay: description.optimizer.weightDecay)
        // In the order of the objective's loss values.
        let names = ["loss.total", "loss.reconstruction"] + model.alignments.indices.map { "loss.align.\($0)" }
        var lossesOfSteps = names.map { _ in [Float]() }
        let samples = Batch(samples: Array(0..<batch), images: Array(0..<batch)), sink = RecordingSink()
        for step in 1...description.steps {
            let losses = objective.step(samples, scale: 1, sink: sink)
            guard losses.total.isFinite else {
                throw failure("the loss is not finite at step \(step): \(objective.describe(losses))")
            }
            for (index, value) in losses.values.enumerated() { lossesOfSteps[index].append(value) }
            if step == 1 {
                let patches = model.student.configuration.student.patches
                let elements = model.student.configuration.student.patchElements
                let prediction = model.student.decoder.prediction.elements
                var predicted: [Float] = []
                for image in 0..<batch {
                    let first = (image * (1 + patches) + 1) * elements
                    predicted += prediction[first..<first + patches * elements]
                }
                try record("prediction", [batch, patches, elements], predicted)
                try record("mask", [batch, patches], model.student.masking.mask.elements)
                let latent = model.student.encoder.latent!
                try record("student.latent", [batch, latent.rows / batch, latent.columns], latent.elements)
                for (index, alignment) in model.alignments.enumerated() {
                    let teacher = alignment.teacherFeature
                    try record(
                        "teacher.feature.\(index)", [batch, teacher.rows / batch, teacher.columns], teacher.elements)
                    let student = model.student.encoder.feature(afterBlock: alignment.pair.studentBlock)
                    try record(
                        "student.feature.\(index)", [batch, student.rows / batch, student.columns], student.elements)
                }
                for parameter in objective.parameters.all {
                    if let gradient = parameter.gradient {
                        try record("grad.\(parameter.name)", parameter.shape, gradient.elements)
                    }
                }
            }
            model.state.update(
                objective.parameters.all.indices, optimizer, learningRate: description.optimizer.lr, step: step)
        }
        for (name, values) in zip(names, lossesOfSteps) { try record(name, [values.count], values) }
        for parameter in objective.parameters.all {
            try record("after.\(parameter.name)", parameter.shape, parameter.weight.elements)
        }

        var writer = SafeTensorsWriter()
        // The writer keeps pointers to the values, so their memory is freed only after it has written.
        let storage = copies.map { copy in
            let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(1, copy.values.count))
            _ = buffer.initialize(from: copy.values)
            writer.add(
                copy.name, shape: copy.shape,
                floats: UnsafeBufferPointer(start: buffer.baseAddress, count: copy.values.count))
            return buffer
        }
        defer { storage.forEach { $0.deallocate() } }
        try writer.write(to: output)
    }

    private static func entry(_ file: SafeTensorsFile, _ name: String, dimensions: Int) throws -> TensorEntry {
        guard let entry = file[name] else { throw Failure(.badData, "\(file.path): the tensor \(name) is missing") }
        guard entry.shape.count == dimensions else {
            throw Failure(
                .badData, "\(file.path): \(name) has \(entry.shape.count) dimensions instead of \(dimensions)")
        }
        return entry
    }

    private static func reason(_ error: any Error) -> String {
        // The decoder names the keys in camel case; the file has snake case.
        func key(_ path: [any CodingKey]) -> String {
            path.isEmpty
                ? "it"
                : path.map { part in
                    part.intValue.map { "\($0)" }
                        ?? part.stringValue.map { $0.isUppercase ? "_" + $0.lowercased() : "\($0)" }.joined()
                }.joined(separator: ".")
        }
        return switch error {
        case DecodingError.keyNotFound(let missing, let context): "\(key(context.codingPath + [missing])) is missing"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
            "\(key(context.codingPath)) has another type than expected"
        case DecodingError.dataCorrupted(let context) where !context.codingPath.isEmpty: context.debugDescription
        default: "it is not JSON, or a number in it does not fit its key"
        }
    }
}
