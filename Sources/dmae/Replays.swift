import ArgumentParser
import Training
import Weights

struct Replays: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Run recorded training steps and write every result.",
        discussion: """
            The input is a safetensors file. Steps of distillation have the tensors images, noise, teacher.NAME and \
            student.NAME; steps of fine-tuning have images, targets, drop_path_keep and model.NAME. The metadata key \
            dmae.replay describes models, optimiser and steps as JSON. The output has the outputs and every gradient \
            of the first step, the losses of all steps, and the weights at the end. Golden tests compare with it, and \
            so can a port of the method. The article Replay in the documentation lists every name and shape.

              dmae replay Fixtures/golden/linear.in.safetensors --output out.safetensors
            """)

    @Argument(help: ArgumentHelp("Recorded steps: a safetensors file.", valueName: "file"), completion: .file())
    var input: String

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Where to write the results: a .safetensors file.", valueName: "file"),
        completion: .file())
    var output: String

    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precision: PrecisionOptions

    func run() throws {
        try Outputs.requireEnding(".safetensors", of: output, "--output", "the results are a safetensors file")
        try compute.apply()
        _ = try SafeTensorsFile(path: input)
        try Outputs.check([output], tensors: .replay)
        try Replay.run(input: input, output: output, precision: precision.resolved())
    }
}
