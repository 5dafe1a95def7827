import ArgumentParser
import FoundationEssentials
import Tensors
import Training
import Weights

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List what a safetensors file holds.",
        discussion: """
            Metadata, then a line per tensor in the order of the file (name, type, shape, bytes), then the totals; \
            those of a checkpoint count the optimiser's state too. Only the header is read, however large the file \
            is.

              dmae inspect run/model.safetensors
              dmae inspect --json run/model.safetensors | python3 -m json.tool
            """)

    @Argument(help: ArgumentHelp("A safetensors file.", valueName: "file"), completion: .file(extensions: ["safetensors"]))
    var file: String

    @Flag(help: "One JSON object instead of text.")
    var json = false

    private struct Report: Encodable {
        struct Tensor: Encodable {
            let name: String
            let type: String
            let shape: [Int]
            let bytes: Int
        }
        let file: String
        let kind: String
        let metadata: [Pair]
        let tensors: [Tensor]
        let tensorCount: Int
        let parameters: Int
        let bytes: Int
        let fileBytes: Int
    }

    /// A metadata entry. Not a dictionary: its keys are the file's, to be written as they are.
    private struct Pair: Encodable {
        let key, value: String
    }

    func run() throws {
        let contents = try WeightFiles.open(file)
        let metadata = contents.metadata.sorted { $0.key < $1.key }
        if json {
            try printJSON(
                Report(
                    file: file, kind: Self.kind(contents), metadata: metadata.map { Pair(key: $0.key, value: $0.value) },
                    tensors: contents.entries.map {
                        Report.Tensor(name: $0.name, type: $0.type.rawValue, shape: $0.shape, bytes: $0.byteCount)
                    },
                    tensorCount: contents.entries.count, parameters: contents.elementCount, bytes: contents.dataByteCount,
                    fileBytes: contents.byteCount))
            return
        }
        print("\(shown(file)): \(Self.kind(contents))")
        for (key, value) in metadata { print("  \(shown(key)) = \(shown(value, limit: 200))") }
        if !contents.entries.isEmpty {
            let rows = contents.entries.map { entry in
                [
                    shown(entry.name), entry.type.rawValue, "[" + entry.shape.map(String.init).joined(separator: ", ") + "]",
                    Format.grouped(entry.byteCount),
                ]
            }
            print(Format.table([["tensor", "type", "shape", "bytes"]] + rows, left: 3))
        }
        print(
            Format.counted(contents.entries.count, "tensor") + ", " + Format.counted(contents.elementCount, "parameter")
                + ", " + Format.bytes(contents.dataByteCount))
    }

    /// One JSON object on one line, keys sorted and in snake_case.
    private func printJSON(_ report: Report) throws {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
    }

    /// What the file is, in a few words.
    private static func kind(_ file: any WeightFile) -> String {
        if let step = file.metadata[CheckpointStore.stepKey] {
            let halfway = file.names.contains { $0.hasPrefix(CheckpointStore.gradientPrefix) }
            return "checkpoint of a run of dmae at step \(step)" + (halfway ? ", in the middle of the next one" : "")
        }
        if file.metadata["dmae.configuration"] != nil { return "weights of a model that dmae trained" }
        if file.metadata["dmae.replay"] != nil { return "recorded steps for dmae replay" }
        let decoder = file["decoder_pred.weight"] != nil
        if file["patch_embed.proj.weight"] != nil {
            return decoder ? "a masked autoencoder's encoder and decoder" : "a Vision Transformer's encoder, without a decoder"
        }
        return file.form
    }

    /// `text` on one line: control characters escaped, what is beyond `limit` left out and said.
    private func shown(_ text: String, limit: Int = .max) -> String {
        var result = ""
        for (index, scalar) in text.unicodeScalars.enumerated() {
            if index == limit { return result + "… (\(text.unicodeScalars.count) characters)" }
            result += scalar.properties.generalCategory == .control ? scalar.escaped(asASCII: true) : String(scalar)
        }
        return result
    }
}
