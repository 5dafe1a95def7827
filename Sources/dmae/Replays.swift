import ArgumentParser
import Training
import Weights

struct Replays: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Run recorded training steps and write down everything.",
        discussion: """
            The input is a safetensors file whose metadata key dmae.replay describes models, alignment, optimiser \
            and steps as JSON, with the tensors images, noise, teacher.NAME and student.NAME. The output holds, of \
            the first step, prediction, mask, features and every gradient; of all steps the losses; and the weights \
            at the end. It is what golden tests, and people who port the method, compare with; the documentation's \
            article on replay has every name and shape.

              dmae replay Fixtures/golden/linear.in.safetensors --output out.safetensors
            """)

    @Argument(help: ArgumentHelp("Recorded steps: a safetensors file.", valueName: "file"), completion: .file())
    var input: String

    @Option(help: ArgumentHelp("Where the results go: a safetensors file.", valueName: "file"), completion: .file())
    var output: String

    @OptionGroup(title: "Compute") var compute: ComputeOptions
    @OptionGroup(title: "Compute") var precision: PrecisionOptions

    func run() throws {
        try compute.apply()
        try AtomicFile.requireOther(output, than: [input])
        try Replay.run(input: input, output: output, precision: precision.resolved())
    }
}
