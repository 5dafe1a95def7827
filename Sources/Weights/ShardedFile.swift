import Reporting
import Glibc

/// Tensors in several files (shards) in one folder, with an index that maps tensors to files, as transformers'
/// `save_pretrained` writes them:
///
///     {"metadata": {…}, "weight_map": {"name": "model-00001-of-00003.safetensors", …}}
public final class ShardedFile: WeightFile, @unchecked Sendable {
    /// The index.
    public let path: String
    public let form: String
    /// The `__metadata__` of the shards; for a key in several shards, the value in the first one.
    public let metadata: [String: String]
    /// All tensors that the index names, in its order.
    public let entries: [TensorEntry]
    public let byteCount: Int

    private let places: [String: (entry: Int, shard: any WeightFile)]

    /// Opens the shards that `index` names. They must be in its folder and hold the tensors that it says.
    ///
    /// Throws `Failure`: `.inputOutput` where one cannot be read, `.badData` where one is not valid or lacks a tensor.
    ///
    /// - Parameter memoryLimit: for names, shapes and metadata of all shards together; nil for the default.
    package init(_ index: MappedFile, memoryLimit: Int? = nil) throws {
        let path = index.path
        func refusal(_ what: String, _ remedy: String = "download or write the files again") -> Failure {
            Failure(.badData, "\(quoted(path: path)) is not a valid index of shards: it \(what); \(remedy)")
        }
        guard index.bytes.count <= SafeTensorsHeader.maximumLength else {
            throw refusal("has \(index.bytes.count) bytes, more than the allowed \(SafeTensorsHeader.maximumLength)")
        }
        let map: [(tensor: String, shard: String)]
        do { map = try Self.weightMap(index) } catch let fault as JSONReader.Fault { throw refusal(fault.message) }
        guard !map.isEmpty else { throw refusal("names no tensors") }

        let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
        var shards: [String: any WeightFile] = [:]
        var order: [any WeightFile] = []
        var metadata: [String: String] = [:]
        var entries: [TensorEntry] = []
        var places: [String: (entry: Int, shard: any WeightFile)] = [:]
        var budget = HeaderBudget(limit: memoryLimit ?? HeaderBudget.maximum)
        for (tensor, name) in map {
            if shards[name] == nil {
                guard !name.isEmpty, name != ".", name != "..", !name.utf8.contains(0x2F), !name.utf8.contains(0) else {
                    throw refusal("names the shard \(quoted(name)), which is not the name of a file in its folder")
                }
                guard shards.count < Self.maximumShards else {
                    throw refusal("names more than \(Self.maximumShards) shards")
                }
                guard access(folder + name, F_OK) == 0 else {
                    throw Failure(
                        .inputOutput,
                        "\(quoted(path: path)) names the shard \(quoted(name)), which is not in its folder; download "
                            + "it too"
                    )
                }
                budget.isShared = !shards.isEmpty
                let shard = try WeightFiles.openShard(folder + name, &budget)
                shards[name] = shard
                order.append(shard)
                metadata.merge(shard.metadata) { first, _ in first }
            }
            guard let shard = shards[name], let entry = shard[tensor] else {
                throw refusal("says that the shard \(quoted(name)) holds tensor \(quoted(tensor)), which it does not")
            }
            guard places.updateValue((entries.count, shard), forKey: tensor) == nil else {
                throw refusal("names tensor \(quoted(tensor)) twice")
            }
            entries.append(entry)
        }
        self.path = path
        self.metadata = metadata
        self.entries = entries
        self.places = places
        byteCount = order.reduce(index.bytes.count) { $0 + $1.byteCount }
        form = "\(order[0].form) in \(order.count) shard\(order.count == 1 ? "" : "s")"
    }

    /// Maximum number of shards, all of which stay open.
    package static let maximumShards = 500

    private static func weightMap(_ index: MappedFile) throws -> [(tensor: String, shard: String)] {
        var reader = JSONReader(index.bytes, release: index.releasePages)
        var budget = HeaderBudget()
        guard reader.peek() == 0x7B else { throw JSONReader.Fault(message: "does not begin with '{'") }
        var map: [(String, String)]?
        try reader.object { reader, key in
            guard key == "weight_map" else { return try reader.skip() }
            guard map == nil else { throw JSONReader.Fault(message: "holds weight_map twice") }
            guard reader.peek() == 0x7B else {
                throw JSONReader.Fault(message: "holds a weight_map that is not an object")
            }
            var pairs: [(String, String)] = []
            try reader.object { reader, tensor in
                guard reader.peek() == 0x22 else {
                    throw JSONReader.Fault(message: "names no file for tensor \(quoted(tensor))")
                }
                let shard = try reader.string()
                try budget.take(tensor.utf8.count + shard.utf8.count)
                pairs.append((tensor, shard))
            }
            map = pairs
        }
        try reader.expectEnd()
        guard let map else { throw JSONReader.Fault(message: "holds no weight_map") }
        return map
    }

    public subscript(name: String) -> TensorEntry? { places[name].map { entries[$0.entry] } }

    public func copyFloats(_ name: String, into destination: UnsafeMutableBufferPointer<Float>) throws {
        try shard(name).copyFloats(name, into: destination)
    }

    public func withBytes<Result>(_ name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
        try shard(name).withBytes(name, body)
    }

    private func shard(_ name: String) throws -> any WeightFile {
        _ = try entry(name)
        return places[name]!.shard
    }
}
