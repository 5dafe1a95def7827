import Interchange
import Reporting
import ArgumentParser
import Images
import Models
import Tensors
import Training
import Weights

struct Distill: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Teach a small ViT from a large MAE-pre-trained one.",
        discussion: """
            Teacher and student see the same few visible patches. The teacher runs only up to its last aligned block. \
            The student minimises MAE's pixel loss plus the distance between the features of the aligned blocks.

            The paper's run, first as a plan:

              dmae distill --teacher vit-large.safetensors --data imagenet/train --dry-run
              dmae distill --teacher vit-large.safetensors --data imagenet/train \\
                --output run

            With another student, half of the epochs, and 9 of 196 patches visible:

              dmae distill --teacher vit-large.safetensors --data imagenet/train \\
                --output run --student vit-small --epochs 50 --mask-ratio 0.95

            SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU write a checkpoint and end the run with exit code \
            75; `dmae resume run` \
            continues it, and gives the same bytes as a run without interruption. At the end \
            --output contains model.safetensors: student, decoder and projection heads under MAE's names.

            \(Recipe.listing(of: .distill))
            """)

    @Option(
        help: ArgumentHelp(
            "Weights of the teacher, at least an encoder; `dmae convert --help` lists the formats.", valueName: "file"),
        completion: .file())
    var teacher: String

    @OptionGroup var choice: TeacherPrefixOptions

    @Option(
        help: ArgumentHelp(
            "Recipe: the values to start from, as listed above. Default: paper, fitted to the teacher and to the number "
                + "of images.", valueName: "name"),
        completion: .list(Recipe.names(of: .distill)))
    var recipe: String?

    @OptionGroup var initialStudent: InitialStudentOptions

    @OptionGroup(title: "Run") var images: DataOptions
    @OptionGroup(title: "Run") var training: TrainingOptions
    @OptionGroup(title: "Run") var adamW: AdamWOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Method") var method: MethodOptions
    @OptionGroup(title: "Alignment") var alignment: AlignmentOptions
    @OptionGroup(title: "Evaluation") var evaluation: EvaluationOptions
    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precision: TrainingPrecisionOptions
    @OptionGroup(title: "Compute") var teacherPrecision: TeacherPrecisionOptions

    func run() throws {
        Terminal.hold()
        try compute.apply()
        if !training.dryRun { Signals.endBeforeTheRun() }
        let isNamed = self.recipe != nil
        var recipe = try Recipe.find(self.recipe ?? Recipe.paper.name, for: .distill)
        try training.requirePaths(
            [("--teacher", [teacher]), ("--init-student", [initialStudent.initStudent].compactMap { $0 })]
                + [("--data", images.data)] + evaluation.paths)
        let weights = try ModelWeights(path: teacher, role: .teacher, prefix: choice.teacherPrefix)
        if !training.quiet { Terminal.note(weights.summary) }
        try weights.requireKnownParts()
        let initial = try initialStudent.weights(isQuiet: training.quiet)
        if !isNamed, initial == nil, !model.student.hasSize {
            let preset = StudentDefaults.student(recipe.student, of: weights.encoder)
            if preset != recipe.student {
                recipe.student = preset
                if !training.quiet {
                    Terminal.note(
                        "student \(preset): the recipe's has more than half of the teacher's weights (--student, --width, "
                            + "--depth)")
                }
            }
        }
        let student = try model.student(
            recipe, isNamed: isNamed, following: StudentDefaults(initial: initial, images: weights),
            isQuiet: training.quiet)
        try weights.requirePositions(patches: weights.encoder.patchSize == student.patchSize ? student.patches : nil)
        try weights.requireReadable()
        try initial?.requireSizes(of: student)
        try initial?.requirePositions(patches: student.patches)
        let hasDecoder = method.reconstructionWeight != 0
        let decoder =
            hasDecoder
            ? try model.decoderOptions.decoder(
                of: recipe, isNamed: isNamed,
                following: DecoderDefaults(
                    weights: (initial.map { [($0, "initial weights")] } ?? []) + [(weights, "teacher")],
                    encoder: weights.encoder, role: "teacher"),
                isQuiet: training.quiet)
            : try model.decoder(recipe.decoder)
        var configuration = method.model(recipe, student: student, decoder: decoder)
        try alignment.apply(to: &configuration, recipe, isNamed: isNamed, weights: weights)
        alignment.warning(onStudentOf: configuration).map(Terminal.warning)
        StudentDefaults.warning(onVisiblePatchesOf: configuration, isFixed: true).map(Terminal.warning)
        if weights.classes != nil {
            Terminal.warning(
                "the teacher \(teacher) is a classifier, trained on labels: the method is made for a teacher that was only "
                    + "pre-trained as a masked autoencoder, from which "
                    + "students learn more; name its weights from before fine-tuning, if you have them")
        }
        if !training.quiet {
            let notes = [
                alignment.note(on: configuration, of: recipe), alignment.note(onUntrained: configuration),
            ]
            notes.compactMap { $0 }.forEach(Terminal.note)
        }
        let indexes = training.makeIndexes()
        let source = try ImageCollection(images.places, usesLabels: false, indexes: indexes)
        var run = try training.configuration(
            recipe, isNamed: isNamed, images: source.count, adamW: adamW, model: configuration, data: images.places,
            teacher: teacher,
            prepared: TrainingOptions.PreparedWeights(weights: weights, role: "teacher"),
            precision: precision.resolved(for: training),
            teacherPrecision: teacherPrecision.resolved())
        run.teacherPrefix = choice.teacherPrefix
        (run.weights, run.prefix) = (initialStudent.initStudent, initialStudent.studentPrefix)
        try evaluation.apply(to: &run)
        try training.run(
            run, from: .masked(teacher: weights, initial: initial, of: configuration), images: source, indexes: indexes)
    }
}
