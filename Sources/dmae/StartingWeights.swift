import Interchange
import Models
import Training

/// Files of weights that a run starts from, each opened once.
struct StartingWeights {
    /// Frozen weights: a teacher's, or a probed encoder's; nil without any.
    var teacher: ModelWeights?
    /// Initial values of the trained weights; nil to draw them at random.
    var initial: ModelWeights?
    /// See `Trainer.prepare`.
    var isOptional: (String) -> Bool = ModelLayout.isPositionTable
    var isIgnored: (String) -> Bool = { _ in false }

    /// Those of a masked autoencoder: a part of `model` that is not in `initial`, or of another size there, is drawn at
    /// random. Every part of the encoder must be there.
    static func masked(teacher: ModelWeights?, initial: ModelWeights?, of model: ModelConfiguration) -> StartingWeights
    {
        guard let initial else { return StartingWeights(teacher: teacher) }
        let entries = ModelLayout(model).entries
        func fits(_ part: ModelPart) -> Bool {
            entries.allSatisfy { entry in
                entry.part != part || ModelLayout.isPositionTable(entry.name)
                    || initial.tensors[entry.name]?.shape == entry.shape
            }
        }
        let heads = initial.decoder?.heads ?? 0
        let keepsDecoder = fits(.decoder) && (heads == 0 || heads == model.decoder.heads)
        let keepsProjection = fits(.projectionHeads)
        return StartingWeights(
            teacher: teacher, initial: initial,
            // Weights that were fine-tuned on the mean of the patch tokens have another norm.
            isOptional: { ModelLayout.isPositionTable($0) || ModelPart(of: $0) == .norm },
            isIgnored: { name in
                switch ModelPart(of: name) {
                case .decoder: !keepsDecoder
                case .projectionHeads: !keepsProjection
                default: false
                }
            })
    }

    /// Those of a fine-tuning on classes of these names.
    static func finetuning(teacher: ModelWeights?, initial: ModelWeights?, classes names: [String]) -> StartingWeights {
        // A probe's head follows a BatchNorm.
        let keepsHead = initial?.classNames == names && initial?.isLinearProbe == false
        return StartingWeights(
            teacher: teacher, initial: initial,
            // The other norm belongs to the other kind of pooling; a head of other classes is of no use.
            isOptional: { ModelLayout.isPositionTable($0) || ModelPart(of: $0) == .norm },
            isIgnored: { !keepsHead && ModelPart(of: $0) == .classHead })
    }

    /// Those that the configuration of a run names.
    ///
    /// - Parameters:
    ///   - classes: names of the run's classes; none without labels.
    ///   - isBegun: whether a checkpoint has the trained weights, so that no initial ones are read.
    /// - Throws: the failures of `ModelWeights.init`; `Failure.badData` for a teacher of other classes.
    init(of configuration: TrainingConfiguration, classes: [String], isBegun: Bool) throws {
        func open(_ path: String?) throws -> ModelWeights? {
            try path.map { try ModelWeights(path: $0, prefix: configuration.prefix) }
        }
        switch configuration.method {
        case .pretrain, .distill:
            self = .masked(
                teacher: try configuration.teacher.map {
                    try ModelWeights(path: $0, role: .teacher, prefix: configuration.teacherPrefix)
                },
                initial: isBegun ? nil : try open(configuration.weights), of: configuration.model!)
        case .finetune:
            self = .finetuning(
                teacher: try configuration.teacher.map {
                    try LogitTeacherOptions.open($0, prefix: configuration.teacherPrefix, classes: classes)
                },
                initial: isBegun ? nil : try open(configuration.weights), classes: classes)
        case .probe: teacher = try open(configuration.weights)
        }
    }

    init(
        teacher: ModelWeights? = nil, initial: ModelWeights? = nil,
        isOptional: @escaping (String) -> Bool = ModelLayout.isPositionTable,
        isIgnored: @escaping (String) -> Bool = { _ in false }
    ) {
        self.teacher = teacher
        self.initial = initial
        self.isOptional = isOptional
        self.isIgnored = isIgnored
    }
}
