/// Writes a PyTorch archive for `torch.load(weights_only=True)` (PyTorch 1.6 and later), one tensor at a time: only the
/// pickle and the list of members are held in memory.
///
/// The same tensors give the same bytes. Elements are little-endian and begin at multiples of 64 bytes, as in files
/// that PyTorch writes.
public struct TorchArchiveWriter {
    /// Calls its argument with a tensor's bytes, in one or several pieces.
    public typealias Source = (_ append: (UnsafeRawBufferPointer) throws -> Void) throws -> Void

    private struct Tensor {
        let name: String
        let type: TensorType
        let shape: [Int]
        let source: Source
        var byteCount: Int { shape.reduce(type.size, *) }
    }

    private let wrapper: String?
    private var tensors: [Tensor] = []
    private var lists: [(name: String, texts: [String])] = []

    /// - Parameter wrapper: the key of the state dict, as in `{'model': {…}}`; nil if it is the whole object.
    public init(wrapper: String? = nil) {
        self.wrapper = wrapper
    }

    /// Adds a tensor, row-major and little-endian. `source` is called once, by `write`, in the order of the tensors.
    public mutating func add(_ name: String, type: TensorType, shape: [Int], source: @escaping Source) {
        tensors.append(Tensor(name: name, type: type, shape: shape, source: source))
    }

    /// Adds a list of texts beside the state dict, which must have a wrapper.
    public mutating func add(_ name: String, texts: [String]) {
        precondition(wrapper != nil && wrapper != name, "a state dict alone has no place for a list")
        lists.append((name, texts))
    }

    /// Writes the file through `AtomicFile`. Names must be distinct.
    ///
    /// Throws `Failure(.inputOutput)` with the path and the system's reason, or what a source throws; no file is left
    /// then. So it is where `check`, which is called before the file takes its place, throws.
    public func write(to path: String, check: () throws -> Void = {}) throws {
        precondition(Set(tensors.map(\.name)).count == tensors.count, "two tensors of one name")
        try AtomicFile.write(to: path) { file in
            var archive = ZIPWriter(file)
            try archive.add("data.pkl", pickle())
            try archive.add(".format_version", Array("1".utf8))
            try archive.add(".storage_alignment", Array("64".utf8))
            try archive.add("byteorder", Array("little".utf8))
            for (index, tensor) in tensors.enumerated() {
                try archive.add("data/\(index)", byteCount: tensor.byteCount, source: tensor.source)
            }
            try archive.add("version", Array("3\n".utf8))
            try archive.finish()
            try check()
        }
    }

    // MARK: The pickle

    /// The pickle in protocol 2, with the opcodes that PyTorch's restricted reader accepts.
    private func pickle() -> [UInt8] {
        var pickle = PickleWriter()
        if let wrapper {
            pickle.append(UInt8(ascii: "}"))
            pickle.text(wrapper)
        }
        pickle.emptyOrderedDict()
        pickle.append(UInt8(ascii: "("))
        for (index, tensor) in tensors.enumerated() {
            pickle.text(tensor.name)
            let storage = PickleMeaning.storages.first { $0.value == tensor.type }?.key
            pickle.global("torch._utils", storage == nil ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2")
            pickle.append(UInt8(ascii: "("))
            pickle.append(UInt8(ascii: "("))
            pickle.text("storage")
            if let storage { pickle.global("torch", storage) } else { pickle.global("torch.storage", "UntypedStorage") }
            pickle.text(String(index))
            pickle.text("cpu")
            let count = tensor.shape.reduce(1, *)
            pickle.integer(storage == nil ? tensor.byteCount : count)
            pickle.append(UInt8(ascii: "t"))
            pickle.append(UInt8(ascii: "Q"))
            pickle.integer(0)
            pickle.integers(tensor.shape)
            pickle.integers(Self.strides(tensor.shape))
            pickle.append(0x89)
            pickle.emptyOrderedDict()
            if storage == nil { pickle.global("torch", PickleMeaning.types.first { $0.value == tensor.type }!.key) }
            pickle.append(UInt8(ascii: "t"))
            pickle.append(UInt8(ascii: "R"))
        }
        pickle.append(UInt8(ascii: "u"))
        if wrapper != nil { pickle.append(UInt8(ascii: "s")) }
        for (name, texts) in lists {
            pickle.text(name)
            pickle.append(UInt8(ascii: "]"))
            pickle.append(UInt8(ascii: "("))
            for text in texts { pickle.text(text) }
            pickle.append(UInt8(ascii: "e"))
            pickle.append(UInt8(ascii: "s"))
        }
        pickle.append(UInt8(ascii: "."))
        return pickle.bytes
    }

    /// Row-major strides, with PyTorch's convention for dimensions of size 0.
    private static func strides(_ shape: [Int]) -> [Int] {
        var strides = [Int](repeating: 1, count: shape.count)
        for index in shape.indices.dropLast().reversed() {
            strides[index] = strides[index + 1] * max(1, shape[index + 1])
        }
        return strides
    }
}

/// Writes the opcodes of a pickle of protocol 2.
private struct PickleWriter {
    private(set) var bytes: [UInt8] = [0x80, 2]
    /// The memo index of each name.
    private var memo: [String: Int] = [:]

    mutating func append(_ opcode: UInt8) { bytes.append(opcode) }

    mutating func text(_ text: String) {
        bytes.append(UInt8(ascii: "X"))
        word(UInt32(text.utf8.count))
        bytes += Array(text.utf8)
    }

    mutating func integer(_ value: Int) {
        switch value {
        case 0..<0x100: bytes += [UInt8(ascii: "K"), UInt8(value)]
        case 0..<0x1_0000: bytes += [UInt8(ascii: "M"), UInt8(value & 0xFF), UInt8(value >> 8)]
        case 0..<0x8000_0000:
            bytes.append(UInt8(ascii: "J"))
            word(UInt32(value))
        default:
            bytes += [0x8A, 8]
            withUnsafeBytes(of: UInt64(value).littleEndian) { bytes += Array($0) }
        }
    }

    mutating func integers(_ values: [Int]) {
        bytes.append(UInt8(ascii: "("))
        for value in values { integer(value) }
        bytes.append(UInt8(ascii: "t"))
    }

    mutating func global(_ module: String, _ name: String) {
        let full = "\(module)\n\(name)\n"
        if let number = memo[full] {
            bytes += [UInt8(ascii: "h"), UInt8(number)]
        } else {
            bytes += [UInt8(ascii: "c")] + Array(full.utf8) + [UInt8(ascii: "q"), UInt8(memo.count)]
            memo[full] = memo.count
        }
    }

    mutating func emptyOrderedDict() {
        global("collections", "OrderedDict")
        bytes += [UInt8(ascii: ")"), UInt8(ascii: "R")]
    }

    private mutating func word(_ value: UInt32) {
        withUnsafeBytes(of: value.littleEndian) { bytes += Array($0) }
    }
}
