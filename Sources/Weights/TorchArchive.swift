import Reporting

/// A PyTorch archive, as written by `torch.save` since PyTorch 1.6: a zip archive of stored members, mapped read-only
/// and checked when it is opened.
///
///     NAME/data.pkl       the pickled object: names, shapes, strides, and the storage of each tensor
///     NAME/data/0 …       the elements of each storage
///     NAME/byteorder      little or big; little if it is missing
///     NAME/version        the version of this layout
///
/// The dictionaries and lists of the object give tensors dotted names: `{'model': {'norm.weight': …}}` holds
/// "model.norm.weight". Nothing that the pickle names is imported or called; see `PickleReader`.
public final class TorchArchive: WeightFile, @unchecked Sendable {
    public var path: String { file.path }
    public var form: String { "PyTorch archive" }
    public var metadata: [String: String] { [:] }
    public let values: [(name: String, value: PlainValue)]
    /// All tensors, in the order of the object's dictionaries and lists.
    public let entries: [TensorEntry]
    public var byteCount: Int { file.bytes.count }

    let file: MappedFile
    let isBigEndian: Bool
    private let views: [View]
    private let indices: [String: Int]

    /// The elements of a tensor in its storage.
    struct View {
        /// The range of the storage in the file.
        let storage: Range<Int>
        /// The first element, in elements from the start of the storage.
        let offset: Int
        /// In elements; 0 for dimensions of size 0 or 1.
        let strides: [Int]
    }

    /// Opens `path`. Time and memory depend on the number of tensors, not on their size.
    ///
    /// Throws `Failure`: `.inputOutput` where the file cannot be read, `.badData` where it is not a valid archive of
    /// tensors; for an older PyTorch format, the message has the command that converts it.
    public convenience init(path: String) throws {
        try self.init(MappedFile(path: path, wanted: "a PyTorch archive"))
    }

    package init(_ file: MappedFile) throws {
        self.file = file
        let path = file.path
        func refusal(_ what: String, _ remedy: String = "download or write the file again") -> Failure {
            Failure(.badData, "\(quoted(path: path)) is not a valid PyTorch archive: \(what); \(remedy)")
        }
        if let older = OlderTorchFile(file.bytes) { throw older.refusal(path: path) }
        do {
            let directory = try ZIPDirectory(file.bytes) { file.releasePages(0..<file.bytes.count) }
            if let other = OtherFormat.zip(directory.names) { throw other.refusal(path) }
            let layout = try Layout(directory, file)
            isBigEndian = layout.isBigEndian
            let graph = try PickleReader.read(UnsafeRawBufferPointer(rebasing: file.bytes[layout.pickle]))
            var names = PickleNames(graph)
            try names.walk()
            guard !names.tensors.isEmpty else {
                throw Failure(
                    .badData,
                    "\(quoted(path: path)) holds no tensors: its content is \(graph.description(graph.root)), which "
                        + "was not run or "
                        + "loaded; save the model's state_dict()")
            }
            values = names.values
            var entries: [TensorEntry] = []
            var views: [View] = []
            var indices: [String: Int] = [:]
            var total = 0
            for (name, index) in names.tensors {
                let tensor = graph.tensors[index]
                let view = try Self.view(tensor, name: name, graph, layout)
                guard indices.updateValue(entries.count, forKey: name) == nil else {
                    throw Fault("it holds two tensors named \(quoted(name))")
                }
                let entry = TensorEntry(name: name, type: tensor.type, shape: tensor.shape)
                // A tensor has at most as many elements as its storage or 2^20, so this does not overflow.
                total += entry.byteCount
                entries.append(entry)
                views.append(view)
            }
            guard total <= max(16 * file.bytes.count, 1 << 26) else {
                throw Fault("its tensors would hold \(total) bytes, far more than the file has")
            }
            self.entries = entries
            self.views = views
            self.indices = indices
            file.releasePages(0..<file.bytes.count)
        } catch let fault as ZIPDirectory.Fault {
            throw refusal("the zip archive \(fault.message)")
        } catch let fault as PickleReader.Fault {
            throw refusal("its data.pkl \(fault.message)")
        } catch let fault as Fault {
            throw refusal(fault.message, fault.remedy)
        }
    }

    /// An error in the archive, and its remedy.
    struct Fault: Error {
        let message: String
        let remedy: String
        init(_ message: String, _ remedy: String = "download or write the file again") {
            self.message = message
            self.remedy = remedy
        }
    }

    /// Whether `bytes` begin a zip archive or an older PyTorch format.
    static func isRecognised(_ bytes: UnsafeRawBufferPointer) -> Bool {
        // The signature of a member, or of the end record in an empty archive. The first two bytes alone could be the
        // length of a safetensors header.
        bytes.starts(with: [0x50, 0x4B, 0x03, 0x04]) || bytes.starts(with: [0x50, 0x4B, 0x05, 0x06])
            || OlderTorchFile(bytes) != nil
    }

    public subscript(name: String) -> TensorEntry? { indices[name].map { entries[$0] } }

    func view(_ name: String) throws -> (TensorEntry, View) {
        let entry = try entry(name)
        return (entry, views[indices[name]!])
    }

    // MARK: Checks

    /// The members of an archive other than storages.
    private struct Layout {
        let prefix: String
        let pickle: Range<Int>
        let isBigEndian: Bool
        let directory: ZIPDirectory

        init(_ directory: ZIPDirectory, _ file: MappedFile) throws {
            let bytes = file.bytes
            self.directory = directory
            let pickles = directory.names.filter {
                $0.hasSuffix("/data.pkl") && $0.utf8.lazy.filter { $0 == 0x2F }.count == 1
            }
            guard let name = pickles.first else {
                throw Fault("it is a zip archive without the data.pkl that torch.save writes")
            }
            guard pickles.count == 1 else {
                throw Fault("it holds \(pickles.count) objects, such as \(quoted(pickles[1]))")
            }
            let prefix = String(name.dropLast("data.pkl".count))
            self.prefix = prefix
            pickle = directory.contents[name]!
            func content(_ name: String) -> UnsafeRawBufferPointer? {
                directory.contents[prefix + name].map { UnsafeRawBufferPointer(rebasing: bytes[$0]) }
            }
            if let compressed = directory.compressed {
                throw Fault(
                    "its member \(quoted(compressed)) is compressed, which torch.save does not do",
                    "write it again with: \(OlderTorchFile.command(path: file.path, weightsOnly: true))")
            }
            guard let version = content("version"), (1...8).contains(version.count),
                let number = Int(String(decoding: version, as: UTF8.self).prefix { $0 != "\n" })
            else { throw Fault("it does not say the version of its layout") }
            guard (1...10).contains(number) else {
                throw Fault("its layout has version \(number), but only 1 to 10 are supported")
            }
            switch content("byteorder").map({ String(decoding: $0.prefix(8), as: UTF8.self) }) {
            case nil, "little": isBigEndian = false
            case "big": isBigEndian = true
            case let order?: throw Fault("its byteorder is \(quoted(order)), not little or big")
            }
            // PyTorch can be configured to omit checksums, and then writes zeros.
            let checksum = directory.checksums[name]!
            guard
                checksum == 0 || pickle.count > PickleReader.maximumLength
                    || checksum == CRC32.of(UnsafeRawBufferPointer(rebasing: bytes[pickle]))
            else { throw Fault("its data.pkl is damaged: its checksum differs from the one in the archive") }
        }
    }

    private static func view(
        _ tensor: PickleGraph.Tensor, name: String, _ graph: PickleGraph, _ layout: Layout
    ) throws -> View {
        let storage = graph.storages[Int(tensor.storage)]
        let key = graph.text(storage.key)
        guard let place = layout.directory.contents[layout.prefix + "data/" + key] else {
            throw Fault("storage \(quoted(key)) of tensor \(quoted(name)) is missing")
        }
        // A trailing partial element is not counted.
        let (declared, actual) = (storage.count, place.count / (storage.type?.size ?? 1))
        guard declared == actual else {
            throw Fault(
                "storage \(quoted(key)) of tensor \(quoted(name)) should hold \(declared) elements and holds \(actual)")
        }
        let available = place.count / tensor.type.size
        guard TensorEntry.isCountable(tensor.shape) else {
            throw Fault("tensor \(quoted(name)) has a shape of more than 2^63 bytes")
        }
        var count = 1
        var last = tensor.offset
        for (size, stride) in zip(tensor.shape, tensor.strides) {
            let reach = max(0, size - 1).multipliedReportingOverflow(by: stride)
            let sum = last.addingReportingOverflow(reach.partialValue)
            guard !reach.overflow, !sum.overflow else {
                throw Fault("tensor \(quoted(name)) has strides that reach beyond 2^63")
            }
            (count, last) = (count * size, sum.partialValue)
        }
        guard count == 0 ? tensor.offset <= available : last < available else {
            throw Fault(
                "tensor \(quoted(name)) reaches element \(last) of storage \(quoted(key)), which has \(available) of "
                    + "its type"
            )
        }
        // With strides of 0 a small storage could expand to gigabytes; up to 2^20 elements are allowed.
        guard count <= max(available, 1 << 20) else {
            throw Fault("tensor \(quoted(name)) makes \(count) elements of the \(available) in its storage")
        }
        // The stride of a dimension of size 0 or 1 may be any number, and computing with it could overflow.
        let strides = zip(tensor.shape, tensor.strides).map { $0 > 1 ? $1 : 0 }
        return View(storage: place, offset: tensor.offset, strides: strides)
    }
}
