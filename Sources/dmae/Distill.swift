import ArgumentParser
import FoundationEssentials
import Models
import Tensors
import Training
import Weights

struct Distill: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Teach a small ViT from a large MAE-pre-trained one.",
        discussion: """
            Teacher and student see the same few visible patches. The teacher runs to its last aligned block and stops; the student \
            minimises MAE's pixel loss plus the distance between the features of the aligned blocks.

            The paper's run, with a plan first:

              dmae distill --recipe paper --teacher vit-large.safetensors --data imagenet/train --output run --dry-run
              dmae distill --recipe paper --teacher vit-large.safetensors --data imagenet/train --output run

            SIGTERM, SIGINT and SIGUSR1 write a checkpoint and end the run with exit code 75; the same command with --resume auto goes on, \
            and ends in the same bytes as a run that was never stopped. At the end --output holds model.safetensors: student, decoder \
            and projection heads under MAE's names.
            """)

    @Option(help: ArgumentHelp("Teacher's weights: safetensors with MAE's names.", valueName: "file"))
    var teacher: String

    @Option(help: ArgumentHelp(Recipe.help(for: .distill), valueName: "name"))
    var recipe = "paper"

    @OptionGroup(title: "Run") var training: TrainingOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Method") var method: MethodOptions
    @OptionGroup(title: "Alignment") var alignment: AlignmentOptions
    @OptionGroup(title: "Compute") var compute: ComputeOptions

    func run() throws {
        try compute.apply()
        let recipe = try Recipe.find(recipe, for: .distill)
        let student = try model.encoder(recipe.student, imageSize: recipe.imageSize)
        var configuration = ModelConfiguration(
            student: student, decoder: try model.decoder(recipe.decoder), teacher: try teacherConfiguration(recipe, student: student),
            alignment: try alignment.alignment(recipe.alignment), maskRatio: method.maskRatio ?? recipe.maskRatio,
            normalizePixels: method.normalizePixels ?? recipe.normalizePixels)
        if configuration.alignment.pairs.isEmpty { configuration.teacher = nil }
        try training.run(training.configuration(recipe, model: configuration, teacher: teacher))
    }

    /// The teacher's size: as --teacher-model says, else as its file says, else the recipe's.
    private func teacherConfiguration(_ recipe: Recipe, student: EncoderConfiguration) throws -> EncoderConfiguration {
        var configuration: EncoderConfiguration
        if alignment.teacherModel == nil,
            let text = try SafeTensorsFile(path: teacher).metadata["dmae.configuration"],
            let written = try? JSONDecoder().decode(ModelConfiguration.self, from: Data(text.utf8)) {
            configuration = written.student
        } else {
            configuration = try ModelOptions.preset(
                alignment.teacherModel ?? recipe.teacher!, height: student.imageHeight, width: student.imageWidth,
                channels: student.channels)
        }
        // The position table is computed for the images of this run.
        configuration.imageHeight = student.imageHeight
        configuration.imageWidth = student.imageWidth
        return configuration
    }
}
