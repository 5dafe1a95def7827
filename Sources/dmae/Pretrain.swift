import Reporting
import ArgumentParser
import Images
import Models
import Tensors
import Training

struct Pretrain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Pre-train a ViT as a masked autoencoder.",
        discussion: """
            MAE without a teacher: encode the visible patches, reconstruct the removed ones. This makes teachers for \
            `dmae distill`, and the paper's baseline.

              dmae pretrain --student vit-small --epochs 200 --data images --output run

            SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU write a checkpoint and end the run with exit code \
            75; `dmae resume run` \
            continues it. At the end --output contains model.safetensors: encoder and decoder under \
            MAE's names.

            \(Recipe.listing(of: .pretrain))
            """)

    @Option(
        help: ArgumentHelp(
            "Recipe: the values to start from, as listed above. Default: mae, fitted to the number of images.",
            valueName: "name"),
        completion: .list(Recipe.names(of: .pretrain)))
    var recipe: String?

    @OptionGroup var initialStudent: InitialStudentOptions

    @OptionGroup(title: "Run") var images: DataOptions
    @OptionGroup(title: "Run") var training: TrainingOptions
    @OptionGroup(title: "Run") var adamW: AdamWOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Method") var method: MethodOptions
    @OptionGroup(title: "Evaluation") var evaluation: EvaluationOptions
    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precision: TrainingPrecisionOptions

    func run() throws {
        Terminal.hold()
        try compute.apply()
        if !training.dryRun { Signals.endBeforeTheRun() }
        let isNamed = self.recipe != nil
        var recipe = try Recipe.find(self.recipe ?? Recipe.mae.name, for: .pretrain)
        try training.requirePaths(
            [("--init-student", [initialStudent.initStudent].compactMap { $0 }), ("--data", images.data)]
                + evaluation.paths)
        let initial = try initialStudent.weights(isQuiet: training.quiet)
        let indexes = training.makeIndexes()
        let source = try ImageCollection(images.places, usesLabels: false, indexes: indexes)
        if !isNamed, initial == nil, !model.student.hasSize {
            let preset = StudentDefaults.student(recipe.student, images: source.count)
            if preset != recipe.student, !training.quiet {
                Terminal.note(
                    "student \(preset): the recipe's \(recipe.student) is made for a million images, and "
                        + "\(Format.counted(source.count, "image")) would teach it little in a long time (--student, --width, "
                        + "--depth)")
            }
            recipe.student = preset
        }
        var defaults = StudentDefaults(initial: initial, images: initial, role: "initial weights")
        if initial == nil, model.student.imageSize == nil {
            defaults.shortSide = try ImageHeaders.medianShortSide(of: source, workers: Threads.recommended)
        }
        let student = try model.student(recipe, isNamed: isNamed, following: defaults, isQuiet: training.quiet)
        try initial?.requireSizes(of: student)
        try initial?.requirePositions(patches: student.patches)
        let decoder = try model.decoderOptions.decoder(
            of: recipe, isNamed: isNamed,
            following: DecoderDefaults(
                weights: initial.map { [($0, "initial weights")] } ?? [], encoder: student, role: "student"),
            isQuiet: training.quiet)
        let configuration = method.model(recipe, student: student, decoder: decoder)
        StudentDefaults.warning(onVisiblePatchesOf: configuration, isFixed: initial != nil).map(Terminal.warning)
        var run = try training.configuration(
            recipe, isNamed: isNamed, images: source.count, adamW: adamW, model: configuration, data: images.places,
            teacher: nil,
            prepared: initial.map { TrainingOptions.PreparedWeights(weights: $0, role: "initial weights") },
            precision: precision.resolved(for: training)
        )
        (run.weights, run.prefix) = (initialStudent.initStudent, initialStudent.studentPrefix)
        try evaluation.apply(to: &run)
        try training.run(
            run, from: .masked(teacher: nil, initial: initial, of: configuration), images: source, indexes: indexes)
    }
}
