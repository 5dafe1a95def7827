import Reporting
import Glibc

/// Opens files of weights of any form.
public enum WeightFiles {
    /// Opens the file or folder at `path`. The form is recognised by the content, not the name.
    ///
    /// The forms are safetensors, PyTorch archives (`torch.save` since 1.6), indices of shards in either form, and
    /// folders that hold one of these under transformers' names, or a single safetensors file, also as the cache of the
    /// Hugging Face hub keeps them; of a run that is not finished the newest checkpoint. The `path` of the result is that of the file found, so a folder's `config.json` is
    /// beside it.
    ///
    /// Throws `Failure`: `.inputOutput` where it cannot be read, `.badData` where it is damaged or of an unknown form.
    public static func open(_ path: String) throws -> any WeightFile {
        let isFolder = try fileStatus(path).map { $0.st_mode & S_IFMT == S_IFDIR } ?? false
        let file = try MappedFile(path: isFolder ? find(in: path) : path, wanted: "a file of weights")
        return isIndex(file.bytes) ? try ShardedFile(file) : try open(file)
    }

    /// Opens a shard. `budget` is shared by the names, shapes and metadata of all shards.
    static func openShard(_ path: String, _ budget: inout HeaderBudget) throws -> any WeightFile {
        let file = try MappedFile(path: path, wanted: "a file of weights")
        guard TorchArchive.isRecognised(file.bytes) else { return try SafeTensorsFile(file, &budget) }
        // Reading an archive has limits of its own. The memory of its entries and values is taken from the budget.
        let archive = try TorchArchive(file)
        do {
            for entry in archive.entries { try budget.take(entry) }
            for (name, value) in archive.values { try budget.take(name.utf8.count + PickleNames.textBytes(value)) }
        } catch let fault as JSONReader.Fault {
            throw Failure(
                .badData,
                "\(quoted(path: path)) is not a valid PyTorch archive: it \(fault.message); download or write the file "
                    + "again"
            )
        }
        return archive
    }

    /// Opens a mapped file that holds tensors, not an index.
    package static func open(_ file: MappedFile) throws -> any WeightFile {
        if let other = OtherFormat.of(file.bytes) { throw other.refusal(file.path) }
        guard !isONNX(file.bytes) else {
            throw Failure(
                .badData,
                "\(quoted(path: file.path)) is an ONNX model, which dmae writes but does not read: use the weights that "
                    + "it was made of")
        }
        return TorchArchive.isRecognised(file.bytes) ? try TorchArchive(file) : try SafeTensorsFile(file)
    }

    /// Whether the file is JSON text. Its first eight bytes would be an absurdly large length of a safetensors header.
    private static func isIndex(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= 8,
            let first = bytes.prefix(4096).first(where: { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }), first == 0x7B
        else {
            return false
        }
        return UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)) > UInt64(SafeTensorsHeader.maximumLength)
    }

    /// Whether the file is an ONNX model: protobuf that begins with the format's version, a number of one byte, and a
    /// field of bytes (producer, graph and others), as exporters write it. Its first eight bytes would be an absurdly
    /// large length of a safetensors header.
    private static func isONNX(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= 8, bytes[0] == 0x08, (1..<0x80).contains(bytes[1]), (0x12...0x7A).contains(bytes[2]),
            bytes[2] & 7 == 2
        else { return false }
        return UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)) > UInt64(SafeTensorsHeader.maximumLength)
    }

    /// The names that transformers looks for, in its order.
    private static let usualNames = [
        "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    ]

    /// Whether `path` is a folder in which `open` finds no weights, whatever else it holds.
    public static func isFolderWithoutWeights(_ path: String) -> Bool {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { return false }
        let names = (try? FolderNames.sorted(path)) ?? []
        return !names.contains { usualNames.contains($0) || $0.hasSuffix(".safetensors") || $0 == "config.json" }
            && !HubCache.isRecognised(path, names)
    }

    /// Whether the file at `path` is called as transformers calls the weights of a folder, or its shards.
    package static func isUsual(_ path: String) -> Bool {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        return usualNames.contains(name) || name.hasSuffix(".safetensors.index.json")
    }

    /// The file of weights in `folder`.
    private static func find(in folder: String, depth: Int = 0) throws -> String {
        let prefix = folder.hasSuffix("/") ? folder : folder + "/"
        if let usual = try usualNames.first(where: { try fileStatus(prefix + $0) != nil }) { return prefix + usual }
        let names = try FolderNames.sorted(folder)
        let indices = names.filter { $0.hasSuffix(".safetensors.index.json") }
        let found = indices.isEmpty ? names.filter { $0.hasSuffix(".safetensors") } : indices
        if found.count == 1 { return prefix + found[0] }
        if let newest = CheckpointName.newest(of: found) { return prefix + newest }
        if let first = found.first {
            throw Failure(
                .badData,
                "folder \(quoted(path: folder)) holds \(found.count) files of weights, such as \(quoted(first)); name one "
                    + "of them")
        }
        if depth < maximumDepth, let below = try HubCache.below(folder, names) {
            return try find(in: below, depth: depth + 1)
        }
        if let other = names.lazy.compactMap({ name in OtherFormat.named(name).map { (name, $0) } }).first {
            throw other.1.refusal(prefix + other.0)
        }
        let archives = names.filter { name in archiveEndings.contains(where: name.hasSuffix) }
        throw Failure(
            .badData,
            "folder \(quoted(path: folder)) holds no weights (model.safetensors, an index of shards or "
                + "pytorch_model.bin); name the file"
                + (archives.first.map { ", such as \(quoted(path: prefix + $0))" } ?? ""))
    }

    /// Endings of names that PyTorch archives have.
    private static let archiveEndings = [".pth", ".pt", ".ckpt", ".bin"]
    /// Folders from the root of a cache of the Hugging Face hub to the weights: hub, model, snapshot.
    private static let maximumDepth = 3
}
