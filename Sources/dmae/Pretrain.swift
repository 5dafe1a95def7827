import Reporting
import ArgumentParser
import Models
import Training

struct Pretrain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Pre-train a ViT as a masked autoencoder.",
        discussion: """
            MAE without a teacher: encode the visible patches, reconstruct the removed ones. This makes teachers for \
            `dmae distill`, and the paper's baseline.

              dmae pretrain --student vit-small --epochs 200 --data images --output run

            SIGTERM, SIGINT, SIGHUP and SIGUSR1 write a checkpoint and end the run with exit code 75; `dmae resume run` \
            continues it. At the end --output contains model.safetensors: encoder and decoder under \
            MAE's names.

            \(Recipe.listing(of: .pretrain))
            """)

    @Option(
        help: ArgumentHelp("Recipe: the values to start from, as listed above.", valueName: "name"),
        completion: .list(Recipe.names(of: .pretrain)))
    var recipe = "mae"

    @OptionGroup(title: "Run") var images: DataOptions
    @OptionGroup(title: "Run") var training: TrainingOptions
    @OptionGroup(title: "Run") var adamW: AdamWOptions
    @OptionGroup(title: "Model") var model: ModelOptions
    @OptionGroup(title: "Method") var method: MethodOptions
    @OptionGroup(title: "Evaluation") var evaluation: EvaluationOptions
    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precision: TrainingPrecisionOptions

    func run() throws {
        try compute.apply()
        if !training.dryRun { Signals.endBeforeTheRun() }
        let recipe = try Recipe.find(recipe, for: .pretrain)
        let configuration = method.model(
            recipe, student: try model.encoder(recipe.student, imageSize: recipe.imageSize),
            decoder: try model.decoder(recipe.decoder))
        var run = try training.configuration(
            recipe, adamW: adamW, model: configuration, data: images.places, teacher: nil,
            precision: precision.resolved(for: training)
        )
        try evaluation.apply(to: &run)
        try training.run(run)
    }
}
