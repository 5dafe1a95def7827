import ArgumentParser
import Weights

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List what a safetensors file holds.",
        discussion: """
            One line per tensor: name, type, shape, bytes; metadata before, totals after.

              dmae inspect run/model.safetensors
            """)

    @Argument(help: ArgumentHelp("A safetensors file.", valueName: "file"))
    var file: String

    func run() throws {
        let file = try SafeTensorsFile(path: file)
        for (key, value) in file.metadata.sorted(by: { $0.key < $1.key }) { print("\(key)  \(value)") }
        if !file.metadata.isEmpty { print("") }
        print(
            Format.table(
                [["tensor", "type", "shape", "bytes"]]
                    + file.entries.map {
                        [$0.name, $0.type.rawValue, "[" + $0.shape.map(String.init).joined(separator: ", ") + "]", "\($0.byteRange.count)"]
                    }))
        print("")
        print(
            "\(file.entries.count) tensors, \(file.elementCount) elements (\(Format.count(file.elementCount))), "
                + "\(Format.bytes(file.dataByteCount)) of data, \(Format.bytes(file.byteCount)) in all")
    }
}
