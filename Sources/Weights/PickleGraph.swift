import Reporting

/// What a pickle describes: values that refer to each other by number, so that nothing of a hostile one can make the
/// process recurse, and everything of it is counted.
struct PickleGraph {
    /// A value's number.
    typealias Reference = Int32

    /// Bytes of the pickle.
    struct Span {
        var start: UInt32
        var count: UInt32
    }

    enum Value {
        case none
        case bool(Bool)
        case integer(Int)
        /// Beyond 64 bits.
        case bigInteger
        case number(Double)
        case text(Span)
        case bytes
        /// By number in `containers`.
        case list(Int32)
        case tuple(Int32)
        case set(Int32)
        /// Keys and values in turn.
        case dictionary(Int32)
        /// By number in `globals`.
        case global(Int32)
        /// By number in `objects`.
        case object(Int32)
        /// By number in `storages`.
        case storage(Int32)
        /// By number in `tensors`.
        case tensor(Int32)
    }

    /// A name of Python's: a class or function. It is never looked up; a few are known by their meaning.
    struct Global {
        let name: Span
        let module: Span
        let meaning: PickleMeaning
    }

    /// What a call or a construction stands for: nothing was called, and this is what is known of it.
    struct Object {
        /// The class or function, or another object.
        let maker: Reference
        let arguments: Reference
        var state: Reference?
        /// What was put into it as into a list or dictionary.
        var list: Int32?
        var dictionary: Int32?
    }

    /// A member of the archive that holds elements.
    struct Storage {
        /// nil for the untyped.
        let type: TensorType?
        let key: Span
        /// Elements, or bytes of the untyped.
        let count: Int
    }

    /// A view of a storage.
    struct Tensor {
        let storage: Int32
        let type: TensorType
        let offset: Int
        let shape: [Int]
        let strides: [Int]
    }

    let pickle: UnsafeRawBufferPointer
    var values: [Value] = []
    var containers: [[Reference]] = []
    var globals: [Global] = []
    var objects: [Object] = []
    var storages: [Storage] = []
    var tensors: [Tensor] = []
    var root: Reference = 0

    init(pickle: UnsafeRawBufferPointer) {
        self.pickle = pickle
    }

    func text(_ span: Span) -> String {
        String(decoding: pickle[Int(span.start)..<Int(span.start + span.count)], as: UTF8.self)
    }

    /// The text of a value; nil where it is none, or longer than `limit` bytes.
    func text(_ reference: Reference, limit: Int) -> String? {
        if case .text(let span) = values[Int(reference)], span.count <= limit { text(span) } else { nil }
    }

    /// The items of a list, tuple or set; nil for any other value.
    func items(_ reference: Reference) -> [Reference]? {
        switch values[Int(reference)] {
        case .list(let index), .tuple(let index), .set(let index): containers[Int(index)]
        default: nil
        }
    }

    func integer(_ reference: Reference) -> Int? {
        if case .integer(let value) = values[Int(reference)] { value } else { nil }
    }

    /// A global's full name.
    func name(_ global: Global) -> String { text(global.module) + "." + text(global.name) }

    /// A value in a few words, on one line.
    func description(_ reference: Reference) -> String {
        switch values[Int(reference)] {
        case .none: "None"
        case .bool(let value): value ? "True" : "False"
        case .integer(let value): String(value)
        case .bigInteger: "an integer beyond 64 bits"
        case .number(let value): String(value)
        case .text(let span): quoted(text(.init(start: span.start, count: min(span.count, 200))), limit: 40)
        case .bytes: "bytes"
        case .list(let index): "a list of \(containers[Int(index)].count)"
        case .tuple(let index): "a tuple of \(containers[Int(index)].count)"
        case .set(let index): "a set of \(containers[Int(index)].count)"
        case .dictionary(let index): "a dictionary of \(containers[Int(index)].count / 2)"
        case .global(let index): shortened(name(globals[Int(index)]))
        case .object(let index): description(objects[Int(index)])
        case .storage: "a storage without a shape"
        case .tensor: "a tensor"
        }
    }

    private func description(_ object: Object) -> String {
        guard case .global(let index) = values[Int(object.maker)] else {
            guard case .object(let index) = values[Int(object.maker)],
                case .global(let first) = values[Int(objects[Int(index)].maker)]
            else { return "a call of an object" }
            return "a call of what \(shortened(name(globals[Int(first)]))) gives"
        }
        let name = shortened(name(globals[Int(index)]))
        guard object.state == nil, let arguments = items(object.arguments) else { return name }
        // One level: arguments may hold objects in turn, without end.
        let shown = arguments.prefix(4).map { argument in
            switch values[Int(argument)] {
            case .object, .dictionary, .list, .tuple, .set: "…"
            default: description(argument)
            }
        }
        return "\(name)(\(shown.joined(separator: ", "))\(arguments.count > 4 ? ", …" : ""))"
    }

    /// A name without quotes, its control characters escaped.
    private func shortened(_ name: String) -> String { String(quoted(name).dropFirst().dropLast()) }
}

/// The names of Python that mean something to a reader of tensors. All others are only names.
enum PickleMeaning {
    case none
    /// A dictionary, whatever its arguments.
    case dictionary
    /// torch.Size: a tuple.
    case size
    case storage(TensorType)
    case untypedStorage
    case type(TensorType)
    /// torch._utils._rebuild_tensor, _v2 and _v3: storage, offset, shape, strides, …, type as the seventh in the last.
    case tensor(typed: Bool)
    /// torch._utils._rebuild_parameter and its like: the tensor comes first.
    case parameter
    /// torch._tensor._rebuild_from_type_v2: a function and its arguments come first and third.
    case wrapped

    init(module: String, name: String) {
        self =
            switch (module, name) {
            case ("collections", "OrderedDict"), ("collections", "defaultdict"), ("collections", "Counter"),
                ("builtins", "dict"), ("__builtin__", "dict"):
                .dictionary
            case ("torch", "Size"): .size
            case ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2"): .tensor(typed: false)
            case ("torch._utils", "_rebuild_tensor_v3"): .tensor(typed: true)
            case ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"): .parameter
            case ("torch._tensor", "_rebuild_from_type_v2"): .wrapped
            case ("torch.storage", "UntypedStorage"), ("torch.storage", "_UntypedStorage"), ("torch", "UntypedStorage"):
                .untypedStorage
            case ("torch", let name), ("torch.cuda", let name):
                if let type = Self.storages[name] {
                    .storage(type)
                } else if let type = Self.types[name] {
                    .type(type)
                } else {
                    .none
                }
            default: .none
            }
    }

    static let storages: [String: TensorType] = [
        "DoubleStorage": .f64, "FloatStorage": .f32, "HalfStorage": .f16, "BFloat16Storage": .bf16, "LongStorage": .i64,
        "IntStorage": .i32, "ShortStorage": .i16, "CharStorage": .i8, "ByteStorage": .u8, "BoolStorage": .bool,
    ]
    static let types: [String: TensorType] = [
        "float64": .f64, "float32": .f32, "float16": .f16, "bfloat16": .bf16, "int64": .i64, "int32": .i32,
        "int16": .i16,
        "int8": .i8, "uint64": .u64, "uint32": .u32, "uint16": .u16, "uint8": .u8, "bool": .bool,
        "float8_e4m3fn": .f8e4m3, "float8_e5m2": .f8e5m2,
    ]
}
