import Reporting
import ArgumentParser
import Images
import Models
import Interchange
import Training
import Weights

struct Convert: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Convert weights to the names and format of another tool.",
        discussion: """
            Every command that takes weights reads these: safetensors, one file or shards with their index; PyTorch \
            archives (.pth, .pt, .bin of torch.save since 1.6), of which nothing is ever executed; and Hugging Face \
            folders. Tensors may have the names of MAE and DMAE, timm, Hugging Face (ViTMAE and ViT) or mmpretrain, \
            alone or behind a prefix such as model, state_dict, student or teacher. The command prints what it found; \
            if a file holds several models, that is also those it did not take, one of which --prefix chooses.

            --to selects the format:

              mae          names of MAE and DMAE, every tensor
              timm         names of timm: the encoder, and a class head
                           (a folder for timm's local-dir:, unless the output ends
                           in .safetensors, .pth or .pt)
              huggingface  a folder for ViTMAEForPreTraining if there is a decoder,
                           for ViTForImageClassification if there is a class head,
                           else for ViTModel
              onnx         the encoder as a graph: from pixel_values [batch, channels,
                           height, width], normalised, to last_hidden_state, pooled,
                           and logits if there is a class head

            A file of mae or timm is safetensors, or a PyTorch archive with {'model': …} if the output ends in .pth or \
            .pt. Tensors are copied one at a time; without --dtype their bits do not change. How pictures are \
            prepared (--mean, --std, --interpolation, --crop-fraction) and the names of classes go along. Outputs that \
            exist are refused without --force.

              dmae convert mae_visualize_vit_large.pth teacher.safetensors --to mae
              dmae convert run/model.safetensors student --to huggingface --dtype f16
              dmae convert run/model.safetensors student.pth --to timm
            """)

    /// The values of --to.
    enum Form: String, CaseIterable, ExpressibleByArgument {
        case mae, timm, huggingface, onnx
    }

    /// The values of --dtype.
    enum Rounding: String, CaseIterable, ExpressibleByArgument {
        case f32, f16, bf16

        var type: TensorType {
            switch self {
            case .f32: .f32
            case .f16: .f16
            case .bf16: .bf16
            }
        }
    }

    @Argument(
        help: ArgumentHelp("Weights: a file, or a folder of Hugging Face or timm.", valueName: "input"),
        completion: .file())
    var input: String

    @Argument(
        help: ArgumentHelp("Where to write: a file, or a folder for huggingface and timm.", valueName: "output"),
        completion: .file())
    var output: String

    @Option(name: .customLong("to"), help: ArgumentHelp("mae, timm, huggingface or onnx.", valueName: "form"))
    var form: Form

    @OptionGroup var replacing: ForceOptions

    @OptionGroup var choice: PrefixOptions

    @Option(
        help: ArgumentHelp(
            "Round to f32, f16 or bf16, to nearest, ties to even. Default: the types of the input; f32 for onnx.",
            valueName: "type"))
    var dtype: Rounding?

    @Flag(help: "Leave out decoder, projection heads and class head.")
    var encoderOnly = false

    @Option(help: ArgumentHelp("Attention heads of the encoder, if the weights do not say.", valueName: "heads"))
    var heads: Int?

    @Option(help: ArgumentHelp("Attention heads of the decoder, if the weights do not say.", valueName: "heads"))
    var decoderHeads: Int?

    @Option(
        help: ArgumentHelp(
            "Side of the images, or HEIGHTxWIDTH, in pixels, if the weights do not say.", valueName: "pixels"))
    var imageSize: ImageSize?

    @OptionGroup var preprocessing: PreprocessingOptions

    @Flag(name: .shortAndLong, help: "Print results, warnings and errors only.")
    var quiet = false

    func validate() throws {
        try ValidationError.check {
            if let heads { try Field.heads.requireAtLeast(1, heads) }
            if let decoderHeads { try Field.decoderHeads.requireAtLeast(1, decoderHeads) }
        }
        if decoderHeads != nil {
            if form == .timm || form == .onnx {
                throw ValidationError("--decoder-heads has no effect: --to \(form.rawValue) leaves out the decoder")
            }
            if encoderOnly {
                throw ValidationError("--decoder-heads has no effect: --encoder-only leaves out the decoder")
            }
        }
        let sizes: [(flag: String, isGiven: Bool)] = [
            ("--heads", heads != nil), ("--decoder-heads", decoderHeads != nil), ("--image-size", imageSize != nil),
        ]
        let flags = sizes.filter(\.isGiven).map(\.flag)
        if !flags.isEmpty, form == .mae || form == .timm, Conversion.isArchive(output) {
            throw ValidationError(
                "\(flags.joined(separator: " and ")) \(flags.count == 1 ? "has" : "have") no effect: a PyTorch archive "
                    + "has no "
                    + "place for sizes; end the output in .safetensors to keep them")
        }
    }

    func run() throws {
        try requireName()
        let weights = try ModelWeights(path: input, prefix: choice.prefix)
        let target: Conversion.Target = form == .huggingface ? .huggingFace : form == .timm ? .timm : .mae
        let names = form == .onnx ? nil : Conversion.folderFiles(of: target, at: output)
        let isFolder = names != nil
        if isFolder { try RunDirectory.requireNoRun(in: output) }
        let written =
            names.map { $0.map { "\(output)/\($0)" } } ?? (form == .onnx ? [output, output + ".data"] : [output])
        try Outputs.check(written, force: replacing.force)
        if !quiet { Terminal.note(weights.summary) }
        let pixels = try preprocessing(of: weights, isAssumed: isFolder || form == .onnx)
        switch form {
        case .mae, .timm, .huggingface: try write(weights, to: target, pixels)
        case .onnx: try writeONNX(weights, pixels)
        }
    }

    /// Refuses an output that is called another kind of file than is written, or a folder that is called as a file.
    private func requireName() throws {
        let endings: [Form: [String]] = [
            .mae: [".safetensors", ".pth", ".pt"], .timm: [".safetensors", ".pth", ".pt"], .onnx: [".onnx"],
        ]
        let isFolder = form == .huggingface || (form == .timm && Conversion.isFolder(output))
        if let wanted = endings[form], !Outputs.hasEnding(output, wanted),
            !isFolder || Outputs.hasEnding(output, Outputs.fileEndings)
        {
            throw Failure(
                .usage, "\(output): what --to \(form.rawValue) writes ends in \(wanted.joined(separator: ", "))")
        }
        if isFolder { try Outputs.requireFolderName(output, "output", of: "--to \(form.rawValue)") }
    }

    /// How pictures are prepared for the weights, as the command line or the weights say; nil where neither does. Says
    /// so.
    ///
    /// - Parameter isAssumed: whether the form holds a preparation in any case, MAE's if nothing states one.
    private func preprocessing(of weights: ModelWeights, isAssumed: Bool) throws -> Preprocessing? {
        guard weights.statedPreprocessing != nil || !preprocessing.given.isEmpty else {
            if isAssumed { _ = try preprocessing.preprocessing(for: weights, isQuiet: quiet) }
            return nil
        }
        return try preprocessing.preprocessing(for: weights, isQuiet: quiet)
    }

    private func writeONNX(_ weights: ModelWeights, _ preprocessing: Preprocessing?) throws {
        try weights.requireWhole()
        let encoder = try weights.runnableEncoder(heads: heads, imageSize: imageSize)
        let summary = try ONNXModel.write(
            weights.tensors, encoder, to: output, type: dtype?.type ?? .f32, hasHead: !encoderOnly,
            classNames: weights.classNames, metadata: weights.metadata(preprocessing: preprocessing),
            version: Dmae.version)
        if let data = summary.dataPath, !quiet {
            Terminal.note("the weights are beside the model, in \(data): keep both together")
        }
        print(
            "model  \(escaped(output))  \(Format.counted(summary.parameters, "parameter")); "
                + "\(summary.outputs.joined(separator: ", "))"
        )
    }

    private func write(_ weights: ModelWeights, to target: Conversion.Target, _ preprocessing: Preprocessing?) throws {
        let conversion = try Conversion(
            weights, to: target, type: dtype?.type, encoderOnly: encoderOnly, preprocessing: preprocessing,
            heads: heads, decoderHeads: decoderHeads, imageSize: imageSize)
        if !quiet { conversion.notes.forEach(Terminal.note) }
        try conversion.write(to: output)
        if !quiet { conversion.advice(at: output).forEach(Terminal.note) }
        let bytes = conversion.tensors.reduce(0) { $0 + $1.byteCount }
        print(
            "weights  \(escaped(output))  \(Format.counted(conversion.tensors.count, "tensor")), \(Format.bytes(bytes))"
        )
    }
}
