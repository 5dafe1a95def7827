import Reporting

/// Formats of other tools that are recognised by their first bytes and refused by name.
package struct OtherFormat: Sendable {
    /// What the file is: "an HDF5 file".
    package let name: String
    /// Who writes it, and what to use instead.
    package let writer, remedy: String
    /// Endings of names, for a folder that holds nothing else.
    package let endings: [String]
    private let isRecognised: @Sendable (UnsafeRawBufferPointer) -> Bool

    private static let stateDict = "use the model's weights in safetensors, or save its state_dict() with torch.save"

    private init(
        _ name: String, writer: String, endings: [String] = [], remedy: String = stateDict,
        _ isRecognised: @escaping @Sendable (UnsafeRawBufferPointer) -> Bool = { _ in false }
    ) {
        self.name = name
        self.writer = writer
        self.endings = endings
        self.remedy = remedy
        self.isRecognised = isRecognised
    }

    private init(
        _ name: String, writer: String, endings: [String] = [], magic: [UInt8]..., at offset: Int = 0,
        remedy: String = stateDict
    ) {
        self.init(name, writer: writer, endings: endings, remedy: remedy) { bytes in
            magic.contains { bytes.count >= offset + $0.count && bytes[offset...].starts(with: $0) }
        }
    }

    /// The format of a file with these bytes; nil for one that is not known.
    static func of(_ bytes: UnsafeRawBufferPointer) -> OtherFormat? { all.first { $0.isRecognised(bytes) } }

    /// The format of files whose names end so.
    static func named(_ name: String) -> OtherFormat? {
        let name = name.lowercased()
        return all.first { $0.endings.contains(where: name.hasSuffix) }
    }

    func refusal(_ path: String) -> Failure {
        Failure(.badData, "\(quoted(path: path)) is \(name), which dmae does not read (\(writer)): \(remedy)")
    }

    private static func text(_ word: String) -> [UInt8] { Array(word.utf8) }

    /// A file that has to be unpacked.
    private static func packed(_ name: String, _ ending: String, _ magic: [UInt8]) -> OtherFormat {
        OtherFormat(
            name, writer: "nothing is unpacked", endings: [ending], magic: magic,
            remedy: "unpack it and name what is in it")
    }

    /// Every format; an archive of torch.save is told from other zip archives by its members.
    package static let all: [OtherFormat] = [
        OtherFormat(
            "an HDF5 file", writer: "Keras and TensorFlow write it", endings: [".h5", ".hdf5"],
            magic: [0x89] + text("HDF\r\n") + [0x1A, 0x0A]),
        OtherFormat("a GGUF file", writer: "llama.cpp's tools write it", endings: [".gguf"], magic: text("GGUF")),
        OtherFormat(
            "a GGML file", writer: "llama.cpp's tools wrote it", endings: [".ggml"], magic: text("tjgg"), text("lmgg"),
            text("fmgg")),
        OtherFormat(
            "an array of NumPy", writer: "numpy.save writes it", endings: [".npy"], magic: [0x93] + text("NUMPY")),
        OtherFormat(
            "a TensorFlow Lite model", writer: "TensorFlow's converter writes it", endings: [".tflite"],
            magic: text("TFL3"), at: 4),
        OtherFormat(
            "a page of HTML", writer: "a server sent it in place of the file",
            remedy: "fetch the file itself by its direct address", { isHTML($0) }),
        OtherFormat("an XML file", writer: "OpenVINO describes models so", endings: [".xml"], magic: text("<?xml")),
        packed("a file compressed by gzip", ".gz", [0x1F, 0x8B]),
        packed("a file compressed by xz", ".xz", [0xFD] + text("7zXZ")),
        packed("a file compressed by zstd", ".zst", [0x28, 0xB5, 0x2F, 0xFD]),
        packed("a file compressed by bzip2", ".bz2", text("BZh")),
        packed("a 7z archive", ".7z", text("7z") + [0xBC, 0xAF]),
        packed("a RAR archive", ".rar", text("Rar!")),
        OtherFormat(
            "a picture", writer: "it holds no weights", magic: [0x89] + text("PNG"), [0xFF, 0xD8, 0xFF],
            remedy: "name a file of weights"),
        npz, keras, exported, torchScript,
        OtherFormat("a file of Flax", writer: "transformers writes it for JAX", endings: [".msgpack"]),
        OtherFormat("an ONNX model", writer: "dmae writes such files", endings: [".onnx"]),
        OtherFormat(
            "a checkpoint of TensorFlow", writer: "TensorFlow's Saver writes it",
            endings: [".ckpt.index", ".ckpt.meta", "saved_model.pb", ".data-00000-of-00001"]),
        OtherFormat(
            "a shard of a distributed checkpoint", writer: "torch.distributed.checkpoint writes a folder of them",
            endings: [".distcp"],
            remedy: "write one file with: python3 -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER "
                + "model.pth"),
        OtherFormat(
            "a shard of DeepSpeed's ZeRO", writer: "a folder of them holds the weights in pieces",
            endings: ["_optim_states.pt", "zero_to_fp32.py"],
            remedy: "write one file with the zero_to_fp32.py that is beside it"),
    ]

    private static let npz = OtherFormat(
        "an npz archive of NumPy", writer: "JAX programs write it, such as those of Google's ViT", endings: [".npz"])
    private static let keras = OtherFormat("a model of Keras", writer: "Keras 3 writes it", endings: [".keras"])
    private static let exported = OtherFormat(
        "a program of torch.export", writer: "torch.export.save writes it", endings: [".pt2"])
    private static let torchScript = OtherFormat(
        "a TorchScript program", writer: "torch.jit.save writes it; its code would have to be executed",
        endings: [".ptl"], remedy: "load it with torch.jit.load and save its state_dict() with torch.save")

    /// The format of a zip archive with these members; nil for torch.save's and others.
    static func zip(_ members: [String]) -> OtherFormat? {
        let formats: [(OtherFormat, (String) -> Bool)] = [
            (torchScript, { $0.hasSuffix("/constants.pkl") || $0.hasSuffix("/code/__torch__.py") }),
            (exported, { $0.hasSuffix("exported_program.json") || $0.hasSuffix("/models/model.json") }),
            (keras, { $0.hasSuffix(".weights.h5") }),
            (npz, { $0.hasSuffix(".npy") }),
        ]
        return formats.first { members.contains(where: $0.1) }?.0
    }

    private static func isHTML(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let text = String(decoding: bytes.prefix(64), as: UTF8.self).lowercased()
        let start = text.drop { $0.isWhitespace || $0 == "\u{FEFF}" }
        return start.hasPrefix("<!doctype html") || start.hasPrefix("<html")
    }
}
